//! Models: tensors in, numbers out. Knows no workflow, feed or policy, and never touches the network.
//!
//! `candle` holds one file per architecture that runs when its weights are there; `index` finds near vectors;
//! `catalog` says which files make a model and whether those on disk are the right ones.

pub mod candle;
pub mod catalog;
pub mod classify;
pub mod embed;
mod error;
pub mod generate;
pub mod index;

pub use error::Error;
