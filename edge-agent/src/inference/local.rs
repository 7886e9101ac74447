//! Models on this node: one thread each with a queue before it, weights loaded when first asked and let go when idle. A model may write
//! several answers at a time, each on a thread of its own.

mod error;

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use edge_core::admit::{Joined, Line, Place, Priority, Refused, Turn};
use models::{
    catalog::Digests,
    generate::{Answer, Generator, Request},
};
use shared::time::Timestamp;
use tokio::sync::oneshot;

pub use error::Error;

use super::{
    config::Gguf,
    figures::{Figures, Heard, Watch},
    residents::{self, Residents},
    tokens_estimate,
};
use crate::clock;

/// Takes each piece of text as it is written; `Break` ends the answer.
pub type OnText = Box<dyn FnMut(&str) -> ControlFlow<()> + Send>;

/// Requests that wait for one model. A gateway's model answers in seconds, so more would only run into their deadlines; beyond it the
/// last of a lower priority is turned away, or who comes.
const QUEUE_LEN_MAX: usize = 64;

/// What a local target runs.
#[derive(Debug, Clone)]
pub enum Weights {
    /// The built-in extractive generator.
    Extract,
    Gguf {
        model: Gguf,
        digests: Digests,
    },
}

/// A local target: starts its thread with the first request.
pub struct Worker {
    name: String,
    desk: Arc<Desk>,
    thread: OnceLock<()>,
}

/// What the callers and the model's thread share.
struct Desk {
    name: String,
    weights: Weights,
    residents: Arc<Residents>,
    state: Mutex<State>,
    /// Rung when somebody came, an answer has ended, or all is over.
    bell: Condvar,
}

struct State {
    line: Line<Job>,
    watch: Watch,
    is_closed: bool,
}

struct Job {
    request: Request,
    on_text: OnText,
    /// Set when the caller no longer waits.
    given_up: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

impl Job {
    /// A caller that no longer waits is no error.
    fn turn_away(self, error: Error) {
        drop(self.answer.send(Err(error)));
    }
}

/// Gives the place in the queue up when its caller goes, however the caller went; what is being written ends at its next piece.
struct GiveUp<'a> {
    desk: &'a Desk,
    given_up: Arc<AtomicBool>,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        self.desk.lock().line.retain(|job| !job.given_up.load(Ordering::Relaxed));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.desk.lock().is_closed = true;
        self.desk.bell.notify_all();
    }
}

impl Worker {
    #[must_use]
    pub fn new(name: String, weights: Weights, residents: Arc<Residents>) -> Self {
        let line = Line::new(QUEUE_LEN_MAX, weights.parallel());
        let state = State { line, watch: Watch::default(), is_closed: false };
        let (state, bell) = (Mutex::new(state), Condvar::new());
        let desk = Arc::new(Desk { name: name.clone(), weights, residents, state, bell });
        Self { name, desk, thread: OnceLock::new() }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the model; dropping the future frees the place in the queue, or ends the computation at the next piece of text.
    ///
    /// # Errors
    /// When the model cannot be loaded or cannot answer, the time is over, or it is clear at once that it will be.
    pub async fn ask(
        &self,
        request: Request,
        on_text: OnText,
        within: Duration,
        priority: Priority,
    ) -> Result<Answer, Error> {
        let given_up = Arc::new(AtomicBool::new(false));
        let _give_up = GiveUp { desk: &self.desk, given_up: Arc::clone(&given_up) };
        let (answer, outcome) = oneshot::channel();
        let job = Job { request, on_text, given_up, answer };
        self.start();
        self.desk.enter(job, within, priority).await?;
        let asked = async { outcome.await.map_err(|_| Error::Ended)? };
        tokio::time::timeout(within, asked).await.unwrap_or(Err(Error::Timeout { after: within }))
    }

    /// How long an answer would take now, with the wait before it; `None` before the model has answered once. Where it seems too long for
    /// the time there is, what is kept of the prompt is looked for.
    #[must_use]
    pub async fn expected(&self, request: &Request, within: Option<Duration>, priority: Priority) -> Option<Duration> {
        let turn = Turn { priority, deadline: None, takes: None };
        let expected = |takes| Some(self.desk.lock().line.wait(&turn, clock::now()) + takes);
        let roughly = expected(self.desk.takes(request, prompt_tokens(request))?)?;
        if within.is_none_or(|within| roughly <= within) {
            return Some(roughly);
        }
        match self.desk.unread(request).await {
            Ok(Some(unread)) => expected(self.desk.takes(request, unread)?),
            // One that it cannot take at all is told so by itself, and why.
            Ok(None) | Err(_) => Some(roughly),
        }
    }

    /// How the model stands now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let held = self.desk.residents.held(&self.name);
        let state = self.desk.lock();
        state.watch.figures(state.line.waiting(), state.line.served(), held)
    }

    /// What the model needs of the memory, in bytes, if there is room for it now; nothing for the built-in one.
    ///
    /// # Errors
    /// When the file is no model, or there is no room.
    pub fn look(&self) -> Result<u64, Error> {
        match &self.desk.weights {
            Weights::Extract => Ok(0),
            Weights::Gguf { model, .. } => match self.desk.residents.held(&self.name) {
                Some(held) => Ok(held.model),
                None => Ok(self.desk.residents.look(&self.name, model)?),
            },
        }
    }

    fn start(&self) {
        self.thread.get_or_init(|| {
            let desk = Arc::clone(&self.desk);
            std::thread::Builder::new()
                .name(self.name.clone())
                .spawn(move || desk.work())
                .expect("a thread for a local model can be started");
        });
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_loaded(&self) -> bool {
        matches!(self.weights, Weights::Extract) || self.residents.held(&self.name).is_some()
    }

    /// How long an answer takes that reads so many tokens of its prompt; `None` before the model has answered once.
    fn takes(&self, request: &Request, prompt_tokens: u64) -> Option<Duration> {
        let is_loaded = self.is_loaded();
        self.lock().watch.speed.takes(prompt_tokens, request.max_tokens as u64, is_loaded)
    }

    /// Tokens of the prompt that are not known from an answer before; `None` when the model is not there, or does not say. Found out on a
    /// thread that may block: a long prompt, or a template that makes much of a short one, takes its time.
    ///
    /// # Errors
    /// When the model cannot take the request.
    async fn unread(&self, request: &Request) -> Result<Option<u64>, Error> {
        let Some(generator) = self.residents.get(&self.name) else { return Ok(None) };
        let request = request.clone();
        let split = tokio::task::spawn_blocking(move || generator.unread(&request));
        let unread = split.await.map_err(|_| Error::Ended)?;
        Ok(unread.map_err(Error::Generate)?.map(|tokens| tokens as u64))
    }

    /// Gives a job its place in the queue, or says at once why it has none.
    async fn enter(&self, job: Job, within: Duration, priority: Priority) -> Result<(), Error> {
        if let (Weights::Gguf { .. }, (Some(degrees), true)) = (&self.weights, self.residents.temperature()) {
            return Err(Error::Hot { degrees });
        }
        let now = clock::now();
        let turn = |takes| Turn { priority, deadline: Some(now.plus(within)), takes };
        let mut own = turn(self.takes(&job.request, prompt_tokens(&job.request)));
        let late = self.lock().line.late(&own, now);
        if let Some(late) = late {
            // One that no time would be enough for is told why, and not that it may come again.
            let Some(unread) = self.unread(&job.request).await? else { return self.turn_away(late) };
            own = turn(self.takes(&job.request, unread));
        }
        self.join(own, job, clock::now())
    }

    fn join(&self, own: Turn, job: Job, now: Timestamp) -> Result<(), Error> {
        let mut state = self.lock();
        if let Some(late) = state.line.late(&own, now) {
            drop(state);
            return self.turn_away(late);
        }
        let Joined { left, .. } = match state.line.enter(own, job, now) {
            Ok(joined) => joined,
            Err(full) => {
                drop(state);
                return self.turn_away(full);
            }
        };
        state.watch.turned_away += left.len() as u64;
        for (job, refused) in left {
            job.turn_away(refused.into());
        }
        drop(state);
        self.bell.notify_all();
        Ok(())
    }

    fn turn_away(&self, refused: Refused) -> Result<(), Error> {
        self.lock().watch.turned_away += 1;
        Err(refused.into())
    }

    /// The thread: loads, has answers written, lets go.
    fn work(self: Arc<Self>) {
        while let Some(place) = self.next() {
            // A model that breaks down over one request answers the next: its caller is told that the thread has ended.
            if catch_unwind(AssertUnwindSafe(|| self.serve(place))).is_err() {
                tracing::error!(name = self.name, "a model panicked over a request");
            }
        }
    }

    fn serve(self: &Arc<Self>, place: Place<Job>) {
        let done = Done { desk: Arc::clone(self), number: place.number() };
        let mut job = place.item;
        if job.given_up.load(Ordering::Relaxed) {
            return;
        }
        let generator = match self.generator() {
            Ok(generator) => generator,
            Err(error) => return job.turn_away(error),
        };
        // Loading takes long enough to go away in.
        if job.given_up.load(Ordering::Relaxed) {
            return;
        }
        if let Weights::Gguf { model, .. } = &self.weights {
            job.request.sampling = job.request.sampling.or(model.sampling);
        }
        self.write(generator, job, done);
    }

    /// Whose turn it is, as soon as one of the places is free; `None` when all is over.
    fn next(&self) -> Option<Place<Job>> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(next) = state.line.next(clock::now()) {
                return Some(next);
            }
            let (woken, slept) =
                self.bell.wait_timeout(state, self.residents.unload_after()).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if slept.timed_out() && state.line.is_idle() {
                drop(state);
                self.residents.unload(&self.name);
                state = self.lock();
            }
        }
    }

    fn generator(&self) -> Result<Arc<dyn Generator>, Error> {
        let Weights::Gguf { model, digests } = &self.weights else { return Ok(models::generate::extract()) };
        if let Some(generator) = self.residents.get(&self.name) {
            return Ok(generator);
        }
        let Gguf { file, digest, .. } = model;
        if let Some(expected) = *digest {
            let found = digests.of(file).map_err(residents::Error::Load)?;
            if found != expected {
                tracing::error!(file = %file.display(), %found, %expected, "a model is refused");
                return Err(Error::Wrong { file: file.clone(), found, expected });
            }
        }
        let (generator, took) = self.residents.load(&self.name, model)?;
        if let Some(took) = took {
            self.lock().watch.speed.loaded(took);
        }
        Ok(generator)
    }

    /// Has an answer written: alone on this thread, or beside others on one of its own. The model computes what they ask for together.
    fn write(self: &Arc<Self>, generator: Arc<dyn Generator>, mut job: Job, done: Done) {
        let answer = move || {
            let mut heard = Heard::nothing();
            let answer = generate(generator.as_ref(), &mut job, &mut heard);
            if let Ok(answer) = &answer {
                done.desk.lock().watch.answered(answer, &heard);
            }
            // The model is idle, and its place free, when the caller has the answer.
            drop((generator, done));
            drop(job.answer.send(answer));
        };
        if self.weights.parallel() == 1 {
            return answer();
        }
        if let Err(error) = std::thread::Builder::new().name("answer".to_owned()).spawn(answer) {
            // The caller is told that its thread has ended.
            tracing::error!(%error, "cannot start a thread for an answer");
        }
    }
}

/// Frees the place of an answer, however it ended; its model is unused from then on.
struct Done {
    desk: Arc<Desk>,
    number: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.desk.residents.rests(&self.desk.name);
        self.desk.lock().line.done(self.number);
        self.desk.bell.notify_all();
    }
}

/// Tokens of a prompt, roughly, before it is split.
fn prompt_tokens(request: &Request) -> u64 {
    let Request { messages, passages, .. } = request;
    let texts = messages.iter().map(|m| m.content.as_str()).chain(passages.iter().map(|p| p.text.as_str()));
    texts.map(tokens_estimate).sum()
}

fn generate(generator: &dyn Generator, job: &mut Job, heard: &mut Heard) -> Result<Answer, Error> {
    let Job { request, on_text, given_up, .. } = job;
    let mut relay = |text: &str| {
        heard.piece(text);
        if given_up.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { on_text(text) }
    };
    generator.generate(request, &mut relay).map_err(Error::Generate)
}

impl Weights {
    const fn parallel(&self) -> usize {
        match self {
            Self::Extract => 1,
            Self::Gguf { model, .. } => model.parallel,
        }
    }
}
