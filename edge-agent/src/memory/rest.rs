//! When what idle time is for is done: while nobody searches, embeds or has an answer written, and nobody did just before. It is put off so
//! for a bounded time, and what it computes is computed at the lowest priority.

use std::{
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use super::locks::lock;
use crate::idle;

/// Who asks goes on to ask: an answer follows a search, and the next question an answer.
const QUIET: Duration = Duration::from_secs(2);
/// On a node that is never idle, work is put off so long. Meanwhile what is new is compared one by one, and what was removed stays on the
/// disk.
const PUT_OFF_MAX: Duration = Duration::from_secs(600);
/// Vectors that are not merged yet when work is put off no longer: comparing them begins to cost more than the merge.
const UNMERGED_MAX: usize = 20_000;

/// Whether others are at work whom the memory does not see.
pub type AreBusy = Box<dyn Fn() -> bool + Send + Sync>;

/// Who uses the machine for somebody who waits.
#[derive(Default)]
pub(super) struct Rest {
    uses: Mutex<Uses>,
    others: OnceLock<AreBusy>,
}

#[derive(Default)]
struct Uses {
    now: usize,
    last: Option<Instant>,
    put_off: Option<Instant>,
}

/// A use that is under way until it is dropped.
pub(super) struct Use<'r>(&'r Rest);

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let mut uses = lock(&self.0.uses);
        uses.now -= 1;
        uses.last = Some(Instant::now());
    }
}

impl Rest {
    pub fn r#use(&self) -> Use<'_> {
        lock(&self.uses).now += 1;
        Use(self)
    }

    /// Has it look at others too. Whoever says so first is heard.
    pub fn beside(&self, others: AreBusy) {
        // Said once, where the agent is put together.
        let _ = self.others.set(others);
    }

    /// For how long work is to wait before it asks again; `None` when it may go on. `unmerged` vectors wait for it.
    pub fn pause(&self, now: Instant, unmerged: impl FnOnce() -> usize) -> Option<Duration> {
        let are_busy = self.others.get().is_some_and(|are_busy| are_busy());
        let mut uses = lock(&self.uses);
        if are_busy || uses.now > 0 {
            uses.last = Some(now);
        }
        let left = QUIET.saturating_sub(now.saturating_duration_since(uses.last?));
        if left.is_zero() {
            return None;
        }
        let since = *uses.put_off.get_or_insert(now);
        drop(uses);
        let waits = now.saturating_duration_since(since) < PUT_OFF_MAX && unmerged() < UNMERGED_MAX;
        waits.then_some(left)
    }

    /// Nothing is left to do: what comes next may be put off anew.
    pub fn done(&self) {
        lock(&self.uses).put_off = None;
    }
}

/// Has work done at the lowest priority, and waits for it.
///
/// # Errors
/// When no thread can be started.
pub(super) fn lowest<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = idle::spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn work_waits_until_nobody_uses_the_machine_and_a_moment_longer() {
        let (rest, start) = (Rest::default(), Instant::now());
        assert_eq!(rest.pause(start, || 0), None, "nobody came yet");
        let search = rest.r#use();
        assert_eq!(rest.pause(start, || 0), Some(QUIET));
        assert_eq!(rest.pause(start + MINUTE, || 0), Some(QUIET));
        drop(search);
        let end = Instant::now();
        assert!(rest.pause(end, || 0).is_some_and(|pause| pause <= QUIET));
        assert_eq!(rest.pause(end + QUIET, || 0), None);
    }

    #[test]
    fn an_answer_that_is_written_is_waited_for_too() {
        let (rest, start) = (Rest::default(), Instant::now());
        let (telling, writes) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true)), start);
        let told = std::sync::Arc::clone(&telling);
        rest.beside(Box::new(move || told.load(std::sync::atomic::Ordering::Relaxed)));
        assert_eq!(rest.pause(writes, || 0), Some(QUIET));
        telling.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(rest.pause(start + QUIET / 2, || 0), Some(QUIET / 2));
        assert_eq!(rest.pause(start + QUIET, || 0), None);
    }

    #[test]
    fn on_a_node_that_is_never_idle_work_is_put_off_for_a_time_only_and_then_done_to_its_end() {
        let (rest, start) = (Rest::default(), Instant::now());
        let _search = rest.r#use();
        assert!(rest.pause(start, || 0).is_some());
        assert_eq!(rest.pause(start + MINUTE, || UNMERGED_MAX), None, "too much has come");
        assert!(rest.pause(start + 9 * MINUTE, || 0).is_some());
        assert_eq!(rest.pause(start + 10 * MINUTE, || 0), None);
        assert_eq!(rest.pause(start + 11 * MINUTE, || 0), None, "it is not done yet");
        rest.done();
        assert!(rest.pause(start + 12 * MINUTE, || 0).is_some());
    }

    #[test]
    fn what_idle_time_is_for_has_the_lowest_priority_and_its_caller_keeps_his() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("the kernel tells");
            let mut fields = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace();
            // The 19th field, the first after the name being the third.
            fields.nth(16).expect("a priority").parse::<i32>().expect("a number")
        };
        let before = nice();
        assert_eq!(lowest(nice).expect("a thread"), 19);
        assert_eq!(nice(), before);
    }
}
