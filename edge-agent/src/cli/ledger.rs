//! `edge-agent ledger`: read what was recorded, and check that nothing is missing or changed.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Value, json};

use super::{Context, Failure, output};
use crate::sync;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// List entries, newest last.
    List {
        /// Only entries of this run.
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Only entries of this kind, such as `model-called` or `approval-decided`.
        #[arg(long, value_name = "KIND")]
        fact: Option<String>,
        /// Begin at this entry.
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        from: u64,
        /// At most so many; 0 for all.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u64,
    },
    /// Print one entry as it was recorded.
    Show {
        #[arg(value_name = "SEQ")]
        seq: u64,
    },
    /// Compute the tree again from the entries and compare it with the head that the node keeps.
    Verify,
    /// Print the public key that this node signs its ledger with, for `cloud-control audit check --ledger-key`.
    Key,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let connection = context.store()?;
    match args {
        Args::List { run, fact, from, limit } => list(
            &connection,
            context,
            &Wanted { run: run.as_deref(), fact: fact.as_deref(), from: *from, limit: *limit },
        ),
        Args::Show { seq } => show(&connection, *seq),
        Args::Verify => verify(&connection, context),
        Args::Key => key(context),
    }
}

struct Wanted<'a> {
    run: Option<&'a str>,
    fact: Option<&'a str>,
    from: u64,
    limit: u64,
}

fn list(connection: &Connection, context: &Context, wanted: &Wanted<'_>) -> Result<ExitCode, Failure> {
    let entries = entries(connection, wanted).context("cannot list the ledger")?;
    if context.json {
        let values: Vec<Value> = entries.into_iter().map(|(seq, body)| with_seq(seq, body)).collect();
        output::json(&values)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = entries.into_iter().map(|(seq, body)| row(seq, &body)).collect();
    output::table(&["seq", "at", "fact", "run", "what"], rows, "The ledger has no such entry.");
    Ok(ExitCode::SUCCESS)
}

fn entries(connection: &Connection, wanted: &Wanted<'_>) -> rusqlite::Result<Vec<(i64, Value)>> {
    // The newest `limit` entries, but in the order in which they were recorded.
    let all = match wanted.run {
        Some(_) => "ledger_of_run",
        None => "(SELECT seq, fact, body, NULL AS run FROM ledger)",
    };
    let mut statement = connection.prepare(&format!(
        "SELECT seq, body FROM (SELECT seq, body FROM {all} WHERE run IS ?2 AND seq >= ?1 AND (?3 IS NULL OR fact = ?3)
         ORDER BY seq DESC LIMIT ?4) ORDER BY seq"
    ))?;
    let from = i64::try_from(wanted.from).unwrap_or(i64::MAX);
    let limit = if wanted.limit == 0 { -1 } else { i64::try_from(wanted.limit).unwrap_or(-1) };
    let rows = statement.query_map(params![from, wanted.run, wanted.fact, limit], |row| {
        let body: Vec<u8> = row.get(1)?;
        Ok((row.get(0)?, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    })?;
    rows.collect()
}

fn with_seq(seq: i64, body: Value) -> Value {
    let mut value = json!({ "seq": seq });
    if let (Value::Object(into), Value::Object(from)) = (&mut value, body) {
        into.extend(from);
    }
    value
}

fn row(seq: i64, body: &Value) -> Vec<String> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let run = text("run");
    let what = body.as_object().into_iter().flatten().filter(|(key, _)| !matches!(key.as_str(), "at" | "fact" | "run"));
    let what: Vec<String> = what.map(|(key, value)| format!("{key}={}", brief(value))).collect();
    vec![seq.to_string(), text("at"), text("fact"), run.get(16..).unwrap_or(&run).to_owned(), what.join(" ")]
}

/// A value for one cell: contents by their text or digest, long ones cut.
fn brief(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let content = value.get("text").or_else(|| value.get("digest"));
    let text = match content.unwrap_or(value) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= CHARS_MAX { text } else { text.chars().take(CHARS_MAX - 1).chain(['…']).collect() }
}

fn show(connection: &Connection, seq: u64) -> Result<ExitCode, Failure> {
    let body: Option<Vec<u8>> = connection
        .query_row("SELECT body FROM ledger WHERE seq = ?1", params![i64::try_from(seq).unwrap_or(i64::MAX)], |row| {
            row.get(0)
        })
        .optional()
        .context("cannot read the ledger")?;
    let Some(body) = body else { return Err(Failure::NotFound(format!("the ledger has no entry {seq}"))) };
    let value: Value = serde_json::from_slice(&body).context("the entry is not JSON")?;
    output::json(&value)?;
    Ok(ExitCode::SUCCESS)
}

fn key(context: &Context) -> Result<ExitCode, Failure> {
    let config = context.config()?;
    let identity = sync::Identity::open(&config.data_dir, &config.name).map_err(anyhow::Error::new)?;
    let key = identity.ledger_key().public().to_string();
    if context.json {
        output::json(&json!({ "key": key }))?
    } else {
        println!("{key}")
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(connection: &Connection, context: &Context) -> Result<ExitCode, Failure> {
    let outcome = sync::ledger::verify(connection).context("cannot read the ledger")?;
    if context.json {
        output::json(&match &outcome {
            Ok(tail) => json!({ "ok": true, "size": tail.size(), "root": tail.root().to_string() }),
            Err(fault) => json!({ "ok": false, "fault": fault.to_string() }),
        })?;
    } else {
        match &outcome {
            Ok(tail) => println!("The ledger is whole: {} entries, no gap, root {}.", tail.size(), tail.root()),
            Err(fault) => println!("The ledger does not hold: {fault}."),
        }
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
