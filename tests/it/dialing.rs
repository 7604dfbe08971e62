//! How connections come about: addresses that race, lookups and dials that are shared.

mod cold;
mod hickory;
mod lookups;
mod racing;

use std::time::Duration;

use httptrace::{Timeline, timeline::SetupDetail};

/// A limit of the client that only `pass` reaches.
const LIMIT: Duration = Duration::from_secs(600);

/// The connects of a record in the order of their numbers: peer without its port, and how it ended.
fn connects(timeline: &Timeline) -> Vec<(String, &'static str)> {
    let connects = timeline.setup.iter().filter_map(|step| match &step.detail {
        SetupDetail::Connect { peer, attempt, .. } => {
            let outcome = step.error.as_ref().map_or("connected", httptrace::Error::error_type);
            Some((*attempt, (*peer)?.ip().to_string(), outcome))
        }
        _ => None,
    });
    let connects: Vec<_> = connects.collect();
    let numbers: Vec<_> = connects.iter().map(|(attempt, ..)| *attempt).collect();
    assert_eq!(numbers, (1..=u32::try_from(connects.len()).expect("few")).collect::<Vec<_>>());
    connects.into_iter().map(|(_, peer, outcome)| (peer, outcome)).collect()
}
