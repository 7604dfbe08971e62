//! Builds the copy, and runs one test for each mutant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{Mutant, root};

/// What a mutant may take: who hangs is caught as well.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// The source that has this test: the path is `lib` or a folder of `tests`, and the modules.
pub(crate) fn file_of(path: &[&str]) -> String {
    let (folder, modules) = match path {
        ["lib", modules @ ..] => ("src".to_owned(), modules),
        [target, modules @ ..] => (format!("tests/{target}"), modules),
        [] => panic!("no test"),
    };
    let modules = modules.strip_suffix(&["tests"]).unwrap_or(modules).join("/");
    let file = format!("{folder}/{modules}.rs");
    if root().join(&file).exists() { file } else { format!("{folder}/{modules}/mod.rs") }
}

/// The mutants that no test catches, and tests that fail without one.
pub(crate) fn survivors(sources: &BTreeMap<&str, String>, mutants: &[Mutant]) -> Vec<String> {
    let wanted = std::env::var("MUTANTS").unwrap_or_default();
    let of_name = |(number, mutant): &(usize, &Mutant)| {
        let name = mutant.name(*number);
        wanted.split(',').any(|wanted| name.contains(wanted))
    };
    let chosen: Vec<_> = (1..).zip(mutants).filter(of_name).collect();
    let binaries = build(&copy(sources));
    let tests: BTreeSet<_> = chosen.iter().map(|(_, mutant)| mutant.fails).collect();
    let mut faults = run_all(&tests.into_iter().collect::<Vec<_>>(), |test| {
        let passes = run(&binaries, test, 0);
        (!passes).then(|| format!("fails without a mutant: {test}"))
    });
    faults.extend(run_all(&chosen, |(number, mutant)| {
        let passes = run(&binaries, mutant.fails, *number);
        passes.then(|| mutant.name(*number))
    }));
    faults
}

/// All jobs, a few at a time.
fn run_all<T: Sync>(jobs: &[T], job: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(2, usize::from) + 1;
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(one) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(fault) = job(one) {
                        found.lock().expect("nobody panics under it").push(fault);
                    }
                }
            });
        }
    });
    found.into_inner().expect("nobody panics under it")
}

/// A copy of the crate below `target/`: the sources that are changed, and links to all the rest.
fn copy(sources: &BTreeMap<&str, String>) -> PathBuf {
    let copy = root().join("target/mutants");
    for entry in fs::read_dir(root()).expect("the crate") {
        let name = entry.expect("an entry").file_name();
        if !["src", "target", ".git"].iter().any(|other| name == *other) {
            let _ = fs::remove_file(copy.join(&name));
            link(&root().join(&name), &copy.join(&name)).expect("a link");
        }
    }
    copy_folder(Path::new("src"), &copy, sources);
    copy
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> io::Result<()> {
    fs::create_dir_all(at.parent().expect("a folder"))?;
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::other("the copy is made of symbolic links"))
}

fn copy_folder(folder: &Path, copy: &Path, sources: &BTreeMap<&str, String>) {
    fs::create_dir_all(copy.join(folder)).expect("a folder");
    for entry in fs::read_dir(root().join(folder)).expect("a folder") {
        let path = folder.join(entry.expect("an entry").file_name());
        if root().join(&path).is_dir() {
            copy_folder(&path, copy, sources);
            continue;
        }
        let text = || fs::read_to_string(root().join(&path)).expect("a source");
        let mut text = sources.get(path.to_str().expect("text")).cloned().unwrap_or_else(text);
        if path == Path::new("src/lib.rs") {
            text.push_str(SWITCH);
        }
        // What is the same is not built again.
        let at = copy.join(&path);
        if fs::read_to_string(&at).ok().as_ref() != Some(&text) {
            fs::write(at, text).expect("a copy");
        }
    }
}

const SWITCH: &str = r#"
/// Whether this mutant is on.
pub(crate) fn mutant(number: u32) -> bool {
    static ON: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var("MUTANT").ok().and_then(|on| on.parse().ok()).unwrap_or(0)) == number
}
"#;

/// Takes the dependencies along that this test was built with, so that they need not be built again.
fn warm(target: &Path) {
    if target.exists() {
        return;
    }
    for folder in ["deps", "build", ".fingerprint"] {
        let (from, to) = (root().join("target/debug").join(folder), target.join("debug").join(folder));
        fs::create_dir_all(&to).expect("a folder");
        let entries = fs::read_dir(from).into_iter().flatten().map(|entry| entry.expect("an entry").path());
        let names = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        // What is built of this crate are its libraries and its tests, which are no libraries.
        let others = entries.filter(|path| {
            let name = names(path).unwrap_or_default();
            !name.contains("httptrace") && (folder != "deps" || name.starts_with("lib"))
        });
        // Its times are what cargo knows them by.
        let copied = Command::new("cp").arg("-a").args(others).arg(to).status();
        assert!(copied.is_ok_and(|status| status.success()), "the dependencies were not copied");
    }
}

/// The test binaries of the copy by their targets.
fn build(copy: &Path) -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--no-run", "--locked", "--message-format=json", "--lib", "--test", "it", "--test", "hostile"]);
    // What cargo told this test of its own build would have dependencies built again that look at it.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
        cargo.env_remove(name);
    }
    // A folder of its own: in one, the artifacts of the crate and of its copy would have the same names.
    let target = copy.join("target");
    warm(&target);
    cargo.env("CARGO_TARGET_DIR", target).current_dir(copy);
    let output = cargo.stderr(Stdio::inherit()).output().expect("cargo");
    let told = String::from_utf8(output.stdout).expect("JSON");
    let lines = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let mut binaries = BTreeMap::new();
    for line in lines {
        if let Some(error) = line["message"]["rendered"].as_str().filter(|_| line["message"]["level"] == "error") {
            eprintln!("{error}");
        }
        let (kind, name) = (line["target"]["kind"][0].as_str(), line["target"]["name"].as_str());
        if let (Some(kind), Some(name), Some(path)) = (kind, name, line["executable"].as_str()) {
            binaries.insert(if kind == "lib" { "lib" } else { name }.to_owned(), path.into());
        }
    }
    assert!(output.status.success(), "the copy does not build");
    binaries
}

/// Whether the test passes with this mutant.
fn run(binaries: &BTreeMap<String, PathBuf>, test: &str, number: usize) -> bool {
    let case = test.strip_prefix("hostile: ");
    let (target, name) = match case {
        Some(_) => ("hostile", "harm_nobody"),
        None => test.split_once("::").expect("a target and its test"),
    };
    let mut command = Command::new(&binaries[target]);
    command
        .arg(name)
        .env("MUTANT", number.to_string())
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    match case {
        Some(case) => command.env("HOSTILE_CASE", case).arg("what_a_peer_controls"),
        None => command.arg("--exact"),
    };
    let mut child = command.spawn().expect("it starts");
    let passes = ended(&mut child);
    let mut told = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut told).expect("text");
    // A name that is none would pass.
    passes && (case.is_some() || told.contains("1 passed"))
}

/// Whether it ends well, in time.
fn ended(child: &mut Child) -> bool {
    for _ in 0..LIMIT.as_millis() / PAUSE.as_millis() {
        match child.try_wait().expect("a child of ours") {
            Some(status) => return status.success(),
            None => thread::sleep(PAUSE),
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}
