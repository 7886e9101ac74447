//! What stands on an encoder to judge texts: a cross-encoder says how well a passage answers a question, a sequence classifier which
//! label a text has.

use std::path::Path;

use serde::Serialize;
use shared::digest::Digest;

use super::{
    Compute, Encoder, Head, Precision,
    config::{Pooling, sizes},
    load,
    tensors::Tensors,
    texts::{Texts, Tokens},
};
use crate::{Error, embed::similarity, lanes::Processor};

/// An encoder that judges.
struct Judge {
    name: String,
    digest: Digest,
    texts: Texts,
    encoder: Encoder,
    head: Head,
    labels: Vec<String>,
}

/// A model that reads a question and a passage together and says how well the one answers the other.
pub struct CrossEncoder(Judge);

/// A model that says which label a text has.
pub struct Classifier(Judge);

/// A label, and how sure the classifier is of it: 0 to 1, all labels together 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelShare {
    pub label: String,
    pub score: f32,
}

impl CrossEncoder {
    /// Loads a cross-encoder from its folder.
    ///
    /// # Errors
    /// When a file is missing, cut off, or of a model that has not exactly one number to give.
    pub fn load(folder: &Path, compute: Compute) -> Result<Self, Error> {
        Judge::load(folder, compute, &ONE, Processor::detect()).map(Self)
    }

    /// Whether a folder holds one, by all but its weights.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn check(folder: &Path) -> Result<(), Error> {
        Judge::check(folder, &ONE)
    }

    /// What people call it: the folder's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The digest of its weights.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// How much there is to read of a question with a text, in tokens, about.
    #[must_use]
    pub fn size(&self, question: &str, text: &str) -> usize {
        self.0.texts.size(&[question, text])
    }

    /// How well each text answers the question: 0 to 1, the logistic function of the model's number.
    ///
    /// # Errors
    /// When the model cannot compute; never for the content of a text.
    pub fn scores(&self, question: &str, texts: &[&str]) -> Result<Vec<f32>, Error> {
        let numbers = self.0.numbers(&self.0.texts.pairs(question, texts)?)?;
        Ok(numbers.iter().map(|numbers| logistic(numbers[0])).collect())
    }
}

impl Classifier {
    /// Loads a sequence classifier from its folder; labels are those of `id2label` in `config.json`.
    ///
    /// # Errors
    /// When a file is missing, cut off, or of a model with fewer than two labels.
    pub fn load(folder: &Path, compute: Compute) -> Result<Self, Error> {
        Judge::load(folder, compute, &SOME, Processor::detect()).map(Self)
    }

    /// Whether a folder holds one, by all but its weights.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn check(folder: &Path) -> Result<(), Error> {
        Judge::check(folder, &SOME)
    }

    /// What people call it: the folder's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The digest of its weights.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The labels in the model's order.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.0.labels
    }

    /// How much there is to read of a text, in tokens, about.
    #[must_use]
    pub fn size(&self, text: &str) -> usize {
        self.0.texts.size(&[text])
    }

    /// All labels of each text, the likeliest first; ties in the model's order.
    ///
    /// # Errors
    /// When the model cannot compute; never for the content of a text.
    pub fn classify(&self, texts: &[&str]) -> Result<Vec<Vec<LabelShare>>, Error> {
        let numbers = self.0.numbers(&self.0.texts.each(texts)?)?;
        let shares = |numbers: Vec<f32>| {
            let scores = softmax(&numbers).into_iter().zip(&self.0.labels);
            let mut shares: Vec<_> = scores.map(|(score, label)| LabelShare { label: label.clone(), score }).collect();
            shares.sort_by(|a, b| b.score.total_cmp(&a.score));
            shares
        };
        Ok(numbers.into_iter().map(shares).collect())
    }
}

/// How many labels a head has for its use.
struct Labels {
    fit: fn(usize) -> bool,
    expected: &'static str,
}

const ONE: Labels = Labels { fit: |labels| labels == 1, expected: "one, as a cross-encoder for ranking has" };
const SOME: Labels = Labels { fit: |labels| labels > 1, expected: "at least two to choose from" };

impl Judge {
    fn load(folder: &Path, compute: Compute, wanted: &Labels, processor: Processor) -> Result<Self, Error> {
        let sizes = sizes(folder)?;
        let tensors = Tensors::open(&folder.join("model.safetensors"))?;
        let head = load::head(folder, &tensors, &sizes)?;
        let (labels, tokens_max) = (sizes.labels.clone(), sizes.positions);
        wanted.check(folder, &labels)?;
        let load::Folder { texts, encoder, digest } =
            load::folder(folder, &tensors, sizes, tokens_max, Pooling::First, compute, processor)?;
        Ok(Self { name: name(folder), digest, texts, encoder, head, labels })
    }

    /// Whether all is there that [`Self::load`] needs but the weights themselves.
    fn check(folder: &Path, wanted: &Labels) -> Result<(), Error> {
        let sizes = sizes(folder)?;
        let tensors = Tensors::open(&folder.join("model.safetensors"))?;
        load::head(folder, &tensors, &sizes)?;
        wanted.check(folder, &sizes.labels)?;
        load::needs(folder, Precision::default())?;
        Texts::load(folder, &sizes, sizes.positions).map(drop)
    }

    /// The model's numbers for each text.
    fn numbers(&self, texts: &[Tokens]) -> Result<Vec<Vec<f32>>, Error> {
        Ok(self.encoder.vectors(texts)?.iter().map(|first| self.head.numbers(first)).collect())
    }
}

impl Labels {
    fn check(&self, folder: &Path, labels: &[String]) -> Result<(), Error> {
        if (self.fit)(labels.len()) {
            return Ok(());
        }
        let (found, expected) = (labels.len(), self.expected);
        Err(Error::file(&folder.join("config.json"), format!("id2label has {found} labels: expected {expected}")))
    }
}

impl Head {
    fn numbers(&self, first: &[f32]) -> Vec<f32> {
        let layer = |(weights, bias): &(Vec<f32>, Vec<f32>), from: &[f32]| -> Vec<f32> {
            weights.chunks_exact(self.hidden).zip(bias).map(|(row, bias)| similarity(row, from) + bias).collect()
        };
        let inner: Vec<f32> = layer(&self.dense, first).into_iter().map(f32::tanh).collect();
        layer(&self.out, &inner)
    }
}

fn logistic(number: f32) -> f32 {
    1.0 / (1.0 + (-number).exp())
}

fn softmax(numbers: &[f32]) -> Vec<f32> {
    let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f32> = numbers.iter().map(|number| (number - most).exp()).collect();
    let sum: f32 = shares.iter().sum();
    shares.into_iter().map(|share| share / sum).collect()
}

/// The folder's name.
pub(super) fn name(folder: &Path) -> String {
    folder.file_name().map_or_else(|| "encoder".to_owned(), |name| name.to_string_lossy().into_owned())
}
