//! Tables for people, JSON for programs.

use std::io::IsTerminal as _;

use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use super::Failure;

/// Prints rows under their headings; `nothing` when there are none. Where no terminal gives a width, columns are separated
/// by tabs, one row a line, for `cut`, `awk` and spreadsheets.
pub(super) fn table(headings: &[&str], rows: Vec<Vec<String>>, nothing: &str) {
    if rows.is_empty() {
        println!("{nothing}");
        return;
    }
    if !std::io::stdout().is_terminal() {
        println!("{}", headings.join("\t"));
        for row in rows {
            println!("{}", tab_separated(&row));
        }
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
    println!("{table}");
}

/// Prints a sentence under a table, where a person reads it.
pub(super) fn note(sentence: &str) {
    if std::io::stdout().is_terminal() {
        println!("{sentence}");
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
    println!("{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_terminal_is_one_line() {
        let row = ["a".to_owned(), "b\tc\nd".to_owned(), String::new()];
        assert_eq!(tab_separated(&row), "a\tb c d\t");
    }
}
