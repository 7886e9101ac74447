//! The edge agent: feeds in, decisions and actions out, with or without the link.
//!
//! A room knows `edge_core`, `shared`, `models` and `store`, never a sibling; only `agent`, `pipeline` and `workflow` know several.

pub mod action;
pub mod agent;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod feed;
pub mod idle;
pub mod inference;
pub mod learning;
pub mod memory;
pub mod pipeline;
pub mod script;
pub mod site;
pub mod size;
pub mod store;
pub mod sync;
#[cfg(test)]
mod testing;
mod tls;
pub mod workflow;
