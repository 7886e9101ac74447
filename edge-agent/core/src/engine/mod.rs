//! The workflow engine: what may happen to a run, what is remembered, what is asked of the world.

pub mod effect;
