//! The benchmarks.

pub(crate) mod beat;
pub(crate) mod crawl;
pub(crate) mod operator;
pub(crate) mod soak;
