//! Runs one row: `request ROW PROTOCOL LOAD REQUESTS`, started by `bench/run`. LOAD `workers`: two threads, 64 at once.
//!
//! Nothing is counted inside. Callgrind collects while the thread is in the library's measured function, or of the whole
//! process; natively, the processor time of the measured part is printed in microseconds per request: of the process, and of the
//! request's thread (with `workers`, that is the one which waits for them).

use std::{fs, path::Path};

use httptrace_bench::{Bench, BoxError, Meter, Row, Workload, serve};

/// Processor time of all threads of this process, exporters included, and of this one.
#[derive(Default)]
struct Cpu {
    process: u64,
    thread: u64,
}

impl Cpu {
    /// In microseconds for each request.
    fn print(&self, requests: usize) {
        let each = |nanos: u64| nanos as f64 / 1e3 / requests as f64;
        println!("{:.1} {:.1}", each(self.process), each(self.thread));
    }
}

impl Meter for Cpu {
    fn meter(&mut self, region: impl FnOnce()) {
        let before = (cpu_nanos(), nanos_of(Path::new("/proc/thread-self")).unwrap_or_default());
        region();
        self.process = cpu_nanos().saturating_sub(before.0);
        self.thread = nanos_of(Path::new("/proc/thread-self")).unwrap_or_default().saturating_sub(before.1);
    }
}

/// What the kernel charged so far (Linux; 0 where it does not say).
fn cpu_nanos() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    tasks.filter_map(|task| nanos_of(&task.ok()?.path())).sum()
}

fn nanos_of(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        [row, protocol, "workers", requests] => {
            let workload = Workload::parse(protocol, "c64", requests)?;
            let mut cpu = Cpu::default();
            Bench::new(workload)?.run_workers(Row::parse(row)?, &mut cpu)?;
            cpu.print(workload.requests);
            Ok(())
        }
        [row, protocol, load, requests] => {
            let workload = Workload::parse(protocol, load, requests)?;
            let mut cpu = Cpu::default();
            Bench::new(workload)?.run(Row::parse(row)?, &mut cpu)?;
            cpu.print(workload.requests);
            Ok(())
        }
        _ => Err("usage: request ROW h1|h1tls|h2 seq|c64|new|big|workers REQUESTS".into()),
    }
}
