//! How much memory the processes of one session hold together. The kernel's limits are of each process alone.

use std::fs;

/// Bytes that the processes of this session hold and no file has: what several share counts once. Where the kernel does not
/// tell that (another user's processes, seen without rights), what is shared counts for each.
pub(super) fn of_session(leader: u32) -> u64 {
    let Ok(all) = fs::read_dir("/proc") else { return 0 };
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| session_of(*pid) == Some(leader)).filter_map(held).sum()
}

/// `proc_pid_stat(5)`: after the name in brackets come state, parent, group and session.
fn session_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(3)?.parse().ok()
}

fn held(pid: u32) -> Option<u64> {
    let of = |file: &str, names: [&str; 2]| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        Some(names.iter().filter_map(|name| kilobytes(&text, name)).sum::<u64>() << 10)
    };
    of("smaps_rollup", ["Pss_Anon:", "Pss_Shmem:"]).or_else(|| of("status", ["RssAnon:", "RssShmem:"]))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}
