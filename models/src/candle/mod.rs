//! One file per architecture, each computing on the CPU from files on disk.

pub mod minilm;
