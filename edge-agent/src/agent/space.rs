//! A start on a full disk: nothing can be journalled, decided or recorded there, so the agent waits for room, says so in its
//! log and at `/health`, and goes on by itself.

use std::{fs::File, io, net::SocketAddr, path::Path, time::Duration};

use axum::{Json, Router, http::StatusCode, routing::get};
use shared::{
    ledger::entry::{Entry, Fact},
    time::Timestamp,
};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    claim::{Claimant, claim},
    told_to_stop,
};
use crate::{clock, config::Config, store::Store};

/// What a start may write before the first message: a new store, keys, the start's entry.
const ROOM_BYTES: usize = 1 << 20;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What a start begins with.
pub(super) struct Opened {
    /// Held as long as the agent runs.
    pub lock: File,
    pub store: Store,
    pub started: Timestamp,
}

/// Opens the data folder and the store, and records the start. Waits while there is no room on the disk; `None` when the
/// process was told to stop meanwhile.
///
/// # Errors
/// Whatever else keeps the store from being opened.
pub(super) async fn open(config: &Config) -> anyhow::Result<Option<Opened>> {
    let mut waiting: Option<Waiting> = None;
    let mut pause = PAUSE_MIN;
    loop {
        let error = match attempt(config).await {
            Ok(opened) => {
                if let Some(waiting) = waiting {
                    waiting.end().await;
                    tracing::info!("there is room on the disk again: starting");
                }
                return Ok(Some(opened));
            }
            Err(error) => error,
        };
        // SQLite does not always say what it lacked; then a file of our own does.
        let lacks_room = is_for_room(&error) || room(&config.data_dir).is_err_and(|error| is_for_room(&error.into()));
        if !lacks_room {
            return Err(error);
        }
        if waiting.is_none() {
            let folder = config.data_dir.display();
            let reason = format!("no room on the disk of {folder}: {error:#}");
            tracing::error!(reason, "the agent waits until there is room for {} KiB, then starts", ROOM_BYTES >> 10);
            waiting = Some(Waiting::begin(config.api.listen, reason).await);
        }
        // A supervisor that waits for `ready` must not take this for a hang.
        drop(sd_notify::notify(&[
            sd_notify::NotifyState::Status("waits for room on the disk"),
            sd_notify::NotifyState::ExtendTimeoutUsec(60_000_000),
        ]));
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            signal = told_to_stop() => return signal.map(|()| None),
        }
    }
}

async fn attempt(config: &Config) -> anyhow::Result<Opened> {
    let lock = claim(&config.data_dir, Claimant::Agent).await?;
    room(&config.data_dir)?;
    let store = Store::open(&config.store_path())?;
    let started = clock::now();
    let fact = Fact::AgentStarted { version: env!("CARGO_PKG_VERSION").to_owned() };
    let entry = Entry { at: started, run: None, task: None, fact };
    store.write("record the start", move |tx| Ok(tx.append(&entry)?)).await?;
    Ok(Opened { lock, store, started })
}

/// Whether the folder takes what a start may write.
fn room(folder: &Path) -> io::Result<()> {
    let path = folder.join(".room");
    let written = std::fs::write(&path, vec![0x5a; ROOM_BYTES]);
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// Whether it failed for want of room.
fn is_for_room(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    error.chain().any(|cause| {
        let by_system = cause.downcast_ref::<io::Error>();
        by_system.is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge))
            || cause.downcast_ref::<crate::store::Error>().is_some_and(crate::store::Error::is_full)
    })
}

/// Answers for the local API while there is none.
struct Waiting(Option<JoinHandle<()>>);

impl Waiting {
    async fn begin(listen: SocketAddr, reason: String) -> Self {
        let listener = match TcpListener::bind(listen).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%listen, %error, "cannot answer at /health meanwhile");
                return Self(None);
            }
        };
        let answer = answer(listen, &reason);
        let unwell = move || std::future::ready((StatusCode::SERVICE_UNAVAILABLE, Json(answer.clone())));
        let router = Router::new().route("/health", get(unwell.clone())).fallback(unwell);
        Self(Some(tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "cannot answer at /health any more");
            }
        })))
    }

    /// Gives the port free.
    async fn end(self) {
        if let Some(task) = self.0 {
            task.abort();
            drop(task.await);
        }
    }
}

/// What `/health` says meanwhile: the reason, which has paths of this machine in it, only where nobody else can ask.
fn answer(listen: SocketAddr, reason: &str) -> serde_json::Value {
    if listen.ip().is_loopback() {
        serde_json::json!({ "health": "failing", "complaints": [reason] })
    } else {
        serde_json::json!({ "health": "failing" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_on_loopback_alone() {
        let told = |listen: &str| answer(listen.parse().expect("an address"), "no room in /var/lib/skerry").to_string();
        assert!(told("127.0.0.1:8686").contains("/var/lib/skerry") && told("[::1]:8686").contains("/var/lib/skerry"));
        for open in ["0.0.0.0:8686", "10.0.0.7:8686", "[::]:8686"] {
            assert_eq!(told(open), r#"{"health":"failing"}"#, "{open}");
        }
    }
}
