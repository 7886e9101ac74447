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
    Some(told(&name, given, least))
}

/// What was given is rounded down and what is needed up: two that differ do not read as the same.
fn told(name: &str, given: u64, least: u64) -> String {
    let size = |bytes: u64, round: fn(u64, u64) -> u64| match bytes {
        0..0x10_0000 => format!("{} KB", round(bytes, 1 << 10)),
        _ => format!("{} MB", round(bytes, 1 << 20)),
    };
    let (given, least) = (size(given, |bytes, unit| bytes / unit), size(least, u64::div_ceil));
    format!(
        "{given} is less than {name} takes for the shortest conversation, of {TOKENS_LEAST} tokens: it takes {least} all the same when it is loaded; \
         expected {least} or more, or `kv_cache = \"q8\"` for the model"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_little_never_reads_as_what_is_needed() {
        let mb = |tenths: u64| tenths * (1 << 20) / 10;
        let said = told("local/a", mb(12), mb(19));
        assert!(said.starts_with("1 MB is less than local/a") && said.contains("it takes 2 MB"), "{said}");
        let said = told("local/a", 1500, 1700);
        assert!(
            said.starts_with("1 KB is less")
                && said.ends_with("expected 2 KB or more, or `kv_cache = \"q8\"` for the model"),
            "{said}"
        );
    }
}
