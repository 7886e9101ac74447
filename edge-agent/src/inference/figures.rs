//! The live figures of a model on this node, for routing, metrics and people.

use std::time::Duration;

use edge_core::admit::{Seen, Speed};
use models::generate::Answer;

use super::{Inference, local::Worker, reply, residents::Held};

/// How a model on this node stands now.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub waiting: usize,
    pub writing: usize,
    /// `None`: it is not loaded, or takes nothing worth counting.
    pub held: Option<Held>,
    pub speed: Speed,
    pub answers: u64,
    pub tokens_in: u64,
    /// Of the prompts' tokens, those that were known from answers before.
    pub tokens_reused: u64,
    pub tokens_out: u64,
    /// Requests that were told at once that they would not be answered in time, or had no place in the queue.
    pub turned_away: u64,
}

/// What is counted of a model since the agent started.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub speed: Speed,
    pub turned_away: u64,
    answers: u64,
    tokens_in: u64,
    tokens_reused: u64,
    tokens_out: u64,
}

impl Watch {
    /// An answer was written; `first` is when its first text came.
    pub fn answered(&mut self, answer: &Answer, first: Option<Duration>, took: Duration) {
        let (prompt, reused) = (answer.tokens_in as u64, answer.tokens_reused as u64);
        self.answers += 1;
        self.tokens_in += prompt;
        self.tokens_reused += reused;
        self.tokens_out += answer.tokens_out as u64;
        // An answer without text, such as a call of a tool, does not tell when its first token came.
        let Some(first) = first else { return };
        let prompt_tokens = prompt.saturating_sub(reused);
        let rest = took.saturating_sub(first);
        self.speed.answered(&Seen { prompt_tokens, answer_tokens: answer.tokens_out as u64, first, rest });
    }

    pub fn figures(&self, waiting: usize, writing: usize, held: Option<Held>) -> Figures {
        let Self { speed, turned_away, answers, tokens_in, tokens_reused, tokens_out } = *self;
        Figures { waiting, writing, held, speed, answers, tokens_in, tokens_reused, tokens_out, turned_away }
    }
}

impl Inference {
    /// How each model on this node stands now, by its name.
    #[must_use]
    pub fn figures(&self) -> Vec<(String, Figures)> {
        self.inner.workers.iter().map(|worker| (worker.name().to_owned(), worker.figures())).collect()
    }

    /// What each model on this node needs of the memory, in bytes, or why it cannot be loaded now.
    #[must_use]
    pub fn look(&self) -> Vec<(String, Result<u64, String>)> {
        let look = |worker: &Worker| worker.look().map_err(|error| reply::chain(&error));
        self.inner.workers.iter().map(|worker| (worker.name().to_owned(), look(worker))).collect()
    }

    /// Keys and values of all models: bytes that they have, and the most that they may have.
    #[must_use]
    pub fn cache(&self) -> (u64, u64) {
        self.inner.residents.cache()
    }

    /// Degrees Celsius of the machine, where the kernel tells.
    #[must_use]
    pub fn temperature(&self) -> Option<f64> {
        self.inner.residents.temperature().0
    }
}
