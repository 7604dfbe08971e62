//! Many durations in bounded memory, and their percentiles.
//!
//! In: nanoseconds. Out: count, extremes and nearest-rank percentiles. A duration is kept as its eleven highest bits, so a
//! percentile is off by at most 0.05 %, which three shown digits hide; as the keys of one phase span a few powers of two,
//! there are some thousand of them for a million requests. The extremes are exact. A histogram crate does no more for
//! this, and would be a dependency of every user of the library.

use std::collections::BTreeMap;

/// Durations as a histogram.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations {
    count: u64,
    min: u64,
    max: u64,
    counts: BTreeMap<u64, u64>,
}

/// How many of a duration's bits are kept.
const KEPT: u32 = 11;

impl Durations {
    pub(super) fn add(&mut self, nanos: u64) {
        self.min = if self.count == 0 { nanos } else { self.min.min(nanos) };
        self.max = self.max.max(nanos);
        self.count += 1;
        *self.counts.entry(rounded(nanos)).or_default() += 1;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    pub(super) fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// Nearest rank: what `per_mille` of the durations do not exceed.
    pub(super) fn percentile(&self, per_mille: u64) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(per_mille)).div_ceil(1_000).max(1);
        if rank >= u128::from(self.count) {
            return self.max();
        }
        let mut seen = 0;
        let found = self.counts.iter().find(|(_, count)| {
            seen += u128::from(**count);
            seen >= rank
        });
        found.map(|(nanos, _)| (*nanos).clamp(self.min, self.max))
    }

    /// How they are spread from the shortest to the longest: the shares of equal ratios, the largest share as 1.
    pub(super) fn spread<const CELLS: usize>(&self) -> [f64; CELLS] {
        let mut cells = [0.0; CELLS];
        let ratio = (self.max as f64 / self.min.max(1) as f64).ln();
        for (nanos, count) in &self.counts {
            let place = (*nanos as f64 / self.min.max(1) as f64).max(1.0).ln() / ratio.max(f64::MIN_POSITIVE);
            // A float becomes the nearest integer that there is.
            cells[((place * CELLS as f64) as usize).min(CELLS - 1)] += *count as f64;
        }
        let most = cells.iter().copied().fold(1.0, f64::max);
        cells.map(|count| count / most)
    }
}

/// The nearest number that has only the highest bits.
fn rounded(nanos: u64) -> u64 {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(KEPT);
    let half = (1 << shift) >> 1;
    (nanos.saturating_add(half) >> shift) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nanos: impl IntoIterator<Item = u64>) -> Durations {
        let mut durations = Durations::default();
        nanos.into_iter().for_each(|nanos| durations.add(nanos));
        durations
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let durations = of(1..=100);
        assert_eq!([500, 900, 990, 1_000].map(|p| durations.percentile(p)), [50, 90, 99, 100].map(Some));
        assert_eq!(of([7]).percentile(500), Some(7));
        assert_eq!(
            of([5_000, 1_234_567]).percentile(990),
            Some(1_234_567),
            "the last one is the longest, to the nanosecond"
        );
        assert_eq!((of([]).percentile(500), of([]).min(), of([]).max()), (None, None, None));
    }

    #[test]
    fn percentiles_are_right_within_what_is_shown() {
        let exact: Vec<u64> = (0..100_000).map(|i| 50_000 + i * i / 7).collect();
        let durations = of(exact.iter().copied());
        for per_mille in [1, 500, 900, 950, 990, 999, 1_000] {
            let truth = exact[(exact.len() * per_mille / 1_000).max(1) - 1];
            let told = durations.percentile(per_mille as u64).expect("there are some");
            assert!(told.abs_diff(truth) * 2_000 <= truth, "{per_mille}: {told} for {truth}");
        }
        assert_eq!((durations.min(), durations.max()), (Some(50_000), exact.last().copied()));
    }

    #[test]
    fn the_spread_has_equal_ratios() {
        assert_eq!(of([1_000, 10_000, 10_000, 99_000]).spread::<2>(), [1.0 / 3.0, 1.0]);
        assert_eq!(of([1_000, 1_000]).spread::<4>(), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(of([0, 0]).spread::<2>(), [1.0, 0.0]);
    }

    #[test]
    fn a_million_durations_need_a_few_thousand_keys() {
        // From 10 µs to 10 s, as spread as can be.
        let durations = of((0..1_000_000).map(|i| 10_000 + i * 10_000));
        assert!(durations.counts.len() < 12_000, "{}", durations.counts.len());
        of([0, 1, u64::MAX]).percentile(1_000).expect("the extremes are no trouble");
    }
}
