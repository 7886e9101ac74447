//! Gets a model's files: from the hub, going on where an earlier try was cut, or from a folder. A file stands under its
//! name only when its digest is right; until then it is `<name>.part`.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use futures::StreamExt as _;
use models::catalog::{Architecture, Digests, Flaw, Manifest, ModelFile};
use reqwest::{StatusCode, header};
use shared::digest::Digest;
use tokio::{fs, io::AsyncWriteExt as _};

use super::config::Hub;

/// A link that is down longer than this is a matter for the person who asked; what came so far is kept.
const TRIES_MAX: usize = 5;
/// Between two pieces; a stalled connection is cut and asked again.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The hub sends files on through one or two addresses.
const REDIRECTS_MAX: usize = 5;

/// Why a model's files are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot get {url}: {detail}; what came so far is kept, the next try goes on from there")]
    Cut { url: String, detail: String },
    #[error("cannot get {url}: the server answered {status}")]
    Refused { url: String, status: StatusCode },
    #[error("{} takes {} MB more than are here, and its file system has {} MB free: make room first", path.display(), needed.div_ceil(1 << 20), free >> 20)]
    Full { path: PathBuf, needed: u64, free: u64 },
    /// What came is not the model that the manifest names; it was not kept.
    #[error("{0}; the file was not taken")]
    Wrong(Flaw),
    #[error(transparent)]
    Model(#[from] models::Error),
}

/// How far a pull has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress<'a> {
    pub file: &'a Path,
    /// Bytes of this file that are on disk.
    pub done: u64,
    pub size: u64,
}

/// Where a pull takes the files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From<'a> {
    Hub,
    /// A folder that holds them under the manifest's paths.
    Folder(&'a Path),
}

/// Brings every file of the model into `folder`; files that are right already are left alone.
///
/// # Errors
/// When a file cannot be got or is not what the manifest says. Files that came whole before it stay.
pub async fn pull(
    manifest: &Manifest,
    from: From<'_>,
    folder: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), Error> {
    for file in &manifest.files {
        if file.verify(folder, &Digests::default())?.is_none() {
            progress(Progress { file: &file.path, done: file.size, size: file.size });
            continue;
        }
        let target = folder.join(&file.path);
        let part = part(&target);
        let parent = target.parent().unwrap_or(folder);
        fs::create_dir_all(parent).await.map_err(io("make", parent))?;
        // One that is longer than the file is none of it, and will be begun anew.
        let have = fs::metadata(&part).await.map_or(0, |part| part.len());
        let have = if have > file.size { 0 } else { have };
        let needed = file.size.saturating_sub(have);
        if let Some(free) = free_bytes(parent).filter(|free| *free < needed) {
            return Err(Error::Full { path: target, needed, free });
        }
        match &from {
            From::Hub => download(&manifest.url_of(file), file, &part, progress).await?,
            From::Folder(source) => copy(&source.join(&file.path), file, &part, progress).await?,
        }
        check(file, &part).await?;
        fs::rename(&part, &target).await.map_err(io("rename", &part))?;
    }
    Ok(())
}

/// Room for an unprivileged user on the folder's file system; `None` where the system does not tell.
#[must_use]
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    // One that knows nothing of itself says that it has no blocks at all.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// One file of a repository of the hub, known by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Where the hub is, such as `https://huggingface.co`.
    pub hub: String,
    pub repo: Hub,
    /// Where it lies in the repository and, below the folder, on this machine.
    pub path: PathBuf,
    pub digest: Digest,
}

/// Brings one file into `folder`; one that is there already and right is left alone. How long it is, its source says.
///
/// # Errors
/// When it cannot be got or is not what its digest says.
pub async fn pull_file(
    wanted: &HubFile,
    from: From<'_>,
    folder: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), Error> {
    let target = folder.join(&wanted.path);
    if let Ok(found) = fs::metadata(&target).await
        && digest_of(&target).await? == wanted.digest
    {
        progress(Progress { file: &wanted.path, done: found.len(), size: found.len() });
        return Ok(());
    }
    let HubFile { hub, repo, path, digest } = wanted;
    let url = format!("{}/{}/resolve/{}", hub.trim_end_matches('/'), repo.repo, repo.revision);
    let mut manifest = Manifest {
        name: repo.repo.clone(),
        architecture: Architecture::Gguf,
        description: String::new(),
        licence: String::new(),
        url,
        files: vec![ModelFile { path: path.clone(), size: 0, digest: *digest }],
    };
    manifest.files[0].size = match &from {
        From::Hub => size_of(&manifest.url_of(&manifest.files[0])).await?,
        From::Folder(source) => {
            let source = source.join(path);
            fs::metadata(&source).await.map_err(io("read", &source))?.len()
        }
    };
    pull(&manifest, from, folder, progress).await
}

async fn digest_of(path: &Path) -> Result<Digest, Error> {
    let path = path.to_owned();
    let digest = tokio::task::spawn_blocking(move || models::catalog::digest_of_file(&path)).await;
    Ok(digest.expect("the digest of a file does not panic")?)
}

/// How long a file is, asked with its first byte: not every server answers HEAD as it answers GET.
async fn size_of(url: &str) -> Result<u64, Error> {
    let http = client();
    let cut = |detail: String| Error::Cut { url: url.to_owned(), detail };
    let attempt = || async {
        let answer = http.get(url).header(header::RANGE, "bytes=0-0").send().await;
        let answer = answer.map_err(|error| cut(error.without_url().to_string()))?;
        let range = answer.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let size = match answer.status() {
            StatusCode::PARTIAL_CONTENT => range.and_then(|range| range.rsplit('/').next()?.parse().ok()),
            StatusCode::OK => answer.content_length(),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(cut(format!("the server answered {status}")));
            }
            status => return Err(Error::Refused { url: url.to_owned(), status }),
        };
        size.ok_or_else(|| cut("the server does not say how long the file is".to_owned()))
    };
    attempt.retry(backoff()).when(|error| matches!(error, Error::Cut { .. })).await
}

fn client() -> reqwest::Client {
    crate::tls::client(|client| {
        let client = client.connect_timeout(SILENCE_MAX).read_timeout(SILENCE_MAX);
        client.redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
    })
}

fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default().with_max_times(TRIES_MAX - 1).with_jitter()
}

/// Where a file grows until it is whole.
fn part(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

async fn copy(
    source: &Path,
    file: &ModelFile,
    part: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), Error> {
    fs::copy(source, part).await.map_err(io("copy", source))?;
    progress(Progress { file: &file.path, done: file.size, size: file.size });
    Ok(())
}

/// Holds what came against the manifest; what is wrong is removed, since going on from it could never end well.
async fn check(file: &ModelFile, part: &Path) -> Result<(), Error> {
    let found = fs::metadata(part).await.map_err(io("read", part))?.len();
    let path = file.path.clone();
    let flaw = if found == file.size {
        let found = digest_of(part).await?;
        (found != file.digest).then_some(Flaw::Digest { path, found, expected: file.digest })
    } else {
        Some(Flaw::Size { path, found, expected: file.size })
    };
    match flaw {
        None => Ok(()),
        Some(flaw) => {
            fs::remove_file(part).await.map_err(io("remove", part))?;
            Err(Error::Wrong(flaw))
        }
    }
}

async fn download(
    url: &str,
    file: &ModelFile,
    part: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), Error> {
    let http = client();
    let progress = tokio::sync::Mutex::new(progress);
    let attempt = || async { fetch(&http, url, file, part, &mut **progress.lock().await).await };
    attempt.retry(backoff()).when(|error| matches!(error, Error::Cut { .. })).await
}

/// One try: asks for what is missing and appends it.
async fn fetch(
    http: &reqwest::Client,
    url: &str,
    file: &ModelFile,
    part: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), Error> {
    let cut = |error: reqwest::Error| Error::Cut { url: url.to_owned(), detail: error.without_url().to_string() };
    let mut have = match fs::metadata(part).await {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(source) => return Err(Error::Io { doing: "read", path: part.to_owned(), source }),
    };
    if have == file.size {
        return Ok(());
    }
    if have > file.size {
        fs::remove_file(part).await.map_err(io("remove", part))?;
        have = 0;
    }
    let mut request = http.get(url);
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
    }
    let response = request.send().await.map_err(cut)?;
    let status = response.status();
    match status {
        StatusCode::PARTIAL_CONTENT => {}
        // The server knows no ranges and begins again.
        StatusCode::OK => have = 0,
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Error::Cut { url: url.to_owned(), detail: format!("the server answered {status}") });
        }
        status => return Err(Error::Refused { url: url.to_owned(), status }),
    }
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).append(have > 0).truncate(have == 0);
    let mut sink = options.open(part).await.map_err(io("write", part))?;
    let outcome = append(response, &mut have, file, part, &mut sink, progress).await;
    // Also after a cut: what came is what the next try goes on from.
    sink.sync_all().await.map_err(io("write", part))?;
    match outcome {
        Ok(()) if have == file.size => Ok(()),
        Ok(()) => Err(Error::Cut { url: url.to_owned(), detail: "it ended early".to_owned() }),
        Err(Stop::Net(error)) => Err(cut(error)),
        Err(Stop::Here(error)) => Err(error),
    }
}

/// Why a body was not read to its end.
enum Stop {
    Net(reqwest::Error),
    Here(Error),
}

async fn append(
    response: reqwest::Response,
    have: &mut u64,
    file: &ModelFile,
    part: &Path,
    sink: &mut fs::File,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), Stop> {
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(Stop::Net)?;
        *have += piece.len() as u64;
        if *have > file.size {
            let flaw = Flaw::Size { path: file.path.clone(), found: *have, expected: file.size };
            fs::remove_file(part).await.map_err(|source| Stop::Here(io("remove", part)(source)))?;
            return Err(Stop::Here(Error::Wrong(flaw)));
        }
        sink.write_all(&piece).await.map_err(|source| Stop::Here(io("write", part)(source)))?;
        progress(Progress { file: &file.path, done: *have, size: file.size });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, body::Body, extract::State, http::HeaderMap, response::Response, routing::get};
    use shared::digest::Digest;

    use super::*;

    const CONTENT: &[u8] = b"0123456789abcdefghij";

    fn manifest(url: &str, digest: Digest) -> Manifest {
        let text = format!(
            "name = 'm'\narchitecture = 'gguf'\ndescription = 'd'\nlicence = 'Apache-2.0'\nurl = '{url}'\n[[files]]\npath = \
             'w/model.gguf'\nsize = {}\ndigest = '{digest}'",
            CONTENT.len()
        );
        Manifest::parse("m.toml", &text).expect("a valid manifest")
    }

    /// Serves the content with ranges; the first answer is cut after 8 bytes.
    async fn hub() -> (String, Arc<AtomicUsize>) {
        async fn serve(State(asked): State<Arc<AtomicUsize>>, headers: HeaderMap) -> Response {
            let range = headers
                .get(header::RANGE)
                .and_then(|v| v.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            let from: usize = range.unwrap_or(0);
            if headers.get(header::RANGE).is_some_and(|range| range == "bytes=0-0") {
                let answer = Response::builder()
                    .status(206)
                    .header(header::CONTENT_RANGE, format!("bytes 0-0/{}", CONTENT.len()));
                return answer.body(Body::from(&CONTENT[..1])).expect("a response");
            }
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            let body = if first {
                // Gives way once before the cut, so that the first bytes are on the wire.
                let broken = async {
                    tokio::task::yield_now().await;
                    Err(std::io::Error::other("cut"))
                };
                Body::from_stream(futures::stream::iter([Ok(&CONTENT[..8])]).chain(futures::stream::once(broken)))
            } else {
                Body::from(&CONTENT[from..])
            };
            let status = if range.is_some() { 206 } else { 200 };
            Response::builder().status(status).body(body).expect("a response")
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let router = Router::new()
            .route("/w/model.gguf", get(serve))
            .route("/Qwen/small-GGUF/resolve/v1/w/model.gguf", get(serve))
            .with_state(Arc::clone(&asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, asked)
    }

    #[tokio::test]
    async fn a_cut_download_goes_on_where_it_was_cut() {
        let (url, asked) = hub().await;
        let dir = tempfile::tempdir().expect("a folder");
        let manifest = manifest(&url, Digest::of(CONTENT));
        let mut seen = Vec::new();
        pull(&manifest, From::Hub, dir.path(), &mut |p| seen.push(p.done)).await.expect("pulled");
        assert_eq!(std::fs::read(dir.path().join("w/model.gguf")).expect("there"), CONTENT);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert_eq!((seen.first(), seen.last()), (Some(&8), Some(&20)));
        assert!(seen.is_sorted(), "nothing was fetched twice: {seen:?}");
        pull(&manifest, From::Hub, dir.path(), &mut |_| ()).await.expect("already there");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "a file that is right is not asked for again");
    }

    #[tokio::test]
    async fn a_file_of_the_hub_known_by_its_digest_alone_is_resumed_checked_and_asked_for_once() {
        let (url, asked) = hub().await;
        let dir = tempfile::tempdir().expect("a folder");
        let wanted = |digest| HubFile {
            hub: url.clone(),
            repo: Hub::new("Qwen/small-GGUF", Some("v1")).expect("a repository"),
            path: "w/model.gguf".into(),
            digest,
        };
        let right = wanted(Digest::of(CONTENT));
        let mut seen = Vec::new();
        pull_file(&right, From::Hub, dir.path(), &mut |p| seen.push((p.done, p.size))).await.expect("pulled");
        assert_eq!(std::fs::read(dir.path().join("w/model.gguf")).expect("there"), CONTENT);
        assert_eq!((seen.first(), seen.last()), (Some(&(8, 20)), Some(&(20, 20))), "resumed where it was cut");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        pull_file(&right, From::Hub, dir.path(), &mut |_| ()).await.expect("already there");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "a file that is right is not asked for again");

        let wrong = pull_file(&wanted(Digest::of(b"other")), From::Hub, dir.path(), &mut |_| ()).await;
        assert!(matches!(&wrong, Err(Error::Wrong(Flaw::Digest { .. }))), "{wrong:?}");
        assert_eq!(std::fs::read(dir.path().join("w/model.gguf")).expect("there"), CONTENT, "what was right stays");
        let absent = HubFile { path: "w/absent.gguf".into(), ..wanted(Digest::of(b"other")) };
        let absent = pull_file(&absent, From::Hub, dir.path(), &mut |_| ()).await;
        assert!(matches!(absent, Err(Error::Refused { status: StatusCode::NOT_FOUND, .. })), "{absent:?}");
    }

    #[tokio::test]
    async fn a_file_that_the_disk_has_no_room_for_is_not_begun() {
        let (url, asked) = hub().await;
        let mut manifest = manifest(&url, Digest::of(CONTENT));
        manifest.files[0].size = u64::MAX;
        let folder = tempfile::tempdir().expect("a folder");
        let error = pull(&manifest, From::Hub, folder.path(), &mut |_| {}).await.expect_err("no disk is so large");
        let said = error.to_string();
        assert!(said.contains("model.gguf takes 17592186044416 MB more than are here"), "{said}");
        assert_eq!((asked.load(Ordering::Relaxed), folder.path().join("w/model.gguf.part").exists()), (0, false));
    }

    #[tokio::test]
    async fn a_file_that_is_not_what_its_digest_says_is_refused() {
        let (url, _) = hub().await;
        let dir = tempfile::tempdir().expect("a folder");
        let error = pull(&manifest(&url, Digest::of(b"other")), From::Hub, dir.path(), &mut |_| ()).await;
        assert!(matches!(&error, Err(Error::Wrong(Flaw::Digest { .. }))), "{error:?}");
        assert_eq!(std::fs::read_dir(dir.path().join("w")).expect("a folder").count(), 0, "nothing was kept");
    }

    #[tokio::test]
    async fn a_folder_serves_as_well_as_the_hub_and_is_checked_as_well() {
        let (source, target) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        std::fs::create_dir(source.path().join("w")).expect("made");
        let file = source.path().join("w/model.gguf");
        let manifest = manifest("http://127.0.0.1:1", Digest::of(CONTENT));
        std::fs::write(&file, b"something else......").expect("written");
        let error = pull(&manifest, From::Folder(source.path()), target.path(), &mut |_| ()).await;
        assert!(matches!(error, Err(Error::Wrong(_))));
        std::fs::write(&file, CONTENT).expect("written");
        pull(&manifest, From::Folder(source.path()), target.path(), &mut |_| ()).await.expect("copied");
        assert!(manifest.verify(target.path()).expect("readable").is_empty());
    }
}
