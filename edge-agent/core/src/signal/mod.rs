//! Windows and detectors: what a series of readings means. Pure: the same readings in the same order give the same
//! windows and findings, bit for bit, and a state that was saved and loaded goes on as if nothing had been.

mod bits;
pub mod config;
mod detect;
mod flatline;
pub mod learned;
mod limits;
mod rate;
mod robust;
mod seasonal;
mod series;
mod span;
mod window;
mod written;

pub use detect::Verdict;
pub use series::{Finding, Kept, Outcome, Series, Signal, Taken};
pub use window::{Summary, Windows};
