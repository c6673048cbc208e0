//! `tipstaff self-test`, which `helm test` starts, against an installation and without one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Output, Stdio};

use tests::{Installation, Origin, corpus, program};
use tokio::process::Command;

const PERMISSIONS: &str = include_str!("src/self_test_permissions.yaml");

struct Test {
    tipstaff: Installation,
    kubeconfig: String,
}

impl Test {
    async fn new(name: &str) -> Self {
        let tipstaff = Installation::new(name).await;
        tipstaff.apply(PERMISSIONS).await;
        let kubeconfig = tipstaff.stack.kubeconfig_for("self-test", &[]).unwrap().display().to_string();
        Self { tipstaff, kubeconfig }
    }

    fn command(&self, url: &str, seconds: u32) -> Command {
        let mut command = Command::new(program("tipstaff"));
        command
            .args(["self-test", "--namespace", &self.tipstaff.namespace, "--url", url])
            .args(["--timeout-seconds", &seconds.to_string()])
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, url: &str, seconds: u32) -> (bool, String) {
        let Output { status, stdout, stderr } = self.command(url, seconds).output().await.unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        (status.success(), said)
    }

    async fn assert_nothing_is_left(&self) {
        let left = self.tipstaff.kubectl(&["get", "tsub,tsrc", "-o", "name"], "").await.unwrap();
        assert_eq!(left, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_fetched_and_nothing_is_left() {
    let test = Test::new("self-test").await;
    let _operator = test.tipstaff.operator(&[]);
    let _worker = test.tipstaff.worker(&[]);
    let origin = Origin::start(corpus::CA11).await;
    let (succeeded, said) = test.run(&origin.url(), 120).await;
    assert!(succeeded && said.contains("succeeded after") && said.contains("Changed"), "{said}");
    assert!(origin.requests() > 0);
    test.assert_nothing_is_left().await;

    origin.set(404, "");
    let (succeeded, said) = test.run(&origin.url(), 120).await;
    assert!(!succeeded && said.contains("HttpStatus") && said.contains("404"), "{said}");
    test.assert_nothing_is_left().await;
    test.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_runs_it_says_what_to_look_at() {
    let test = Test::new("self-test-alone").await;
    let (succeeded, said) = test.run("https://court.example/", 3).await;
    assert!(!succeeded && said.contains("within 3 s") && said.contains("does an operator lead"), "{said}");
    test.assert_nothing_is_left().await;
    test.tipstaff.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_interrupted_leaves_nothing() {
    let test = Test::new("self-test-stop").await;
    let mut process = test.command("https://court.example/", 120).stderr(Stdio::piped()).spawn().unwrap();
    tests::eventually("its Subscription", std::time::Duration::from_secs(30), async || {
        let made = test.tipstaff.kubectl(&["get", "tsub", "-o", "name"], "").await.unwrap();
        if made.is_empty() { Err(made) } else { Ok(()) }
    })
    .await;
    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert!(!process.wait().await.unwrap().success());
    test.assert_nothing_is_left().await;
    test.tipstaff.remove().await;
}
