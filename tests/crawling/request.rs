//! Sources with subscriptions whose runs a test asks for.

use tests::Installation;

/// A schedule that is not due during a test: the test asks for its runs.
const NEVER_NOW: &str = "0 0 29 2 *";

/// A source, and subscriptions of it.
pub(crate) fn manifests(source: &str, url: &str, more: &str, subscriptions: &[String]) -> String {
    let mut all = format!(
        "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: {source} }}\nspec: {{ baseURL: '{url}', {more} }}\n"
    );
    for name in subscriptions {
        all += &format!(
            "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\n\
             spec: {{ sourceRef: {{ name: {source} }}, schedule: '{NEVER_NOW}' }}\n"
        );
    }
    all
}

pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

pub(crate) async fn ready(tipstaff: &Installation, subscriptions: &[String]) {
    for name in subscriptions {
        tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", Some("Scheduled")).await;
    }
}

/// Asks for a run of one subscription and waits for its end.
pub(crate) async fn run(tipstaff: &Installation, subscription: &str, number: usize) -> tests::Run {
    tipstaff.request(subscription, &format!("request-{number}")).await;
    tipstaff.ended_runs(subscription, number).await.remove(number - 1)
}

pub(crate) fn reason(run: &tests::Run) -> (&str, Option<&str>) {
    (&run.phase, run.reason.as_deref())
}
