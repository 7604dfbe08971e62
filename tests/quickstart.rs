//! The quickstart, as a newcomer runs it: it draws what the collector received, and nothing without one.

use std::{path::PathBuf, process::Command};

fn quickstart() -> Command {
    // `cargo test` builds the examples into a folder beside this test's own.
    let mut folder = std::env::current_exe().expect("a path").parent().expect("deps").to_path_buf();
    folder.pop();
    let path: PathBuf = folder.join("examples").join(format!("quickstart{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: run `cargo test` or `cargo build --examples`", path.display());
    let mut command = Command::new(path);
    for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn it_draws_every_phase_from_the_spans_that_the_collector_received() {
    let output = quickstart().output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    let phases = ["get-connection", "dns", "connect", "tls", "request-write", "response-wait", "response-read"];
    for said in
        phases.into_iter().chain(["first-byte", "idle-return", "connection_refused", "shared connection", "3 of 5"])
    {
        assert!(out.contains(said), "{said} is missing in\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "no colours in a pipe");
    let widest = out.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "a line of {widest:?} columns");
}

#[test]
fn without_a_collector_it_draws_nothing_and_fails() {
    let output = quickstart().arg("--no-collector").output().expect("it runs");
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("received no spans"), "{said}");
}
