//! The spans that begin the traces of runs. Their ids follow from the run: whoever handles its events knows them.

use std::{cell::Cell, time::SystemTime};

use events::{TraceParent, spans};
use opentelemetry::{
    Context, KeyValue, SpanId, TraceId,
    trace::{Span, SpanKind, Tracer},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use store::catalog::FiredRun;

thread_local! {
    /// The ids of the next span that is made on this thread.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Random ids, but for runs: theirs follow from the run.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// The root of a run's trace: from when it was due to when its first event was in the outbox.
pub fn run_span(run: &FiredRun) {
    let Some(tracer) = spans::tracer() else { return };
    let root = TraceParent::of_run(run.run_id);
    let builder = tracer
        .span_builder("subs.schedule send")
        .with_kind(SpanKind::Producer)
        .with_start_time(SystemTime::from(run.scheduled_for))
        .with_attributes([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", "subs.schedule"),
            KeyValue::new("tipstaff.run_id", run.run_id.to_string()),
            KeyValue::new("tipstaff.subscription_id", run.subscription_id),
            KeyValue::new("tipstaff.trigger", run.trigger.to_string()),
        ]);
    NEXT.set(Some((
        TraceId::from_bytes(run.run_id.into_bytes()),
        SpanId::from_bytes(root.parent_id().to_be_bytes()),
    )));
    let mut span = tracer.build_with_context(builder, &Context::new());
    NEXT.set(None);
    span.end();
}
