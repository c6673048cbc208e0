//! Politeness: a request waits for its host's slot, in the outbox unless the slot is near.

use jiff::{SignedDuration, Timestamp};
use store::catalog::{Slot, SlotRequest};
use url::Url;

use crate::{Tools, fetch::FetchError, tools::catalog_failed};
use events::HandlerError;

/// A slot that is no further off is waited for here: less than an event takes through the outbox.
const PATIENCE: SignedDuration = SignedDuration::from_millis(250);
/// By how much an event leaves the outbox before its slot, so that it is here in time.
pub(super) const ON_ITS_WAY: SignedDuration = SignedDuration::from_millis(100);
/// How long a host's Retry-After is heeded: a mistake of a site must not silence it for good.
const LONGEST_PEACE: SignedDuration = SignedDuration::from_hours(24);

/// Waits for a slot of the host that is near, or says until when one further off is kept.
pub(super) async fn wait_for_slot(
    tools: &Tools,
    host: &str,
    interval: SignedDuration,
    is_promised: bool,
) -> Result<Option<Timestamp>, HandlerError> {
    let request = SlotRequest { host, interval, patience: PATIENCE, is_promised };
    let slot = tools.catalog.claim_slot(&request, tools.clock.now()).await.map_err(catalog_failed)?;
    match slot {
        Slot::Granted(at) => {
            tools.clock.sleep_until(at).await;
            Ok(None)
        }
        Slot::Promised(at) => Ok(Some(at)),
    }
}

/// The host that asked to be left in peace, and until when.
pub(super) fn asks_for_peace(error: &FetchError) -> Option<(String, Timestamp)> {
    match error {
        // Of the one that answered: a redirect may have led to it from another.
        FetchError::Status { url, status: 429 | 503, retry_after: Some(until) } => {
            Some((host_of(&url.parse().ok()?), *until))
        }
        _ => None,
    }
}

/// Leaves a host in peace for as long as it asked.
pub(super) async fn leave_in_peace(tools: &Tools, host: &str, until: Timestamp) -> Result<(), HandlerError> {
    let now = tools.clock.now();
    let until = now.checked_add(LONGEST_PEACE).map_or(until, |longest| until.min(longest));
    tools.catalog.block_host(host, until).await.map_err(catalog_failed)
}

/// The host of a URL, with its port where that is not the scheme's own: what politeness counts by.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
