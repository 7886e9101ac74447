//! Windows and detectors: what a series of readings means. Pure: the same readings in the same order give the same
//! windows and findings, bit for bit, and a state that was saved and loaded goes on as if nothing had been.

pub mod config;
