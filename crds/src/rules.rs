//! Building blocks of the schema that more than one field uses: CEL rules, and bounds of durations.

use serde_json::{Value, json};

/// The value of `x-kubernetes-validations`: CEL rules, each with the message a user gets when it is broken.
pub(crate) fn rules(rules: &[(&str, &str)]) -> Value {
    rules.iter().map(|(rule, message)| json!({ "rule": rule, "message": message })).collect()
}

/// The smallest and the largest value of a duration field, as CEL rule and as check of the same text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The smallest duration allowed, in seconds.
    pub(crate) min_seconds: u64,
    /// The largest duration allowed, in seconds.
    pub(crate) max_seconds: u64,
}

impl Bounds {
    /// Bounds in whole seconds, both ends allowed.
    pub(crate) const fn seconds(min_seconds: u64, max_seconds: u64) -> Self {
        Self { min_seconds, max_seconds }
    }

    /// What is said when a value lies outside.
    pub(crate) fn message(self) -> String {
        format!("must be between {} and {}", self.min(), self.max())
    }

    /// The value of `x-kubernetes-validations` that enforces the bounds.
    pub(crate) fn rules(self) -> Value {
        let rule = format!(
            "duration(self) >= duration('{}') && duration(self) <= duration('{}')",
            self.min(),
            self.max()
        );
        rules(&[(&rule, &self.message())])
    }

    fn min(self) -> crate::Duration {
        std::time::Duration::from_secs(self.min_seconds).into()
    }

    fn max(self) -> crate::Duration {
        std::time::Duration::from_secs(self.max_seconds).into()
    }
}
