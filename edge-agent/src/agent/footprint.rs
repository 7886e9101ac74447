//! What only the start needed is given back: two thirds of the program's resident memory are pages of its own file, most
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
    let maps = fs::read_to_string("/proc/self/smaps")?;
    for range in unwritten(&maps, program.to_str().unwrap_or_default()) {
        // SAFETY: the range is a mapping of this process, private, of a file, not writable, and no page of it was ever written:
        // dropped pages are read again from the file with the same bytes. The file cannot change under a running program (ETXTBSY).
        let done = unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(range.start), range.len(), libc::MADV_DONTNEED)
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The addresses of the program's code and constants in `/proc/self/smaps` (proc_pid_smaps(5)). Relocations are written before they are
/// protected: a mapping with such pages, which the kernel counts as anonymous or in swap, is none of them.
fn unwritten(maps: &str, program: &str) -> Vec<Range<usize>> {
    let mut found: Vec<(Range<usize>, [bool; 2])> = Vec::new();
    let mut is_ours = false;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (fields.next(), fields.next()) else { continue };
        if let Some(name) = first.strip_suffix(':') {
            let counts = ["Anonymous", "Swap"].iter().position(|count| *count == name);
            if let (true, Some(at), Some((_, none))) = (is_ours, counts, found.last_mut()) {
                none[at] = second == "0";
            }
            continue;
        }
        is_ours = false;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let range = first.split_once('-').and_then(|(start, end)| Some(address(start)?..address(end)?));
        if let Some(range) = range
            && matches!(second, "r-xp" | "r--p")
            && fields.nth(3) == Some(program)
        {
            is_ours = true;
            found.push((range, [false; 2]));
        }
    }
    found.into_iter().filter_map(|(range, none)| (none == [true; 2]).then_some(range)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_is_given_back() {
        let mapping = |rights: &str, name: &str, anonymous: u32, swap: u32| {
            format!(
                "55d0c8e00000-55d0cae57000 {rights} 00e1c000 fe:00 13634458                   {name}\nSize:  33116 kB\nAnonymous:  \
                 {anonymous} kB\nSwap:  {swap} kB\nVmFlags: rd ex mr mw me\n"
            )
        };
        let of = |maps: &str| unwritten(maps, "/usr/bin/edge-agent");
        let range = 0x55d0_c8e0_0000..0x55d0_cae5_7000;
        let ours = |rights| mapping(rights, "/usr/bin/edge-agent", 0, 0);
        assert_eq!(of(&ours("r-xp")), std::slice::from_ref(&range), "code");
        assert_eq!(of(&(ours("r--p") + &mapping("rw-p", "", 8, 0))), [range], "constants");
        for none in [
            ours("rwxp"),
            ours("rw-p"),
            mapping("r--p", "/usr/bin/edge-agent", 4, 0),
            mapping("r--p", "/usr/bin/edge-agent", 0, 4),
            mapping("r-xp", "/usr/lib/other", 0, 0),
            mapping("r-xp", "[vdso]", 0, 0),
            "55d0c8e00000-55d0cae57000 r-xp 00e1c000 fe:00 13634458 /usr/bin/edge-agent\n".to_owned(),
            String::new(),
        ] {
            assert!(of(&none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_program_goes_on_after_its_code_was_given_back() {
        give_back().expect("its own mappings are known");
        let sum: u64 = (0..1_000_u64).map(|n| n.wrapping_mul(n)).sum();
        assert_eq!(sum, 332_833_500);
    }
}
