//! A backend as a child process: a folder for what it writes, ports to listen on, a signal, an end.
//!
//! In comes a command line; out goes a process that is killed when its owner is dropped.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

/// A running program.
pub(crate) struct Process {
    child: Mutex<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it says goes to `log` in its folder.
    pub(crate) fn start(mut command: Command, folder: &Path, log: &str) -> Self {
        let log = folder.join(log);
        let file = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).current_dir(folder);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
        Self { child: child.into(), log }
    }

    /// A stopped process keeps its ports and answers nobody (`STOP`), until it may go on (`CONT`).
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.lock().unwrap().id();
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {id}")).status().unwrap();
        assert!(sent.success(), "{id} is gone:\n{}", self.said());
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks `ready` until it says yes. A program of another make has no gate to wait at. False if the process has ended.
    pub(crate) async fn until_ready(&self, ready: impl AsyncFn() -> bool) -> bool {
        for _ in 0..600 {
            if self.child.lock().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if ready().await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not ready after 30 seconds:\n{}", self.said());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A port that nobody listens on. Below those that the system gives to who asks for any, so that none is given away
/// between this look and the use, nor while a backend is down.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 600).unwrap() * 32;
    for _ in 0..2000 {
        let port = 12_000 + own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// A file or folder of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// An empty folder of this process's own.
pub(crate) fn folder(kind: &str) -> PathBuf {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("backends").join(format!("{}-{number}-{kind}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}
