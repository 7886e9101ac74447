//! One way for what a person wants of runs, wherever they say it: who they are and whether they may is asked first, then the
//! runner.

use std::{sync::Arc, time::Instant};

use futures::future::BoxFuture;
use serde_json::Value;
use shared::{id::RunId, ledger::entry::Entry};

use super::{Declined, Place, Server};

/// The role of the people who may start runs and steer them.
pub const ROLE: &str = "operator";

/// What a person wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// A run of this workflow, `namespace/name`, with this raw input.
    Start {
        workflow: String,
        input: Value,
    },
    Cancel(RunId),
    Suspend(RunId),
    Resume(RunId),
    /// A run that takes over what came before the task at this place; without one, before the task that failed.
    Retry {
        run: RunId,
        from: Option<String>,
    },
}

/// A wish of a person who showed who they are and may wish it.
#[derive(Debug, Clone)]
pub struct Steering {
    pub wish: Wish,
    pub by: String,
    pub role: String,
    pub comment: Option<String>,
    pub place: Place,
}

/// Passes a wish to the runner; the ledger's entry of it, with the run that it is about, when it is durable.
pub type Steer = Arc<dyn Fn(Steering) -> BoxFuture<'static, Result<Entry, Declined>> + Send + Sync>;

/// Who wishes, before it is known that it is them.
pub(super) struct Asked {
    pub by: String,
    pub secret: String,
    pub comment: Option<String>,
    pub place: Place,
}

impl Server {
    /// Does what a person wants of runs, if they are who they say and may.
    pub(super) async fn steer(&self, wish: Wish, asked: Asked) -> Result<Entry, Declined> {
        let Asked { by, secret, comment, place } = asked;
        let person = self.person(&by, &secret, Instant::now()).await?;
        if !person.roles.iter().any(|role| role == ROLE) {
            let has = person.roles.join(", ");
            let message =
                format!("{} may answer for {has}; starting and steering runs is for the role {ROLE}", person.name);
            return Err(Declined::Forbidden(message));
        }
        let comment = comment.map(|comment| comment.trim().to_owned()).filter(|comment| !comment.is_empty());
        let steering = Steering { wish, by: person.name, role: ROLE.to_owned(), comment, place };
        (self.handles.steer)(steering).await
    }
}
