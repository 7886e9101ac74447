//! Whether the keys and values that the configuration gives suffice for the models that it names. Reads the heads of their files.

use models::generate::{self, Compute};

use super::{
    config::{Source, Target},
    limits::{Bytes, Limits},
    residents::{TOKENS_LEAST, needs},
};

/// What is wrong with `keys_and_values`, and what to do, in one sentence; nothing where it suffices or is not given. Files that are no models are not told
/// here.
#[must_use]
pub fn shortage(targets: &[Target], limits: &Limits) -> Option<String> {
    let Bytes(given) = limits.keys_and_values?;
    let least = |target: &Target| {
        let Source::Gguf(model) = &target.source else { return None };
        let compute = Compute { cache: model.cache, ..Compute::default() };
        let unloaded = generate::open_gguf(&model.file, compute).ok()?;
        Some((needs(&unloaded).cache, target.name.clone()))
    };
    let (least, name) = targets.iter().filter_map(least).max().filter(|(least, _)| *least > given)?;
    let (least, given) = (size(least), size(given));
    Some(format!(
        "{given} is less than {name} takes for the shortest conversation, of {TOKENS_LEAST} tokens: it takes {least} all the same when it is loaded; \
         expected {least} or more, or `kv_cache = \"q8\"` for the model"
    ))
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KB", bytes.div_ceil(1 << 10)) } else { format!("{} MB", bytes.div_ceil(1 << 20)) }
}
