//! The session of the last answer, kept for the next: a conversation, or prompts of one kind, begin alike, and what was read once is
//! not read again.

use std::sync::{Mutex, PoisonError};

use crate::decoder::Session;

/// At most one session. Its memory is bounded by the context and goes with the model.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<(Vec<u32>, Session)>>);

impl Kept {
    /// The kept session, cut to what it has in common with a prompt, but for the prompt's last token, whose logits are wanted. Its
    /// memory is worth having even when that is nothing.
    pub(super) fn take(&self, prompt: &[u32]) -> Option<Session> {
        let (tokens, mut session) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let common = tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        session.truncate(common.min(prompt.len().saturating_sub(1)));
        Some(session)
    }

    /// Keeps a session that holds these tokens and perhaps some after them.
    pub(super) fn keep(&self, tokens: Vec<u32>, session: Session) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((tokens, session));
    }
}
