//! Workflows at work: runs are started, driven one step at a time, and what they ask for is performed.
//!
//! `runner` commits each step before anything else happens, the first one in `begin`; `perform` asks policy and calls the rooms, `places` says
//! how many at one time; `timers` and
//! `schedule` say when; `events` and `listen` bring events to those who wait for them, `lifecycle` makes those that tell
//! of runs; `child` runs workflows for workflows; `approval` keeps what waits for a person; `asked` is what a person asks of
//! functions without a run; `control` is what people want
//! of a run; `ending` ends runs that never began or cannot be read, `episodes` keeps what
//! became of runs as examples for others; `journal` is where all of it is written, `commit` one
//! step on its way there, `keep` what is forgotten and when, `withheld` what could not be handed on. Decisions are
//! `edge_core::engine`'s alone.

mod approval;
mod asked;
mod begin;
mod catalog;
mod child;
mod commit;
mod control;
mod drive;
mod ending;
mod episodes;
mod events;
mod facts;
mod guard;
mod journal;
mod keep;
mod lifecycle;
mod listen;
mod outlet;
mod perform;
mod places;
mod pump;
mod runner;
mod schedule;
mod timers;
mod withheld;

pub use approval::{Answer, ApprovalError, Authority};
pub use asked::{WORKFLOW as PERSON, Wanted, perform as perform_wanted};
pub use control::{Act, ControlError, Person};
pub use outlet::Telling;
pub use perform::{Outcome, Perform, Proposal, Rooms};
pub use places::Pace;
pub use runner::{Error, Runner};

#[cfg(test)]
mod tests;
