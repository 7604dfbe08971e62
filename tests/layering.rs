//! The walls of the house: who may import whom (`ARCHITECTURE.md`), how long a file may be, and that each says what it is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Leaves, which all may use.
const LEAVES: [&str; 10] =
    ["capture", "clock", "config", "connection", "date", "error", "facts", "phase", "redact", "transport"];

/// What a module may use beside the leaves and itself.
fn allowed(module: &str) -> Option<&'static [&'static str]> {
    Some(match module {
        "builder" | "lib" | "fuzzing" | "guides" => return None,
        "client" => &["builder", "dial", "exchange", "hooks", "pool", "timeline"],
        "pool" | "dial" | "exchange" => &["hooks"],
        "timeline" => &["hooks"],
        "views" => &["hooks", "timeline"],
        "otlp" => &["builder", "client", "exchange", "timeline", "views"],
        "http_client" => &["client"],
        "hooks" => &[],
        leaf if LEAVES.contains(&leaf) => &[],
        other => panic!("{other} is no module of ARCHITECTURE.md: give it its place there and here"),
    })
}

/// Longer than this, a file has grown two subjects.
const MOST_LINES: usize = 600;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the crate") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("bin") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&src, &mut found);
    found.sort();
    assert!(found.len() > 20, "the sources were not found");
    found
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&src).expect("below src").to_path_buf();
            let module = inside.iter().next().and_then(|first| first.to_str()).expect("a name");
            let text = fs::read_to_string(&path).expect("a source");
            (module.trim_end_matches(".rs").to_owned(), inside, text)
        })
        .collect()
}

/// The modules named after `crate::` outside of comments and tests, in braces too.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(braced) = after.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in braced.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.insert(word(item.trim()));
                        item.clear();
                    }
                    _ => {}
                }
                if !(c == ',' && depth == 0) {
                    item.push(c);
                }
            }
            names.insert(word(item.trim()));
            names.remove("");
        } else {
            names.insert(word(after));
        }
    }
    names
}

#[test]
fn the_stages_do_not_know_each_other() {
    for (module, path, text) in all() {
        let Some(allowed) = allowed(&module) else { continue };
        // What must hold of a parser is a test of it, whoever runs it.
        if path.ends_with("fuzzing.rs") {
            continue;
        }
        for import in imports(&text) {
            // Types at the root belong to the leaves and to the public face.
            if !import.chars().next().is_some_and(char::is_lowercase) {
                continue;
            }
            let fine = import == module || LEAVES.contains(&import.as_str()) || allowed.contains(&import.as_str());
            assert!(fine, "{} imports {import}, which {module} may not know", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_has_one_subject() {
    for (_, path, text) in all() {
        assert!(text.starts_with("//!"), "{} does not begin with what it is", path.display());
        let code = text.split("\n#[cfg(test)]\n").next().unwrap_or(&text);
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn core_modules_name_no_telemetry() {
    for (module, path, text) in all() {
        if ["pool", "dial", "exchange", "hooks", "client"].contains(&module.as_str())
            || LEAVES.contains(&module.as_str())
        {
            assert!(!text.contains("opentelemetry"), "{} names OpenTelemetry", path.display());
        }
    }
}

/// Types whose own `Debug` shows what may be secret: credentials in a URL or a header field, bytes of a message.
const SPEAKING: [&str; 9] =
    ["Uri", "Authority", "PathAndQuery", "HeaderMap", "HeaderValue", "Parts", "BytesMut", "Vec<u8>", "[u8]"];
/// Types that hold such and may show it.
const NOTHING_SECRET: [(&str, &str); 4] = [
    ("TlsInfo", "certificates are public"),
    ("Heard", "the first nine bytes of what a port speaks"),
    ("Seen", "the head of an interim response, which the scanner's tests compare"),
    ("Fact", "the block of an interim response, which the scanner's tests compare"),
];

/// Types that derive `Debug` and show what may be secret: their names, and what they show.
fn speaking(text: &str) -> Vec<(String, &'static str)> {
    let code = text.split("\n#[cfg(test)]\n").next().unwrap_or(text);
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    // The hooks' types are made by a macro, which derives it.
    let code = code.replace("\ninfos! {", "\n#[derive(Debug)]\nstruct infos {");
    for after in code.split("#[derive(").skip(1) {
        let (traits, item) = after.split_once(")]").expect("a list of traits");
        // To the item's end: `struct A(B);`, or the line that closes its braces.
        let end = match item.find(['{', ';']) {
            Some(at) if item[at..].starts_with('{') => item.find("\n}").unwrap_or(item.len()),
            at => at.unwrap_or(item.len()),
        };
        let open: String = item[..end].lines().filter(|line| !line.contains("Hidden<")).collect::<Vec<_>>().join("\n");
        let words: Vec<_> = open.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let name =
            words.iter().skip_while(|word| !["struct", "enum"].contains(word)).nth(1).copied().unwrap_or_default();
        if traits.split(", ").any(|name| name == "Debug") && !NOTHING_SECRET.iter().any(|(known, _)| *known == name) {
            let shows =
                |kind: &&str| if kind.contains(['<', '[']) { open.contains(*kind) } else { words.contains(kind) };
            found.extend(SPEAKING.into_iter().filter(shows).map(|kind| (name.to_owned(), kind)));
        }
    }
    found
}

#[test]
fn what_may_be_secret_is_hidden_from_debug() {
    let command = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/httptrace");
    let mut of_the_command = Vec::new();
    sources(&command, &mut of_the_command);
    assert!(of_the_command.len() > 10, "the command's sources were not found");
    let of_the_command = of_the_command.into_iter().map(|path| (fs::read_to_string(&path).expect("a source"), path));
    let of_the_library = all().into_iter().map(|(_, path, text)| (text, path));
    for (text, path) in of_the_library.chain(of_the_command) {
        let found = speaking(&text);
        assert!(found.is_empty(), "{}: Debug shows {found:?}: wrap it in redact::Hidden", path.display());
    }
}

#[test]
fn the_reader_of_types_finds_what_speaks() {
    let text = [
        "#[derive(Debug, Clone)]\n/// A Uri.\npub(crate) struct A {\n    at: Option<Uri>,\n    b: Vec<u8>,\n}\n",
        "#[derive(Clone)]\nstruct B(Uri);\n#[derive(Debug)]\nstruct C(Hidden<Uri>);\n",
        "#[derive(Debug)]\nenum D {\n    E { headers: HeaderMap },\n    F(Hidden<Uri>),\n}\n",
        "\ninfos! {\n    G<'a> {\n        value: &'a [u8],\n        uri: Hidden<Uri>,\n    }\n}\n",
    ];
    let text = &text.concat();
    let found = speaking(text);
    let found: Vec<_> = found.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
    assert_eq!(found, [("A", "Uri"), ("A", "Vec<u8>"), ("D", "HeaderMap"), ("infos", "[u8]")]);
}

#[test]
fn the_import_reader_reads_imports() {
    let text =
        "use crate::{\n    pool::{A, b},\n    error::Error,\n};\n// crate::views\nfn f() { crate::clock::now() }";
    let read: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(read, ["clock", "error", "pool"]);
}
