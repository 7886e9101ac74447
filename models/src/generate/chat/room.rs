//! The room that keys and values share: one limit of bytes over the answers that are being written, of all models of a process, and over
//! the sessions of ended answers. Those are kept for what comes: conversations, or prompts of one kind, begin alike, and what was read
//! once is not read again.
//!
//! An answer claims its room before it begins, as much as its prompt and its longest text may come to, so none breaks off for want of it.

use std::{
    ops::ControlFlow,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::decoder::Session;

/// Conversations that are kept, at most: each is looked through for every prompt.
const SESSIONS_MAX: usize = 32;
/// Tokens in common below which a kept session is left for whom it serves better.
const COMMON_MIN: usize = 16;
/// How often one who waits for room asks whether to go on.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Room for keys and values, shared by models.
pub struct CacheRoom {
    state: Mutex<State>,
    /// Rung when a claim is given back or the limit changes.
    freed: Condvar,
}

struct State {
    limit: u64,
    /// What the answers that are being written have claimed.
    claimed: u64,
    /// The longest unused first.
    kept: Vec<Kept>,
    models: u64,
}

/// The session of an ended answer.
struct Kept {
    model: u64,
    tokens: Vec<u32>,
    session: Session,
    bytes: u64,
}

impl CacheRoom {
    /// Room of so many bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        let state = State { limit, claimed: 0, kept: Vec::new(), models: 0 };
        Arc::new(Self { state: Mutex::new(state), freed: Condvar::new() })
    }

    /// From now on so many bytes. What is kept beyond it is let go; answers that are being written go on.
    pub fn set_limit(&self, bytes: u64) {
        let mut state = self.lock();
        state.limit = bytes;
        state.make_room(0);
        drop(state);
        self.freed.notify_all();
    }

    /// The most bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.lock().limit
    }

    /// Bytes that are claimed or kept now.
    #[must_use]
    pub fn used(&self) -> u64 {
        let state = self.lock();
        state.claimed + state.kept_bytes()
    }

    /// Bytes of the answers that are being written.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.lock().claimed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(|kept| kept.bytes).sum()
    }

    /// Lets the longest unused sessions go until so many bytes are free, if they can be.
    fn make_room(&mut self, bytes: u64) {
        let mut kept = self.kept_bytes();
        let most = self.limit.saturating_sub(self.claimed.saturating_add(bytes));
        let mut gone = 0;
        while kept > most && gone < self.kept.len() {
            kept -= self.kept[gone].bytes;
            gone += 1;
        }
        self.kept.drain(..gone);
    }

    /// The kept session of a model that has most in common with a prompt: which, and how many tokens of it that it can go on from, without
    /// the prompt's last, whose logits are wanted. `None` when none has enough.
    fn find(&self, model: u64, prompt: &[u32]) -> Option<(usize, usize)> {
        let common = |kept: &Kept| {
            let common = kept.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            kept.session.known(common.min(prompt.len().saturating_sub(1)))
        };
        let own = self.kept.iter().enumerate().filter(|(_, kept)| kept.model == model);
        let (at, common) = own.map(|(at, kept)| (at, common(kept))).max_by_key(|(_, common)| *common)?;
        // One that begins like many others, by a system's words alone, is of use to the next too; what has little else is taken.
        (common >= COMMON_MIN.min(self.kept[at].tokens.len())).then_some((at, common))
    }
}

/// A model's place in the room; what is kept of it goes with it.
pub(super) struct Place {
    room: Arc<CacheRoom>,
    model: u64,
    token_bytes: u64,
    /// Tokens that are kept of this model, at most.
    kept_tokens_max: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.lock().kept.retain(|kept| kept.model != self.model);
        self.room.freed.notify_all();
    }
}

/// Room that an answer has; given back with it.
pub(super) struct Claim {
    room: Arc<CacheRoom>,
    bytes: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.room.lock();
        state.claimed -= self.bytes;
        drop(state);
        self.room.freed.notify_all();
    }
}

impl Place {
    pub(super) fn new(room: &Arc<CacheRoom>, token_bytes: usize, kept_tokens_max: usize) -> Self {
        let mut state = room.lock();
        state.models += 1;
        let model = state.models;
        drop(state);
        Self { room: Arc::clone(room), model, token_bytes: token_bytes.max(1) as u64, kept_tokens_max }
    }

    /// Tokens of one session that there is room for at most, when nothing else is there.
    pub(super) fn tokens_max(&self) -> usize {
        let step = Session::STEP as u64;
        let steps = self.room.limit() / (self.token_bytes * step);
        usize::try_from(steps.saturating_mul(step)).unwrap_or(usize::MAX)
    }

    /// How many of a prompt's first tokens are kept of an answer before.
    pub(super) fn known(&self, prompt: &[u32]) -> usize {
        self.room.lock().find(self.model, prompt).map_or(0, |(_, common)| common)
    }

    fn bytes(&self, tokens: usize) -> u64 {
        self.token_bytes.saturating_mul(tokens.next_multiple_of(Session::STEP) as u64)
    }

    /// Claims room for so many tokens, and takes the kept session that begins most like the prompt, cut to what they have in common; of one
    /// that is another conversation for the most part, a copy of that. Waits while other answers have the room, for as long as `go_on`
    /// says so.
    pub(super) fn take<B>(
        &self,
        prompt: &[u32],
        tokens: usize,
        go_on: &mut dyn FnMut() -> ControlFlow<B>,
    ) -> ControlFlow<B, (Option<Session>, Claim)> {
        let bytes = self.bytes(tokens);
        let mut state = self.room.lock();
        // Who is alone begins even when the limit has become too low for it meanwhile.
        while state.claimed > 0 && state.claimed.saturating_add(bytes) > state.limit {
            let (free, _) = self.room.freed.wait_timeout(state, ASK_EVERY).unwrap_or_else(PoisonError::into_inner);
            drop(free);
            go_on()?;
            state = self.room.lock();
        }
        let session = state.find(self.model, prompt).map(|(at, common)| {
            if 2 * common < state.kept[at].tokens.len() {
                return state.kept[at].session.copy(common);
            }
            let mut session = state.kept.remove(at).session;
            session.truncate(common);
            // The claim is for what the answer needs: the rest is free for others.
            session.shrink();
            session
        });
        state.make_room(bytes);
        state.claimed += bytes;
        ControlFlow::Continue((session, Claim { room: Arc::clone(&self.room), bytes }))
    }

    /// Extends a claim to so many tokens without waiting: an answer that is held to a schema is brought to its end, which may lie some
    /// tokens beyond what it was to have.
    pub(super) fn extend(&self, claim: &mut Claim, tokens: usize) {
        let more = self.bytes(tokens).saturating_sub(claim.bytes);
        if more > 0 {
            let mut state = self.room.lock();
            state.make_room(more);
            state.claimed += more;
            claim.bytes += more;
        }
    }

    /// Keeps a session that holds these tokens, in the room of its answer. Those that were not used for longest make room.
    pub(super) fn keep(&self, tokens: Vec<u32>, mut session: Session, claim: Claim) {
        drop(claim);
        if tokens.is_empty() || tokens.len() > self.kept_tokens_max {
            return;
        }
        session.shrink();
        let bytes = session.bytes() as u64;
        let mut state = self.room.lock();
        state.make_room(bytes);
        if state.claimed.saturating_add(bytes) > state.limit {
            return;
        }
        state.kept.push(Kept { model: self.model, tokens, session, bytes });
        let model = self.model;
        let own = |state: &State| {
            state.kept.iter().filter(|kept| kept.model == model).map(|kept| kept.tokens.len()).sum::<usize>()
        };
        while own(&state) > self.kept_tokens_max {
            let Some(oldest) = state.kept.iter().position(|kept| kept.model == model) else { break };
            state.kept.remove(oldest);
        }
        if state.kept.len() > SESSIONS_MAX {
            state.kept.remove(0);
        }
    }

    /// Bytes that are kept of this model.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.room.lock().kept.iter().filter(|kept| kept.model == self.model).map(|kept| kept.bytes).sum()
    }
}

#[cfg(test)]
mod tests;
