//! Runs one row: `request ROW PROTOCOL LOAD REQUESTS`, started by `bench/run`. LOAD `workers`: two threads, 64 at once.
//!
//! Nothing is counted inside. Callgrind collects while the thread is in the library's measured function, or of the whole
//! process; natively, the processor time of the measured part is printed in microseconds per request.

use std::fs;

use httptrace_bench::{Bench, BoxError, Meter, Row, Workload, serve};

/// Processor time of all threads of this process.
struct Cpu {
    nanos: u64,
}

impl Meter for Cpu {
    fn meter(&mut self, region: impl FnOnce()) {
        let before = cpu_nanos();
        region();
        self.nanos = cpu_nanos().saturating_sub(before);
    }
}

/// What the kernel charged so far (Linux; 0 where it does not say).
fn cpu_nanos() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        [row, protocol, "workers", requests] => {
            let workload = Workload::parse(protocol, "c64", requests)?;
            let mut cpu = Cpu { nanos: 0 };
            Bench::new(workload)?.run_workers(Row::parse(row)?, &mut cpu)?;
            println!("{:.1}", cpu.nanos as f64 / 1e3 / workload.requests as f64);
            Ok(())
        }
        [row, protocol, load, requests] => {
            let workload = Workload::parse(protocol, load, requests)?;
            let mut cpu = Cpu { nanos: 0 };
            Bench::new(workload)?.run(Row::parse(row)?, &mut cpu)?;
            println!("{:.1}", cpu.nanos as f64 / 1e3 / workload.requests as f64);
            Ok(())
        }
        _ => Err("usage: request ROW h1|h1tls|h2 seq|c64|new|big|workers REQUESTS".into()),
    }
}
