//! The threads that compute: as many as the processor is to be used by, each taking the next piece of a job until none is left.
//! A thread without work looks for more for a moment before it sleeps, because the next product follows within microseconds.

use std::{
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
    thread::JoinHandle,
};

/// How often a thread looks for work before it sleeps: some 50 microseconds, about what waking it costs.
const LOOKS: usize = 1 << 11;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// Threads that work on one job at a time, together with the caller.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The job. Written only while `left` and `running` are 0, read only by who holds one of its pieces.
    job: UnsafeCell<Option<Job>>,
    /// Pieces that nobody has taken.
    left: AtomicUsize,
    /// Pieces that are not done.
    running: AtomicUsize,
    panicked: AtomicBool,
    stops: AtomicBool,
    asleep: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

#[derive(Clone, Copy)]
struct Job {
    task: *const Task<'static>,
    count: usize,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. `run` writes it while no piece is left or running, and publishes it
// with the release store of `left`; a thread reads it after it took a piece with an acquire, and until that piece is done
// `run` neither returns nor writes.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is to a `Sync` closure.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool that computes on so many threads, the caller's among them.
    pub(crate) fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            left: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let start = |at: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("model {at}")).spawn(move || shared.work()).ok()
        };
        // A machine that gives no more threads computes on those that there are.
        let workers = (1..threads).map_while(start).collect();
        Self { shared, workers }
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls the task once for each number below `count`, on all threads, and returns when all calls have.
    ///
    /// # Panics
    /// When a call panicked.
    pub(crate) fn run(&mut self, count: usize, task: &Task<'_>) {
        if self.workers.is_empty() || count <= 1 {
            (0..count).for_each(task);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime is changed. The pointer is followed only by who holds a piece, and this function does not
        // return before every piece is done.
        let task = unsafe { std::mem::transmute::<*const Task<'_>, *const Task<'static>>(task) };
        // SAFETY: `&mut self` and the wait below: no piece of an earlier job is left or running.
        unsafe { *shared.job.get() = Some(Job { task, count }) };
        shared.running.store(count, Ordering::Relaxed);
        shared.left.store(count, Ordering::Release);
        // Whoever goes to sleep says so first and then looks at `left` again; one of the two sees the other.
        fence(Ordering::SeqCst);
        if shared.asleep.load(Ordering::Relaxed) > 0 {
            let _lock = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        while shared.take() {}
        let mut looks = 0;
        while shared.running.load(Ordering::Acquire) > 0 {
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a piece of a computation panicked");
    }

    /// Calls the task with each piece of `to` of `len` items and the piece's number.
    pub(crate) fn pieces<T: Send>(&mut self, to: &mut [T], len: usize, task: impl Fn(usize, &mut [T]) + Sync) {
        let (count, total) = (to.len().div_ceil(len), to.len());
        let start = Start(to.as_mut_ptr());
        self.run(count, &|at| {
            let from = at * len;
            // SAFETY: `run` calls once for each number, so no two pieces overlap; `to` is borrowed until all calls returned.
            let piece = unsafe { std::slice::from_raw_parts_mut(start.item(from), len.min(total - from)) };
            task(at, piece);
        });
    }
}

struct Start<T>(*mut T);

// SAFETY: it is used for pieces that do not overlap, each by one thread.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    fn item(&self, at: usize) -> *mut T {
        self.0.wrapping_add(at)
    }
}

impl Shared {
    /// Takes a piece and does it; `false` when none is left.
    fn take(&self) -> bool {
        let taken = self.left.fetch_update(Ordering::Acquire, Ordering::Relaxed, |left| left.checked_sub(1));
        let Ok(left) = taken else { return false };
        // SAFETY: a piece is held, so the job stands (see `Sync`).
        let job = unsafe { *self.job.get() };
        if let Some(Job { task, count }) = job {
            // SAFETY: the closure outlives the pieces of its job.
            let task = unsafe { &*task };
            if catch_unwind(AssertUnwindSafe(|| task(count - left))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
        self.running.fetch_sub(1, Ordering::Release);
        true
    }

    fn work(&self) {
        let mut looks = 0;
        while !self.stops.load(Ordering::Relaxed) {
            if self.take() {
                looks = 0;
            } else if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                self.sleep();
                looks = 0;
            }
        }
    }

    fn sleep(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while self.left.load(Ordering::Relaxed) == 0 && !self.stops.load(Ordering::Relaxed) {
            lock = self.wake.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches what its task throws; its own loop has nothing that could.
            drop(worker.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_whatever_the_threads() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for len in (0..3000).step_by(7) {
                let mut items = vec![0; len];
                pool.pieces(&mut items, 5, |at, piece| {
                    for (offset, item) in piece.iter_mut().enumerate() {
                        *item += 5 * at + offset + 1;
                    }
                });
                assert!(items.iter().enumerate().all(|(at, item)| *item == at + 1), "{threads} threads, {len} items");
            }
        }
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(3);
        for round in 0..50 {
            let done = catch_unwind(AssertUnwindSafe(|| pool.run(20, &|at| assert!(at != round % 20, "as planned"))));
            assert!(done.is_err());
            let sum = AtomicUsize::new(0);
            pool.run(20, &|at| {
                sum.fetch_add(at, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 190);
        }
    }
}
