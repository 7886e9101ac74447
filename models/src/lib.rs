//! Models: tensors in, numbers out. Knows no workflow, feed or policy, and never touches the network.
//!
//! `embed`, `generate`, `classify` and `rerank` are the contracts and what serves them without any download;
//! `candle` holds what its tensors compute when the weights are there; `index` finds near vectors; `catalog` says which files
//! make a model and whether those on disk are the right ones.
//!
//! Chat models compute without candle: `gguf` reads their files, `lanes` is what a processor has, `product` multiplies packed
//! matrices on it, `pool` is the threads, and `decoder` the layers.

pub mod candle;
pub mod catalog;
pub mod classify;
mod decoder;
pub mod embed;
mod error;
pub mod generate;
mod gguf;
pub mod index;
mod lanes;
mod pool;
mod product;
pub mod rerank;
mod text;

pub use error::Error;
