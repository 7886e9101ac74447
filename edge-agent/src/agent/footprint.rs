//! What only the start needed is given back: two thirds of the program's resident memory are pages of its own code, most
//! of which a node that runs does not touch again for hours.

use std::{fs, io, ops::Range, time::Duration};

use tokio_util::sync::CancellationToken;

/// When a start is over: the bundle is in force, its documents are indexed, the feeds have begun.
const SETTLED: Duration = Duration::from_secs(10);

/// Gives back the start's pages once it is over. What is touched again comes back from the page cache.
pub(super) async fn settle(stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = tokio::time::sleep(SETTLED) => {}
    }
    if let Err(error) = tokio::task::spawn_blocking(give_back).await.map_err(io::Error::other).flatten() {
        tracing::debug!(%error, "the pages of the start stay");
    }
}

fn give_back() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for range in maps.lines().filter_map(|line| code_of(line, program.to_str()?)) {
        // SAFETY: the range is a mapping of this process, private, of a file, and was never writable: dropped pages are read
        // again from the file with the same bytes. The file cannot change under a running program (ETXTBSY).
        let done = unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(range.start), range.len(), libc::MADV_DONTNEED)
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The addresses of a line of `/proc/self/maps` (proc_pid_maps(5)), if it is code of this program and nothing that could be
/// written to.
fn code_of(line: &str, program: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    if rights != "r-xp" || fields.nth(3)? != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_is_given_back() {
        fn of(line: &str) -> Option<Range<usize>> {
            code_of(line, "/usr/bin/edge-agent")
        }
        let code = "55d0c8e00000-55d0cae57000 r-xp 00e1c000 fe:00 13634458                   /usr/bin/edge-agent";
        assert_eq!(of(code), Some(0x55d0_c8e0_0000..0x55d0_cae5_7000));
        assert_eq!(of(&code.replace("r-xp", "rwxp")), None, "what was written is in no file");
        assert_eq!(of(&code.replace("r-xp", "r--p")), None, "relocations are written before they are protected");
        assert_eq!(of(&code.replace("edge-agent", "other")), None);
        assert_eq!(of("7ffc6b5f2000-7ffc6b5f4000 r-xp 00000000 00:00 0                          [vdso]"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn a_program_goes_on_after_its_code_was_given_back() {
        give_back().expect("its own mappings are known");
        let sum: u64 = (0..1_000_u64).map(|n| n.wrapping_mul(n)).sum();
        assert_eq!(sum, 332_833_500);
    }
}
