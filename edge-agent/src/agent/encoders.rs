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
    memory::Judges,
};

/// The embedder that the configuration names.
pub(crate) fn embedder(config: &Config, digests: &Digests) -> anyhow::Result<Arc<dyn Embedder>> {
    if let Some(Named::Files(files)) = &config.models.embedder {
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
    let compute = Compute { precision: config.models.precision.unwrap_or_default(), ..Compute::default() };
    Ok(load_embedder_with(&folder, compute)?)
}

/// The models that judge texts, those that the configuration names.
pub(crate) fn judges(config: &Config, digests: &Digests) -> anyhow::Result<Judges> {
    let reranker =
        config.models.reranker.as_ref().map(|files| -> anyhow::Result<_> {
            Ok(Arc::new(CrossEncoder::load(&files.folder, right(files, digests)?)?))
        });
    let classifier =
        config.models.classifier.as_ref().map(|files| -> anyhow::Result<_> {
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
