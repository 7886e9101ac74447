//! `edge-agent write-prompts`: the process in which the agent runs the chat templates of model files, within limits. A draft comes on each
//! line, and what came of it goes back on one. Not for people.

use std::{
    io::{BufRead as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use models::generate::Draft;

use super::{Failure, confined};
use crate::inference::writer::{MEMORY_BYTES_MAX, READY, SECONDS_MAX, Written};

pub(super) fn run() -> Result<ExitCode, Failure> {
    confined::memory(MEMORY_BYTES_MAX).context("cannot limit the memory")?;
    let (mut input, mut out) = (std::io::stdin().lock(), std::io::stdout().lock());
    writeln!(out, "{READY}").and_then(|()| out.flush()).context("nobody waits for prompts")?;
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).context("cannot read a draft")? > 0 {
        confined::seconds(SECONDS_MAX).context("cannot limit the time")?;
        let draft: Draft = serde_json::from_slice(&line).context("a draft cannot be read")?;
        let written = Written::from(draft.write());
        serde_json::to_writer(&mut out, &written).context("cannot hand a prompt over")?;
        writeln!(out).and_then(|()| out.flush()).context("nobody takes the prompt")?;
        line.clear();
    }
    Ok(ExitCode::SUCCESS)
}
