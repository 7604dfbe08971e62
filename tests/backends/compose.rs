//! `docker-compose.yml`, read: what each service runs, on which image, behind which ports, and how its health is seen.
//!
//! The file's own commands are what the demo's tests run (`demo.rs`), so that the file and the programs can't drift apart.

use std::{collections::BTreeMap, fs, process::Command};

use yaml_rust2::{Yaml, YamlLoader};

use crate::process::{folder, project};

/// The file.
pub(crate) struct Compose(Yaml);

/// One of its services.
pub(crate) struct Service<'a>(&'a Yaml);

impl Compose {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(project("docker-compose.yml")).expect("docker-compose.yml");
        let [file] = &YamlLoader::load_from_str(&text).expect("YAML")[..] else { panic!("one document") };
        Self(file.clone())
    }

    pub(crate) fn services(&self) -> BTreeMap<&str, Service<'_>> {
        let services = self.0["services"].as_hash().expect("services");
        services.iter().map(|(name, service)| (name.as_str().expect("a name"), Service(service))).collect()
    }

    pub(crate) fn service(&self, name: &str) -> Service<'_> {
        Service(&self.0["services"][name])
    }
}

impl Service<'_> {
    /// The command's words.
    pub(crate) fn command(&self) -> Vec<String> {
        words(&self.0["command"])
    }

    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let Some(variables) = self.0["environment"].as_hash() else { return BTreeMap::new() };
        let text = |value: &Yaml| value.as_str().expect("text: other types are read differently by others").to_owned();
        variables.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The health check's words.
    pub(crate) fn health_check(&self) -> Vec<String> {
        words(&self.0["healthcheck"]["test"])
    }

    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }
}

fn words(list: &Yaml) -> Vec<String> {
    let words = list.as_vec().map_or(&[][..], Vec::as_slice);
    words.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// Whether a tag names one version: `v3.13.3`, `2.13.0`.
fn is_pinned(tag: &str) -> bool {
    let numbers: Vec<_> = tag.trim_start_matches('v').split('.').collect();
    numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok())
}

#[test]
fn every_image_is_pinned_to_one_version() {
    for (name, service) in Compose::read().services() {
        let (image, tag) = service.text("image").rsplit_once(':').unwrap_or_else(|| panic!("{name}: no tag"));
        if image == "httptrace-demo" {
            assert_eq!(tag, "local", "{name}: built here");
        } else {
            assert!(is_pinned(tag), "{name}: {tag} is no version");
        }
    }
    let dockerfile = fs::read_to_string(project("Dockerfile")).expect("Dockerfile");
    let bases = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    for image in bases.filter(|image| image.contains(':')) {
        let tag = image.split([':', ' ']).nth(1).expect("a tag");
        let version = tag.split('-').next().expect("a version");
        assert!(version.split('.').count() >= 2 && version.starts_with(|c: char| c.is_ascii_digit()), "{image}");
    }
    assert!(!is_pinned("latest") && !is_pinned("3") && !is_pinned("v3.13"));
}

#[test]
fn every_port_is_on_loopback_and_every_service_has_a_health_check_and_no_secret() {
    let compose = Compose::read();
    let services = compose.services();
    assert_eq!(services.keys().copied().collect::<Vec<_>>(), ["grafana", "jaeger", "load", "origin", "prometheus"]);
    for (name, service) in services {
        for port in words(&service.0["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to the network");
        }
        let check = service.health_check();
        assert!(["CMD", "CMD-SHELL"].contains(&check[0].as_str()) && check.len() > 1, "{name}: {check:?}");
        for variable in service.environment().keys() {
            let secret = ["PASSWORD", "SECRET", "TOKEN", "KEY"].iter().find(|word| variable.contains(**word));
            assert!(secret.is_none(), "{name}: {variable} in a public file is no secret");
        }
    }
}

#[test]
fn what_the_services_mount_is_there() {
    for (name, service) in Compose::read().services() {
        for volume in words(&service.0["volumes"]) {
            let path = volume.split(':').next().expect("a source");
            assert!(!path.starts_with("./") || project(path).exists(), "{name}: {path}");
        }
    }
}

#[test]
fn grafana_lets_nobody_in_but_lets_everybody_look() {
    let environment = Compose::read().service("grafana").environment();
    for (variable, value) in [
        ("GF_AUTH_ANONYMOUS_ENABLED", "true"),
        ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
        ("GF_AUTH_DISABLE_LOGIN_FORM", "true"),
        ("GF_AUTH_BASIC_ENABLED", "false"),
        ("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "true"),
    ] {
        assert_eq!(environment.get(variable).map(String::as_str), Some(value), "{variable}");
    }
}

/// The builds of the Dockerfile with nothing but what it copies, in a folder in place of an image; without optimisation.
#[test]
#[ignore = "builds all dependencies anew: .ci/run full"]
fn the_dockerfile_builds_both_programs_out_of_what_it_copies() {
    let build = folder("dockerfile");
    // What is built of other people's crates is kept from run to run, as the layers of an image are.
    fs::create_dir_all(project("target/dockerfile")).expect("a folder");
    std::os::unix::fs::symlink(project("target/dockerfile"), build.join("target")).expect("a link");
    let dockerfile = fs::read_to_string(project("Dockerfile")).expect("Dockerfile");
    let stages = dockerfile.rsplit_once("\nFROM ").expect("stages").0;
    for line in stages.replace("\\\n", " ").lines() {
        let script = match line.split_once(' ') {
            Some(("COPY", paths)) => {
                let paths: Vec<_> = paths.split_whitespace().collect();
                let (to, from) = paths.split_last().expect("a destination");
                let from: Vec<_> = from.iter().map(|path| project(path).display().to_string()).collect();
                // As COPY does: a folder's contents, into a folder that is made.
                format!(
                    "mkdir -p {to} && for f in {}; do if [ -d $f ]; then cp -r $f/. {to}; else cp $f {to}; fi; done",
                    from.join(" ")
                )
            }
            Some(("RUN", script)) => {
                script.replace("--locked --release", "--locked --offline").replace("target/release", "target/debug")
            }
            _ => continue,
        };
        let done =
            Command::new("sh").args(["-ec", &script]).current_dir(&build).env_remove("CARGO_TARGET_DIR").output();
        let done = done.expect("a shell");
        assert!(done.status.success(), "{script}\n{}", String::from_utf8_lossy(&done.stderr));
    }
    for (program, argument, said) in
        [("httptrace", "--version", "httptrace "), ("httptrace-demo", "--help", "needs a value")]
    {
        let run = Command::new(build.join("target/debug").join(program)).arg(argument).output().expect("the program");
        let output = [run.stdout, run.stderr].concat();
        assert!(String::from_utf8_lossy(&output).contains(said), "{program}: {output:?}");
    }
    let _ = fs::remove_dir_all(build);
}
