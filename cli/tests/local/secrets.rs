//! Headers whose values are in Secrets among the manifests.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpListener;

use super::{LOOPBACK, Tipstaff, YEARLY, manifest, once};

const FIRST: [&str; 2] = ["Bearer first-5f1c7d20", "key-first-90ab3c11"];
const SECOND: [&str; 2] = ["Bearer second-77e04b12", "key-second-c4d5e6f7"];
/// `key-first-90ab3c11` and a line break, as `base64` makes it of a file.
const FIRST_KEY_ENCODED: &str = "a2V5LWZpcnN0LTkwYWIzYzEx\n    Cg==";

/// A site with one page that notes what it was asked with.
struct Site {
    url: String,
    asked: Arc<Mutex<Vec<[String; 2]>>>,
}

impl Site {
    async fn start() -> Self {
        let asked: Arc<Mutex<Vec<[String; 2]>>> = Arc::default();
        let noted = asked.clone();
        let page = async move |uri: Uri, headers: HeaderMap| {
            if uri.path() == "/robots.txt" {
                return (StatusCode::NOT_FOUND, "");
            }
            let header = |name: &str| {
                headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
            };
            noted.lock().unwrap().push([header("authorization"), header("x-api-key")]);
            (StatusCode::OK, "<p>page")
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().fallback(page);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<[String; 2]> {
        self.asked.lock().unwrap().clone()
    }
}

/// A source and a subscription that is asked to run by this token.
fn objects(url: &str, request: &str) -> String {
    let headers = [("Authorization", "token"), ("X-Api-Key", "key")].map(|(header, key)| {
        format!("    - {{name: {header}, valueFrom: {{secretKeyRef: {{name: portal, key: {key}}}}}}}\n")
    });
    let own = format!(
        "  baseURL: {url}\n  politeness: {{minInterval: 0s}}\n  fetch:\n    headers:\n{}",
        headers.concat()
    );
    manifest("court", url, YEARLY, Some(request)).replace(&format!("  baseURL: {url}\n"), &own)
}

fn secret(values: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: portal\n{values}")
}

fn second_secret() -> String {
    secret(&format!("stringData: {{token: {}, key: {}}}\n", SECOND[0], SECOND[1]))
}

/// The files below a folder that hold one of the values, in plain or as the manifests have it.
fn holders(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                let text = String::from_utf8_lossy(&bytes);
                if hidden().iter().any(|value| text.contains(value)) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    found
}

fn hidden() -> [&'static str; 5] {
    ["first-5f1c7d20", "first-90ab3c11", "second-77e04b12", "second-c4d5e6f7", "a2V5LWZpcnN0LTkwYWIzYzEx"]
}

#[tokio::test]
async fn a_secret_of_the_manifests_is_sent_and_kept_nowhere() {
    let place = tempfile::tempdir().unwrap();
    let site = Site::start().await;
    let (manifests, data) = (place.path().join("manifests"), place.path().join("data"));
    fs::create_dir(&manifests).unwrap();
    let first = secret(&format!(
        "type: Opaque\ndata:\n  key: |\n    {FIRST_KEY_ENCODED}\nstringData:\n  token: {}\n",
        FIRST[0]
    ));
    fs::write(manifests.join("secret.yaml"), first).unwrap();
    fs::write(manifests.join("court.yaml"), objects(&site.url, "first")).unwrap();
    // One that no source names is nobody's business.
    let unused = secret("stringData: {token: unused}\n").replace("portal", "unused");
    fs::write(manifests.join("unused.yaml"), unused).unwrap();

    let finished = once(&manifests, &data, &LOOPBACK).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(site.asked(), [FIRST.map(str::to_owned)]);
    let told = format!("{finished:?}");
    assert!(hidden().iter().all(|value| !told.contains(value)), "{told}");

    // An edit takes effect with the next run; what cannot be read leaves the one before in force.
    let mut tipstaff = Tipstaff::local(&manifests, &data, &LOOPBACK);
    assert_eq!(tipstaff.wait_for("run_ended").await["phase"], "Succeeded");
    fs::write(manifests.join("secret.yaml"), second_secret()).unwrap();
    fs::write(manifests.join("court.yaml"), objects(&site.url, "second")).unwrap();
    assert_eq!(tipstaff.wait_for("run_ended").await["phase"], "Succeeded");
    assert_eq!(site.asked().last(), Some(&SECOND.map(str::to_owned)));

    let broken = second_secret().replace(SECOND[1], &format!("*{}", SECOND[1]));
    fs::write(manifests.join("secret.yaml"), broken).unwrap();
    let problem = tipstaff.wait_for("problem").await;
    assert!(!hidden().iter().any(|value| problem.to_string().contains(value)), "{problem}");
    fs::write(manifests.join("court.yaml"), objects(&site.url, "third")).unwrap();
    assert_eq!(tipstaff.wait_for("run_ended").await["phase"], "Succeeded");
    assert_eq!(site.asked().last(), Some(&SECOND.map(str::to_owned)));

    fs::remove_file(manifests.join("secret.yaml")).unwrap();
    tipstaff.wait_for("problems_solved").await;
    fs::write(manifests.join("court.yaml"), objects(&site.url, "fourth")).unwrap();
    let run = tipstaff.wait_for("run_ended").await;
    assert_eq!((&run["phase"], &run["reason"]), (&json!("Failed"), &json!("SecretNotFound")), "{run}");
    assert!(run["message"].as_str().unwrap().contains("default/portal"), "{run}");
    assert_eq!(site.asked().len(), 4, "nothing is asked without the headers");

    tipstaff.signal(Signal::INT);
    let finished = tipstaff.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let told = format!("{finished:?}");
    assert!(hidden().iter().all(|value| !told.contains(value)), "{told}");
    assert_eq!(holders(&data), Vec::<String>::new());
    // The search can find.
    fs::write(data.join("planted"), SECOND[1]).unwrap();
    assert_eq!(holders(&data).len(), 1);
}
