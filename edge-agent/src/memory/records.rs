//! `upsert` and `query`: records that workflows keep on the node, rows of JSON in collections. A row carries the label of
//! the run that wrote it, and gives it to the run that reads it.

use std::time::Instant;

use edge_core::engine::effect::{Call, Completion, Failure, Keep, kind};
use rusqlite::{Connection, params_from_iter, types::Value as Sql};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::{
    label::Label,
    ledger::entry::Fact,
    policy::{Permit, Target, TargetKind},
};

use super::{Memory, broken, hold, millis, wrong};
use crate::store;

/// Rows of one collection. Beyond it an upsert of new keys is refused: a workflow that never stops adding is a mistake.
const ROWS_MAX: i64 = 10_000;
/// Collections of a node; their names may come from expressions.
const COLLECTIONS_MAX: i64 = 256;
const ROW_BYTES_MAX: usize = 64 << 10;
const NAME_BYTES_MAX: usize = 256;
/// Fields that a query compares.
const CONDITIONS_MAX: usize = 16;
/// Of a query that says nothing of it.
const LIMIT: u32 = 1_000;
const LIMIT_MAX: u32 = 10_000;
/// What a query gives becomes part of the run's state, which is stored at every step.
const ANSWER_BYTES_MAX: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upsert {
    collection: String,
    /// The field of each row that tells it from others.
    key: String,
    rows: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Query {
    collection: String,
    #[serde(default)]
    r#where: Map<String, Value>,
    order_by: Option<String>,
    #[serde(default)]
    descending: bool,
    limit: Option<u32>,
}

/// The collection that a call is about, as policy names it.
#[derive(Deserialize)]
struct Collection {
    collection: String,
}

impl Memory {
    /// What policy must be asked about before `upsert` or `query`.
    ///
    /// # Errors
    /// A validation error when the call names no collection.
    pub fn collection(&self, call: &Call) -> Result<Target, Failure> {
        let Collection { collection } = call.arguments()?;
        if collection.is_empty() || collection.len() > NAME_BYTES_MAX {
            return Err(wrong(call, "collection", &format!("expected 1 to {NAME_BYTES_MAX} bytes")));
        }
        Ok(Target::new(TargetKind::Collection, collection))
    }

    /// Writes rows, each in place of the one with the same key. All of them or none.
    ///
    /// # Errors
    /// `validation` for rows without a key or too large, `runtime` when the store fails, with status 413 when the collection
    /// is full.
    pub async fn upsert(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        let Upsert { collection, key, rows } = call.arguments()?;
        hold(call, &permit, &collection)?;
        let mut written = Vec::with_capacity(rows.len());
        for (at, row) in rows.into_iter().enumerate() {
            let field = format!("rows[{at}].{key}");
            let own = match row.get(&key) {
                // As JSON, so that the text "1" is another key than the number.
                Some(value @ Value::Number(_)) => value.to_string(),
                Some(value @ Value::String(text)) if !text.is_empty() && text.len() <= NAME_BYTES_MAX => {
                    value.to_string()
                }
                _ => {
                    let expected = format!("expected a text of 1 to {NAME_BYTES_MAX} bytes, or a number");
                    return Err(wrong(call, &field, &expected));
                }
            };
            let text = Value::Object(row).to_string();
            if text.len() > ROW_BYTES_MAX {
                let many = format!("{} bytes; at most {ROW_BYTES_MAX}", text.len());
                return Err(wrong(call, &format!("rows[{at}]"), &many));
            }
            written.push((own, text));
        }
        let began = Instant::now();
        let keys: Vec<&str> = written.iter().map(|(key, _)| key.as_str()).collect();
        let told = format!("{collection} {}", keys.join(" "));
        let (label, now, count) = (call.label.clone(), crate::clock::now(), written.len());
        let write = move |tx: &mut store::Transaction<'_>| {
            let label = json!(label).to_string();
            let mut insert = tx.connection().prepare_cached(
                "INSERT INTO record (collection, key, row, label, written_at) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (collection, key) DO UPDATE SET row = excluded.row, label = excluded.label, \
                 written_at = excluded.written_at",
            )?;
            for (key, row) in &written {
                insert.execute((&collection, key, row, &label, now.as_micros()))?;
            }
            match within_limits(tx.connection(), &collection)? {
                // Undoes what was written above.
                Some(detail) => Err(store::Error::Data { operation: "write records", detail }),
                None => Ok(()),
            }
        };
        match self.inner.store.write("write records", write).await {
            Ok(()) => {}
            Err(store::Error::Data { detail, .. }) => {
                let detail = format!("{} of {}: {detail}", call.function, call.task);
                return Err(Failure::new(kind::LIMIT, detail));
            }
            Err(error) => return Err(broken(call, error)),
        }
        let output = json!({ "written": count });
        let fact = told_of(call, keep, &told, &output, began);
        Ok(Completion { output, label: call.label.clone(), facts: vec![fact] })
    }

    /// Finds rows whose fields have these values.
    ///
    /// # Errors
    /// `validation` for conditions that cannot be compared, `runtime` when the store fails.
    pub async fn query(&self, call: &Call, permit: Permit, keep: Keep) -> Result<Completion, Failure> {
        let query: Query = call.arguments()?;
        hold(call, &permit, &query.collection)?;
        let limit = query.limit.unwrap_or(LIMIT);
        if limit == 0 || limit > LIMIT_MAX {
            return Err(wrong(call, "limit", &format!("{limit}; expected 1 to {LIMIT_MAX}")));
        }
        if query.r#where.len() > CONDITIONS_MAX {
            return Err(wrong(call, "where", &format!("{} fields; at most {CONDITIONS_MAX}", query.r#where.len())));
        }
        let (statement, values) = statement(call, &query, limit)?;
        let began = Instant::now();
        let read = move |connection: &Connection| select(connection, &statement, values);
        let found = self.inner.store.read("read records", read).await.map_err(|error| broken(call, error))?;
        let Some((rows, label)) = found else {
            let many =
                format!("the rows have more than {ANSWER_BYTES_MAX} bytes: ask for fewer with `where` or `limit`");
            return Err(Failure::new(kind::LIMIT, format!("query of {}: {many}", call.task)));
        };
        let output = json!({ "rows": rows });
        let label = call.label.join(&label);
        // Policy was asked about the run's label; the rows may demand more.
        let keep = if label == call.label { keep } else { Keep::Digest };
        let fact = told_of(call, keep, &call.input.to_string(), &output, began);
        Ok(Completion { output, label, facts: vec![fact] })
    }
}

/// What is too much after a write, if anything is.
fn within_limits(connection: &Connection, collection: &str) -> rusqlite::Result<Option<String>> {
    let mut count = connection.prepare_cached("SELECT count(*) FROM record WHERE collection = ?1")?;
    let rows: i64 = count.query_row([collection], |row| row.get(0))?;
    if rows > ROWS_MAX {
        return Ok(Some(format!("the collection {collection:?} would have {rows} rows; at most {ROWS_MAX}")));
    }
    let mut count = connection.prepare_cached("SELECT count(DISTINCT collection) FROM record")?;
    let collections: i64 = count.query_row([], |row| row.get(0))?;
    let too_many = collections > COLLECTIONS_MAX;
    Ok(too_many.then(|| format!("there would be {collections} collections; at most {COLLECTIONS_MAX}")))
}

/// The rows with their joined label; `None`: too many bytes.
fn select(connection: &Connection, statement: &str, values: Vec<Sql>) -> rusqlite::Result<Option<(Vec<Value>, Label)>> {
    let mut statement = connection.prepare_cached(statement)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut found, mut label, mut bytes) = (Vec::new(), Label::default(), 0);
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str()?;
        bytes += text.len();
        if bytes > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        found.push(serde_json::from_str(text).map_err(unreadable)?);
        let own: Label = serde_json::from_str(row.get_ref(1)?.as_str()?).map_err(unreadable)?;
        label = label.join(&own);
    }
    Ok(Some((found, label)))
}

fn unreadable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

/// The statement, in which every name and value of the task is a parameter.
fn statement(call: &Call, query: &Query, limit: u32) -> Result<(String, Vec<Sql>), Failure> {
    let mut statement = "SELECT row, label FROM record WHERE collection = ?".to_owned();
    let mut values = vec![Sql::Text(query.collection.clone())];
    for (field, value) in &query.r#where {
        // `IS`, so that null is found where the field is missing.
        statement.push_str(" AND json_extract(row, ?) IS ?");
        values.push(path(call, "where", field)?);
        values.push(match value {
            Value::Null => Sql::Null,
            Value::Bool(flag) => Sql::Integer((*flag).into()),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Sql::Integer(whole),
                None => Sql::Real(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Sql::Text(text.clone()),
            Value::Array(_) | Value::Object(_) => {
                return Err(wrong(call, &format!("where.{field}"), "expected a text, number, boolean or null"));
            }
        });
    }
    statement.push_str(" ORDER BY ");
    if let Some(field) = &query.order_by {
        statement.push_str(if query.descending { "json_extract(row, ?) DESC, " } else { "json_extract(row, ?), " });
        values.push(path(call, "orderBy", field)?);
    }
    statement.push_str(if query.descending { "key DESC LIMIT ?" } else { "key LIMIT ?" });
    values.push(Sql::Integer(limit.into()));
    Ok((statement, values))
}

/// A field of a row as SQLite's JSON functions write it.
fn path(call: &Call, argument: &str, field: &str) -> Result<Sql, Failure> {
    if field.is_empty() || field.contains(['"', '\\', '\0']) {
        return Err(wrong(call, argument, &format!("{field:?}; expected the name of a field")));
    }
    Ok(Sql::Text(format!("$.\"{field}\"")))
}

fn told_of(call: &Call, keep: Keep, input: &str, output: &Value, began: Instant) -> Fact {
    Fact::ToolCalled {
        function: call.function.clone(),
        input: keep.content(input),
        output: keep.content(&output.to_string()),
        duration_ms: millis(began.elapsed()),
    }
}
