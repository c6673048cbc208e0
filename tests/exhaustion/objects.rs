//! The objects of these tests, and what is so when all is done.

use std::time::Duration;

use tests::{Installation, Process, eventually};

/// A schedule that is not due during a test.
pub(crate) const NEVER_NOW: &str = "0 0 29 2 *";
/// A megabyte.
pub(crate) const MB: u64 = 1_000_000;

/// A source whose host may be asked 20 times a second; `more` of its spec begins with a comma.
pub(crate) fn source(name: &str, url: &str, more: &str) -> String {
    format!(
        "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: {name} }}\n\
         spec: {{ baseURL: \"{url}\", politeness: {{ minInterval: 50ms }}{more} }}\n"
    )
}

/// A subscription to the source of the same name, which is due when it is asked for.
pub(crate) fn subscription(name: &str) -> String {
    subscription_to(name, name, NEVER_NOW, "")
}

/// A subscription; `more` of its spec begins with a comma.
pub(crate) fn subscription_to(name: &str, source: &str, schedule: &str, more: &str) -> String {
    format!(
        "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\n\
         spec: {{ sourceRef: {{ name: {source} }}, schedule: \"{schedule}\"{more} }}\n"
    )
}

/// Waits until no run is active and no event waits.
pub(crate) async fn all_is_done(tipstaff: &Installation, within: Duration) {
    let under_way =
        "select (select count(*) from runs where finished_at is null) + (select count(*) from outbox)";
    eventually("the end of all runs", within, async || match tipstaff.count(under_way).await {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
}

/// Waits until a metric of a process is at least so much.
pub(crate) async fn metric_reaches(process: &Process, series: &str, least: f64, within: Duration) {
    eventually(series, within, async || {
        let value = process.metric(series).await;
        if value.is_some_and(|value| value >= least) { Ok(()) } else { Err(value) }
    })
    .await;
}

/// Ends what must be running still, and must not have needed more memory, in bytes, than this beyond what it had before.
pub(crate) async fn end_in_bounds(processes: [Process; 2], before: [u64; 2], most: u64) {
    for (mut process, before) in processes.into_iter().zip(before) {
        assert!(process.is_running());
        assert_grew_less(&process, before, most);
        process.terminate().await;
    }
}

/// Fails when a process has needed more memory, in bytes, than this beyond what it had before.
pub(crate) fn assert_grew_less(process: &Process, before: u64, most: u64) {
    let grew = process.peak_memory().saturating_sub(before);
    assert!(grew < most, "the process grew by {} MB; at most {} MB are right", grew / MB, most / MB);
}
