//! What the chart grants, what tests run with and what the documentation lists are the same.

use std::collections::BTreeSet;

use serde_json::Value;
use stack::Stack;

use crate::{objects, one, parsed};

const PERMISSIONS: &str = include_str!("../src/permissions.yaml");
/// The roles that read Secrets.
const READERS: [&str; 2] = ["tipstaff-worker-crawl", "tipstaff-worker-deliver"];
const OF_SELF_TEST: &str = include_str!("../src/self_test_permissions.yaml");
const ARCHITECTURE: &str = include_str!("../../docs/architecture.md");

/// Group, resource, verb, and the one name it is good for.
type Permission = (String, String, String, Option<String>);

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_granted_what_it_is_tested_with() {
    let stack = Stack::shared().await.unwrap();
    let tested = permissions([one(&parsed(PERMISSIONS), "Role", "tipstaff-operator")]);
    for (values, kind) in [("", "ClusterRole"), ("watchNamespaces: [laws]", "Role")] {
        let made = objects(&stack, "court", values).await;
        let watching = one(&made, kind, "tipstaff-operator");
        let own = one(&made, "Role", "tipstaff-operator-own");
        assert_eq!(permissions([watching, own]), tested, "{kind}");
        let namespace = &watching["metadata"]["namespace"];
        assert_eq!(namespace, &if kind == "Role" { Value::from("laws") } else { Value::Null });
        assert_eq!(own["metadata"]["namespace"], "court");
        // The objects that it has in force are all that it sees outside of its own namespace.
        assert!(
            permissions([watching])
                .iter()
                .all(|(group, ..)| group.ends_with("tipstaff.dev") || group == "events.k8s.io")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_that_read_secrets_are_granted_what_they_are_tested_with() {
    let stack = Stack::shared().await.unwrap();
    for reader in READERS {
        let tested = permissions([one(&parsed(PERMISSIONS), "Role", reader)]);
        for (values, kind) in [("", "ClusterRole"), ("watchNamespaces: [laws]", "Role")] {
            let made = objects(&stack, "court", values).await;
            let granted = one(&made, kind, reader);
            assert_eq!(permissions([granted]), tested, "{kind} {reader}");
            let binding = one(&made, &format!("{kind}Binding"), reader);
            let account =
                serde_json::json!([{ "kind": "ServiceAccount", "name": reader, "namespace": "court" }]);
            assert_eq!(binding["subjects"], account);
            assert_eq!(binding["roleRef"]["name"], reader);
            let namespace = if kind == "Role" { Value::from("laws") } else { Value::Null };
            assert!([granted, binding].iter().all(|object| object["metadata"]["namespace"] == namespace));
            assert_eq!(one(&made, "ServiceAccount", reader)["metadata"]["namespace"], "court");
        }
        let made = objects(&stack, "court", "workers: {secrets: {names: [portal, gazette.key]}}").await;
        let named = permissions([one(&made, "ClusterRole", reader)]).into_iter();
        let named: BTreeSet<_> = named.map(|(.., name)| name.unwrap()).collect();
        assert_eq!(named, BTreeSet::from(["portal".to_owned(), "gazette.key".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_reads_no_secrets_has_no_account_of_its_own() {
    let stack = Stack::shared().await.unwrap();
    for (values, without) in [
        ("workers: {secrets: {read: false}}", &READERS[..]),
        ("workers: {enabled: false}", &READERS),
        ("workers: {roles: {crawl: null}}", &READERS[..1]),
        ("workers: {roles: {deliver: null}}", &READERS[1..]),
    ] {
        let made = objects(&stack, "court", values).await;
        for reader in READERS {
            let is_there = made.iter().any(|object| object["metadata"]["name"] == reader);
            assert_eq!(is_there, !without.contains(&reader), "{reader}, {values}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_workers_it_is_granted_less() {
    let stack = Stack::shared().await.unwrap();
    let made = objects(&stack, "court", "workers: {enabled: false}").await;
    let own = permissions([one(&made, "Role", "tipstaff-operator-own")]);
    assert!(own.iter().all(|(group, ..)| group == "coordination.k8s.io"), "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_granted_anything_but_the_test() {
    let stack = Stack::shared().await.unwrap();
    // What is bound, where, to which role, to whom.
    let everywhere = [
        "ClusterRoleBinding  ClusterRole tipstaff-operator ServiceAccount court tipstaff-operator",
        "ClusterRoleBinding  ClusterRole tipstaff-worker-crawl ServiceAccount court tipstaff-worker-crawl",
        "ClusterRoleBinding  ClusterRole tipstaff-worker-deliver ServiceAccount court tipstaff-worker-deliver",
        "RoleBinding court Role tipstaff-operator-own ServiceAccount court tipstaff-operator",
        "RoleBinding court Role tipstaff-self-test ServiceAccount court tipstaff-self-test",
    ];
    let laws = [
        "RoleBinding court Role tipstaff-operator-own ServiceAccount court tipstaff-operator",
        "RoleBinding laws Role tipstaff-operator ServiceAccount court tipstaff-operator",
        "RoleBinding laws Role tipstaff-self-test ServiceAccount court tipstaff-self-test",
        "RoleBinding laws Role tipstaff-worker-crawl ServiceAccount court tipstaff-worker-crawl",
        "RoleBinding laws Role tipstaff-worker-deliver ServiceAccount court tipstaff-worker-deliver",
    ];
    let tested = permissions([one(&parsed(OF_SELF_TEST), "Role", "self-test")]);
    for (values, expected) in [("", everywhere), ("watchNamespaces: [laws]", laws)] {
        let made = objects(&stack, "court", values).await;
        assert_eq!(bindings(&made), BTreeSet::from(expected.map(str::to_owned)));
        assert_eq!(permissions([one(&made, "Role", "tipstaff-self-test")]), tested);
    }
    let made = objects(&stack, "court", "").await;
    for account in made.iter().filter(|object| object["kind"] == "ServiceAccount") {
        assert_eq!(account["automountServiceAccountToken"], false, "{account}");
    }
    // It comes before the release's accounts.
    let migration = &one(&made, "Job", "tipstaff-migrate")["spec"]["template"]["spec"];
    assert!(migration["serviceAccountName"].is_null(), "{migration}");
    let tokens = |kind: &str, name: &str| {
        let object = one(&made, kind, name);
        let pod = if kind == "Pod" { &object["spec"] } else { &object["spec"]["template"]["spec"] };
        pod["automountServiceAccountToken"].as_bool().unwrap()
    };
    assert!(tokens("Deployment", "tipstaff-operator") && tokens("Pod", "tipstaff-self-test"));
    assert!(!tokens("Job", "tipstaff-migrate"));
}

#[test]
fn the_documentation_lists_them() {
    for (role, heading) in [
        ("tipstaff-operator", "## Permissions"),
        (READERS[0], "### Of the crawl role"),
        (READERS[1], "### Of the deliver role"),
    ] {
        let tested = permissions([one(&parsed(PERMISSIONS), "Role", role)]);
        let tested: BTreeSet<_> =
            tested.into_iter().map(|(group, resource, verb, _)| (group, resource, verb)).collect();
        assert_eq!(documented(heading), tested, "{heading}");
    }
}

/// Kind and namespace of each binding, kind and name of its role, and each subject.
fn bindings(made: &[Value]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for binding in made.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Binding")) {
        for subject in binding["subjects"].as_array().unwrap() {
            let words = [
                &binding["kind"],
                &binding["metadata"]["namespace"],
                &binding["roleRef"]["kind"],
                &binding["roleRef"]["name"],
                &subject["kind"],
                &subject["namespace"],
                &subject["name"],
            ];
            all.insert(words.map(|word| word.as_str().unwrap_or_default()).join(" "));
        }
    }
    all
}

fn permissions<'a>(roles: impl IntoIterator<Item = &'a Value>) -> BTreeSet<Permission> {
    let mut all = BTreeSet::new();
    for rule in roles.into_iter().flat_map(|role| role["rules"].as_array().unwrap()) {
        let names = match rule["resourceNames"].as_array() {
            Some(names) => names.iter().map(|name| Some(name.as_str().unwrap().to_owned())).collect(),
            None => vec![None],
        };
        for (group, resource) in product(words(&rule["apiGroups"]), &words(&rule["resources"])) {
            for (verb, name) in product(words(&rule["verbs"]), &names) {
                all.insert((group.clone(), resource.clone(), verb, name));
            }
        }
    }
    all
}

fn product<A: Clone, B: Clone>(first: Vec<A>, second: &[B]) -> Vec<(A, B)> {
    first.into_iter().flat_map(|one| second.iter().map(move |other| (one.clone(), other.clone()))).collect()
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// The words in code.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The table under a heading. A row without a resource goes on with the one above.
fn documented(heading: &str) -> BTreeSet<(String, String, String)> {
    let section = ARCHITECTURE.split(&format!("\n{heading}\n")).nth(1).unwrap().split("\n##").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut all = BTreeSet::new();
    let (mut group, mut resources) = (String::new(), Vec::new());
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (named, in_group) = cells[1].split_once('(').unwrap_or((cells[1], ""));
        if let Some(name) = code(in_group).pop() {
            group = name;
        }
        if !named.is_empty() {
            resources = code(named);
        }
        for (resource, verb) in product(resources.clone(), &cells[2].split(", ").collect::<Vec<_>>()) {
            all.insert((group.clone(), resource, verb.to_owned()));
        }
    }
    all
}
