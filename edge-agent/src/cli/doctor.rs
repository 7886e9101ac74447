//! `edge-agent doctor`: is this node well, what is wrong, and what to do about it. Reads only; works beside a running
//! agent and without one.

mod broker;
mod events;
mod feeds;
mod fleet;
mod machine;
mod runs;
mod secrets;

use std::process::ExitCode;

use models::catalog::Digests;
use rusqlite::Connection;
use serde::Serialize;
use shared::{digest::Digest, problem::Problem};

use feeds::Account;

use super::{Context, Failure, local::Local, output};
use crate::{
    agent,
    config::{Config, models::Files},
    inference::{config::Source, problems, shortage},
    memory::documents::Content,
    site::Site,
    store, sync,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line says what was looked at, what was found, and after `->` what to do. Warnings are worth a look; what is BROKEN
keeps the node from its work. Nothing is changed, and the agent may run meanwhile.

Exit code: 0 when nothing is broken (there may be warnings), 1 when something is.")]
pub(super) struct Args {
    /// Also compute the whole ledger's tree again (takes a second for each million entries).
    #[arg(long)]
    deep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Broken,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do; empty when nothing is to be done.
    advice: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), advice: String::new() }
    }

    fn warning(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Warning, found: found.into(), advice: advice.into() }
    }

    fn broken(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Broken, found: found.into(), advice: advice.into() }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Check>,
    feeds: Vec<Account>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let report = examine(args, context);
    let worst = report.checks.iter().map(|check| check.state).fold(State::Ok, worse);
    if context.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    Ok(if worst == State::Broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What keeps targets from answering.
fn troubles(config: &Config) -> Vec<problems::Problem> {
    // A copy of what the agent remembers: doctor changes nothing.
    let digests = Digests::known_from(&config.data_dir.join(agent::DIGESTS_FILE));
    problems::of(&config.targets, &digests, problems::Look::Thorough)
}

/// Each is a warning, since the route goes on without it.
fn target(problem: &problems::Problem) -> Check {
    Check::warning("target", format!("{}: {}", problem.target, problem.found), problem.advice.clone())
}

/// Whether each model on this node would have room, were it loaded now; not those that are told to be no good.
fn memory(config: &Config, troubles: &[problems::Problem]) -> Vec<Check> {
    let inference = agent::inference(config, &Digests::default(), &agent::Former::default());
    let is_there = |name: &str| {
        let own = config.targets.iter().find(|target| target.name == name);
        own.is_some_and(|target| matches!(&target.source, Source::Gguf(model) if model.file.is_file()))
    };
    let check = |(name, needs): (String, Result<u64, String>)| match needs {
        Ok(bytes) => Check::ok("memory", format!("{name} needs {} MB at least, and has room", bytes.div_ceil(1 << 20))),
        Err(why) => {
            Check::warning("memory", format!("{name}: {why}"), "the route goes on to the next target meanwhile")
        }
    };
    let is_good = |name: &str| troubles.iter().all(|problem| problem.target != name);
    inference.look().into_iter().filter(|(name, _)| is_there(name) && is_good(name)).map(check).collect()
}

/// What is wrong with `keys_and_values` of the configuration, and where it stands.
pub(super) fn cramped(config: &Config, context: &Context) -> Option<Problem> {
    let found = shortage(&config.targets, &config.inference)?;
    Some(Config::problem(&context.config_path, "inference.keys_and_values", found))
}

/// Whether the guards find what they must, tried here and now.
fn guards() -> Check {
    match edge_core::guard::unproven() {
        [] => Check::ok("guards", "each finds what it must and leaves the rest alone"),
        broken => Check::broken(
            "guards",
            broken.join(", "),
            "this build is broken: install another; `guard` refuses meanwhile",
        ),
    }
}

fn worse(a: State, b: State) -> State {
    if a == State::Broken || b == State::Broken {
        State::Broken
    } else if a == State::Warning || b == State::Warning {
        State::Warning
    } else {
        State::Ok
    }
}

fn examine(args: &Args, context: &Context) -> Report {
    let file = context.config_path.display().to_string();
    let config = match context.config() {
        Ok(config) => config,
        Err(failure) => {
            let advice = "mend the file; the README shows a short one".to_owned();
            return Report {
                checks: vec![Check::broken("configuration", failure.to_string(), advice)],
                feeds: Vec::new(),
            };
        }
    };
    let (agent, running) = agent(&config);
    let mut checks = vec![
        Check::ok("configuration", format!("{file}: node {}, jurisdiction {}", config.name, config.jurisdiction)),
        machine::clock(),
        machine::data_folder(&config),
        secrets::check(&config),
        site(&config, running.as_ref()),
        guards(),
    ];
    let running = running.is_some();
    checks.extend(machine::processes(&config));
    if config.models.files().all(|(field, _)| field != "embedder") {
        checks.push(embedder(&config));
    }
    checks.extend(config.models.files().map(|(field, files)| encoder(field, files)));
    let troubles = troubles(&config);
    checks.extend(troubles.iter().map(target));
    let advice = "raise it: other models have so much less than the configuration gives them";
    checks.extend(cramped(&config, context).map(|found| Check::warning("memory", found.to_string(), advice)));
    checks.push(agent);
    // A running agent has what it has loaded, and tells its own figures.
    if !running {
        checks.extend(memory(&config, &troubles));
    }
    checks.push(broker::check(&config, running));
    checks.extend(fleet::checks(&config, running));
    let mut accounts = Vec::new();
    match store::open_read_only(&config.store_path()) {
        Ok(connection) => {
            checks.push(ledger_check(&connection, args.deep));
            checks.extend(ledger_halt(&connection, &config));
            checks.extend(fleet::lost(&connection));
            checks.extend(machine::time_goes_on(&connection));
            checks.extend(machine::store(&config, &connection));
            checks.extend(events::withheld(&connection));
            checks.extend(runs::faulted(&connection));
            match feeds::accounts(&connection) {
                Ok(found) => {
                    checks.push(feeds::accounting(&found));
                    checks.extend(feeds::misfits(&found));
                    checks.extend(feeds::backlog(&connection, running));
                    checks.extend(feeds::quiet(&config, running, &found));
                    checks.extend(feeds::silent(&config, running, &connection));
                    accounts = found;
                }
                Err(error) => {
                    checks.push(Check::broken("accounting", error.to_string(), "restore the data folder from a backup"))
                }
            }
        }
        Err(_) if !config.store_path().exists() => {
            checks.push(Check::warning("store", "there is none yet", "it is made at the first `edge-agent run`"));
        }
        Err(error) => {
            let reason = format!("{:#}", anyhow::Error::new(error));
            checks.push(Check::broken("store", reason, "restore the data folder from a backup"));
        }
    }
    Report { checks, feeds: accounts }
}

/// The node's own site, beside what an agent that runs says of itself.
fn site(config: &Config, running: Option<&Status>) -> Check {
    let Some(folder) = &config.site else {
        return Check::ok("site", "none of its own: the bundle comes from the control plane");
    };
    // What a start does: the rules, then the documents and cases.
    let site = match Site::load(folder).and_then(|site| Content::read(folder).map(|_| site)) {
        Ok(site) => site,
        Err(problems) => {
            let advice =
                "mend what is named: an agent that runs goes on with what it has, one that is started will not start";
            return Check::broken("site", problems.to_string(), advice);
        }
    };
    let (feeds, workflows, digest) = (site.feeds.list().len(), site.workflows.len(), site.digest.short());
    let found = format!("{}: {feeds} feeds, {workflows} workflows, digest {digest}", folder.display());
    match running.and_then(|status| status.site) {
        Some(used) if used != site.digest => {
            let found = format!("{found}; the agent runs with {}", used.short());
            Check::warning("site", found, "what changed in the folder takes effect when the agent is started again")
        }
        _ => Check::ok("site", found),
    }
}

fn embedder(config: &Config) -> Check {
    let Some(name) = config.models.of_catalog() else { return Check::ok("embedder", "the built-in token table") };
    let advice = format!("run `edge-agent models pull {name}`");
    let Some(model) = models::catalog::Manifest::built_in().into_iter().find(|model| model.name == name) else {
        return Check::broken(
            "embedder",
            format!("no model is called {name:?}"),
            "`edge-agent models list` shows the names",
        );
    };
    match model.verify(&config.models_dir().join(name)) {
        Ok(flaws) if flaws.is_empty() => Check::ok("embedder", format!("{name}, every digest right")),
        Ok(flaws) => {
            Check::broken("embedder", flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), advice)
        }
        Err(error) => Check::broken("embedder", error.to_string(), advice),
    }
}

/// An encoder whose files the configuration names.
fn encoder(field: &'static str, files: &Files) -> Check {
    let advice =
        "put the files there that the digest is of, of a model for this use, or change what stands under [models]";
    match agent::check_encoder(field, files, &Digests::default()) {
        Ok(()) => Check::ok(field, format!("{}, the digest right", files.folder.display())),
        Err(error) => Check::broken(field, format!("{error:#}"), advice),
    }
}

/// What an agent that runs says of itself.
struct Status {
    /// The digest of the node's own site as it was read; `None` when a bundle of the control plane is in force.
    site: Option<Digest>,
}

fn agent(config: &Config) -> (Check, Option<Status>) {
    match Local::find(config).and_then(|local| local.get("/api/v1/status")) {
        Ok(status) => {
            let bundle = status["bundle"]["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok());
            let told = bundle.map_or_else(|| "none".to_owned(), |digest| digest.short());
            let link = status["link"]["state"].as_str().unwrap_or("unknown");
            let complaints: Vec<_> =
                status["complaints"].as_array().into_iter().flatten().filter_map(|c| c.as_str()).collect();
            let found = format!("runs; bundle {told}, link {link}");
            // The control plane counts its bundles from 1.
            let status = Some(Status { site: bundle.filter(|_| status["bundle"]["version"] == 0) });
            if complaints.is_empty() {
                (Check::ok("agent", found), status)
            } else {
                let advice = "work goes on with what is in reach; what is parked is done when the rest is back";
                (Check::warning("agent", format!("{found}\n{}", complaints.join("\n")), advice), status)
            }
        }
        Err(Failure::NotRunning { .. }) => {
            (Check::warning("agent", "does not run", "start it with `edge-agent run`"), None)
        }
        Err(failure) => (Check::broken("agent", failure.to_string(), "look at its log"), None),
    }
}

fn ledger_check(connection: &Connection, deep: bool) -> Check {
    if deep {
        return match sync::ledger::verify(connection) {
            Ok(Ok(tail)) => Check::ok("ledger", format!("{} entries, tree computed again, no gap", tail.size())),
            Ok(Err(fault)) => {
                Check::broken("ledger", fault.to_string(), "keep a copy of the data folder for the auditor")
            }
            Err(error) => Check::broken("ledger", error.to_string(), "restore the data folder from a backup"),
        };
    }
    let sizes =
        connection.query_row("SELECT (SELECT count(*) FROM ledger), (SELECT size FROM ledger_tail)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
    match sizes {
        Ok((rows, size)) if rows == size => {
            Check::ok("ledger", format!("{rows} entries (`--deep` computes the tree again)"))
        }
        Ok((rows, size)) => Check::broken(
            "ledger",
            format!("{rows} entries, the head says {size}"),
            "keep a copy of the data folder for the auditor",
        ),
        Err(error) => Check::broken("ledger", error.to_string(), "restore the data folder from a backup"),
    }
}

/// A ledger that the control plane no longer takes, because it contradicts what it has.
fn ledger_halt(connection: &Connection, config: &Config) -> Option<Check> {
    let complaint = sync::standing(connection).ok()?.complaint()?;
    let advice = format!(
        "keep a copy of the data folder for the auditor; the operator looks into it with `cloud-control audit alarms` and lets it go on with `audit resume {}`",
        config.name
    );
    Some(Check::broken("archive", complaint, advice))
}

fn print(report: &Report) {
    for check in &report.checks {
        let mark = match check.state {
            State::Ok => "ok     ",
            State::Warning => "warning",
            State::Broken => "BROKEN ",
        };
        println!(
            "{mark}  {:14} {}",
            check.name,
            output::shown(&check.found).replace('\n', "\n                         ")
        );
        if !check.advice.is_empty() {
            println!("         {:14} -> {}", "", check.advice);
        }
    }
    if report.feeds.is_empty() {
        return;
    }
    println!();
    let rows = report.feeds.iter().map(|feed| {
        let counts =
            [feed.received, feed.journalled, feed.quarantined, feed.duplicates, feed.shed, feed.readings, feed.late];
        std::iter::once(feed.name.clone()).chain(counts.iter().map(ToString::to_string)).collect()
    });
    output::table(
        &["feed", "received", "journalled", "quarantined", "again", "shed", "readings", "late"],
        rows.collect(),
        "",
    );
}
