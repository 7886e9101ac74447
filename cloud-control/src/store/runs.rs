//! Runs of all nodes, as far as a fleet's page shows them.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use shared::{
    id::{NodeName, RunId},
    wire::v1::RunSummary,
};

use super::{int, json, text, to_json};

/// Summaries kept per node; the oldest go first. What happened in them stays in the ledger.
const RUNS_PER_NODE_MAX: u32 = 5_000;

/// A run and whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub node: NodeName,
    #[serde(flatten)]
    pub summary: RunSummary,
}

/// Which runs to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Filter {
    pub node: Option<NodeName>,
    pub status: Option<String>,
    /// At most this many; 0 means 100.
    #[serde(default)]
    pub limit: usize,
}

/// Runs by their last change, newest first.
///
/// # Errors
/// When SQLite fails.
pub fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Run>> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    connection
        .prepare_cached(
            "SELECT node, summary FROM runs WHERE (?1 IS NULL OR node = ?1) AND (?2 IS NULL OR status = ?2)
             ORDER BY updated DESC LIMIT ?3",
        )?
        .query_map(params![filter.node.as_ref().map(NodeName::as_str), filter.status, int(limit)], run)?
        .collect()
}

/// One run of a node's.
///
/// # Errors
/// When SQLite fails.
pub fn get(connection: &Connection, node: &NodeName, id: RunId) -> rusqlite::Result<Option<Run>> {
    connection
        .prepare_cached("SELECT node, summary FROM runs WHERE node = ?1 AND run = ?2")?
        .query_row(params![node.as_str(), id.to_string()], run)
        .optional()
}

/// Takes what a node reported; a summary older than the known one changes nothing. Answers whether anything changed.
pub(crate) fn report(connection: &Connection, node: &NodeName, runs: &[RunSummary]) -> rusqlite::Result<bool> {
    let mut changed = 0;
    let mut upsert = connection.prepare_cached(
        "INSERT INTO runs (node, run, updated, status, summary) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (node, run) DO UPDATE SET updated = excluded.updated, status = excluded.status,
            summary = excluded.summary
         WHERE excluded.updated >= runs.updated AND excluded.summary <> runs.summary",
    )?;
    for run in runs {
        changed += upsert.execute(params![
            node.as_str(),
            run.run.to_string(),
            run.updated.as_micros(),
            run.status,
            to_json(run)
        ])?;
    }
    if changed > 0 {
        connection
            .prepare_cached(
                "DELETE FROM runs WHERE node = ?1 AND run IN
                    (SELECT run FROM runs WHERE node = ?1 ORDER BY updated DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![node.as_str(), RUNS_PER_NODE_MAX])?;
    }
    Ok(changed > 0)
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run { node: text(row, "node")?, summary: json(row, "summary")? })
}
