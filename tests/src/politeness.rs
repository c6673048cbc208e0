//! The rule of politeness as arithmetic, for simulations. The catalog has it in SQL (`store/src/catalog/hosts.rs`);
//! `tests/catalog/hosts.rs` compares the two.

use jiff::{SignedDuration, Timestamp};
use store::catalog::Slot;

/// What is known of a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host {
    last_request_at: Option<Timestamp>,
    /// The end of the slots that were promised.
    next_slot_at: Option<Timestamp>,
    blocked_until: Option<Timestamp>,
}

impl Host {
    /// Takes the next slot, or promises one: what `Catalog::claim_slot` does.
    pub fn claim(
        &mut self,
        now: Timestamp,
        interval: SignedDuration,
        patience: SignedDuration,
        is_promised: bool,
    ) -> Slot {
        let rested = self.last_request_at.map(|last| last + interval);
        let at = [rested, self.blocked_until].into_iter().flatten().fold(now, Timestamp::max);
        let is_free = self.next_slot_at.is_none_or(|next| next <= at);
        if at <= now + patience && (is_promised || is_free) {
            self.last_request_at = Some(at);
            self.next_slot_at = self.next_slot_at.max(Some(at + interval));
            return Slot::Granted(at);
        }
        let promised = self.next_slot_at.map_or(at, |next| next.max(at));
        self.next_slot_at = Some(promised + interval);
        Slot::Promised(promised)
    }

    /// Leaves it in peace until then: what `Catalog::block_host` does.
    pub fn block(&mut self, until: Timestamp) {
        self.blocked_until = self.blocked_until.max(Some(until));
    }
}
