//! That `tests/README.md` and `SECURITY.md` tell the truth: every test that they name exists, and no test that they should
//! name is missing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("tests/README.md")).expect("the page")
}

/// The tests that a text names, as file and name: what stands between backticks and has `.rs::` in it.
fn named(text: &str) -> BTreeSet<(String, String)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|quoted| quoted.split_once(".rs::"))
        .map(|(file, name)| (format!("{file}.rs"), name.to_owned()))
        .collect()
}

/// Where such a file is: below `tests/it/` unless it begins with a folder of the crate.
fn place(file: &str) -> PathBuf {
    if ["src/", "tests/", "integrations/"].iter().any(|folder| file.starts_with(folder)) {
        root().join(file)
    } else {
        root().join("tests/it").join(file)
    }
}

/// The functions of a source that are tests.
fn tests_in(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let code = line.strip_prefix("async ").unwrap_or(line);
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let (true, Some(rest)) = (is_test, code.strip_prefix("fn ")) {
            tests.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            is_test = false;
        }
    }
    tests
}

#[test]
fn every_test_that_the_page_names_exists() {
    for (page, least) in [("tests/README.md", 60), ("SECURITY.md", 30)] {
        let named = named(&fs::read_to_string(root().join(page)).expect("the page"));
        assert!(named.len() >= least, "{page}: the names were not found: {}", named.len());
        let missing: Vec<_> = named
            .into_iter()
            .filter(|(file, name)| {
                !fs::read_to_string(place(file)).is_ok_and(|source| tests_in(&source).contains(name))
            })
            .collect();
        assert!(missing.is_empty(), "named in {page}, and not there: {missing:#?}");
    }
}

#[test]
fn every_line_of_the_threat_model_has_a_test_that_holds_it() {
    let page = fs::read_to_string(root().join("SECURITY.md")).expect("the page");
    let model = page.split("## Threat model").nth(1).expect("the model");
    let mut held = 0;
    for part in model.split("\n### ") {
        // What is the application's own is in its own hands.
        for line in part.split("\n- ").skip(1).filter(|_| !part.starts_with("What the application is trusted with")) {
            let line = line.split("\n\n").next().unwrap_or(line);
            assert!(line.contains(".rs::") || line.contains("No test can hold this."), "nothing holds: {line}");
            held += 1;
        }
    }
    assert!(held > 30, "the lines were not found: {held}");
}

#[test]
fn every_test_that_answers_others_is_on_the_page() {
    let page = readme();
    let named = named(&page);
    let mut files = Vec::new();
    for folder in ["like_go", "peers", "unchanged"] {
        for entry in fs::read_dir(place(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            files.push(format!("{folder}/{}", name.to_string_lossy()));
        }
    }
    for file in files {
        let source = fs::read_to_string(place(&file)).expect("a source");
        let tests = tests_in(&source);
        assert!(!tests.is_empty(), "{file} has no tests");
        for test in tests {
            assert!(named.contains(&(file.clone(), test.clone())), "{file}::{test} is not in tests/README.md");
        }
        // And each test of Go's that a comment claims.
        for line in source.lines().filter_map(|line| line.trim().strip_prefix("/// Go: ")) {
            let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            for claimed in words.filter(|word| word.starts_with("Test")) {
                let claimed = claimed.trim_end_matches("_h2").trim_end_matches("_HTTP1").trim_end_matches("_HTTP2");
                assert!(page.contains(claimed), "{file}: {claimed} is not in tests/README.md");
            }
        }
    }
}

#[test]
fn the_fifteen_bugs_have_a_row_each() {
    let page = readme();
    let bugs = page.split("## What other clients got wrong").nth(1).expect("the table");
    for number in 1..=15 {
        assert_eq!(bugs.matches(&format!("\n| {number} |")).count(), 1, "bug {number}");
    }
}

/// The page's rows of ways to fail: type, phases, and what is said of the test.
fn ways_to_fail(page: &str) -> Vec<[&str; 3]> {
    let section = page.split("\n## Every way to fail\n").nth(1).and_then(|it| it.split("\n## ").next());
    let rows = section.expect("the section").lines().filter(|line| line.starts_with("| `") && !line.contains("---"));
    rows.filter_map(|row| {
        row.trim_matches('|').split(" | ").map(|cell| cell.trim()).collect::<Vec<_>>().try_into().ok()
    })
    .map(|[kind, phases, test]: [&str; 3]| [kind.trim_matches('`'), phases, test])
    .filter(|[kind, ..]| *kind != "error.type")
    .collect()
}

#[test]
fn every_error_type_has_a_test_that_provokes_it() {
    let page = readme();
    let ways = ways_to_fail(&page);
    let source = fs::read_to_string(root().join("src/error.rs")).expect("a source");
    let list = source.split("\nkinds! {").nth(1).and_then(|list| list.split("\n}").next()).expect("the list");
    for kind in list.lines().filter_map(|line| line.split('"').nth(1)) {
        let found: Vec<_> = ways.iter().filter(|[told, ..]| *told == kind).collect();
        let [[_, phases, test]] = found.as_slice() else { panic!("{kind} has {} rows", found.len()) };
        let tests = named(test);
        assert!(!tests.is_empty(), "{kind} has no test");
        let bodies: Vec<String> = tests.iter().map(|(file, name)| body(file, name)).collect();
        assert!(bodies.iter().all(|body| body.contains(&format!("\"{kind}\""))), "{kind} is not in all of {tests:?}");
        for phase in phases.split(", ") {
            let dies = |body: &String| body.contains(&format!("\"{phase}\"")) || tells(body, phase);
            assert!(bodies.iter().any(dies), "{kind} does not die in {phase} in {tests:?}");
        }
    }
    // And what has no test yet, or is not of the library, says so.
    for [kind, _, test] in ways.iter().filter(|[kind, ..]| !list.contains(&format!("\"{kind}\""))) {
        assert!(test.starts_with("none"), "{kind} is no type of the library");
    }
}

#[test]
fn every_option_of_the_command_is_in_its_test() {
    let page = readme();
    let table = page.split("\n| option | curl | here | test |\n").nth(1).expect("the table");
    let rows: Vec<&str> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 30, "{rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [option, _, _, tests] = cells.as_slice() else { panic!("four cells: {row}") };
        let bodies: Vec<String> = named(tests).iter().map(|(file, name)| body(file, name)).collect();
        assert!(!bodies.is_empty(), "no test: {row}");
        let forms: Vec<&str> = option.split('`').skip(1).step_by(2).filter(|form| form.starts_with('-')).collect();
        let used = |form: &&str| bodies.iter().any(|body| body.contains(&format!("\"{form}\"")));
        assert!(forms.is_empty() || forms.iter().any(used), "{option} is not in {tests}");
    }
}

/// The source of one test, from its name to its end.
fn body(file: &str, name: &str) -> String {
    let source = fs::read_to_string(place(file)).expect("a source");
    let from = source.find(&format!("fn {name}(")).expect("it exists");
    source[from..].split("\n}\n").next().expect("an end").to_owned()
}

/// Whether the test leaves the phase to a function beside it, which has it.
fn tells(body: &str, phase: &str) -> bool {
    (phase == "tls" && body.contains("dies(")) || (phase == "response-read" && body.contains("breaks_off("))
}

#[test]
fn the_reader_reads_names() {
    let text = "see `a/b.rs::one_two` and `src/c.rs::three`, not `d.rs` nor e.rs::four";
    let wanted = [("a/b.rs", "one_two"), ("src/c.rs", "three")].map(|(file, name)| (file.to_owned(), name.to_owned()));
    assert_eq!(named(text), BTreeSet::from(wanted));
    let source = "#[test]\nfn a() {}\nfn b() {}\n    #[tokio::test(flavor = \"x\")]\n    async fn c() {}";
    assert_eq!(tests_in(source), ["a", "c"]);
}

/// Variables come in forms, `OTEL_EXPORTER_OTLP_[TRACES_|METRICS_]…`, whose tests write what is common to them.
#[test]
fn every_variable_that_the_docs_list_is_in_a_test() {
    let docs = fs::read_to_string(root().join("src/otlp/mod.rs")).expect("the docs");
    let tests = fs::read_to_string(root().join("tests/it/otlp/environment.rs")).expect("the tests");
    let tested: BTreeSet<&str> = tests.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).collect();
    let rows = docs.lines().filter_map(|line| line.strip_prefix("//! | `OTEL_"));
    let listed: Vec<&str> = rows
        .flat_map(|row| row.split('|').take(1).flat_map(|cell| cell.split(['`', ',', ' '])))
        .map(|name| name.trim_start_matches("OTEL_"))
        .filter(|name| !name.is_empty())
        .collect();
    assert!(listed.len() > 45, "the variables were not found: {listed:?}");
    let missing: Vec<_> = listed
        .into_iter()
        .filter(|name| {
            let common = name.trim_start_matches("EXPORTER_OTLP_");
            let common = common.trim_start_matches("TRACES_").trim_start_matches("METRICS_");
            let forms = [format!("OTEL_{name}"), common.to_owned(), format!("_{common}")];
            !forms.iter().any(|form| tested.contains(form.as_str()))
        })
        .collect();
    assert!(missing.is_empty(), "listed in src/otlp/mod.rs, and in no test: {missing:?}");
}

/// Where a page's links lead, but for those to other sites and to its own headings.
fn links(text: &str) -> Vec<&str> {
    let all = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    all.filter(|link| !link.contains("://") && !link.starts_with('#'))
        .map(|link| link.split('#').next().unwrap_or(link))
        .collect()
}

#[test]
fn every_file_that_a_page_links_to_exists() {
    let mut seen = 0;
    for page in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md", "tests/README.md"]
    {
        let path = root().join(page);
        let text = fs::read_to_string(&path).expect("the page");
        for link in links(&text) {
            assert!(path.parent().expect("a folder").join(link).exists(), "{page} links to {link}, which is not there");
            seen += 1;
        }
    }
    assert!(seen > 40, "the links were not found: {seen}");
}

#[test]
fn what_people_use_today_has_a_row_each_with_code_that_is_compiled() {
    let page = fs::read_to_string(root().join("README.md")).expect("the page");
    let section = page.split("\n## What you use today\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows: Vec<_> = section.expect("the section").lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let known = ["hyper-util", "tower-http", "tower-otel", "reqwest", "reqwest-middleware", "reqwest-tracing", "tonic"];
    let known =
        known.into_iter().chain(["kube", "octocrab", "object_store", "AWS SDK", "opentelemetry-otlp", "Go's", "curl"]);
    for name in known {
        let first = |row: &&&str| row.split(" | ").next().is_some_and(|cell| cell.contains(name));
        assert!(rows.iter().any(|row| first(&row)), "{name} has no row");
    }
    for row in rows {
        let code: Vec<_> = links(row).into_iter().filter(|link| link.ends_with(".rs")).collect();
        assert!(!code.is_empty(), "nothing is compiled for: {row}");
        for file in code {
            let path = Path::new(file);
            // A file in `integrations` is compiled only if its crate names it; the other crates' own tests see to that.
            if let Ok(inside) = path.strip_prefix("integrations") {
                let module = path.file_stem().and_then(|name| name.to_str()).expect("a name");
                let roots =
                    if inside.starts_with("src") { "integrations/src/lib.rs" } else { "integrations/tests/it/main.rs" };
                let named = fs::read_to_string(root().join(roots)).expect("a crate's root");
                assert!(named.contains(&format!("mod {module};\n")), "{file} is in no crate");
            }
        }
    }
}

/// The rows of the limits: what is limited, and the tests within and beyond.
fn limits(page: &str) -> Vec<[&str; 4]> {
    let table = page.split("\n| limit | default | just within | just beyond |\n").nth(1).expect("the table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        cells.try_into().unwrap_or_else(|_| panic!("four cells: {row}"))
    })
    .collect()
}

#[test]
fn every_limit_has_a_test_on_both_sides() {
    let page = readme();
    let corpus = fs::read_to_string(root().join("tests/hostile/README.md")).expect("the corpus");
    let limits = limits(&page);
    for [limit, _, within, beyond] in &limits {
        for side in [within, beyond] {
            let cases: Vec<&str> = side.split('"').skip(1).step_by(2).collect();
            let missing: Vec<_> = cases.iter().filter(|case| !corpus.contains(&format!("\n| {case} |"))).collect();
            assert!(missing.is_empty(), "{limit}: not in the corpus: {missing:?}");
            // That the others exist is looked at above.
            assert!(!cases.is_empty() || !named(side).is_empty(), "{limit}: {side}");
        }
    }
    // And no option that limits something is missing.
    let named: BTreeSet<&str> = limits.iter().flat_map(|[limit, ..]| limit.split('`').skip(1).step_by(2)).collect();
    for file in ["src/builder/limits.rs", "src/builder/pooling.rs"] {
        let source = fs::read_to_string(root().join(file)).expect("a source");
        let options: Vec<_> = source.lines().filter_map(|line| line.trim().strip_prefix("pub fn ")).collect();
        assert!(options.len() > 8, "{file}: the options were not found");
        for option in options.iter().filter_map(|option| option.split('(').next()) {
            assert!(named.contains(option), "{option} has no row among the limits");
        }
    }
}
