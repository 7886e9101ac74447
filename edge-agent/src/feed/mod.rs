//! MQTT in: from the broker's message to rows of the ingest journal, and only then its PUBACK.
//!
//! It never looks at what a value means; that is `edge_core::signal`, driven by `pipeline`.

pub mod broker;
pub mod config;
pub mod connection;
pub mod decode;
mod gate;
pub mod ingest;
pub mod journal;
pub mod mqtt;
mod place;
pub mod replay;
pub mod topic;

#[cfg(test)]
mod tests;
