//! Several sessions computed together. Whoever gets the threads takes what the others wait with; a weight that is read for one token is read
//! for all of them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{CHUNK_LEN, Decoder, Session};
use crate::Error;

/// Sessions in one pass: what a pass needs beside the weights stays in a core's second cache.
pub(super) const SESSIONS_MAX: usize = 16;
/// How long a pass waits for those that write too. They come within microseconds of each other, when their token is chosen; one that does
/// not is computed in the next pass.
const WAIT: Duration = Duration::from_micros(400);

/// What one thread asks for.
pub(super) struct Asked {
    pub(super) session: Session,
    pub(super) tokens: Vec<u32>,
    /// The tokens whose logits are wanted, 32 in a word; without it all are.
    pub(super) wanted: Option<Vec<u32>>,
    answer: Arc<Mutex<Option<Answered>>>,
}

/// The session comes back whatever happened.
struct Answered {
    session: Session,
    logits: Result<Vec<f32>, Error>,
}

/// What waits for the threads.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<Asked>>,
    /// Answers that are being written.
    writers: AtomicUsize,
}

/// Says that an answer is being written, so that passes wait for its tokens.
pub(crate) struct Writer<'a>(&'a AtomicUsize);

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Decoder {
    /// To be held while an answer's tokens are written.
    pub(crate) fn writer(&self) -> Writer<'_> {
        self.queue.writers.fetch_add(1, Ordering::Relaxed);
        Writer(&self.queue.writers)
    }

    /// Takes at most [`CHUNK_LEN`] tokens in.
    pub(super) fn take_in(
        &self,
        session: &mut Session,
        tokens: &[u32],
        wanted: Option<&[u32]>,
    ) -> Result<Vec<f32>, Error> {
        let answer = Arc::new(Mutex::new(None));
        let asked = Asked {
            session: std::mem::take(session),
            tokens: tokens.to_vec(),
            wanted: wanted.map(<[_]>::to_vec),
            answer: Arc::clone(&answer),
        };
        self.queue.lock().push(asked);
        // Whoever comes to it first computes for those that wait, so this one's may be done when it is its turn.
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let done = || answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut found = done();
        while found.is_none() {
            self.queue.gather();
            let mut batch = self.queue.next(&answer);
            if batch.is_empty() {
                // Who took it broke down over it.
                return Err(Error::broken("the computation broke off"));
            }
            let logits = self.compute(&mut engine, &mut batch);
            let mut logits = logits.map(Vec::into_iter);
            for Asked { session, answer, .. } in batch {
                let logits = match &mut logits {
                    Ok(logits) => Ok(logits.next().unwrap_or_default()),
                    Err(error) => Err(Error::broken(error.to_string())),
                };
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Answered { session, logits });
            }
            found = done();
        }
        drop(engine);
        let Answered { session: back, logits } = found.ok_or_else(|| Error::broken("nothing was computed"))?;
        *session = back;
        logits
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Asked>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a moment for those that write, if there are others.
    fn gather(&self) {
        let writers = self.writers.load(Ordering::Relaxed).min(SESSIONS_MAX);
        if writers < 2 {
            return;
        }
        let start = Instant::now();
        while self.lock().len() < writers && start.elapsed() < WAIT {
            std::thread::yield_now();
        }
    }

    /// The longest waiting, and this one, as many as are computed together.
    fn next(&self, own: &Arc<Mutex<Option<Answered>>>) -> Vec<Asked> {
        let mut waiting = self.lock();
        // Its own first: it has the threads.
        let Some(at) = waiting.iter().position(|asked| Arc::ptr_eq(&asked.answer, own)) else { return Vec::new() };
        waiting[..=at].rotate_right(1);
        let mut tokens = 0;
        let fits = |asked: &&Asked| {
            tokens += asked.tokens.len();
            tokens <= CHUNK_LEN
        };
        let count = waiting.iter().take(SESSIONS_MAX).take_while(fits).count();
        waiting.drain(..count).collect()
    }
}
