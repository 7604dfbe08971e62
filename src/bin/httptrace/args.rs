//! The command line as typed: names, shapes and help texts. What the values mean is decided in [`plan`](crate::plan).
//!
//! In: the arguments. Out: [`Args`], a text to show (help, version), or a refusal in one line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum,
    error::{ContextKind, ErrorKind},
};

use crate::{
    exit::{Failure, USAGE},
    generate::{self, Kind},
};

/// Where did the time of that request go?
///
/// Sends requests as curl does and shows each attempt's phases: lookup, connect, TLS handshake, write, wait, read, and
/// whether its connection was new or reused. The response's body goes to -o, or nowhere.
#[derive(Parser)]
#[command(
    name = "httptrace",
    version,
    long_version = LONG_VERSION,
    args_override_self = true,
    after_help = "--help says more, and has examples.",
    after_long_help = EXAMPLES
)]
pub(crate) struct Args {
    /// The URLs; http:// where the scheme is missing
    #[arg(value_name = "URL", required_unless_present = "generate")]
    pub(crate) urls: Vec<String>,

    /// The method
    #[arg(short = 'X', long, value_name = "METHOD", allow_hyphen_values = true, help_heading = REQUEST)]
    pub(crate) request: Option<String>,

    /// A header field 'Name: value'; 'Name:' removes a default one, 'Name;' sends it empty
    #[arg(short = 'H', long, value_name = "FIELD", allow_hyphen_values = true, help_heading = REQUEST)]
    pub(crate) header: Vec<String>,

    /// A request body, sent by POST; @FILE reads it without line ends (@- from stdin); several are joined by &
    #[arg(short = 'd', long, value_name = "DATA", allow_hyphen_values = true, help_heading = REQUEST)]
    pub(crate) data: Vec<String>,

    /// As --data, but a file is sent as it is
    #[arg(long, value_name = "DATA", allow_hyphen_values = true, help_heading = REQUEST)]
    pub(crate) data_binary: Vec<String>,

    /// Ask for the head only (HEAD); -o gets the response's header
    #[arg(short = 'I', long, help_heading = REQUEST)]
    pub(crate) head: bool,

    /// Name and password, sent as Basic authorization; a password is never asked for
    #[arg(short = 'u', long, value_name = "USER:PASSWORD", allow_hyphen_values = true, help_heading = REQUEST)]
    pub(crate) user: Option<String>,

    /// The User-Agent; empty for none
    #[arg(short = 'A', long, value_name = "NAME", allow_hyphen_values = true, help_heading = REQUEST)]
    pub(crate) user_agent: Option<String>,

    /// Follow redirects; each hop is an attempt of its own
    #[arg(short = 'L', long, help_heading = REQUEST)]
    pub(crate) location: bool,

    /// The most redirects that -L follows; -1 for no limit
    #[arg(long, value_name = "N", default_value_t = 50, allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)), help_heading = REQUEST)]
    pub(crate) max_redirs: i64,

    /// How long a body waits for 100 Continue, where 'Expect: 100-continue' was given by -H
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = REQUEST)]
    pub(crate) expect100_timeout: Option<Seconds>,

    /// Accept any certificate; a warning says so
    #[arg(short = 'k', long, help_heading = TLS)]
    pub(crate) insecure: bool,

    /// Trust the certificates of this PEM file, and no others
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub(crate) cacert: Option<PathBuf>,

    /// The client's certificate with its chain, in PEM
    #[arg(short = 'E', long, value_name = "FILE", help_heading = TLS)]
    pub(crate) cert: Option<PathBuf>,

    /// The key of --cert, in PEM and not encrypted; by default it is looked for in that file
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = TLS)]
    pub(crate) key: Option<PathBuf>,

    /// Speak HTTP/1.1 only
    #[arg(long = "http1.1", conflicts_with_all = ["http2", "http2_prior_knowledge"], help_heading = CONNECTION)]
    pub(crate) http1_1: bool,

    /// Speak HTTP/2 where the TLS handshake agrees on it (the default)
    #[arg(long, conflicts_with = "http2_prior_knowledge", help_heading = CONNECTION)]
    pub(crate) http2: bool,

    /// Speak HTTP/2 without asking
    #[arg(long, help_heading = CONNECTION)]
    pub(crate) http2_prior_knowledge: bool,

    /// Use IPv4 only
    #[arg(short = '4', long, overrides_with = "ipv6", help_heading = CONNECTION)]
    pub(crate) ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long, overrides_with = "ipv4", help_heading = CONNECTION)]
    pub(crate) ipv6: bool,

    /// Use these addresses and look nothing up; HOST may be *
    #[arg(long, value_name = "HOST:PORT:ADDRESS,...", allow_hyphen_values = true, help_heading = CONNECTION)]
    pub(crate) resolve: Vec<String>,

    /// A proxy: http (also without a scheme), https, socks5 or socks5h://[USER:PASSWORD@]HOST[:PORT]; empty for none. Without this
    /// http_proxy, https_proxy and all_proxy are asked
    #[arg(short = 'x', long, value_name = "URL", allow_hyphen_values = true, help_heading = PROXY)]
    pub(crate) proxy: Option<String>,

    /// Hosts that need no proxy: names with all below them, addresses, networks, or * for all; in place of no_proxy
    #[arg(long, value_name = "HOST,...", allow_hyphen_values = true, help_heading = PROXY)]
    pub(crate) noproxy: Option<String>,

    /// Name and password for the proxy, unless its URL has some; a password is never asked for
    #[arg(short = 'U', long, value_name = "USER:PASSWORD", allow_hyphen_values = true, help_heading = PROXY)]
    pub(crate) proxy_user: Option<String>,

    /// Trust the certificates of this PEM file as an https proxy, and no others
    #[arg(long, value_name = "FILE", help_heading = PROXY)]
    pub(crate) proxy_cacert: Option<PathBuf>,

    /// Accept any certificate of an https proxy; a warning says so
    #[arg(long, help_heading = PROXY)]
    pub(crate) proxy_insecure: bool,

    /// Connect to this Unix socket, whatever the URL says
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", help_heading = CONNECTION)]
    pub(crate) unix_socket: Option<PathBuf>,

    /// The most that one dial may take (lookup, connect, handshake)
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = CONNECTION)]
    pub(crate) connect_timeout: Option<Seconds>,

    /// The most that each URL may take, redirects and retries included
    #[arg(short = 'm', long, value_name = "SECONDS", value_parser = seconds, help_heading = CONNECTION)]
    pub(crate) max_time: Option<Seconds>,

    /// Send the list of URLs so many times
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = CONNECTION)]
    pub(crate) repeat: u32,

    /// So many requests at once
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = CONNECTION)]
    pub(crate) concurrency: u32,

    /// What is written to stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Waterfall, help_heading = OUTPUT)]
    pub(crate) format: Format,

    /// Where the response's body goes: the first -o belongs to the first URL, and so on
    #[arg(short = 'o', long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) output: Vec<PathBuf>,

    /// Exit with 22 when a status is 400 or above, and keep no body of such
    #[arg(short = 'f', long, help_heading = OUTPUT)]
    pub(crate) fail: bool,

    /// Say nothing of failures: the exit code does
    #[arg(short = 's', long, help_heading = OUTPUT)]
    pub(crate) silent: bool,

    /// Tell on stderr what is done (*), sent (>) and received (<); secrets are left out
    #[arg(short = 'v', long, help_heading = OUTPUT)]
    pub(crate) verbose: bool,

    /// Write a man page or a shell's completions to stdout, and send nothing
    #[arg(long, value_enum, value_name = "KIND", help_heading = OUTPUT)]
    pub(crate) generate: Option<Kind>,

    /// Export spans and metrics over OTLP, also where no OTEL_EXPORTER_OTLP_ENDPOINT is set
    #[arg(long, help_heading = TELEMETRY)]
    pub(crate) otlp: bool,

    /// What one trace holds; without this the run, or each round if there are more than 100 requests
    #[arg(long, value_enum, value_name = "WHAT", help_heading = TELEMETRY)]
    pub(crate) trace_per: Option<TracePer>,

    /// All of the data options in the order in which they were given.
    #[arg(skip)]
    pub(crate) body: Vec<Data>,
}

const REQUEST: &str = "Request";
const TLS: &str = "TLS";
const CONNECTION: &str = "Connection";
const PROXY: &str = "Proxy";
const OUTPUT: &str = "Output";
const TELEMETRY: &str = "Telemetry";

const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nProtocols: http https\nFeatures: HTTP/1.1 HTTP/2 TLSv1.2 TLSv1.3 ALPN HTTPS-proxy SOCKS5 UnixSockets IPv6 OTLP/gRPC OTLP/HTTP"
);

const EXAMPLES: &str = "\
Examples:
  Where does the time go?
    httptrace https://example.com/

  Is the connection reused? Three requests, one after the other:
    httptrace -n 3 https://example.com/

  A POST with a body and a header of its own, and a look at what is sent:
    httptrace -v -H 'Content-Type: application/json' -d '{\"a\":1}' https://example.com/

  Follow redirects for at most 10 seconds, and fail on a status of 400 or above:
    httptrace -L -f -m 10 http://example.com/

  One server of several, without asking the DNS:
    httptrace --resolve example.com:443:192.0.2.7 https://example.com/

  The slowest of 200 requests, 8 at once:
    httptrace --format json -n 200 -c 8 https://example.com/ | jq -s 'max_by(.duration_us)'

  Through a proxy, the way to it being a part of the picture:
    httptrace -x http://proxy.example:3128 https://example.com/

  Spans and metrics to a collector:
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 httptrace https://example.com/

  Completions for the shell that is running:
    source <(httptrace --generate complete-bash)

Exit codes are curl's: 0 a whole response, 6 no such host, 7 not connected, 28 timeout, 35 and 60 TLS, 130 interrupted.
A failure is one line on stderr. SSLKEYLOGFILE, the variables of proxies and OTEL_* are read.";

/// What one trace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TracePer {
    /// All requests
    Run,
    /// Each round of the list of URLs
    Round,
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
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) value: String,
    /// A file's line ends stay.
    pub(crate) binary: bool,
}

/// A time limit; absent for 0, which is curl's word for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Option<Duration>);

/// What the command line asks for.
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
        Ok(Args { generate: Some(kind), .. }) => Ok(Parsed::Show(generate::text(kind, Args::command()))),
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
        ErrorKind::MissingRequiredArgument if option.contains("--cert") => "option --key needs --cert".to_owned(),
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
    fn the_examples_are_command_lines() {
        let lines = EXAMPLES.lines().filter_map(|line| line.strip_prefix("    "));
        let lines: Vec<_> = lines.map(|line| line.split("httptrace ").last().expect("never empty")).collect();
        assert!(lines.len() > 6, "{lines:?}");
        for line in lines {
            let words = line.split(" | ").next().expect("never empty").trim_end_matches(')');
            // Quotes hold what has blanks in it.
            let pieces = words
                .split('\'')
                .enumerate()
                .flat_map(|(i, piece)| if i % 2 == 1 { vec![piece] } else { piece.split_whitespace().collect() });
            let argv = ["httptrace"].into_iter().chain(pieces).map(OsString::from);
            parse(argv).unwrap_or_else(|failure| panic!("{line}: {}", failure.message));
        }
    }

    #[test]
    fn every_option_has_a_row_beside_curls() {
        let page = include_str!("../../../tests/README.md");
        let table = page.split("\n| option | curl | here | test |\n").nth(1).expect("the table");
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        let told: Vec<_> = rows.map(|row| row.split(" | ").next().expect("a cell").trim_matches(['|', ' '])).collect();
        let mut command = Args::command();
        command.build();
        let mut options: Vec<String> = command
            .get_arguments()
            .map(|arg| match (arg.get_short(), arg.get_long()) {
                (Some(short), Some(long)) => format!("`-{short}`, `--{long}`"),
                (None, Some(long)) => format!("`--{long}`"),
                _ => format!("`{}`", arg.get_value_names().expect("a name").join(" ")),
            })
            .collect();
        let mut told: Vec<_> = told.into_iter().map(str::to_owned).collect();
        options.sort();
        told.sort();
        assert_eq!(told, options);
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
            let failure = given(args).err().expect("a mistake");
            assert_eq!(failure.code, USAGE);
            assert!(
                failure.message.contains(named) && !failure.message.contains('\n'),
                "{args:?}: {}",
                failure.message
            );
        }
    }
}
