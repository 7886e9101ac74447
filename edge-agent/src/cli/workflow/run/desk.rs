//! The rooms of a node, for one run on a machine that is none: the same performing, with no policy in the way, as the
//! document and the machine belong to whoever sits here.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use edge_core::{
    engine::effect::{Call, Failure as CallFailure, Keep, kind},
    guard::policy::{Policies, Policy},
};
use futures::{FutureExt as _, future::BoxFuture};
use models::catalog::Digests;
use shared::{label::Label, ledger::entry::Fact, policy::PolicySet};

use super::{
    super::{super::Failure, bundle_of},
    Args,
};
use crate::{
    action::{self, Action, Broker},
    agent, clock,
    config::Config,
    feed::{self, connection::Connection},
    inference::Inference,
    memory::{Memory, documents::Content},
    store::Store,
    workflow::{Outcome, Pace, Perform, Rooms},
};

const RULES: &str = "@id(\"your-own-desk\") permit (principal, action, resource);";

/// Where the node would stand; no rule asks.
const JURISDICTION: &str = "EU";

/// The rooms, and the store under them.
pub(super) struct Desk {
    pub store: Store,
    rooms: Rooms,
    has_broker: bool,
    runs_processes: bool,
}

/// What `guard` checks under a name in this bundle.
fn guards_of(bundle: &Path) -> Result<Policies, Failure> {
    let mut guards = Policies::new();
    let Ok(entries) = std::fs::read_dir(bundle.join("guards")) else { return Ok(guards) };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| Failure::Input(format!("{file}: {error}")))?;
        let policy = Policy::parse(&file, &text).map_err(|problem| Failure::Input(problem.to_string()))?;
        guards.insert(path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), policy);
    }
    Ok(guards)
}

impl Desk {
    /// Opens the rooms over a store in this folder.
    pub(super) fn open(args: &Args, config: Option<&Config>, folder: &Path) -> Result<Self, Failure> {
        let store = Store::open(&folder.join("run.db")).context("cannot open a temporary store")?;
        let digests = Digests::default();
        let inference = match config {
            Some(config) => agent::inference(config, &digests, &agent::Former::default()),
            None => Inference::new(Vec::new(), &digests),
        };
        let embedder = match config {
            Some(config) => agent::embedder(config, &digests)?,
            None => models::embed::default_embedder(),
        };
        let judges = config.map(|config| agent::judges(config, &digests)).transpose()?.unwrap_or_default();
        let limits = config.map(|config| config.memory.clone()).unwrap_or_default();
        let memory = Memory::open(store.clone(), embedder).judged_by(judges).within(limits);
        let mut guards = Policies::new();
        if let Some(bundle) = bundle_of(&args.file) {
            guards = guards_of(bundle)?;
            let content = Content::read(bundle).map_err(|problems| Failure::Input(problems.to_string()))?;
            memory.set_content(content);
        }
        let broker = broker(args, config)?;
        let calls = calls(args, config)?;
        let (has_broker, runs_processes) = (broker.is_some(), calls.run.is_some());
        let action = Action::new(broker.unwrap_or_else(nowhere), calls);
        let rules = PolicySet::parse(&[("desk.cedar".to_owned(), RULES.to_owned())]);
        let rules = rules.map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let rooms = Rooms::new(inference, memory, action, Arc::new(rules), JURISDICTION.to_owned());
        rooms.set_guards(Arc::new(guards));
        Ok(Self { store, rooms, has_broker, runs_processes })
    }

    /// What must be allowed on the command line first.
    fn lacks(&self, function: &str) -> Option<&'static str> {
        match function {
            "publish" if !self.has_broker => Some("no broker is known: give --broker mqtt://HOST:1883"),
            "shell" | "script" | "container" if !self.runs_processes => {
                Some("processes are not started unless you say so: give --allow-run")
            }
            _ => None,
        }
    }
}

/// The broker of the command line; the site's own is left alone unless it is named.
fn broker(args: &Args, config: Option<&Config>) -> Result<Option<Broker>, Failure> {
    let Some(url) = &args.broker else { return Ok(None) };
    let known = config.map(|config| config.broker.clone()).unwrap_or_default();
    let wanted = feed::config::Broker { url: Some(url.clone()), ..known };
    let connection = Connection::of(&wanted).map_err(|error| Failure::Input(format!("--broker: {error}")))?;
    Ok(connection.map(|connection| Broker {
        host: connection.host,
        port: connection.port,
        login: connection.credentials,
        tls: connection.tls,
        client_id: client_id(),
    }))
}

/// Nothing is published there: a publish without a broker fails before.
fn nowhere() -> Broker {
    Broker { host: "127.0.0.1".to_owned(), port: 1883, login: None, tls: None, client_id: client_id() }
}

fn client_id() -> String {
    format!("skerry-run-{}", hex::encode(clock::seed()))
}

fn calls(args: &Args, config: Option<&Config>) -> Result<action::config::Calls, Failure> {
    let mut calls = config.map(Config::calls).unwrap_or_default();
    let own = args.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    calls.documents.get_or_insert_with(|| own.to_owned());
    let Some(user) = &args.allow_run else {
        calls.run = None;
        return Ok(calls);
    };
    let given = serde_json::json!({ "as_agent": true });
    let mut run = match calls.run.take() {
        Some(run) => run,
        None => serde_json::from_value(given).context("cannot read the limits of processes")?,
    };
    if !user.is_empty() {
        (run.user, run.as_agent) = (Some(user.clone()), false);
    }
    // An agent of this configuration may run meanwhile.
    run.mark = None;
    calls.run = Some(run);
    Ok(calls)
}

impl Perform for Desk {
    fn perform<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Outcome, CallFailure>> {
        match self.lacks(&call.function) {
            Some(lack) => async move {
                let message = format!("`{}` is not performed: {lack}", call.function);
                Err(CallFailure::new(kind::CONFIGURATION, message))
            }
            .boxed(),
            None => self.rooms.perform(call),
        }
    }

    fn may_start(&self, call: &Call, workflow: &str) -> Result<Vec<Fact>, CallFailure> {
        self.rooms.may_start(call, workflow)
    }

    fn pace(&self, call: &Call) -> Pace {
        self.rooms.pace(call)
    }

    fn keep(&self, workflow: &str, label: &Label) -> Keep {
        self.rooms.keep(workflow, label)
    }
}
