//! The `tipstaff` command: the whole pipeline in one process, without a cluster, and tools beside it.

pub mod commands;
pub mod demo;
pub mod local;
pub mod manifests;
pub mod output;
pub mod sample_site;
pub mod schedule;
pub mod self_test;
