//! Limits of a process that does what others wrote: it may break, and breaks alone.

use std::io;

use crate::inference::Machine;

/// What the program has of addresses before it does anything: its code, its data, the allocator's reserve.
const PROGRAM_BYTES: u64 = 160 << 20;

/// Limits the memory of this process to so many bytes, less where the machine has little free, and leaves nothing where it crashes.
///
/// # Errors
/// When the kernel does not take a limit.
pub(super) fn memory(most: u64) -> io::Result<()> {
    let free = Machine::this().bounds(0).iter().map(|bound| bound.free).min();
    limit(libc::RLIMIT_AS, addresses(most, free))?;
    // Should the machine come to its end all the same, this process goes and not the agent. Where the kernel does not take it, the limit stays.
    let _is_taken = std::fs::write("/proc/self/oom_score_adj", "1000");
    limit(libc::RLIMIT_CORE, 0)
}

/// Limits the processor's time of this process to so many seconds from now on.
///
/// # Errors
/// When the kernel does not take the limit.
pub(super) fn seconds(more: u64) -> io::Result<()> {
    // SAFETY: all bytes of `rusage` may be zero, and the call writes to it alone.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        match libc::getrusage(libc::RUSAGE_SELF, &raw mut used) {
            0 => used.ru_utime.tv_sec + used.ru_stime.tv_sec,
            _ => return Err(io::Error::last_os_error()),
        }
    };
    let most = u64::try_from(used).unwrap_or(0) + more;
    set(libc::RLIMIT_CPU, libc::rlimit { rlim_cur: most, rlim_max: libc::RLIM_INFINITY })
}

/// Bytes of addresses that the process may have: of the memory that the machine and the groups of the agent have free, half at most.
fn addresses(most: u64, free: Option<u64>) -> u64 {
    free.map_or(most, |free| most.min(PROGRAM_BYTES + free / 2))
}

#[cfg(target_env = "musl")]
type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    set(resource, libc::rlimit { rlim_cur: most, rlim_max: most })
}

/// Sets a limit of this process.
fn set(resource: Resource, limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: the call reads `limit` alone, which lives until it is back.
    match unsafe { libc::setrlimit(resource, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_gives_a_reader_half_of_what_it_has_free() {
        assert_eq!(addresses(768 << 20, None), 768 << 20);
        assert_eq!(addresses(768 << 20, Some(8 << 30)), 768 << 20);
        assert_eq!(addresses(768 << 20, Some(200 << 20)), 260 << 20);
    }
}
