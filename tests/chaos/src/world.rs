//! What is watched: sources on the hosts of a site, and subscriptions to them with their targets.

use serde_json::{Value, json};

use crate::Plan;

/// A schedule that is not due while a run of this program lasts.
pub const NEVER_NOW: &str = "0 0 29 2 *";
/// A schedule that is due all the time.
pub const MINUTELY: &str = "* * * * *";
/// Every so many sources is a list.
const LISTS: usize = 6;
/// Every so many subscriptions is due every minute.
const SCHEDULED: usize = 10;
const POLICIES: [&str; 3] = ["Forbid", "Allow", "Replace"];

/// All that is watched.
#[derive(Debug)]
pub struct World {
    /// Where the site listens.
    pub site_port: u16,
    /// The sources.
    pub sources: Vec<Source>,
    /// The subscriptions.
    pub subscriptions: Vec<Subscription>,
}

/// A page, or a list of documents.
#[derive(Debug)]
pub struct Source {
    /// The object's name.
    pub name: String,
    /// Which host has it.
    pub host: String,
    /// Where it is there; no other host has it.
    pub path: String,
    /// Whether the links on it are followed.
    pub is_list: bool,
    /// Who subscribes to it.
    pub subscriptions: Vec<usize>,
}

/// A subscription.
#[derive(Debug)]
pub struct Subscription {
    /// The object's name.
    pub name: String,
    /// To what.
    pub source: usize,
    /// Whether it is due every minute; otherwise its runs are asked for.
    pub is_minutely: bool,
    policy: &'static str,
    /// Whom it tells.
    pub targets: Vec<Target>,
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Each change for itself.
    Webhook,
    /// A run's changes at once.
    Digest,
    /// A topic.
    Topic,
    /// Objects in the bucket.
    Bucket,
}

impl Target {
    /// Its name in the subscription.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "hook",
            Self::Digest => "digest",
            Self::Topic => "topic",
            Self::Bucket => "bucket",
        }
    }
}

/// Where targets are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The port of the receiver of webhooks.
    pub receiver_port: u16,
    /// The topic of all targets of that kind.
    pub topic: String,
    /// The bucket of all targets of that kind.
    pub bucket: String,
}

/// Objects of targets are below it.
pub const DELIVERED: &str = "delivered/";

impl World {
    /// Spreads the sources over the hosts; one subscription in six is the second one of its source.
    #[must_use]
    pub fn new(plan: &Plan, site_port: u16) -> Self {
        let count = (plan.subscriptions * 5).div_ceil(6);
        let mut sources: Vec<Source> = (0..count)
            .map(|number| {
                let is_list = number % LISTS == LISTS - 1;
                let (host, kind) = (number % plan.hosts, if is_list { "list" } else { "page" });
                Source {
                    name: format!("source-{number}"),
                    host: host_name(host),
                    path: format!("/{kind}/{number}"),
                    is_list,
                    subscriptions: Vec::new(),
                }
            })
            .collect();
        let subscriptions = (0..plan.subscriptions)
            .map(|number| {
                let source = number % count;
                sources[source].subscriptions.push(number);
                let is_list = sources[source].is_list;
                Subscription {
                    name: format!("subscription-{number}"),
                    source,
                    is_minutely: number % SCHEDULED == 0,
                    policy: POLICIES[number / SCHEDULED % POLICIES.len()],
                    targets: targets(plan, number, is_list),
                }
            })
            .collect();
        Self { site_port, sources, subscriptions }
    }

    /// The URL of a path of a source's host.
    #[must_use]
    pub fn url(&self, source: &Source, path: &str) -> String {
        format!("http://{}:{}{path}", source.host, self.site_port)
    }

    /// The object of a source.
    #[must_use]
    pub fn source_manifest(&self, source: &Source) -> Value {
        let mut spec = json!({
            "kind": "html",
            "baseURL": self.url(source, &source.path),
            "politeness": {"minInterval": "50ms"},
            "fetch": {"timeout": "10s"},
        });
        if source.is_list {
            spec["follow"] = json!({"links": "a"});
        }
        json!({"apiVersion": "tipstaff.dev/v1alpha1", "kind": "Source", "metadata": {"name": source.name}, "spec": spec})
    }

    /// The object of a subscription.
    #[must_use]
    pub fn subscription_manifest(&self, subscription: &Subscription, places: &Places) -> Value {
        let delivery: Vec<Value> = subscription
            .targets
            .iter()
            .map(|target| {
                let url = format!(
                    "http://127.0.0.1:{}/{}/{}",
                    places.receiver_port,
                    subscription.name,
                    target.name()
                );
                let mut manifest = match target {
                    Target::Webhook => json!({"webhook": {"url": url}}),
                    Target::Digest => json!({"webhook": {"url": url}, "digest": {"perRun": true}}),
                    Target::Topic => json!({"kafka": {"topic": places.topic}}),
                    Target::Bucket => json!({"s3": {"bucket": places.bucket, "prefix": DELIVERED}}),
                };
                manifest["name"] = json!(target.name());
                manifest["when"] = json!({"changes": ["Always"]});
                manifest
            })
            .collect();
        json!({
            "apiVersion": "tipstaff.dev/v1alpha1",
            "kind": "Subscription",
            "metadata": {"name": subscription.name},
            "spec": {
                "sourceRef": {"name": self.sources[subscription.source].name},
                "schedule": if subscription.is_minutely { MINUTELY } else { NEVER_NOW },
                "concurrencyPolicy": subscription.policy,
                "delivery": delivery,
            },
        })
    }
}

fn targets(plan: &Plan, number: usize, is_list: bool) -> Vec<Target> {
    let mut targets = vec![Target::Webhook];
    if is_list {
        targets.push(Target::Digest);
    }
    if plan.all_targets && number % 5 == 1 {
        targets.push(Target::Topic);
    }
    if plan.all_targets && number % 5 == 2 {
        targets.push(Target::Bucket);
    }
    targets
}

/// Every address of loopback is a host of its own.
#[must_use]
pub fn host_name(number: usize) -> String {
    format!("127.1.{}.{}", number / 250, number % 250 + 1)
}
