//! The benchmarks.

pub(crate) mod beat;
pub(crate) mod content;
pub(crate) mod crawl;
pub(crate) mod local;
pub(crate) mod operator;
pub(crate) mod scale;
pub(crate) mod soak;
