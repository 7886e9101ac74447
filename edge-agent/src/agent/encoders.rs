//! The encoders that the configuration names: what embeds, ranks and classifies.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use models::{
    catalog::{Digests, Manifest},
    embed::Embedder,
    encoder::{Classifier, Compute, CrossEncoder, load_embedder_with},
};

use crate::{
    config::{
        Config,
        models::{Embedder as Named, Files},
    },
    inference::{Machine, admit},
    memory::Judges,
};

/// Bytes of the encoders that the configuration names, by their files: they are loaded for good.
pub(super) fn bytes(config: &Config) -> u64 {
    let known = Manifest::built_in();
    let catalog = config.models.of_catalog().and_then(|name| known.iter().find(|model| model.name == name));
    let files: u64 = config.models.files().map(|(_, files)| size(files)).sum();
    files + catalog.map_or(0, Manifest::size)
}

fn size(files: &Files) -> u64 {
    std::fs::metadata(files.folder.join("model.safetensors")).map_or(0, |file| file.len())
}

/// Refuses an encoder that has no room, before it is loaded.
fn fits(field: &str, bytes: u64, config: &Config) -> anyhow::Result<()> {
    admit(field, bytes, config.inference, &Machine::this()).map_err(|refusal| {
        anyhow!("{refusal}; without `{field}` under [models] the built-in one takes next to nothing")
            .context(format!("there is no room for the {field}"))
    })
}

/// The embedder that the configuration names.
pub(crate) fn embedder(config: &Config, digests: &Digests) -> anyhow::Result<Arc<dyn Embedder>> {
    if let Some(Named::Files(files)) = &config.models.embedder {
        fits("embedder", size(files), config)?;
        return Ok(load_embedder_with(&files.folder, right(files, digests)?)?);
    }
    let Some(name) = config.models.of_catalog() else { return Ok(models::embed::default_embedder()) };
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
    fits("embedder", model.size(), config)?;
    let compute = Compute { precision: config.models.precision.unwrap_or_default(), ..Compute::default() };
    Ok(load_embedder_with(&folder, compute)?)
}

/// The models that judge texts, those that the configuration names.
pub(crate) fn judges(config: &Config, digests: &Digests) -> anyhow::Result<Judges> {
    let reranker = config.models.reranker.as_ref().map(|files| -> anyhow::Result<_> {
        fits("reranker", size(files), config)?;
        Ok(Arc::new(CrossEncoder::load(&files.folder, right(files, digests)?)?))
    });
    let classifier = config.models.classifier.as_ref().map(|files| -> anyhow::Result<_> {
        fits("classifier", size(files), config)?;
        Ok(Arc::new(Classifier::load(&files.folder, right(files, digests)?)?))
    });
    Ok(Judges { reranker: reranker.transpose()?, classifier: classifier.transpose()? })
}

/// How files are to be computed, once they are those that they must be.
pub(crate) fn right(files: &Files, digests: &Digests) -> anyhow::Result<Compute> {
    let path = files.folder.join("model.safetensors");
    let found = digests.of(&path)?;
    if found != files.digest {
        bail!("{} is {found}: expected {}", path.display(), files.digest);
    }
    Ok(Compute { precision: files.precision, ..Compute::default() })
}
