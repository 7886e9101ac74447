//! Models: tensors in, numbers out. Knows no workflow, feed or policy, and never touches the network.
//!
//! `embed`, `generate`, `classify` and `rerank` are the contracts and what serves them without any download;
//! `encoder` embeds, ranks and classifies with a model's files; `index` finds near vectors; `catalog` says which files make a model and
//! whether those on disk are the right ones.
//!
//! `series` trains small nets on the node.
//!
//! What computes: `lanes` is what a processor has, `pool` the threads. Of chat models `gguf` reads the files, `product` multiplies
//! packed matrices, `packed` keeps them as files that are mapped, and `decoder` has the layers.

pub mod catalog;
pub mod classify;
mod decoder;
pub mod embed;
pub mod encoder;
mod error;
pub mod generate;
mod gguf;
pub mod index;
mod lanes;
pub mod packed;
mod pool;
mod product;
pub mod rerank;
pub mod series;
mod text;

pub use error::Error;
#[doc(hidden)]
pub use lanes::forgo_avx512;
pub use text::is_stop_word;
