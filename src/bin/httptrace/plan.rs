//! What is to be sent: the command line, checked and completed before anything goes out.
//!
//! In: [`Args`]. Out: a [`Plan`] in which nothing can be wrong any more that a look at it could have told; else the
//! refusal with its exit code. Files are read here, and `-o` is tried, so that nothing is sent in vain.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header::AUTHORIZATION};
use httptrace::dial::{IpVersion, Proxy};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    args::{Args, Data, Format, Seconds, TracePer},
    exit::{CA_FILE, Failure, READ, USAGE, WRITE},
    given::{self, Identity, Known},
    headers, proxies, url,
};

/// All that a run needs to know.
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    pub(crate) repeat: u32,
    pub(crate) concurrency: u32,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// The response's header goes to `-o`.
    pub(crate) head: bool,
    /// How many redirects are followed; absent where none is.
    pub(crate) redirects: Option<u32>,
    pub(crate) expect_timeout: Option<Duration>,
    pub(crate) trust: Trust,
    pub(crate) identity: Option<Identity>,
    pub(crate) ip_version: Option<IpVersion>,
    pub(crate) known: Vec<Known>,
    pub(crate) proxies: Vec<Proxy>,
    /// Any certificate of a proxy is accepted.
    pub(crate) proxy_insecure: bool,
    #[cfg(unix)]
    pub(crate) unix_socket: Option<PathBuf>,
    pub(crate) protocol: Protocol,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) max_time: Option<Duration>,
    /// A status of 400 or above is a failure.
    pub(crate) fail: bool,
    pub(crate) silent: bool,
    pub(crate) verbose: bool,
    pub(crate) otlp: bool,
    pub(crate) trace_per: Option<TracePer>,
    pub(crate) format: Format,
}

/// One URL of the list.
pub(crate) struct Target {
    pub(crate) uri: Uri,
    /// Where the body goes; nowhere if absent.
    pub(crate) output: Option<PathBuf>,
}

/// Which certificates are accepted.
#[derive(Debug)]
pub(crate) enum Trust {
    Platform,
    Roots(Vec<CertificateDer<'static>>),
    Anything,
}

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Negotiated,
    Http1,
    Http2PriorKnowledge,
}

impl Plan {
    /// Checks everything.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub(crate) fn new(args: Args) -> Result<Self, Failure> {
        let method = method(&args)?;
        let targets = targets(&args)?;
        let trust = match &args.cacert {
            _ if args.insecure => Trust::Anything,
            Some(path) => Trust::Roots(roots(path)?),
            None => Trust::Platform,
        };
        let body = body(&args.body)?;
        let mut headers = headers::header_map(&args.header, args.user_agent.as_deref(), body.as_ref().map(Bytes::len))?;
        if let Some(user) = &args.user {
            let authorization = given::basic(user)?;
            headers.entry(AUTHORIZATION).or_insert(authorization);
        }
        let identity = args.cert.as_ref().map(|cert| given::identity(cert, args.key.as_deref())).transpose()?;
        let known = args.resolve.iter().map(|text| given::known(text)).collect::<Result<_, _>>()?;
        let proxies = proxies::proxies(&args, roots)?;
        let limit = |seconds: Option<Seconds>| seconds.and_then(|Seconds(limit)| limit);
        Ok(Self {
            targets,
            repeat: args.repeat,
            concurrency: args.concurrency,
            method,
            headers,
            body,
            head: args.head,
            // -1 is no limit: so many are followed by nobody.
            redirects: args.location.then(|| u32::try_from(args.max_redirs).unwrap_or(u32::MAX)),
            expect_timeout: args.expect100_timeout.map(|Seconds(limit)| limit.unwrap_or_default()),
            trust,
            identity,
            ip_version: match (args.ipv4, args.ipv6) {
                (true, _) => Some(IpVersion::V4),
                (_, true) => Some(IpVersion::V6),
                (false, false) => None,
            },
            known,
            proxies,
            proxy_insecure: args.proxy_insecure,
            #[cfg(unix)]
            unix_socket: args.unix_socket,
            protocol: match (args.http1_1, args.http2_prior_knowledge) {
                (true, _) => Protocol::Http1,
                (_, true) => Protocol::Http2PriorKnowledge,
                (false, false) => Protocol::Negotiated,
            },
            connect_timeout: limit(args.connect_timeout),
            max_time: limit(args.max_time),
            fail: args.fail,
            silent: args.silent,
            verbose: args.verbose,
            otlp: args.otlp,
            trace_per: args.trace_per,
            format: args.format,
        })
    }

    /// How many requests there are.
    pub(crate) fn requests(&self) -> u64 {
        u64::from(self.repeat) * self.targets.len() as u64
    }
}

fn method(args: &Args) -> Result<Method, Failure> {
    if args.head && !args.body.is_empty() {
        return Err(refuse(USAGE, "options -I and -d contradict each other: HEAD has no body"));
    }
    match &args.request {
        Some(name) => Method::from_bytes(name.as_bytes()).map_err(|_| refuse(USAGE, "option -X: not a method")),
        None if args.head => Ok(Method::HEAD),
        None if args.body.is_empty() => Ok(Method::GET),
        None => Ok(Method::POST),
    }
}

/// URLs and the files of their bodies, paired in order.
fn targets(args: &Args) -> Result<Vec<Target>, Failure> {
    if args.output.len() > args.urls.len() {
        return Err(refuse(USAGE, "more -o than URLs"));
    }
    if args.repeat > 1 && args.output.iter().any(|path| !is_null(path)) {
        return Err(refuse(USAGE, "options -n and -o contradict each other: only -o /dev/null can be repeated"));
    }
    if args.output.iter().any(|path| path == Path::new("-")) {
        return Err(refuse(USAGE, "option -o does not take '-': stdout is for the report"));
    }
    let uris = args.urls.iter().map(|text| url::parse(text)).collect::<Result<Vec<_>, _>>()?;
    for path in &args.output {
        try_output(path).map_err(|error| cannot(WRITE, "write", path, &error))?;
    }
    let outputs = args.output.iter().map(|path| (!is_null(path)).then(|| path.clone())).chain(std::iter::repeat(None));
    Ok(uris.into_iter().zip(outputs).map(|(uri, output)| Target { uri, output }).collect())
}

fn is_null(path: &Path) -> bool {
    path == Path::new("/dev/null") || (cfg!(windows) && path == Path::new("NUL"))
}

/// Whether a file can be written. Changes nothing: the file gets its content when there is a response.
fn try_output(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A pipe would wait for its reader here, and lose it again.
            if path.metadata()?.is_file() {
                OpenOptions::new().write(true).open(path).map(drop)
            } else {
                is_no_folder(path)
            }
        }
        Err(error) => Err(error),
    }
}

fn is_no_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
}

/// The certificates of a PEM file, all of them usable.
fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = fs::read(path).map_err(|error| cannot(CA_FILE, "read", path, &error))?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let roots = roots.map_err(|error| refuse(CA_FILE, format!("'{}' is not PEM: {error}", path.display())))?;
    if roots.is_empty() {
        return Err(refuse(CA_FILE, format!("'{}' has no certificate in it", path.display())));
    }
    let mut store = RootCertStore::empty();
    for root in &roots {
        let added = store.add(root.clone());
        added.map_err(|error| refuse(CA_FILE, format!("'{}' can't be used: {error}", path.display())))?;
    }
    Ok(roots)
}

/// The request's body: all data options, joined by `&` as curl does.
fn body(data: &[Data]) -> Result<Option<Bytes>, Failure> {
    if data.is_empty() {
        return Ok(None);
    }
    let parts = data.iter().map(content).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(parts.join(&b'&').into()))
}

fn content(data: &Data) -> Result<Vec<u8>, Failure> {
    let Some(name) = data.value.strip_prefix('@') else { return Ok(data.value.clone().into_bytes()) };
    let mut content = Vec::new();
    let read = match name {
        "-" => io::stdin().lock().read_to_end(&mut content).map(drop),
        path => fs::read(path).map(|read| content = read),
    };
    read.map_err(|error| cannot(READ, "read", Path::new(name), &error))?;
    if !data.binary {
        content.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
    }
    Ok(content)
}

fn cannot(code: u8, act: &str, path: &Path, error: &io::Error) -> Failure {
    refuse(code, format!("cannot {act} '{}': {error}", path.display()))
}

fn refuse(code: u8, message: impl Into<String>) -> Failure {
    Failure::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Parsed, parse};

    fn plan(args: &[&str]) -> Result<Plan, Failure> {
        match parse(["httptrace"].iter().chain(args).map(Into::into))? {
            Parsed::Run(args) => Plan::new(*args),
            Parsed::Show(text) => panic!("shows {text}"),
        }
    }

    #[test]
    fn data_means_post_unless_a_method_is_given() {
        assert_eq!(plan(&["a"]).expect("valid").method, Method::GET);
        assert_eq!(plan(&["a", "-d", ""]).expect("valid").method, Method::POST);
        let plan = plan(&["a", "-d", "x=1", "--data-binary", "y", "-X", "PUT"]).expect("valid");
        assert_eq!((plan.method, plan.body), (Method::PUT, Some(Bytes::from_static(b"x=1&y"))));
    }

    #[test]
    fn a_file_loses_its_line_ends_unless_it_is_binary() {
        let path = std::env::temp_dir().join(format!("httptrace-plan-{}", std::process::id()));
        fs::write(&path, "a\r\nb\n").expect("a temporary file");
        let file = format!("@{}", path.display());
        let plan = plan(&["a", "-d", &file, "--data-binary", &file]).expect("valid");
        fs::remove_file(&path).expect("it is there");
        assert_eq!(plan.body, Some(Bytes::from_static(b"ab&a\r\nb\n")));
    }

    #[test]
    fn outputs_belong_to_urls_in_their_order() {
        let plan = plan(&["a", "-o", "/dev/null", "b", "c"]).expect("valid");
        assert_eq!(plan.targets.iter().filter(|target| target.output.is_none()).count(), 3);
        assert_eq!(plan.requests(), 3);
    }

    #[test]
    fn trying_an_output_leaves_nothing_behind() {
        let path = std::env::temp_dir().join(format!("httptrace-output-{}", std::process::id()));
        let plan = plan(&["a", "-o", path.to_str().expect("text")]).expect("valid");
        assert!(plan.targets[0].output.is_some() && !path.exists());
    }
}
