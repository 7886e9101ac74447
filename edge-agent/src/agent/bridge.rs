//! Between rooms that do not know each other: findings to the runner, answers from pages and the control plane to the
//! runner, bundles from the control plane to the rollout.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use edge_core::engine::effect::Keep;
use futures::future::BoxFuture;
use rusqlite::Connection;
use shared::{
    event::Event,
    id::RunId,
    label::{DataClass, Label},
    time::Timestamp,
    wire::v1,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{live::View, rollout::Rollout};
use crate::{
    action,
    api::{self, Declined, steer::Wish},
    config::Config,
    feed::connection,
    inference::Inference,
    memory,
    pipeline::Deliver,
    store::runs,
    sync,
    workflow::{self, Perform as _, Runner},
};

/// How often pages and the control plane are told how things are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Hands findings to the runner, and waits for it while the agent is still starting.
pub(super) struct ToRunner(watch::Receiver<Option<Runner>>);

impl ToRunner {
    pub(super) const fn new(runner: watch::Receiver<Option<Runner>>) -> Self {
        Self(runner)
    }
}

impl Deliver for ToRunner {
    fn deliver(
        &self,
        events: Vec<(Event, Label)>,
    ) -> BoxFuture<'_, Result<(), Box<dyn std::error::Error + Send + Sync>>> {
        Box::pin(async move {
            let mut runner = self.0.clone();
            let runner = runner.wait_for(Option::is_some).await?.clone().context("the runner is gone")?;
            Ok(runner.deliver(events).await?)
        })
    }
}

/// How the node's own messages reach the broker: beside the feed, under a name of their own.
pub(super) fn broker(config: &Config, connection: &connection::Connection) -> action::Broker {
    action::Broker {
        host: connection.host.clone(),
        port: connection.port,
        login: connection.credentials.clone(),
        tls: connection.tls.clone(),
        client_id: format!("skerry-{}-action", config.name),
    }
}

/// What the local pages need.
pub(super) fn handles(
    view: Arc<View>,
    token: api::Token,
    key: Option<String>,
    runner: &Runner,
    ask: api::ask::Ask,
    changes: watch::Receiver<u64>,
) -> api::Handles {
    let decider = runner.clone();
    let steering = steer(runner, own_label(&view));
    let people = api::people::Door::new(view.config.data_dir.join(api::people::FILE));
    api::Handles {
        node: view.config.name.clone(),
        jurisdiction: view.config.jurisdiction.clone(),
        store: view.store.clone(),
        token,
        people: Arc::new(people),
        hosts: view.config.api.hosts.clone(),
        exposed: !view.config.api.listen.ip().is_loopback(),
        key,
        live: Arc::new(move || view.now()),
        decide: Arc::new(move |answer| {
            let runner = decider.clone();
            Box::pin(async move {
                let answer = workflow::Answer {
                    approval: answer.approval,
                    shown: answer.shown,
                    verdict: answer.verdict,
                    by: answer.by,
                    authority: workflow::Authority::Roles(answer.roles),
                    comment: answer.comment,
                    place: answer.place.name().to_owned(),
                };
                runner.decide_approval(answer).await.map_err(declined)
            })
        }),
        steer: steering,
        ask,
        changes,
    }
}

/// What a person's own words and texts demand. What nobody labelled is not taken for public.
fn own_label(view: &View) -> Label {
    view.config.api.label.clone().unwrap_or_else(|| Label { class: DataClass::Internal, ..Label::default() })
}

/// What people ask of functions.
pub(super) fn ask(view: &View, rooms: Arc<workflow::Rooms>) -> api::ask::Ask {
    let (store, own) = (view.store.clone(), own_label(view));
    Arc::new(move |asked| {
        let (rooms, store) = (Arc::clone(&rooms), store.clone());
        let api::ask::Asked { function, input, label } = asked;
        let wanted = workflow::Wanted { function, input, label: label.unwrap_or_else(|| own.clone()) };
        // On a task of its own, so that the ledger is told also when the caller goes away meanwhile.
        let done = tokio::spawn(async move { workflow::perform_wanted(&rooms, &store, wanted).await });
        Box::pin(async move {
            let done = done.await.map_err(|error| Declined::Failed(format!("the call broke down: {error}")))?;
            done.map_err(|failure| {
                let detail = failure.error.detail.unwrap_or(failure.error.kind);
                match failure.error.status {
                    400 | 413 => Declined::Conflict(detail),
                    401 | 403 => Declined::Forbidden(detail),
                    _ => Declined::Failed(detail),
                }
            })
        })
    })
}

/// What people want of runs; what they start carries this label.
fn steer(runner: &Runner, label: Label) -> api::steer::Steer {
    let runner = runner.clone();
    Arc::new(move |steering| {
        let (runner, label) = (runner.clone(), label.clone());
        Box::pin(async move {
            let api::steer::Steering { wish, by, role, comment, place } = steering;
            let person = workflow::Person { name: by, role, place: place.name().to_owned(), comment };
            let done = match wish {
                Wish::Start { workflow, input } => {
                    return runner.start(&workflow, input, label, person).await.map_err(not_started);
                }
                Wish::Cancel(run) => runner.steer(run, workflow::Act::Cancel, person).await,
                Wish::Suspend(run) => runner.steer(run, workflow::Act::Suspend, person).await,
                Wish::Resume(run) => runner.steer(run, workflow::Act::Resume, person).await,
                Wish::Retry { run, from } => runner.retry(run, from.as_deref(), person).await,
            };
            done.map_err(|error| match error {
                workflow::ControlError::Unknown(_) => Declined::Unknown(error.to_string()),
                workflow::ControlError::Store(_) | workflow::ControlError::Closing(_) => {
                    Declined::Failed(error.to_string())
                }
                other => Declined::Conflict(other.to_string()),
            })
        })
    })
}

fn not_started(error: workflow::Error) -> Declined {
    match error {
        workflow::Error::UnknownWorkflow { .. } => Declined::Unknown(error.to_string()),
        workflow::Error::Unfit(_) => Declined::Conflict(error.to_string()),
        workflow::Error::Store(error) => Declined::Failed(error.to_string()),
    }
}

fn declined(error: workflow::ApprovalError) -> Declined {
    match error {
        workflow::ApprovalError::Unknown { .. } => Declined::Unknown(error.to_string()),
        workflow::ApprovalError::Store(error) => Declined::Failed(error.to_string()),
        role @ workflow::ApprovalError::Role { .. } => Declined::Forbidden(role.to_string()),
        other => Declined::Conflict(other.to_string()),
    }
}

/// What the control plane is told, and where it comes from.
pub(super) fn sources(report: watch::Receiver<sync::Report>, rooms: Arc<workflow::Rooms>) -> sync::Sources {
    let keeper = Arc::clone(&rooms);
    let changed = move |connection: &Connection, since: (Timestamp, Option<RunId>), limit: usize| {
        let mut changed = runs::changed_since(connection, since, limit)?;
        for run in changed.iter_mut().filter(|run| run.status == "faulted") {
            // What a run died of may quote its data.
            if keeper.keep(&run.workflow, &run.label) == Keep::Digest {
                run.note = Some("why it failed may not leave the node".to_owned());
            }
        }
        Ok(changed)
    };
    let approvals = move |connection: &Connection, limit: usize| {
        let mut pending = runs::approvals_pending(connection)?;
        pending.truncate(limit);
        for question in &mut pending {
            // The ledger goes to the control plane too: what it may not keep as text must not leave as a proposal.
            if rooms.keep(&question.workflow, &question.label) == Keep::Digest {
                question.proposal = None;
                "a question that may not leave the node".clone_into(&mut question.title);
            }
        }
        Ok(pending)
    };
    sync::Sources { report, runs: Arc::new(changed), approvals: Arc::new(approvals) }
}

/// Tells pages when to look again, and the control plane how the node is, about once a second.
pub(super) fn changes(
    view: &Arc<View>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    report: watch::Sender<sync::Report>,
) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    let (view, stop) = (Arc::clone(view), stop.clone());
    tasks.spawn(async move {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let looker = Arc::clone(&view);
            let Ok(live) = tokio::task::spawn_blocking(move || looker.now()).await else { continue };
            let now =
                sync::Report { health: live.health, complaints: live.complaints.clone(), figures: live.figures() };
            report.send_if_modified(|told| {
                let changed = *told != now;
                if changed {
                    *told = now;
                }
                changed
            });
            sender.send_modify(|count| *count += 1);
        }
    });
    receiver
}

/// What the OpenAI-compatible endpoint needs.
pub(super) fn openai(
    view: &View,
    embedder: api::openai::Embedding,
    rooms: Arc<workflow::Rooms>,
    key: Option<String>,
) -> axum::Router {
    let decide: api::openai::Decide =
        Arc::new(move |action, target, workflow, label| rooms.decide(action, target, workflow, label));
    let gate = api::openai::Gate {
        store: view.store.clone(),
        decide,
        label: view.config.api.label.clone(),
        jurisdiction: view.config.jurisdiction.clone(),
    };
    api::openai::router(api::openai::Handles {
        models: view.inference.local_names(),
        chat: view.inference.as_chat(),
        embedder,
        embed_target: memory::EMBEDDER.to_owned(),
        gate,
        key,
    })
}

/// The key that callers from elsewhere show, if there is one.
pub(super) fn key(config: &Config) -> anyhow::Result<Option<String>> {
    let Some(file) = &config.api.key_file else { return Ok(None) };
    let text = private::read(file, private::Origin::Given).context("cannot use `key_file` of [api]")?;
    let key = text.trim();
    anyhow::ensure!(!key.is_empty(), "key_file {} of [api] is empty: expected a key", file.display());
    Ok(Some(key.to_owned()))
}

/// Does what the control plane sends, and asks again what is parked when a target or the link is back.
pub(super) async fn follow(mut handles: sync::Handles, rollout: Arc<Rollout>, runner: Runner, inference: Inference) {
    let mut back = inference.back();
    let mut linked = true;
    loop {
        tokio::select! {
            Some(desired) = handles.desired.recv() => {
                let rollout = Arc::clone(&rollout);
                // A trial takes seconds; people's answers must not wait for it.
                tokio::spawn(async move {
                    let outcome = rollout.apply(&desired.dir, desired.digest, desired.version).await;
                    // A sync that no longer waits hears of it with the next status.
                    drop(desired.answer.send(outcome));
                });
            }
            Some(given) = handles.answers.recv() => {
                let outcome = decide(&runner, given.answer).await;
                drop(given.done.send(outcome));
            }
            changed = handles.link.changed(), if linked => {
                // The sender is gone when the node was never enrolled.
                linked = changed.is_ok();
                if linked && handles.link.borrow().is_up() {
                    inference.link_is_back();
                    runner.nudge();
                }
            }
            // `inference` holds the sender.
            Ok(()) = back.changed() => runner.nudge(),
        }
    }
}

/// Gives a person's answer from the control plane to the runner. An answer that is sent again, because its outcome was
/// lost on the way, is as good as the first.
async fn decide(runner: &Runner, given: v1::Answer) -> Result<(), String> {
    let (by, verdict) = (given.by.clone(), given.verdict);
    match runner.decide_approval(answer(given)).await {
        Err(workflow::ApprovalError::AlreadyDecided { by: before, status, .. })
            if before == by && serde_json::to_value(verdict).is_ok_and(|verdict| verdict == status) =>
        {
            Ok(())
        }
        other => other.map(drop).map_err(|error| error.to_string()),
    }
}

fn answer(given: v1::Answer) -> workflow::Answer {
    workflow::Answer {
        approval: given.approval,
        shown: given.shown,
        verdict: given.verdict,
        by: given.by,
        authority: workflow::Authority::ControlPlane,
        comment: given.comment,
        place: "control plane".to_owned(),
    }
}
