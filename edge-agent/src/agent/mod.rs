//! The composition root: makes the rooms, joins them, keeps the bundle in force, and ends them in order.
//!
//! Nothing here needs the network or a right clock: what cannot be reached is tried again by the room that wants it.

mod alone;
mod bridge;
mod claim;
mod encoders;
mod follow;
mod footprint;
mod live;
mod rollout;
mod space;
mod targets;
mod trial;

use std::{net::SocketAddr, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc, time::Duration};

pub(crate) use alone::Alone;
use anyhow::Context as _;
pub(crate) use encoders::check as check_encoder;
pub(crate) use encoders::{Former, embedder, embedders, judges};
use models::catalog::Digests;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    action::{self, Action},
    api,
    config::{Config, Lifecycle},
    inference::{self, Inference, Machine},
    learning::Learning,
    memory::Memory,
    pipeline, sync,
    workflow::{self, Runner},
};

/// The file in the data folder with the address that the local API is bound to.
pub const ADDRESS_FILE: &str = "local-address";
/// The file in the data folder with the token that the local API asks for; readable by the agent's user alone.
pub const TOKEN_FILE: &str = "local-token";

/// The file in the data folder that remembers the digests of model files.
pub const DIGESTS_FILE: &str = "model-digests.json";

/// The folder in the data folder with the vector indexes; it may be removed while no agent runs, and is made again.
pub const INDEXES_FOLDER: &str = "indexes";

/// How long tasks that wait for others may hold up the end of the process.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long after it was told to stop the process waits for answers that are being written: shorter than systemd waits before it kills
/// (`TimeoutStopSec` of the unit).
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Runs the agent until the process is told to stop.
///
/// # Errors
/// When a room cannot start: the data folder may not be written, another agent uses it, a port is taken, the site is
/// broken and there is no bundle to go by.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let Some(space::Opened { lock: _lock, store, started }) = space::open(&config).await? else { return Ok(()) };
    let digests = Digests::kept_in(config.data_dir.join(DIGESTS_FILE));
    targets::look_through(config.targets.clone(), digests.clone());
    let former = Former::default();
    let embedders = embedders(&config, &digests, &former)?;
    let (embedder, inference) = (Arc::clone(&embedders.chosen), inference(&config, &digests, &former));
    let memory = Memory::open_in(&config.data_dir.join(INDEXES_FOLDER), store.clone(), embedders);
    let memory = memory.judged_by(judges(&config, &digests)?).within(config.memory.clone());
    let writing = inference.clone();
    let are_busy = move || writing.figures().iter().any(|(_, figures)| figures.writing + figures.waiting > 0);
    let memory = memory.resting_beside(Box::new(are_busy));
    let force = rollout::at_start(&config, &store).await?;

    // Findings wait for the runner, the runner's messages for the broker: so the pipeline starts first.
    let (runner_is_here, runner_wanted) = watch::channel(None);
    let settings = pipeline::Settings {
        node: config.name.clone(),
        data_dir: config.data_dir.clone(),
        broker: config.broker.clone(),
    };
    let feeds = Arc::new(force.site.feeds.clone());
    let pipeline =
        pipeline::start(store.clone(), settings, feeds, Arc::new(bridge::ToRunner::new(runner_wanted))).await?;
    let broker = shown(&config, &pipeline);
    if let Some(count) = config.run.as_ref().map(action::sweep_processes).filter(|count| *count > 0) {
        tracing::info!(count, "folders of processes that an agent before left are removed");
    }
    let action = Action::new(bridge::broker(&config, pipeline.connection()), config.calls());
    let policies = Arc::clone(&force.site.policies);
    let performer = Arc::new(workflow::Rooms::new(
        inference.clone(),
        memory.clone(),
        action,
        policies,
        config.jurisdiction.clone(),
    ));
    performer.set_guards(Arc::clone(&force.site.guards));
    performer.set_learning(Learning::new(store.clone()));
    // A run that goes on from before a kill may look into the documents at once.
    memory.set_content(force.content.clone());
    let runner = Runner::open(store.clone(), Arc::clone(&performer) as Arc<dyn workflow::Perform>).await?;
    if let Some(Lifecycle { topic, tasks }) = config.lifecycle.clone() {
        runner.tell_lifecycle(workflow::Telling { topic, tasks });
    }
    let following = memory.clone();
    let rooms = rollout::Rooms {
        config: config.clone(),
        store: store.clone(),
        runner: runner.clone(),
        performer: Arc::clone(&performer),
        memory,
        pipeline: pipeline.control(),
    };
    let rollout = Arc::new(rollout::Rollout::begin(rooms, force).await?);
    runner_is_here.send_replace(Some(runner.clone()));

    let identity = sync::Identity::open(&config.data_dir, &config.name)?;
    let (report, reported) = watch::channel(sync::Report::default());
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let options = sync::Options {
        data: config.data_dir.clone(),
        jurisdiction: config.jurisdiction.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started,
    };
    let handles = sync::start(
        options,
        &identity,
        store.clone(),
        bridge::sources(reported, Arc::clone(&performer)),
        stop.clone(),
        &tasks,
    )?;

    let view = Arc::new(live::View {
        config: config.clone(),
        store: store.clone(),
        started,
        broker: broker.clone(),
        pipeline: pipeline.stats(),
        link: handles.link.clone(),
        control: identity.membership().map(|member| member.url.clone()),
        in_force: rollout.state(),
        inference: inference.clone(),
        memory: following.status(),
        encoders: Box::new(following.as_figures()),
        rates: std::sync::Mutex::new(None),
    });
    let token = api::Token::load_or_create(&config.data_dir.join(TOKEN_FILE)).context("no local token")?;
    let key = bridge::key(&config)?;
    let (name, dimensions, embed) = (embedder.name().to_owned(), embedder.dimensions(), following.as_embed());
    let embedding = api::openai::Embedding { name, dimensions, embed };
    let follower = follow::Follower {
        memory: following,
        rooms: Arc::clone(&performer),
        store: store.clone(),
        every: config.memory.follow_every(),
    };
    tasks.spawn(follower.run(stop.clone()));
    let asking = bridge::ask(&view, Arc::clone(&performer));
    let more = bridge::openai(&view, embedding, performer, key.clone());
    let changes = bridge::changes(&view, &tasks, &stop, report);
    let router = api::router(bridge::handles(Arc::clone(&view), token, key, &runner, asking, changes), more);
    let (address, served) = serve(&config, router, &stop).await?;

    let bundle = rollout.state().borrow().shown();
    tracing::info!(node = %config.name, api = %address, %broker, %bundle, "ready");
    tasks.spawn(footprint::settle(stop.clone()));
    // Told to nobody when systemd did not start this process.
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    tokio::select! {
        () = bridge::follow(handles, rollout, runner.clone(), inference) => {}
        signal = told_to_stop() => signal?,
    }
    tracing::info!("stopping");
    let answered_by = Instant::now() + ANSWER_WITHIN;
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    stop.cancel();
    // On a full disk the trial is counted as one that did not end; that must not keep the rest from stopping in order.
    if let Err(error) = store.write("end a bundle's trial", |tx| Ok(sync::trial_ended(tx.connection())?)).await {
        tracing::warn!(%error, "the end of a bundle's trial cannot be written down");
    }
    pipeline.shutdown().await;
    runner.close().await;
    tasks.close();
    // What still hangs on a dead link is not worth waiting for: nothing of it is lost.
    drop(tokio::time::timeout(STOP_WITHIN, tasks.wait()).await);
    if !end_of_answers(served, answered_by, async { drop(told_to_stop().await) }).await {
        tracing::warn!("answers that were being written are broken off");
    }
    Ok(())
}

/// Waits until all answers are written that were begun; whether they are. Not beyond an instant, and not when somebody asks again.
async fn end_of_answers(mut served: JoinHandle<()>, by: Instant, again: impl Future<Output = ()>) -> bool {
    // Most end at once.
    if tokio::time::timeout(Duration::from_millis(200), &mut served).await.is_ok() {
        return true;
    }
    tracing::info!("answers are being written; another signal breaks them off");
    tokio::select! {
        ended = tokio::time::timeout_at(by, served) => ended.is_ok(),
        () = again => false,
    }
}

/// Makes the data folder, for the agent's user alone.
///
/// # Errors
/// When it cannot be made.
pub fn make_data_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))
}

/// The targets of the configuration, within what the machine has beside the encoders and the indexes.
pub(crate) fn inference(config: &Config, digests: &Digests, former: &Former) -> Inference {
    let indexes = config.data_dir.join(INDEXES_FOLDER);
    let index = Arc::new(move || mapped_in(&indexes));
    let (encoders, former) = (encoders::bytes(config), former.clone());
    let beside = inference::Beside { models: Arc::new(move || encoders + former.bytes()), index };
    let (targets, weights) = (config.targets.clone(), config.weights_dir());
    Inference::within(targets, digests, config.inference, beside, Machine::this(), Some(weights))
}

/// Bytes that the indexes in a folder have mapped.
fn mapped_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    // What else lies there, such as one that is being written, is none yet.
    entries.filter_map(|entry| models::index::mapped_bytes(&entry.ok()?.path()).ok()).sum()
}

/// Where sensors connect.
fn shown(config: &Config, pipeline: &pipeline::Running) -> String {
    match (pipeline.address(), &config.broker.url) {
        (Some(address), _) => {
            let scheme = if config.broker.embedded.tls.is_some() { "mqtts" } else { "mqtt" };
            format!("{scheme}://{address}")
        }
        (None, url) => url.clone().unwrap_or_default(),
    }
}

/// Binds the local API, leaves its address in the data folder, and serves until `stop`.
async fn serve(
    config: &Config,
    router: axum::Router,
    stop: &CancellationToken,
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let listen = config.api.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}: if another program has the port, `listen` under [api] may name another, or 0 for a free one")
    })?;
    let address = listener.local_addr().context("cannot read the local address")?;
    let path = config.data_dir.join(ADDRESS_FILE);
    std::fs::write(&path, format!("{address}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((address, serving(listener, router, stop.clone())))
}

/// Serves until `stop`, and ends when everybody has the answer who asked before.
fn serving(listener: TcpListener, router: axum::Router, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the local API ended");
        }
    })
}

/// Waits for SIGTERM or Ctrl-C.
async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C"),
    }
}

#[cfg(test)]
mod tests;
