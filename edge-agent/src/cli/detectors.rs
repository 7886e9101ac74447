//! `edge-agent detectors`: the models that detectors have learned, version by version, and which one judges. Reads only;
//! works beside a running agent. Which one judges is changed by a workflow that calls `train`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;

use super::{Context, Failure, output};
use crate::learning::book::{self, Name, Version};

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// The models of each detector of kind `learned`, newest first, with what they were worth when they were trained.
    #[command(after_help = "\
error    how far readings were from what the model expected, on the newest fifth of the history, which it had not learned
         from; in brackets: of what \"as before\" is off by
found    how many of the disturbances that were planted there it found
alarms   findings that it would have made there undisturbed

Examples:
  edge-agent detectors list
  edge-agent detectors list --feed temperature --json        with the whole reports")]
    List {
        /// Only of this feed.
        #[arg(long, value_name = "FEED")]
        feed: Option<String>,
    },
}

/// A series and its models.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    name: Name,
    /// Samples that may be learned from.
    history: usize,
    versions: Vec<Version>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode, Failure> {
    let Args::List { feed } = args;
    let connection = context.store()?;
    let read = || -> rusqlite::Result<Vec<Listed>> {
        let learners = book::learners(&connection)?.into_iter();
        let wanted = learners.filter(|learner| feed.as_ref().is_none_or(|feed| learner.name.feed == *feed));
        let listed = wanted.map(|learner| {
            let history = book::history(&connection, learner.id, None)?.len();
            Ok(Listed { history, versions: book::versions(&connection, &learner)?, name: learner.name })
        });
        listed.collect()
    };
    let listed = read().context("cannot read the models of detectors")?;
    if context.json {
        output::json(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let headings = ["detector", "series", "version", "judges", "trained", "kind", "error", "found", "alarms", "why"];
    let nothing = "No detector learns: a detector of kind `learned` in feeds.yaml does, once its feed has readings.";
    output::table(&headings, listed.iter().flat_map(rows).collect(), nothing);
    Ok(ExitCode::SUCCESS)
}

fn rows(listed: &Listed) -> Vec<Vec<String>> {
    let name = &listed.name;
    let (detector, series) = (format!("{}/{}", name.feed, name.detector), format!("{}/{}", name.device, name.channel));
    if listed.versions.is_empty() {
        let why = format!("not trained yet; its history has {} samples", listed.history);
        let mut row = vec![detector, series];
        row.resize(9, String::new());
        row.push(why);
        return vec![row];
    }
    let row = |version: &Version| {
        let (report, new) = (&version.told["report"], &version.told["report"]["new"]);
        let number =
            |of: &Value, field: &str| of[field].as_f64().map_or_else(String::new, |number| format!("{number:.3}"));
        vec![
            detector.clone(),
            series.clone(),
            version.version.to_string(),
            if version.is_chosen { "yes" } else { "" }.to_owned(),
            version.trained_at.to_string(),
            report["kind"].as_str().unwrap_or_default().to_owned(),
            format!("{} ({})", number(new, "error"), number(new, "naiveError")),
            format!("{} of {}", new["found"], new["planted"]),
            new["alarms"].to_string(),
            version.told["reason"].as_str().unwrap_or_default().to_owned(),
        ]
    };
    listed.versions.iter().map(row).collect()
}
