//! Runs one row for callgrind: `instructions ROW REQUESTS`, started by `bench/run`.
//!
//! Nothing is counted here. Callgrind collects while the thread is inside the library's measured function, and prints
//! the number when the process ends.

use httptrace_bench::{Bench, BoxError, Meter, Origin, Row, serve};

struct Callgrind;

impl Meter for Callgrind {
    fn meter(&mut self, region: impl FnOnce()) {
        region();
    }
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        [row, requests] => Bench::new(requests.parse()?)?.run(Row::parse(row)?, &Origin::start()?, &mut Callgrind),
        _ => Err("usage: instructions hyper-util|nothing-installed|sampled|reqwest REQUESTS".into()),
    }
}
