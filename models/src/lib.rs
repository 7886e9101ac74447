//! Models: tensors in, numbers out. Knows no workflow, feed or policy, and never touches the network.
//!
//! `embed`, `generate`, `classify` and `rerank` are the contracts and what serves them without any download;
//! `candle` holds one file per architecture that runs when its weights are there; `index` finds near vectors;
//! `catalog` says which files make a model and whether those on disk are the right ones.

pub mod candle;
pub mod catalog;
pub mod classify;
pub mod embed;
mod error;
pub mod generate;
pub mod index;
pub mod rerank;
mod text;

pub use error::Error;
