//! `document.metadata.episodes`: what becomes of a workflow's runs is kept, as examples for later ones.

use serde::Deserialize;
use serde_json::Value;

use super::Document;

/// Where what a document says about episodes stands in it.
pub const PATH: [&str; 3] = ["document", "metadata", "episodes"];

/// How the runs of a workflow are kept as episodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Episodes {
    /// Where they are found.
    pub index: Option<String>,
    /// An expression over the run's input: what similar cases are found by. Without it, the input itself.
    pub situation: Option<String>,
    /// Likewise: whom or what it is about.
    pub subject: Option<String>,
    /// An ISO 8601 duration.
    pub keep_for: Option<String>,
}

impl Document {
    /// How its runs are kept, if they are.
    ///
    /// # Errors
    /// What is wrong with what stands there.
    pub fn episodes(&self) -> Result<Option<Episodes>, String> {
        match self.metadata.as_ref().and_then(|metadata| metadata.get("episodes")) {
            None | Some(Value::Bool(false)) => Ok(None),
            Some(Value::Bool(true)) => Ok(Some(Episodes::default())),
            Some(given @ Value::Object(_)) => Episodes::deserialize(given).map(Some).map_err(|error| error.to_string()),
            Some(_) => Err("expected true, or an object with index, situation, subject and keepFor".to_owned()),
        }
    }
}
