//! What the store has of learners: their histories, their models, and which one judges.

use edge_core::signal::{
    config::{Detector, Method},
    learned::{Model, Promise, Sample, Shape},
};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{digest::Digest, label::Label, time::Timestamp};

/// Series of one node that are learned from; the others keep no history, and their fallback judges.
const LEARNERS_MAX: i64 = 256;
/// Samples kept of each: five weeks of five minutes. With all learners some 70 MiB.
const SAMPLES_MAX: i64 = 10_080;
/// Microseconds: a learner that was silent for so long, 90 days, gives way to another.
const SILENT_MICROS: i64 = 90 * 86_400_000_000;
/// Models kept of each beside the one that judges and the one before it.
const VERSIONS_MAX: i64 = 5;

/// The detector of one series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name {
    pub feed: String,
    pub detector: String,
    pub device: String,
    pub channel: String,
}

/// What the detector looks at and what it promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub shape: Shape,
    pub promise: Promise,
}

/// A series that is learned from.
#[derive(Debug, Clone, PartialEq)]
pub struct Learner {
    pub id: i64,
    pub name: Name,
    pub rule: Rule,
    pub label: Label,
    pub chosen: Option<i64>,
    pub before: Option<i64>,
    /// The effect that chose.
    pub choice: Option<String>,
}

/// A model as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub version: i64,
    pub digest: String,
    pub trained_at: Timestamp,
    /// Whether it judges.
    pub is_chosen: bool,
    /// What `train` said of it.
    pub told: Value,
}

impl Rule {
    /// The rule of a detector that learns; `None` for others.
    #[must_use]
    pub fn of(detector: &Detector) -> Option<Self> {
        let Method::Learned(learned) = &detector.method else { return None };
        let (every, cool_down) = (learned.false_alarm_every.as_micros(), detector.cool_down.as_micros());
        let promise = Promise { false_alarm_every: every, cool_down };
        Some(Self { shape: Shape::from(learned), promise })
    }
}

/// Adds samples to a series' history, in the caller's transaction. `false`: there are too many learners, and nothing was
/// kept.
///
/// # Errors
/// When SQLite refuses.
pub fn keep(
    connection: &Connection,
    name: &Name,
    rule: &Rule,
    label: &Label,
    samples: &[Sample],
) -> rusqlite::Result<bool> {
    let Some(newest) = samples.iter().map(|sample| sample.index).max() else { return Ok(true) };
    let (rule_text, label) = (json!(rule).to_string(), json!(label).to_string());
    let known = connection
        .prepare_cached(
            "SELECT id, rule FROM learner WHERE feed = ?1 AND device = ?2 AND channel = ?3 AND detector = ?4",
        )?
        .query_row((&name.feed, &name.device, &name.channel, &name.detector), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    let id = match known {
        Some((id, _)) => {
            let mut renewed = connection.prepare_cached("UPDATE learner SET rule = ?2, label = ?3 WHERE id = ?1")?;
            renewed.execute((id, &rule_text, &label))?;
            id
        }
        None if !has_room(connection, newest.saturating_mul(rule.shape.step))? => return Ok(false),
        None => {
            let sql =
                "INSERT INTO learner (feed, device, channel, detector, rule, label) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let of = params![name.feed, name.device, name.channel, name.detector, rule_text, label];
            connection.prepare_cached(sql)?.execute(of)?;
            connection.last_insert_rowid()
        }
    };
    let step = known.and_then(|(_, rule)| serde_json::from_str::<Rule>(&rule).ok()).map(|rule| rule.shape.step);
    if step.is_some_and(|step| step != rule.shape.step) {
        // Samples of another length are another series.
        connection.execute("DELETE FROM history WHERE learner = ?1", [id])?;
    }
    let mut insert =
        connection.prepare_cached("INSERT OR REPLACE INTO history (learner, at, value) VALUES (?1, ?2, ?3)")?;
    for sample in samples {
        insert.execute((id, sample.index, sample.value))?;
    }
    let mut oldest = connection.prepare_cached("DELETE FROM history WHERE learner = ?1 AND at <= ?2")?;
    oldest.execute((id, newest.saturating_sub(SAMPLES_MAX)))?;
    Ok(true)
}

/// All learners, by name.
///
/// # Errors
/// When the query fails.
pub fn learners(connection: &Connection) -> rusqlite::Result<Vec<Learner>> {
    let sql = "SELECT id, feed, detector, device, channel, rule, label, chosen, before, choice FROM learner \
               ORDER BY feed, detector, device, channel";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let name = Name { feed: row.get(1)?, detector: row.get(2)?, device: row.get(3)?, channel: row.get(4)? };
        let (rule, label) = (parsed(row.get_ref(5)?.as_str()?)?, parsed(row.get_ref(6)?.as_str()?)?);
        let (chosen, before, choice) = (row.get(7)?, row.get(8)?, row.get(9)?);
        Ok(Learner { id: row.get(0)?, name, rule, label, chosen, before, choice })
    };
    statement.query_map([], read)?.collect()
}

/// The series that have a model to judge by, with its digest.
///
/// # Errors
/// When the query fails.
pub fn chosen(connection: &Connection) -> rusqlite::Result<Vec<(Name, String)>> {
    let sql = "SELECT feed, detector, device, channel, digest FROM learner \
               JOIN detector_model ON learner = id AND version = chosen";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let name = Name { feed: row.get(0)?, detector: row.get(1)?, device: row.get(2)?, channel: row.get(3)? };
        Ok((name, row.get(4)?))
    };
    statement.query_map([], read)?.collect()
}

/// The model of this digest. `None`: it is not there, or not what it was.
///
/// # Errors
/// When the query fails.
pub fn model(connection: &Connection, digest: &str) -> rusqlite::Result<Option<Model>> {
    let mut statement = connection.prepare_cached("SELECT weights FROM detector_model WHERE digest = ?1 LIMIT 1")?;
    let weights: Option<Vec<u8>> = statement.query_row([digest], |row| row.get(0)).optional()?;
    let Some(weights) = weights else { return Ok(None) };
    let read = if Digest::of(&weights).to_string() == digest {
        super::lesson::unpack(&weights)
    } else {
        Err("its bytes are not those that were written".to_owned())
    };
    Ok(read.map_err(|error| tracing::error!(digest, error, "a detector's model is damaged; its fallback judges")).ok())
}

/// The newest samples of a learner, oldest first; those of the last `span` steps alone, if one is given.
///
/// # Errors
/// When the query fails.
pub fn history(connection: &Connection, learner: i64, span: Option<i64>) -> rusqlite::Result<Vec<Sample>> {
    let newest: Option<i64> =
        connection.query_row("SELECT max(at) FROM history WHERE learner = ?1", [learner], |row| row.get(0))?;
    let from = span.zip(newest).map_or(i64::MIN, |(span, newest)| newest.saturating_sub(span));
    let mut statement =
        connection.prepare_cached("SELECT at, value FROM history WHERE learner = ?1 AND at > ?2 ORDER BY at")?;
    let samples = statement.query_map([learner, from], |row| Ok(Sample { index: row.get(0)?, value: row.get(1)? }))?;
    samples.collect()
}

/// The versions of a learner, newest first.
///
/// # Errors
/// When the query fails.
pub fn versions(connection: &Connection, learner: &Learner) -> rusqlite::Result<Vec<Version>> {
    let sql = "SELECT version, digest, trained_at, told FROM detector_model WHERE learner = ?1 ORDER BY version DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| {
        let version = row.get(0)?;
        let told = parsed(row.get_ref(3)?.as_str()?)?;
        let trained_at = Timestamp::from_micros(row.get(2)?);
        Ok(Version { version, digest: row.get(1)?, trained_at, is_chosen: learner.chosen == Some(version), told })
    };
    statement.query_map([learner.id], read)?.collect()
}

/// What was said of the model that this effect made, if it made one.
///
/// # Errors
/// When the query fails.
pub fn made_by(connection: &Connection, learner: i64, key: &str) -> rusqlite::Result<Option<Value>> {
    let mut statement = connection.prepare_cached("SELECT told FROM detector_model WHERE learner = ?1 AND key = ?2")?;
    statement.query_row((learner, key), |row| parsed(row.get_ref(0)?.as_str()?)).optional()
}

/// Writes a model down as the next version, which is returned. `told` gets it, and is kept with it.
///
/// # Errors
/// When SQLite refuses.
pub fn add(
    connection: &Connection,
    learner: i64,
    weights: &[u8],
    key: &str,
    now: Timestamp,
    told: impl FnOnce(i64) -> Value,
) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(version), 0) + 1 FROM detector_model WHERE learner = ?1";
    let version: i64 = connection.query_row(sql, [learner], |row| row.get(0))?;
    let (digest, told) = (Digest::of(weights).to_string(), told(version).to_string());
    let sql = "INSERT INTO detector_model (learner, version, digest, weights, told, key, trained_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection.prepare_cached(sql)?.execute(params![learner, version, digest, weights, told, key, now.as_micros()])?;
    let sql = "DELETE FROM detector_model WHERE learner = ?1 AND version <= ?2 AND version NOT IN \
               (SELECT coalesce(chosen, 0) FROM learner WHERE id = ?1 UNION SELECT coalesce(before, 0) FROM learner WHERE id = ?1)";
    connection.prepare_cached(sql)?.execute([learner, version - VERSIONS_MAX])?;
    Ok(version)
}

/// From the pipeline's next checkpoint on, this version judges. `key`: the effect that wants it.
///
/// # Errors
/// When SQLite refuses.
pub fn choose(connection: &Connection, learner: i64, version: i64, key: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE learner SET before = CASE WHEN chosen IS ?2 THEN before ELSE chosen END, chosen = ?2, choice = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute((learner, version, key)).map(drop)
}

/// Whether there is room for one more learner. One that was not heard of for long before `at` gives way: its detector, or
/// its device, is no more.
fn has_room(connection: &Connection, at: i64) -> rusqlite::Result<bool> {
    let count = || connection.query_row("SELECT count(*) FROM learner", [], |row| row.get::<_, i64>(0));
    if count()? < LEARNERS_MAX {
        return Ok(true);
    }
    for learner in learners(connection)? {
        let sql = "SELECT max(at) FROM history WHERE learner = ?1";
        let newest: Option<i64> = connection.query_row(sql, [learner.id], |row| row.get(0))?;
        let heard = newest.unwrap_or(i64::MIN).saturating_mul(learner.rule.shape.step);
        if heard < at.saturating_sub(SILENT_MICROS) {
            connection.execute("DELETE FROM learner WHERE id = ?1", [learner.id])?;
        }
    }
    Ok(count()? < LEARNERS_MAX)
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}
