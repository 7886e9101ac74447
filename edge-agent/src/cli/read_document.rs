//! `edge-agent read-document FORM`: the process in which the agent reads a document of others, within limits. Not for people.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use reader::Form;

use super::{Failure, confined};
use crate::memory::reading::{MARK, MEMORY_BYTES_MAX, SECONDS_MAX};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    form: Form,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    confined::memory(MEMORY_BYTES_MAX).context("cannot limit the memory")?;
    confined::seconds(SECONDS_MAX).context("cannot limit the time")?;
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
