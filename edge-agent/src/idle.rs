//! Work for which there is time, behind all else that the machine does.

use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Has work done on a thread of its own, at the lowest priority that there is without rights. Not for what holds a lock that somebody waits
/// for: on a busy machine it takes long.
///
/// # Errors
/// When no thread can be started.
pub fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    builder().spawn(|| at_lowest_priority(work)).map(drop)
}

/// The same, for as long as a scope.
///
/// # Errors
/// When no thread can be started.
pub fn spawn_scoped<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> std::io::Result<ScopedJoinHandle<'s, T>> {
    builder().spawn_scoped(scope, || at_lowest_priority(work))
}

fn builder() -> Builder {
    Builder::new().name("idle time".to_owned())
}

fn at_lowest_priority<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: it takes no pointer. Of process 0 Linux means the calling thread alone, and whoever may run may be nicer; else it runs as it did.
    unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, 19) };
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_itself_is_put_behind() {
        // SAFETY: it takes no pointer.
        let own = || unsafe { libc::getpriority(libc::PRIO_PROCESS as _, 0) };
        let before = own();
        let there = std::thread::scope(|scope| spawn_scoped(scope, own).expect("a thread").join().expect("no panic"));
        assert_eq!((there, own()), (19, before));
    }

    #[test]
    fn the_unit_lets_the_agent_set_its_priority() {
        let unit = include_str!("../../cross/skerry-edge-agent.service");
        let filters: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
        // The last that names a call holds; `setpriority` is one of `@resources`.
        assert_eq!(filters, ["@system-service", "~@privileged @resources", "setpriority"]);
    }
}
