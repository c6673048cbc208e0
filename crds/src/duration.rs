//! Durations as Kubernetes writes them (`metav1.Duration`): `500ms`, `30s`, `1m30s`, `168h`.

use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a duration must look like; also the pattern in the schema.
const PATTERN: &str = "^([0-9]{1,7}(h|m|s|ms))+$";

/// The longest text of a duration, in characters.
const MAX_LENGTH: usize = 32;

/// The most hours, since a number has at most seven digits: the sum of several parts could not be written again.
const MAX_HOURS: u64 = 9_999_999;

/// Units, longest first where one is a prefix of another, with their length in milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// A length of time, written as whole numbers with units: `500ms`, `30s`, `1m30s`, `168h`.
///
/// Units are `h`, `m`, `s` and `ms`, as in Kubernetes' own `metav1.Duration`; a day is `24h`. Fractions and signs,
/// which that type allows, are refused: no field here has a use for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration: write whole numbers with the units h, m, s or ms, such as 30s, 1m30s or 168h, at most 9999999h"
)]
pub struct InvalidDuration {
    text: String,
}

impl Duration {
    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// The duration as the standard library's type.
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

impl From<time::Duration> for Duration {
    /// Takes the duration down to whole milliseconds, the smallest unit that can be written.
    fn from(duration: time::Duration) -> Self {
        Self(duration - time::Duration::from_nanos(u64::from(duration.subsec_nanos() % 1_000_000)))
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_milliseconds(text)
            .map(|milliseconds| Self(time::Duration::from_millis(milliseconds)))
            .ok_or_else(|| InvalidDuration { text: text.chars().take(MAX_LENGTH).collect() })
    }
}

/// Sums the parts of `text`, or `None` where it does not match [`PATTERN`] or is more than [`MAX_HOURS`].
fn parse_milliseconds(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > MAX_LENGTH {
        return None;
    }
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=7).contains(&digits) {
            return None;
        }
        let (number, tail) = rest.split_at(digits);
        let (unit, milliseconds) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*milliseconds)?)?;
        rest = tail.strip_prefix(unit)?;
    }
    (total / 3_600_000 <= MAX_HOURS).then_some(total)
}

impl fmt::Display for Duration {
    /// Writes the largest units that fit, without those that are zero: `90s` is written `1m30s`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let milliseconds = self.0.subsec_millis();
        if self.0.is_zero() {
            return formatter.write_str("0s");
        }
        for (number, unit) in [
            (seconds / 3600, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (milliseconds.into(), "ms"),
        ] {
            if number > 0 {
                write!(formatter, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, milliseconds, written) in [
            ("0s", 0, "0s"),
            ("250ms", 250, "250ms"),
            ("30s", 30_000, "30s"),
            ("90s", 90_000, "1m30s"),
            ("1m30s", 90_000, "1m30s"),
            ("1h1ms", 3_600_001, "1h1ms"),
            ("168h", 604_800_000, "168h"),
            ("168h0m0s", 604_800_000, "168h"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.get(), time::Duration::from_millis(milliseconds), "{text}");
            assert_eq!(duration.to_string(), written, "{text}");
            assert_eq!(written.parse::<Duration>().unwrap(), duration, "{text}");
        }
    }

    #[test]
    fn refuses_what_the_pattern_refuses() {
        let pattern = regex::Regex::new(PATTERN).unwrap();
        for text in ["", "5", "s", "-1s", "1.5s", "1d", " 1s", "1s ", "1 s", "12345678s", "1µs", "1sm"] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
            assert!(!pattern.is_match(text), "{text:?}");
        }
        for (text, is_taken) in [("9999999h59m", true), ("9999999h60m", false), ("9999999h9999999m", false)] {
            assert_eq!(
                text.parse::<Duration>().is_ok_and(|read| read.to_string() == text),
                is_taken,
                "{text}"
            );
        }
        assert!("1s".repeat(17).parse::<Duration>().is_err(), "longer than maxLength");
    }
}
