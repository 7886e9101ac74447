//! Guards that a bundle brings under a name (`guards/NAME.yaml`): what is checked and what happens when something is found,
//! said once for all workflows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shared::{
    problem::{
        Problem,
        yaml::{Document, Side},
    },
    workflow::catalog::Schema,
};

use super::{Check, OnFinding};

/// The guards of a bundle by name.
pub type Policies = BTreeMap<String, Policy>;

/// What is checked without being told: what needs nothing beside the content.
const USUAL: &[Check] = &[Check::PersonalData, Check::Secrets, Check::Injection];

/// What a guard looks for and does.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Policy {
    checks: Option<Vec<Check>>,
    pub on_finding: OnFinding,
    /// For the check `schema`.
    pub schema: Option<Value>,
}

impl Policy {
    #[must_use]
    pub const fn new(checks: Option<Vec<Check>>, on_finding: OnFinding, schema: Option<Value>) -> Self {
        Self { checks, on_finding, schema }
    }

    #[must_use]
    pub fn checks(&self) -> &[Check] {
        self.checks.as_deref().unwrap_or(USUAL)
    }

    /// The schema for the check that needs one.
    ///
    /// # Errors
    /// The field that is wrong, and what is wrong with it.
    pub fn schema(&self) -> Result<Option<Schema>, (&'static str, String)> {
        match (self.checks().contains(&Check::Schema), &self.schema) {
            (true, None) => Err(("schema", "missing: the check `schema` compares the content with it".to_owned())),
            (false, Some(_)) => Err(("schema", "given, but `checks` has no `schema`".to_owned())),
            (_, given) => {
                given.as_ref().map(Schema::compile).transpose().map_err(|error| ("schema", error.to_string()))
            }
        }
    }

    /// Reads a guard's file.
    ///
    /// # Errors
    /// The first mistake with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let document = Document::read(file, text)?;
        let policy: Self = document.part(&[])?;
        match policy.schema() {
            Ok(_) => Ok(policy),
            Err((field, why)) => Err(document.problem(&[field.to_owned()], Side::Value, why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_says_what_it_checks() {
        let text = "checks: [injection, schema]\nonFinding: refuse\nschema: { type: object }\n";
        let policy = Policy::parse("guards/a.yaml", text).unwrap();
        assert_eq!((policy.checks(), policy.on_finding), (&[Check::Injection, Check::Schema][..], OnFinding::Refuse));
        assert_eq!(Policy::parse("guards/a.yaml", "onFinding: redact").unwrap().checks(), USUAL);
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, told) in [
            ("checks: [injektion]", "guards/a.yaml:1:10: checks[0]: unknown variant `injektion`"),
            ("checks: [schema]", "guards/a.yaml:1:1: schema: missing: the check `schema`"),
            (
                "onFinding: report\nschema: { type: thing }\nchecks: [schema]",
                "guards/a.yaml:2:9: schema: this is no JSON schema",
            ),
            ("check: []", "guards/a.yaml:1:1: check: unknown field `check`"),
        ] {
            let problem = Policy::parse("guards/a.yaml", text).unwrap_err().to_string();
            assert!(problem.starts_with(told), "{problem}");
        }
    }
}
