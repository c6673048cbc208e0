//! The manifests' objects: brought into force by the operator's reconcilers, and told when something of them changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crds::conditions::reasons;
use crds::{BACKFILL_AT_ANNOTATION, REQUESTED_AT_ANNOTATION, Subscription};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator::{Reconciler, SourceDeletion, Verdict};
use store::catalog::{CatalogError, ObjectKey};
use uuid::Uuid;

use super::LocalError;
use crate::manifests::{Located, Manifests, Problem, manifest_uid};
use crate::output::{Notice, ObjectName, ObjectVerdict, Printer, SubscriptionName};

const SOURCE: &str = "Source";
const SUBSCRIPTION: &str = "Subscription";

/// What is known of the objects, and has been told of them.
pub(super) struct Objects {
    reconciler: Reconciler,
    printer: Printer,
    /// Whether due times fire, and annotations that ask for runs are honoured.
    follows_schedule: bool,
    told: BTreeMap<ObjectName, Told>,
    problems: BTreeSet<Problem>,
    /// The names of the catalog's subscriptions.
    names: HashMap<i64, SubscriptionName>,
}

#[derive(PartialEq)]
struct Told {
    spec_hash: Uuid,
    ready: bool,
    reason: &'static str,
    message: String,
}

/// A subscription of the manifests, after it was reconciled.
pub(super) struct Applied {
    pub(super) name: SubscriptionName,
    pub(super) uid: Uuid,
    pub(super) verdict: Verdict,
}

impl Objects {
    pub(super) fn new(reconciler: Reconciler, printer: Printer, follows_schedule: bool) -> Self {
        Self {
            reconciler,
            printer,
            follows_schedule,
            told: BTreeMap::new(),
            problems: BTreeSet::new(),
            names: HashMap::new(),
        }
    }

    /// Brings the manifests into force. Returns their valid subscriptions.
    pub(super) async fn sync(&mut self, manifests: &Manifests) -> Result<Vec<Applied>, LocalError> {
        self.tell_problems(&manifests.problems).await?;
        for located in &manifests.sources {
            let verdict = self.reconciler.apply_source(&located.object).await?;
            self.tell_verdict(SOURCE, located, &located.object.metadata, &verdict).await?;
        }
        let mut applied = Vec::with_capacity(manifests.subscriptions.len());
        for located in &manifests.subscriptions {
            applied.push(self.apply_subscription(located).await?);
        }
        // An object that is missing because of a problem was not taken away by anybody.
        if manifests.problems.is_empty() {
            self.delete_absent(manifests).await?;
        }
        Ok(applied)
    }

    /// The name of a subscription by its id in the catalog.
    pub(super) async fn name_of(&mut self, subscription_id: i64) -> Result<SubscriptionName, CatalogError> {
        if !self.names.contains_key(&subscription_id) {
            let scheduled = self.reconciler.engine.catalog.scheduled_subscriptions().await?;
            self.names.extend(scheduled.iter().map(|row| (row.id, (&row.key).into())));
        }
        // One that was deleted a moment ago has no name any more.
        let unknown = || SubscriptionName {
            namespace: "default".to_owned(),
            subscription: format!("subscription {subscription_id}"),
        };
        Ok(self.names.get(&subscription_id).cloned().unwrap_or_else(unknown))
    }

    /// How many problems the manifests have.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    async fn apply_subscription(&mut self, located: &Located<Subscription>) -> Result<Applied, LocalError> {
        let metadata = &located.object.metadata;
        let mut object = located.object.clone();
        if !self.follows_schedule
            && let Some(annotations) = &mut object.metadata.annotations
        {
            annotations.remove(REQUESTED_AT_ANNOTATION);
            annotations.remove(BACKFILL_AT_ANNOTATION);
        }
        let verdict = self.reconciler.apply_subscription(&object).await?;
        let name = SubscriptionName {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            subscription: metadata.name.clone().unwrap_or_default(),
        };
        if let Some(id) = verdict.catalog_id {
            self.names.insert(id, name.clone());
        }
        self.tell_verdict(SUBSCRIPTION, located, metadata, &verdict).await?;
        let uid = manifest_uid(SUBSCRIPTION, &name.namespace, &name.subscription);
        Ok(Applied { name, uid, verdict })
    }

    /// Deletes what the catalog has from manifests and the manifests have no more.
    async fn delete_absent(&mut self, manifests: &Manifests) -> Result<(), LocalError> {
        let present: BTreeSet<&str> = manifests
            .sources
            .iter()
            .map(|located| &located.object.metadata)
            .chain(manifests.subscriptions.iter().map(|located| &located.object.metadata))
            .filter_map(|metadata| metadata.uid.as_deref())
            .collect();
        let catalog = self.reconciler.engine.catalog.clone();
        // Rows with other uids belong to a cluster that shares the database.
        let is_absent = |kind: &str, key: &ObjectKey| {
            key.uid == manifest_uid(kind, &key.namespace, &key.name)
                && !present.contains(key.uid.to_string().as_str())
        };
        for subscription in catalog.scheduled_subscriptions().await? {
            if is_absent(SUBSCRIPTION, &subscription.key) {
                self.reconciler.delete_subscriptions(&[subscription.key.uid]).await?;
                self.tell_deleted(SUBSCRIPTION, subscription.key).await?;
            }
        }
        for key in catalog.live_sources().await? {
            // Subscriptions of a cluster may use it: then it stays, and nothing is amiss.
            if is_absent(SOURCE, &key)
                && self.reconciler.delete_source(key.uid).await? == SourceDeletion::Deleted
            {
                self.tell_deleted(SOURCE, key).await?;
            }
        }
        Ok(())
    }

    async fn tell_problems(&mut self, problems: &[Problem]) -> Result<(), LocalError> {
        let current: BTreeSet<Problem> = problems.iter().cloned().collect();
        let before = std::mem::replace(&mut self.problems, current);
        for Problem { file, line, message } in self.problems.difference(&before) {
            let (file, line, message) = (file.display().to_string(), *line, message.clone());
            self.printer.print(&Notice::Problem { file, line, message }).await?;
        }
        if self.problems.is_empty() && !before.is_empty() {
            self.printer.print(&Notice::ProblemsSolved).await?;
        }
        Ok(())
    }

    /// Tells what became of an object, unless the same was told of the same spec.
    async fn tell_verdict<T>(
        &mut self,
        kind: &'static str,
        located: &Located<T>,
        metadata: &ObjectMeta,
        verdict: &Verdict,
    ) -> Result<(), LocalError> {
        let object = ObjectName {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        };
        let told = Told {
            spec_hash: located.spec_hash,
            ready: verdict.ready,
            reason: verdict.reason,
            message: verdict.message.clone(),
        };
        if self.told.get(&object) == Some(&told) {
            return Ok(());
        }
        let next_due = metadata
            .uid
            .as_deref()
            .and_then(|uid| self.reconciler.engine.beat.next_due(uid.parse().ok()?))
            .filter(|_| self.follows_schedule && verdict.ready && verdict.reason != reasons::SUSPENDED);
        let shown = ObjectVerdict {
            object: object.clone(),
            reason: verdict.reason,
            message: verdict.message.clone(),
            next_due,
        };
        let notice = if verdict.ready { Notice::Ready(shown) } else { Notice::NotReady(shown) };
        self.printer.print(&notice).await?;
        self.told.insert(object, told);
        Ok(())
    }

    async fn tell_deleted(&mut self, kind: &'static str, key: ObjectKey) -> Result<(), LocalError> {
        let object = ObjectName { kind, namespace: key.namespace, name: key.name };
        self.told.remove(&object);
        self.printer.print(&Notice::Deleted(object)).await?;
        Ok(())
    }
}
