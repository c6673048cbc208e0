//! The objects: made, and changed, by a client that takes as much of the API server as it can get.

use crds::{Source, Subscription};
use events::BoxError;
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::api_server::ApiServer;

/// Requests on their way at a time.
const CONCURRENCY: usize = 32;

pub(super) struct Fleet {
    api: Api<Subscription>,
    /// The names of the Subscriptions.
    pub(super) names: Vec<String>,
}

impl Fleet {
    /// Makes Sources, and Subscriptions that are not due for hours.
    pub(super) async fn create(
        server: &ApiServer,
        namespace: &str,
        subscriptions: usize,
        sources: usize,
    ) -> Result<Self, BoxError> {
        let source_api: Api<Source> = Api::namespaced(server.administrator.clone(), namespace);
        create_all(&source_api, (0..sources).map(source)).await?;
        let hour = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
        let api: Api<Subscription> = Api::namespaced(server.administrator.clone(), namespace);
        let objects = (0..subscriptions).map(|number| {
            // From six to eighteen hours ahead.
            let due_hour = (usize::from(hour.unsigned_abs()) + 6 + number % 12) % 24;
            subscription(number, sources, &format!("{} {due_hour} * * *", number % 60))
        });
        create_all(&api, objects).await?;
        Ok(Self { api, names: (0..subscriptions).map(name).collect() })
    }

    /// Changes the specs of the first `count`.
    pub(super) async fn change(&self, count: usize, spec: &Value) -> Result<(), BoxError> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let parameters = PatchParams::default();
        stream::iter(&self.names[..count])
            .map(|name| self.api.patch(name, &parameters, &patch))
            .buffer_unordered(CONCURRENCY)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(())
    }
}

async fn create_all<K>(api: &Api<K>, objects: impl Iterator<Item = Value>) -> Result<(), BoxError>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let parameters = PostParams::default();
    stream::iter(objects)
        .map(|object| async {
            let object: K = serde_json::from_value(object)?;
            api.create(&parameters, &object).await.map_err(BoxError::from)
        })
        .buffer_unordered(CONCURRENCY)
        .try_for_each(|_| async { Ok(()) })
        .await
}

fn name(number: usize) -> String {
    format!("court-{number:05}")
}

fn source(number: usize) -> Value {
    json!({
        "apiVersion": "tipstaff.dev/v1alpha1",
        "kind": "Source",
        "metadata": { "name": format!("site-{number:03}") },
        "spec": { "kind": "html", "baseURL": format!("https://site-{number}.example/opinions") },
    })
}

fn subscription(number: usize, sources: usize, schedule: &str) -> Value {
    json!({
        "apiVersion": "tipstaff.dev/v1alpha1",
        "kind": "Subscription",
        "metadata": { "name": name(number) },
        "spec": {
            "sourceRef": { "name": format!("site-{:03}", number % sources) },
            "jurisdiction": "US-CA",
            "schedule": schedule,
            "selectors": { "body": "main .opinions", "title": "h1" },
            "ignore": ["Last updated: .*"],
            "delivery": [{ "name": "desk", "webhook": { "url": format!("https://hooks.example/{number}") } }],
        },
    })
}
