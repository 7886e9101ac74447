//! The node's append-only record of everything that was decided and done, and the proofs over it.

pub mod entry;
