//! Two replicas of the operator: one leads, the other takes over, and what either does adds up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use tests::{Installation, Process, eventually};
use tokio::time::sleep;

/// How long a leader may take on a busy machine.
const SOON: Duration = Duration::from_secs(90);
/// How many subscriptions are due every minute.
const SUBSCRIPTIONS: usize = 20;

/// Subscriptions that are due every minute, whose runs nobody works on.
async fn apply_minutely(tipstaff: &Installation) {
    let mut manifests = "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: { name: court }\n\
         spec: { kind: html, baseURL: \"http://127.0.0.1:9/\" }\n"
        .to_owned();
    for number in 0..SUBSCRIPTIONS {
        manifests.push_str(&format!(
            "---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: opinions-{number} }}\n\
             spec: {{ sourceRef: {{ name: court }}, schedule: \"* * * * *\", concurrencyPolicy: Allow }}\n"
        ));
    }
    tipstaff.apply(&manifests).await;
    for number in 0..SUBSCRIPTIONS {
        tipstaff.condition(&format!("tsub/opinions-{number}"), "Ready", "True", None).await;
    }
}

async fn leader_is(tipstaff: &Installation, name: &str) {
    eventually(&format!("the leader {name}"), SOON, async || {
        let holder = tipstaff
            .kubectl(&["get", "lease/tipstaff-operator", "-o", "jsonpath={.spec.holderIdentity}"], "")
            .await;
        if holder.as_deref() == Ok(name) { Ok(()) } else { Err(holder) }
    })
    .await;
}

fn replica(tipstaff: &Installation, name: &str, more: &[(&str, String)]) -> Process {
    let mut environment = vec![("POD_NAME", name.to_owned())];
    environment.extend_from_slice(more);
    tipstaff.operator(&environment)
}

/// Waits until every due time up to `through` is accounted for, and makes sure that each is so exactly once.
async fn each_due_time_once(tipstaff: &Installation, through: Timestamp) {
    let sql = "select s.name, extract(epoch from r.scheduled_for)::bigint / 60 as minute, r.due_times,
            extract(epoch from coalesce(r.skipped_from, r.scheduled_for))::bigint / 60 as first
        from runs r join subscriptions s on s.id = r.subscription_id
        where r.trigger = 'Schedule' order by s.name, minute";
    let last = through.as_second() / 60;
    eventually("every due time accounted for once", SOON, async || {
        let mut minutes: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for row in sqlx::query(sql).fetch_all(&tipstaff.pool).await.unwrap() {
            let (first, minute): (i64, i64) = (row.get("first"), row.get("minute"));
            assert_eq!(i64::from(row.get::<i32, _>("due_times")), minute - first + 1);
            minutes.entry(row.get("name")).or_default().extend(first..=minute);
        }
        let is_complete = minutes.len() == SUBSCRIPTIONS
            && minutes.values().all(|minutes| minutes.last().is_some_and(|minute| *minute >= last));
        for (name, minutes) in &minutes {
            let expected: Vec<i64> = (minutes[0]..=minutes[minutes.len() - 1]).collect();
            assert_eq!(*minutes, expected, "{name}: a due time twice, or one missing");
        }
        if is_complete { Ok(()) } else { Err(minutes) }
    })
    .await;
}

/// Waits until a due time is `before` ahead, and returns it.
async fn shortly_before_a_due_time(before: SignedDuration) -> Timestamp {
    let now = Timestamp::now();
    let mut due = Timestamp::from_second((now.as_second() / 60 + 1) * 60).unwrap();
    if due.duration_since(now) < before {
        due += SignedDuration::from_secs(60);
    }
    sleep(Duration::try_from(due.duration_since(now) - before).unwrap()).await;
    due
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_past_its_lease_and_a_due_time_makes_no_run_when_it_wakes() {
    let tipstaff = Installation::new("asleep").await;
    let sleeper = replica(&tipstaff, "sleeper", &[]);
    leader_is(&tipstaff, "sleeper").await;
    apply_minutely(&tipstaff).await;
    let other = replica(&tipstaff, "other", &[]);

    let due = shortly_before_a_due_time(SignedDuration::from_secs(12)).await;
    sleeper.signal("STOP").await;
    leader_is(&tipstaff, "other").await;
    // The due time passes for both: the sleeper has it in its memory.
    each_due_time_once(&tipstaff, due).await;
    sleeper.signal("CONT").await;
    let log = sleeper.log_path().to_owned();
    assert!(!sleeper.wait().await.success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("the lease was lost: another replica leads now"), "{log}");
    leader_is(&tipstaff, "other").await;
    // And those after it are the other's alone.
    each_due_time_once(&tipstaff, due + SignedDuration::from_secs(60)).await;
    other.terminate().await;
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_when_the_leader_is_killed_and_at_once_when_it_ends() {
    let tipstaff = Installation::new("takeover").await;
    // As it is by default.
    let ten_seconds = [("TIPSTAFF_LEASE_SECONDS", "10".to_owned())];
    let first = replica(&tipstaff, "first", &ten_seconds);
    leader_is(&tipstaff, "first").await;
    apply_minutely(&tipstaff).await;
    let second = replica(&tipstaff, "second", &ten_seconds);
    // A follower is ready too: it waits for nothing but the lease.
    eventually("a follower that is ready", SOON, async || {
        let answer = second.probe("/readyz").await;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
    let killed = Instant::now();
    first.kill().await;
    leader_is(&tipstaff, "second").await;
    println!("taken over {:.1?} after a kill", killed.elapsed());

    let third = replica(&tipstaff, "third", &ten_seconds);
    eventually("a follower that looks at the lease", SOON, async || {
        let answer = third.probe("/livez").await;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    })
    .await;
    second.terminate().await;
    let ended = Instant::now();
    leader_is(&tipstaff, "third").await;
    println!("taken over {:.1?} after an orderly end", ended.elapsed());
    let lease = tipstaff.object("lease/tipstaff-operator").await;
    assert_eq!(lease["spec"]["leaseTransitions"], 3);
    assert_eq!(tipstaff.count("select epoch from leadership").await, 3);

    let due = shortly_before_a_due_time(SignedDuration::ZERO).await;
    each_due_time_once(&tipstaff, due).await;
    // Somebody deletes the Lease: the epoch goes on from what the catalog knows.
    tipstaff.kubectl(&["delete", "lease/tipstaff-operator"], "").await.unwrap();
    assert!(!third.wait().await.success());
    let fourth = replica(&tipstaff, "fourth", &ten_seconds);
    leader_is(&tipstaff, "fourth").await;
    eventually("the next epoch", SOON, async || {
        let epoch = tipstaff.count("select epoch from leadership").await;
        if epoch == 4 { Ok(()) } else { Err(epoch) }
    })
    .await;
    // One that is asked to end gives the lease back.
    fourth.terminate().await;
    let lease = tipstaff.object("lease/tipstaff-operator").await;
    assert_eq!(lease["spec"].get("holderIdentity"), None, "{lease}");
    tipstaff.remove().await;
}
