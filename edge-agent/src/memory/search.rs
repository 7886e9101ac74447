//! Hybrid search: by meaning (vectors) and by word (FTS5), fused by reciprocal rank.

use std::collections::BTreeMap;

use models::index::{Filter, Ids};
use rusqlite::{Connection, ToSql, params};
use shared::{digest::Digest, label::Label};

use super::{Inner, episode::Episode, shelf::Served};
use crate::store;

/// How deep each of the two rankings is read. Fusion looks at the top; four times the usual `topK` is beyond where it changes.
const DEPTH: usize = 32;
/// The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): 60 flattens the top enough that being
/// second in both rankings beats being first in one.
const RRF_K: f32 = 60.0;
/// Words of a query that are looked up; the rest of a pasted page changes little.
const QUERY_WORDS_MAX: usize = 48;

/// A chunk that fits the query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Of an episode, all that is told of it.
    pub text: String,
    pub document: String,
    pub place: String,
    pub digest: Digest,
    /// 0 to 1; 1 is first by meaning and by word.
    pub score: f32,
    pub label: Label,
    pub episode: Option<Episode>,
}

/// Why a search gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("cannot embed the query")]
    Embed(#[from] models::Error),
}

/// Where is looked, and for what.
pub(super) struct Sought {
    pub index: String,
    pub k: usize,
    /// What those are cleared for who are to see it; without one all is found.
    pub clearance: Option<Label>,
    /// Where it came from.
    pub source: Option<String>,
    /// Episodes are looked for, and nothing else; or all else.
    pub episodes: bool,
    /// What the episodes came to.
    pub outcomes: Option<Vec<String>>,
}

/// What is found in an index: what is looked for, what the clearance covers, and what is still kept.
struct Sieve<'s> {
    sought: &'s Sought,
    /// A JSON list, as SQLite reads it.
    outcomes: Option<String>,
    /// The labels that the clearance covers, as the store has them, in a JSON list; without one all are.
    labels: Option<String>,
    /// Of the memory; what is older than it is kept is not found, though nobody has taken it away yet.
    age: i64,
    /// The chunks that pass, where not all do.
    chunks: Option<Ids>,
}

/// The documents that pass, in every look at the store.
const PASSES: &str = "d.idx = :index AND (d.expires IS NULL OR d.expires > :age) AND (d.remembered = 2) = :episodes
     AND (:labels IS NULL OR d.label IN (SELECT value FROM json_each(:labels))) AND (:source IS NULL OR d.source = :source)
     AND (:outcomes IS NULL OR EXISTS (SELECT 1 FROM memory_episode e
                                       WHERE e.document = d.id AND e.outcome IN (SELECT value FROM json_each(:outcomes))))";

impl<'s> Sieve<'s> {
    fn of(connection: &Connection, sought: &'s Sought, age: i64) -> rusqlite::Result<Self> {
        let index = sought.index.as_str();
        let labels = match &sought.clearance {
            Some(clearance) => covered(connection, index, clearance)?,
            None => None,
        };
        let outcomes = sought.outcomes.as_ref().map(|outcomes| serde_json::json!(outcomes).to_string());
        let mut sieve = Self { sought, outcomes, labels, age, chunks: None };
        let sql = "SELECT EXISTS (SELECT 1 FROM memory_document WHERE idx = ?1 AND expires <= ?2)
                   OR EXISTS (SELECT 1 FROM memory_document WHERE idx = ?1 AND remembered AND remembered = 2)";
        let has_others: bool = connection.prepare_cached(sql)?.query_row(params![index, age], |row| row.get(0))?;
        if has_others || sieve.labels.is_some() || sought.episodes || sought.source.is_some() {
            let sql =
                format!("SELECT c.id FROM memory_document d JOIN memory_chunk c ON c.document = d.id WHERE {PASSES}");
            let mut query = connection.prepare_cached(&sql)?;
            let ids = query.query_map(sieve.values().as_slice(), |row| row.get::<_, i64>(0))?;
            sieve.chunks = Some(ids.map(|id| id.map(i64::cast_unsigned)).collect::<rusqlite::Result<_>>()?);
        }
        Ok(sieve)
    }

    /// For `PASSES`.
    fn values(&self) -> [(&str, &dyn ToSql); 6] {
        let Sought { index, source, episodes, .. } = self.sought;
        [
            (":index", index),
            (":age", &self.age),
            (":episodes", episodes),
            (":labels", &self.labels),
            (":source", source),
            (":outcomes", &self.outcomes),
        ]
    }

    fn filter(&self) -> Filter<'_> {
        self.chunks.as_ref().map_or(Filter::All, Filter::Among)
    }
}

/// The labels in an index that a clearance covers; `None` when those are all.
fn covered(connection: &Connection, index: &str, clearance: &Label) -> rusqlite::Result<Option<String>> {
    let mut query = connection.prepare_cached("SELECT DISTINCT label FROM memory_document WHERE idx = ?1")?;
    let labels: Vec<String> = query.query_map([index], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    // A label that cannot be read is not covered.
    let covers = |label: &String| serde_json::from_str(label).is_ok_and(|label| clearance.covers(&label));
    let (covered, stricter): (Vec<String>, Vec<String>) = labels.into_iter().partition(covers);
    Ok((!stricter.is_empty()).then(|| serde_json::Value::from(covered).to_string()))
}

impl Inner {
    /// The `k` chunks of the index that fit best. Blocks for a few milliseconds.
    pub(super) fn search(&self, sought: &Sought, query: &str) -> Result<Vec<Found>, Error> {
        let Sought { index, k, clearance, .. } = sought;
        let depth = DEPTH.max(*k);
        let sieve = self.store.read_blocking("find what may be found", |connection| {
            Sieve::of(connection, sought, self.age.now(connection)?)
        })?;
        let by_meaning = self.by_meaning(index, query, depth, sieve.filter())?;
        let words = match_expression(query);
        let found = self.store.read_blocking("search the documents", |connection| {
            let by_word = if words.is_empty() { Vec::new() } else { by_word(connection, &sieve, &words, depth)? };
            let ranked = fuse(&[by_meaning, by_word]);
            // A chunk may be forgotten, or a label become stricter, between the two looks.
            let may = |found: &Found| clearance.as_ref().is_none_or(|clearance| clearance.covers(&found.label));
            let rows = ranked.into_iter().map(|(id, score)| Ok(load(connection, id, score)?.filter(may)));
            rows.filter_map(Result::transpose).take(*k).collect()
        })?;
        Ok(found)
    }

    fn by_meaning(&self, index: &str, query: &str, depth: usize, filter: Filter<'_>) -> Result<Vec<i64>, Error> {
        let served_by = |indexes: &BTreeMap<String, Served>| indexes.get(index).map(|served| served.index.embedder());
        let indexes = || self.indexes.read().expect("no thread panicked with the indexes");
        // Embedding takes longer than a search, so nobody waits for it; a switch meanwhile is rare.
        let Some(embedder) = served_by(&indexes()).and_then(|digest| self.embedder_of(digest)) else {
            return Ok(Vec::new());
        };
        let vectors = embedder.embed(&[query])?;
        let Some(vector) = vectors.first().filter(|vector| vector.iter().any(|value| *value != 0.0)) else {
            return Ok(Vec::new());
        };
        let indexes = indexes();
        let Some(served) = indexes.get(index).filter(|served| served.index.embedder() == embedder.digest()) else {
            return Ok(Vec::new());
        };
        let near = served.index.search(vector, depth, filter)?;
        // What points the other way is not near, however few chunks there are.
        Ok(near.into_iter().filter(|(_, cosine)| *cosine > 0.0).map(|(id, _)| id.cast_signed()).collect())
    }
}

/// The query's words as FTS5 takes them, each quoted so that nothing in it is an operator.
fn match_expression(query: &str) -> String {
    let words = query.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).take(QUERY_WORDS_MAX);
    words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" OR ")
}

fn by_word(connection: &Connection, sieve: &Sieve<'_>, words: &str, depth: usize) -> rusqlite::Result<Vec<i64>> {
    // A word in a heading weighs twice one in the text.
    let sql = format!(
        "SELECT c.id FROM memory_text JOIN memory_chunk c ON c.id = memory_text.rowid
         JOIN memory_document d ON d.id = c.document WHERE memory_text MATCH :words AND {PASSES}
         ORDER BY bm25(memory_text, 1.0, 2.0), c.id LIMIT :depth"
    );
    let depth = i64::try_from(depth).unwrap_or(i64::MAX);
    let own: [(&str, &dyn ToSql); 2] = [(":words", &words), (":depth", &depth)];
    let values: Vec<_> = own.into_iter().chain(sieve.values()).collect();
    connection.prepare_cached(&sql)?.query_map(values.as_slice(), |row| row.get(0))?.collect()
}

/// Reciprocal rank fusion, scaled so that first in every ranking is 1. Ties by id.
fn fuse(rankings: &[Vec<i64>]) -> Vec<(i64, f32)> {
    let mut scores: BTreeMap<i64, f32> = BTreeMap::new();
    for ranking in rankings {
        for (rank, id) in ranking.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a rank is at most a few hundred")]
            let share = (RRF_K + 1.0) / (RRF_K + 1.0 + rank as f32) / rankings.len() as f32;
            *scores.entry(*id).or_default() += share;
        }
    }
    let mut fused: Vec<(i64, f32)> = scores.into_iter().collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused
}

fn load(connection: &Connection, id: i64, score: f32) -> rusqlite::Result<Option<Found>> {
    use rusqlite::OptionalExtension as _;
    let mut query = connection.prepare_cached(
        "SELECT c.text, d.path, c.place, d.label, e.outcome, e.details FROM memory_chunk c
         JOIN memory_document d ON d.id = c.document LEFT JOIN memory_episode e ON e.document = d.id WHERE c.id = ?1",
    )?;
    let found = query.query_row([id], |row| {
        let situation: String = row.get(0)?;
        let label = json(row, 3)?;
        let episode = match row.get(4)? {
            Some(outcome) => Some(Episode { outcome, details: json(row, 5)? }),
            None => None,
        };
        let text = episode.as_ref().map_or_else(|| situation.clone(), |episode| episode.told(&situation));
        let digest = Digest::of(text.as_bytes());
        Ok(Found { digest, text, document: row.get(1)?, place: row.get(2)?, score, label, episode })
    });
    found.optional()
}

fn json<T: serde::de::DeserializeOwned>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T> {
    let failed =
        |error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error));
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_in_both_rankings_beats_first_in_one() {
        let fused = fuse(&[vec![1, 2, 3], vec![4, 2, 5]]);
        assert_eq!(fused[0].0, 2);
        assert_eq!(fuse(&[vec![7], vec![7]]), [(7, 1.0)]);
    }

    #[test]
    fn nothing_in_a_query_is_an_operator() {
        assert_eq!(match_expression("E-42 OR \"pump*\" NEAR("), "\"E\" OR \"42\" OR \"OR\" OR \"pump\" OR \"NEAR\"");
        assert_eq!(match_expression(" ?! "), "");
    }
}
