//! The functions that expressions may call: those of jq without the ones that reach outside.

use std::sync::LazyLock;

use jaq_core::{
    load::{self, parse::Def},
    native::Fun,
};

use super::{Kind, metered};

/// Functions that are left out, and why.
pub(super) const FORBIDDEN: &[(&str, &str)] = &[
    ("halt", "it ends the process"),
    ("halt_error", "it ends the process"),
    ("env", "it reads the environment, where secrets are"),
    ("debug", "it writes past the log"),
    ("stderr", "it writes past the log"),
    ("now", "the time must come from the run, as `$workflow.startedAt` or `$task.startedAt`"),
    ("localtime", "it depends on where the node stands; use `gmtime`"),
    ("strflocaltime", "it depends on where the node stands; use `strftime`"),
    ("input", "there is one input, `.`"),
    ("inputs", "there is one input, `.`"),
    ("input_filename", "there is no file"),
    ("get_search_list", "there are no modules"),
];

/// The natives behind the forbidden functions.
const FORBIDDEN_NATIVES: &[&str] = &["halt", "env", "now", "localtime", "strflocaltime", "debug_empty", "stderr_empty"];

/// Where jaq differs from jq: its `repeat` forgets the value that it starts from, and its `@base64d` names neither the text
/// nor what is wrong.
const OWN: &str = "
    def repeat(f): def rec: ., (f | rec); rec;
    def @base64d: tostring | . as $text | try decode_base64 catch error(\"\\($text[:80] | tojson) is not valid base64\");
";

static DEFINITIONS: LazyLock<Vec<Def<&'static str>>> = LazyLock::new(|| {
    let own: Vec<Def<&'static str>> = load::parse(OWN, |parser| parser.defs()).unwrap_or_default();
    assert!(own.len() == 2, "the definitions are valid jq");
    let forbidden = |def: &Def<&'static str>| FORBIDDEN.iter().any(|(name, _)| *name == def.name);
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let ours = |def: Def<&'static str>| own.iter().find(|own| own.name == def.name).cloned().unwrap_or(def);
    all.filter(|def| !forbidden(def)).map(ours).collect()
});

/// Definitions in jq.
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    DEFINITIONS.iter().cloned()
}

/// Native functions.
pub(super) fn functions() -> impl Iterator<Item = Fun<Kind>> {
    let all = jaq_core::funs::<Kind>().chain(jaq_std::funs::<Kind>()).chain(metered::functions::all());
    all.filter(|(name, _, _)| !FORBIDDEN_NATIVES.contains(name))
}
