//! The object that a row stands for, and how it is read from one.

use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

/// Which object a row stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// `metadata.uid`.
    pub uid: Uuid,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

pub(super) fn key(row: &PgRow) -> Result<ObjectKey, sqlx::Error> {
    Ok(ObjectKey {
        uid: row.try_get("uid")?,
        namespace: row.try_get("namespace")?,
        name: row.try_get("name")?,
    })
}
