//! A reading: one measured value of one channel of one device.

use std::sync::Arc;

use shared::time::Timestamp;

/// One measured value. `value` is finite and never negative zero, so that what the journal gives back has the same bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub device: Arc<str>,
    pub channel: Arc<str>,
    pub value: f64,
    pub unit: Option<Arc<str>>,
    /// Event time: when it was measured, or received if the message does not say.
    pub at: Timestamp,
}
