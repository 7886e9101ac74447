//! The local HTTP API.

pub mod openai;
