//! A sender that reaches this machine, and what it sends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use changes::{
    Artifact, Change, Data, Delivery, Document, DocumentChange, EventType, Extent, Extract, Fields, Outcome,
    Source, Subscription, Version,
};
use events::memory::MemoryBus;
use jiff::Timestamp;
use serde_json::json;
use store::blobs::DirectoryBlobs;
use store::catalog::{DigestSettings, SecretKey, TargetPlace, TargetSettings};
use tempfile::TempDir;
use uuid::Uuid;
use worker::fetch::{AllowedAddresses, GuardedClient};
use worker::secrets::{SecretError, SecretName, SecretReader, SecretValues};
use worker::send::{Attempt, Mailer, Sender};

pub(crate) const NAMESPACE: &str = "courts";
pub(crate) const LONG_ENOUGH: Duration = Duration::from_secs(20);
pub(crate) const SHORT: Duration = Duration::from_millis(300);
pub(crate) const RETRY: Outcome = Outcome::Retry { not_before: None };

/// A sender with all that it needs, on this machine.
pub(crate) struct Sending {
    pub(crate) sender: Sender,
    pub(crate) bus: MemoryBus,
    pub(crate) directory: TempDir,
}

impl Sending {
    /// With these networks opened, and these keys in the Secret `clerks`.
    pub(crate) async fn new(networks: &[&str], keys: &[(&str, &str)], mailer: Option<Mailer>) -> Self {
        let allowed =
            AllowedAddresses::with_networks(networks.iter().map(|network| network.parse().unwrap()));
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        let secrets = Arc::new(Clerks(Arc::new(SecretValues::new(keys))));
        let (bus, directory) = (MemoryBus::default(), TempDir::new().unwrap());
        let blobs = Arc::new(DirectoryBlobs::open(directory.path().join("blobs")).await.unwrap());
        let client = GuardedClient::new(allowed).unwrap();
        let sender = Sender::new(client, secrets, mailer, Arc::new(bus.clone()), blobs);
        Self { sender, bus, directory }
    }

    /// With this machine's own addresses opened.
    pub(crate) async fn local(keys: &[(&str, &str)]) -> Self {
        Self::new(&["127.0.0.0/8", "::1/128"], keys, None).await
    }

    pub(crate) async fn with_mailer(mailer: Mailer) -> Self {
        Self::new(&[], &[], Some(mailer)).await
    }

    pub(crate) async fn send(&self, place: TargetPlace) -> Attempt {
        self.send_at(place, Timestamp::now()).await
    }

    pub(crate) async fn send_at(&self, place: TargetPlace, now: Timestamp) -> Attempt {
        self.sender.send(&target(place), NAMESPACE, &delivery(), now).await
    }
}

/// Knows one Secret.
struct Clerks(Arc<SecretValues>);

#[async_trait]
impl SecretReader for Clerks {
    async fn read(&self, secret: &SecretName) -> Result<Arc<SecretValues>, SecretError> {
        if secret.to_string() == "courts/clerks" {
            Ok(self.0.clone())
        } else {
            Err(SecretError::NotFound { secret: secret.clone() })
        }
    }
}

/// A key of the Secret `clerks`.
pub(crate) fn key(key: &str) -> SecretKey {
    SecretKey { name: "clerks".to_owned(), key: key.to_owned() }
}

pub(crate) fn webhook(url: &str, secret: Option<&str>, previous_secret: Option<&str>) -> TargetPlace {
    let [secret, previous_secret] = [secret, previous_secret].map(|name| name.map(key));
    TargetPlace::Webhook { url: url.to_owned(), secret, previous_secret }
}

pub(crate) fn slack(name: &str) -> TargetPlace {
    TargetPlace::Slack { url_secret: key(name) }
}

fn target(place: TargetPlace) -> TargetSettings {
    TargetSettings {
        name: "clerks".to_owned(),
        place,
        kinds: Vec::new(),
        matches: None,
        digest: DigestSettings::None,
    }
}

/// Always the same one.
pub(crate) fn delivery() -> Delivery {
    let fields = Fields::from([("docket".to_owned(), json!("24-18"))]);
    let of = |text| Extract { text, fields: &fields };
    let change = Change::changed(
        of("Opinion of the Court\nThe judgment is affirmed.\n"),
        of("Opinion of the Court\nThe judgment is reversed: § 12 = void.\n"),
        Extent::Bounded,
    );
    let document = Document {
        url: "https://court.example/opinions/24-18".to_owned(),
        detected_at: "2026-03-09T09:00:05Z".parse().unwrap(),
        run_id: Uuid::from_u128(1),
        trace_id: "01980000000070008000000000000001".to_owned(),
        old: Some(version(3)),
        new: Some(version(4)),
        fields: fields.clone(),
    };
    Delivery {
        event_type: EventType::SubscriptionChanged,
        timestamp: "2026-03-09T09:00:06Z".parse().unwrap(),
        data: Data {
            id: Uuid::from_u128(0xff),
            target: "clerks".to_owned(),
            subscription: Subscription { namespace: NAMESPACE.to_owned(), name: "slip-opinions".to_owned() },
            jurisdiction: Some("US".to_owned()),
            source: Source {
                name: "supreme-court".to_owned(),
                url: "https://court.example/opinions".to_owned(),
            },
            changes: vec![DocumentChange::new(document, change.unwrap())],
        },
    }
}

fn version(number: u32) -> Version {
    Version {
        number,
        text_hash: format!("{number:064x}"),
        artifact: Artifact {
            id: i64::from(number),
            fetch_hash: format!("{number:064x}"),
            blob_uri: format!("s3://evidence/raw/7/2026/03/09/{number:064x}.bin"),
            fetched_at: "2026-03-09T09:00:02Z".parse().unwrap(),
        },
    }
}
