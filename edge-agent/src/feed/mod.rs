//! MQTT in: from the broker's message to rows of the ingest journal, and only then its PUBACK.
//!
//! It never looks at what a value means; that is `edge_core::signal`, driven by `pipeline`.

pub mod broker;
pub mod config;
pub mod connection;
mod gate;
pub mod ingest;
pub mod journal;
pub mod mqtt;
pub mod replay;
mod scan;

#[cfg(test)]
mod tests;
