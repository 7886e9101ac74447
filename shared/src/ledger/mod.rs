//! The node's append-only record of everything that was decided and done, and the proofs over it.

pub mod checkpoint;
pub mod entry;
pub mod note;
pub mod tree;
pub mod verify;
