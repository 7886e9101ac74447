//! A detector with a small net as its brain, trained on the series' own history. Here is what the net is given, what is made
//! of what it says, how a history becomes examples to learn from, and when a new model is better than the one before. All of
//! it is pure; the training itself is the crate `models`', which knows nothing of series.

#[cfg(test)]
pub(crate) mod dice;
mod drill;
mod line;
mod memory;
mod model;
mod net;
mod study;
mod tail;
mod verdict;

pub use line::Sample;
pub(super) use memory::Memory;
pub use model::{Brain, Model, Shape, Traits};
pub use net::{Layer, Net};
pub use study::{Examples, Study, TooLittle};
pub use verdict::{Evaluation, Promise, Takeover, compare};

#[cfg(test)]
mod tests;
