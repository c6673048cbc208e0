//! What a target is sent.

use changes::{
    Artifact, Change, ChangeKind, Data, Delivery, Document, DocumentChange, EventType, Source, Subscription,
    Version, fields_of,
};
use store::catalog::{DeliveredVersion, DeliveryWork, VersionEvidence};

/// The delivery of some versions.
///
/// # Errors
/// When the catalog's JSON of a change is not one.
pub(super) fn payload(
    work: &DeliveryWork,
    versions: Vec<DeliveredVersion>,
) -> Result<Delivery, serde_json::Error> {
    Ok(Delivery {
        event_type: EventType::SubscriptionChanged,
        timestamp: work.created_at,
        data: Data {
            id: work.id,
            target: work.target.clone(),
            subscription: Subscription { namespace: work.namespace.clone(), name: work.subscription.clone() },
            jurisdiction: work.settings.jurisdiction.clone(),
            source: Source { name: work.source.clone(), url: work.source_url.clone() },
            changes: versions.into_iter().map(document_change).collect::<Result<_, _>>()?,
        },
    })
}

fn document_change(delivered: DeliveredVersion) -> Result<DocumentChange, serde_json::Error> {
    let change: Change = serde_json::from_str(delivered.change.get())?;
    let version = Some(version(&delivered.version));
    // A version that is not there any more has the text that was there before.
    let (old, new) = match change.kind {
        ChangeKind::Removed => (delivered.previous.as_ref().map(self::version), None),
        _ => (delivered.previous.as_ref().map(self::version), version),
    };
    let document = Document {
        url: delivered.url,
        detected_at: delivered.created_at,
        run_id: delivered.run_id,
        trace_id: delivered.trace_id,
        old,
        new,
        fields: fields_of(&delivered.fields),
    };
    Ok(DocumentChange::new(document, change))
}

fn version(evidence: &VersionEvidence) -> Version {
    Version {
        number: evidence.number.unsigned_abs(),
        text_hash: evidence.text_hash.clone(),
        artifact: Artifact {
            id: evidence.artifact_id,
            fetch_hash: evidence.fetch_hash.clone(),
            blob_uri: evidence.blob_uri.clone(),
            fetched_at: evidence.fetched_at,
        },
    }
}
