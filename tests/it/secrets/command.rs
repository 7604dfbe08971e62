//! The command, in each of its formats: both outputs, and what it exports.

use std::process::Stdio;

use super::{ANSWER, FIELDS, QUERY, USERINFO, WORD, assert_says_nothing};
use crate::support::{
    collector::Collector,
    origin::{Origin, Refusing},
    script::{
        Step::{AwaitClose, Close, ReadHead},
        write,
    },
    within,
};

/// What a run says on both of its outputs, and to the collector.
async fn says(args: &[String], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_httptrace"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().to_lowercase().ends_with("_proxy")) {
        command.env_remove(name);
    }
    command.args(args).envs(variables.iter().copied()).stdin(Stdio::null());
    let output = within("the command", command.output()).await.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), format!("{}\n{}", text(&output.stdout), text(&output.stderr)))
}

/// A URL with secrets, at this place.
fn url(scheme: &str, place: impl std::fmt::Display) -> String {
    format!("{scheme}://{USERINFO}@{place}/path?{QUERY}#{WORD}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_the_command_says_is_secret() {
    let fields = FIELDS.map(|(name, value)| format!("{name}: {value}"));
    let fields: Vec<_> = fields.into_iter().filter(|field| !field.starts_with("authorization")).collect();
    let (key, directory) =
        ("planted.pem", std::env::temp_dir().join(format!("httptrace-secrets-{}", std::process::id())));
    std::fs::create_dir_all(&directory).expect("a folder of its own");
    let key = directory.join(key);
    std::fs::write(&key, format!("-----BEGIN PRIVATE KEY-----\n{WORD}\n-----END PRIVATE KEY-----\n")).expect("a file");
    let key = key.to_str().expect("a name in ASCII").to_owned();
    for format in ["waterfall", "hooks", "json", "har"] {
        let collector = if format == "json" { Collector::grpc() } else { Collector::http() };
        let endpoint = collector.endpoint().replace("http://", &format!("http://{USERINFO}@"));
        let protocol = if format == "json" { "grpc" } else { "http/protobuf" };
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=geheim,a b=geheim"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &key),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
            ("OTEL_TRACES_EXPORTER", "otlp,console"),
            ("OTEL_METRICS_EXPORTER", "otlp,console"),
        ];
        let mut shown = 0;
        for (targets, code) in runs(&key) {
            let mut args: Vec<_> = ["--format", format, "-k"].map(str::to_owned).into();
            // What has a body is not tried again once it was sent.
            args.extend((code != 0).then(|| format!("-d{WORD}")));
            args.extend(fields.iter().flat_map(|field| ["-H".to_owned(), field.clone()]));
            args.extend(targets.urls);
            let (ended, said) = says(&args, &variables).await;
            assert_eq!(ended, Some(code), "{format}: {said}");
            assert_says_nothing(&format!("{format}, {code}"), &said);
            shown += usize::from(said.contains("REDACTED:REDACTED@") && said.contains("%73ig=REDACTED"));
        }
        assert_eq!(shown, 8, "{format}: the URLs that were reached for are shown");
        let received = format!("{:?}", collector.received());
        assert_says_nothing(&format!("{format}, exported"), &received);
        assert!(received.contains("%73ig=REDACTED") && received.contains("http.client.request.duration"), "{received}");
        let sent = format!("{:?}", collector.requests());
        assert!(sent.contains("Z2VoZWltLXVzZXI6Z2VoZWltLXBhc3M=") && sent.contains("x-key"), "{sent}");
    }
    std::fs::remove_dir_all(directory).expect("a folder of its own");
}

/// Servers, and what to ask them, in which way.
struct Targets {
    urls: Vec<String>,
    _origins: Vec<Origin>,
    _refusing: Option<Refusing>,
}

/// The runs and the codes that they end with. `key`: a file that holds no key.
fn runs(key: &str) -> Vec<(Targets, i32)> {
    let answer = |status: &str| format!("HTTP/1.1 {status}\r\n{ANSWER}content-length: 6\r\n\r\n{WORD}");
    let interim = format!("HTTP/1.1 103 Early Hints\r\n{ANSWER}\r\n");
    let good =
        vec![ReadHead, write(interim + &answer("200 OK")), ReadHead, write(answer("302 Found")), ReadHead, Close];
    let tried_again = vec![ReadHead, write(answer("401 geheim")), AwaitClose];
    let answered = || Origin::plain().scripts([good.clone(), tried_again.clone()]);
    let of = |origin: Origin, scheme: &str, times: usize| Targets {
        urls: vec![url(scheme, origin.addr()); times],
        _origins: vec![origin],
        _refusing: None,
    };
    let refusing = Refusing::new();
    let refused = Targets { urls: vec![url("http", refusing.addr())], _origins: Vec::new(), _refusing: Some(refusing) };
    let malformed = Origin::plain().script([ReadHead, write(format!("{WORD} {WORD}\r\n\r\n")), AwaitClose]);
    let wrong = |url: String| Targets { urls: vec![url], _origins: Vec::new(), _refusing: None };
    let cut = Origin::tls_with_alpn(&["http/1.1"]).script([ReadHead, Close]);
    // A redirect to where it came from, with other credentials, and then to another place.
    let moved = Origin::plain().scripts([vec![
        ReadHead,
        write(
            format!("HTTP/1.1 307 Moved\r\n{ANSWER}content-length: 0\r\n\r\n")
                .replace("http://geheim:geheim@a.test", ""),
        ),
        ReadHead,
        write(
            format!("HTTP/1.1 307 Moved\r\n{ANSWER}content-length: 0\r\n\r\n").replace("a.test/?sig", "a.test:0/?sig"),
        ),
        AwaitClose,
    ]]);
    let mut moved = of(moved, "http", 1);
    moved.urls[0] = moved.urls[0].replace(&format!("{USERINFO}@"), "");
    moved.urls.extend(["-u", USERINFO, "-L", "-v"].map(str::to_owned));
    let proxy_of = |origin: Origin, options: &[&str], target: &str| {
        let proxy = format!("http://{USERINFO}@{}", origin.addr());
        let mut targets = Targets { urls: vec![url(target, "127.0.0.1")], _origins: vec![origin], _refusing: None };
        targets.urls.extend(["-v", "-x", &proxy].iter().chain(options).map(|&option| option.to_owned()));
        targets
    };
    let refusing_proxy = Origin::plain().script([ReadHead, write(answer("407 geheim")), AwaitClose]);
    let forwarding = Origin::plain().script([ReadHead, write(answer("200 OK")), AwaitClose]);
    let no_proxy = Origin::plain().script([]);
    let mut told = of(answered(), "http", 2);
    told.urls.push("-v".to_owned());
    let mut unusable = of(answered(), "https", 1);
    unusable.urls.extend(["--cert", key, "--key", key].map(str::to_owned));
    vec![
        (moved, 3),
        (told, 0),
        (proxy_of(refusing_proxy, &[], "https"), 7),
        (proxy_of(forwarding, &["-U", USERINFO, "--noproxy", "geheim.test"], "http"), 0),
        (proxy_of(no_proxy, &["-x", "ftp://geheim:geheim@a.test"], "http"), 7),
        (unusable, 58),
        (of(answered(), "http", 3), 0),
        (refused, 7),
        (of(malformed, "http", 1), 8),
        (of(cut, "https", 1), 52),
        (wrong(format!("ftp://{USERINFO}@a.test/?{QUERY}")), 1),
        (wrong(format!("http://{USERINFO}@a.test:{WORD}/?{QUERY}")), 3),
        (wrong(format!("http://{USERINFO}@/?{QUERY}")), 3),
    ]
}
