//! A stack with a node: pods run on it, reach what they shall, and nothing of it stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use stack::{Artifact, Image, Part, Stack, StackError, StackOptions};

const PROBE: &str = "tipstaff.test/probe:1";
const NAMESPACE: &str = "restricted";

/// As the `restricted` profile of Pod Security demands it.
const POD: &str = r#"{
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": { "name": "probe", "namespace": "restricted", "labels": { "app": "probe" } },
    "spec": {
        "containers": [{
            "name": "probe",
            "image": "tipstaff.test/probe:1",
            "imagePullPolicy": "Never",
            "args": ["ADDRESS"],
            "readinessProbe": { "httpGet": { "port": 8080 }, "periodSeconds": 1 },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] }
            }
        }],
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "terminationGracePeriodSeconds": 1
    }
}"#;

/// A service in front of the pod. Its name is not the pod's, which the pod itself takes for its own address.
const SERVICE: &str = r#"{
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": { "name": "front", "namespace": "restricted" },
    "spec": { "selector": { "app": "probe" }, "ports": [{ "port": 80, "targetPort": 8080 }] }
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_and_reach_what_they_shall_and_nothing_of_them_stays() {
    if stack::can_run_node().is_err() {
        let refused = Stack::start(&Part::NODE, StackOptions::default()).await.unwrap_err();
        assert!(matches!(refused, StackError::NoNode { .. }), "{refused}");
        return;
    }
    let parts = [&Part::NODE[..], &[Part::Kafka, Part::Postgres, Part::Minio]].concat();
    let (stack, other) = tokio::join!(
        Stack::start(&parts, StackOptions::default()),
        Stack::start(&Part::NODE, StackOptions::default()),
    );
    let (stack, other) = (stack.unwrap(), other.unwrap());
    tokio::join!(use_node(&stack), use_node(&other));
    servers_are_reached_from_the_node(&stack).await;

    let traces = [Traces::of(&stack), Traces::of(&other)];
    for traces in &traces {
        // What is looked for afterwards is there before.
        assert!(traces.has_address() && traces.data.exists());
        assert!(!traces.control_groups().is_empty() && traces.processes().len() > 10);
    }
    drop((stack, other));
    for traces in traces {
        traces.are_gone().await;
    }
}

/// A pod under the restricted profile, from its image to its end.
async fn use_node(stack: &Stack) {
    let program = stack::build(&[Artifact::Probe]).await.and_then(|()| Artifact::Probe.path()).unwrap();
    let image = Image {
        name: PROBE,
        files: program.parent().unwrap(),
        entrypoint: &["/probe"],
        environment: &["COLOUR=green"],
        user: "65532:65532",
    };
    stack.load_image(&image).await.unwrap();
    let server = server_that_says(stack, "good morning");

    stack.kubectl(&["create", "namespace", NAMESPACE], "").await.unwrap();
    let label = "pod-security.kubernetes.io/enforce=restricted";
    stack.kubectl(&["label", "namespace", NAMESPACE, label], "").await.unwrap();
    let account = ["wait", "--for=create", "serviceaccount/default", "--namespace", NAMESPACE];
    stack.kubectl(&account, "").await.unwrap();
    stack.kubectl(&["apply", "--filename=-"], &POD.replace("ADDRESS", &server)).await.unwrap();
    stack.kubectl(&["apply", "--filename=-"], SERVICE).await.unwrap();
    ready(stack).await;

    let logs = ["logs", "probe", "--namespace", NAMESPACE];
    let said = stack.kubectl(&logs, "").await.unwrap();
    for line in [
        "I am user 65532, and COLOUR is green",
        "the API server knows me as system:serviceaccount:restricted:default",
        &format!("{server} says good morning"),
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }

    assert_eq!(forwarded(stack), "served from a pod\n");
    assert_eq!(got_from_pod(stack, "http://front").await, "served from a pod\n");

    // The pod goes on while what runs it does not, and is known again afterwards.
    let before = started(stack).await;
    for part in [Part::Kubelet, Part::Containerd] {
        stack.service(part).unwrap().kill().await.unwrap();
    }
    for part in [Part::Containerd, Part::Kubelet] {
        stack.service(part).unwrap().start().await.unwrap();
    }
    stack.service(Part::KubeProxy).unwrap().restart().await.unwrap();
    ready(stack).await;
    assert_eq!(started(stack).await, before);
    // A kubelet that has just begun has yet to hear of its pods.
    let deadline = Instant::now() + Duration::from_secs(60);
    let said_since = loop {
        match stack.kubectl(&logs, "").await {
            Ok(said_since) => break said_since,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(said_since.starts_with(&said), "{said_since}");
}

async fn ready(stack: &Stack) {
    let wait = ["wait", "--for=condition=Ready", "pod/probe", "--namespace", NAMESPACE, "--timeout=60s"];
    if let Err(error) = stack.kubectl(&wait, "").await {
        let pod = stack.kubectl(&["describe", "pod", "probe", "--namespace", NAMESPACE], "").await;
        panic!("{error}\n{}", pod.unwrap_or_default());
    }
}

/// When the container of the pod was started, and how often again.
async fn started(stack: &Stack) -> String {
    let status = ".status.containerStatuses[0]";
    let output = format!("--output=jsonpath={{{status}.state.running.startedAt}} {{{status}.restartCount}}");
    stack.kubectl(&["get", "pod/probe", "--namespace", NAMESPACE, &output], "").await.unwrap()
}

/// What the pod is served there. A service's address leads to pods only a while after they are ready.
async fn got_from_pod(stack: &Stack, url: &str) -> String {
    let get = ["exec", "probe", "--namespace", NAMESPACE, "--", "/probe", "get", url];
    let start = Instant::now();
    loop {
        match stack.kubectl(&get, "").await {
            Ok(body) => return body,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A server of this machine, where pods reach it, for as long as the test program runs.
fn server_that_says(stack: &Stack, line: &'static str) -> String {
    let listener = TcpListener::bind((stack.node_host_address().unwrap(), 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            writeln!(connection.unwrap(), "{line}").unwrap();
        }
    });
    address
}

/// What the pod serves, asked for on a port of this machine.
fn forwarded(stack: &Stack) -> String {
    let mut forward = Command::new(stack.kubectl_path().unwrap())
        .arg(format!("--kubeconfig={}", stack.kubeconfig_path().unwrap().display()))
        .args(["port-forward", "pod/probe", ":8080", "--address=127.0.0.1", "--namespace", NAMESPACE])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // "Forwarding from 127.0.0.1:<port> -> 8080". It says more later, and must find a reader then.
    let mut output = BufReader::new(forward.stdout.take().unwrap());
    let mut said = String::new();
    output.read_line(&mut said).unwrap();
    let address = said.split(' ').nth(2).unwrap();
    let url = format!("http://{address}/");
    let answer = Command::new("curl").args(["--silent", "--max-time", "30", &url]).output().unwrap();
    forward.kill().unwrap();
    forward.wait().unwrap();
    String::from_utf8(answer.stdout).unwrap()
}

/// The servers of the stack listen where pods reach them; each is asked in its own protocol, over that address.
async fn servers_are_reached_from_the_node(stack: &Stack) {
    let host = stack.node_host_address().unwrap();
    for part in [Part::KubeApiserver, Part::Kafka, Part::Postgres, Part::Minio] {
        assert_eq!(*stack.service(part).unwrap().address().ip(), host);
    }
    let store = stack.s3().unwrap().endpoint;
    let live = format!("{store}/minio/health/live");
    assert_eq!(got_from_pod(stack, &live).await, "");
    assert_eq!(stack.psql("postgres", "select 1").await.unwrap(), "1");
    let topics = stack.kafka_tool("org.apache.kafka.tools.TopicCommand", &["--list"], "").await;
    assert_eq!(topics.unwrap().trim(), "");
}

/// What a node is made of, by which it can be found again.
struct Traces {
    name: String,
    data: PathBuf,
    host_address: String,
}

impl Traces {
    fn of(stack: &Stack) -> Traces {
        let parent = std::env::temp_dir();
        let prefix = format!("tipstaff-stack-{}-", stack.name());
        let is_data = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix);
        let mut folders = fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().path());
        Traces {
            name: stack.name().to_owned(),
            data: folders.find(is_data).unwrap(),
            host_address: stack.node_host_address().unwrap().to_string(),
        }
    }

    /// Processes whose command line names the stack's folders, or whose control group is the stack's: servers, shims,
    /// pods.
    fn processes(&self) -> Vec<String> {
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
        let found = processes.filter_map(|process| {
            // Processes that ended and were not waited for have none.
            let command = fs::read_to_string(process.join("cmdline")).ok().filter(|line| !line.is_empty())?;
            let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
            (command.contains(&self.name) || groups.contains(&self.name)).then_some(command)
        });
        found.collect()
    }

    fn has_address(&self) -> bool {
        let addresses = Command::new("ip").args(["-oneline", "-4", "address"]).output().unwrap();
        String::from_utf8(addresses.stdout).unwrap().contains(&self.host_address)
    }

    fn control_groups(&self) -> Vec<PathBuf> {
        let name = self.data.file_name().unwrap();
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let all = hierarchies.chain(["/sys/fs/cgroup".into()]);
        all.map(|hierarchy| hierarchy.join(name)).filter(|group| group.exists()).collect()
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.lines().filter(|mount| mount.contains(&self.name)).map(str::to_owned).collect()
    }

    async fn are_gone(&self) {
        // The kernel takes a network down after its last process has ended.
        let start = Instant::now();
        while self.has_address() && start.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!self.has_address(), "{}", self.host_address);
        assert_eq!(self.processes(), Vec::<String>::new());
        assert_eq!(self.control_groups(), Vec::<PathBuf>::new());
        assert_eq!(self.mounts(), Vec::<String>::new());
        assert!(!self.data.exists(), "{}", self.data.display());
    }
}

/// Run by the next test as a program of its own, to be killed.
#[tokio::test]
#[ignore = "it is the program that another test kills"]
async fn program_with_a_node_to_be_killed() {
    let Some(file) = std::env::var_os("STARTED_FILE") else {
        return;
    };
    let stack = Stack::start(&[Part::Containerd], StackOptions::default()).await.unwrap();
    fs::write(file, stack.name()).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_node_ends_with_a_test_program_that_is_killed() {
    if stack::can_run_node().is_err() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("started");
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "program_with_a_node_to_be_killed"])
        .env("STARTED_FILE", &file)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let name = loop {
        match fs::read_to_string(&file) {
            Ok(name) if !name.is_empty() => break name,
            _ => assert!(start.elapsed() < Duration::from_secs(120), "the program started no node"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let state = Stack::default_state_file(&name).unwrap();
    let traces = Traces::of(&Stack::open(&state).unwrap());
    assert!(traces.has_address() && traces.processes().len() > 2);
    program.kill().unwrap();
    program.wait().unwrap();
    while traces.has_address() || !traces.processes().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(120), "{:?}", traces.processes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Stack::down(&state, false).await.unwrap();
    traces.are_gone().await;
}
