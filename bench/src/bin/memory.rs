//! Prints how many bytes the request's thread holds for each of many: `memory idle|in-flight|over ROW MANY`.
//!
//! What another thread frees is not counted, so `over` is for rows that hand nothing to exporters.

use httptrace_bench::{Bench, BoxError, Held, Meter, Row, Workload, serve};

#[derive(Default)]
struct Bytes(i64);

impl Meter for Bytes {
    fn meter(&mut self, region: impl FnOnce()) {
        self.0 = allocation_counter::measure(region).bytes_current;
    }
}

fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        [held, row, many] => {
            let bench = Bench::new(Workload::parse("h1", "seq", many)?)?;
            let mut bytes = Bytes::default();
            bench.hold(Row::parse(row)?, Held::parse(held)?, &mut bytes)?;
            println!("{}", bytes.0 / i64::try_from(bench.many())?);
            Ok(())
        }
        _ => Err("usage: memory idle|in-flight|over raw|nothing-installed|sampled-metrics MANY".into()),
    }
}
