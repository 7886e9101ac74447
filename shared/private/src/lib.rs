//! Files that hold secrets, as the node and the control plane keep them alike: read only while nobody else may read them,
//! and written so that nobody else ever could. Knows nothing of what is in them.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// The largest file that is read. A key has a few KiB, a list of a thousand people with their hashes 300.
pub const LEN_MAX: u64 = 1 << 20;

/// Who made a file; this decides how closed it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The program itself, which made it for its own user alone.
    Own,
    /// The operator. Its group may read it, because that is how root hands a secret to a service (`root:skerry`, 0640), and
    /// how systemd and Kubernetes mount one; but the group may not write it.
    Given,
}

/// Why a file with a secret is not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} may be {what} by others than its owner (mode {mode:04o}): `{mend}`", path.display())]
    Open { path: PathBuf, mode: u32, what: &'static str, mend: String },
    #[error("{} has {len} bytes: expected a secret of at most {LEN_MAX}", path.display())]
    Large { path: PathBuf, len: u64 },
}

impl Error {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The text of a file that nobody else may read.
///
/// # Errors
/// When it cannot be read, is no text, is too large, or is open to more people than `origin` allows.
pub fn read(path: &Path, origin: Origin) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file: what is judged is what is read.
    judge(path, &file.metadata().map_err(failed)?, origin)?;
    let mut text = String::new();
    file.take(LEN_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Whether `read` would take the file, as far as its mode and size say; needs no right to read it.
///
/// # Errors
/// As for `read`.
pub fn look(path: &Path, origin: Origin) -> Result<(), Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    judge(path, &metadata, origin)
}

fn judge(path: &Path, metadata: &Metadata, origin: Origin) -> Result<(), Error> {
    let mode = mode(metadata);
    // A pipe or a terminal has no readers but the two at its ends.
    if metadata.is_file() && mode & forbidden(origin) != 0 {
        let what = if mode & forbidden(origin) & 0o044 != 0 { "read" } else { "changed" };
        let mend = format!("chmod {} {}", wanted(mode, origin), quoted(path));
        return Err(Error::Open { path: path.to_owned(), mode, what, mend });
    }
    if metadata.len() > LEN_MAX {
        return Err(Error::Large { path: path.to_owned(), len: metadata.len() });
    }
    Ok(())
}

/// The permissions that a file must not have. To execute a secret harms nobody.
const fn forbidden(origin: Origin) -> u32 {
    match origin {
        Origin::Own => 0o066,
        Origin::Given => 0o026,
    }
}

/// What `chmod` is to be told. It leaves to a group what the group may keep, for the reader may be in it.
const fn wanted(mode: u32, origin: Origin) -> &'static str {
    match origin {
        Origin::Given if mode & 0o040 != 0 => "640",
        Origin::Given | Origin::Own => "600",
    }
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777
}

/// Where files have no mode, the folder's rights are all there is.
#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0o600
}

/// The path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@:,".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Writes a file that only this user may read, whole or not at all; what was there is replaced. Root, who runs a command for a
/// service, writes it for whom the folder belongs to.
///
/// # Errors
/// When it cannot be written; then what was there is there still.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".part");
    let part = path.with_file_name(name);
    // One that a kill left behind could be open to others.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&part)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder)?;
    #[cfg(unix)]
    give(&file, &folder.metadata()?)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    // The new name must survive a power cut as the content does.
    folder.sync_all()
}

/// Gives a file of root's to the folder's owner; another user's stays theirs.
#[cfg(unix)]
fn give(file: &File, folder: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    if file.metadata()?.uid() == 0 && folder.uid() != 0 {
        fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt as _;

    fn with_mode(mode: u32, name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        fs::write(&path, "s3cret\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        (folder, path)
    }

    #[test]
    fn a_file_is_read_only_while_it_is_closed_to_others_and_what_to_do_is_said() {
        for (mode, origin, expected) in [
            (0o600, Origin::Own, None),
            (0o400, Origin::Own, None),
            (0o700, Origin::Own, None),
            (0o640, Origin::Own, Some(("read", "chmod 600 "))),
            (0o604, Origin::Own, Some(("read", "chmod 600 "))),
            (0o620, Origin::Own, Some(("changed", "chmod 600 "))),
            (0o400, Origin::Given, None),
            (0o440, Origin::Given, None),
            (0o640, Origin::Given, None),
            (0o644, Origin::Given, Some(("read", "chmod 640 "))),
            (0o604, Origin::Given, Some(("read", "chmod 600 "))),
            (0o660, Origin::Given, Some(("changed", "chmod 640 "))),
            (0o602, Origin::Given, Some(("changed", "chmod 600 "))),
        ] {
            let (_folder, path) = with_mode(mode, "key");
            let (read, looked) = (read(&path, origin), look(&path, origin));
            let Some((what, mend)) = expected else {
                assert_eq!(read.expect("closed"), "s3cret\n", "{mode:o} {origin:?}");
                looked.expect("closed");
                continue;
            };
            for error in [read.expect_err("open").to_string(), looked.expect_err("open").to_string()] {
                let told = format!(
                    "{0} may be {what} by others than its owner (mode {mode:04o}): `{mend}{0}`",
                    path.display()
                );
                assert_eq!(error, told);
            }
            // What is advised helps.
            let octal = u32::from_str_radix(mend.split(' ').nth(1).expect("a mode"), 8).expect("octal");
            fs::set_permissions(&path, fs::Permissions::from_mode(octal)).expect("set");
            super::read(&path, origin).expect("closed now");
        }
    }

    #[test]
    fn what_is_written_is_private_whatever_lay_there_before() {
        let (_folder, path) = with_mode(0o644, "a key");
        let part = path.with_file_name("a key.part");
        fs::write(&part, "left by a kill").expect("written");
        fs::set_permissions(&part, fs::Permissions::from_mode(0o666)).expect("set");
        write(&path, b"new").expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path, Origin::Own).expect("private"), "new");
        assert!(!part.exists());
    }

    #[test]
    fn what_root_writes_for_a_service_belongs_to_the_service() {
        use std::os::unix::fs::{MetadataExt as _, chown};
        let folder = tempfile::tempdir().expect("a folder");
        // Who is not root cannot give a folder away; then the folder is their own, and so is the file.
        let _mine = chown(folder.path(), Some(12_345), Some(12_345));
        let path = folder.path().join("approvers.toml");
        write(&path, b"x").expect("written");
        let owner = |path: &Path| fs::metadata(path).map(|it| (it.uid(), it.gid())).expect("there");
        assert_eq!(owner(&path), owner(folder.path()));
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let absent = read(&folder.path().join("none"), Origin::Own).expect_err("absent");
        assert!(absent.is_absent(), "{absent}");
        let path = folder.path().join("large");
        write(&path, &vec![b'a'; LEN_MAX as usize + 1]).expect("written");
        let large = read(&path, Origin::Own).expect_err("too large");
        assert!(matches!(large, Error::Large { .. }) && !large.is_absent(), "{large}");
        assert_eq!(quoted(Path::new("/etc/it's here")), r"'/etc/it'\''s here'");
    }
}
