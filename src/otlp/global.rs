//! The provider as the process's global one, which hides the types behind it.
//!
//! In: spans, as the application and clients start them. Out: the same spans of the SDK. It only tells a client that asks for
//! the lane that nobody has put anything between the two.

use std::borrow::Cow;

use opentelemetry::{
    Context, InstrumentationScope,
    global::BoxedTracer,
    trace::{SpanBuilder, Tracer, TracerProvider},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

use crate::views::spans::lane::Question;

/// The provider.
#[derive(Debug)]
pub(super) struct Global(pub(super) SdkTracerProvider);

impl TracerProvider for Global {
    type Tracer = GlobalTracer;

    fn tracer(&self, name: impl Into<Cow<'static, str>>) -> GlobalTracer {
        GlobalTracer(self.0.tracer(name))
    }

    fn tracer_with_scope(&self, scope: InstrumentationScope) -> GlobalTracer {
        GlobalTracer(self.0.tracer_with_scope(scope))
    }
}

/// Its tracers.
#[derive(Debug)]
pub(super) struct GlobalTracer(SdkTracer);

impl Tracer for GlobalTracer {
    type Span = Span;

    fn build_with_context(&self, builder: SpanBuilder, context: &Context) -> Span {
        if let Some(question) = context.get::<Question>() {
            question.vouch::<BoxedTracer>();
        }
        self.0.build_with_context(builder, context)
    }
}
