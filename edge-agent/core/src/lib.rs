//! The pure decisions of a node. No clock, no await, no randomness: all of that comes in as data.

pub mod admit;
pub mod engine;
pub mod feed;
pub mod guard;
pub mod hear;
pub mod reading;
pub mod rehearse;
pub mod route;
pub mod signal;
pub mod site;
pub mod text;
pub mod trigger;
