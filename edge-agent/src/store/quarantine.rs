//! What is in quarantine, for those who look at it. The journal fills it; nothing is ever put back from here.

use rusqlite::{Connection, params};
use serde::Serialize;
use shared::time::Timestamp;

/// A message that did not fit its feed.
#[derive(Debug, Clone, Serialize)]
pub struct Misfit {
    pub feed: String,
    pub topic: String,
    pub reason: String,
    pub received: Timestamp,
    /// How large it was.
    pub bytes: i64,
    /// How it began, as text: what is no UTF-8 is replaced. At most the first 2 KiB.
    pub beginning: String,
}

/// The newest misfits, newest first; of one feed, or of all.
///
/// # Errors
/// When the query fails.
pub fn newest(connection: &Connection, feed: Option<&str>, limit: u32) -> rusqlite::Result<Vec<Misfit>> {
    connection
        .prepare_cached(
            "SELECT feed, topic, reason, received, bytes, payload FROM quarantine
             WHERE ?1 IS NULL OR feed = ?1 ORDER BY seq DESC LIMIT ?2",
        )?
        .query_map(params![feed, limit], |row| {
            Ok(Misfit {
                feed: row.get(0)?,
                topic: row.get(1)?,
                reason: row.get(2)?,
                received: Timestamp::from_micros(row.get(3)?),
                bytes: row.get(4)?,
                beginning: String::from_utf8_lossy(row.get_ref(5)?.as_blob()?).into_owned(),
            })
        })?
        .collect()
}

/// How many misfits there were in all, and how many of them are still kept; of one feed, or of all.
///
/// # Errors
/// When the query fails.
pub fn count(connection: &Connection, feed: Option<&str>) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(
        "SELECT coalesce(sum(quarantined), 0), coalesce(sum(quarantined - dropped), 0) FROM feed_totals
         WHERE ?1 IS NULL OR feed = ?1",
        [feed],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Foreign text for a terminal or a page: at most `chars_max` characters on one line, with everything escaped that would
/// move a cursor, change colours or turn the direction of writing.
#[must_use]
pub fn printable(text: &str, chars_max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == chars_max {
            shown.push('…');
            break;
        }
        if hidden(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_moves_the_terminal() {
        let evil = "a\u{1b}[2J\u{9b}31m\r\n\tb\u{202e}c\0é";
        let shown = printable(evil, 100);
        assert_eq!(shown, r"a\u{1b}[2J\u{9b}31m\r\n\tb\u{202e}c\u{0}é");
        assert_eq!(printable("12345", 3), "123…");
        assert_eq!(printable("123", 3), "123");
    }
}
