//! What is written down of files that are followed, and of each that was found there.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, OptionalExtension as _, params};
use shared::digest::Digest;

use super::{Followed, Mark, Seen};
use crate::{
    memory::{files, room},
    store,
};

/// Paths that are followed; each look goes through the files of all.
const FOLLOWED_MAX: i64 = 256;

/// A path as it is written down.
pub(super) struct Row {
    pub(super) index: String,
    pub(super) source: String,
    pub(super) path: String,
    pub(super) subject: Option<String>,
    /// JSON.
    pub(super) label: String,
    /// The files whose text is kept already, with the devices that they are on.
    pub(super) files: Vec<(String, i64)>,
}

/// Has a path followed from now on, with those of its files that are kept already.
pub(super) fn add(connection: &Connection, row: &Row) -> Result<(), store::Error> {
    let Row { index, source, path, subject, label, files } = row;
    let sql = "INSERT INTO memory_followed (idx, source, path, subject, label) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (idx, path) DO UPDATE SET source = excluded.source, subject = excluded.subject, label = excluded.label
               RETURNING id";
    let id: i64 =
        connection.prepare_cached(sql)?.query_row(params![index, source, path, subject, label], |row| row.get(0))?;
    connection.prepare_cached("UPDATE memory_file SET dropped = 0 WHERE followed = ?1")?.execute([id])?;
    for (file, device) in files {
        announce(connection, id, file, *device)?;
    }
    let count: i64 = connection.query_row("SELECT count(*) FROM memory_followed", [], |row| row.get(0))?;
    if count > FOLLOWED_MAX {
        let detail = format!("{FOLLOWED_MAX} paths are followed already: add a folder that holds several, or --once");
        return Err(store::Error::Data { operation: "follow files", detail });
    }
    Ok(())
}

/// Notes a file whose text is not known to be kept as the file is: with an empty digest, and a time and size that no look finds. What is forgotten
/// or gone from now on is found by that.
pub(super) fn announce(connection: &Connection, followed: i64, id: &str, device: i64) -> rusqlite::Result<()> {
    // Nobody follows it any more: then nothing is noted.
    let sql = "INSERT INTO memory_file (followed, id, changed, bytes, device, digest)
               SELECT id, ?2, 0, 0, ?3, x'' FROM memory_followed WHERE id = ?1 ON CONFLICT (followed, id) DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![followed, id, device]).map(drop)
}

/// All that is followed.
pub(super) fn list(connection: &Connection) -> rusqlite::Result<Vec<Followed>> {
    let sql = "SELECT id, idx, source, path, subject, label FROM memory_followed ORDER BY id";
    let row = |row: &rusqlite::Row<'_>| {
        let (path, label): (String, String) = (row.get(3)?, row.get(5)?);
        let unreadable =
            |error| rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, Box::new(error));
        let label = serde_json::from_str(&label).map_err(unreadable)?;
        let (index, source, subject) = (row.get(1)?, row.get(2)?, row.get(4)?);
        Ok(Followed { id: row.get(0)?, index, source, path: path.into(), subject, label })
    };
    connection.prepare_cached(sql)?.query_map([], row)?.collect()
}

/// What is known of the files of one path, by their ids.
pub(super) fn known(connection: &Connection, followed: i64) -> rusqlite::Result<BTreeMap<String, Seen>> {
    let sql = "SELECT id, changed, bytes, device, digest, missed, dropped FROM memory_file WHERE followed = ?1";
    let row = |row: &rusqlite::Row<'_>| {
        let mark = Mark { changed: row.get(1)?, bytes: row.get(2)?, device: row.get(3)? };
        let digest = <[u8; 32]>::try_from(row.get_ref(4)?.as_blob()?).ok().map(Digest::from_bytes);
        Ok((row.get(0)?, Seen { mark, digest, is_missed: row.get(5)?, is_dropped: row.get(6)? }))
    };
    connection.prepare_cached(sql)?.query_map([followed], row)?.collect()
}

/// The digest of a kept text, and where it came from.
pub(super) fn kept(
    connection: &Connection,
    index: &str,
    path: &str,
) -> rusqlite::Result<Option<(Digest, Option<String>)>> {
    let sql = "SELECT digest, source FROM memory_document WHERE idx = ?1 AND path = ?2 AND remembered = ?3";
    let row = |row: &rusqlite::Row<'_>| {
        let digest: [u8; 32] = row.get(0)?;
        Ok((Digest::from_bytes(digest), row.get(1)?))
    };
    connection.prepare_cached(sql)?.query_row(params![index, path, room::TEXTS], row).optional()
}

/// With texts that somebody has forgotten, the files go that they came from: those of a source or subject are followed no more, and one by
/// its id stays away until it is added again.
pub(in super::super) fn forget(
    connection: &Connection,
    index: &str,
    (id, source, subject): (Option<&str>, Option<&str>, Option<&str>),
) -> rusqlite::Result<()> {
    let fits = "idx = ?1 AND (?2 IS NULL OR source = ?2) AND (?3 IS NULL OR subject = ?3)";
    match (id, source) {
        (Some(name), Some(_)) => {
            let sql = format!(
                "SELECT file.followed, file.id, path FROM memory_file AS file JOIN memory_followed AS root ON root.id = file.followed
                 WHERE {fits} AND (file.id = ?4 OR substr(?4, -length(file.id) - 1) = '/' || file.id)"
            );
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let mut query = connection.prepare_cached(&sql)?;
            let alike: Vec<(i64, String, String)> =
                query.query_map(params![index, source, subject, name], row)?.collect::<rusqlite::Result<_>>()?;
            let own: Vec<_> =
                alike.iter().filter(|(_, id, path)| files::may_be_named(Path::new(path), id, name)).collect();
            // With a name shorter than that of another, the other's folders would be read as folders above.
            let longest = own.iter().map(|(_, id, _)| id.len()).max();
            let sql = "UPDATE memory_file SET dropped = 1 WHERE followed = ?1 AND id = ?2";
            let mut drop = connection.prepare_cached(sql)?;
            for (followed, id, _) in own.iter().filter(|(_, id, _)| Some(id.len()) == longest) {
                drop.execute(params![followed, id])?;
            }
        }
        // A text without source came from no file.
        (Some(_), None) => {}
        (None, _) => {
            let sql = format!("DELETE FROM memory_followed WHERE {fits}");
            connection.prepare_cached(&sql)?.execute(params![index, source, subject])?;
        }
    }
    Ok(())
}
