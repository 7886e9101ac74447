//! Workflows at work: runs are started, driven one step at a time, and what they ask for is performed.
//!
//! `runner` commits each step before anything else happens; `perform` asks policy and calls the rooms; `timers` and
//! `schedule` say when; `approval` keeps what waits for a person; `journal` is where all of it is written. Decisions
//! are `edge_core::engine`'s alone.

mod approval;
mod catalog;
mod drive;
mod facts;
mod journal;
mod perform;
mod pump;
mod runner;
mod schedule;
mod timers;

pub use approval::{Answer, ApprovalError, Authority};
pub use perform::{Outcome, Perform, Proposal, Rooms};
pub use runner::{Error, Runner};

#[cfg(test)]
mod tests;
