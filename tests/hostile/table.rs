//! The corpus as the table of `README.md`: it is the same, or the test says how it should be.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use crate::{
    case::{Ask, Case, Ends, Next, Time},
    corpus,
};

fn told(ends: Ends) -> (String, String) {
    match ends {
        Ends::Answer(status, _) => (format!("none: {status}"), "–".to_owned()),
        Ends::Dies(any) => {
            let mut types: Vec<_> = any.iter().map(|(_, error_type)| format!("`{error_type}`")).collect();
            let mut phases: Vec<_> = any.iter().map(|(phase, _)| (*phase).to_owned()).collect();
            types.dedup();
            phases.dedup();
            (types.join(" or "), phases.join(" or "))
        }
    }
}

fn row(case: &Case) -> String {
    let (error_type, phase) = told(case.get);
    let (mut error_type, mut phase) = (error_type, phase);
    if let Some((post_type, post_phase)) = case.post.map(told) {
        write!(error_type, "; POST: {post_type}").expect("a string takes everything");
        write!(phase, "; POST: {post_phase}").expect("a string takes everything");
    }
    let asks: Vec<_> = case.asks.iter().map(|ask| method(*ask)).collect();
    let next = match case.next {
        Next::Reuses => "yes".to_owned(),
        Next::Dials if case.closes.is_empty() => "no".to_owned(),
        Next::Dials => format!("no: `{}`", case.closes.join("` or `")),
        Next::Waits => "yes, and waits".to_owned(),
        Next::WaitsOrDials => "no, or waits".to_owned(),
    };
    let time = match case.time {
        Time::AtOnce => "at once".to_owned(),
        Time::Timeout(name) => format!("`{name}`"),
    };
    format!("| {} | {} | {error_type} | {phase} | {next} | {time} |", case.name, asks.join(" "))
}

fn method(ask: Ask) -> &'static str {
    match ask {
        Ask::Get => "GET",
        Ask::Post => "POST",
        Ask::Head => "HEAD",
    }
}

#[test]
fn the_page_has_the_corpus() {
    let mut wanted = String::new();
    for (group, cases) in corpus() {
        write!(wanted, "### {group}\n\n").expect("a string takes everything");
        wanted.push_str("| the origin | asked | `error.type` | phase | reused | ends |\n|---|---|---|---|---|---|\n");
        for case in &cases {
            writeln!(wanted, "{}", row(case)).expect("a string takes everything");
        }
        wanted.push('\n');
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/README.md");
    let text = fs::read_to_string(&page).expect("the page");
    let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (table, after) = rest.split_once(END).expect("where it ends");
    if table.trim() != wanted.trim() {
        let fresh = std::env::var_os("HOSTILE_TABLE").is_some();
        if fresh {
            fs::write(&page, format!("{before}{BEGIN}\n\n{wanted}{END}{after}")).expect("a page to write");
        }
        assert!(fresh, "the table is not the corpus; HOSTILE_TABLE=1 writes it anew");
    }
}

#[test]
fn the_corpus_is_large_and_no_name_is_there_twice() {
    let mut names: Vec<_> = corpus().into_iter().flat_map(|(_, cases)| cases).map(|case| case.name).collect();
    assert!(names.len() >= 100, "{} cases", names.len());
    names.sort_unstable();
    let unsaid: Vec<_> = corpus().into_iter().flat_map(|(_, cases)| cases).filter(|case| case.is_left()).collect();
    assert!(unsaid.iter().all(|case| !case.closes.is_empty()), "why a connection is left stands in its row");
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a name is there twice");
}

const BEGIN: &str = "<!-- the corpus -->";
const END: &str = "<!-- the end of the corpus -->";

#[test]
fn the_lines_that_make_cases_fail_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("tests/hostile/README.md")).expect("the page");
    let names: Vec<_> = corpus().into_iter().flat_map(|(_, cases)| cases).map(|case| case.name).collect();
    let mut lined = BTreeSet::new();
    let (_, lines) = page.split_once("| line | changed | fails |\n|---|---|---|\n").expect("the table");
    for row in lines.lines() {
        let row = row.replace("\\|", "\u{1}");
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('\u{1}', "|")).collect();
        let [line, _, cases] = cells.as_slice() else { panic!("three cells: {row}") };
        let (file, line) = line.trim_matches('`').split_once("`: `").expect("a file and its line");
        let source = fs::read_to_string(root.join(file)).expect("a source");
        assert!(source.contains(line), "{file} has no line {line:?}");
        for case in cases.split("; ") {
            assert!(names.contains(&case), "no case {case:?}");
            lined.insert(case.to_owned());
        }
    }
    let without: Vec<_> = names.iter().filter(|name| !lined.contains(**name)).collect();
    assert!(without.is_empty(), "no line makes them fail: {without:?}");
}
