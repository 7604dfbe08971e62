//! Runs requests in a crowd: `crowd hosts|idle|waiters SIZE REQUESTS`, started by `bench/run` under callgrind.

use httptrace_bench::{Bench, BoxError, Crowd, Meter, Workload, serve};

/// Callgrind counts.
struct Outside;

impl Meter for Outside {
    fn meter(&mut self, region: impl FnOnce()) {
        region();
    }
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        [crowd, size, requests] => {
            let bench = Bench::new(Workload::parse("h1", "seq", requests)?)?;
            bench.run_in(Crowd::parse(crowd)?, size.parse()?, &mut Outside)
        }
        _ => Err("usage: crowd hosts|idle|waiters SIZE REQUESTS".into()),
    }
}
