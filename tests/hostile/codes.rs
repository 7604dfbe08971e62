//! Exit codes of the command beside real curl's, on the corpus: `codes.md` is the table. Where the two differ, it says which
//! row of the README's table decides; `cargo test` holds the page against the corpus, `.ci/run full` against both programs.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use base64::Engine;

use crate::{
    case::{Ask, Case, Ends, Next, Over, Time},
    corpus,
    support::{PATIENCE, origin::Origin, script::Step},
};

/// What neither program can be asked with its arguments.
const NOT_ASKED: [(&str, &str); 4] = [
    ("shows a certificate that was taken back", "not asked: the command takes no list of revoked certificates"),
    ("never opens a stream's window", "not asked: the first of two requests would have a body too"),
    ("sends more than the stream's window", WINDOWS),
    ("sends more than the connection's window", WINDOWS),
];
const WINDOWS: &str = "not asked: the command has no option for windows";
const IDLE: &str = "not asked: between two URLs there is no moment in which a connection is known to be idle";

/// The command takes 1000 fields, the library 100.
const MANY_FIELDS: [&str; 5] = [
    "has 101 fields",
    "has 101 trailers",
    "has 101 different trailers",
    "has 101 fields in HTTP/2",
    "has 101 trailers in HTTP/2",
];

/// The codes of the README's table that an origin can cause, in its words.
const CODES: [(i32, &str); 13] = [
    (0, "a whole response to every request, any status"),
    (7, "no address connected; proxy refused CONNECT"),
    (8, "malformed head, too many 1xx"),
    (16, "HTTP/2 connection error"),
    (18, "body ended early"),
    (28, "any timeout"),
    (35, "TLS handshake"),
    (52, "closed before the first response byte"),
    (55, "sending failed"),
    (56, "receiving failed"),
    (60, "certificate not accepted"),
    (92, "HTTP/2 stream error"),
    (100, "response head too large"),
];

/// The code of such an end.
fn code(phase: &str, error_type: &str) -> i32 {
    match error_type {
        "malformed_response" | "too_many_informational" => 8,
        "http2_protocol_error" | "http2_goaway" => 16,
        "body_incomplete" => 18,
        "timeout" => 28,
        "tls_protocol_error" | "tls_closed" => 35,
        "connection_closed" => 52,
        "write_failed" => 55,
        "http2_stream_reset" => 92,
        "head_too_large" => 100,
        certificate if certificate.starts_with("certificate_") => 60,
        _ if phase == "request-write" => 55,
        _ => 56,
    }
}

/// The method that both are asked with: the case's first.
fn ask(case: &Case) -> Ask {
    case.asks[0]
}

fn not_asked(case: &Case) -> Option<&'static str> {
    let idle = case.script.iter().any(|step| matches!(step, Step::Gate("idle")));
    let named = NOT_ASKED.iter().find(|(name, _)| *name == case.name).map(|(_, why)| *why);
    named.or(idle.then_some(IDLE))
}

/// What the command may end with, as the corpus has it.
fn expected(case: &Case) -> BTreeSet<i32> {
    match case.ends(ask(case)) {
        // And some of them have no end.
        _ if MANY_FIELDS.contains(&case.name) => BTreeSet::from([0, 28]),
        Ends::Answer(..) => BTreeSet::from([0]),
        // As the machine has it, before the connection is there or behind it.
        _ if case.name == "accepts and resets" => BTreeSet::from([7, 52, 55, 56]),
        // A stream's error, if the connection goes on.
        Ends::Dies([(_, "http2_protocol_error"), ..]) if case.next == Next::Reuses => BTreeSet::from([92]),
        Ends::Dies(any) => any.iter().map(|(phase, error_type)| code(phase, error_type)).collect(),
    }
}

/// Why this code and not curl's.
fn reason(case: &Case, ours: i32) -> String {
    if ours == 0 && case.posts > 1 {
        return "0: the server said that it did nothing, so it is asked again".to_owned();
    }
    if MANY_FIELDS.contains(&case.name) {
        return format!("{ours}: the command takes 1000 fields");
    }
    let (_, when) = CODES.iter().find(|(code, _)| *code == ours).unwrap_or(&(HANGS, "no code of the table"));
    format!("{ours}: {when}")
}

/// The arguments of both.
fn arguments(case: &Case, origin: &Origin, roots: &Path) -> Vec<String> {
    let url = match case.over {
        Over::NoTls => format!("https://{}/", origin.addr()),
        Over::Http1 | Over::Http2 | Over::Tls(_) => origin.url("/").to_string(),
    };
    // What ends by a timeout ends by this one; of the rest it bounds what curl may do.
    let limit = match case.time {
        Time::AtOnce if case.name.contains("without end") => "4",
        Time::AtOnce => "8",
        Time::Timeout(_) => "1",
    };
    let mut args = vec!["-s", "-m", limit];
    args.extend(match ask(case) {
        Ask::Get => &[][..],
        Ask::Post => &["-d", "body"],
        Ask::Head => &["-I"],
    });
    if let Over::Http2 = case.over {
        args.push("--http2-prior-knowledge");
    }
    let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    if let Over::Tls(_) = case.over {
        let encoded = base64::engine::general_purpose::STANDARD.encode(origin.root_certificate());
        let lines: Vec<_> = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
        fs::write(roots, pem).expect("a file");
        args.extend(["--cacert".to_owned(), roots.to_str().expect("text").to_owned()]);
    }
    for _ in 0..=case.before {
        args.extend(["-o", "/dev/null", &url].map(str::to_owned));
    }
    args
}

async fn ends(mut command: tokio::process::Command, args: &[String]) -> i32 {
    command.args(args).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match tokio::time::timeout(PATIENCE, command.status()).await {
        Ok(status) => status.expect("it is installed").code().expect("an end of its own"),
        Err(_) => HANGS,
    }
}

/// No code of anybody's: it did not end.
const HANGS: i32 = -1;

/// How curl and the command end, one after the other, each with an origin of its own.
async fn both(case: &Case, number: usize) -> [i32; 2] {
    let roots = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("codes-{}-{number}", std::process::id()));
    let mut codes = [0; 2];
    for (program, code) in ["curl", env!("CARGO_BIN_EXE_httptrace")].into_iter().zip(&mut codes) {
        let origin = case.origin(ask(case));
        let args = arguments(case, &origin, &roots);
        let mut command = tokio::process::Command::new(program);
        if program == "curl" {
            // Not what a file of the machine's user says.
            command.args(["-q", "--noproxy", "*"]);
        }
        *code = ends(command, &args).await;
    }
    let _ = fs::remove_file(roots);
    codes
}

fn cell(codes: &BTreeSet<i32>) -> String {
    let told = codes.iter().map(|code| if *code == HANGS { "none".to_owned() } else { code.to_string() });
    told.collect::<Vec<_>>().join(" or ")
}

fn codes_of(cell: &str) -> BTreeSet<i32> {
    cell.split(" or ").filter_map(|code| if code == "none" { Some(HANGS) } else { code.parse().ok() }).collect()
}

/// What was chance for the one, and not for the other, is no difference.
fn differ(curl: &BTreeSet<i32>, ours: &BTreeSet<i32>) -> bool {
    !ours.is_subset(curl) && !curl.is_subset(ours)
}

fn line(case: &Case, curl: &BTreeSet<i32>, ours: &BTreeSet<i32>) -> String {
    let code = ours.first().filter(|_| differ(curl, ours));
    let why = code.map(|code| reason(case, *code)).unwrap_or_default();
    format!("| {} | {} | {} | {why} |", case.name, cell(curl), cell(ours))
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/codes.md")
}

/// The rows of the page: name, curl's codes, ours, the reason.
fn rows(page: &str) -> Vec<[&str; 4]> {
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip_while(|line| !line.starts_with("| the origin"));
    let cells = rows.skip(1).map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    cells.map(|cells| <[&str; 4]>::try_from(cells).expect("four cells")).collect()
}

#[test]
fn the_page_of_codes_is_about_the_corpus_and_gives_a_reason_for_each_difference() {
    let text = fs::read_to_string(page()).expect("the page");
    let rows = rows(&text);
    let cases: Vec<_> = corpus().into_iter().flat_map(|(_, cases)| cases).collect();
    let names: Vec<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(rows.iter().map(|[name, ..]| *name).collect::<Vec<_>>(), names, "{ANEW}");
    for ([name, curl, ours, why], case) in rows.into_iter().zip(&cases) {
        if let Some(reason) = not_asked(case) {
            assert_eq!(why, reason, "{name}");
            continue;
        }
        let (curl, ours) = (codes_of(curl), codes_of(ours));
        assert!(!curl.is_empty() && !ours.is_empty(), "{name}");
        assert!(ours.is_subset(&expected(case)), "{name}: {ours:?}, not {:?}", expected(case));
        let differ = differ(&curl, &ours);
        assert_eq!(differ, !why.is_empty(), "{name}");
        assert!(!differ || ours.iter().any(|code| why == reason(case, *code)), "{name}: {why}");
    }
    let readme = fs::read_to_string(page().with_file_name("../../README.md")).expect("the README");
    for (code, when) in CODES {
        assert!(readme.contains(&format!("| {code} | {when} |")), "{code} is not in the README's table as {when:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl: .ci/run full"]
async fn exit_codes_are_curls_or_the_table_decides() {
    let anew = std::env::var_os("HOSTILE_TABLE").is_some();
    let cases: Vec<_> = corpus().into_iter().flat_map(|(_, cases)| cases).map(Arc::new).collect();
    let places = Arc::new(tokio::sync::Semaphore::new(6));
    let mut running = Vec::new();
    for (number, case) in cases.iter().map(Arc::clone).enumerate() {
        let places = Arc::clone(&places);
        running.push(tokio::spawn(async move {
            let mut seen = [BTreeSet::new(), BTreeSet::new()];
            // What is chance shows in a few rounds.
            for _ in 0..if anew { 3 } else { 1 } {
                let _place = places.acquire().await.expect("it stays open");
                if not_asked(&case).is_none() {
                    let codes = both(&case, number).await;
                    seen.iter_mut().zip(codes).for_each(|(seen, code)| seen.extend([code]));
                }
            }
            seen
        }));
    }
    let mut table = String::new();
    let mut faults = Vec::new();
    let text = fs::read_to_string(page()).unwrap_or_default();
    let told = rows(&text);
    for (case, running) in cases.iter().zip(running) {
        let [curl, ours] = running.await.expect("both ran");
        match not_asked(case) {
            Some(why) => writeln!(table, "| {} | – | – | {why} |", case.name),
            None => writeln!(table, "{}", line(case, &curl, &ours)),
        }
        .expect("a string takes everything");
        if !ours.is_subset(&expected(case)) {
            faults.push(format!("{}: curl {curl:?}, ours {ours:?}, expected {:?}", case.name, expected(case)));
        }
        // Of curl's codes some are chance, and another version has others: what is new is told, and is no fault of ours.
        let row = told.iter().find(|[name, ..]| *name == case.name);
        if !row.is_some_and(|[_, theirs, ..]| curl.is_subset(&codes_of(theirs))) {
            println!("{}: curl ended with {curl:?}, which the page does not have", case.name);
        }
    }
    println!("{table}");
    if anew {
        let before = text.split("| the origin |").next().unwrap_or_default().to_owned();
        fs::write(page(), format!("{before}{HEAD}{table}")).expect("a page to write");
    }
    assert!(faults.is_empty(), "{ANEW}:\n{}", faults.join("\n"));
}

const HEAD: &str = "| the origin | curl | ours | what decides where they differ |\n|---|---|---|---|\n";
const ANEW: &str = "HOSTILE_TABLE=1 cargo test --test hostile codes:: -- --ignored writes the table anew";
