//! From a stored document's bytes to normalised text and named fields.

pub mod charset;
pub mod sniff;
pub mod tree;
