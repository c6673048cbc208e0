//! A site with a hundred thousand links.

use std::{fmt::Write, time::Duration};

use tests::{Installation, Origin, corpus, eventually};

use crate::objects::{MB, all_is_done, assert_grew_less, source, subscription};

const LINKS: usize = 100_000;
/// As many as a sitemap may have (sitemaps.org).
const ENTRIES: usize = 50_000;
/// How many lists of each kind are read at the same time.
const LISTS: usize = 3;
const SOON: Duration = Duration::from_secs(120);

fn page(links: usize) -> String {
    let mut html = String::from("<html><body><main>\n");
    for number in 0..links {
        writeln!(html, "<a href=\"/opinions/{number}\">No. {number}</a>").unwrap();
    }
    html
}

fn sitemap(origin: &Origin, first: usize, entries: usize) -> String {
    let mut xml = String::from("<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n");
    for number in first..first + entries {
        writeln!(xml, "<url><loc>{}</loc></url>", origin.at(&format!("/opinions/{number}"))).unwrap();
    }
    xml + "</urlset>"
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_thousand_links_as_many_as_are_allowed_are_followed_and_the_rest_is_said_to_wait() {
    let tipstaff = Installation::new("many-links").await;
    let worker = tipstaff.worker(&[]);
    let _operator = tipstaff.operator(&[]);
    let origin = Origin::start(corpus::CA11).await;
    let index: String = (0..2)
        .map(|number| {
            format!("<sitemap><loc>{}</loc></sitemap>", origin.at(&format!("/sitemap-{number}.xml")))
        })
        .collect();
    origin.put("/index.xml", "application/xml", format!("<sitemapindex>{index}</sitemapindex>"));
    for number in 0..2 {
        let entries = sitemap(&origin, number * ENTRIES, ENTRIES);
        origin.put(&format!("/sitemap-{number}.xml"), "application/xml", entries);
    }
    origin.put("/overfull.xml", "application/xml", sitemap(&origin, 0, ENTRIES + 7));
    for number in 0..LISTS {
        origin.put(&format!("/list-{number}"), "text/html", page(LINKS));
    }
    let limit = ", follow: { limit: 5 }";
    let mut lists = vec![
        ("index".to_owned(), "/index.xml".to_owned()),
        ("overfull".to_owned(), "/overfull.xml".to_owned()),
    ];
    lists.extend((0..LISTS).map(|number| (format!("list-{number}"), format!("/list-{number}"))));
    for (name, path) in &lists {
        let more = ", fetch: { timeout: 5m }";
        tipstaff
            .apply(&(source(name, &origin.at(path), &format!("{limit}{more}")) + &subscription(name)))
            .await;
    }
    tipstaff.apply(&(source("small", &origin.at("/small"), "") + &subscription("small"))).await;
    tipstaff.request("small", "1").await;
    tipstaff.ended_runs("small", 1).await;
    let before = worker.peak_memory();

    for (name, _) in &lists {
        tipstaff.request(name, "1").await;
    }
    tipstaff.request("small", "2").await;
    assert_eq!(tipstaff.ended_runs("small", 2).await[1].reason.as_deref(), Some("Unchanged"));
    for (name, _) in &lists {
        assert_eq!(tipstaff.ended_runs(name, 1).await[0].reason.as_deref(), Some("Changed"), "{name}");
        let message = eventually("what is said of the list", SOON, async || {
            let run = tipstaff.object(&format!("tsub/{name}")).await["status"]["lastRun"].clone();
            run["message"].as_str().map(str::to_owned).ok_or(run)
        })
        .await;
        let expected = match name.as_str() {
            // Either of its sitemaps was read first, and took all room.
            "index" => "wait for a later run: follow.limit is 5".to_owned(),
            "overfull" => format!("{} documents that the sitemap names wait for a later run", ENTRIES - 5),
            _ => {
                format!("{} documents that the page names wait for a later run: follow.limit is 5", LINKS - 5)
            }
        };
        assert!(message.contains(&expected), "{name}: {message}");
        if name == "overfull" {
            assert!(message.contains("7 entries of the sitemap beyond the 50000"), "{message}");
        }
        let of_list = "select count(*) from documents d join runs r on r.id = d.run_id join subscriptions s
            on s.id = r.subscription_id where s.name = $1 and not d.is_base and not d.is_list";
        let count: i64 = sqlx::query_scalar(of_list).bind(name).fetch_one(&tipstaff.pool).await.unwrap();
        assert_eq!(count, 5, "{name}");
    }
    all_is_done(&tipstaff, SOON).await;
    // Two lists at a time are in memory, whoever else waits.
    assert_grew_less(&worker, before, 400 * MB);
    worker.terminate().await;
    tipstaff.remove().await;
}
