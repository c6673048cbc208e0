use std::time::Duration;

/// A wait that doubles with each failure in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self::up_to(Self::LONGEST)
    }

    /// One that waits no longer than this.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { next: Self::FIRST, longest }
    }

    /// How long to wait after one more failure.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.longest);
        wait
    }

    /// It worked: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}
