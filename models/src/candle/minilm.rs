//! all-MiniLM-L6-v2 and other BERT sentence embedders: mean pooling, unit length. Reads `config.json`, `tokenizer.json` and
//! `model.safetensors` from one folder; that they are the right ones is the catalog's to say.

use std::{path::Path, sync::Arc};

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use shared::digest::Digest;
use tokenizers::{PaddingParams, Tokenizer, TruncationParams};

use crate::{Error, catalog::digest_of_file, embed::Embedder};

/// What sentence-transformers cuts texts to for this model; it was not trained on longer ones.
const TOKENS_MAX: usize = 256;
/// Texts computed at once: more gain nothing on a CPU and cost memory.
const BATCH_LEN_MAX: usize = 16;

struct MiniLm {
    name: String,
    digest: Digest,
    dimensions: usize,
    tokenizer: Tokenizer,
    model: BertModel,
}

/// Loads the model from its folder; the folder's name becomes the model's.
///
/// # Errors
/// When a file is missing, cut off or not of a BERT model.
pub fn load(folder: &Path) -> Result<Arc<dyn Embedder>, Error> {
    let config_path = folder.join("config.json");
    let text = std::fs::read(&config_path).map_err(|source| Error::io("read", &config_path, source))?;
    let config: Config = serde_json::from_slice(&text).map_err(|error| Error::file(&config_path, error.to_string()))?;
    check(&config).map_err(|message| Error::file(&config_path, message))?;

    let tokenizer_path = folder.join("tokenizer.json");
    let text = std::fs::read(&tokenizer_path).map_err(|source| Error::io("read", &tokenizer_path, source))?;
    let tokenizer = tokenizer(&text, &config).map_err(|error| Error::file(&tokenizer_path, error.to_string()))?;

    let weights = folder.join("model.safetensors");
    let digest = digest_of_file(&weights)?;
    let of_file = |error: candle_core::Error| Error::file(&weights, format!("no weights of a BERT model: {error}"));
    // SAFETY: the file is mapped while the weights are copied out of it below and not after; models are written
    // under another name and renamed, never changed in place.
    let variables =
        unsafe { VarBuilder::from_mmaped_safetensors(&[&weights], DType::F32, &Device::Cpu) }.map_err(of_file)?;
    let model = BertModel::load(variables, &config).map_err(of_file)?;
    let name = folder.file_name().map_or_else(|| "minilm".to_owned(), |name| name.to_string_lossy().into_owned());
    Ok(Arc::new(MiniLm { name, digest, dimensions: config.hidden_size, tokenizer, model }))
}

/// What the model's code takes for granted.
fn check(config: &Config) -> Result<(), String> {
    let Config { hidden_size, num_attention_heads, max_position_embeddings, .. } = config;
    if *num_attention_heads == 0 || *hidden_size == 0 || hidden_size % num_attention_heads != 0 {
        return Err(format!(
            "hidden_size {hidden_size} is not a multiple of num_attention_heads {num_attention_heads}"
        ));
    }
    if *max_position_embeddings < 2 {
        return Err(format!("max_position_embeddings is {max_position_embeddings}: expected at least 2"));
    }
    Ok(())
}

fn tokenizer(text: &[u8], config: &Config) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_bytes(text)?;
    let vocabulary = tokenizer.get_vocab_size(true);
    if vocabulary > config.vocab_size {
        return Err(format!("{vocabulary} tokens: expected at most {}, as config.json says", config.vocab_size).into());
    }
    let max_length = TOKENS_MAX.min(config.max_position_embeddings);
    tokenizer.with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))?;
    let pad_id = u32::try_from(config.pad_token_id)?;
    tokenizer.with_padding(Some(PaddingParams { pad_id, ..PaddingParams::default() }));
    Ok(tokenizer)
}

impl MiniLm {
    fn batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let encodings = self.tokenizer.encode_batch_fast(texts.to_vec(), true);
        let encodings =
            encodings.map_err(|error| Error::request(format!("cannot split a text into tokens: {error}")))?;
        let width = encodings.first().map_or(0, |encoding| encoding.get_ids().len());
        let ids: Vec<u32> = encodings.iter().flat_map(|encoding| encoding.get_ids()).copied().collect();
        let mask: Vec<u32> = encodings.iter().flat_map(|encoding| encoding.get_attention_mask()).copied().collect();
        let compute = || {
            let ids = Tensor::from_vec(ids, (texts.len(), width), &Device::Cpu)?;
            let mask = Tensor::from_vec(mask, (texts.len(), width), &Device::Cpu)?;
            let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
            let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
            let mean = hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
            mean.broadcast_div(&mean.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)?.to_vec2()
        };
        compute().map_err(Error::tensor(format!("embed {} texts", texts.len())))
    }
}

impl Embedder for MiniLm {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        // Texts of like length together: each batch is padded to its longest.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&at| texts[at].len());
        let mut vectors = vec![Vec::new(); texts.len()];
        for batch in order.chunks(BATCH_LEN_MAX) {
            let computed = self.batch(&batch.iter().map(|&at| texts[at]).collect::<Vec<_>>())?;
            for (&at, vector) in batch.iter().zip(computed) {
                vectors[at] = vector;
            }
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::embed::similarity;

    #[derive(serde::Deserialize)]
    struct Reference {
        text: String,
        vector: Vec<f32>,
    }

    /// The folder with the model's files, which are too large to commit: `SKERRY_MINILM_DIR`.
    fn folder() -> Option<PathBuf> {
        let folder = std::env::var_os("SKERRY_MINILM_DIR").map(PathBuf::from);
        if folder.is_none() {
            eprintln!("skipped: SKERRY_MINILM_DIR does not name a folder with all-MiniLM-L6-v2");
        }
        folder
    }

    #[test]
    fn vectors_are_those_of_sentence_transformers() {
        let Some(folder) = folder() else { return };
        let references: Vec<Reference> = serde_json::from_str(include_str!("../../reference/minilm.json")).unwrap();
        let model = load(&folder).unwrap();
        let texts: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
        let vectors = model.embed(&texts).unwrap();
        assert_eq!(model.dimensions(), 384);
        for (reference, vector) in references.iter().zip(vectors) {
            let cosine = similarity(&reference.vector, &vector);
            assert!(cosine > 0.9999, "{cosine} for {:?}", reference.text);
            assert!((similarity(&vector, &vector) - 1.0).abs() < 1e-5);
        }
        assert_eq!(model.embed(&[]).unwrap(), Vec::<Vec<f32>>::new());
    }

    #[test]
    fn its_files_are_those_of_the_catalog() {
        let Some(folder) = folder() else { return };
        let manifest = crate::catalog::Manifest::built_in().remove(0);
        assert_eq!((manifest.name.as_str(), manifest.verify(&folder).unwrap()), ("all-minilm-l6-v2", Vec::new()));
    }

    #[test]
    fn a_missing_or_damaged_file_is_named() {
        let Some(folder) = folder() else { return };
        let broken = tempfile::tempdir().unwrap();
        let check = |expected: &str| {
            let error = load(broken.path()).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        };
        let copy = |name: &str, len: usize| {
            let content = std::fs::read(folder.join(name)).unwrap();
            std::fs::write(broken.path().join(name), &content[..len.min(content.len())]).unwrap();
        };
        check("cannot read");
        copy("config.json", 100);
        check("config.json: ");
        copy("config.json", usize::MAX);
        copy("tokenizer.json", 1000);
        check("tokenizer.json: ");
        copy("tokenizer.json", usize::MAX);
        copy("model.safetensors", 1_000_000);
        check("model.safetensors: no weights of a BERT model");
        std::fs::write(broken.path().join("config.json"), include_str!("../../reference/no_heads.json")).unwrap();
        check("config.json: hidden_size 384 is not a multiple of num_attention_heads 0");
    }
}
