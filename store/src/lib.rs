//! What Tipstaff keeps: the catalog (PostgreSQL) and the blobs (S3 or a directory).

pub mod blobs;
pub mod catalog;
pub mod private_postgres;
