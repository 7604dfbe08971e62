//! Variables whose values are words: exporters, propagators, samplers, temporality.

use opentelemetry_sdk::{metrics::Temporality, trace::Sampler};

use super::{
    super::{Exporter, Propagator},
    values::Env,
};
use crate::views::semconv::MOST_METHODS;

impl Env<'_> {
    /// `otlp`, `console`, `none`, or some of them.
    pub(super) fn exporters(&mut self, name: &str) -> Vec<Exporter> {
        let known = [("otlp", Some(Exporter::Otlp)), ("console", Some(Exporter::Console)), ("none", None)];
        let found = self.words(name, &known).unwrap_or_else(|| vec![Some(Exporter::Otlp)]);
        self.without_none(name, found)
    }

    /// `tracecontext`, `baggage`, `none`, or some of them.
    pub(super) fn propagators(&mut self, name: &str) -> Vec<Propagator> {
        let (context, baggage) = (Some(Propagator::TraceContext), Some(Propagator::Baggage));
        let known = [("tracecontext", context), ("baggage", baggage), ("none", None)];
        let found = self.words(name, &known).unwrap_or_else(|| vec![context, baggage]);
        self.without_none(name, found)
    }

    fn without_none<T>(&mut self, name: &str, found: Vec<Option<T>>) -> Vec<T> {
        if found.len() > 1 && found.iter().any(Option::is_none) {
            self.warn(name, "`none` beside others has no effect");
        }
        found.into_iter().flatten().collect()
    }

    /// Case matters, as it does in HTTP. The list takes the place of the usual one.
    pub(super) fn known_methods(&mut self, name: &str) -> Option<Vec<String>> {
        let mut methods: Vec<String> = Vec::new();
        for method in self.get(name)?.split(',').map(str::trim).filter(|method| !method.is_empty()) {
            if !methods.iter().any(|known| known == method) {
                methods.push(method.to_owned());
            }
        }
        if methods.len() > MOST_METHODS {
            self.warn(name, format_args!("only the first {MOST_METHODS} are told by name"));
            methods.truncate(MOST_METHODS);
        }
        Some(methods)
    }

    pub(super) fn temporality(&mut self, name: &str) -> Temporality {
        let known = [
            ("cumulative", Temporality::Cumulative),
            ("delta", Temporality::Delta),
            ("lowmemory", Temporality::LowMemory),
        ];
        self.word(name, &known, Temporality::Cumulative)
    }

    pub(super) fn sampler(&mut self, name: &str, arg: &str) -> Sampler {
        #[derive(Clone, Copy)]
        enum Which {
            On,
            Off,
            Ratio,
        }
        let known = [
            ("parentbased_always_on", (Which::On, true)),
            ("parentbased_always_off", (Which::Off, true)),
            ("parentbased_traceidratio", (Which::Ratio, true)),
            ("always_on", (Which::On, false)),
            ("always_off", (Which::Off, false)),
            ("traceidratio", (Which::Ratio, false)),
        ];
        let (which, by_parent) = self.word(name, &known, (Which::On, true));
        let root = match which {
            Which::On => Sampler::AlwaysOn,
            Which::Off => Sampler::AlwaysOff,
            Which::Ratio => Sampler::TraceIdRatioBased(self.ratio(arg)),
        };
        if by_parent { Sampler::ParentBased(Box::new(root)) } else { root }
    }

    fn ratio(&mut self, name: &str) -> f64 {
        let given = self.get(name);
        let ratio = given.as_ref().and_then(|value| value.parse().ok()).filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() && given.is_some() {
            self.warn(name, "is no number from 0 to 1; 1 is used");
        }
        ratio.unwrap_or(1.0)
    }
}
