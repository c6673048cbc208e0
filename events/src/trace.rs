use std::{fmt, str::FromStr};

use uuid::Uuid;

/// The trace of a run: 16 bytes, not all zero (W3C Trace Context, `trace-id`).
///
/// It is the run's id, so that whoever holds one can find the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(Uuid);

impl TraceId {
    /// The trace of the run with this id.
    pub fn of_run(run: Uuid) -> Self {
        Self(run)
    }

    /// The run whose trace it is.
    pub fn run(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_simple())
    }
}

/// The header `traceparent` of W3C Trace Context, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace that the event belongs to.
    pub trace_id: TraceId,
    parent_id: u64,
    sampled: bool,
}

/// A `traceparent` that is not of the form `00-<32 hex>-<16 hex>-<2 hex>`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a traceparent of version 00 (W3C Trace Context)")]
pub struct TraceParseError(String);

impl TraceParent {
    /// The position of the run's own span, the root of its trace. Its id follows from the run's: whoever tells of a run
    /// again knows it.
    pub fn of_run(run: Uuid) -> Self {
        let (_, low) = Uuid::new_v5(&run, b"run").as_u64_pair();
        // A parent id of all zeros is invalid by the standard; a UUID's variant bits keep it from being so.
        Self { trace_id: TraceId::of_run(run), parent_id: low, sampled: true }
    }

    pub(crate) fn new(trace_id: TraceId, parent_id: u64, sampled: bool) -> Self {
        Self { trace_id, parent_id, sampled }
    }

    /// The id of the span that emitted the event (`parent-id`), as a number.
    pub fn parent_id(&self) -> u64 {
        self.parent_id
    }

    /// Whether the trace is recorded.
    pub fn sampled(&self) -> bool {
        self.sampled
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace_id, self.parent_id, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = TraceParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| TraceParseError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let well_formed = parts.next().is_none()
        && version == "00"
        && lower_hex(trace, 32)
        && lower_hex(parent, 16)
        && lower_hex(flags, 2);
    if !well_formed {
        return None;
    }
    let trace_id = Uuid::try_parse(trace).ok().filter(|id| !id.is_nil())?;
    let parent_id = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceParent { trace_id: TraceId(trace_id), parent_id, sampled: flags & 1 == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        let parent = TraceParent::of_run(Uuid::new_v4());
        assert_eq!(parent.to_string().parse::<TraceParent>().ok(), Some(parent));
    }

    #[test]
    fn refuses_what_the_standard_calls_invalid() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(text.parse::<TraceParent>().is_err(), "{text}");
        }
    }
}
