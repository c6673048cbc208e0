use jiff::{SignedDuration, Timestamp};
use store::catalog::{Catalog, KeptSlots, RobotsOutcome, RobotsRecord, Slot, SlotRequest};
use tests::{eventually, politeness};

use crate::place::{NOON, Place, SOON};

const HOST: &str = "example.org";
const PATIENCE: SignedDuration = SignedDuration::from_millis(200);

fn after(milliseconds: i64) -> Timestamp {
    NOON.checked_add(SignedDuration::from_millis(milliseconds)).unwrap()
}

async fn claim(catalog: &Catalog, host: &str, is_promised: bool, at: i64) -> Slot {
    let interval = SignedDuration::from_secs(1);
    let request = SlotRequest { host, interval, patience: PATIENCE, is_promised };
    catalog.claim_slot(&request, after(at)).await.unwrap()
}

#[tokio::test]
async fn requests_that_come_together_are_spread_and_another_host_is_not_kept_waiting() {
    let place = Place::new().await;
    let catalog = &place.catalog;
    assert_eq!(claim(catalog, HOST, false, 0).await, Slot::Granted(after(0)));
    assert_eq!(claim(catalog, HOST, false, 10).await, Slot::Promised(after(1_000)));
    assert_eq!(claim(catalog, HOST, false, 20).await, Slot::Promised(after(2_000)));
    assert_eq!(claim(catalog, "example.net", false, 20).await, Slot::Granted(after(20)));
    // A slot that is near is waited for.
    assert_eq!(claim(catalog, HOST, true, 900).await, Slot::Granted(after(1_000)));
    // Nobody who comes meanwhile takes what was promised to another.
    assert_eq!(claim(catalog, HOST, false, 1_950).await, Slot::Promised(after(3_000)));
    assert_eq!(claim(catalog, HOST, true, 2_000).await, Slot::Granted(after(2_000)));
    assert_eq!(claim(catalog, HOST, true, 3_000).await, Slot::Granted(after(3_000)));
    // When all promises are kept, whoever comes goes at once.
    assert_eq!(claim(catalog, HOST, false, 10_000).await, Slot::Granted(after(10_000)));
}

#[tokio::test]
async fn those_that_are_late_for_their_slots_are_spread_again_and_none_is_turned_away_for_ever() {
    let place = Place::new().await;
    let catalog = &place.catalog;
    for _ in 0..4 {
        claim(catalog, HOST, false, 0).await;
    }
    // Workers were away for a minute: three with promises come at once.
    assert_eq!(claim(catalog, HOST, true, 60_000).await, Slot::Granted(after(60_000)));
    assert_eq!(claim(catalog, HOST, true, 60_001).await, Slot::Promised(after(61_000)));
    assert_eq!(claim(catalog, HOST, true, 60_002).await, Slot::Promised(after(62_000)));
    assert_eq!(claim(catalog, HOST, true, 61_050).await, Slot::Granted(after(61_050)));
    // The one before came 50 ms late.
    assert_eq!(claim(catalog, HOST, true, 62_000).await, Slot::Granted(after(62_050)));
}

#[tokio::test]
async fn a_host_that_asked_for_peace_is_left_in_peace() {
    let place = Place::new().await;
    let catalog = &place.catalog;
    catalog.block_host(HOST, after(30_000)).await.unwrap();
    catalog.block_host(HOST, after(20_000)).await.unwrap();
    assert_eq!(claim(catalog, HOST, false, 0).await, Slot::Promised(after(30_000)));
    assert_eq!(claim(catalog, HOST, true, 29_700).await, Slot::Promised(after(31_000)));
    assert_eq!(claim(catalog, HOST, true, 30_000).await, Slot::Granted(after(30_000)));
}

#[tokio::test]
async fn slots_kept_for_many_are_nobody_else_s() {
    let place = Place::new().await;
    let catalog = &place.catalog;
    claim(catalog, HOST, false, 0).await;
    let keep = async |wanted: &[(&str, usize)], at| {
        let interval = SignedDuration::from_secs(1);
        let wanted: Vec<_> =
            wanted.iter().map(|&(host, count)| KeptSlots { host, count, interval }).collect();
        catalog.keep_slots(&wanted, after(at)).await.unwrap()
    };
    let first = keep(&[(HOST, 100), ("new.example", 5)], 300).await;
    assert_eq!((first.len(), first[HOST], first["new.example"]), (2, after(1_000), after(300)));
    assert_eq!(keep(&[(HOST, 1)], 300).await[HOST], after(101_000));
    assert_eq!(claim(catalog, HOST, false, 400).await, Slot::Promised(after(102_000)));
    assert_eq!(claim(catalog, "new.example", false, 400).await, Slot::Promised(after(5_300)));
}

/// The invariant of politeness, whoever claims: between two grants there is at least the interval, and no slot is lost.
#[tokio::test(flavor = "multi_thread")]
async fn workers_that_claim_at_the_same_time_come_no_closer_than_the_interval() {
    let place = Place::new().await;
    let processes = [place.catalog.clone(), place.other_process().await];
    let claims: Vec<_> = (0..40)
        .map(|number| {
            let catalog = processes[number % 2].clone();
            tokio::spawn(async move {
                let (mut is_promised, mut at) = (false, 0);
                loop {
                    match claim(&catalog, HOST, is_promised, at).await {
                        Slot::Granted(time) => return time,
                        Slot::Promised(time) => {
                            is_promised = true;
                            at = i64::try_from(time.duration_since(NOON).as_millis()).unwrap();
                        }
                    }
                }
            })
        })
        .collect();
    let mut granted = Vec::new();
    for claim in claims {
        granted.push(claim.await.unwrap());
    }
    granted.sort();
    for pair in granted.windows(2) {
        assert!(pair[1].duration_since(pair[0]) >= SignedDuration::from_secs(1), "{pair:?}");
    }
    assert_eq!(granted.len(), 40);
    assert!(granted[39] <= after(80_000), "{:?}", granted[39]);
}

/// `bench scale` counts with it, for more hosts than a test could ask a database for.
#[tokio::test]
async fn the_rule_in_sql_is_the_one_that_is_simulated() {
    let place = Place::new().await;
    let hosts = ["a.example", "b.example", "c.example:8080"];
    let mut simulated = hosts.map(|_| politeness::Host::default());
    let (mut state, mut at, mut promised) = (1_u64, 0, 0);
    // The numbers look random, and are the same each time.
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for number in 0..400 {
        at += i64::try_from(draw(900)).unwrap();
        let which = usize::try_from(draw(3)).unwrap();
        let (host, simulated) = (hosts[which], &mut simulated[which]);
        if draw(20) == 0 {
            let until = after(at + i64::try_from(draw(5_000)).unwrap());
            place.catalog.block_host(host, until).await.unwrap();
            simulated.block(until);
        }
        let interval = SignedDuration::from_millis([0, 250, 1_000, 3_000][usize::try_from(draw(4)).unwrap()]);
        let patience = SignedDuration::from_millis([0, 250][usize::try_from(draw(2)).unwrap()]);
        let is_promised = draw(2) == 0;
        let request = SlotRequest { host, interval, patience, is_promised };
        let slot = place.catalog.claim_slot(&request, after(at)).await.unwrap();
        assert_eq!(
            slot,
            simulated.claim(after(at), interval, patience, is_promised),
            "{number}: {request:?}"
        );
        promised += usize::from(matches!(slot, Slot::Promised(_)));
    }
    assert!((40..360).contains(&promised), "{promised} of 400 were promised: both answers are compared");
}

#[tokio::test]
async fn a_robots_txt_is_kept_as_it_was_last_asked_for() {
    let place = Place::new().await;
    let origin = "https://example.org";
    assert_eq!(place.catalog.robots(origin).await.unwrap(), None);
    for (outcome, unreachable_since) in [
        (RobotsOutcome::Rules(b"User-agent: *\nDisallow: /\xff".to_vec()), None),
        (RobotsOutcome::Rules(Vec::new()), Some(after(5))),
        (RobotsOutcome::Unknown, Some(after(5))),
        (RobotsOutcome::AllowAll, None),
    ] {
        let (asked_at, expires_at) = (after(10), after(90_000));
        let record = RobotsRecord { outcome, asked_at, expires_at, unreachable_since };
        place.catalog.put_robots(origin, &record).await.unwrap();
        assert_eq!(place.catalog.robots(origin).await.unwrap(), Some(record));
    }
}

/// Two who add the same ones in other orders would wait for each other.
#[tokio::test]
async fn new_hosts_are_added_in_one_order_whatever_they_are_asked_in() {
    let place = Place::new().await;
    let mut last = place.sql.begin().await.unwrap();
    sqlx::query("insert into hosts (host) values ('b.example')").execute(&mut *last).await.unwrap();
    let interval = SignedDuration::from_secs(1);
    let wanted = ["b.example", "a.example"].map(|host| KeptSlots { host, interval, count: 1 });
    let kept = place.catalog.keep_slots(&wanted, NOON);
    let meanwhile = async {
        eventually("who waits for the last host", SOON, async || {
            let waiting = "select count(*) from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock'";
            if place.number(waiting).await == 1 { Ok(()) } else { Err(()) }
        })
        .await;
        let mut first = place.sql.begin().await.unwrap();
        sqlx::query("set local lock_timeout = '200ms'").execute(&mut *first).await.unwrap();
        let added = sqlx::query("insert into hosts (host) values ('a.example')").execute(&mut *first).await;
        assert!(added.is_err(), "the first host was not added first");
        first.rollback().await.unwrap();
        last.rollback().await.unwrap();
    };
    let (kept, ()) = tokio::join!(kept, meanwhile);
    assert_eq!(kept.unwrap().len(), 2);
}
