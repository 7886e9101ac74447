//! Tables for people, JSON for programs.

use std::{
    borrow::Cow,
    io::{ErrorKind, IsTerminal as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use super::Failure;

/// Prints rows under their headings; `nothing` when there are none. Where no terminal gives a width, columns are separated
/// by tabs, one row a line, for `cut`, `awk` and spreadsheets.
pub(super) fn table(headings: &[&str], rows: Vec<Vec<String>>, nothing: &str) {
    if rows.is_empty() {
        say(nothing);
        return;
    }
    if !std::io::stdout().is_terminal() {
        let lines = rows.iter().map(|row| tab_separated(row));
        say(&[headings.join("\t")].into_iter().chain(lines).collect::<Vec<_>>().join("\n"));
        return;
    }
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    if let Some(names) = table.column_mut(0) {
        // What stands first is what the next command is given: it must be there in one piece to be copied.
        names.set_constraint(ColumnConstraint::ContentWidth);
    }
    say(&table.to_string());
}

/// Prints a sentence under a table, where a person reads it.
pub(super) fn note(sentence: &str) {
    if std::io::stdout().is_terminal() {
        say(sentence);
    }
}

/// One line, whatever the cells hold.
fn tab_separated(row: &[String]) -> String {
    row.iter().map(|cell| cell.replace(['\t', '\n', '\r'], " ")).collect::<Vec<_>>().join("\t")
}

/// Prints a value as indented JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Failed(anyhow::Error::new(error).context("cannot print as JSON")))?;
    say(&text);
    Ok(())
}

/// Prints a text and a line's end. A reader that has gone, as `head` does, has seen what it wanted; what cannot be written ends the program
/// where [`end_when_unread`] said so.
pub(super) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", shown(text)).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe && ENDS.load(Ordering::Relaxed) => {
            let _gone = writeln!(std::io::stderr(), "edge-agent: failed printing to stdout: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

/// The text without what a terminal would obey: it may come from a device, a document or a model.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    let is_order = |c: char| is_obeyed(c) && !matches!(c, '\n' | '\t');
    if text.contains(is_order) { text.replace(is_order, "\u{fffd}").into() } else { text.into() }
}

/// A name on one line: what a terminal would obey, or would break the line, is written as Rust writes it, such as `\n`.
pub(super) fn named(name: &str) -> Cow<'_, str> {
    if !name.contains(is_obeyed) {
        return name.into();
    }
    let letter = |c: char| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() };
    name.chars().map(letter).collect::<String>().into()
}

/// Control characters, and those of Unicode that turn the direction of a line or take no room in it.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Ends the program without a word when nobody reads what it prints any more, and with a sentence when it cannot be
/// printed. Not for a program that serves others.
pub(super) fn end_when_unread() {
    ENDS.store(true, Ordering::Relaxed);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // What `print!` and its like say when they cannot; the standard library has no other way to be told.
        let said = panic.payload().downcast_ref::<String>().filter(|said| said.starts_with("failed printing to"));
        let Some(said) = said else { return usual(panic) };
        if said.contains("Broken pipe") {
            std::process::exit(UNREAD);
        }
        let _gone = writeln!(std::io::stderr(), "edge-agent: {said}");
        std::process::exit(1);
    }));
}

/// Whether the program ends when it cannot print.
static ENDS: AtomicBool = AtomicBool::new(false);

/// As a shell tells of a program that SIGPIPE has ended.
const UNREAD: i32 = 141;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(shown("a\tb\nc"), "a\tb\nc");
        assert_eq!(shown("r\u{202e}txt.md"), "r\u{fffd}txt.md");
        assert_eq!(shown("\u{1b}[2Jgone\r\u{9b}1m"), "\u{fffd}[2Jgone\u{fffd}\u{fffd}1m");
    }

    #[test]
    fn a_name_stands_on_one_line() {
        assert_eq!(named("b\\ü.md"), "b\\ü.md");
        assert_eq!(named("a\n\tb\u{1b}.md"), "a\\n\\tb\\u{1b}.md");
    }

    #[test]
    fn a_row_without_a_terminal_is_one_line() {
        let row = ["a".to_owned(), "b\tc\nd".to_owned(), String::new()];
        assert_eq!(tab_separated(&row), "a\tb c d\t");
    }
}
