//! When to end.

use std::time::Duration;

/// What ends the process by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Nothing: it goes on until it is stopped.
    None,
    /// Every subscription has run once, on request; due times do not fire.
    Once,
    /// A document was stored that differs from an earlier one of the same URL, or this much time has passed.
    Change(Duration),
}

impl Goal {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "until_stopped",
            Self::Once => "once",
            Self::Change(_) => "until_changed",
        }
    }
}
