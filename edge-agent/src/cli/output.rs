//! Tables for people, JSON for programs.

use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use super::Failure;

/// Prints rows under their headings; `nothing` when there are none.
pub(super) fn table(headings: &[&str], rows: Vec<Vec<String>>, nothing: &str) {
    if rows.is_empty() {
        println!("{nothing}");
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

/// Prints a value as indented JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Failed(anyhow::Error::new(error).context("cannot print as JSON")))?;
    println!("{text}");
    Ok(())
}
