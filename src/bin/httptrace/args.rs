//! The command line as typed: names, shapes and help texts. What the values mean is decided in [`plan`](crate::plan).
//!
//! In: the arguments. Out: [`Args`], a text to show (help, version), or a refusal in one line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum,
    error::{ContextKind, ErrorKind},
};

use crate::exit::{Failure, USAGE};

/// Where did the time of that request go?
///
/// Sends requests as curl does and shows each attempt's phases: lookup, connect, TLS handshake, write, wait, read, and
/// whether its connection was new or reused. The response's body goes to -o, or nowhere.
#[derive(Debug, Parser)]
#[command(name = "httptrace", version, args_override_self = true)]
pub(crate) struct Args {
    /// The URLs; http:// where the scheme is missing
    #[arg(value_name = "URL", required = true)]
    pub(crate) urls: Vec<String>,

    /// The method
    #[arg(short = 'X', long, value_name = "METHOD", allow_hyphen_values = true)]
    pub(crate) request: Option<String>,

    /// A header field 'Name: value'; 'Name:' removes a default one, 'Name;' sends it empty
    #[arg(short = 'H', long, value_name = "FIELD", allow_hyphen_values = true)]
    pub(crate) header: Vec<String>,

    /// A request body, sent by POST; @FILE reads it without line ends (@- from stdin); several are joined by &
    #[arg(short = 'd', long, value_name = "DATA", allow_hyphen_values = true)]
    pub(crate) data: Vec<String>,

    /// As --data, but a file is sent as it is
    #[arg(long, value_name = "DATA", allow_hyphen_values = true)]
    pub(crate) data_binary: Vec<String>,

    /// Where the response's body goes: the first -o belongs to the first URL, and so on
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) output: Vec<PathBuf>,

    /// Accept any certificate
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,

    /// Trust the certificates of this PEM file, and no others
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,

    /// Speak HTTP/1.1 only
    #[arg(long = "http1.1", conflicts_with_all = ["http2", "http2_prior_knowledge"])]
    pub(crate) http1_1: bool,

    /// Speak HTTP/2 where the TLS handshake agrees on it (the default)
    #[arg(long, conflicts_with = "http2_prior_knowledge")]
    pub(crate) http2: bool,

    /// Speak HTTP/2 without asking
    #[arg(long)]
    pub(crate) http2_prior_knowledge: bool,

    /// The most that one dial may take (lookup, connect, handshake)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) connect_timeout: Option<Seconds>,

    /// The most that each request may take
    #[arg(short = 'm', long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) max_time: Option<Seconds>,

    /// Send the list of URLs so many times
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,

    /// So many requests at once
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,

    /// Say nothing of failures: the exit code does
    #[arg(short = 's', long)]
    pub(crate) silent: bool,

    /// Export spans and metrics over OTLP, also where no OTEL_EXPORTER_OTLP_ENDPOINT is set
    #[arg(long)]
    pub(crate) otlp: bool,

    /// What is written to stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Waterfall)]
    pub(crate) format: Format,

    /// All of the data options in the order in which they were given.
    #[arg(skip)]
    pub(crate) body: Vec<Data>,
}

/// What stdout gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A bar chart of the phases of each attempt, and a table for many; of more than 10 requests, a terminal gets the charts of the first of each kind and of the slowest only
    Waterfall,
    /// One object per attempt and line
    Json,
    /// Every hook that was called, one per line, as Go's users know them
    Hooks,
    /// One HTTP Archive (HAR 1.2) at the end, for the network panel of a browser
    Har,
}

/// A part of the request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) value: String,
    /// A file's line ends stay.
    pub(crate) binary: bool,
}

/// A time limit; absent for 0, which is curl's word for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Option<Duration>);

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed {
    Run(Box<Args>),
    Show(String),
}

/// Reads the command line.
///
/// # Errors
///
/// The one line that names the mistake, with code 2.
pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    let parsed = Args::command().try_get_matches_from(argv).and_then(|matches| {
        let mut args = Args::from_arg_matches(&matches)?;
        args.body = in_order(&args, &matches);
        Ok(args)
    });
    match parsed {
        Ok(args) => Ok(Parsed::Run(Box::new(args))),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok(Parsed::Show(error.to_string()))
        }
        Err(error) => Err(Failure::new(USAGE, reason(&error))),
    }
}

/// `-d` and `--data-binary` share one order, which only their places on the command line tell.
fn in_order(args: &Args, matches: &ArgMatches) -> Vec<Data> {
    let mut placed = Vec::new();
    for (id, values, binary) in [("data", &args.data, false), ("data_binary", &args.data_binary, true)] {
        let places = matches.indices_of(id).into_iter().flatten();
        placed.extend(places.zip(values).map(|(place, value)| (place, Data { value: value.clone(), binary })));
    }
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, data)| data).collect()
}

fn reason(error: &clap::Error) -> String {
    let about = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let option = about(ContextKind::InvalidArg);
    let value = about(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument => format!("unknown option {option}"),
        ErrorKind::MissingRequiredArgument => "no URL given".to_owned(),
        ErrorKind::InvalidValue if value.is_empty() => format!("option {option} needs a value"),
        ErrorKind::InvalidValue => format!("option {option} does not take '{value}'"),
        ErrorKind::ArgumentConflict => {
            format!("options {option} and {} contradict each other", about(ContextKind::PriorArg))
        }
        _ => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    }
}

fn seconds(text: &str) -> Result<Seconds, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let seconds = if plain { text.parse::<f64>().ok() } else { None };
    match seconds {
        Some(seconds) if seconds > 0.0 => {
            // Thirty years: what is longer is no limit, and clocks can't add it.
            let limit = Duration::try_from_secs_f64(seconds.min(1e9)).map_err(|error| error.to_string())?;
            Ok(Seconds((!limit.is_zero()).then_some(limit)))
        }
        Some(_) => Ok(Seconds(None)),
        None => Err("not a number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(args: &[&str]) -> Result<Box<Args>, Failure> {
        let argv = ["httptrace"].iter().chain(args).map(OsString::from);
        match parse(argv)? {
            Parsed::Run(args) => Ok(args),
            Parsed::Show(text) => panic!("shows {text}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_may_be_joined_repeated_and_follow_the_url() {
        let args =
            given(&["-sk", "http://a/", "-m", "1", "-m2.5", "-s", "-XPUT", "-d", "-x", "-H", "-a: b"]).expect("valid");
        assert!(args.silent && args.insecure);
        assert_eq!(args.max_time, Some(Seconds(Some(Duration::from_millis(2500)))));
        assert_eq!(args.request.as_deref(), Some("PUT"));
        assert_eq!((args.body[0].value.as_str(), args.header[0].as_str()), ("-x", "-a: b"));
    }

    #[test]
    fn data_options_keep_their_common_order() {
        let args = given(&["-d", "a", "--data-binary", "b", "http://a/", "--data", "c"]).expect("valid");
        let order: Vec<_> = args.body.iter().map(|data| (data.value.as_str(), data.binary)).collect();
        assert_eq!(order, [("a", false), ("b", true), ("c", false)]);
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        assert_eq!(seconds("0"), Ok(Seconds(None)));
        assert_eq!(seconds("1e400".trim_end_matches("e400")), Ok(Seconds(Some(Duration::from_secs(1)))));
        for bad in ["", "-1", "nan", "inf", "1e3", "1s", "."] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mistakes_are_named_in_one_line() {
        for (args, named) in [
            (&["--compressed", "http://a/"][..], "unknown option --compressed"),
            (&["-z", "http://a/"], "unknown option -z"),
            (&[], "no URL given"),
            (&["http://a/", "-H"], "needs a value"),
            (&["http://a/", "--format", "xml"], "does not take 'xml'"),
            (&["http://a/", "-n", "0"], "'0'"),
            (&["http://a/", "-c", "many"], "'many'"),
            (&["http://a/", "-m", "soon"], "not a number of seconds"),
            (&["http://a/", "--http1.1", "--http2"], "contradict"),
            (&["http://a/", "--http2", "--http2-prior-knowledge"], "contradict"),
            (&["http://a/", "--http1.1", "--http2-prior-knowledge"], "contradict"),
        ] {
            let failure = given(args).expect_err("a mistake");
            assert_eq!(failure.code, USAGE);
            assert!(
                failure.message.contains(named) && !failure.message.contains('\n'),
                "{args:?}: {}",
                failure.message
            );
        }
    }
}
