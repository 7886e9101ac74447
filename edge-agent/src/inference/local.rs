//! Models on this node: one thread each, a bounded queue before it, weights loaded when first asked and let go when idle. A model may write
//! several answers at a time, each on a thread of its own.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use models::{
    catalog::Digests,
    generate::{Answer, Compute, Generator, Request},
};
use shared::{digest::Digest, ledger::entry::CallEnd};
use tokio::sync::{mpsc, oneshot};

use super::config::Gguf;

/// Takes each piece of text as it is written; `Break` ends the answer.
pub type OnText = Box<dyn FnMut(&str) -> ControlFlow<()> + Send>;

/// Requests that wait for one model. A gateway's model answers in seconds, so more would only run into their deadlines;
/// beyond it the callers wait, each as long as its own deadline.
const QUEUE_LEN_MAX: usize = 16;
/// Weights that nobody asked for this long are let go; loading them again takes about a second.
const IDLE_MAX: Duration = Duration::from_secs(600);

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

/// Why a local model did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot load the model")]
    Load(#[source] models::Error),
    #[error("the model is refused: {} is {found}: expected {expected}; `edge-agent models pull` brings the right one", file.display())]
    Wrong { file: PathBuf, found: Digest, expected: Digest },
    #[error("the model cannot answer")]
    Generate(#[source] models::Error),
    #[error("no answer within {} ms", after.as_millis())]
    Timeout { after: Duration },
    #[error("the model's thread has ended: it panicked, see the log")]
    Ended,
}

impl Error {
    /// How the request ended, for the ledger.
    #[must_use]
    pub const fn ended(&self) -> CallEnd {
        match self {
            Self::Timeout { .. } => CallEnd::TimedOut,
            Self::Generate(models::Error::Request { .. }) => CallEnd::Refused,
            Self::Load(_) | Self::Wrong { .. } | Self::Generate(_) | Self::Ended => CallEnd::Failed,
        }
    }

    /// What happened, without a word of what was asked.
    #[must_use]
    pub const fn brief(&self) -> &'static str {
        match self {
            Self::Load(_) => "cannot load the model",
            Self::Wrong { .. } => "the model is not what its digest says",
            Self::Generate(models::Error::Request { .. }) => "the model does not take this request",
            Self::Generate(_) => "the model cannot answer",
            Self::Timeout { .. } => "no answer in time",
            Self::Ended => "the model's thread has ended",
        }
    }
}

/// A local target: starts its thread with the first request.
pub struct Worker {
    name: String,
    weights: Weights,
    queue: OnceLock<mpsc::Sender<Job>>,
}

struct Job {
    request: Request,
    on_text: OnText,
    /// Set when the caller no longer waits.
    given_up: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

/// Tells the thread that its caller is gone, however the caller went.
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Worker {
    #[must_use]
    pub const fn new(name: String, weights: Weights) -> Self {
        Self { name, weights, queue: OnceLock::new() }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the model; dropping the future ends the computation at the next piece of text.
    ///
    /// # Errors
    /// When the model cannot be loaded or cannot answer, or the time is over.
    pub async fn ask(&self, request: Request, on_text: OnText, within: Duration) -> Result<Answer, Error> {
        let given_up = Arc::new(AtomicBool::new(false));
        let _give_up = GiveUp(Arc::clone(&given_up));
        let (answer, outcome) = oneshot::channel();
        let job = Job { request, on_text, given_up, answer };
        let asked = async {
            self.queue().send(job).await.map_err(|_| Error::Ended)?;
            outcome.await.map_err(|_| Error::Ended)?
        };
        tokio::time::timeout(within, asked).await.unwrap_or(Err(Error::Timeout { after: within }))
    }

    fn queue(&self) -> &mpsc::Sender<Job> {
        self.queue.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(QUEUE_LEN_MAX);
            let weights = self.weights.clone();
            std::thread::Builder::new()
                .name(self.name.clone())
                .spawn(move || work(&weights, receiver))
                .expect("a thread for a local model can be started");
            sender
        })
    }
}

/// The thread: loads, has answers written, lets go.
fn work(weights: &Weights, mut queue: mpsc::Receiver<Job>) {
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let clock = clock.expect("a runtime with a timer alone needs nothing from the system");
    let writers = Writers::new(weights.parallel());
    let mut loaded: Option<Arc<dyn Generator>> = None;
    loop {
        let next = match loaded {
            Some(_) => clock.block_on(async { tokio::time::timeout(IDLE_MAX, queue.recv()).await }),
            None => Ok(queue.blocking_recv()),
        };
        let Ok(next) = next else {
            // Those that still write hold it themselves.
            loaded = None;
            continue;
        };
        let Some(mut job) = next else { return };
        if job.given_up.load(Ordering::Relaxed) {
            continue;
        }
        let generator = match &loaded {
            Some(generator) => Ok(Arc::clone(generator)),
            None => weights.load(),
        };
        match generator {
            Ok(generator) => {
                loaded = Some(Arc::clone(&generator));
                if let Weights::Gguf { model, .. } = weights {
                    job.request.sampling = job.request.sampling.or(model.sampling);
                }
                writers.write(generator, job);
            }
            // A caller that no longer waits is no error.
            Err(error) => drop(job.answer.send(Err(error))),
        }
    }
}

/// Threads that write answers, so many at a time; the model computes what they ask for together.
struct Writers {
    most: usize,
    /// How many write, and a bell for when one has ended.
    busy: Arc<(Mutex<usize>, Condvar)>,
}

/// One that writes; it is done however it ends.
struct Busy(Arc<(Mutex<usize>, Condvar)>);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.1.notify_one();
    }
}

impl Writers {
    fn new(most: usize) -> Self {
        Self { most, busy: Arc::default() }
    }

    /// Has an answer written, when fewer than the most are; alone, on this thread.
    fn write(&self, generator: Arc<dyn Generator>, mut job: Job) {
        let answer = move || {
            let answer = generate(generator.as_ref(), &mut job);
            // A caller that no longer waits is no error.
            drop(job.answer.send(answer));
        };
        if self.most == 1 {
            return answer();
        }
        let (count, bell) = &*self.busy;
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count >= self.most {
            count = bell.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        *count += 1;
        drop(count);
        let busy = Busy(Arc::clone(&self.busy));
        let started = std::thread::Builder::new().name("answer".to_owned()).spawn(move || {
            let _busy = busy;
            answer();
        });
        if let Err(error) = started {
            // The caller is told that its thread has ended.
            tracing::error!(%error, "cannot start a thread for an answer");
        }
    }
}

fn generate(generator: &dyn Generator, job: &mut Job) -> Result<Answer, Error> {
    let Job { request, on_text, given_up, .. } = job;
    let mut relay = |text: &str| {
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

    fn load(&self) -> Result<Arc<dyn Generator>, Error> {
        match self {
            Self::Extract => Ok(models::generate::extract()),
            Self::Gguf { model: Gguf { file, digest, cache, .. }, digests } => {
                tracing::info!(file = %file.display(), "loading a chat model");
                if let Some(expected) = *digest {
                    let found = digests.of(file).map_err(Error::Load)?;
                    if found != expected {
                        tracing::error!(file = %file.display(), %found, %expected, "a model is refused");
                        return Err(Error::Wrong { file: file.clone(), found, expected });
                    }
                }
                let compute = Compute { cache: *cache, ..Compute::default() };
                models::generate::load_gguf_with(file, compute).map_err(Error::Load)
            }
        }
    }
}
