//! A set of Cedar rules: read with the place of every mistake, validated against the schema, asked.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    str::FromStr,
};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId,
    RestrictedExpression, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;

use super::{Action, Permit, Refusal, Request, Target};
use crate::{
    digest::Digest,
    label::DataClass,
    problem::{Problem, Problems},
};

/// More than any real set (a rule has about 200 bytes), and little enough to be parsed without a wait.
const FILE_BYTES_MAX: usize = 1 << 20;

const SCHEMA: &str = include_str!("schema.cedarschema");

/// Rules, ready to be asked.
pub struct PolicySet {
    rules: cedar_policy::PolicySet,
    authorizer: Authorizer,
    names: Names,
    digest: Digest,
}

/// Entity names that every request needs, parsed once.
struct Names {
    workflow: EntityTypeName,
    target: EntityTypeName,
    actions: HashMap<Action, EntityUid>,
}

impl PolicySet {
    /// The text of the rules that apply where a bundle brings none: work on the node is permitted, public and internal
    /// data that tells of no person may leave it.
    pub const DEFAULT: &'static str = include_str!("default.cedar");

    /// Reads files of Cedar rules, given as name and text. Every rule needs a name of its own (`@id("..")`) and must
    /// agree with the schema.
    pub fn parse(files: &[(String, String)]) -> Result<Self, Problems> {
        let validator = Validator::new(schema());
        let mut reader = Reader { validator, problems: Vec::new(), owners: BTreeMap::new(), rules: Default::default() };
        for (file, text) in files {
            reader.read(file, text);
        }
        if !reader.problems.is_empty() {
            return Err(Problems(reader.problems));
        }
        let mut bytes = Vec::new();
        for (file, text) in files {
            bytes.extend_from_slice(format!("{} {} {file}{text}", file.len(), text.len()).as_bytes());
        }
        let authorizer = Authorizer::new();
        Ok(Self { rules: reader.rules, authorizer, names: Names::new(), digest: Digest::of(&bytes) })
    }

    /// The rules of [`Self::DEFAULT`].
    #[must_use]
    pub fn default_rules() -> Self {
        match Self::parse(&[("default.cedar".to_owned(), Self::DEFAULT.to_owned())]) {
            Ok(set) => set,
            Err(problems) => unreachable!("the built-in rules are valid: {problems}"),
        }
    }

    /// The digest of the files' names and texts.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The names of all rules, sorted.
    #[must_use]
    pub fn rules(&self) -> Vec<String> {
        sorted(self.rules.policies().map(|policy| policy.id().to_string()))
    }

    /// Whether the request is permitted, and by which rules. What no rule permits is refused; so is what a rule could
    /// not be evaluated for, since that rule may have been the one that forbids it.
    pub fn decide(&self, request: &Request) -> Result<Permit, Refusal> {
        let refuse = |rules, reason| Err(Refusal { target: Box::new(request.target.clone()), rules, reason });
        let (question, entities) = match self.question(request) {
            Ok(question) => question,
            Err(message) => return refuse(Vec::new(), format!("policy cannot be asked: {message}")),
        };
        let response = self.authorizer.is_authorized(&question, &self.rules, &entities);
        let what = || format!("`{}` on {} with {}", request.action.name(), request.target.name, describe(request));
        if let Some(error) = response.diagnostics().errors().next() {
            return refuse(Vec::new(), format!("policy failed for {}: {error}", what()));
        }
        let rules = sorted(response.diagnostics().reason().map(PolicyId::to_string));
        match response.decision() {
            Decision::Allow => Ok(Permit { action: request.action, target: request.target.clone(), rules }),
            Decision::Deny if rules.is_empty() => refuse(rules, format!("no rule permits {}", what())),
            Decision::Deny => {
                let reason = format!("{} is forbidden by {}", what(), rules.join(", "));
                refuse(rules, reason)
            }
        }
    }

    fn question(&self, request: &Request) -> Result<(cedar_policy::Request, Entities), String> {
        let principal = EntityUid::from_type_name_and_id(self.names.workflow.clone(), EntityId::new(&request.workflow));
        let resource = EntityUid::from_type_name_and_id(self.names.target.clone(), EntityId::new(&request.target.name));
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let target = &request.target;
        let attributes = HashMap::from([
            ("name".to_owned(), text(&target.name)),
            ("kind".to_owned(), text(target.kind.name())),
            ("jurisdiction".to_owned(), text(jurisdiction(target, &request.node_jurisdiction))),
            ("provider".to_owned(), text(target.provider.as_deref().unwrap_or_default())),
        ]);
        let entity = Entity::new(resource.clone(), attributes, HashSet::new()).map_err(|error| error.to_string())?;
        let entities = Entities::from_entities([entity], None).map_err(|error| error.to_string())?;
        let context = Context::from_pairs([
            ("class".to_owned(), RestrictedExpression::new_long(rank(request.label.class))),
            ("personal".to_owned(), RestrictedExpression::new_bool(request.label.personal)),
            (
                "origins".to_owned(),
                RestrictedExpression::new_set(request.label.origins.iter().map(|origin| text(origin))),
            ),
            ("node_jurisdiction".to_owned(), text(&request.node_jurisdiction)),
            ("agent".to_owned(), text(request.agent.as_deref().unwrap_or_default())),
        ])
        .map_err(|error| error.to_string())?;
        let action = self.names.actions[&request.action].clone();
        // Without the schema: the request is made by this function alone, and the check would cost more than deciding.
        let question = cedar_policy::Request::new(principal, action, resource, context, None);
        Ok((question.map_err(|error| error.to_string())?, entities))
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySet").field("rules", &self.rules()).field("digest", &self.digest).finish()
    }
}

fn jurisdiction<'a>(target: &'a Target, node: &'a str) -> &'a str {
    match &target.jurisdiction {
        Some(jurisdiction) => jurisdiction,
        None if target.kind.is_on_node() => node,
        None => "",
    }
}

const fn rank(class: DataClass) -> i64 {
    match class {
        DataClass::Public => 0,
        DataClass::Internal => 1,
        DataClass::Confidential => 2,
        DataClass::Restricted => 3,
    }
}

fn describe(request: &Request) -> String {
    let class = match request.label.class {
        DataClass::Public => "public",
        DataClass::Internal => "internal",
        DataClass::Confidential => "confidential",
        DataClass::Restricted => "restricted",
    };
    let personal = if request.label.personal { " personal" } else { "" };
    let origins: Vec<&str> = request.label.origins.iter().map(String::as_str).collect();
    let from = if origins.is_empty() { String::new() } else { format!(" from {}", origins.join(", ")) };
    format!("{class}{personal} data{from}")
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn schema() -> Schema {
    match Schema::from_cedarschema_str(SCHEMA) {
        Ok((schema, _)) => schema,
        Err(error) => unreachable!("the built-in schema is valid: {error}"),
    }
}

impl Names {
    fn new() -> Self {
        let name = |text: &str| match EntityTypeName::from_str(text) {
            Ok(name) => name,
            Err(error) => unreachable!("{text} is a valid entity type: {error}"),
        };
        let action = name("Action");
        let uid = |id: Action| (id, EntityUid::from_type_name_and_id(action.clone(), EntityId::new(id.name())));
        let actions = Action::ALL.into_iter().map(uid).collect();
        Self { workflow: name("Workflow"), target: name("Target"), actions }
    }
}

/// Gathers the rules of several files and everything that is wrong with them.
struct Reader {
    validator: Validator,
    problems: Vec<Problem>,
    /// Which file has the rule of this name.
    owners: BTreeMap<String, String>,
    rules: cedar_policy::PolicySet,
}

impl Reader {
    fn read(&mut self, file: &str, text: &str) {
        if text.len() > FILE_BYTES_MAX {
            let message = format!("the file has {} bytes: expected at most {FILE_BYTES_MAX}", text.len());
            return self.report(file, text, None, String::new(), message);
        }
        let parsed = match cedar_policy::PolicySet::from_str(text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                for error in errors.iter() {
                    let message = explain(error);
                    self.report(file, text, offset(error), String::new(), message);
                }
                return;
            }
        };
        if let Some(template) = parsed.templates().next() {
            let message = "templates (`?principal`, `?resource`) are not used here: name what is meant".to_owned();
            return self.report(file, text, None, template.id().to_string(), message);
        }
        let mut after = 0;
        for policy in in_order(&parsed) {
            let source = policy.to_cedar().unwrap_or_default();
            let at = text.get(after..).and_then(|rest| rest.find(source.trim())).map(|at| at + after);
            after = at.map_or(after, |at| at + source.trim().len());
            self.admit(file, text, policy, at);
        }
        let outcome = self.validator.validate(&parsed, ValidationMode::Strict);
        // A mistake is found once for each action that the rule is about; once is enough.
        let mut found = BTreeMap::new();
        for error in outcome.validation_errors() {
            let rule = parsed.annotation(error.policy_id(), "id").unwrap_or_default().to_owned();
            // The message names the rule by its place in the file, which the line tells better.
            let message = explain(error).replace(&format!("for policy `{}`, ", error.policy_id()), "");
            found.entry((offset(error), rule)).or_insert_with(|| without_action(&message));
        }
        for ((at, rule), message) in found {
            self.report(file, text, at, rule, message);
        }
    }

    /// Takes one rule in under the name that its `@id` gives; `at` is where it begins.
    fn admit(&mut self, file: &str, text: &str, policy: &cedar_policy::Policy, at: Option<usize>) {
        let Some(name) = policy.annotation("id").filter(|name| !name.trim().is_empty()) else {
            let message = "the rule has no name: write `@id(\"what-it-says\")` in front of it".to_owned();
            return self.report(file, text, at, String::new(), message);
        };
        let name = name.to_owned();
        if let Some(owner) = self.owners.insert(name.clone(), file.to_owned()) {
            let message = format!("another rule of this name is in {owner}: names are unique over all files");
            return self.report(file, text, at, name, message);
        }
        if let Err(error) = self.rules.add(policy.new_id(PolicyId::new(&name))) {
            self.report(file, text, at, name, error.to_string());
        }
    }

    fn report(&mut self, file: &str, text: &str, offset: Option<usize>, field: String, message: String) {
        let (line, column) = offset.and_then(|offset| place(text, offset)).unzip();
        self.problems.push(Problem { file: file.to_owned(), line, column, field, message });
    }
}

/// The rules of one file in the order of their text. Cedar numbers them as `policy0`, `policy1`, ..
fn in_order(parsed: &cedar_policy::PolicySet) -> Vec<&cedar_policy::Policy> {
    let number = |policy: &&cedar_policy::Policy| {
        policy.id().to_string().trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX)
    };
    let mut policies: Vec<_> = parsed.policies().collect();
    policies.sort_by_key(number);
    policies
}

/// The message without ` for Action::"x"`, which says nothing about the mistake.
fn without_action(message: &str) -> String {
    let Some((before, rest)) = message.split_once(" for Action::\"") else { return message.to_owned() };
    match rest.split_once('"') {
        Some((_, after)) => format!("{before}{after}"),
        None => message.to_owned(),
    }
}

/// Line and column, 1-based, of a byte offset.
fn place(text: &str, offset: usize) -> Option<(u32, u32)> {
    let before = text.get(..offset.min(text.len()))?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next()?.chars().count() + 1;
    Some((u32::try_from(line).ok()?, u32::try_from(column).ok()?))
}

fn offset(error: &dyn Diagnostic) -> Option<usize> {
    error.labels()?.map(|label| label.offset()).next()
}

/// The message with what was expected and what to do, where Cedar knows.
fn explain(error: &(impl Diagnostic + fmt::Display)) -> String {
    let mut message = error.to_string();
    let expected = error.labels().and_then(|mut labels| labels.find_map(|label| label.label().map(str::to_owned)));
    for more in expected.into_iter().chain(error.help().map(|help| help.to_string())) {
        message = format!("{message}: {more}");
    }
    message
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
