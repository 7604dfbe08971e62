//! The demo of `docker-compose.yml`: its own commands, run on this machine.
//!
//! In comes the compose file; only hosts, ports, folders and the number of rounds are replaced. Out comes an origin that
//! counts, and a load that ends. The programs are those that cargo built last.

use std::{
    fs,
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use serde_json::Value;

use crate::{
    compose::Compose,
    process::{Process, folder, free_port},
    query,
};

/// The origin, running.
pub(crate) struct Demo {
    origin: Process,
    pub(crate) folder: PathBuf,
    ports: Value,
    /// A port where nobody listens.
    closed: u16,
}

/// What a run of the load is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) rounds: u32,
    pub(crate) at_once: u32,
    /// Host by host, not from one to the other: more connections are used again.
    pub(crate) sorted: bool,
    /// A body for every request.
    pub(crate) body: Option<&'static str>,
    /// The process that its metrics say they are of.
    pub(crate) process: &'static str,
    /// Milliseconds between two exports; the last one is made at the end.
    pub(crate) export_every: u32,
}

impl Demo {
    /// The origin of the compose file.
    pub(crate) async fn start() -> Self {
        let folder = folder("demo");
        let mut words = Compose::read().service("origin").command();
        for word in &mut words {
            match word.as_str() {
                "origin" => *word = "localhost".to_owned(),
                "/certificates" => *word = folder.display().to_string(),
                "0.0.0.0" => *word = "127.0.0.1".to_owned(),
                _ => {}
            }
        }
        let mut command = Command::new(program(&words[0]));
        command.args(&words[1..]).args(["--first-port", "0"]);
        let origin = Process::start(command, &folder, "origin.log");
        let told = async || origin.said().ends_with('\n');
        assert!(origin.until_ready(told).await, "the origin does not start:\n{}", origin.said());
        let ports = serde_json::from_str(&origin.said()).expect("the ports");
        Self { origin, folder, ports, closed: free_port() }
    }

    /// Where a door is, as metrics name it.
    pub(crate) fn address(&self, door: &str) -> String {
        let port = if door == "closed" { self.closed.into() } else { self.ports[door].as_u64().expect("a door") };
        format!("localhost:{port}")
    }

    /// A door, or the host that is not there, as the panels name it.
    pub(crate) fn host(&self, door: &str) -> String {
        if door == "nowhere" { "nowhere.invalid:443".to_owned() } else { self.address(door) }
    }

    /// All hosts of the load.
    pub(crate) fn everywhere(&self) -> Vec<String> {
        ["h2", "h1", "stranger", "mute", "closed", "nowhere"].map(|door| self.host(door)).to_vec()
    }

    /// How many addresses `localhost` has here: each is tried where none answers.
    pub(crate) fn addresses(&self) -> f64 {
        ("localhost", self.closed).to_socket_addrs().expect("localhost").count() as f64
    }

    /// What the origin counted, once all connections of the load are over.
    pub(crate) async fn counts(&self) -> Value {
        let url = format!("http://{}/counts", self.address("counts").replace("localhost", "127.0.0.1"));
        for _ in 0..100 {
            let counts = query::get(&url, &[]).await.expect("the counts");
            let over = |door: &str| {
                let ends = counts[door]["ends"].as_object().expect("ends");
                let ended: u64 = ends.values().filter_map(|ended| ended["connections"].as_u64()).sum();
                counts[door]["handshakes"].as_u64() == Some(ended)
            };
            if over("h1") && over("h2") {
                return counts;
            }
            // Another process, which is told by its sockets alone that the load is gone.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the origin still has connections");
    }

    /// The load of the compose file, made finite.
    pub(crate) fn load(&self, shape: Shape, otlp: &str) -> (ExitStatus, Vec<Value>) {
        let service = Compose::read().service("load").command();
        let [shell, option, script] = &service[..] else { panic!("sh -c SCRIPT: {service:?}") };
        let (mut urls, rest): (Vec<_>, Vec<_>) = script.split(' ').partition(|word| word.starts_with("https://"));
        if shape.sorted {
            urls.sort_unstable();
        }
        let (redirection, options) = rest.split_last().expect("a script");
        let script = [options, &urls, &[*redirection]].concat().join(" ");
        let lines = self.folder.join("attempts.json");
        let body = shape.body.map_or_else(String::new, |body| format!("-d {body} "));
        let script = self.here(
            &script,
            &[
                ("-n 4000000000 -c 3 ", &format!("-n {} -c {} {body}", shape.rounds, shape.at_once)),
                (">/dev/null", &format!(">{}", lines.display())),
            ],
        );
        let mut command = Command::new(shell);
        command.arg(option).arg(script).envs(load_environment(otlp));
        command.env("OTEL_METRIC_EXPORT_INTERVAL", shape.export_every.to_string());
        command.env("OTEL_RESOURCE_ATTRIBUTES", format!("service.instance.id={}", shape.process));
        let status = command.status().expect("a shell");
        let attempts = fs::read_to_string(lines).expect("the attempts");
        (status, attempts.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
    }

    /// A script of the compose file, with the names of this machine.
    pub(crate) fn here(&self, script: &str, also: &[(&str, &str)]) -> String {
        let doors = [
            ("8443", "h2"),
            ("8444", "h1"),
            ("8445", "stranger"),
            ("8446", "mute"),
            ("8447", "counts"),
            ("8450", "closed"),
        ];
        let mut script = script.to_owned();
        for (port, door) in doors {
            script = script.replace(&format!("//origin:{port}"), &format!("//{}", self.address(door)));
        }
        for (there, here) in also {
            assert_eq!(script.matches(there).count(), 1, "{there} in {script}");
            script = script.replace(there, here);
        }
        script = script.replace("/certificates/", &format!("{}/", self.folder.display()));
        let script = script.replacen("httptrace ", &format!("{} ", program("httptrace").display()), 1);
        assert!(!script.contains("origin"), "a host of the compose file is left in {script}");
        script
    }

    /// How often the load asks at a door in each round.
    pub(crate) fn urls_at(&self, start: &str) -> usize {
        let script = Compose::read().service("load").command().pop().expect("a script");
        script.split_whitespace().filter(|word| word.starts_with(start)).count()
    }
}

/// The load's own environment, and where to export to on this machine.
pub(crate) fn load_environment(otlp: &str) -> Vec<(String, String)> {
    let environment = Compose::read().service("load").environment();
    environment.into_iter().map(|(name, value)| (name, value.replace("http://jaeger:4318", otlp))).collect()
}

/// A program that cargo built.
pub(crate) fn program(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_httptrace")).with_file_name(name);
    assert!(program.is_file(), "{} is missing: run `cargo build --package {name}`", program.display());
    program
}

/// A health check of the compose file, run here. Returns whether it finds the service healthy.
fn is_healthy(demo: &Demo, service: &str) -> bool {
    let check = Compose::read().service(service).health_check();
    let (kind, words) = check.split_first().expect("a kind");
    assert!(["CMD", "CMD-SHELL"].contains(&kind.as_str()));
    let script = demo.here(&words.join(" "), &[]);
    Command::new("sh").arg("-c").arg(script).stdout(Stdio::null()).status().expect("a shell").success()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the demo's origin: .ci/run full"]
async fn the_health_checks_tell_a_demo_that_lives_from_one_that_does_not() {
    let demo = Demo::start().await;
    assert!(is_healthy(&demo, "origin"), "the origin answers");
    assert!(!is_healthy(&demo, "load"), "nobody has asked for anything yet");
    let shape = Shape { rounds: 1, at_once: 8, sorted: false, body: None, process: "health", export_every: 600_000 };
    // A collector that is not there costs the load nothing but a warning.
    let (status, _) = tokio::task::block_in_place(|| demo.load(shape, "http://127.0.0.1:9"));
    assert_eq!(status.code(), Some(92), "the first URL that fails is a stream that is reset");
    assert!(is_healthy(&demo, "load"), "the origin has been asked for something");
    demo.origin.signal("STOP");
    assert!(!is_healthy(&demo, "origin"), "nobody answers");
    demo.origin.signal("CONT");
}
