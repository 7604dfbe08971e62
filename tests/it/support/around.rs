//! What an application puts around a provider of spans: it adds the attribute `added` to each.

use std::borrow::Cow;

use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    trace::{Span as _, SpanBuilder, Tracer, TracerProvider},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// The provider.
pub(crate) struct Around(pub(crate) SdkTracerProvider);

pub(crate) struct TracerAround(SdkTracer);

impl TracerProvider for Around {
    type Tracer = TracerAround;

    fn tracer(&self, name: impl Into<Cow<'static, str>>) -> TracerAround {
        TracerAround(self.0.tracer(name))
    }

    fn tracer_with_scope(&self, scope: InstrumentationScope) -> TracerAround {
        TracerAround(self.0.tracer_with_scope(scope))
    }
}

impl Tracer for TracerAround {
    type Span = opentelemetry_sdk::trace::Span;

    fn build_with_context(&self, builder: SpanBuilder, context: &Context) -> Self::Span {
        let mut span = self.0.build_with_context(builder, context);
        span.set_attribute(KeyValue::new("added", true));
        span
    }
}
