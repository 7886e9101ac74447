//! Hybrid search: by meaning (vectors), by word and by name (FTS5), fused by reciprocal rank.

use std::collections::BTreeMap;

use models::index::{Filter, Ids};
use rusqlite::{Connection, params};
use shared::{digest::Digest, label::Label};

use super::{
    Inner,
    desk::{self, Asker, Work, tokens},
    episode::Episode,
    fit,
    roster::{Kin, Passing, Wanted},
    shelf::Served,
};
use crate::{script, store};

/// How deep each of the two rankings is read. Fusion looks at the top; four times the usual `topK` is beyond where it changes.
const DEPTH: usize = 32;
/// The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): 60 flattens the top enough that being
/// second in both rankings beats being first in one.
const RRF_K: f32 = 60.0;
/// What more passages hold does not say which of them is meant.
const HOLDERS_MAX: usize = 3;
/// Digits by which a number is taken for the name of something; one with letters is whatever its length.
const NAME_DIGITS_MIN: usize = 3;
/// What joins the parts of a name.
const JOINTS: &str = "-_./:";
/// Words of a query that are looked up; the rest of a pasted page changes little.
const QUERY_WORDS_MAX: usize = 48;

/// What a search came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hits {
    /// Best first; where nothing fits, nearest first.
    pub found: Vec<Found>,
    /// False where no passage has to do with the query, as far as that was measured.
    pub fits: bool,
}

/// A chunk that fits the query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Of an episode, all that is told of it.
    pub text: String,
    pub document: String,
    pub place: String,
    pub digest: Digest,
    /// 0 to 1; 1 is first by meaning and by word, and by name where one is asked for.
    pub score: f32,
    pub label: Label,
    pub episode: Option<Episode>,
}

/// Why a search gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Embed(#[from] desk::Error),
    #[error("cannot search the vectors of {index}: {why}")]
    Vectors { index: String, why: models::Error },
    #[error("{0}")]
    NotLoaded(String),
}

/// Where is looked, and for what.
pub(super) struct Sought {
    pub index: String,
    pub k: usize,
    pub wanted: Wanted,
}

/// The chunks that are near by meaning, nearest first.
#[derive(Default)]
struct Near {
    ids: Vec<i64>,
    /// Whether none is as near as one that answers, by an embedder of which that is known.
    are_far: bool,
}

impl Inner {
    /// The `k` chunks of the index that fit best. Blocks for a few milliseconds, and until the indexes are loaded.
    pub(super) fn search(&self, sought: &Sought, query: &str, asker: &Asker<'_>) -> Result<Hits, Error> {
        let Sought { index, k, wanted } = sought;
        let depth = DEPTH.max(*k);
        self.loaded.wait().map_err(Error::NotLoaded)?;
        let age = self.store.read_blocking("tell the memory's age", |connection| self.age.now(connection))?;
        self.end(index, age);
        let passing = self.indexes().get(index).map(|served| served.roster.passing(wanted).ids);
        let Some(passing) = passing.filter(|passing| !passing.is_empty()) else {
            return Ok(Hits { found: Vec::new(), fits: false });
        };
        let Near { ids: by_meaning, are_far } = self.by_meaning(sought, query, depth, asker)?;
        let words = match_expression(script::phrases(query));
        let subject = if are_far { match_expression(fit::subject(query)) } else { String::new() };
        let hits = self.store.read_blocking("search the documents", |connection| {
            let by_word = |words: &str, depth| match words {
                "" => Ok(Vec::new()),
                words => by_word(connection, &passing, words, depth),
            };
            let fits = subject.is_empty() || !by_word(&subject, 1)?.is_empty();
            // Where nothing fits, passages share no more with the query than words such as `the`.
            let by_word = if fits { by_word(&words, depth)? } else { Vec::new() };
            let by_name = by_name(connection, &passing, query)?;
            let by_name = Some(by_name).filter(|holders| !holders.is_empty());
            let rankings: Vec<_> = by_name.into_iter().chain([by_word, by_meaning]).collect();
            let ranked = fuse(&rankings);
            // A chunk may be forgotten, or a label become stricter, between the two looks.
            let rows = ranked.into_iter().map(|(id, score)| load(connection, id, score, (wanted, age)));
            let found: Vec<Found> = rows.filter_map(Result::transpose).take(*k).collect::<rusqlite::Result<_>>()?;
            Ok(Hits { fits: fits && !found.is_empty(), found })
        })?;
        Ok(hits)
    }

    fn by_meaning(
        &self,
        Sought { index, wanted, .. }: &Sought,
        query: &str,
        depth: usize,
        asker: &Asker<'_>,
    ) -> Result<Near, Error> {
        let served_by = |indexes: &BTreeMap<String, Served>| indexes.get(index).map(|served| served.index.embedder());
        // Embedding takes longer than a search, so nobody waits for it; a switch meanwhile is rare.
        let digest = served_by(&self.indexes());
        let Some(embedder) = digest.and_then(|digest| self.embedder_of(digest)) else {
            return Ok(Near::default());
        };
        let (model, tokens) = (self.model(embedder.as_ref()), tokens(embedder.as_ref(), &[query]));
        let seat = asker.begin(&Work { model, tokens, is_loaded: true })?;
        let vectors = seat.with(embedder.as_ref(), |embedder| embedder.embed(&[query]))?;
        drop(seat);
        let Some(vector) = vectors.first().filter(|vector| vector.iter().any(|value| *value != 0.0)) else {
            return Ok(Near::default());
        };
        let near = {
            let indexes = self.indexes();
            let Some(served) = indexes.get(index).filter(|served| served.index.embedder() == embedder.digest()) else {
                return Ok(Near::default());
            };
            let Passing { ids, is_all } = served.roster.passing(wanted);
            served.index.search(vector, depth, if is_all { Filter::All } else { Filter::Among(&ids) })
        };
        let near = match near {
            // Words find what there is until it is made again.
            Err(error) if error.is_unreadable() => {
                self.distrust(index, embedder.digest(), &error);
                return Ok(Near::default());
            }
            near => near.map_err(|why| Error::Vectors { index: index.to_owned(), why })?,
        };
        let nearest = near.first().map(|(_, cosine)| *cosine);
        let are_far = nearest.zip(embedder.unrelated_below()).is_some_and(|(nearest, bound)| nearest < bound);
        // What points the other way is not near, however few chunks there are.
        let ids = near.into_iter().filter(|(_, cosine)| *cosine > 0.0).map(|(id, _)| id.cast_signed()).collect();
        Ok(Near { ids, are_far })
    }
}

/// Words of a query as FTS5 takes them, each quoted so that nothing in it is an operator.
fn match_expression(words: impl IntoIterator<Item = String>) -> String {
    words.into_iter().take(QUERY_WORDS_MAX).map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" OR ")
}

/// The chunks that pass, by how well their words fit. Those that do not pass are stepped over in the order of their rank: the store is asked for
/// few at first, and for all where most of these do not pass.
fn by_word(connection: &Connection, passing: &Ids, words: &str, depth: usize) -> rusqlite::Result<Vec<i64>> {
    // A word in a heading weighs twice one in the text.
    let sql =
        "SELECT rowid FROM memory_text WHERE memory_text MATCH ?1 ORDER BY bm25(memory_text, 1.0, 2.0), rowid LIMIT ?2";
    let mut query = connection.prepare_cached(sql)?;
    for limit in [4 * i64::try_from(depth).unwrap_or(i64::MAX / 4), -1] {
        let mut rows = query.query(params![words, limit])?;
        let (mut found, mut seen) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            seen += 1;
            if passing.has(id.cast_unsigned()) {
                found.push(id);
            }
            if found.len() == depth {
                return Ok(found);
            }
        }
        if seen != limit {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// The chunks that hold what the query names and few others do. Among many that say the same of other things, such as a catalogue's, that one may
/// be far down by meaning, and what both other rankings have would stand before it.
fn by_name(connection: &Connection, passing: &Ids, query: &str) -> rusqlite::Result<Vec<i64>> {
    let mut telling = Vec::new();
    for name in names(query).take(QUERY_WORDS_MAX) {
        let holders = by_word(connection, passing, &match_expression([name.to_owned()]), HOLDERS_MAX + 1)?.len();
        if (1..=HOLDERS_MAX).contains(&holders) {
            telling.push(name.to_owned());
        }
    }
    if telling.is_empty() { Ok(Vec::new()) } else { by_word(connection, passing, &match_expression(telling), DEPTH) }
}

/// What reads as the name of one thing: an order number, an alarm code, a machine's mark.
fn names(query: &str) -> impl Iterator<Item = &str> {
    let is_joint = |c| JOINTS.contains(c);
    let words = query.split(move |c: char| !(c.is_alphanumeric() || is_joint(c)) || script::is_unspaced(c));
    words.map(move |word| word.trim_matches(is_joint)).filter(|word| {
        let digits = word.chars().filter(|c| c.is_numeric()).count();
        digits >= NAME_DIGITS_MIN || (digits > 0 && word.contains(char::is_alphabetic))
    })
}

/// Reciprocal rank fusion, scaled so that first in every ranking is 1. Of equal ones that of an earlier ranking comes first: who has the very
/// word that is asked for stands before who is nearest among nothing near.
fn fuse(rankings: &[Vec<i64>]) -> Vec<(i64, f32)> {
    let mut order = Vec::new();
    let mut scores: BTreeMap<i64, f32> = BTreeMap::new();
    for ranking in rankings {
        order.extend(ranking.iter().filter(|id| !scores.contains_key(id)));
        for (rank, id) in ranking.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a rank is at most a few hundred")]
            let share = (RRF_K + 1.0) / (RRF_K + 1.0 + rank as f32) / rankings.len() as f32;
            *scores.entry(*id).or_default() += share;
        }
    }
    let mut fused: Vec<(i64, f32)> = order.into_iter().map(|id| (id, scores[&id])).collect();
    // Stable: the order is that of the rankings.
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused
}

/// A chunk as the store has it now, if it may be given; `age` is the memory's.
fn load(
    connection: &Connection,
    id: i64,
    score: f32,
    (wanted, age): (&Wanted, i64),
) -> rusqlite::Result<Option<Found>> {
    use rusqlite::OptionalExtension as _;
    let mut query = connection.prepare_cached(
        "SELECT c.text, d.path, c.place, d.label, e.outcome, e.details, d.remembered, d.source FROM memory_chunk c
         JOIN memory_document d ON d.id = c.document LEFT JOIN memory_episode e ON e.document = d.id
         WHERE c.id = ?1 AND (d.expires IS NULL OR d.expires > ?2)",
    )?;
    let found = query.query_row([id, age], |row| {
        let label: Label = json(row, 3)?;
        let kin = Kin { label: Some(label.clone()), form: row.get(6)?, source: row.get(7)?, outcome: row.get(4)? };
        if !wanted.passes(&kin) {
            return Ok(None);
        }
        let situation: String = row.get(0)?;
        let episode = match kin.outcome {
            Some(outcome) => Some(Episode { outcome, details: json(row, 5)? }),
            None => None,
        };
        let text = episode.as_ref().map_or_else(|| situation.clone(), |episode| episode.told(&situation));
        let digest = Digest::of(text.as_bytes());
        Ok(Some(Found { digest, text, document: row.get(1)?, place: row.get(2)?, score, label, episode }))
    });
    Ok(found.optional()?.flatten())
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
        assert_eq!(fuse(&[vec![9], vec![4]]), [(9, 0.5), (4, 0.5)], "who has the word stands first");
    }

    #[test]
    fn what_has_digits_and_letters_or_many_digits_is_a_name() {
        let query = "Is the seal PX-0123 (E17, 4711/2.) of 2 pumps at 10 bar\"24V\"? ポンプP-101の";
        assert_eq!(names(query).collect::<Vec<_>>(), ["PX-0123", "E17", "4711/2", "24V", "P-101"]);
    }

    #[test]
    fn nothing_in_a_query_is_an_operator() {
        let expression = |query| match_expression(script::phrases(query));
        assert_eq!(expression("E-42 OR \"pump*\" NEAR("), "\"E\" OR \"42\" OR \"OR\" OR \"pump\" OR \"NEAR\"");
        assert_eq!(expression(" ?! "), "");
    }
}
