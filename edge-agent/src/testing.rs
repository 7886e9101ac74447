//! What the tests of several rooms share.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use models::embed::{Embedder, default_embedder};
use shared::digest::Digest;

/// Long enough for a loaded machine; a wait ends as soon as what it waits for is there.
pub const SOON: Duration = Duration::from_secs(60);
/// A text at which [`Noting`] stands still.
pub const STAND_STILL: &str = "Stand still";
/// A text at which it panics.
pub const BREAK_DOWN: &str = "Break down";

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{what} within a minute"));
}

/// Where threads wait until the test opens it, for good.
#[derive(Default)]
pub struct Door {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Door {
    pub fn open(&self) {
        *self.is_open.lock().expect("no thread panicked") = true;
        self.opened.notify_all();
    }

    pub fn pass(&self) {
        let is_open = self.is_open.lock().expect("no thread panicked");
        drop(self.opened.wait_timeout_while(is_open, SOON, |is_open| !*is_open).expect("no thread panicked"));
    }
}

/// The built-in embedder. It notes what it reads, stands still at a text that says so until the test lets it go, and breaks down at another.
pub struct Noting {
    inner: Arc<dyn Embedder>,
    /// The first line of what it was given in each go.
    read: Mutex<Vec<String>>,
    door: Door,
}

impl Noting {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: default_embedder(), read: Mutex::default(), door: Door::default() })
    }

    pub fn go(&self) {
        self.door.open();
    }

    pub fn read(&self) -> Vec<String> {
        self.read.lock().expect("no thread panicked").clone()
    }

    /// Forgets what it read.
    pub fn clear(&self) {
        self.read.lock().expect("no thread panicked").clear();
    }

    pub fn stands(&self) -> bool {
        self.read().last().is_some_and(|text| text.contains(STAND_STILL))
    }
}

impl Embedder for Noting {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn digest(&self) -> Digest {
        self.inner.digest()
    }

    fn dimensions(&self) -> usize {
        self.inner.dimensions()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, models::Error> {
        let first = texts.first().and_then(|text| text.lines().next()).unwrap_or_default();
        self.read.lock().expect("no thread panicked").push(first.to_owned());
        if texts.iter().any(|text| text.contains(STAND_STILL)) {
            self.door.pass();
        }
        assert!(!texts.contains(&BREAK_DOWN), "as the test wants it");
        self.inner.embed(texts)
    }
}
