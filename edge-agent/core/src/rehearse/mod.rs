//! A workflow put to the test without a node: a case says what goes in and what every call gives, time is simulated, and
//! the run that comes of it is held against what was expected.

mod case;
mod drive;
mod judge;
mod names;
#[cfg(test)]
mod tests;

pub use case::{Case, Expect, Mock, Mocks, Outcome, parse};
pub use drive::{Played, play};
pub use judge::{Extra, differences, judge};
