//! The control plane: it enrols the fleet, signs and hands out bundles, brings questions to people and answers back, and
//! keeps an archive of the nodes' ledgers that it has verified.
//!
//! `api` speaks HTTP, `control` does what was asked, `fleet` decides, `store` remembers, `console` shows.

pub mod api;
pub mod cli;
pub mod clock;
pub mod console;
pub mod control;
pub mod fleet;
pub mod keys;
pub mod serve;
pub mod store;

pub use control::Control;
