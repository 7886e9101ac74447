//! A model that is loaded when it is asked for, and let go when nobody has asked for it for a while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
    time::Duration,
};

use models::Error;
use tokio::{runtime::Handle, time::Instant};

/// A model that sleeps while nobody asks for it.
pub struct Asleep<M> {
    name: String,
    load: Box<dyn Fn() -> Result<M, Error> + Send + Sync>,
    rests_after: Duration,
    state: Mutex<State<M>>,
}

struct State<M> {
    awake: Option<Arc<M>>,
    asked: Instant,
}

impl<M: Send + Sync + 'static> Asleep<M> {
    /// One of this name that `load` brings, and that is let go after this time without a question.
    pub fn new(
        name: String,
        rests_after: Duration,
        load: impl Fn() -> Result<M, Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let state = Mutex::new(State { awake: None, asked: Instant::now() });
        Arc::new(Self { name, load: Box::new(load), rests_after, state })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is in memory now. One that is being loaded is not.
    pub(super) fn is_awake(&self) -> bool {
        match self.state.try_lock() {
            Ok(state) => state.awake.is_some(),
            Err(TryLockError::Poisoned(state)) => state.into_inner().awake.is_some(),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// The model. Blocks while it is loaded, and keeps others from loading it a second time.
    ///
    /// # Errors
    /// When it cannot be loaded; the next question tries again.
    pub(super) fn awake(self: &Arc<Self>) -> Result<Arc<M>, Error> {
        let mut state = self.lock();
        state.asked = Instant::now();
        if let Some(model) = &state.awake {
            return Ok(Arc::clone(model));
        }
        let model = Arc::new((self.load)()?);
        state.awake = Some(Arc::clone(&model));
        drop(state);
        tracing::info!(name = self.name, "a model is loaded");
        // Without a runtime the process is a command that ends soon.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(rest(Arc::downgrade(self)));
        }
        Ok(model)
    }

    /// How long it may still stay; nothing when it was let go.
    fn tire(&self) -> Option<Duration> {
        let mut state = self.lock();
        let left = self.rests_after.saturating_sub(state.asked.elapsed());
        if left.is_zero() {
            state.awake = None;
            tracing::info!(name = self.name, "a model that nobody asks is unloaded");
        }
        Some(left).filter(|left| !left.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        // What is there is a whole model or none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn rest<M: Send + Sync + 'static>(model: Weak<Asleep<M>>) {
    while let Some(left) = model.upgrade().and_then(|model| model.tire()) {
        tokio::time::sleep(left).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn counting(rests_after: Duration) -> Arc<Asleep<u32>> {
        let loads = AtomicU32::new(0);
        Asleep::new("m".to_owned(), rests_after, move || Ok(loads.fetch_add(1, Ordering::Relaxed)))
    }

    #[tokio::test]
    async fn it_is_loaded_once_while_it_is_asked_for() {
        let hour = Duration::from_secs(3_600);
        let model = counting(hour);
        assert!(!model.is_awake(), "nothing is loaded before somebody asks");
        assert_eq!((*model.awake().unwrap(), *model.awake().unwrap()), (0, 0));
        let left = model.tire().expect("it was asked just now");
        assert!(model.is_awake() && left <= hour && left > hour / 2, "{left:?}");
    }

    #[tokio::test]
    async fn it_is_let_go_when_nobody_asks_and_loaded_anew() {
        let model = counting(Duration::from_millis(30));
        assert_eq!(*model.awake().unwrap(), 0);
        let resting = rest(Arc::downgrade(&model));
        tokio::time::timeout(Duration::from_secs(30), resting).await.expect("it comes to rest");
        assert!(!model.is_awake());
        assert_eq!(*model.awake().unwrap(), 1);
    }

    #[tokio::test]
    async fn one_that_cannot_be_loaded_is_tried_again() {
        let loads = AtomicU32::new(0);
        let broken = || Error::Broken { message: "no such file".to_owned() };
        let model = Asleep::new("m".to_owned(), Duration::from_secs(9), move || {
            let before = loads.fetch_add(1, Ordering::Relaxed);
            if before == 0 { Err(broken()) } else { Ok(before) }
        });
        assert_eq!(model.awake().unwrap_err().to_string(), "no such file");
        assert_eq!(*model.awake().unwrap(), 1);
    }
}
