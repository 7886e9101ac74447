//! The live figures of a model on this node, for routing, metrics and people.

use std::time::{Duration, Instant};

use edge_core::admit::{Seen, Speed};
use models::generate::{Answer, Finish};

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

/// Tokens of a prompt after which a model asks whether to go on, before it reads the next ones; after the last ones it writes first.
pub(super) const PART_LEN: usize = 256;
/// Times that a model asks before its first text of which is known when: those of a prompt of 262,144 tokens. Behind them nothing is measured.
const LOOKS_MAX: usize = 1_024;

/// When a model was heard of while it computed an answer.
pub(super) struct Heard {
    began: Instant,
    first_text: Option<Duration>,
    /// When it asked whether to go on, until the first text.
    looks: Vec<Duration>,
}

impl Heard {
    pub fn nothing() -> Self {
        Self { began: Instant::now(), first_text: None, looks: Vec::new() }
    }

    /// The model gave a piece of text; an empty one asks whether to go on.
    pub fn piece(&mut self, text: &str) {
        if self.first_text.is_some() {
            return;
        }
        let now = self.began.elapsed();
        if !text.is_empty() {
            self.first_text = Some(now);
        } else if self.looks.len() < LOOKS_MAX {
            self.looks.push(now);
        }
    }

    /// How long it took to what came first: text, or what the model asked behind the prompt where no text came, as in a call of a tool.
    fn first(&self, prompt_tokens: usize) -> Option<Duration> {
        let between_parts = prompt_tokens.div_ceil(PART_LEN).saturating_sub(1);
        self.first_text.or_else(|| self.looks.get(between_parts).copied())
    }
}

impl Watch {
    /// An answer was written.
    pub fn answered(&mut self, answer: &Answer, heard: &Heard) {
        let (prompt, reused) = (answer.tokens_in as u64, answer.tokens_reused as u64);
        self.tokens_in += prompt;
        self.tokens_reused += reused;
        self.tokens_out += answer.tokens_out as u64;
        // How long an answer is that was broken off says nothing of the next, and a few tokens nothing of the speed.
        if answer.finish == Finish::Cancelled {
            return;
        }
        self.answers += 1;
        let prompt_tokens = prompt.saturating_sub(reused);
        let Some(first) = heard.first(prompt_tokens as usize) else { return };
        let rest = heard.began.elapsed().saturating_sub(first);
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
