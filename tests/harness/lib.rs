//! What scenarios, suites and the bench share: real processes on free ports, clients for them, and waiting with a bound.
//!
//! It never knows what a scenario wants to prove, and never reaches into a process other than as its user would.

pub mod agent;
pub mod binaries;
pub mod broker;
pub mod browser;
pub mod control;
pub mod mqtt;
pub mod net;
pub mod process;
pub mod recording;
pub mod soak;
pub mod wait;
