//! OpenTelemetry spans of what is done for events. Nothing is made, and nothing computed for it, until a process exports them.

use std::{borrow::Cow, sync::OnceLock};

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, Value,
    context::FutureExt,
    global::BoxedTracer,
    trace::{SpanContext, SpanKind, Status, TraceContextExt, TraceState, Tracer},
};

use crate::{Event, TraceParent};

static TRACER: OnceLock<BoxedTracer> = OnceLock::new();

/// Makes spans from now on, by `tracer`. Only the first call of a process counts.
pub fn make_spans_by(tracer: BoxedTracer) {
    // The first one stays.
    let _ = TRACER.set(tracer);
}

/// What makes spans, if anything does.
pub fn tracer() -> Option<&'static BoxedTracer> {
    TRACER.get()
}

/// A span that lasts until it is dropped, or none where spans are not made.
pub struct Span(Option<Context>);

impl Span {
    /// The handling of an event: a child of the span that emitted it.
    pub(crate) fn of_handling(event: &Event) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let topic = event.topic.name();
        let mut attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", topic),
            KeyValue::new("messaging.message.id", event.id.to_string()),
            KeyValue::new("tipstaff.job_type", event.job_type.clone()),
            KeyValue::new("tipstaff.run_id", event.trace_parent.trace_id.run().to_string()),
            KeyValue::new("tipstaff.attempt", i64::from(event.attempt)),
        ];
        if let Ok(Belonging { subscription_id }) = serde_json::from_slice(&event.payload) {
            attributes.push(KeyValue::new("tipstaff.subscription_id", subscription_id));
        }
        let builder = tracer
            .span_builder(format!("{topic} process"))
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes);
        let parent = Context::new().with_remote_span_context(span_context(&event.trace_parent));
        Self(Some(parent.with_span(tracer.build_with_context(builder, &parent))))
    }

    /// A part of what is being done, as a child of the span around it; without one, none.
    pub fn child(
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let parent = Context::current();
        if !parent.span().span_context().is_valid() {
            return Self(None);
        }
        let builder = tracer.span_builder(name).with_kind(kind).with_attributes(attributes());
        Self(Some(parent.with_span(tracer.build_with_context(builder, &parent))))
    }

    /// Does `work` in the span: what it does and emits are its children.
    pub fn around<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        let context = self.0.clone();
        async {
            match context {
                Some(context) => work.with_context(context).await,
                None => work.await,
            }
        }
    }

    /// Adds what turned out.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Says that it failed, by the reason alone: messages may have what is nobody's business.
    pub fn fail(&self, reason: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(reason));
            self.set("error.type", reason);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// What the payloads of all jobs have.
#[derive(serde::Deserialize)]
struct Belonging {
    subscription_id: i64,
}

fn span_context(parent: &TraceParent) -> SpanContext {
    SpanContext::new(
        opentelemetry::TraceId::from_bytes(parent.trace_id.run().into_bytes()),
        SpanId::from_bytes(parent.parent_id().to_be_bytes()),
        if parent.sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() },
        true,
        TraceState::default(),
    )
}

/// Where in the trace what is emitted now stands: under the current span if it is one of the same trace.
pub fn here(otherwise: TraceParent) -> TraceParent {
    if TRACER.get().is_none() {
        return otherwise;
    }
    let context = Context::current();
    let span = context.span().span_context().clone();
    if span.is_valid() && span.trace_id().to_bytes() == *otherwise.trace_id.run().as_bytes() {
        let parent_id = u64::from_be_bytes(span.span_id().to_bytes());
        TraceParent::new(otherwise.trace_id, parent_id, span.is_sampled())
    } else {
        otherwise
    }
}
