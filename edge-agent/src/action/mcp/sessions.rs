//! Sessions at hand. Over HTTP calls share one; over standard streams a session does one thing at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as Guarded},
    time::Duration,
};

use serde_json::Value;
use shared::digest::Digest;
use tokio::{sync::Mutex, time::Instant};

use super::{
    super::{errand::Errand, process::Launch},
    Asked, Error, stdio, web,
};

/// More servers than a site uses; beyond it all are forgotten and opened again.
const SESSIONS_MAX: usize = 32;
/// Each is a process, which takes memory while it waits.
const PROCESSES_MAX: usize = 8;
/// How long a process waits for its next call.
const IDLE: Duration = Duration::from_secs(300);

type Slot = Arc<Mutex<Option<(stdio::Session, Instant)>>>;

/// Open sessions by what they were opened with.
#[derive(Default)]
pub(in super::super) struct Sessions {
    web: Guarded<HashMap<Digest, Arc<web::Session>>>,
    processes: Guarded<HashMap<Digest, Slot>>,
}

impl Sessions {
    /// Asks over HTTP, in a session that is open or a new one.
    pub(super) async fn by_web(&self, door: web::Door, hello: &Value, asked: &Asked<'_>) -> Result<Value, Error> {
        let digest = door.digest(hello);
        let at_hand = self.web.lock().expect("no thread panicked with the sessions").get(&digest).cloned();
        if let Some(session) = at_hand {
            match door.ask(&session, asked.method, asked.parameters).await {
                Err(Error::Forgotten) => {}
                answer => return answer,
            }
        }
        let session = Arc::new(door.open(hello).await?);
        {
            let mut sessions = self.web.lock().expect("no thread panicked with the sessions");
            if sessions.len() >= SESSIONS_MAX {
                sessions.clear();
            }
            sessions.insert(digest, Arc::clone(&session));
        }
        door.ask(&session, asked.method, asked.parameters).await
    }

    /// Asks a process, which runs already or is started.
    pub(super) async fn by_stdio(
        &self,
        errand: &Errand<'_>,
        launch: Launch,
        hello: &Value,
        asked: &Asked<'_>,
    ) -> Result<Value, Error> {
        let slot = self.slot(stdio::digest(&launch, hello));
        let mut held = slot.lock().await;
        // Taken out while it is used: a call that is given up leaves it in the middle of a message, and so ends it.
        let mut at_hand = held.take().map(|(session, _)| session);
        let is_there = at_hand.as_mut().is_some_and(stdio::Session::runs);
        let mut session = match at_hand.filter(|_| is_there) {
            Some(session) => session,
            None => stdio::Session::open(errand, &launch, hello).await?,
        };
        let answer = session.ask(asked.method, asked.parameters).await;
        if matches!(answer, Ok(_) | Err(Error::Rpc { .. })) {
            let used = Instant::now();
            *held = Some((session, used));
            let slot = Arc::clone(&slot);
            tokio::spawn(async move {
                tokio::time::sleep(IDLE).await;
                let mut held = slot.lock().await;
                if held.as_ref().is_some_and(|(_, last)| *last == used) {
                    *held = None;
                }
            });
        }
        answer
    }

    fn slot(&self, digest: Digest) -> Slot {
        let mut slots = self.processes.lock().expect("no thread panicked with the sessions");
        if slots.len() >= PROCESSES_MAX && !slots.contains_key(&digest) {
            // Those in use end after their call.
            slots.clear();
        }
        Arc::clone(slots.entry(digest).or_default())
    }
}
