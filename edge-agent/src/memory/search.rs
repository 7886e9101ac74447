//! Hybrid search: by meaning (vectors) and by word (FTS5), fused by reciprocal rank.

use std::collections::BTreeMap;

use models::index::{Filter, Ids};
use rusqlite::{Connection, params};
use shared::{digest::Digest, label::Label};

use super::{Inner, shelf::Served};
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
pub struct Found {
    pub text: String,
    pub document: String,
    pub place: String,
    pub digest: Digest,
    /// 0 to 1; 1 is first by meaning and by word.
    pub score: f32,
    pub label: Label,
}

/// Why a search gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("cannot embed the query")]
    Embed(#[from] models::Error),
}

/// What is looked for.
pub(super) struct Sought {
    pub index: String,
    pub query: String,
    pub k: usize,
    /// What those are cleared for who are to see it; without one all is found.
    pub clearance: Option<Label>,
}

/// What a clearance lets be found in an index, where that is not all.
struct Cleared {
    /// The labels that it covers, as the store has them, in a JSON list.
    labels: String,
    chunks: Ids,
}

impl Inner {
    /// The `k` chunks of the index that fit best. Blocks for a few milliseconds.
    pub(super) fn search(&self, sought: &Sought) -> Result<Vec<Found>, Error> {
        let Sought { index, query, k, clearance } = sought;
        let depth = DEPTH.max(*k);
        let cleared = clearance.as_ref().map(|clearance| self.cleared(index, clearance)).transpose()?.flatten();
        let filter = cleared.as_ref().map_or(Filter::All, |cleared| Filter::Among(&cleared.chunks));
        let by_meaning = self.by_meaning(index, query, depth, filter)?;
        let words = match_expression(query);
        let labels = cleared.as_ref().map(|cleared| cleared.labels.as_str());
        let found = self.store.read_blocking("search the documents", |connection| {
            let by_word =
                if words.is_empty() { Vec::new() } else { by_word(connection, index, &words, depth, labels)? };
            let ranked = fuse(&[by_meaning, by_word]);
            // A chunk may be forgotten, or a label become stricter, between the two looks.
            let may = |found: &Found| clearance.as_ref().is_none_or(|clearance| clearance.covers(&found.label));
            let rows = ranked.into_iter().map(|(id, score)| Ok(load(connection, id, score)?.filter(may)));
            rows.filter_map(Result::transpose).take(*k).collect()
        })?;
        Ok(found)
    }

    /// `None` when the clearance covers every label that the index has.
    fn cleared(&self, index: &str, clearance: &Label) -> Result<Option<Cleared>, Error> {
        let read = self.store.read_blocking("find what is cleared", |connection| {
            let mut query = connection.prepare_cached("SELECT DISTINCT label FROM memory_document WHERE idx = ?1")?;
            let labels: Vec<String> = query.query_map([index], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            // A label that cannot be read is not covered.
            let covers = |label: &String| serde_json::from_str(label).is_ok_and(|label| clearance.covers(&label));
            let (covered, stricter): (Vec<String>, Vec<String>) = labels.into_iter().partition(covers);
            if stricter.is_empty() {
                return Ok(None);
            }
            let labels = serde_json::Value::from(covered).to_string();
            let mut query = connection.prepare_cached(
                "SELECT c.id FROM memory_document d JOIN memory_chunk c ON c.document = d.id
                 WHERE d.idx = ?1 AND d.label IN (SELECT value FROM json_each(?2))",
            )?;
            let ids = query.query_map(params![index, labels], |row| row.get::<_, i64>(0))?;
            let chunks = ids.map(|id| id.map(i64::cast_unsigned)).collect::<rusqlite::Result<_>>()?;
            Ok(Some(Cleared { labels, chunks }))
        });
        Ok(read?)
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

fn by_word(
    connection: &Connection,
    index: &str,
    words: &str,
    depth: usize,
    labels: Option<&str>,
) -> rusqlite::Result<Vec<i64>> {
    // A word in a heading weighs twice one in the text.
    let mut query = connection.prepare_cached(
        "SELECT c.id FROM memory_text JOIN memory_chunk c ON c.id = memory_text.rowid
         JOIN memory_document d ON d.id = c.document
         WHERE memory_text MATCH ?1 AND d.idx = ?2 AND (?4 IS NULL OR d.label IN (SELECT value FROM json_each(?4)))
         ORDER BY bm25(memory_text, 1.0, 2.0), c.id LIMIT ?3",
    )?;
    let depth = i64::try_from(depth).unwrap_or(i64::MAX);
    query.query_map(params![words, index, depth, labels], |row| row.get(0))?.collect()
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
        "SELECT c.text, d.path, c.place, d.label FROM memory_chunk c JOIN memory_document d ON d.id = c.document WHERE c.id = ?1",
    )?;
    let found = query.query_row([id], |row| {
        let text: String = row.get(0)?;
        let label: String = row.get(3)?;
        let label = serde_json::from_str(&label).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(error))
        })?;
        let digest = Digest::of(text.as_bytes());
        Ok(Found { digest, text, document: row.get(1)?, place: row.get(2)?, score, label })
    });
    found.optional()
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
