//! The task that keeps the indexes in step with the bundle, and does in idle time what idle time is for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Inner, Load, Status, documents::Document, index::Error};

/// How often the indexes are looked at for something to do, beside when documents come: workflows remember texts too.
const TEND_EVERY: Duration = Duration::from_secs(20);
/// After how long what is stored is loaded again when that failed; each time twice as long.
const RELOAD_AFTER: Duration = Duration::from_secs(1);
const RELOAD_AFTER_MAX: Duration = Duration::from_secs(60);

/// Loads what is stored, then goes on until the last handle of the memory is gone.
pub(super) async fn keep_in_step(
    inner: Arc<Inner>,
    mut documents: watch::Receiver<Arc<Vec<Document>>>,
    status: Arc<watch::Sender<Status>>,
) {
    if !load(&inner, documents.clone(), &status).await {
        return;
    }
    loop {
        status.send_modify(|status| status.is_busy = documents.has_changed().unwrap_or(false));
        if !tend(&inner, &mut documents, &status).await {
            return;
        }
        let wanted = Arc::clone(&documents.borrow_and_update());
        let (refreshing, newer) = (Arc::clone(&inner), documents.clone());
        // Closed: the last handle is gone, and so is the reason to go on.
        let is_outdated = move || newer.has_changed().unwrap_or(true);
        let outcome = tokio::task::spawn_blocking(move || refreshing.refresh(&wanted, &is_outdated)).await;
        let failed = match outcome {
            Ok(Ok(failed)) => failed.iter().map(ToString::to_string).collect(),
            Ok(Err(error)) => vec![error.to_string()],
            Err(error) => vec![format!("indexing panicked: {error}")],
        };
        for failure in &failed {
            tracing::warn!(failure, "a document is not in the index");
        }
        status.send_modify(|status| status.failed = failed);
    }
}

/// Loads what is stored, again after a while where that fails; false when the last handle is gone.
async fn load(
    inner: &Arc<Inner>,
    mut documents: watch::Receiver<Arc<Vec<Document>>>,
    status: &watch::Sender<Status>,
) -> bool {
    let mut pause = RELOAD_AFTER;
    loop {
        // Dropped too when the process ends before.
        let mut opening = Opening::of(inner);
        let loading = Arc::clone(inner);
        let why = match tokio::task::spawn_blocking(move || loading.load()).await {
            Ok(Ok(())) => {
                opening.outcome = Load::Done;
                status.send_modify(|status| (status.failed, status.unloaded) = (Vec::new(), None));
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("it panicked: {error}"),
        };
        let told = format!("the memory cannot be loaded and is tried again: {why}");
        tracing::error!(again_in_s = pause.as_secs(), "{told}");
        opening.outcome = Load::Failed(told.clone());
        drop(opening);
        let unloaded = Some(told.clone());
        status.send_modify(|status| *status = Status { is_busy: false, failed: vec![told], unloaded });
        // A new bundle may be why somebody looks.
        if let Ok(Err(_)) = tokio::time::timeout(pause, documents.changed()).await {
            return false;
        }
        pause = RELOAD_AFTER_MAX.min(2 * pause);
        inner.loaded.tell(Load::UnderWay);
    }
}

/// Lets those in who wait for the indexes, whatever became of loading them.
pub(super) struct Opening<'i> {
    inner: &'i Inner,
    pub(super) outcome: Load,
}

impl<'i> Opening<'i> {
    /// Until it is told otherwise, loading did not come to its end.
    pub(super) fn of(inner: &'i Inner) -> Self {
        Self { inner, outcome: Load::Failed("the memory ends".to_owned()) }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.inner.loaded.tell(std::mem::take(&mut self.outcome));
    }
}

/// What comes after a step.
enum Next {
    Step,
    /// Others use the machine.
    Later(Duration),
    Nothing,
}

/// Waits for newer documents, and meanwhile does what idle time is for; false when the last handle is gone.
async fn tend(
    inner: &Arc<Inner>,
    documents: &mut watch::Receiver<Arc<Vec<Document>>>,
    status: &watch::Sender<Status>,
) -> bool {
    loop {
        let mut next = Next::Step;
        while matches!(next, Next::Step) && !documents.has_changed().unwrap_or(true) {
            let tending = Arc::clone(inner);
            next = match tokio::task::spawn_blocking(move || tending.step()).await {
                Ok(Ok(next)) => next,
                // Tried again at the next look; until then the indexes serve as they are.
                Ok(Err(error)) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "what idle time is for waits");
                    Next::Nothing
                }
                Err(_) => Next::Nothing,
            };
            let unloaded = inner.loaded.failure();
            status.send_if_modified(|status| {
                let is_news = status.unloaded != unloaded;
                status.unloaded = unloaded;
                is_news
            });
        }
        let pause = if let Next::Later(pause) = next { pause } else { TEND_EVERY };
        tokio::select! {
            changed = documents.changed() => return changed.is_ok(),
            () = inner.hurt.comes.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Inner {
    /// A step of what idle time is for. What searches lack is put right at once.
    fn step(&self) -> Result<Next, Error> {
        self.heal()?;
        if let Some(pause) = self.rest.pause(Instant::now(), || self.unmerged()) {
            return Ok(Next::Later(pause));
        }
        if self.expire()? || self.tend()? || self.merge_words()? || self.part_words()? {
            return Ok(Next::Step);
        }
        self.rest.done();
        self.empty_log()?;
        Ok(Next::Nothing)
    }
}
