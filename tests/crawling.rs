//! Polite and faithful fetching, with operator and workers as processes on the real stack, from sites on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "crawling/lists.rs"]
mod lists;
#[path = "crawling/request.rs"]
mod request;
#[path = "crawling/snapshots.rs"]
mod snapshots;

use std::{net::Ipv4Addr, time::Duration};

use events::{Bus, CrawlUrl, Event, Topic};
use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use tests::{Installation, Origin, eventually};

use request::{manifests, names, ready, reason, run};

#[tokio::test(flavor = "multi_thread")]
async fn workers_together_keep_the_interval_of_a_host_and_keep_no_other_host_waiting() {
    let busy = Origin::start("<p>one of many").await;
    let idle = Origin::start_on(Ipv4Addr::new(127, 0, 0, 2), "<p>another host").await;
    let tipstaff = Installation::new("polite").await;
    let allowed = ("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8".to_owned());
    let _operator = tipstaff.operator(&[]);
    let _workers = [tipstaff.worker(std::slice::from_ref(&allowed)), tipstaff.worker(&[allowed])];
    // Many pages of one host.
    let many = names("page", 6);
    for name in &many {
        let url = format!("http://{}/{name}", busy.host());
        let more = "robotsMode: allow, politeness: {minInterval: 3s}";
        tipstaff.apply(&manifests(name, &url, more, std::slice::from_ref(name))).await;
    }
    let other = names("other", 1);
    tipstaff.apply(&manifests("other", &idle.url(), "robotsMode: allow", &other)).await;
    ready(&tipstaff, &many).await;
    ready(&tipstaff, &other).await;
    for name in many.iter().chain(&other) {
        tipstaff.request(name, "now").await;
    }
    tipstaff.ended_runs("other-0", 1).await;
    assert!(busy.requests() < many.len(), "the other host waited for this one");
    for name in &many {
        let runs = tipstaff.ended_runs(name, 1).await;
        assert_eq!(reason(&runs[0]), ("Succeeded", Some("Changed")), "{name}");
    }
    let seen: Vec<Timestamp> = busy.all_requests().iter().map(|request| request.at).collect();
    assert_eq!(seen.len(), many.len());
    for pair in seen.windows(2) {
        // Kept to the millisecond in the catalog; a request may be on its way for longer than the one after it.
        assert!(pair[1].duration_since(pair[0]) >= SignedDuration::from_secs(2), "{seen:?}");
    }
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_does_not_answer_keeps_no_other_waiting() {
    let slow = Origin::start("<p>slow").await;
    let quick = Origin::start_on(Ipv4Addr::new(127, 0, 0, 2), "<p>quick").await;
    let tipstaff = Installation::new("slow").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8".to_owned())]);
    let (one, other) = (names("slow", 1), names("quick", 1));
    tipstaff.apply(&manifests("slow", &slow.url(), "fetch: {timeout: 5m}", &one)).await;
    tipstaff.apply(&manifests("quick", &quick.url(), "politeness: {minInterval: 0s}", &other)).await;
    ready(&tipstaff, &one).await;
    ready(&tipstaff, &other).await;
    slow.hold();
    tipstaff.request("slow-0", "now").await;
    eventually("a request that waits", Duration::from_secs(30), async || {
        if slow.requests() == 0 { Err("none") } else { Ok(()) }
    })
    .await;
    for number in 1..=3 {
        assert_eq!(run(&tipstaff, "quick-0", number).await.phase, "Succeeded");
    }
    // Nor when more requests of it wait than a worker takes in.
    let events = tipstaff.events_of(Topic::CrawlRequest, 4).await;
    let is_slow = |event: &&Event| event.payload::<CrawlUrl>().unwrap().host == slow.host();
    let event = events.iter().find(is_slow).unwrap();
    tipstaff.bus().publish(&vec![event.to_record(); 1_500]).await.unwrap();
    assert_eq!(run(&tipstaff, "quick-0", 4).await.phase, "Succeeded");
    let put_aside = "select count(*) from outbox where available_at > now() + interval '5 seconds'";
    eventually("events that wait elsewhere", Duration::from_secs(60), async || {
        match tipstaff.count(put_aside).await {
            0 => Err("none"),
            _ => Ok(()),
        }
    })
    .await;
    slow.release();
    tipstaff.ended_runs("slow-0", 1).await;
    assert_eq!(slow.requests(), 1);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn robots_txt_is_obeyed_asked_for_once_and_waited_for() {
    let origin = Origin::start("<p>page").await;
    let tipstaff = Installation::new("robots").await;
    let _operator = tipstaff.operator(&[]);
    let worker = tipstaff.worker(&[]);
    let more = "politeness: {minInterval: 0s}";
    let url = |path: &str| format!("http://{}/{path}", origin.host());
    let (open, closed, anyway) = (names("open", 1), names("closed", 1), names("anyway", 1));
    tipstaff.apply(&manifests("open", &url("opinions"), more, &open)).await;
    tipstaff.apply(&manifests("closed", &url("private/x"), more, &closed)).await;
    let permitted = "robotsMode: allow, politeness: {minInterval: 0s}";
    tipstaff.apply(&manifests("anyway", &url("private/y"), permitted, &anyway)).await;
    ready(&tipstaff, &[&open[..], &closed, &anyway].concat()).await;

    // Its server fails: nothing is fetched until it answers.
    origin.set_robots(503, "");
    tipstaff.request("open-0", "request-1").await;
    eventually("an event that waits for the robots.txt", Duration::from_secs(60), async || {
        match tipstaff
            .count("select count(*) from outbox where available_at > now() + interval '5 seconds'")
            .await
        {
            0 => Err("none"),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(reason(&run(&tipstaff, "anyway-0", 1).await), ("Succeeded", Some("Changed")));
    origin.set_robots(200, "User-agent: Tipstaff\nDisallow: /private/\n");
    // What failed is asked for again in a minute; no test should have to wait for that, nor for who remembers it.
    worker.terminate().await;
    sqlx::query("update robots set expires_at = asked_at").execute(&tipstaff.pool).await.unwrap();
    sqlx::query("update outbox set available_at = now()").execute(&tipstaff.pool).await.unwrap();
    let _worker = tipstaff.worker(&[]);
    let runs = tipstaff.ended_runs("open-0", 1).await;
    assert_eq!(reason(&runs[0]), ("Succeeded", Some("Changed")));
    assert_eq!(reason(&run(&tipstaff, "closed-0", 1).await), ("Failed", Some("RobotsDisallowed")));
    assert_eq!(reason(&run(&tipstaff, "open-0", 2).await), ("Succeeded", Some("Unchanged")));

    let paths: Vec<String> = origin.all_requests().into_iter().map(|request| request.path).collect();
    assert!(!paths.contains(&"/private/x".to_owned()), "{paths:?}");
    let decisions: Vec<String> = sqlx::query_scalar("select distinct robots from artifacts order by robots")
        .fetch_all(&tipstaff.pool)
        .await
        .unwrap();
    assert_eq!(decisions, ["Allowed", "NotAsked"]);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_left_in_peace_for_as_long_as_it_asks() {
    let origin = Origin::start("<p>page").await;
    let tipstaff = Installation::new("peace").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let both = names("page", 2);
    let more = "robotsMode: allow, politeness: {minInterval: 0s}";
    tipstaff.apply(&manifests("court", &origin.url(), more, &both)).await;
    ready(&tipstaff, &both).await;
    origin.set(429, "later");
    origin.set_headers(&[("retry-after", "4")]);
    tipstaff.request("page-0", "now").await;
    eventually("a request that is turned away", Duration::from_secs(30), async || {
        if origin.requests() == 1 { Ok(()) } else { Err("none") }
    })
    .await;
    origin.set(200, "<p>page");
    // The other subscription has not been told by the host, and is kept from it all the same.
    tipstaff.request("page-1", "now").await;
    for name in &both {
        let runs = tipstaff.ended_runs(name, 1).await;
        assert_eq!(reason(&runs[0]), ("Succeeded", Some("Changed")), "{name}");
    }
    let seen = origin.all_requests();
    assert!(seen[1].at.duration_since(seen[0].at) >= SignedDuration::from_millis(3_900), "{seen:?}");

    // It is the host that answers which asks, and not the one that led there.
    let other = Origin::start("").await;
    other.set(503, "later");
    other.set_headers(&[("retry-after", "3600")]);
    origin.set(302, "");
    origin.set_headers(&[("location", &other.url())]);
    tipstaff.request("page-0", "elsewhere").await;
    assert_eq!(left_in_peace(&tipstaff).await, [other.host()]);
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robots_txt_that_cannot_be_had_is_waited_for_and_of_a_huge_one_the_beginning_counts() {
    let [busy, broken, huge, cut] = [
        Origin::start("<p>1").await,
        Origin::start("<p>2").await,
        Origin::start("<p>3").await,
        Origin::start("<p>4").await,
    ];
    busy.set_robots(503, "");
    busy.set_robots_headers(&[("retry-after", "3600")]);
    broken.set_robots(200, "User-agent: *");
    broken.set_robots_headers(&[("content-encoding", "gzip")]);
    huge.set_robots(200, &format!("User-agent: *\nDisallow: /opinions\n{}", "# more\n".repeat(1 << 20)));
    // What is read of it would end with a line that disallows all, were it taken for a whole one.
    let (begin, line) = ("User-agent: *\n#", "\nDisallow: /");
    let filler = "x".repeat(500 * 1024 - begin.len() - line.len());
    cut.set_robots(200, &format!("{begin}{filler}{line}elsewhere\n"));
    let tipstaff = Installation::new("no-robots").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    for (name, origin) in [("busy", &busy), ("broken", &broken), ("huge", &huge), ("cut", &cut)] {
        let one = names(name, 1);
        let more = "politeness: {minInterval: 0s}";
        tipstaff.apply(&manifests(name, &origin.url(), more, &one)).await;
        ready(&tipstaff, &one).await;
        tipstaff.request(&one[0], "now").await;
    }
    assert_eq!(reason(&tipstaff.ended_runs("huge-0", 1).await[0]), ("Failed", Some("RobotsDisallowed")));
    assert_eq!(reason(&tipstaff.ended_runs("cut-0", 1).await[0]), ("Succeeded", Some("Changed")));
    assert_eq!(left_in_peace(&tipstaff).await, [busy.host()]);
    // From the first time on it is known since when it fails, so that there is an end to waiting for it.
    for (origin, retried_in) in [(&busy, "30 minutes"), (&broken, "10 seconds")] {
        eventually("a robots.txt that is waited for", Duration::from_secs(60), async || {
            let waited_for: i64 = sqlx::query_scalar(
                "select count(*) from robots where origin = $1 and unreachable_since is not null
                     and expires_at > now() + $2::text::interval",
            )
            .bind(format!("http://{}", origin.host()))
            .bind(retried_in)
            .fetch_one(&tipstaff.pool)
            .await
            .unwrap();
            if waited_for == 1 { Ok(()) } else { Err(origin.host()) }
        })
        .await;
        assert_eq!(origin.requests(), 0);
    }
    tipstaff.remove().await;
}

/// The hosts that are not asked for long, once there are any.
async fn left_in_peace(tipstaff: &Installation) -> Vec<String> {
    let hosts = "select host from hosts where blocked_until > now() + interval '30 minutes'";
    eventually("a host that is left in peace", Duration::from_secs(60), async || {
        let hosts: Vec<String> = sqlx::query_scalar(hosts).fetch_all(&tipstaff.pool).await.unwrap();
        if hosts.is_empty() { Err("none") } else { Ok(hosts) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_has_not_changed_is_not_sent_again_and_leaves_evidence_that_it_was_asked() {
    let origin = Origin::start("<p>first").await;
    origin.set_etag("\"one\"");
    let tipstaff = Installation::new("revisit").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let one = names("page", 1);
    tipstaff.apply(&manifests("court", &origin.url(), "politeness: {minInterval: 0s}", &one)).await;
    ready(&tipstaff, &one).await;
    assert_eq!(reason(&run(&tipstaff, "page-0", 1).await), ("Succeeded", Some("Changed")));
    assert_eq!(reason(&run(&tipstaff, "page-0", 2).await), ("Succeeded", Some("Unchanged")));
    assert_eq!(reason(&run(&tipstaff, "page-0", 3).await), ("Succeeded", Some("Unchanged")));
    origin.set(200, "<p>second");
    origin.set_etag("\"two\"");
    assert_eq!(reason(&run(&tipstaff, "page-0", 4).await), ("Succeeded", Some("Changed")));

    let rows = sqlx::query(
        "select status, fetch_hash, blob_uri, revisit_of is not null as is_revisit, request_headers::text as sent,
             requested_at <= fetched_at and fetched_at <= finished_at as is_ordered, sniffed_type, charset
         from artifacts order by id",
    )
    .fetch_all(&tipstaff.pool)
    .await
    .unwrap();
    let shown: Vec<(i32, bool)> = rows.iter().map(|row| (row.get("status"), row.get("is_revisit"))).collect();
    assert_eq!(shown, [(200, false), (304, true), (304, true), (200, false)]);
    for row in &rows {
        assert!(row.get::<bool, _>("is_ordered"));
        assert_eq!(row.get::<String, _>("sniffed_type"), "text/html");
        assert_eq!(row.get::<String, _>("charset"), "UTF-8");
        let sent: String = row.get("sent");
        assert!(sent.contains("user-agent"), "{sent}");
    }
    let uris: Vec<String> = rows.iter().map(|row| row.get("blob_uri")).collect();
    assert_eq!(uris[0], uris[1]);
    assert_eq!(uris[0], uris[2]);
    assert_ne!(uris[0], uris[3]);
    let sent: Vec<String> = rows.iter().map(|row| row.get("sent")).collect();
    assert!(!sent[0].contains("if-none-match") && sent[1].contains("if-none-match"), "{sent:?}");
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_due_together_share_one_fetch() {
    let origin = Origin::start("<p>page").await;
    let tipstaff = Installation::new("shared").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[]);
    let all = names("page", 3);
    tipstaff.apply(&manifests("court", &origin.url(), "robotsMode: allow", &all)).await;
    ready(&tipstaff, &all).await;
    // All are due before the host may be asked.
    sqlx::query("insert into hosts (host, blocked_until) values ($1, now() + interval '5 seconds')")
        .bind(origin.host())
        .execute(&tipstaff.pool)
        .await
        .unwrap();
    for name in &all {
        tipstaff.request(name, "now").await;
    }
    for name in &all {
        let runs = tipstaff.ended_runs(name, 1).await;
        assert_eq!(reason(&runs[0]), ("Succeeded", Some("Changed")), "{name}");
    }
    assert_eq!(origin.requests(), 1);
    let row =
        sqlx::query("select count(*) as documents, count(distinct artifact_id) as artifacts from documents")
            .fetch_one(&tipstaff.pool)
            .await
            .unwrap();
    assert_eq!((row.get::<i64, _>("documents"), row.get::<i64, _>("artifacts")), (3, 1));
    // Each has its own history: what one is told of is news to it once.
    for name in &all {
        assert_eq!(run(&tipstaff, name, 2).await.reason.as_deref(), Some("Unchanged"), "{name}");
    }
    assert_eq!(origin.requests(), 4);
    tipstaff.remove().await;
}
