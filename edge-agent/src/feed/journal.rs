//! The ingest journal's rows: written in one commit before their messages are acknowledged, read back in order after a
//! restart, trimmed behind the pipeline.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use edge_core::{feed::rhythm::Rhythm, reading::Reading};
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};
use shared::time::Timestamp;

use super::config::{Feed, Feeds};
use crate::store::{self, Transaction};

/// Messages by which a redelivered one is known. More than a broker may have in flight (65,535) after a crash.
const RECENT_MAX: usize = 80_000;
/// Rows kept behind the pipeline: what `RECENT_MAX` is rebuilt from. A row has at most 700 bytes, mostly under 100.
const ROWS_KEPT: i64 = 100_000;
/// Misfits kept to be looked at.
const QUARANTINE_ROWS_MAX: i64 = 10_000;
const QUARANTINE_BYTES_MAX: i64 = 8 << 20;
/// How much of a misfit is kept: of its payload, and of its topic and its reason each, in bytes.
const QUARANTINED_LEN_MAX: usize = 2 << 10;
const QUARANTINED_TEXT_LEN_MAX: usize = 512;

/// One reading with its place in the journal.
#[derive(Debug, Clone)]
pub struct Row {
    pub seq: i64,
    pub feed: Arc<Feed>,
    pub reading: Reading,
    pub key: Option<u64>,
    /// Topic and payload, for the first reading of a message that becomes an event.
    pub message: Option<(String, serde_json::Value)>,
}

/// A message that did not fit.
#[derive(Debug)]
pub(super) struct Quarantined {
    pub seq: i64,
    pub feed: Arc<Feed>,
    pub topic: String,
    pub reason: String,
    pub received: Timestamp,
    pub key: u64,
    /// How large it was; `payload` may hold less.
    pub bytes: usize,
    pub payload: bytes::Bytes,
}

/// What became of the messages of one feed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub received: i64,
    pub journalled: i64,
    pub quarantined: i64,
    pub duplicate: i64,
    pub dropped: i64,
    pub shed: i64,
    pub readings: i64,
    pub late: i64,
    pub unwatched: i64,
}

/// What one commit writes.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<Row>,
    pub(super) quarantined: Vec<Quarantined>,
    /// By the feed's name.
    pub totals: HashMap<String, Totals>,
    pub(super) last: i64,
    /// When it was taken in.
    pub(super) at: Timestamp,
}

impl Batch {
    /// The place of its last row.
    #[must_use]
    pub const fn last(&self) -> i64 {
        self.last
    }

    /// Writes everything, in the caller's transaction.
    pub(super) fn write(&self, tx: &Transaction<'_>) -> Result<(), store::Error> {
        let connection = tx.connection();
        {
            let mut insert = connection.prepare_cached(
                "INSERT INTO journal (seq, feed, device, channel, value, unit, at, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for Row { seq, feed, reading, key, message } in &self.rows {
                let (device, channel) = (&*reading.device, &*reading.channel);
                let key = key.map(u64::cast_signed);
                insert.execute(params![
                    seq,
                    feed.name,
                    device,
                    channel,
                    reading.value,
                    reading.unit.as_deref(),
                    reading.at.as_micros(),
                    key
                ])?;
                if let Some((topic, data)) = message {
                    connection
                        .prepare_cached("INSERT INTO journal_payload (seq, topic, data) VALUES (?1, ?2, ?3)")?
                        .execute(params![seq, topic, data.to_string().as_bytes()])?;
                }
            }
        }
        connection.prepare_cached("UPDATE journal_state SET last = ?1")?.execute([self.last])?;
        if !self.quarantined.is_empty() {
            self.write_quarantined(connection)?;
        }
        for (feed, totals) in &self.totals {
            add_totals(connection, feed, totals)?;
            if totals.received > 0 {
                add_heard(connection, feed, self.at)?;
            }
        }
        Ok(())
    }

    fn write_quarantined(&self, connection: &Connection) -> Result<(), store::Error> {
        let mut insert = connection.prepare_cached(
            "INSERT INTO quarantine (seq, feed, topic, reason, received, key, bytes, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let (mut rows, mut bytes): (i64, i64) =
            connection.query_row("SELECT quarantine_rows, quarantine_bytes FROM journal_state", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        for misfit in &self.quarantined {
            let kept = &misfit.payload[..misfit.payload.len().min(QUARANTINED_LEN_MAX)];
            let length = i64::try_from(misfit.bytes).unwrap_or(i64::MAX);
            let (feed, received, key) = (&misfit.feed.name, misfit.received.as_micros(), misfit.key.cast_signed());
            // A topic may have 64 KiB, and a reason may quote what was wrong.
            let (topic, reason) = (cut(&misfit.topic), cut(&misfit.reason));
            insert.execute(params![misfit.seq, feed, topic, reason, received, key, length, kept])?;
            rows += 1;
            bytes += i64::try_from(kept.len() + topic.len() + reason.len()).unwrap_or(0);
        }
        while rows > QUARANTINE_ROWS_MAX || bytes > QUARANTINE_BYTES_MAX {
            let mut oldest = connection.prepare_cached(
                "DELETE FROM quarantine WHERE seq IN (SELECT seq FROM quarantine ORDER BY seq LIMIT 64) RETURNING feed, \
                 length(payload) + octet_length(topic) + octet_length(reason)",
            )?;
            let gone: Vec<(String, i64)> =
                oldest.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            if gone.is_empty() {
                break;
            }
            for (feed, length) in gone {
                rows -= 1;
                bytes -= length;
                add_totals(connection, &feed, &Totals { dropped: 1, ..Totals::default() })?;
            }
        }
        connection.execute("UPDATE journal_state SET quarantine_rows = ?1, quarantine_bytes = ?2", [rows, bytes])?;
        Ok(())
    }
}

/// The beginning of a text, with a sign that there was more.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= QUARANTINED_TEXT_LEN_MAX {
        return Cow::Borrowed(text);
    }
    let sign = "...";
    Cow::Owned(format!("{}{sign}", &text[..text.floor_char_boundary(QUARANTINED_TEXT_LEN_MAX - sign.len())]))
}

/// Adds to a feed's totals.
pub(crate) fn add_totals(connection: &Connection, feed: &str, more: &Totals) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO feed_totals (feed, received, journalled, quarantined, duplicate, dropped, shed, readings, late, unwatched)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (feed) DO UPDATE SET received = received + ?2, journalled = journalled + ?3, quarantined = quarantined + ?4,
                 duplicate = duplicate + ?5, dropped = dropped + ?6, shed = shed + ?7, readings = readings + ?8, late = late + ?9, unwatched = unwatched + ?10",
        )?
        .execute(params![
            feed, more.received, more.journalled, more.quarantined, more.duplicate, more.dropped, more.shed, more.readings, more.late, more.unwatched
        ])?;
    Ok(())
}

/// Notes that a feed was heard.
fn add_heard(connection: &Connection, feed: &str, at: Timestamp) -> rusqlite::Result<()> {
    let known = connection
        .prepare_cached("SELECT heard_at, pause_us FROM feed_rhythm WHERE feed = ?1")?
        .query_row([feed], |row| Ok(Rhythm { heard_at: Timestamp::from_micros(row.get(0)?), pause_us: row.get(1)? }))
        .optional()?;
    let Rhythm { heard_at, pause_us } = known.map_or_else(|| Rhythm::first(at), |known| known.heard(at));
    connection
        .prepare_cached("INSERT OR REPLACE INTO feed_rhythm (feed, heard_at, pause_us) VALUES (?1, ?2, ?3)")?
        .execute(params![feed, heard_at.as_micros(), pause_us])?;
    Ok(())
}

/// When each feed was heard, by its name.
///
/// # Errors
/// When the query fails.
pub fn rhythms(connection: &Connection) -> rusqlite::Result<HashMap<String, Rhythm>> {
    connection
        .prepare_cached("SELECT feed, heard_at, pause_us FROM feed_rhythm")?
        .query_map([], |row| {
            let rhythm = Rhythm { heard_at: Timestamp::from_micros(row.get(1)?), pause_us: row.get(2)? };
            Ok((row.get(0)?, rhythm))
        })?
        .collect()
}

/// All totals by feed, in the feeds' alphabetical order.
///
/// # Errors
/// When the query fails.
pub fn totals(connection: &Connection) -> rusqlite::Result<Vec<(String, Totals)>> {
    connection
        .prepare_cached(
            "SELECT feed, received, journalled, quarantined, duplicate, dropped, shed, readings, late, unwatched FROM feed_totals ORDER BY feed",
        )?
        .query_map([], |row| {
            let totals = Totals {
                received: row.get(1)?,
                journalled: row.get(2)?,
                quarantined: row.get(3)?,
                duplicate: row.get(4)?,
                dropped: row.get(5)?,
                shed: row.get(6)?,
                readings: row.get(7)?,
                late: row.get(8)?,
                unwatched: row.get(9)?,
            };
            Ok((row.get(0)?, totals))
        })?
        .collect()
}

/// Rows after the place `position` and up to the place `last`, at most `limit`, in order. Rows of feeds that are no more are
/// left out; the second part is the last place that was read, `None` at the end.
pub(crate) fn read_after(
    connection: &Connection,
    feeds: &Feeds,
    position: i64,
    last: i64,
    limit: usize,
) -> rusqlite::Result<(Vec<Row>, Option<i64>)> {
    let mut query = connection.prepare_cached(
        "SELECT j.seq, j.feed, j.device, j.channel, j.value, j.unit, j.at, j.key, p.topic, p.data
         FROM journal j LEFT JOIN journal_payload p ON p.seq = j.seq WHERE j.seq > ?1 AND j.seq <= ?2 ORDER BY j.seq LIMIT ?3",
    )?;
    let mut rows = query.query(params![position, last, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let (mut found, mut reached) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        reached = Some(seq);
        let Some(feed) = feeds.named(row.get_ref(1)?.as_str()?) else { continue };
        let data: Option<Vec<u8>> = row.get(9)?;
        let topic: Option<String> = row.get(8)?;
        let message = topic.zip(data.and_then(|data| serde_json::from_slice(&data).ok()));
        let reading = Reading {
            device: row.get_ref(2)?.as_str()?.into(),
            channel: row.get_ref(3)?.as_str()?.into(),
            value: row.get(4)?,
            unit: row.get_ref(5)?.as_str_or_null()?.map(Into::into),
            at: Timestamp::from_micros(row.get(6)?),
        };
        let key = row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned);
        found.push(Row { seq, feed: Arc::clone(feed), reading, key, message });
    }
    Ok((found, reached))
}

/// Drops what the pipeline has passed and nothing needs any more.
pub(crate) fn trim(connection: &Connection, position: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM journal_payload WHERE seq <= ?1")?.execute([position])?;
    connection.prepare_cached("DELETE FROM journal WHERE seq <= ?1")?.execute([position - ROWS_KEPT])?;
    Ok(())
}

/// The messages of late, by their keys, and the place of the last row.
#[derive(Debug, Default)]
pub(super) struct Recent {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Recent {
    /// Rebuilds the window from what the journal still has.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<(Self, i64)> {
        let last: Option<i64> =
            connection.query_row("SELECT last FROM journal_state", [], |row| row.get(0)).optional()?;
        let mut recent = Self::default();
        let mut query = connection.prepare(
            "SELECT key FROM (SELECT seq, key FROM journal WHERE key IS NOT NULL UNION ALL SELECT seq, key FROM quarantine
             ORDER BY 1 DESC LIMIT ?1) ORDER BY seq",
        )?;
        let mut keys = query.query([i64::try_from(RECENT_MAX).unwrap_or(i64::MAX)])?;
        while let Some(row) = keys.next()? {
            recent.insert(row.get::<_, i64>(0)?.cast_unsigned());
        }
        Ok((recent, last.unwrap_or(0)))
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.known.contains(&key)
    }

    pub(super) fn insert(&mut self, key: u64) {
        if self.known.insert(key) {
            self.order.push_back(key);
            if self.order.len() > RECENT_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

/// The first eight bytes of a SHA-256 over the parts, each with its length.
pub(super) fn key(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes(digest[..8].try_into().expect("eight of 32 bytes"))
}
