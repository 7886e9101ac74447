//! Models that candle's tensors compute, one file per architecture.

pub mod minilm;
