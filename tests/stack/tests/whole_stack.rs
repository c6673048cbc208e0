//! The real parts, started, used with their own tools, killed and started again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use stack::{BUCKET, DATABASE, Part, Stack, StackError, StackOptions};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

#[tokio::test(flavor = "multi_thread")]
async fn every_part_works_and_keeps_its_data_when_killed() {
    let stack = Stack::all().await.unwrap();
    tokio::join!(kubernetes(&stack), kafka(&stack), postgres(&stack), object_store(&stack));
}

async fn kubernetes(stack: &Stack) {
    let namespaces = stack.kubectl(&["get", "namespaces", "--output=name"], "").await.unwrap();
    assert!(namespaces.contains("namespace/default"), "{namespaces}");
    let version = stack.kubectl(&["version"], "").await.unwrap();
    assert!(version.contains("Server Version: v1.36.3"), "{version}");

    // The controllers work: a namespace gets its account, and goes when it is deleted, with what is in it.
    stack.kubectl(&["create", "namespace", "killed"], "").await.unwrap();
    let map =
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "killed"}}"#;
    stack.kubectl(&["apply", "--filename=-"], map).await.unwrap();
    let wait = ["wait", "--for=create", "serviceaccount/default", "--namespace=killed"];
    stack.kubectl(&wait, "").await.unwrap();

    // A certificate's user and groups are what RBAC sees.
    let user = stack.kubeconfig_for("jane", &["readers", "writers"]).unwrap();
    let user = format!("--kubeconfig={}", user.display());
    let kubectl = stack.kubectl_path().unwrap();
    let who = Command::new(&kubectl).args([&user, "auth", "whoami"]).output().unwrap();
    let who = String::from_utf8(who.stdout).unwrap();
    for word in ["jane", "readers", "writers", "system:authenticated"] {
        assert!(who.contains(word), "{word}: {who}");
    }
    let refused = Command::new(&kubectl).args([&user, "get", "secrets"]).output().unwrap();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("Forbidden"));

    for part in [Part::Etcd, Part::KubeApiserver, Part::KubeControllerManager] {
        stack.service(part).unwrap().kill().await.unwrap();
    }
    for part in [Part::Etcd, Part::KubeApiserver, Part::KubeControllerManager] {
        stack.service(part).unwrap().start().await.unwrap();
    }
    let get = ["get", "configmap", "kept", "--namespace=killed"];
    stack.kubectl(&get, "").await.unwrap();
    stack.kubectl(&["delete", "namespace", "killed", "--timeout=60s"], "").await.unwrap();
}

async fn kafka(stack: &Stack) {
    let kafka = stack.service(Part::Kafka).unwrap();
    let port = kafka.port();
    let create = ["--create", "--topic", "kept", "--partitions", "3"];
    stack.kafka_tool(TOPICS, &create, "").await.unwrap();
    stack.kafka_tool(PRODUCER, &["--topic", "kept"], "before\n").await.unwrap();

    kafka.kill().await.unwrap();
    assert_eq!(kafka.process_id().await, None);
    assert!(matches!(kafka.check().await, Err(StackError::PartFailed { .. })));
    kafka.start().await.unwrap();
    assert_eq!(kafka.port(), port);

    let consume = ["--topic", "kept", "--from-beginning", "--max-messages", "1", "--timeout-ms", "30000"];
    let read = stack.kafka_tool(CONSUMER, &consume, "").await.unwrap();
    assert_eq!(read, "before\n");
    let missing = stack.kafka_tool(TOPICS, &["--describe", "--topic", "none"], "").await;
    assert!(missing.unwrap_err().to_string().contains("does not exist"));
}

async fn postgres(stack: &Stack) {
    let postgres = stack.service(Part::Postgres).unwrap();
    let port = postgres.port();
    assert_eq!(stack.psql(DATABASE, "select 1").await.unwrap(), "1");
    let url = stack.create_database("odd \"name\"").await.unwrap();
    assert!(url.starts_with("postgres://") && url.contains(&format!(":{port}/")));
    stack.psql(DATABASE, "create table kept as select 42 as answer").await.unwrap();

    for ending in ["kill", "stop", "restart"] {
        match ending {
            "kill" => postgres.kill().await.unwrap(),
            "stop" => postgres.stop().await.unwrap(),
            _ => postgres.restart().await.unwrap(),
        }
        if ending != "restart" {
            assert!(stack.psql(DATABASE, "select 1").await.is_err());
            postgres.start().await.unwrap();
        }
        assert_eq!(postgres.port(), port);
        assert_eq!(stack.psql(DATABASE, "select answer from kept").await.unwrap(), "42");
    }

    postgres.pause().await;
    assert!(postgres.check().await.is_err());
    postgres.resume().await;
    postgres.check().await.unwrap();
}

async fn object_store(stack: &Stack) {
    let s3 = stack.s3().unwrap();
    let object = format!("{}/{BUCKET}/some/key", s3.endpoint);
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "30"])
            .args(["--aws-sigv4", &format!("aws:amz:{}:s3", s3.region)])
            .args(["--user", &format!("{}:{}", s3.access_key, s3.secret_key)])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "bytes").unwrap();
    curl(&["--upload-file", file.path().to_str().unwrap(), &object]);
    stack.service(Part::Minio).unwrap().kill().await.unwrap();
    stack.service(Part::Minio).unwrap().start().await.unwrap();
    assert_eq!(curl(&[&object]), "bytes");
}

#[tokio::test]
async fn a_part_that_does_not_start_is_named_with_the_end_of_its_log() {
    let options = StackOptions { arguments: vec![(Part::Etcd, "--no-such-flag".to_owned())] };
    let error = Stack::start(&[Part::KubeApiserver, Part::Postgres], options).await.unwrap_err();
    let StackError::PartFailed { part, log, log_end, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*part, Part::Etcd);
    assert!(log_end.contains("no-such-flag"), "{log_end}");
    assert!(log.exists());
    assert!(error.to_string().contains("etcd did not start: it ended (exit status"), "{error}");
    // The part that did start was ended again: no process has the stack's name in its arguments.
    let name = log.ancestors().nth(2).unwrap().file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("test-"), "{name}");
    assert_eq!(process_with(name), None);
}

#[tokio::test]
async fn the_end_of_a_stack_ends_its_parts_and_removes_its_data() {
    let stack = Stack::start(&[Part::Etcd], StackOptions::default()).await.unwrap();
    let etcd = stack.service(Part::Etcd).unwrap();
    let process = etcd.process_id().await.unwrap();
    let log = etcd.log_path();
    let process = format!("/proc/{process}/cmdline");
    let command = std::fs::read_to_string(&process).unwrap();
    let data = command.split('\0').find_map(|word| word.strip_prefix("--data-dir=")).unwrap();
    assert!(Path::new(data).exists());
    drop(stack);
    assert!(std::fs::read_to_string(&process).map_or(true, |command| command.is_empty()));
    assert!(!Path::new(data).exists());
    assert!(log.exists());
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    // An argument to know this test's etcd by.
    let token = format!("--initial-cluster-token=given-up-{}", std::process::id());
    let options = StackOptions { arguments: vec![(Part::Etcd, token.clone())] };
    let mut start = Box::pin(Stack::start(&[Part::KubeApiserver], options));
    tokio::select! {
        _ = &mut start => panic!("the API server was ready before etcd was seen"),
        () = wait_for("etcd to be started", || process_with(&token).map(drop)) => {}
    }
    drop(start);
    wait_for("etcd to end", || process_with(&token).is_none().then_some(())).await;
}

/// The arguments of a process that has the text in them.
fn process_with(text: &str) -> Option<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
        .find(|arguments| arguments.contains(text))
}

/// Run by the next test as a program of its own, to be killed.
#[tokio::test]
#[ignore = "it is the program that another test kills"]
async fn program_to_be_killed() {
    let Some(file) = std::env::var_os("STARTED_FILE") else {
        return;
    };
    let stack = Stack::start(&[Part::Etcd], StackOptions::default()).await.unwrap();
    let process = stack.service(Part::Etcd).unwrap().process_id().await.unwrap();
    std::fs::write(&file, format!("{process} {}", stack.name())).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn parts_die_with_a_test_program_that_is_killed() {
    if !Path::new("/usr/bin/setpriv").exists() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("started");
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "program_to_be_killed"])
        .env("STARTED_FILE", &file)
        .spawn()
        .unwrap();
    let started = wait_for("the program to start its part", || {
        std::fs::read_to_string(&file).ok().filter(|started| !started.is_empty())
    })
    .await;
    let (process, stack) = started.split_once(' ').unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    // A process that ended but was not waited for still has a folder there, with an empty command line.
    let command = format!("/proc/{process}/cmdline");
    wait_for("the part to end", || match std::fs::read(&command) {
        Ok(command) if !command.is_empty() => None,
        _ => Some(()),
    })
    .await;
    // It could not remove its data itself.
    Stack::down(&Stack::default_state_file(stack).unwrap(), true).await.unwrap();
}

#[test]
fn the_command_line_starts_a_stack_that_stays_and_ends_it() {
    let cache = tempfile::tempdir().unwrap();
    let state = cache.path().join("state.json");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
        command
            .args(arguments)
            .arg("--state")
            .arg(&state)
            .args(["--name", &format!("command-line-{}", std::process::id())]);
        command.output().unwrap()
    };
    let up = run(&["up", "--parts", "postgres", "--print-env"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));

    let shell = |exports: &[u8], script: &str| {
        let script = format!("{}\n{script}", String::from_utf8_lossy(exports));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let query = "psql -X -A -t -c 'select 1' \"$DATABASE_URL\" && psql -X -A -t -c 'select 2'";
    assert_eq!(shell(&up.stdout, query), (true, "1\n2\n".to_owned()));

    assert!(run(&["kill", "postgres"]).status.success());
    let status = run(&["status"]);
    assert!(!status.status.success());
    assert!(String::from_utf8_lossy(&status.stdout).contains("ended"));
    let restart = run(&["restart", "postgres"]);
    assert!(restart.status.success(), "{}", String::from_utf8_lossy(&restart.stderr));
    let status = run(&["status"]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    let exports = run(&["env"]).stdout;
    assert_eq!(exports, up.stdout);
    assert_eq!(shell(&exports, query).1, "1\n2\n");

    let down = run(&["down"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(!shell(&exports, query).0);
    let status = run(&["status"]);
    let message = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(!status.status.success() && message.contains("no stack is up"), "{message}");
}

async fn wait_for<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(met) = condition() {
            return met;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
