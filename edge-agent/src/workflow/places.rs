//! How many effects are performed at one time. Calls that may take long have places of their own: a subscription that waits
//! for hours must not keep others from a place that they need for a second.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Effects performed at the same time. More would only queue in the rooms, which have limits of their own.
const QUICK_MAX: usize = 64;

/// Long calls at the same time, each with a connection or a process. What is beyond it is parked: it waits on the disk, takes
/// no place from runs that want to begin, and is asked again.
pub(super) const LONG_MAX: usize = 128;

/// After this a call is asked again for which there was no place.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Quick,
    /// It may wait for what others do when they do it.
    Long,
}

/// The places, by pace.
pub(super) struct Places {
    quick: Semaphore,
    long: Semaphore,
}

impl Default for Places {
    fn default() -> Self {
        Self { quick: Semaphore::new(QUICK_MAX), long: Semaphore::new(LONG_MAX) }
    }
}

impl Places {
    /// A place for a call, waited for if it is quick. `None`: there is none for a long one.
    pub async fn take(&self, pace: Pace) -> Option<SemaphorePermit<'_>> {
        match pace {
            Pace::Quick => Some(self.quick.acquire().await.expect("the semaphore is never closed")),
            Pace::Long => self.long.try_acquire().ok(),
        }
    }

    /// How many long calls have a place.
    pub fn long_taken(&self) -> usize {
        LONG_MAX - self.long.available_permits()
    }
}
