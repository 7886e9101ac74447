//! Reading -> window -> detector -> event. Reads the journal in order and keeps its place in it.

use futures::future::BoxFuture;
use shared::{event::Event, label::Label};

/// Where findings go. Durable when it returns; told twice about one event after a crash, it takes it once (the pair of
/// source and id names an event).
pub trait Deliver: Send + Sync {
    /// Takes the events in order.
    ///
    /// # Errors
    /// When they could not be kept; they are offered again.
    fn deliver(
        &self,
        events: Vec<(Event, Label)>,
    ) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>>;
}
