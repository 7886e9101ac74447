//! Reading -> window -> detector -> event. Composes the feeds' journal, the broker or the connection to one, and the task
//! that moves readings through windows and detectors in the journal's order.
//!
//! What always holds: a reading is in the journal before its message is acknowledged; a finding is delivered durably
//! before the checkpoint passes the reading that made it; after a kill the same windows close with the same values, and
//! what was delivered already is delivered again under the same id.

mod event;
mod latency;
mod live;
mod worker;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use shared::{event::Event, id::NodeName, label::Label};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use latency::Latency;
pub use live::{SeriesView, Snapshot};

use crate::{
    feed::{
        broker::Broker,
        config::{self, Feeds},
        connection::{self, Connection},
        ingest::{Control, Ingest},
        mqtt::Client,
    },
    store::{self, Store},
};

/// How long an orderly end may take before what is left is left to the next start.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

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

/// What the pipeline needs to know of its node.
#[derive(Debug, Clone)]
pub struct Settings {
    pub node: NodeName,
    /// The embedded broker keeps its files in `broker/` below.
    pub data_dir: PathBuf,
    pub broker: config::Broker,
}

/// Why the pipeline cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Connection(#[from] connection::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A running pipeline.
pub struct Running {
    source: Source,
    connection: Connection,
    control: Control,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
    ingest: JoinHandle<()>,
    worker: JoinHandle<()>,
}

enum Source {
    Embedded(Broker),
    Remote(Client),
}

/// Opens the journal, catches up with it, and starts the embedded broker or the connection to the site's own.
///
/// # Errors
/// When the settings are wrong, the broker cannot listen, or the store cannot be read. A site's broker that cannot be
/// reached is not an error: the connection is tried until it comes.
pub async fn start(
    store: Store,
    settings: Settings,
    feeds: Arc<Feeds>,
    sink: Arc<dyn Deliver>,
) -> Result<Running, Error> {
    let remote = Connection::of(&settings.broker)?;
    let (opened_store, opened_feeds) = (store.clone(), Arc::clone(&feeds));
    let opened = tokio::task::spawn_blocking(move || Ingest::open(opened_store, opened_feeds));
    let (ingest, door, control, passed) =
        opened.await.map_err(|_| store::Error::Closed { operation: "open the journal" })??;
    let stop = CancellationToken::new();
    let (live, snapshot) = live::Live::new();
    let worker = worker::Worker::load(store, settings.node.clone(), feeds, sink, live, stop.clone()).await?;
    let last = ingest.last();
    let worker = tokio::spawn(worker.run(passed, last));
    let ingest = tokio::spawn(ingest.run());
    let (source, connection) = match remote {
        None => {
            let broker = Broker::start(&settings.broker.embedded, &settings.data_dir, door).await?;
            let own = broker.own().clone();
            (Source::Embedded(broker), own)
        }
        Some(connection) => {
            let client_id = settings.broker.client_id.unwrap_or_else(|| format!("skerry-{}", settings.node));
            let client = Client::start(&connection, &client_id, settings.broker.session_expiry_s, door);
            (Source::Remote(client), connection)
        }
    };
    Ok(Running { source, connection, control, snapshot, stop, ingest, worker })
}

impl Running {
    /// Where the embedded broker listens; `None` when the site's own is used.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match &self.source {
            Source::Embedded(broker) => Some(broker.address()),
            Source::Remote(_) => None,
        }
    }

    /// How a client of the node itself reaches the broker, to publish.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What changes the feeds. The journal stays open while one of these is held.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// What goes on, renewed about once a second while something does.
    #[must_use]
    pub fn stats(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Ends in order: no more messages in, what came in is journalled and moved through, the state is saved.
    pub async fn shutdown(self) {
        match self.source {
            Source::Embedded(broker) => broker.stop().await,
            Source::Remote(client) => client.stop().await,
        }
        drop(self.control);
        let ended = async {
            drop(self.ingest.await);
            drop(self.worker.await);
        };
        if tokio::time::timeout(SHUTDOWN_WITHIN, ended).await.is_err() {
            tracing::warn!("the pipeline did not end in time; the next start goes on from the last checkpoint");
            self.stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
