//! The functions that expressions may call: those of jq without the ones that reach outside, and with loops that spend
//! the budget.

use std::sync::LazyLock;

use jaq_core::{
    Bind, Exn, Native, ValXs,
    box_iter::box_once,
    load::{self, parse::Def},
    native::{Fun, v},
};
use jaq_json::Val;

use super::Kind;

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
const FORBIDDEN_NATIVES: &[&str] =
    &["halt", "env", "now", "localtime", "strflocaltime", "debug_empty", "stderr_empty", "range"];

/// jq's loops, each round of which spends the budget.
const LOOPS: &str = "
def repeat(f): def rec: tick | ., (f | rec); rec;
def recurse(f): def rec: tick | ., (f | rec); rec;
def while(cond; update): def rec: tick | if cond then ., (update | rec) else empty end; rec;
def until(cond; update): def rec: tick | if cond then . else update | rec end; rec;
def range(from; to; by): range_by(from; to; by) | tick;
def combinations: .[][] |= [.] | reduce .[] as $a ([]; . + ($a[] | tick));
";

static DEFINITIONS: LazyLock<Vec<Def<&'static str>>> = LazyLock::new(|| {
    let loops: Vec<Def<&'static str>> = load::parse(LOOPS, |parser| parser.defs()).unwrap_or_default();
    assert!(loops.len() == 6, "the loops are valid jq");
    let forbidden = |def: &Def<&'static str>| FORBIDDEN.iter().any(|(name, _)| *name == def.name);
    let all = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let ours = |def: Def<&'static str>| {
        let same = |other: &&Def<&'static str>| other.name == def.name && other.args.len() == def.args.len();
        loops.iter().find(same).cloned().unwrap_or(def)
    };
    // `range/3` is native in jaq, so it has no definition to be replaced: it comes first.
    let range = loops.iter().filter(|def| def.name == "range").cloned();
    range.chain(all.filter(|def| !forbidden(def)).map(ours)).collect()
});

/// Definitions in jq.
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    DEFINITIONS.iter().cloned()
}

/// Native functions.
pub(super) fn functions() -> impl Iterator<Item = Fun<Kind>> {
    let all = jaq_core::funs::<Kind>().chain(jaq_std::funs::<Kind>()).chain(jaq_json::funs::<Kind>());
    let renamed = all.filter_map(|(name, args, native)| match name {
        "range" => Some(("range_by", args, native)),
        name if FORBIDDEN_NATIVES.contains(&name) => None,
        name => Some((name, args, native)),
    });
    renamed.chain([tick()])
}

/// Spends one round and passes its input on, as a path too, so that `(.. | .x) |= 1` works through it. When the budget
/// is spent it raises what `try` cannot catch.
fn tick() -> Fun<Kind> {
    fn spent<'a, T: 'a>() -> ValXs<'a, T, Val> {
        box_once(Err(Exn::halt(1)))
    }
    let native = Native::<Kind>::new(|cv| if cv.0.data().spend() { box_once(Ok(cv.1)) } else { spent() })
        .with_paths(|cv| if cv.0.data().spend() { box_once(Ok(cv.1)) } else { spent() })
        .with_update(|cv, update| if cv.0.data().spend() { update(cv.1) } else { spent() });
    let no_arguments: Box<[Bind]> = v(0);
    ("tick", no_arguments, native)
}
