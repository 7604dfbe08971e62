//! Runs one row and prints the allocations per request of its thread: `allocations ROW PROTOCOL LOAD REQUESTS`.
//!
//! A binary of its own, because linking the counter replaces the global allocator, which the instruction counts are
//! not to pay for.

use httptrace_bench::{Bench, BoxError, Meter, Row, Workload, serve};

#[derive(Default)]
struct Allocations(u64);

impl Meter for Allocations {
    fn meter(&mut self, region: impl FnOnce()) {
        self.0 = allocation_counter::measure(region).count_total;
    }
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        [row, protocol, load, requests] => {
            let workload = Workload::parse(protocol, load, requests)?;
            let mut allocations = Allocations::default();
            Bench::new(workload)?.run(Row::parse(row)?, &mut allocations)?;
            println!("{:.1}", allocations.0 as f64 / workload.requests as f64);
            Ok(())
        }
        _ => Err("usage: allocations ROW h1|h1tls|h2 seq|c64|new|big REQUESTS".into()),
    }
}
