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

/// Ends the program without a word when nobody reads what it prints any more, and with a sentence when it cannot be
/// printed. Not for a program that serves others.
pub(super) fn end_when_unread() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // What `print!` and its like say when they cannot; the standard library has no other way to be told.
        let said = panic.payload().downcast_ref::<String>().filter(|said| said.starts_with("failed printing to"));
        let Some(said) = said else { return usual(panic) };
        if said.contains("Broken pipe") {
            std::process::exit(UNREAD);
        }
        let _gone = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("error: {said}\n"));
        std::process::exit(1);
    }));
}

/// As a shell tells of a program that SIGPIPE has ended.
const UNREAD: i32 = 141;
