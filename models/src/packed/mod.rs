//! Packed weights of chat models as files: packed once, and mapped by every load after. A mapped file is loaded as fast as it is checked,
//! takes memory that the kernel can let go and that processes share, and costs its size once more on the disk.
//!
//! A file is written beside its place, renamed to it when it is whole, and never changed afterwards. Whoever opens it checks every
//! byte, so nobody waits for the disk when it is written: what a crash left is no worse than what is missing. One that does
//! not fit is made anew, and where none can be made the weights are packed into memory.

mod part;
mod seal;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use memmap2::{Advice, Mmap, MmapOptions};
use part::Part;
use seal::Seal;
use sha2::{Digest as _, Sha256};
use shared::digest::Digest;

use crate::{
    Error,
    gguf::Gguf,
    pool::Pool,
    product::{Plan, Weights},
};

/// Weights are written and checked in pieces of so many bytes, each by one thread: a kernel that gives files large pages gives them to
/// writes that are as large as one and begin where one does.
const PIECE: usize = 2 << 20;

const PACKED: &str = "packed";

/// The file in a folder that keeps the packed weights of a model's file.
#[must_use]
pub fn file_of(folder: &Path, model: &Path) -> PathBuf {
    let model = model.canonicalize().or_else(|_| std::path::absolute(model)).unwrap_or_else(|_| model.to_owned());
    let digest = hex::encode(&Digest::of(model.as_os_str().as_encoded_bytes()).as_bytes()[..8]);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = model.file_stem().unwrap_or_default().to_string_lossy().chars().map(plain).take(64).collect();
    folder.join(format!("{name}-{digest}.{PACKED}"))
}

/// Removes from a folder what is kept of other models than these, and what others began and did not end. The bytes that are free now.
///
/// # Errors
/// When the folder cannot be read.
pub fn sweep(folder: &Path, models: &[PathBuf]) -> io::Result<u64> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let kept: Vec<_> = models.iter().map(|model| file_of(folder, model)).collect();
    let mut bytes = 0;
    for entry in entries {
        let path = entry?.path();
        let is_doomed = match path.extension().and_then(OsStr::to_str) {
            Some(PACKED) => !kept.contains(&path),
            Some(part::EXTENSION) => part::is_left(&path),
            _ => false,
        };
        let len = std::fs::symlink_metadata(&path).map_or(0, |found| found.len());
        // Whoever has it mapped keeps it until it is unloaded.
        if is_doomed && std::fs::remove_file(&path).is_ok() {
            bytes += len;
        }
    }
    Ok(bytes)
}

/// The packed weights of a model's file: mapped from the folder, where they are made if need be, else in memory.
pub(crate) fn weights(folder: &Path, model: &Gguf, plan: &Plan, pool: &mut Pool) -> Result<Weights, Error> {
    let path = file_of(folder, model.path());
    match kept(&path, model, plan, pool) {
        Ok(memory) => Ok(Weights::mapped(memory)),
        Err(error) => {
            let why = error_text(&error);
            tracing::warn!(file = %path.display(), why, "packed weights cannot be kept as a file: they go into memory");
            plan.load(pool)
        }
    }
}

fn kept(path: &Path, model: &Gguf, plan: &Plan, pool: &mut Pool) -> Result<Mmap, Error> {
    let seal = Seal { source: source(model, plan)?, len: plan.len() };
    match open(path, &seal, pool) {
        Ok(memory) => return Ok(memory),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::info!(why = error_text(&error), "packed weights are made anew"),
    }
    let memory = make(path, &seal, plan, pool, || Ok(source(model, plan)? == seal.source))?;
    tracing::info!(file = %path.display(), bytes = memory.len(), "packed weights are kept");
    Ok(memory)
}

/// What weights are packed from, and how: the file by its size, its times and all that stands before its tensors, and the plan. The
/// time of the last change of any sort (`ctime`) cannot be set back.
fn source(model: &Gguf, plan: &Plan) -> Result<Digest, Error> {
    let io = |source| Error::io("read", model.path(), source);
    let found = model.file().metadata().map_err(io)?;
    let (modified, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    let mut hasher = Sha256::new();
    hasher.update(format!("{} {modified:?} {changed:?}\n{}", found.len(), plan.recipe()));
    let (mut at, mut buffer) = (0, vec![0; 1 << 16]);
    while at < model.header_len() {
        let now = buffer.len().min(usize::try_from(model.header_len() - at).unwrap_or(usize::MAX));
        model.file().read_exact_at(&mut buffer[..now], at).map_err(io)?;
        hasher.update(&buffer[..now]);
        at += now as u64;
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// Maps a file that is as it was written, of the same source.
fn open(path: &Path, seal: &Seal, pool: &mut Pool) -> Result<Mmap, Error> {
    let io = |source| Error::io("read", path, source);
    let wrong = |message: String| Error::file(path, message);
    let file = File::open(path).map_err(io)?;
    let (found, expected) = (file.metadata().map_err(io)?.len(), seal.file_len());
    if found != expected {
        return Err(wrong(format!("{found} bytes: expected {expected}")));
    }
    let mut bytes = vec![0; seal.bytes()];
    file.read_exact_at(&mut bytes, seal.len as u64).map_err(io)?;
    let checks = seal.checks(&bytes).map_err(|message| wrong(message.to_owned()))?;
    let memory = map(&file, seal.len).map_err(io)?;
    let damaged = AtomicUsize::new(usize::MAX);
    pool.run(checks.len(), &|at| {
        let piece = at * PIECE..memory.len().min((at + 1) * PIECE);
        // All of it at once, and a disk that does not give it, or a file that was cut off meanwhile, is an error that no reading
        // would come back from. A kernel without this brings it page by page.
        let brought = memory.advise_range(Advice::PopulateRead, piece.start, piece.len());
        let is_lost = brought.is_err_and(|error| error.raw_os_error() == Some(rustix::io::Errno::FAULT.raw_os_error()));
        if is_lost || crc32fast::hash(&memory[piece]) != checks[at] {
            damaged.fetch_min(at, Ordering::Relaxed);
        }
    });
    match damaged.into_inner() {
        usize::MAX => Ok(memory),
        at => Err(wrong(format!("damaged after {} bytes", at * PIECE))),
    }
}

/// Packs the weights into a new file that takes the place of what is there, if their source is still what it was.
fn make(
    path: &Path,
    seal: &Seal,
    plan: &Plan,
    pool: &mut Pool,
    is_same: impl FnOnce() -> Result<bool, Error>,
) -> Result<Mmap, Error> {
    let io = |source| Error::io("write", path, source);
    let part = Part::begin(path).map_err(io)?;
    part.claim(seal.file_len()).map_err(io)?;
    let mut checks = vec![0; seal.len.div_ceil(PIECE)];
    let (buffers, failed) = (Mutex::new(Vec::new()), Mutex::new(None));
    pool.pieces(&mut checks, 1, |at, check| {
        let lent = || buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer: Vec<u8> = lent().pop().unwrap_or_default();
        let from = at * PIECE;
        buffer.clear();
        buffer.resize(PIECE.min(seal.len - from), 0);
        let wrote =
            plan.fill(from, &mut buffer).and_then(|()| part.file.write_all_at(&buffer, from as u64).map_err(io));
        check.fill(crc32fast::hash(&buffer));
        lent().push(buffer);
        if let Err(error) = wrote {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    part.file.write_all_at(&seal.to_bytes(&checks), seal.len as u64).map_err(io)?;
    if !is_same()? {
        return Err(Error::file(path, "the model's file changed while it was packed"));
    }
    let memory = map(&part.file, seal.len).map_err(io)?;
    part.place(path).map_err(io)?;
    Ok(memory)
}

/// Maps so many bytes from the beginning, on large pages where the kernel has them for files.
fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // SAFETY: the file has so many bytes, and nobody changes or shortens one of its name: it is made under another, renamed, and
    // replaced or removed as a whole. The folder is the agent's own.
    let memory = unsafe { MmapOptions::new().len(len).map(file)? };
    // A kernel without them goes without.
    drop(memory.advise(Advice::HugePage));
    Ok(memory)
}

/// An error with what it rests on.
fn error_text(error: &Error) -> String {
    match error {
        Error::Io { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}
