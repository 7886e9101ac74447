//! The sessions of ended answers, kept for what comes: conversations, or prompts of one kind, begin alike, and what was read once is not
//! read again.

use std::sync::{Mutex, PoisonError};

use crate::decoder::Session;

/// Conversations that are kept, at most: each is looked through for every prompt.
const SESSIONS_MAX: usize = 32;
/// Tokens in common below which a kept session is left for whom it serves better.
const COMMON_MIN: usize = 16;

/// Sessions, the longest unused first. Together they hold no more tokens than they may, and go with the model.
pub(super) struct Kept {
    tokens_max: usize,
    sessions: Mutex<Vec<(Vec<u32>, Session)>>,
}

impl Kept {
    pub(super) const fn new(tokens_max: usize) -> Self {
        Self { tokens_max, sessions: Mutex::new(Vec::new()) }
    }

    /// The kept session that has most in common with a prompt, cut to that, but for the prompt's last token, whose logits are wanted. `None`
    /// when none has enough.
    pub(super) fn take(&self, prompt: &[u32]) -> Option<Session> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let common = |tokens: &[u32]| {
            let common = tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            common.min(prompt.len().saturating_sub(1))
        };
        let found = sessions.iter().map(|(tokens, _)| common(tokens)).enumerate().max_by_key(|(_, common)| *common);
        let (at, common) = found?;
        // One that begins like many others, by a system's words alone, is of use to the next too; what has little else is taken.
        let is_worth = common >= COMMON_MIN.min(sessions[at].0.len());
        if !is_worth {
            return None;
        }
        let (_, mut session) = sessions.remove(at);
        session.truncate(common);
        Some(session)
    }

    /// Keeps a session that holds these tokens. Those that were not used for longest make room.
    pub(super) fn keep(&self, tokens: Vec<u32>, session: Session) {
        if tokens.is_empty() || tokens.len() > self.tokens_max {
            return;
        }
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.push((tokens, session));
        let mut held: usize = sessions.iter().map(|(tokens, _)| tokens.len()).sum();
        while held > self.tokens_max || sessions.len() > SESSIONS_MAX {
            held -= sessions.remove(0).0.len();
        }
    }
}
