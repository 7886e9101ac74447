//! Small nets that learn on the node: a few thousand weights, trained in seconds from some thousand rows of numbers. What the
//! numbers mean is the caller's to know.
//!
//! Computed by code of our own, not by tensors: at these sizes the bookkeeping of an automatic gradient takes longer than the
//! sums, and the same seed must give the same weights on every processor. That the slopes are right, candle says in a test.

mod file;
mod fit;
mod net;

pub use file::{load, save};
pub use fit::{End, Error, Examples, Fitted, Round, Settings, Widths, fit};
pub use net::{Layer, Net};

#[cfg(test)]
mod tests;
