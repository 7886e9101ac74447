//! The text of a document, whatever it is written in. What may take much memory or time for its size is read by a process
//! of its own, with limits on both: a document that was made to break a reader breaks that process alone.

use std::{
    io::{Read as _, Write as _},
    process::{Command, ExitStatus, Stdio},
};

use reader::Form;

/// What the process may take: its addresses (less where the machine has little free), and the time of its processor.
pub const MEMORY_BYTES_MAX: u64 = 768 << 20;
pub const SECONDS_MAX: u64 = 30;
/// What stands before what the process has to say, behind whatever a library printed.
pub const MARK: &str = "\u{1}skerry\u{1}\n";
/// The command of the agent's own program that reads one document.
pub const COMMAND: &str = "read-document";

/// The document as Markdown, or as it is where it is plain text; `path` tells by its ending what it is written in.
///
/// # Errors
/// Why it cannot be read, for people.
pub fn text(path: &str, content: Vec<u8>) -> Result<String, String> {
    let form = form(path);
    if form.is_risky() { apart(form, content) } else { reader::markdown(form, &content).map_err(|e| e.to_string()) }
}

/// What a document is written in; a text that workflows keep, whose name has no ending, in Markdown.
pub(super) fn form(path: &str) -> Form {
    Form::of(path).unwrap_or(Form::Markdown)
}

/// The program is a test, and has no such command.
#[cfg(test)]
fn apart(form: Form, content: Vec<u8>) -> Result<String, String> {
    let read = std::panic::catch_unwind(|| reader::markdown(form, &content).map_err(|error| error.to_string()));
    read.unwrap_or_else(|_| Err("the reader gave it up".to_owned()))
}

#[cfg(not(test))]
fn apart(form: Form, content: Vec<u8>) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    ask(&mut Command::new(program), form, content)
}

/// Gives the document to a process of this program, and takes what it says.
#[cfg_attr(test, allow(dead_code, reason = "tests read in their own process"))]
fn ask(program: &mut Command, form: Form, content: Vec<u8>) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("the process that reads it cannot be started: {error}");
    // The allocator's reserve counts towards the limit; what it reserved before the limit held would not.
    program.env_clear().env("MIMALLOC_ARENA_RESERVE", "32MiB");
    program.args([COMMAND, form.name()]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = program.spawn().map_err(failed)?;
    let mut input = child.stdin.take().expect("it is piped");
    // A process that ends early does not read to the end.
    let giving = std::thread::spawn(move || drop(input.write_all(&content)));
    let mut said = Vec::new();
    let most = reader::TEXT_BYTES_MAX as u64 + (1 << 20);
    let read = child.stdout.take().expect("it is piped").take(most).read_to_end(&mut said);
    // It may still want to say more than anybody reads.
    drop(child.kill());
    let status = child.wait().map_err(failed)?;
    drop(giving.join());
    read.map_err(failed)?;
    let said = String::from_utf8_lossy(&said);
    match said.rsplit_once(MARK) {
        Some((_, said)) => match said.split_once('\n') {
            Some(("text", text)) => Ok(text.to_owned()),
            Some((_, why)) => Err(why.to_owned()),
            None => Err(gave_up(status)),
        },
        None => Err(gave_up(status)),
    }
}

fn gave_up(status: ExitStatus) -> String {
    format!(
        "the process that read it gave up ({status}); a document may take {SECONDS_MAX} seconds and {} MB at most",
        MEMORY_BYTES_MAX >> 20
    )
}
