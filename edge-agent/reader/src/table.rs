//! CSV: each row under a heading with its number, each cell with the name of its column. The separator is the one of comma,
//! semicolon, tab and bar that the first line has most of.

use csv::{ReaderBuilder, StringRecord};

use super::{Error, TEXT_BYTES_MAX};

/// Rows of one document: more would be data, which belongs into a collection.
const ROWS_MAX: usize = 50_000;

pub(super) fn markdown(content: &str) -> Result<String, Error> {
    let mut reader = ReaderBuilder::new().delimiter(separator(content)).from_reader(content.as_bytes());
    let names = reader.headers().map_err(|error| wrong(&error))?.clone();
    if names.iter().all(|name| name.trim().is_empty()) {
        return Err(Error::Csv { line: 1, why: "expected a first line with the names of the columns".to_owned() });
    }
    let mut text = String::new();
    let mut row = StringRecord::new();
    let mut number = 1_usize;
    while reader.read_record(&mut row).map_err(|error| wrong(&error))? {
        number += 1;
        if number > ROWS_MAX {
            let why = format!(
                "more than {ROWS_MAX} rows: expected a table that people read; records belong into a collection"
            );
            return Err(Error::Csv { line: row.position().map_or(0, csv::Position::line), why });
        }
        let cells: Vec<String> = names
            .iter()
            .zip(&row)
            .filter(|(_, cell)| !cell.trim().is_empty())
            .map(|(name, cell)| said(name, cell))
            .collect();
        if !cells.is_empty() {
            text.push_str(&format!("# Row {number}\n\n{}\n\n", cells.join("; ")));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::TooLong(TEXT_BYTES_MAX));
        }
    }
    Ok(text)
}

fn said(name: &str, cell: &str) -> String {
    let cell = cell.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.trim().is_empty() { cell } else { format!("{}: {cell}", name.trim()) }
}

fn separator(content: &str) -> u8 {
    let first = content.lines().next().unwrap_or_default();
    let count = |separator: &u8| first.bytes().filter(|byte| byte == separator).count();
    // Of equals the last one is taken.
    [b'|', b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',')
}

fn wrong(error: &csv::Error) -> Error {
    let line = error.position().map_or(0, csv::Position::line);
    let why = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells: expected {expected_len}, as many as the first line has")
        }
        _ => error.to_string(),
    };
    Error::Csv { line, why }
}
