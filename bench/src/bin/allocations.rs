//! Runs one row and prints the allocations per request of its thread: `allocations ROW REQUESTS`.
//!
//! A binary of its own, because linking the counter replaces the global allocator, which the instruction counts are
//! not to pay for.

use httptrace_bench::{Bench, BoxError, Meter, Origin, Row, serve};

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
        [row, requests] => {
            let mut allocations = Allocations::default();
            let requests: u32 = requests.parse()?;
            Bench::new(requests as usize)?.run(Row::parse(row)?, &Origin::start()?, &mut allocations)?;
            println!("{:.1}", allocations.0 as f64 / f64::from(requests));
            Ok(())
        }
        _ => Err("usage: allocations hyper-util|nothing-installed|sampled|reqwest REQUESTS".into()),
    }
}
