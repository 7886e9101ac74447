//! Bringing a bundle to the disk and into use: manifest, then files (what is half there is resumed), then whole or not at
//! all. What the disk holds is checked against the signed manifest.

use std::{
    collections::{BTreeMap, btree_map},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use shared::{
    bundle::{
        floor,
        manifest::{File, Manifest},
    },
    digest::Digest,
    ledger::{
        entry::{Entry, Fact},
        note::VerifierKey,
    },
    wire::v1::{self, Applied, BLOBS_PATH, BUNDLES_PATH, Rejected},
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Notify, mpsc, oneshot, watch},
};

use super::{Desired, Error, Standing, bundle_dir, client::Client, standing, state, with_sources};
use crate::{clock, store::Store};

const MANIFEST_MAX: Duration = Duration::from_secs(120);
/// A download that stands still for so long is given up, and resumed later.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Pause before what failed on the way is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Trials that may end without a verdict before a bundle is held for the cause: once may be a power cut.
const TRIALS_MAX: u32 = 2;

/// Brings what is wished for into use, one after the other.
pub(super) struct Applier {
    pub client: Client,
    pub store: Store,
    pub data: PathBuf,
    pub operator: VerifierKey,
    pub desired: mpsc::Sender<Desired>,
    pub nudge: Arc<Notify>,
}

impl Applier {
    pub(super) async fn run(self, mut wish: watch::Receiver<Option<v1::Desired>>) {
        loop {
            let wanted = wish.borrow_and_update().clone();
            if let Some(wanted) = wanted {
                let retry = match self.bring(&wanted).await {
                    Ok(()) => false,
                    Err(error) => {
                        tracing::warn!(bundle = %wanted.digest.short(), error = %with_sources(&error), "cannot take a bundle");
                        !self.rejected_for_good(&wanted, &error).await
                    }
                };
                if retry {
                    if tokio::time::timeout(RETRY_AFTER, wish.changed()).await.is_ok_and(|changed| changed.is_err()) {
                        return;
                    }
                    continue;
                }
            }
            if wish.changed().await.is_err() {
                return;
            }
        }
    }

    /// What is wrong with the bundle itself will be wrong next time too: it is told to the control plane. Answers whether
    /// it is of that kind.
    async fn rejected_for_good(&self, wanted: &v1::Desired, error: &Error) -> bool {
        let lasting = matches!(error, Error::Manifest(_) | Error::Floor(_) | Error::Signature(_) | Error::Differs(_));
        lasting && self.note_rejected(wanted.digest, with_sources(error)).await.is_ok()
    }

    async fn bring(&self, wanted: &v1::Desired) -> Result<(), Error> {
        let Standing { applied, rejected, floor, lost, .. } = self.store.read("read the standing", standing).await?;
        let digest = wanted.digest;
        let runs = applied.is_some_and(|applied| applied.digest == digest);
        if runs && lost.is_some() {
            self.store.write("note that no bundle is missed", |tx| Ok(state::not_missed(tx.connection())?)).await?;
            self.nudge.notify_one();
        }
        if runs || rejected.is_some_and(|rejected| rejected.digest == digest) {
            return Ok(());
        }
        let bytes = self.client.get("fetch a bundle", &format!("{BUNDLES_PATH}{digest}"), MANIFEST_MAX).await?;
        let manifest = Manifest::verify(&bytes, digest, &wanted.signature, &self.operator)?;
        let floor = floor::admit(floor, &manifest, wanted.rollback.as_ref(), &self.operator)?;
        let dir = self.fetch(&manifest, &bytes, applied).await?;
        let unfinished = self
            .store
            .write("note that a bundle is tried", move |tx| Ok(state::trying(tx.connection(), digest)?))
            .await?;
        if unfinished >= TRIALS_MAX {
            let reason = format!("the agent ended {unfinished} times before the bundle had shown itself healthy");
            return self.note_rejected(digest, reason).await;
        }
        let (answer, outcome) = oneshot::channel();
        let version = manifest.version();
        let offered = self.desired.send(Desired { digest, version, dir, answer }).await;
        // Nobody takes bundles any more: the agent is shutting down, and the next start brings it again.
        if offered.is_err() {
            return Ok(());
        }
        match outcome.await {
            Ok(Ok(())) => self.note_applied(Applied { digest, version, at: clock::now() }, floor).await,
            Ok(Err(reason)) => self.note_rejected(digest, reason).await,
            Err(_) => Ok(()),
        }
    }

    async fn note_applied(&self, now: Applied, floor: floor::Floor) -> Result<(), Error> {
        let keep = self
            .store
            .write("note that a bundle was applied", move |tx| {
                state::applied(tx.connection(), now, floor)?;
                let fact = Fact::BundleApplied { bundle: now.digest, version: now.version };
                tx.append(&Entry { at: now.at, run: None, task: None, fact })?;
                Ok(standing(tx.connection())?.previous)
            })
            .await?;
        self.nudge.notify_one();
        prune(&self.data.join("bundles"), &[Some(now.digest), keep.map(|previous| previous.digest)]);
        Ok(())
    }

    async fn note_rejected(&self, bundle: Digest, reason: String) -> Result<(), Error> {
        tracing::warn!(bundle = %bundle.short(), %reason, "a bundle did not come up; what ran before goes on");
        let rejected = Rejected { digest: bundle, reason: reason.clone(), at: clock::now() };
        self.store
            .write("note that a bundle was rejected", move |tx| {
                state::rejected(tx.connection(), &rejected)?;
                let to = standing(tx.connection())?.applied.map(|applied| applied.digest);
                let fact = Fact::BundleRolledBack { bundle, to, reason };
                tx.append(&Entry { at: rejected.at, run: None, task: None, fact })?;
                Ok(())
            })
            .await?;
        self.nudge.notify_one();
        Ok(())
    }

    /// Brings the files to the disk. The folder has its name only when it is whole.
    async fn fetch(&self, manifest: &Manifest, bytes: &[u8], applied: Option<Applied>) -> Result<PathBuf, Error> {
        let dir = bundle_dir(&self.data, manifest.digest());
        let parts = self.data.join("bundles").join("parts");
        fs::create_dir_all(&parts).map_err(|source| file("make the folder", &parts, source))?;
        let before = applied.map(|applied| bundle_dir(&self.data, applied.digest));
        let (looked, wanted) = (dir.clone(), manifest.clone());
        let mut here = blocking(move || {
            if looked.is_dir() && differences(&looked, &wanted)?.is_empty() {
                return Ok(None);
            }
            // Of a bundle that was damaged on this disk, what is intact is not fetched again.
            let mut here = intact_files(&looked, &wanted);
            here.extend(before.map(|dir| intact_files(&dir, &wanted)).unwrap_or_default());
            Ok(Some(here))
        })
        .await?;
        let Some(here) = &mut here else { return Ok(dir) };
        for wanted in manifest.files() {
            if let btree_map::Entry::Vacant(place) = here.entry(wanted.digest) {
                place.insert(self.download(wanted, &parts).await?);
            }
        }
        let (here, manifest, bytes) = (std::mem::take(here), manifest.clone(), bytes.to_vec());
        let to = dir.clone();
        blocking(move || assemble(&to, &manifest, &bytes, &here)).await?;
        drop(fs::remove_dir_all(&parts));
        Ok(dir)
    }

    /// Downloads one file, going on where an earlier attempt ended, and checks its digest.
    async fn download(&self, wanted: &File, parts: &Path) -> Result<PathBuf, Error> {
        let part = parts.join(hex::encode(wanted.digest.as_bytes()));
        let failed = |source| file("write", &part, source);
        let have = tokio::fs::metadata(&part).await.map_or(0, |metadata| metadata.len());
        let mut have = if have > wanted.bytes { 0 } else { have };
        if have < wanted.bytes || wanted.bytes == 0 {
            let response = self.client.get_from(&format!("{BLOBS_PATH}{}", wanted.digest), have).await?;
            if response.status() != reqwest::StatusCode::PARTIAL_CONTENT {
                have = 0;
            }
            let mut to = tokio::fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(&part)
                .await
                .map_err(failed)?;
            to.set_len(have).await.map_err(failed)?;
            tokio::io::AsyncSeekExt::seek(&mut to, io::SeekFrom::Start(have)).await.map_err(failed)?;
            let mut stream = response.bytes_stream();
            let stalled = || file("download", &part, io::Error::from(io::ErrorKind::TimedOut));
            while let Some(chunk) = tokio::time::timeout(STALL_MAX, stream.next()).await.map_err(|_| stalled())? {
                let chunk = chunk.map_err(|error| self.client.unreachable(&error))?;
                have += chunk.len() as u64;
                if have > wanted.bytes {
                    break;
                }
                to.write_all(&chunk).await.map_err(failed)?;
            }
            to.flush().await.map_err(failed)?;
        }
        let at = part.clone();
        let found = blocking(move || digest_of(&at).map_err(|source| file("read", &at, source))).await?;
        if found == wanted.digest {
            return Ok(part);
        }
        drop(fs::remove_file(&part));
        let detail = format!("{} came as {found}, expected {}", wanted.path, wanted.digest);
        Err(Error::Answer { operation: "fetch a file", detail })
    }
}

/// Writes down that a bundle which ran before cannot be used, and what runs in its place: the node says so to people and to
/// the control plane, which has it bring the bundle anew.
///
/// # Errors
/// When the store cannot be written.
pub async fn lost(store: &Store, bundle: Applied, reason: String, now: Option<Applied>) -> Result<(), Error> {
    let instead = now.map_or_else(
        || "the node's own site folder, or nothing,".to_owned(),
        |now| format!("version {} ({})", now.version, now.digest.short()),
    );
    let Applied { digest, version, .. } = bundle;
    let why = format!("bundle version {version} ({}) cannot be used, {instead} runs: {reason}", digest.short());
    let fact = Fact::BundleRolledBack { bundle: digest, to: now.map(|now| now.digest), reason };
    let write = store.write("note that a bundle was lost", move |tx| {
        state::lost(tx.connection(), &why, now)?;
        tx.append(&Entry { at: clock::now(), run: None, task: None, fact })?;
        Ok(())
    });
    Ok(write.await?)
}

/// Whether the bundle of this digest is on the disk as its manifest says. Answers its folder.
///
/// # Errors
/// When it is not there, or a file of it is missing, changed, or too much.
pub fn verify(data: &Path, digest: Digest) -> Result<PathBuf, Error> {
    let dir = bundle_dir(data, digest);
    let path = dir.with_extension("manifest");
    let bytes = fs::read(&path).map_err(|source| file("read", &path, source))?;
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(Error::Content { path, detail: format!("it is {found}, expected {digest}") });
    }
    let differences = differences(&dir, &Manifest::parse(&bytes)?)?;
    if differences.is_empty() { Ok(dir) } else { Err(Error::Differs(differences.join("; "))) }
}

fn differences(dir: &Path, manifest: &Manifest) -> Result<Vec<String>, Error> {
    let mut found = BTreeMap::new();
    for (path, at) in files_below(dir).map_err(|source| file("read", dir, source))? {
        found.insert(path, digest_of(&at).map_err(|source| file("read", &at, source))?);
    }
    Ok(manifest.differences(&found).iter().map(ToString::to_string).collect())
}

/// Runs what blocks the thread: hashing and copying of files that may be large.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(Error::Store(crate::store::Error::Closed { operation: "bring a bundle to the disk" })))
}

/// Puts the files together beside the folder and gives it its name when all of it is on the disk.
fn assemble(dir: &Path, manifest: &Manifest, bytes: &[u8], here: &BTreeMap<Digest, PathBuf>) -> Result<(), Error> {
    let stage = dir.with_extension("stage");
    drop(fs::remove_dir_all(&stage));
    for wanted in manifest.files() {
        let (from, to) = (&here[&wanted.digest], stage.join(wanted.path.as_str()));
        let copy = || {
            fs::create_dir_all(to.parent().unwrap_or(&stage))?;
            fs::copy(from, &to)?;
            fs::File::open(&to)?.sync_all()
        };
        copy().map_err(|source| file("write", &to, source))?;
    }
    let name = || {
        // The manifest lies beside the folder, which holds the bundle's files and nothing else.
        fs::write(dir.with_extension("manifest"), bytes)?;
        drop(fs::remove_dir_all(dir));
        fs::rename(&stage, dir)?;
        fs::File::open(dir.parent().unwrap_or(dir))?.sync_all()
    };
    name().map_err(|source| file("put in place", dir, source))
}

/// The files of a bundle on the disk that are wanted again and still are what they were, by digest.
fn intact_files(dir: &Path, wanted: &Manifest) -> BTreeMap<Digest, PathBuf> {
    let manifest = fs::read(dir.with_extension("manifest")).ok().and_then(|bytes| Manifest::parse(&bytes).ok());
    let files = manifest.iter().flat_map(|manifest| manifest.files().to_vec());
    let again = |digest: &Digest| wanted.files().iter().any(|file| file.digest == *digest);
    files
        .map(|file| (file.digest, dir.join(file.path.as_str())))
        .filter(|(digest, path)| again(digest) && digest_of(path).ok() == Some(*digest))
        .collect()
}

/// Every file below a folder, by its path with `/` between steps.
fn files_below(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut folders = vec![(String::new(), dir.to_owned())];
    let mut files = Vec::new();
    while let Some((prefix, folder)) = folders.pop() {
        for item in fs::read_dir(&folder)? {
            let item = item?;
            let path = format!("{prefix}{}", item.file_name().to_string_lossy());
            if item.file_type()?.is_dir() {
                folders.push((format!("{path}/"), item.path()));
            } else {
                files.push((path, item.path()));
            }
        }
    }
    Ok(files)
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut from = fs::File::open(path)?;
    let mut chunk = vec![0; 64 << 10];
    loop {
        match io::Read::read(&mut from, &mut chunk)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            len => hash.update(&chunk[..len]),
        }
    }
}

/// Removes the bundles that are no longer needed; a run keeps what it began with in the store.
fn prune(folder: &Path, keep: &[Option<Digest>]) {
    let keep: Vec<String> = keep.iter().flatten().map(|digest| hex::encode(digest.as_bytes())).collect();
    for item in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = item.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if stem.len() == 64 && !keep.contains(&stem) {
            drop(if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) });
        }
    }
}

fn file(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}
