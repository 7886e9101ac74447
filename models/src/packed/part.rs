//! A file that is being made, beside its place. It is new, locked by who makes it, and gone when it is given up.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::Errno,
};

pub(super) const EXTENSION: &str = "part";

/// What stays free on the disk, at least: a tenth of it, within these bounds. The node's journal needs room, and waits when there is none.
const LEFT_MIN: u64 = 512 << 20;
const LEFT_MAX: u64 = 4 << 30;

/// A file that is being made.
pub(super) struct Part {
    pub(super) file: File,
    path: PathBuf,
}

impl Part {
    /// Begins a file that is to take this place. Its folder is made, the one that this is in is not.
    pub(super) fn begin(place: &Path) -> io::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        match place.parent().map(|folder| DirBuilder::new().mode(0o700).create(folder)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // No other process and no other call has this name, so nobody writes into what somebody else has mapped.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = place.with_extension(format!("{}-{count}.{EXTENSION}", std::process::id()));
        let file = match open_new(&path) {
            // A process of the same number, before a restart of the machine.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_left(&path) => {
                std::fs::remove_file(&path)?;
                open_new(&path)?
            }
            opened => opened?,
        };
        let part = Self { file, path };
        part.file.try_lock()?;
        Ok(part)
    }

    /// Claims room for so many bytes, if enough stays free.
    pub(super) fn claim(&self, bytes: u64) -> io::Result<()> {
        let to_come = match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => 0,
            // A file system that gives room only when it is written to.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => bytes,
            Err(error) => return Err(error.into()),
        };
        let disk = fstatvfs(&self.file)?;
        let in_bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let left = in_bytes(disk.f_bavail).saturating_sub(to_come);
        let least = (in_bytes(disk.f_blocks) / 10).clamp(LEFT_MIN, LEFT_MAX);
        if left < least {
            let message = format!("the disk would have {} MB left: expected at least {}", left >> 20, least >> 20);
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        Ok(())
    }

    /// Puts it in its place.
    pub(super) fn place(self, place: &Path) -> io::Result<()> {
        // What the drop then removes is not there any more.
        std::fs::rename(&self.path, place)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is gone when it took its place.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Whether nobody makes this file any more.
pub(super) fn is_left(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}
