//! The task that keeps the indexes in step with the bundle, and does in idle time what idle time is for.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Inner, Status, documents::Document, index::Error};

/// How often the indexes are looked at for something to do, beside when documents come: workflows remember texts too.
const TEND_EVERY: Duration = Duration::from_secs(20);

/// Loads what is stored, then goes on until the last handle of the memory is gone.
pub(super) async fn keep_in_step(
    inner: Arc<Inner>,
    mut documents: watch::Receiver<Arc<Vec<Document>>>,
    status: Arc<watch::Sender<Status>>,
) {
    // Dropped too when the process ends before.
    let loaded = Opened(Arc::clone(&inner));
    let loading = Arc::clone(&inner);
    match tokio::task::spawn_blocking(move || loading.load()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the stored documents cannot be loaded"),
        Err(error) => tracing::error!(%error, "loading the stored documents panicked"),
    }
    drop(loaded);
    loop {
        status.send_modify(|status| status.is_busy = documents.has_changed().unwrap_or(false));
        if !tend(&inner, &mut documents).await {
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

/// Lets those in who wait for the indexes, whatever became of loading them.
struct Opened(Arc<Inner>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.loaded.tell();
    }
}

/// Waits for newer documents, and meanwhile does what idle time is for; false when the last handle is gone.
async fn tend(inner: &Arc<Inner>, documents: &mut watch::Receiver<Arc<Vec<Document>>>) -> bool {
    loop {
        let mut has_work = true;
        while has_work && !documents.has_changed().unwrap_or(true) {
            let tending = Arc::clone(inner);
            let tend = move || {
                let has_work = tending.expire()? || tending.tend()? || tending.merge_words()?;
                if !has_work {
                    tending.empty_log()?;
                }
                Ok(has_work)
            };
            has_work = match tokio::task::spawn_blocking(tend).await {
                Ok(Ok(has_work)) => has_work,
                // Tried again at the next look; until then the indexes serve as they are.
                Ok(Err(error)) => {
                    let error: Error = error;
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "what idle time is for waits");
                    false
                }
                Err(_) => false,
            };
        }
        if let Ok(changed) = tokio::time::timeout(TEND_EVERY, documents.changed()).await {
            return changed.is_ok();
        }
    }
}
