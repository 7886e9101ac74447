//! What the edge and the cloud must mean alike. Pure: no tokio, no SQL, no HTTP, no clock, no randomness.

pub mod bundle;
mod canonical;
pub mod digest;
pub mod event;
pub mod id;
pub mod label;
pub mod ledger;
pub mod look;
pub mod policy;
pub mod problem;
pub mod time;
pub mod wire;
pub mod workflow;
