//! Detectors that learn: the history that they learn from, `train`, and the versions of their models. The pipeline writes
//! the history and takes up the chosen model; what is learned and which model is better is `edge_core`'s to say. Nothing
//! here judges a reading.

pub mod book;
pub mod lesson;
mod train;

pub use train::{Learning, is_long};

#[cfg(test)]
mod tests;
