//! Spans and metrics, end to end: real requests to real origins, seen by the exporters of the OpenTelemetry SDK.
//!
//! In come requests, some under a span of the test's own; out come the trees, identities, links and failures that the
//! documentation promises. Each test of spans runs twice: with spans of the SDK in memory, and past the SDK, as a collector
//! gets them.

mod burst;
mod lanes;
pub(crate) mod metrics;
pub(crate) mod scene;

macro_rules! in_lane {
    ($module:ident, $lane:ident) => {
        #[allow(clippy::duplicate_mod, reason = "the same tests in either lane")]
        #[path = "spans"]
        mod $module {
            /// Scenes of this lane.
            mod scene {
                pub(super) use crate::spans::scene::*;
                pub(super) type Scene = crate::spans::scene::In<$lane>;
            }

            mod captured;
            mod detail;
            mod facts;
            mod failing;
            mod propagation;
            mod tree;
        }
    };
}

in_lane!(of_the_sdk, Sdk);
in_lane!(past_the_sdk, Otlp);
