//! The queue before the small models, which embed, rank and classify. Each of them computes with all threads, so one does at a time; a long
//! computation goes piece by piece, and between two of them makes way for who is more important. How fast each is, is seen here, and who cannot
//! be served in time is told at once. Nothing here knows what is asked of a model, or for what.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use edge_core::admit::{Line, Priority, Refused, Seen, Speed, Turn};
use models::embed::Embedder;
use shared::{digest::Digest, time::Timestamp};

use super::locks::lock;
use crate::clock;

/// Requests that wait, as many as for a chat model: further ones would only run into their deadlines. Beyond it the last of a lower priority is
/// turned away, or who comes; what keeps the indexes in step waits beside them.
const QUEUE_LEN_MAX: usize = 64;
/// Texts of one piece, and their tokens: enough to fill the batches of a model, and little enough that somebody more important is served within
/// a moment, on a slow processor too. One text is not divided.
const PIECE_LEN: usize = 32;
const PIECE_TOKENS: u64 = 2_048;
/// How often one who waits looks whether anybody wants it still; where it is too late is seen at that time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The models that take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Embedder,
    /// The one before, while it serves queries.
    Former,
    Reranker,
    Classifier,
}

/// Why nothing was computed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("it was not done in time")]
    Timeout,
    #[error("nobody waits for it any more")]
    GivenUp,
    #[error(transparent)]
    Model(#[from] models::Error),
}

/// Those who wait, who is served, and what was seen of each model.
pub(super) struct Desk(Mutex<State>);

struct State {
    line: Line<Waiter>,
    watches: [Watch; 4],
}

/// What was seen of a model since the agent started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Watch {
    pub speed: Speed,
    pub texts: u64,
    pub turned_away: u64,
}

struct Waiter {
    model: Model,
    /// Holds what it is told once.
    told: SyncSender<Result<(), Refused>>,
}

/// On whose behalf something is computed.
pub(super) struct Asker<'a> {
    pub desk: &'a Desk,
    pub priority: Priority,
    /// When it is too late, by the wall clock.
    pub ends: Option<Timestamp>,
    pub is_given_up: &'a (dyn Fn() -> bool + Sync),
    pub standing: Standing,
}

/// Whether one may be turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Somebody waits for the outcome, and may ask again or elsewhere.
    Caller,
    /// It has to be done some time, by one thread piece by piece.
    Chore,
}

/// A computation, before it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub model: Model,
    /// To be read, about.
    pub tokens: u64,
    /// Whether the model is in memory.
    pub is_loaded: bool,
}

/// Texts that are computed in one go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'t> {
    pub texts: &'t [&'t str],
    pub tokens: u64,
}

/// The place of one who is served; it is free when this is dropped.
pub(super) struct Seat<'a> {
    asker: &'a Asker<'a>,
    model: Model,
    number: u64,
    /// Tokens of the work that are not read yet.
    left: AtomicU64,
}

impl Default for Desk {
    fn default() -> Self {
        Self(Mutex::new(State { line: Line::new(QUEUE_LEN_MAX, 1), watches: Default::default() }))
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// How many wait for a model, and what was seen of it.
    pub fn look(&self, model: Model) -> (usize, Watch) {
        let state = self.lock();
        (state.line.items().filter(|waiter| waiter.model == model).count(), state.watches[model as usize])
    }

    fn enter(&self, asker: &Asker<'_>, work: &Work, waiter: Waiter) -> Result<u64, Refused> {
        let now = clock::now();
        let mut state = self.lock();
        let turn = state.turn(asker, work);
        let joined = match (state.line.late(&turn, now), asker.standing) {
            (Some(late), _) => Err(late),
            (None, Standing::Caller) => state.line.enter(turn, waiter, now),
            (None, Standing::Chore) => Ok(state.line.stay(turn, waiter, now)),
        };
        let joined = joined.inspect_err(|_| state.watches[work.model as usize].turned_away += 1)?;
        for (waiter, refused) in joined.left {
            state.watches[waiter.model as usize].turned_away += 1;
            waiter.tell(Err(refused));
        }
        state.serve(now);
        Ok(joined.number)
    }

    fn free(&self, number: u64) {
        let mut state = self.lock();
        state.line.done(number);
        state.serve(clock::now());
    }
}

impl State {
    fn turn(&self, asker: &Asker<'_>, work: &Work) -> Turn {
        let takes = self.takes(work.model, work.tokens, work.is_loaded);
        Turn { priority: asker.priority, deadline: asker.ends, takes }
    }

    fn takes(&self, model: Model, tokens: u64, is_loaded: bool) -> Option<Duration> {
        self.watches[model as usize].speed.takes(tokens, 0, is_loaded)
    }

    /// Tells those whose turn it is.
    fn serve(&mut self, now: Timestamp) {
        while let Some(place) = self.line.next(now) {
            place.item.tell(Ok(()));
        }
    }
}

impl Waiter {
    /// Who has not heard yet hears it: there is room for one word.
    fn tell(self, word: Result<(), Refused>) {
        drop(self.told.try_send(word));
    }
}

impl<'a> Asker<'a> {
    /// One who keeps the indexes in step.
    pub fn chore(desk: &'a Desk, is_given_up: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { desk, priority: Priority::Batch, ends: None, is_given_up, standing: Standing::Chore }
    }

    /// Waits for its turn. Blocks.
    ///
    /// # Errors
    /// When it would be too late, is too late, has no place in the queue, or nobody wants it any more.
    pub fn begin(&'a self, work: &Work) -> Result<Seat<'a>, Error> {
        let (waiter, hears) = waiter(work.model);
        let number = self.desk.enter(self, work, waiter)?;
        self.wait(number, &hears)?;
        Ok(Seat { asker: self, model: work.model, number, left: work.tokens.into() })
    }

    /// Why it would be too late for a work, if it would be.
    pub fn late(&self, work: &Work) -> Result<(), Error> {
        let state = self.desk.lock();
        let late = state.line.late(&state.turn(self, work), clock::now());
        late.map_or(Ok(()), |late| Err(late.into()))
    }

    fn wait(&self, number: u64, hears: &Receiver<Result<(), Refused>>) -> Result<(), Error> {
        loop {
            match hears.recv_timeout(LOOK_EVERY) {
                Ok(told) => return Ok(told?),
                // Who was taken out of the line was told why before.
                Err(RecvTimeoutError::Disconnected) => return Err(Error::GivenUp),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(error) = self.still_wanted()
                && self.desk.lock().line.remove(number)
            {
                return Err(error);
            }
        }
    }

    /// Whether it is wanted still, and in time.
    fn still_wanted(&self) -> Result<(), Error> {
        if (self.is_given_up)() {
            return Err(Error::GivenUp);
        }
        if self.ends.is_some_and(|ends| ends < clock::now()) { Err(Error::Timeout) } else { Ok(()) }
    }
}

fn waiter(model: Model) -> (Waiter, Receiver<Result<(), Refused>>) {
    let (told, hears) = sync_channel(1);
    (Waiter { model, told }, hears)
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.asker.desk.free(self.number);
    }
}

impl Seat<'_> {
    /// Computes a piece, behind those who came meanwhile and are more important.
    ///
    /// # Errors
    /// When the model cannot compute, it is too late, or nobody wants it any more.
    pub fn piece<T>(
        &self,
        piece: &Piece<'_>,
        compute: impl FnOnce(&[&str]) -> Result<T, models::Error>,
    ) -> Result<T, Error> {
        self.asker.still_wanted()?;
        self.make_way(piece)?;
        let began = Instant::now();
        let made = compute(piece.texts)?;
        self.left.fetch_sub(piece.tokens.min(self.left.load(Ordering::Relaxed)), Ordering::Relaxed);
        let watch = &mut self.asker.desk.lock().watches[self.model as usize];
        watch.texts += piece.texts.len() as u64;
        let (prompt_tokens, first) = (piece.tokens, began.elapsed());
        watch.speed.answered(&Seen { prompt_tokens, answer_tokens: 0, first, rest: Duration::ZERO });
        Ok(made)
    }

    fn make_way(&self, piece: &Piece<'_>) -> Result<(), Error> {
        let (waiter, hears) = waiter(self.model);
        let mut state = self.asker.desk.lock();
        let left = state.takes(self.model, self.left.load(Ordering::Relaxed), true);
        let now = clock::now();
        if state.line.make_way(self.number, left, || waiter) {
            state.serve(now);
            drop(state);
            self.asker.wait(self.number, &hears)?;
            state = self.asker.desk.lock();
        }
        let takes = state.takes(self.model, piece.tokens, true);
        state.line.begin_piece(self.number, takes, clock::now());
        Ok(())
    }

    /// Has something computed that asks an embedder, which embeds piece by piece.
    ///
    /// # Errors
    /// As `piece`.
    pub fn with<T>(
        &self,
        embedder: &dyn Embedder,
        compute: impl FnOnce(&dyn Embedder) -> Result<T, models::Error>,
    ) -> Result<T, Error> {
        let in_pieces = InPieces { embedder, seat: self, ended: Mutex::default() };
        let made = compute(&in_pieces);
        let ended = lock(&in_pieces.ended).take();
        ended.map_or_else(|| Ok(made?), Err)
    }

    /// A model that may have to be loaded first; how long that took is remembered.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn load<M>(&self, work: &Work, load: impl FnOnce() -> Result<M, models::Error>) -> Result<M, Error> {
        let began = Instant::now();
        let model = load()?;
        if !work.is_loaded {
            self.asker.desk.lock().watches[self.model as usize].speed.loaded(began.elapsed());
        }
        Ok(model)
    }
}

/// An embedder as whoever is served sees it: between two pieces of what it is given it makes way.
struct InPieces<'a> {
    embedder: &'a dyn Embedder,
    seat: &'a Seat<'a>,
    /// Why it embeds no more, where that is not the embedder's fault.
    ended: Mutex<Option<Error>>,
}

impl Embedder for InPieces<'_> {
    fn name(&self) -> &str {
        self.embedder.name()
    }

    fn digest(&self) -> Digest {
        self.embedder.digest()
    }

    fn dimensions(&self) -> usize {
        self.embedder.dimensions()
    }

    fn unrelated_below(&self) -> Option<f32> {
        self.embedder.unrelated_below()
    }

    fn size(&self, text: &str) -> usize {
        self.embedder.size(text)
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, models::Error> {
        let mut vectors = Vec::with_capacity(texts.len());
        for piece in pieces(texts, |text| self.size(text)) {
            match self.seat.piece(&piece, |texts| self.embedder.embed(texts)) {
                Ok(made) => vectors.extend(made),
                Err(Error::Model(error)) => return Err(error),
                Err(error) => {
                    let message = error.to_string();
                    *lock(&self.ended) = Some(error);
                    return Err(models::Error::Broken { message });
                }
            }
        }
        Ok(vectors)
    }
}

/// Texts in their order, cut into what is computed in one go.
pub(super) fn pieces<'t>(texts: &'t [&'t str], size: impl Fn(&str) -> usize) -> Vec<Piece<'t>> {
    let mut pieces: Vec<Piece<'t>> = Vec::new();
    let (mut first, mut tokens) = (0, 0);
    for (at, text) in texts.iter().enumerate() {
        let own = size(text) as u64;
        if at > first && (at - first == PIECE_LEN || tokens + own > PIECE_TOKENS) {
            pieces.push(Piece { texts: &texts[first..at], tokens });
            (first, tokens) = (at, 0);
        }
        tokens += own;
    }
    if first < texts.len() {
        pieces.push(Piece { texts: &texts[first..], tokens });
    }
    pieces
}

/// What an embedder has to read of texts.
pub(super) fn tokens<T: AsRef<str>>(embedder: &dyn Embedder, texts: &[T]) -> u64 {
    texts.iter().map(|text| embedder.size(text.as_ref()) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_few_texts_and_few_tokens_and_no_text_is_divided() {
        let cut = |sizes: &[usize]| -> Vec<(usize, u64)> {
            let texts: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let pieces = pieces(&texts, |text| text.parse().expect("its size"));
            pieces.iter().map(|piece| (piece.texts.len(), piece.tokens)).collect()
        };
        assert_eq!(cut(&[]), []);
        assert_eq!(cut(&[1; 70]), [(32, 32), (32, 32), (6, 6)]);
        assert_eq!(cut(&[9, 5_000, 2_000, 48, 1]), [(1, 9), (1, 5_000), (2, 2_048), (1, 1)]);
    }
}
