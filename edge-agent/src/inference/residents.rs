//! The models that are loaded on this node. A load is planned against the memory that there is; idle models make room, the longest unused
//! first, and what does not fit is refused with the numbers.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use edge_core::admit::{Ask, Bound, CacheUse, Limit, Loaded, Needs, Plan, Refusal, cache_limit, plan};
use models::{
    generate::{self, CacheRoom, Compute, Generator, Unloaded},
    packed,
};

use super::{
    config::{Gguf, Source, Target},
    limits::{Bytes, Limits, Weights},
    machine::Machine,
    writer::Writer,
};

/// Tokens of the shortest conversation that a model is worth loading for.
pub(super) const TOKENS_LEAST: usize = 1_024;
/// Keys and values of all models together, where the configuration does not say: this share of the memory, and no more than the
/// conversations of a gateway need.
const CACHE_SHARE: u64 = 4;
const CACHE_MAX: u64 = 1 << 30;
/// What the node's own queues and caches take beyond idle when it is busy: 5,000 messages a second took 13 MB in the measurements of
/// README.md, here twice as much and some for a start.
const QUEUES: u64 = 32 << 20;

/// What else of this process takes memory.
#[derive(Clone)]
pub struct Beside {
    /// Bytes of models that are loaded beside those that can be unloaded, such as the embedder.
    pub models: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Bytes of the vector indexes: mapped, so the kernel would let them go, and every search would wait for the disk.
    pub index: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for Beside {
    fn default() -> Self {
        Self { models: Arc::new(|| 0), index: Arc::new(|| 0) }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").field("models", &(self.models)()).finish_non_exhaustive()
    }
}

/// What is loaded, and the room for keys and values.
pub struct Residents {
    limits: Limits,
    beside: Beside,
    machine: Machine,
    /// Where packed weights are kept, if the limits say so.
    weights: Option<PathBuf>,
    writer: Arc<Writer>,
    room: Arc<CacheRoom>,
    loaded: Mutex<BTreeMap<String, Resident>>,
    /// Held while a model is loaded: two at a time would both count on the same memory.
    loading: Mutex<()>,
}

struct Resident {
    generator: Arc<dyn Generator>,
    /// Without keys and values.
    bytes: u64,
    /// Of them those that are mapped from a file.
    mapped: u64,
    used: Instant,
}

impl Resident {
    /// Whoever writes an answer holds the model; new ones get it under the lock that this is asked under.
    fn is_busy(&self) -> bool {
        Arc::strong_count(&self.generator) > 1
    }
}

/// Why a model is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot load the model")]
    Load(#[source] models::Error),
    #[error("there is no room for the model: {0}")]
    NoRoom(Refusal),
}

/// What a model has of the memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub model: u64,
    /// Keys and values that it keeps for what comes.
    pub kept: u64,
}

/// The files of chat models that targets name, those that are there.
pub fn files(targets: &[Target]) -> Vec<PathBuf> {
    let file = |target: &Target| match &target.source {
        Source::Gguf(model) => Some(model.file.clone()).filter(|file| file.exists()),
        Source::Provider(_) => None,
    };
    targets.iter().filter_map(file).collect()
}

/// Whether a model that is loaded for good, of so many bytes, fits beside the rest, of which `beside` are models that are loaded already.
///
/// # Errors
/// Why not, with the numbers.
pub fn admit(name: &str, bytes: u64, beside: u64, limits: Limits, machine: &Machine) -> Result<(), Refusal> {
    let mut bounds: Vec<_> = machine.bounds(0).into_iter().map(|bound| Bound { rest: QUEUES, ..bound }).collect();
    let free = |total: u64| total.saturating_sub(beside);
    let configured = |Bytes(total)| Bound { limit: Limit::Configured, total, free: free(total), rest: 0 };
    bounds.extend(limits.memory.map(configured));
    let (needs, cache) = (Needs { weights: bytes, work: 0, cache: 0 }, CacheUse { wanted: 0, used: 0, claimed: 0 });
    match plan(&Ask { name: name.to_owned(), needs, bounds, loaded: Vec::new(), cache }) {
        Plan::Load { .. } => Ok(()),
        Plan::Refuse(refusal) => Err(refusal),
    }
}

impl Residents {
    #[must_use]
    pub fn new(limits: Limits, beside: Beside, machine: Machine, weights: Option<PathBuf>) -> Self {
        let loaded = Mutex::default();
        let room = CacheRoom::new(0);
        let (writer, loading) = (Arc::default(), Mutex::default());
        let residents = Self { limits, beside, machine, weights, writer, room, loaded, loading };
        residents.room.set_limit(residents.cache_use(&residents.bounds()).wanted);
        residents
    }

    /// The model, if it is loaded.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Generator>> {
        let mut loaded = self.lock();
        let resident = loaded.get_mut(name)?;
        resident.used = Instant::now();
        Some(Arc::clone(&resident.generator))
    }

    /// Loads the model if there is room, or gives the one that is loaded, with how long it took.
    ///
    /// # Errors
    /// When the file is no model that can be loaded, or there is no room for it.
    pub fn load(&self, name: &str, model: &Gguf) -> Result<(Arc<dyn Generator>, Option<Duration>), Error> {
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(generator) = self.get(name) {
            return Ok((generator, None));
        }
        let began = Instant::now();
        let unloaded = self.open(model)?;
        let bytes = unloaded.needs().weights + unloaded.needs().work;
        let bounds = self.bounds();
        let planned = {
            // Nobody gets a model between the plan and its going.
            let mut loaded = self.lock();
            match plan(&self.asked(name, &unloaded, bounds, &loaded)) {
                Plan::Load { unload, cache } => {
                    let gone: Vec<_> = unload.iter().filter_map(|name| loaded.remove_entry(name)).collect();
                    Ok((gone, cache))
                }
                Plan::Refuse(refusal) => Err(refusal),
            }
        };
        let (gone, cache) = planned.map_err(|refusal| {
            tracing::warn!(%refusal, "a model is not loaded");
            Error::NoRoom(refusal)
        })?;
        for (name, resident) in gone {
            tracing::info!(name, bytes = resident.bytes, "an idle model makes room");
        }
        self.room.set_limit(cache);
        let generator = unloaded.load(&self.room).map_err(|error| {
            self.set_cache_limit();
            Error::Load(error)
        })?;
        let mapped = generator.mapped_bytes();
        let resident = Resident { generator: Arc::clone(&generator), bytes, mapped, used: Instant::now() };
        self.lock().insert(name.to_owned(), resident);
        let took = began.elapsed();
        tracing::info!(
            name,
            bytes,
            mapped,
            keys_and_values = cache,
            took_ms = took.as_millis(),
            "a chat model is loaded"
        );
        Ok((generator, Some(took)))
    }

    /// Unloads a model, unless an answer of it is being written.
    pub fn unload(&self, name: &str) {
        let mut loaded = self.lock();
        let is_idle = loaded.get(name).is_some_and(|resident| !resident.is_busy());
        let gone = if is_idle { loaded.remove(name) } else { None };
        drop(loaded);
        if gone.is_none() {
            return;
        }
        tracing::info!(name, "a model that nobody asked is unloaded");
        drop(gone);
        if self.lock().is_empty() {
            self.writer.rest();
        }
        self.set_cache_limit();
    }

    /// Keys and values may have what the models that are loaded leave.
    fn set_cache_limit(&self) {
        let bounds = self.bounds();
        self.room.set_limit(cache_limit(&bounds, &self.cache_use(&bounds)));
    }

    /// An answer of the model has ended: it is idle from now on.
    pub fn rests(&self, name: &str) {
        if let Some(resident) = self.lock().get_mut(name) {
            resident.used = Instant::now();
        }
    }

    /// What the model would need, in bytes with the least of keys and values, if it could be loaded now.
    ///
    /// # Errors
    /// As [`Residents::load`].
    pub fn look(&self, name: &str, model: &Gguf) -> Result<u64, Error> {
        let unloaded = self.open(model)?;
        let Needs { weights, work, cache } = needs(&unloaded);
        let bounds = self.bounds();
        let asked = self.asked(name, &unloaded, bounds, &self.lock());
        match plan(&asked) {
            Plan::Load { .. } => Ok(weights + work + cache),
            Plan::Refuse(refusal) => Err(Error::NoRoom(refusal)),
        }
    }

    /// What the model has of the memory; `None` when it is not loaded.
    pub fn held(&self, name: &str) -> Option<Held> {
        self.lock().get(name).map(|resident| Held { model: resident.bytes, kept: resident.generator.kept_bytes() })
    }

    /// Keys and values of all models: what they have, and what they may have, in bytes.
    pub fn cache(&self) -> (u64, u64) {
        (self.room.used(), self.room.limit())
    }

    /// How long a model stays loaded that nobody asks.
    pub fn unload_after(&self) -> Duration {
        self.limits.unload_after()
    }

    /// Degrees Celsius of the machine, and whether models should rest.
    pub fn temperature(&self) -> (Option<f64>, bool) {
        let degrees = self.machine.temperature();
        (degrees, degrees.zip(self.limits.temperature_max).is_some_and(|(degrees, most)| degrees > most))
    }

    /// Takes away what is kept of models that are not among these files any more. The next load of one makes it again.
    pub fn sweep(&self, models: &[PathBuf]) {
        let Some(folder) = &self.weights else { return };
        let kept = if self.limits.weights == Weights::Mapped { models } else { &[] };
        match packed::sweep(folder, kept) {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "packed weights that no model has any more are removed"),
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "packed weights are not looked through"),
        }
    }

    fn open(&self, model: &Gguf) -> Result<Unloaded, Error> {
        let weights = self.weights.clone().filter(|_| self.limits.weights == Weights::Mapped);
        let compute = Compute { cache: model.cache, weights, ..Compute::default() };
        let writer = Arc::clone(&self.writer);
        let unloaded = generate::open_gguf(&model.file, compute).map_err(Error::Load)?;
        Ok(unloaded.written_by(Arc::new(move |draft| writer.write(draft))))
    }

    /// What a plan is asked for: a load beside what is loaded, the longest unused first.
    fn asked(&self, name: &str, unloaded: &Unloaded, bounds: Vec<Bound>, loaded: &BTreeMap<String, Resident>) -> Ask {
        let mut order: Vec<_> = loaded.iter().collect();
        order.sort_by_key(|(_, resident)| resident.used);
        let told = |(name, resident): (&String, &Resident)| Loaded {
            name: name.clone(),
            bytes: resident.bytes,
            is_busy: resident.is_busy(),
        };
        let loaded = order.into_iter().map(told).collect();
        let cache = self.cache_use(&bounds);
        Ask { name: name.to_owned(), needs: needs(unloaded), cache, bounds, loaded }
    }

    fn bounds(&self) -> Vec<Bound> {
        let rest = QUEUES + (self.beside.index)();
        let mapped = self.lock().values().map(|resident| resident.mapped).sum();
        let mut bounds: Vec<_> = self.machine.bounds(mapped).into_iter().map(|bound| Bound { rest, ..bound }).collect();
        if let Some(Bytes(total)) = self.limits.memory {
            let loaded: u64 = self.lock().values().map(|resident| resident.bytes).sum();
            // It is for models alone: the rest of the node has no part in it.
            let free = total.saturating_sub(loaded + (self.beside.models)() + self.room.used());
            bounds.push(Bound { limit: Limit::Configured, total, free, rest: 0 });
        }
        bounds
    }

    fn cache_use(&self, bounds: &[Bound]) -> CacheUse {
        let share = || bounds.iter().map(|bound| bound.total / CACHE_SHARE).min().unwrap_or(CACHE_MAX).min(CACHE_MAX);
        let wanted = self.limits.keys_and_values.map_or_else(share, |Bytes(bytes)| bytes);
        CacheUse { wanted, used: self.room.used(), claimed: self.room.claimed() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Resident>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a model needs at least.
pub(super) fn needs(unloaded: &Unloaded) -> Needs {
    let generate::Needs { weights, work, token, context } = unloaded.needs();
    Needs { weights, work, cache: token * context.min(TOKENS_LEAST) as u64 }
}
