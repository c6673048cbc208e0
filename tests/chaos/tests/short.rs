//! A short run, in which no promise is broken; and what is then damaged by hand is noticed, each damage as what it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chaos::{
    Catalog, Finished, Plan, State, Violation, check,
    finished::TARGET_TOPIC,
    receiver::{Received, ReceivedChange},
};
use tokio::time::timeout;

/// It takes four minutes on an idle machine. Waiting for quiet alone has the patience of [`Plan::quiet_within`].
const ENDS_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How many faults there must be at least: on a busy machine, what was killed takes longer to come back.
const FAULTS: usize = 20;

/// What is done to the catalog, the invariant that is broken thereby, and what the checker says.
const DAMAGES: [(&str, u8, &str); 13] = [
    (
        "delete from runs where id = (select id from runs where trigger = 'Schedule' order by scheduled_for limit 1)",
        1,
        "is accounted for 0 times",
    ),
    (
        "delete from runs where id = (select id from runs where trigger = 'Request' order by scheduled_for limit 1)",
        1,
        "were asked for",
    ),
    (
        "insert into runs (id, subscription_id, scheduled_for, trigger, phase, reason, trace_id, created_at, finished_at)
         select gen_random_uuid(), subscription_id, scheduled_for + interval '1 second', trigger, 'Skipped', 'Overlap', '',
             created_at, created_at
         from runs where trigger = 'Schedule' order by scheduled_for limit 1",
        1,
        "is accounted for 2 times",
    ),
    (
        "insert into runs (id, subscription_id, scheduled_for, trigger, phase, reason, trace_id, created_at, finished_at)
         select gen_random_uuid(), subscription_id, scheduled_for + interval '1 hour', trigger, 'Skipped', 'Overlap', '',
             created_at, created_at
         from runs where trigger = 'Schedule' order by scheduled_for desc limit 1",
        1,
        "is accounted for 1 times",
    ),
    (
        "update runs set phase = 'Running', finished_at = null
         where id = (select id from runs where trigger = 'Request' and phase = 'Succeeded' limit 1)",
        2,
        "has not ended",
    ),
    (
        "update runs set phase = 'Failed', reason = 'Stuck'
         where id = (select id from runs where trigger = 'Request' and phase = 'Succeeded' limit 1)",
        2,
        "has ended twice",
    ),
    (
        "update runs set reason = null where id = (select id from runs limit 1)",
        2,
        "without a reason",
    ),
    (
        "update documents set phase = 'Fetched', finished_at = null
         where (run_id, url) = (select d.run_id, d.url from documents d join runs r on r.id = d.run_id
             where r.phase = 'Succeeded' limit 1)",
        2,
        "is not finished",
    ),
    (
        "delete from versions where id = (select max(id) from versions)",
        4,
        "and its versions are",
    ),
    (
        "insert into versions (subscription_id, url, number, extract_id, text_hash, change, created_at, kind, run_id, planned_at)
         select subscription_id, url, number + 1, extract_id, text_hash, change, created_at, 'Changed', run_id, planned_at
         from versions where id = (select max(id) from versions)",
        4,
        "and its versions are",
    ),
    (
        "update deliveries set phase = 'GivenUp'
         where id = (select d.id from deliveries d where d.target = 'hook' order by created_at limit 1)",
        4,
        "is GivenUp",
    ),
    (
        "delete from delivery_versions where version_id = (select max(id) from versions) and target = 'hook'",
        4,
        "has no delivery to hook",
    ),
    (
        "insert into outbox (topic, key, headers, payload, available_at) values ('crawl.request', 'key', '{}', '', now())",
        4,
        "left in the outbox",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn all_that_can_fail_fails_and_no_promise_is_broken_and_each_damage_is_noticed() {
    // A second provider is never installed in this process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plan = Plan::short(seed());
    let finished = timeout(ENDS_WITHIN, chaos::run(&plan)).await.expect("the run ends in time").unwrap();
    let mut connection = finished.tipstaff().pool.acquire().await.unwrap();
    let state = finished.read(&mut connection).await.unwrap();
    drop(connection);
    let report = finished.report(&state);
    println!("{report}");
    if !report.violations.is_empty() {
        panic!("logs are kept in {}", finished.keep_logs().unwrap().display());
    }
    let struck: usize = report.faults.values().sum();
    assert!(struck >= FAULTS && report.changes >= finished.plan.subscriptions, "too little happened");

    for (statement, invariant, says) in DAMAGES {
        let violations = with_damaged_catalog(&finished, &state, statement).await;
        is_noticed(&violations, invariant, says);
    }
    a_damaged_bucket_is_noticed(&finished, &state).await;
    damaged_deliveries_are_noticed(&finished, &state);
    what_is_written_at_rest_is_noticed(&finished, &state).await;
}

/// Of the environment, to see a run again, or another one each time.
fn seed() -> u64 {
    let given = std::env::var("CHAOS_SEED").ok().map(|seed| seed.parse().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    given.unwrap_or(now.as_millis() as u64 % 1_000_000)
}

/// The violations are of this invariant only, concern one thing only, and one of them says this.
fn is_noticed(violations: &[Violation], invariant: u8, says: &str) {
    assert!(violations.iter().any(|violation| violation.what.contains(says)), "{says:?} in {violations:#?}");
    assert!(violations.iter().all(|violation| violation.invariant == invariant), "{says:?}: {violations:#?}");
    let first = &violations[0];
    let is_of_one = violations.iter().all(|violation| violation.subscription == first.subscription);
    assert!(is_of_one, "{says:?}: {violations:#?}");
}

async fn with_damaged_catalog(finished: &Finished, state: &State, statement: &'static str) -> Vec<Violation> {
    let mut transaction = finished.tipstaff().pool.begin().await.unwrap();
    // Neither foreign keys nor checks stand in the way of a damage that a restored backup can have.
    sqlx::query("set local session_replication_role = replica").execute(&mut *transaction).await.unwrap();
    let done = sqlx::query(statement).execute(&mut *transaction).await.unwrap();
    assert!(done.rows_affected() >= 1, "nothing to damage: {statement}");
    let catalog = Catalog::read(&mut transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    let state = State { catalog, ..state.clone() };
    check::check(&finished.findings(&state))
}

async fn a_damaged_bucket_is_noticed(finished: &Finished, state: &State) {
    let key = finished.bucket.keys().await.unwrap().into_iter().find(|key| key.ends_with(".bin")).unwrap();
    let body = finished.bucket.get(&key).await.unwrap();
    let violations = async || {
        let state = State { bucket: finished.bucket.read().await.unwrap(), ..state.clone() };
        check::check(&finished.findings(&state))
    };
    let all_are_of = |violations: &[Violation], says: &str| {
        assert!(!violations.is_empty(), "{says}");
        let is_it = |violation: &Violation| {
            violation.invariant == 3 && violation.what.contains(says) && violation.what.contains(&key)
        };
        assert!(violations.iter().all(is_it), "{says}: {violations:#?}");
    };
    finished.bucket.delete(&key).await.unwrap();
    all_are_of(&violations().await, "does not exist");
    finished.bucket.put(&key, b"something else".to_vec()).await.unwrap();
    all_are_of(&violations().await, "has the hash");
    finished.bucket.put(&key, body).await.unwrap();
    assert_eq!(violations().await, []);
}

fn damaged_deliveries_are_noticed(finished: &Finished, state: &State) {
    let violations = |received: Vec<Received>| {
        let state = State { received, ..state.clone() };
        check::check(&finished.findings(&state))
    };
    let one = state.received.iter().find(|received| received.is_taken && received.target == "hook").unwrap();
    let without = state.received.iter().filter(|received| received.id != one.id).cloned().collect();
    is_noticed(&violations(without), 4, "hook did not get it");
    // Refused is not taken.
    let refused = state.received.iter().cloned();
    let refused =
        refused.map(|received| Received { is_taken: received.is_taken && received.id != one.id, ..received });
    is_noticed(&violations(refused.collect()), 4, "hook did not get it");
    let none = ReceivedChange { number: 999, ..one.changes[0].clone() };
    let more = Received { changes: vec![none], ..one.clone() };
    let more = state.received.iter().cloned().chain([more]).collect();
    is_noticed(&violations(more), 4, "which is none");
}

async fn what_is_written_at_rest_is_noticed(finished: &Finished, state: &State) {
    let writing = async {
        let name = &finished.world.subscriptions[0].name;
        sqlx::query("update sources set updated_at = updated_at where id = (select min(id) from sources)")
            .execute(&finished.tipstaff().pool)
            .await
            .unwrap();
        finished.objects.label(name, "at-rest").await.unwrap();
        finished.topics.write(TARGET_TOPIC).await.unwrap();
        // It can only be given up, and is handled by that.
        finished.topics.write("subs.schedule").await.unwrap();
        finished.bucket.put("raw/at-rest", Vec::new()).await.unwrap();
    };
    let written = finished.watch(finished.plan.rest_for, writing).await.unwrap();
    let mut damaged = finished.findings(state);
    damaged.written_at_rest = &written;
    let violations = check::check(&damaged);
    for place in [
        "the table sources",
        "Subscription subscription-0",
        "the topic",
        "handled by tipstaff.schedule subs.schedule",
        "raw/at-rest of the bucket",
    ] {
        is_noticed(&violations, 7, place);
    }
    // A subscription that no run came through for, though nothing was wrong any more.
    let unserved = [finished.world.subscriptions[0].name.clone()];
    let mut damaged = finished.findings(state);
    damaged.unserved = &unserved;
    is_noticed(&check::check(&damaged), 5, "no run succeeded");
    // Nor nothing that was left.
    let mut damaged = finished.findings(state);
    damaged.left = Some("1 events of the groups tipstaff.parse");
    is_noticed(&check::check(&damaged), 5, "still to be done");
}
