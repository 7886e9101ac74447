//! Tables for people.

use serde::Serialize;
use shared::time::Timestamp;

use super::Form;

/// A table with these headings.
pub(super) fn table(headings: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(headings.to_vec());
    table
}

/// Prints JSON, or the table that `rows` makes.
pub(super) fn show(form: Form, value: &impl Serialize, rows: impl FnOnce() -> comfy_table::Table) {
    match form {
        Form::Json => println!("{}", serde_json::to_string_pretty(value).expect("answers are plain data")),
        Form::Table => println!("{}", rows().trim_fmt()),
    }
}

/// An instant to the second.
pub(super) fn instant(at: Timestamp) -> String {
    Timestamp::from_millis(at.as_millis() / 1_000 * 1_000).to_string()
}

/// An instant to the second, or a dash.
pub(super) fn maybe(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), instant)
}
