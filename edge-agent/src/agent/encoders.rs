//! The encoders that the configuration names: what embeds, ranks and classifies.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use anyhow::{Context as _, anyhow, bail};
use models::{
    catalog::{Digests, Manifest},
    embed::Embedder,
    encoder::{Classifier, Compute, CrossEncoder, Precision, load_embedder_with},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        Config,
        models::{Embedder as Named, Files},
    },
    inference::{Machine, admit},
    memory::{Asleep, Embedders, Judges},
};

/// What an embedder is loaded from, as the store keeps it for a later start.
#[derive(Serialize, Deserialize)]
struct Origin {
    folder: PathBuf,
    #[serde(default)]
    precision: Precision,
}

/// The embedder before, as long as it is loaded beside the one that was chosen since.
#[derive(Clone, Default)]
pub(crate) struct Former(Arc<Mutex<Option<Held>>>);

struct Held {
    embedder: Weak<dyn Embedder>,
    bytes: u64,
}

impl Former {
    fn set(&self, embedder: &Arc<dyn Embedder>, bytes: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Held { embedder: Arc::downgrade(embedder), bytes });
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> u64 {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|held| held.embedder.strong_count() > 0).map_or(0, |held| held.bytes)
    }
}

/// Bytes that the encoders take which the configuration names: they are loaded for good.
pub(super) fn bytes(config: &Config) -> u64 {
    named(config).iter().map(|(_, folder, precision)| needs(folder, *precision)).sum()
}

/// The encoders that the configuration names, in the order in which they are loaded: by which field, where they are, how they are computed.
fn named(config: &Config) -> Vec<(&'static str, PathBuf, Precision)> {
    let of_catalog = config.models.of_catalog().map(|name| {
        let precision = config.models.precision.unwrap_or_default();
        ("embedder", config.models_dir().join(name), precision)
    });
    let of_files = config.models.files().map(|(field, files)| (field, files.folder.clone(), files.precision));
    of_catalog.into_iter().chain(of_files).collect()
}

/// Of files that cannot be read it is nothing: loading them says why.
fn needs(folder: &Path, precision: Precision) -> u64 {
    models::encoder::needs(folder, precision).unwrap_or(0)
}

/// Refuses an encoder that has no room beside those that are loaded before it.
fn fits(field: &str, config: &Config) -> anyhow::Result<()> {
    let named = named(config);
    let Some(at) = named.iter().position(|(of, ..)| *of == field) else { return Ok(()) };
    let bytes = |(_, folder, precision): &(_, PathBuf, _)| needs(folder, *precision);
    let beside = named[..at].iter().map(bytes).sum();
    admit(field, bytes(&named[at]), beside, config.inference, &Machine::this()).map_err(|refusal| {
        anyhow!("{refusal}; without `{field}` under [models] the built-in one takes next to nothing")
            .context(format!("there is no room for the {field}"))
    })
}

/// The embedder that the configuration names.
pub(crate) fn embedder(config: &Config, digests: &Digests) -> anyhow::Result<Arc<dyn Embedder>> {
    Ok(embedders(config, digests, &Former::default())?.chosen)
}

/// The embedder that the configuration names, and how one is loaded that it named before.
pub(crate) fn embedders(config: &Config, digests: &Digests, former: &Former) -> anyhow::Result<Embedders> {
    let (limits, beside, former) = (config.inference, bytes(config), former.clone());
    let recall = move |origin: &str| {
        let recall = || -> anyhow::Result<_> {
            let Origin { folder, precision } = serde_json::from_str(origin).context("it was noted in another form")?;
            let bytes = needs(&folder, precision);
            admit("the embedder before", bytes, beside, limits, &Machine::this())
                .map_err(|refusal| anyhow!("{refusal}"))?;
            let embedder = load_embedder_with(&folder, Compute { precision, ..Compute::default() })?;
            former.set(&embedder, bytes);
            Ok(embedder)
        };
        recall().map_err(|error| format!("{error:#}"))
    };
    let (chosen, origin) = chosen(config, digests)?;
    let origin = origin.map(|origin| serde_json::to_string(&origin)).transpose()?;
    Ok(Embedders { chosen, origin, recall: Box::new(recall) })
}

fn chosen(config: &Config, digests: &Digests) -> anyhow::Result<(Arc<dyn Embedder>, Option<Origin>)> {
    let load = |folder: &Path, compute: Compute| -> anyhow::Result<_> {
        // A later start may be made from another folder.
        let origin = Origin { folder: std::path::absolute(folder)?, precision: compute.precision };
        Ok((load_embedder_with(folder, compute)?, Some(origin)))
    };
    if let Some(Named::Files(files)) = &config.models.embedder {
        fits("embedder", config)?;
        return load(&files.folder, right(files, digests)?);
    }
    let Some(name) = config.models.of_catalog() else { return Ok((models::embed::default_embedder(), None)) };
    let known = Manifest::built_in();
    let Some(model) = known.iter().find(|model| model.name == name) else {
        let names: Vec<_> = known.iter().map(|model| model.name.as_str()).collect();
        bail!("embedder {name:?} under [models] is not known: expected builtin, {}", names.join(", "));
    };
    let folder = config.models_dir().join(name);
    let flaws = model.verify_with(&folder, digests)?;
    if let Some(flaw) = flaws.first() {
        return Err(
            anyhow!("{flaw}: run `edge-agent models pull {name}`").context(format!("the model {name} is refused"))
        );
    }
    fits("embedder", config)?;
    let precision = config.models.precision.unwrap_or_default();
    load(&folder, Compute { precision, ..Compute::default() })
}

/// The models that judge texts, those that the configuration names. Each is looked at now, and loaded when it is first asked.
pub(crate) fn judges(config: &Config, digests: &Digests) -> anyhow::Result<Judges> {
    let reranker =
        config.models.reranker.as_ref().map(|files| asleep("reranker", files, config, digests, CrossEncoder::load));
    let classifier =
        config.models.classifier.as_ref().map(|files| asleep("classifier", files, config, digests, Classifier::load));
    Ok(Judges { reranker: reranker.transpose()?, classifier: classifier.transpose()? })
}

fn asleep<M: Send + Sync + 'static>(
    field: &str,
    files: &Files,
    config: &Config,
    digests: &Digests,
    load: fn(&Path, Compute) -> Result<M, models::Error>,
) -> anyhow::Result<Arc<Asleep<M>>> {
    fits(field, config)?;
    check(field, files, digests)?;
    let (files, digests) = (files.clone(), digests.clone());
    let name = files.folder.file_name().map_or_else(|| field.to_owned(), |name| name.to_string_lossy().into_owned());
    // Each time, as days may lie between: what was put there meanwhile is not loaded for what was there.
    let load = move || {
        let compute =
            right(&files, &digests).map_err(|error| models::Error::Broken { message: format!("{error:#}") })?;
        load(&files.folder, compute)
    };
    Ok(Asleep::new(name, config.inference.unload_after(), load))
}

/// Whether an encoder's files are those that they must be, and of a model for this field; all but its weights is read.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn check(field: &str, files: &Files, digests: &Digests) -> anyhow::Result<()> {
    right(files, digests)?;
    match field {
        "reranker" => CrossEncoder::check(&files.folder)?,
        "classifier" => Classifier::check(&files.folder)?,
        _ => models::encoder::check_embedder(&files.folder)?,
    }
    Ok(())
}

/// How files are to be computed, once they are those that they must be.
fn right(files: &Files, digests: &Digests) -> anyhow::Result<Compute> {
    let path = files.folder.join("model.safetensors");
    let found = digests.of(&path)?;
    if found != files.digest {
        bail!("{} is {found}: expected {}", path.display(), files.digest);
    }
    Ok(Compute { precision: files.precision, ..Compute::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration of a reranker and a classifier within so many kilobytes.
    fn config(memory_kb: u64) -> Config {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/reference/encoders");
        let named = |field: &str, name: &str| {
            let folder = tiny.join(name);
            let digest = models::catalog::digest_of_file(&folder.join("model.safetensors")).expect("it is there");
            format!("{field} = {{ folder = {folder:?}, digest = \"{digest}\", precision = \"int8\" }}\n")
        };
        let text = format!(
            "name = \"n\"\njurisdiction = \"CH\"\n[inference]\nmemory = \"{memory_kb} KB\"\n[models]\n{}{}",
            named("reranker", "cross"),
            named("classifier", "roberta")
        );
        Config::parse("agent.toml", &text).expect("valid")
    }

    #[test]
    fn encoders_are_counted_as_they_are_computed_and_one_beside_the_other() {
        let both = bytes(&config(1)).div_ceil(1 << 10);
        assert!(judges(&config(both), &Digests::default()).is_ok());
        let error = judges(&config(both - 2), &Digests::default()).err().expect("there is no room for both");
        assert!(format!("{error:#}").contains("there is no room for the classifier"), "{error:#}");
        let error = judges(&config(1), &Digests::default()).err().expect("there is no room for one");
        assert!(format!("{error:#}").contains("there is no room for the reranker"), "{error:#}");
    }
}
