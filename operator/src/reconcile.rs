//! The reconcilers: from a custom resource to its row in the catalog and its place in the beat.
//!
//! They know no API server. What they find is a [`Verdict`], which whoever calls shows: in conditions, or on a terminal.

mod settings;

use crds::{
    BACKFILL_ALL, BACKFILL_AT_ANNOTATION, REQUESTED_AT_ANNOTATION, Schedule, Source, Subscription, Violation,
    conditions::reasons, validate_source, validate_subscription,
};
use events::run_reasons;
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use store::catalog::{
    CatalogError, DeletedSource, DueRun, ObjectKey, RequestedRun, Skip, SkippedTogether, SourceRecord,
    SubscriptionRecord, SubscriptionRow, Trigger, WhenActive,
};
use uuid::Uuid;

use crate::EngineHandle;
use settings::subscription_settings;

pub use settings::source_settings;

/// How many due times of a changed schedule are recorded at a time.
const DUE_TIMES_AT_ONCE: usize = 10_000;

/// What reconciling an object found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether what the object asks for is in force.
    pub ready: bool,
    /// A CamelCase word for why or why not: one of [`crds::conditions::reasons`].
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
    /// The row in the catalog, where there is one.
    pub catalog_id: Option<i64>,
    /// Whether it may become ready without a change of the object.
    pub try_again: bool,
}

impl Verdict {
    fn ready(reason: &'static str, message: impl Into<String>, catalog_id: i64) -> Self {
        Self { ready: true, reason, message: message.into(), catalog_id: Some(catalog_id), try_again: false }
    }

    fn invalid(violations: &[Violation]) -> Self {
        let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
        Self {
            ready: false,
            reason: reasons::INVALID_SPEC,
            message: list.join("; "),
            catalog_id: None,
            try_again: false,
        }
    }
}

/// The object could not be reconciled for now.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An object without what every object on an API server has.
    #[error("the object has no {0}")]
    Incomplete(&'static str),
}

/// Whether a Source can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceDeletion {
    /// It is gone from the catalog's live sources.
    Deleted,
    /// Subscriptions still use it.
    InUse(Verdict),
}

/// Reconciles objects, whoever holds them.
#[derive(Clone)]
pub struct Reconciler {
    /// Where it takes effect.
    pub engine: EngineHandle,
}

impl Reconciler {
    /// Brings a Source into the catalog.
    ///
    /// # Errors
    /// When the catalog fails, or the object has no name, namespace or uid.
    pub async fn apply_source(&self, source: &Source) -> Result<Verdict, ReconcileError> {
        let valid = match validate_source(source) {
            Ok(valid) => valid,
            Err(violations) => return Ok(Verdict::invalid(&violations)),
        };
        let suspended = valid.suspend;
        let key = object_key(source)?;
        let settings = source_settings(valid);
        let generation = match source.meta().generation {
            Some(generation) => generation,
            // An object from a file: nobody has counted its changes.
            None => self.engine.catalog.source_generation(key.uid, &settings).await?,
        };
        let record = SourceRecord { key, generation, settings };
        let row = self.engine.catalog.put_source(&record, self.now()).await?;
        Ok(if suspended {
            Verdict::ready(reasons::SUSPENDED, "Nothing is fetched while spec.suspend is true", row.id)
        } else {
            Verdict::ready(reasons::REGISTERED, "Subscriptions may use the source", row.id)
        })
    }

    /// Takes a Source out of the catalog, unless subscriptions still use it.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn delete_source(&self, uid: Uuid) -> Result<SourceDeletion, ReconcileError> {
        match self.engine.catalog.delete_source(uid, self.now()).await? {
            DeletedSource::Deleted => Ok(SourceDeletion::Deleted),
            DeletedSource::InUse { examples, count } => {
                let more = if count > 5 { " and others" } else { "" };
                Ok(SourceDeletion::InUse(Verdict {
                    ready: false,
                    reason: reasons::IN_USE,
                    message: format!(
                        "The source goes when the {count} subscriptions that use it are deleted: {}{more}",
                        examples.join(", ")
                    ),
                    catalog_id: None,
                    try_again: true,
                }))
            }
        }
    }

    /// Brings a Subscription into the catalog and the beat, and makes the runs that its annotations and a change of its
    /// selectors ask for.
    ///
    /// # Errors
    /// When the catalog fails, or the object has no name, namespace or uid.
    pub async fn apply_subscription(&self, subscription: &Subscription) -> Result<Verdict, ReconcileError> {
        let valid = match validate_subscription(subscription) {
            Ok(valid) => valid,
            Err(violations) => {
                // What was valid before stays in force, and is shown: nothing is missed for a slip of the pen.
                let catalog_id = self.engine.catalog.subscription_id(object_uid(subscription)?).await?;
                return Ok(Verdict { catalog_id, ..Verdict::invalid(&violations) });
            }
        };
        let key = object_key(subscription)?;
        let Some(source_id) = self.engine.catalog.source_id(&key.namespace, &valid.source_name).await? else {
            return Ok(Verdict {
                ready: false,
                reason: reasons::SOURCE_NOT_FOUND,
                message: format!(
                    "There is no valid Source {} in namespace {}",
                    valid.source_name, key.namespace
                ),
                catalog_id: None,
                try_again: true,
            });
        };
        let created_at =
            subscription.meta().creation_timestamp.as_ref().map_or_else(|| self.now(), |time| time.0);
        let suspended = valid.suspend;
        let settings = subscription_settings(valid);
        let generation = match subscription.meta().generation {
            Some(generation) => generation,
            None => self.engine.catalog.subscription_generation(key.uid, source_id, &settings).await?,
        };
        let record = SubscriptionRecord { key, generation, source_id, settings, created_at };
        let row = match self.engine.catalog.subscription(record.key.uid).await? {
            Some(row) if row.is_in_line_with(&record) => row,
            before => {
                if let Some(before) = before {
                    self.close_schedule(&before, &record).await?;
                }
                self.engine.catalog.put_subscription(&record, self.now()).await?
            }
        };
        if let Some(backfill) = &row.backfill {
            self.engine.announce(backfill);
        }
        let asked = [
            (Trigger::Request, REQUESTED_AT_ANNOTATION, row.last_request),
            (Trigger::Backfill, BACKFILL_AT_ANNOTATION, row.last_backfill),
        ];
        let scheduled = row.scheduled;
        let (id, uid, source_suspended) = (scheduled.id, scheduled.key.uid, scheduled.source_suspended);
        self.engine.beat.put(scheduled);
        for (trigger, annotation, honoured) in asked {
            if let Some(token) = subscription.annotations().get(annotation)
                && honoured.as_ref() != Some(token)
            {
                let request = RequestedRun {
                    subscription_id: id,
                    subscription_uid: uid,
                    trigger,
                    token: token.clone(),
                    is_of_all: trigger == Trigger::Backfill && token.starts_with(BACKFILL_ALL),
                };
                self.engine.request_run(&request).await?;
            }
        }
        Ok(if suspended {
            Verdict::ready(reasons::SUSPENDED, "Due times are skipped while spec.suspend is true", id)
        } else if source_suspended {
            Verdict::ready(reasons::SUSPENDED, "Due times are skipped while the source is suspended", id)
        } else {
            Verdict::ready(reasons::SCHEDULED, "Runs are made as the schedule says", id)
        })
    }

    /// Takes Subscriptions out of the beat and ends their runs. Their history stays.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn delete_subscriptions(&self, uids: &[Uuid]) -> Result<(), ReconcileError> {
        for uid in uids {
            self.engine.beat.remove(*uid);
        }
        self.engine.catalog.delete_subscriptions(uids, self.now()).await?;
        Ok(())
    }

    /// Records the due times that passed under a schedule which is changed now, while nothing was there to start them.
    async fn close_schedule(
        &self,
        before: &SubscriptionRow,
        record: &SubscriptionRecord,
    ) -> Result<(), ReconcileError> {
        let old = &before.scheduled;
        let is_changed = (&old.settings.schedule, &old.settings.time_zone)
            != (&record.settings.schedule, &record.settings.time_zone);
        // What the catalog has may be from a release that read schedules otherwise.
        let Ok(schedule) = Schedule::parse(&old.settings.schedule, &old.settings.time_zone) else {
            return Ok(());
        };
        if !is_changed || before.is_deleted || record.generation < old.generation {
            return Ok(());
        }
        let now = self.now();
        let mut through = old.scheduled_through;
        loop {
            let passed = schedule.due_between(through, now, DUE_TIMES_AT_ONCE);
            let (Some(first), Some(last)) = (passed.first(), passed.last()) else { return Ok(()) };
            through = *last;
            let count = u32::try_from(passed.len()).unwrap_or(u32::MAX);
            let skip = DueRun {
                subscription_id: old.id,
                subscription_uid: old.key.uid,
                generation: old.generation,
                scheduled_for: *last,
                when_active: WhenActive::Skip,
                skip: Some(Skip {
                    reason: run_reasons::SUPERSEDED,
                    message: "it was missed, and the schedule was changed before it could be run".to_owned(),
                }),
                skipped_together: (count > 1).then_some(SkippedTogether { from: *first, count }),
            };
            self.engine.record_skips(&[skip]).await?;
        }
    }

    fn now(&self) -> Timestamp {
        self.engine.clock.now()
    }
}

/// The identity of an object in the catalog.
pub(crate) fn object_key<K: Resource>(object: &K) -> Result<ObjectKey, ReconcileError> {
    let meta = object.meta();
    Ok(ObjectKey {
        uid: object_uid(object)?,
        namespace: meta.namespace.clone().ok_or(ReconcileError::Incomplete("namespace"))?,
        name: meta.name.clone().ok_or(ReconcileError::Incomplete("name"))?,
    })
}

pub(crate) fn object_uid<K: Resource>(object: &K) -> Result<Uuid, ReconcileError> {
    let uid = object.meta().uid.as_deref();
    uid.and_then(|uid| uid.parse().ok()).ok_or(ReconcileError::Incomplete("uid"))
}
