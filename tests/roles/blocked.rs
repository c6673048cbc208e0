//! Pages that stand in for a list that is followed.

use jiff::Timestamp;

use crate::place::{HTML, Roles, refused};

fn list(paths: &[&str]) -> String {
    let items: String = paths.iter().map(|path| format!("<li><a href='{path}'>an opinion</a>")).collect();
    format!("<!doctype html><title>Opinions</title><ul>{items}</ul>")
}

#[tokio::test]
async fn a_page_that_stands_in_for_a_list_fails_and_nothing_is_taken_for_gone() {
    let roles = Roles::new(Some("a")).await;
    let opinions = list(&["/1", "/2"]);
    roles.site.put("/page", HTML, opinions.clone());
    assert_eq!(roles.run().await.0, ["Baseline", "Baseline"]);
    for (sign, page) in [
        (
            "a challenge of Cloudflare",
            "<title>Just a moment...</title><script src='/cdn-cgi/challenge-platform/x.js'></script>
             <p>Checking your browser. <a href='/help'>Why do I see this?</a>",
        ),
        (
            "a refusal of access",
            "<title>Access denied</title><h1>Access denied</h1><a href='/contact'>Contact us</a>",
        ),
        (
            "a log-in form",
            "<title>Sign in</title><form><input type=password></form><a href='/1'>the page you asked for</a>",
        ),
        // Its title says nothing: it names none of what was there.
        (
            "a log-in form",
            "<title>Court</title><form><input type=password></form><a href='/forgot'>Forgot?</a>",
        ),
        // None of its links is one to follow.
        (
            "a log-in form",
            "<title>Court</title><form><input type=password></form><a href='mailto:a@b.example'>x</a>",
        ),
    ] {
        roles.site.put("/page", HTML, format!("<!doctype html>{page}"));
        let (run, event) = roles.due().await;
        let (reason, why) = refused(roles.handle(&event).await.unwrap_err());
        assert_eq!(reason, "LooksBlocked", "{page}: {why}");
        assert!(why.contains(sign), "{page}: {why}");
        assert!(roles.outbox().await.is_empty(), "nothing is asked for");
        assert_eq!(roles.place.number("select count(*) from documents where is_gone").await, 0);
        // What came is kept: it shows why.
        let kept: i64 = sqlx::query_scalar("select count(*) from artifacts where run_id = $1")
            .bind(run)
            .fetch_one(&roles.place.sql)
            .await
            .unwrap();
        assert_eq!(kept, 1);
        roles.place.catalog.fail_run(run, "LooksBlocked", "", Timestamp::now()).await.unwrap();
    }
    roles.site.put("/page", HTML, opinions);
    let (told, run) = roles.run().await;
    assert_eq!((told, run.reason.as_deref()), (Vec::new(), Some("Unchanged")));
    assert_eq!(roles.place.number("select count(*) from versions").await, 2);
}

#[tokio::test]
async fn a_log_in_form_beside_the_documents_of_a_list_is_a_part_of_it() {
    let roles = Roles::new(Some("a")).await;
    let form = "<form>Clerks: <input type=password></form>";
    roles.site.put("/page", HTML, list(&["/1", "/2"]) + form);
    assert_eq!(roles.run().await.0, ["Baseline", "Baseline"]);
    roles.site.put("/page", HTML, list(&["/2", "/3"]) + form);
    let mut told = roles.run().await.0;
    told.sort();
    assert_eq!(told, ["New", "Removed"]);
}
