//! `delivery.plan` and `delivery.send`: who is told of a version, and the telling.

mod payload;
mod plan;
mod send;

pub(crate) use plan::Plan;
pub(crate) use send::Send;
