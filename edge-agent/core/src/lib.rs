//! The pure decisions of a node. No clock, no await, no randomness: all of that comes in as data.

pub mod engine;
pub mod reading;
pub mod route;
pub mod signal;
pub mod text;
pub mod trigger;
