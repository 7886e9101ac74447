//! What a model knows of the tokens so far.

use super::{
    cache::{Head, PIECE},
    convolution::States,
};

/// The keys and values of the tokens so far, and what convolutions go on from.
#[derive(Default)]
pub(crate) struct Session {
    layers: Vec<Past>,
    len: usize,
}

/// What a layer knows of the tokens so far.
pub(super) enum Past {
    /// The keys and values of each of its heads.
    Heads(Vec<Head>),
    States(States),
}

impl Past {
    pub(super) const fn heads(&mut self) -> Option<&mut [Head]> {
        match self {
            Self::Heads(heads) => Some(heads.as_mut_slice()),
            Self::States(_) => None,
        }
    }
}

impl Session {
    /// Tokens whose memory is taken at once when the first of them comes.
    pub(crate) const STEP: usize = PIECE;

    pub(super) const fn new(layers: Vec<Past>) -> Self {
        Self { layers, len: 0 }
    }

    /// How many tokens it holds.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Says that so many tokens were taken in by all layers.
    pub(super) const fn add(&mut self, tokens: usize) {
        self.len += tokens;
    }

    pub(super) fn layer_mut(&mut self, at: usize) -> &mut Past {
        &mut self.layers[at]
    }

    /// Of the first so many tokens, those that it can go on from. Keys and values stand for each token; the states of convolutions are
    /// known after the last token and at the end of each piece alone.
    pub(crate) fn known(&self, len: usize) -> usize {
        let has_states = self.layers.iter().any(|past| matches!(past, Past::States(_)));
        match len {
            _ if len >= self.len => self.len,
            _ if has_states => len - len % PIECE,
            _ => len,
        }
    }

    /// Forgets the tokens after the first so many, and those before that it cannot go on from: [`Self::len`] says what is left. Their
    /// memory is used for what comes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.known(len);
    }

    /// A session of its own that holds the first so many tokens, as far as it can go on from them.
    pub(crate) fn copy(&self, len: usize) -> Self {
        let len = self.known(len);
        let pieces = len.div_ceil(PIECE);
        let copy = |past: &Past| match past {
            Past::Heads(heads) => Past::Heads(heads.iter().map(|head| head.copy(pieces)).collect()),
            Past::States(states) => Past::States(states.copy(pieces)),
        };
        Self { layers: self.layers.iter().map(copy).collect(), len }
    }

    /// Gives back the memory of forgotten tokens.
    pub(crate) fn shrink(&mut self) {
        let pieces = self.len.div_ceil(PIECE);
        for past in &mut self.layers {
            match past {
                Past::Heads(heads) => heads.iter_mut().for_each(|head| head.truncate(pieces)),
                Past::States(states) => states.truncate(pieces),
            }
        }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |past: &Past| match past {
            Past::Heads(heads) => heads.iter().map(Head::bytes).sum(),
            Past::States(states) => states.bytes(),
        };
        self.layers.iter().map(bytes).sum()
    }
}
