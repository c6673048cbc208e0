//! Headers whose values are in Secrets, with operator and workers as processes on the real stack. The workers have the
//! permissions that the chart grants to the crawl role.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::Row;
use tests::{Installation, Origin, Process, Request, Run, eventually};

/// A schedule that is not due during a test: the test asks for its runs.
const NEVER_NOW: &str = "0 0 29 2 *";
/// How soon a changed Secret takes effect at the latest, on a busy machine.
const ROTATED_WITHIN: Duration = Duration::from_secs(90);

const FIRST: [&str; 2] = ["Bearer first-5f1c7d20", "key-first-90ab3c11"];
const SECOND: [&str; 2] = ["Bearer second-77e04b12", "key-second-c4d5e6f7"];

/// The Secret that the sources name, as text and, for the second value, as kubectl makes it of a file.
fn secret([token, key]: [&str; 2]) -> String {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "portal" },
        "stringData": { "token": token, "key": format!("{key}\n"), "broken": format!("{key}\n{token}") },
    })
    .to_string()
}

/// A source and its subscription; `headers` is a YAML list.
fn manifests(name: &str, url: &str, headers: &str) -> String {
    format!(
        "apiVersion: tipstaff.dev/v1alpha1\nkind: Source\nmetadata: {{ name: {name} }}\nspec:\n  \
         baseURL: '{url}'\n  politeness: {{ minInterval: 0s }}\n  fetch: {{ headers: {headers} }}\n\
         ---\napiVersion: tipstaff.dev/v1alpha1\nkind: Subscription\nmetadata: {{ name: {name} }}\n\
         spec: {{ sourceRef: {{ name: {name} }}, schedule: '{NEVER_NOW}' }}\n"
    )
}

fn from_secret(header: &str, secret: &str, key: &str) -> String {
    format!("{{ name: {header}, valueFrom: {{ secretKeyRef: {{ name: {secret}, key: {key} }} }} }}")
}

/// Two headers from the Secret, and one that is no secret.
fn headers() -> String {
    let token = from_secret("Authorization", "portal", "token");
    let key = from_secret("X-Api-Key", "portal", "key");
    format!("[{token}, {key}, {{ name: Accept-Language, value: de }}]")
}

async fn apply(tipstaff: &Installation, name: &str, url: &str, headers: &str) {
    tipstaff.apply(&manifests(name, url, headers)).await;
    tipstaff.condition(&format!("tsub/{name}"), "Ready", "True", Some("Scheduled")).await;
}

/// Asks for a run and waits for its end.
async fn run(tipstaff: &Installation, name: &str, number: usize) -> Run {
    tipstaff.request(name, &format!("request-{number}")).await;
    tipstaff.ended_runs(name, number).await.remove(number - 1)
}

async fn message(tipstaff: &Installation, run: &Run) -> String {
    sqlx::query_scalar("select message from runs where id = $1")
        .bind(run.id)
        .fetch_one(&tipstaff.pool)
        .await
        .unwrap()
}

fn sent<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

fn pair(request: &Request) -> [&str; 2] {
    ["authorization", "x-api-key"].map(|name| sent(request, name).unwrap_or_default())
}

/// What nobody may see: the values, and as the API server has them.
fn hidden() -> Vec<String> {
    let mut hidden = Vec::new();
    for value in FIRST.into_iter().chain(SECOND) {
        hidden.push(value.trim_start_matches("Bearer ").to_owned());
        hidden.extend([value.to_owned(), format!("{value}\n")].map(encoded));
    }
    hidden
}

fn encoded(value: String) -> String {
    let bytes = k8s_openapi::ByteString(value.into_bytes());
    serde_json::to_value(bytes).unwrap().as_str().unwrap().to_owned()
}

/// Every row of the catalog, as text.
async fn whole_catalog(tipstaff: &Installation) -> String {
    let tables: Vec<String> =
        sqlx::query_scalar("select table_name from information_schema.tables where table_schema = 'public'")
            .fetch_all(&tipstaff.pool)
            .await
            .unwrap();
    assert!(tables.contains(&"artifacts".to_owned()), "{tables:?}");
    let mut all = String::new();
    for table in tables {
        let sql = format!("select coalesce(string_agg(t::text, E'\\n'), '') from \"{table}\" t");
        let rows: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&tipstaff.pool).await.unwrap();
        all.push_str(&rows);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_arrives_follows_its_secret_and_is_kept_nowhere() {
    let origin = Origin::start("<p>page").await;
    let tipstaff = Installation::new("secrets").await;
    let operator = tipstaff.operator(&[]);
    let worker = tipstaff.worker(&[("RUST_LOG", "trace".to_owned())]);
    tipstaff.apply(&secret(FIRST)).await;
    apply(&tipstaff, "court", &origin.url(), &headers()).await;

    let first = run(&tipstaff, "court", 1).await;
    assert_eq!((first.phase.as_str(), first.reason.as_deref()), ("Succeeded", Some("Changed")));
    let requests = origin.all_requests();
    let [robots, page] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!((robots.path.as_str(), pair(robots)), ("/robots.txt", ["", ""]));
    assert_eq!(sent(robots, "accept-language"), None, "what robots.txt says is kept for all sources");
    assert_eq!(pair(page), FIRST);
    assert_eq!(sent(page, "accept-language"), Some("de"));

    let evidence: Value = sqlx::query("select request_headers from artifacts where run_id = $1")
        .bind(first.id)
        .fetch_one(&tipstaff.pool)
        .await
        .unwrap()
        .get("request_headers");
    for (name, kept) in
        [("authorization", "(not kept)"), ("x-api-key", "(not kept)"), ("accept-language", "de")]
    {
        let header = json!([name, kept]);
        assert!(evidence.as_array().unwrap().contains(&header), "{header} in {evidence}");
    }

    // Each request has the values of one edition of the Secret.
    tipstaff.apply(&secret(SECOND)).await;
    let rotated = Timestamp::now();
    let mut number = 1;
    eventually("a request with the new values", ROTATED_WITHIN, async || {
        number += 1;
        let run = run(&tipstaff, "court", number).await;
        assert_eq!(run.phase, "Succeeded");
        let requests = origin.all_requests();
        let last = requests.last().unwrap();
        assert!(pair(last) == FIRST || pair(last) == SECOND, "{last:?}");
        if pair(last) == SECOND { Ok(()) } else { Err(number) }
    })
    .await;
    assert!(Timestamp::now().duration_since(rotated) < ROTATED_WITHIN.try_into().unwrap());

    let catalog = whole_catalog(&tipstaff).await;
    assert!(catalog.contains("portal") && catalog.contains("(not kept)"));
    worker.signal("TERM").await;
    let logs = [operator.log(), ended_log(worker).await];
    assert!(logs[1].contains("/secrets/portal"), "even what the API server's client is asked is in the log");
    for value in hidden() {
        for (place, text) in [("catalog", &catalog), ("operator's log", &logs[0]), ("worker's log", &logs[1])]
        {
            assert!(!text.contains(&value), "{value:?} is in the {place}");
        }
    }
    tipstaff.remove().await;
}

async fn ended_log(worker: Process) -> String {
    let log = worker.log_path().to_owned();
    assert!(worker.wait().await.success());
    std::fs::read_to_string(log).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_origin_gets_none_of_the_sources_headers() {
    let first = Origin::start("").await;
    let other = Origin::start_on(Ipv4Addr::new(127, 0, 0, 2), "<p>moved").await;
    let tipstaff = Installation::new("moved").await;
    let _operator = tipstaff.operator(&[]);
    let _worker = tipstaff.worker(&[("TIPSTAFF_ALLOW_CIDRS", "127.0.0.0/8".to_owned())]);
    tipstaff.apply(&secret(FIRST)).await;
    first.set(302, "");
    first.set_headers(&[("location", &other.url())]);
    apply(&tipstaff, "court", &first.url(), &headers()).await;
    assert_eq!(run(&tipstaff, "court", 1).await.phase, "Succeeded");
    let asked = first.all_requests();
    assert_eq!(pair(asked.last().unwrap()), FIRST);
    let seen = other.all_requests();
    assert!(seen.iter().any(|request| request.path == "/opinions"), "{seen:?}");
    for request in &seen {
        for name in ["authorization", "x-api-key", "accept-language"] {
            assert_eq!(sent(request, name), None, "{request:?}");
        }
        assert!(sent(request, "user-agent").unwrap().contains("+https://"), "a contact is for all");
    }
    tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_had_names_secret_and_key_and_says_why() {
    let origin = Origin::start("<p>page").await;
    let tipstaff = Installation::new("unreadable").await;
    let _operator = tipstaff.operator(&[]);
    tipstaff.apply(&secret(FIRST)).await;
    let of = |secret: &str, key: &str| format!("[{}]", from_secret("X-Api-Key", secret, key));
    apply(&tipstaff, "court", &origin.url(), &of("portal", "key")).await;
    apply(&tipstaff, "plain", &origin.url(), "[{ name: X-Edition, value: print }]").await;
    let outcome = async |name: &str, number: usize| {
        let run = run(&tipstaff, name, number).await;
        (run.reason.clone().unwrap_or_default(), message(&tipstaff, &run).await)
    };

    // Without a way to an API server a worker does all that needs none.
    let lost = ("KUBECONFIG", "/nowhere/kubeconfig".to_owned());
    let worker = tipstaff.worker(&[lost]);
    assert_eq!(run(&tipstaff, "plain", 1).await.phase, "Succeeded");
    let (reason, said) = outcome("court", 1).await;
    assert!(reason == "SecretForbidden" && said.contains("no way to the API server"), "{reason}: {said}");
    worker.terminate().await;

    // Somebody who may read none.
    let nobody = tipstaff.stack.kubeconfig_for("nobody", &[]).unwrap();
    let worker = tipstaff.worker(&[("KUBECONFIG", nobody.display().to_string())]);
    let (reason, said) = outcome("court", 2).await;
    let place = format!("{}/portal", tipstaff.namespace);
    assert!(reason == "SecretForbidden" && said.contains(&place), "{reason}: {said}");
    worker.terminate().await;

    // An API server that is away is waited for.
    let worker = tipstaff.worker(&[("KUBECONFIG", api_server_that_is_away(&tipstaff))]);
    tipstaff.request("court", "request-3").await;
    eventually("an event that waits", Duration::from_secs(60), async || {
        let waiting = "select count(*) from outbox where topic = 'crawl.request' and available_at > now()";
        if tipstaff.count(waiting).await == 1 { Ok(()) } else { Err(worker.log()) }
    })
    .await;
    assert_eq!(tipstaff.runs("court").await[2].phase, "Running");
    worker.terminate().await;
    let _worker = tipstaff.worker(&[]);
    assert_eq!(tipstaff.ended_runs("court", 3).await[2].phase, "Succeeded");
    assert_eq!(sent(origin.all_requests().last().unwrap(), "x-api-key"), Some(FIRST[1]));

    let rows = [
        ("missing", "gazette", "key", "SecretNotFound", "there is no Secret"),
        ("keyless", "portal", "code", "SecretKeyNotFound", "has no key code"),
        ("unfit", "portal", "broken", "InvalidHeader", "the key broken"),
    ];
    let asked = origin.all_requests().len();
    for (name, secret, key, expected, part) in rows {
        apply(&tipstaff, name, &origin.url(), &of(secret, key)).await;
        let (reason, said) = outcome(name, 1).await;
        let place = format!("{}/{secret}", tipstaff.namespace);
        assert_eq!(reason, expected, "{said}");
        assert!(said.contains(part) && said.contains(&place), "{said}");
        assert!(FIRST.iter().all(|value| !said.contains(value)), "{said}");
        let shown = tipstaff.condition(&format!("tsub/{name}"), "Succeeding", "False", None).await;
        assert!(shown.contains(&place), "{shown}");
    }
    assert_eq!(origin.all_requests().len(), asked, "nothing is asked without the headers");

    // What was missing is made, and the next run succeeds.
    tipstaff.apply(&secret(FIRST).replace("portal", "gazette")).await;
    let mut number = 1;
    eventually("a run with the new Secret", Duration::from_secs(60), async || {
        number += 1;
        let run = run(&tipstaff, "missing", number).await;
        if run.phase == "Succeeded" { Ok(()) } else { Err(run) }
    })
    .await;
    tipstaff.remove().await;
}

/// A kubeconfig that leads to a port where nobody listens.
fn api_server_that_is_away(tipstaff: &Installation) -> String {
    let path = tipstaff.stack.kubeconfig_for("tipstaff-worker-crawl", &[]).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let url = tipstaff.stack.kubernetes_url().unwrap();
    assert!(text.contains(&url), "{text}");
    std::fs::write(&path, text.replace(&url, "https://127.0.0.1:1")).unwrap();
    path.display().to_string()
}
