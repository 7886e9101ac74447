//! `edge-agent quarantine`: the messages that did not fit their feed, and why. Reads only; works beside a running agent.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;

use super::{Context, Failure, output};
use crate::store::quarantine::{self, Misfit, printable};

/// Characters of a message, a topic and a reason in a table.
const BEGINNING_CHARS: usize = 60;
const TOPIC_CHARS: usize = 120;
const REASON_CHARS: usize = 300;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// The newest misfits: where from, why, when, how large, and how they begin.
    #[command(after_help = "\
A message is quarantined when it is not JSON, does not fit its feed's schema, lacks a field, or is too large.
At most 10,000 misfits of 8 MiB together are kept, the first 2 KiB of each; the oldest go first and are counted.

Examples:
  edge-agent quarantine list
  edge-agent quarantine list --feed temperature --limit 5 --json")]
    List {
        /// Only of this feed.
        #[arg(long, value_name = "FEED")]
        feed: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
    },
}

#[derive(Serialize)]
struct Listed {
    /// All that there ever were, and those that are still kept.
    quarantined: i64,
    kept: i64,
    misfits: Vec<Misfit>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let Args::List { feed, limit } = args;
    let connection = context.store()?;
    let feed = feed.as_deref();
    let misfits = quarantine::newest(&connection, feed, *limit).context("cannot read the quarantine")?;
    let (quarantined, kept) = quarantine::count(&connection, feed).context("cannot read the quarantine")?;
    if context.json {
        output::json(&Listed { quarantined, kept, misfits })?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |misfit: &Misfit| {
        vec![
            misfit.received.to_string(),
            misfit.feed.clone(),
            printable(&misfit.topic, TOPIC_CHARS),
            printable(&misfit.reason, REASON_CHARS),
            misfit.bytes.to_string(),
            printable(&misfit.beginning, BEGINNING_CHARS),
        ]
    };
    let rows: Vec<_> = misfits.iter().map(row).collect();
    let shown = rows.len();
    output::table(&["received", "feed", "topic", "why", "bytes", "begins"], rows, "Nothing is in quarantine.");
    if quarantined > 0 {
        output::note(&format!("{shown} of {quarantined} quarantined; {kept} are kept."));
    }
    Ok(ExitCode::SUCCESS)
}
