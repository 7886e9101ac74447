//! `edge-agent doctor`: is this node well, what is wrong, and what to do about it. Reads only; works beside a running
//! agent and without one.

use std::{path::Path, process::ExitCode};

use rusqlite::Connection;
use serde::Serialize;
use shared::digest::Digest;

use super::{Context, Failure, local::Local, output};
use crate::{config::Config, feed::journal, site::Site, store, sync};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also compute the whole ledger's tree again (takes a second for each million entries).
    #[arg(long)]
    deep: bool,
}

/// Free space below which the doctor warns: a day of a busy feed's journal.
const FREE_BYTES_MIN: u64 = 512 << 20;
/// No clock that was ever set shows a time before this version was made.
const CLOCK_FLOOR: &str = "2026-01-01T00:00:00Z";

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

/// The messages of one feed: each that was received is in exactly one of journalled, quarantined and duplicates.
#[derive(Debug, Serialize)]
struct Account {
    name: String,
    received: i64,
    journalled: i64,
    quarantined: i64,
    /// Delivered again by the broker, and known.
    duplicates: i64,
    /// Messages of QoS 0 for which there was no room.
    shed: i64,
    readings: i64,
    /// Readings too old for their window, or too far ahead.
    late: i64,
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
    let mut checks = vec![
        Check::ok("configuration", format!("{file}: node {}, jurisdiction {}", config.name, config.jurisdiction)),
        clock(),
        data_folder(&config),
        site(&config),
    ];
    checks.push(embedder(&config));
    let (agent, running) = agent(&config);
    checks.push(agent);
    checks.push(broker(&config, running));
    checks.push(enrolment(&config));
    let mut feeds = Vec::new();
    match store::open_read_only(&config.store_path()) {
        Ok(connection) => {
            checks.push(ledger_check(&connection, args.deep));
            checks.extend(ledger_halt(&connection, &config));
            match accounts(&connection) {
                Ok(found) => {
                    checks.push(accounting(&found));
                    feeds = found;
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
    Report { checks, feeds }
}

fn clock() -> Check {
    let now = crate::clock::now();
    let floor = CLOCK_FLOOR.parse().unwrap_or_default();
    if now < floor {
        let advice = "set the clock (timedatectl, chrony); local work goes on, but times in the ledger are wrong and certificates may be refused";
        return Check::warning("clock", now.to_string(), advice);
    }
    Check::ok("clock", now.to_string())
}

fn data_folder(config: &Config) -> Check {
    let folder = &config.data_dir;
    let shown = folder.display();
    if !folder.exists() {
        return Check::warning(
            "data folder",
            format!("{shown} does not exist yet"),
            "it is made at the first `edge-agent run`",
        );
    }
    if let Err(error) = tempfile_in(folder) {
        let advice = format!("let the agent's user write to {shown}");
        return Check::broken("data folder", format!("{shown} cannot be written ({error})"), advice);
    }
    match free_bytes(folder) {
        Some(free) if free < FREE_BYTES_MIN => Check::warning(
            "data folder",
            format!("{shown}: only {} free", indicatif::HumanBytes(free)),
            "make room: when the disk is full, messages are no longer acknowledged until there is",
        ),
        Some(free) => Check::ok("data folder", format!("{shown}: {} free", indicatif::HumanBytes(free))),
        None => Check::ok("data folder", format!("{shown}: writable")),
    }
}

fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(".doctor");
    std::fs::write(&path, b"x")?;
    std::fs::remove_file(&path)
}

/// Room for an unprivileged user on the folder's file system, asked of `df`: the standard library has no call for it.
fn free_bytes(folder: &Path) -> Option<u64> {
    let out = std::process::Command::new("df").args(["-P", "-k"]).arg(folder).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let kibibytes: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kibibytes << 10)
}

fn site(config: &Config) -> Check {
    let Some(folder) = &config.site else {
        return Check::ok("site", "none of its own: the bundle comes from the control plane");
    };
    match Site::load(folder) {
        Ok(site) => {
            let found = format!(
                "{}: {} feeds, {} workflows, digest {}",
                folder.display(),
                site.feeds.list().len(),
                site.workflows.len(),
                site.digest.short()
            );
            Check::ok("site", found)
        }
        Err(problems) => {
            Check::broken("site", problems.to_string(), "mend what is named; the agent goes on with what it ran before")
        }
    }
}

fn embedder(config: &Config) -> Check {
    let Some(name) = config.models.embedder.as_deref().filter(|name| *name != "builtin") else {
        return Check::ok("embedder", "the built-in token table");
    };
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

fn agent(config: &Config) -> (Check, bool) {
    match Local::find(config).and_then(|local| local.get("/api/v1/status")) {
        Ok(status) => {
            let bundle = status["bundle"]["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok());
            let bundle = bundle.map_or_else(|| "none".to_owned(), |digest| digest.short());
            let link = status["link"]["state"].as_str().unwrap_or("unknown");
            let complaints: Vec<_> =
                status["complaints"].as_array().into_iter().flatten().filter_map(|c| c.as_str()).collect();
            let found = format!("runs; bundle {bundle}, link {link}");
            if complaints.is_empty() {
                (Check::ok("agent", found), true)
            } else {
                let advice = "work goes on with what is in reach; what is parked is done when the rest is back";
                (Check::warning("agent", format!("{found}\n{}", complaints.join("\n")), advice), true)
            }
        }
        Err(Failure::NotRunning { .. }) => {
            (Check::warning("agent", "does not run", "start it with `edge-agent run`"), false)
        }
        Err(failure) => (Check::broken("agent", failure.to_string(), "look at its log"), false),
    }
}

fn broker(config: &Config, running: bool) -> Check {
    let Some(url) = &config.broker.url else {
        let listen = config.broker.embedded.listen;
        if running || listen.port() == 0 {
            return Check::ok("broker", format!("embedded, on {listen}"));
        }
        return match std::net::TcpListener::bind(listen) {
            Ok(_) => Check::ok("broker", format!("embedded, {listen} is free")),
            Err(error) => Check::broken(
                "broker",
                format!("embedded, but {listen} cannot be had ({error})"),
                "end what uses the port, or set `listen` under [broker.embedded]",
            ),
        };
    };
    let place = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).trim_end_matches('/').to_owned();
    let port = if url.starts_with("mqtts") || url.starts_with("ssl") { 8883 } else { 1883 };
    let place = if place.contains(':') { place } else { format!("{place}:{port}") };
    let reached = std::net::ToSocketAddrs::to_socket_addrs(place.as_str()).map_err(|error| error.to_string()).and_then(
        |mut addresses| {
            let address = addresses.next().ok_or("the name has no address")?;
            std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(3))
                .map_err(|error| error.to_string())
        },
    );
    match reached {
        Ok(_) => Check::ok("broker", format!("{url} answers")),
        Err(error) => Check::broken(
            "broker",
            format!("{url} cannot be reached ({error})"),
            "start the broker, or correct `url` under [broker]; the agent keeps trying",
        ),
    }
}

fn enrolment(config: &Config) -> Check {
    // Opening an identity makes one; a look must not.
    if !config.data_dir.join("identity").exists() {
        return Check::ok("fleet", "not enrolled: this node works by itself");
    }
    match sync::Identity::open(&config.data_dir, &config.name) {
        Ok(identity) => match identity.membership() {
            Some(member) => Check::ok("fleet", format!("enrolled at {} in group {}", member.url, member.group)),
            None => Check::ok("fleet", "not enrolled: this node works by itself"),
        },
        Err(error) => Check::broken(
            "fleet",
            error.to_string(),
            "restore the folder `identity`, or remove it and enroll again with a new token",
        ),
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

fn accounts(connection: &Connection) -> rusqlite::Result<Vec<Account>> {
    let account = |(name, totals): (String, journal::Totals)| Account {
        name,
        received: totals.received,
        journalled: totals.journalled,
        quarantined: totals.quarantined,
        duplicates: totals.duplicate,
        shed: totals.shed,
        readings: totals.readings,
        late: totals.late,
    };
    Ok(journal::totals(connection)?.into_iter().map(account).collect())
}

fn accounting(feeds: &[Account]) -> Check {
    let sum = |of: fn(&Account) -> i64| feeds.iter().map(of).sum::<i64>();
    let (received, kept) =
        (sum(|feed| feed.received), sum(|feed| feed.journalled + feed.quarantined + feed.duplicates));
    let found = format!(
        "received {received} = journalled {} + quarantined {} + delivered again {}",
        sum(|feed| feed.journalled),
        sum(|feed| feed.quarantined),
        sum(|feed| feed.duplicates)
    );
    if received == kept {
        Check::ok("accounting", found)
    } else {
        Check::broken(
            "accounting",
            format!("{found} does not hold: {kept} accounted for"),
            "keep a copy of the data folder and report it",
        )
    }
}

fn print(report: &Report) {
    for check in &report.checks {
        let mark = match check.state {
            State::Ok => "ok     ",
            State::Warning => "warning",
            State::Broken => "BROKEN ",
        };
        println!("{mark}  {:14} {}", check.name, check.found.replace('\n', "\n                         "));
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
