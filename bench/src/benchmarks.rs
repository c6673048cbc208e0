//! The benchmarks.

pub(crate) mod beat;
pub(crate) mod operator;
