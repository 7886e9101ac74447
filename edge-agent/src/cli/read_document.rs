//! `edge-agent read-document FORM`: the process in which the agent reads a document of others, within limits. Not for people.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use reader::Form;

use super::Failure;
use crate::{
    inference::Machine,
    memory::reading::{MARK, MEMORY_BYTES_MAX, SECONDS_MAX},
};

/// What the program has of addresses before it reads anything: its code, its data, the allocator's reserve.
const PROGRAM_BYTES: u64 = 160 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    form: Form,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let free = Machine::this().bounds(0).iter().map(|bound| bound.free).min();
    limit(libc::RLIMIT_AS, addresses(free)).context("cannot limit the memory")?;
    // Should the machine come to its end all the same, this process goes and not the agent. Where the kernel does not take it, the limit stays.
    let _is_taken = std::fs::write("/proc/self/oom_score_adj", "1000");
    limit(libc::RLIMIT_CPU, SECONDS_MAX).context("cannot limit the time")?;
    limit(libc::RLIMIT_CORE, 0).context("cannot limit what a crash leaves")?;
    let mut content = Vec::new();
    std::io::stdin().read_to_end(&mut content).context("cannot read the document")?;
    let read = std::panic::catch_unwind(|| reader::markdown(args.form, &content));
    let (word, said) = match read {
        Ok(Ok(text)) => ("text", text),
        Ok(Err(error)) => ("error", error.to_string()),
        Err(_) => ("error", "its reader gave it up: it is damaged".to_owned()),
    };
    let mut out = std::io::stdout().lock();
    write!(out, "{MARK}{word}\n{said}").and_then(|()| out.flush()).context("nobody takes what was read")?;
    Ok(ExitCode::SUCCESS)
}

/// Bytes of addresses that the process may have: of the memory that the machine and the groups of the agent have free, half at most.
fn addresses(free: Option<u64>) -> u64 {
    free.map_or(MEMORY_BYTES_MAX, |free| MEMORY_BYTES_MAX.min(PROGRAM_BYTES + free / 2))
}

#[cfg(target_env = "musl")]
type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

/// Sets a limit of this process.
fn limit(resource: Resource, most: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the call reads `limit` alone, which lives until it is back.
    match unsafe { libc::setrlimit(resource, &limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_gives_a_reader_half_of_what_it_has_free() {
        assert_eq!(addresses(None), 768 << 20);
        assert_eq!(addresses(Some(8 << 30)), 768 << 20);
        assert_eq!(addresses(Some(200 << 20)), 260 << 20);
    }
}
