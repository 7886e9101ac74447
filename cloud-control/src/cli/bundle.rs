//! `cloud-control bundle`.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use shared::{
    bundle::manifest::{FILES_MAX, File, Manifest},
    digest::Digest,
    id::NodeName,
};

use super::{
    Connection, Failure, Form,
    client::Client,
    duration,
    table::{instant, show, table},
};
use crate::{
    api::{Missing, NodeView},
    control::{PushRequest, Pushed, RollBackRequest},
    fleet::rollout::Stage,
    store::bundles::{self, Group},
};

/// How often a rollout is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub(super) enum Bundle {
    /// Upload a folder (feeds.yaml, workflows/, policies/, documents/, cases/), sign it, and make it what a group runs.
    ///
    /// Only files that the control plane does not have are sent. Hidden files (.git and the like) are left out. Every
    /// mistake that a node would find in them is printed with file, line and what was expected, and then nothing is changed.
    Push {
        folder: PathBuf,
        #[arg(long)]
        group: String,
        /// Make the group if there is none of the name. Without it an unknown group is refused: most likely it is misspelt.
        #[arg(long)]
        create_group: bool,
        /// Push it as a new version although the group shall run exactly this already: a node that went back from a bundle
        /// does not try it again by itself.
        #[arg(long)]
        again: bool,
        /// The bundle's name; by default the folder's.
        #[arg(long)]
        name: Option<String>,
        /// Wait so long, such as 60s, until every node of the group runs it. Exit code 5 if one does not.
        #[arg(long, value_parser = duration)]
        wait: Option<Duration>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the bundles, newest first, and which groups run them.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Let a group go back to a bundle that was pushed before.
    Rollback {
        #[arg(long)]
        group: String,
        /// The bundle's digest (bundle list --json).
        #[arg(long, value_name = "DIGEST")]
        to: Digest,
        #[arg(long, value_parser = duration)]
        wait: Option<Duration>,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Bundle {
    pub(super) async fn run(self, form: Form) -> Result<(), Failure> {
        let (client, pushed, wait) = match self {
            Self::Push { folder, group, create_group, again, name, wait, connection } => {
                let client = Client::new(&connection)?;
                let name = name.unwrap_or_else(|| {
                    let name = folder
                        .canonicalize()
                        .ok()
                        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
                    name.unwrap_or_else(|| "bundle".to_owned())
                });
                let files = files_below(&folder)?;
                upload(&client, &files).await?;
                let files = files.into_iter().map(|(file, _)| file).collect();
                let request = PushRequest { name, group, create_group, again, files };
                let pushed: Pushed = client.post("/bundles", &request).await?;
                (client, pushed, wait)
            }
            Self::Rollback { group, to, wait, connection } => {
                let client = Client::new(&connection)?;
                let pushed: Pushed = client.post("/bundles/rollback", &RollBackRequest { group, to }).await?;
                (client, pushed, wait)
            }
            Self::List { connection } => return list(&Client::new(&connection)?, form).await,
        };
        match form {
            Form::Json => println!("{}", serde_json::to_string(&pushed).expect("plain data")),
            Form::Table if pushed.unchanged => println!("{}", unchanged(&pushed)),
            Form::Table => {
                println!("group {} shall run {} version {}", pushed.group, pushed.name, pushed.version);
                println!("{}", pushed.digest);
            }
        }
        match wait {
            Some(limit) => rolled_out(&client, &pushed, limit).await,
            None => Ok(()),
        }
    }
}

/// What is, when nothing was done.
fn unchanged(pushed: &Pushed) -> String {
    let Pushed { group, name, version, rejected_by, .. } = pushed;
    let told = format!("group {group} shall run exactly this already: {name} version {version}");
    if rejected_by.is_empty() {
        return format!("{told} (how far it is: cloud-control nodes list)");
    }
    let nodes: Vec<&str> = rejected_by.iter().map(NodeName::as_str).collect();
    format!(
        "{told}.\nNot taken by: {}. They do not try it again by themselves; to have it tried once more, as a new version: bundle push --again",
        nodes.join(", ")
    )
}

async fn list(client: &Client, form: Form) -> Result<(), Failure> {
    let bundles: Vec<bundles::Bundle> = client.get("/bundles").await?;
    let groups: Vec<Group> = client.get("/groups").await?;
    show(form, &bundles, || {
        let mut rows = table(&["VERSION", "NAME", "DIGEST", "FILES", "BYTES", "PUSHED", "BY", "GROUPS"]);
        for bundle in &bundles {
            let manifest = Manifest::parse(bundle.manifest.as_bytes()).ok();
            let running = groups.iter().filter(|group| group.desired == Some(bundle.digest));
            rows.add_row([
                bundle.version.to_string(),
                bundle.name.clone(),
                bundle.digest.short(),
                manifest.as_ref().map_or(0, |manifest| manifest.files().len()).to_string(),
                manifest.as_ref().map_or(0, Manifest::bytes).to_string(),
                instant(bundle.pushed),
                bundle.by.clone(),
                running.map(|group| group.name.as_str()).collect::<Vec<_>>().join(", "),
            ]);
        }
        rows
    });
    Ok(())
}

/// Sends the files that the control plane does not have.
async fn upload(client: &Client, files: &[(File, PathBuf)]) -> Result<(), Failure> {
    let wanted: BTreeMap<Digest, (&File, &PathBuf)> =
        files.iter().map(|(file, at)| (file.digest, (file, at))).collect();
    let Missing { digests } =
        client.post("/bundles/missing", &Missing { digests: wanted.keys().copied().collect() }).await?;
    let missing: Vec<_> = digests.iter().filter_map(|digest| wanted.get(digest)).collect();
    let bar = ProgressBar::new(missing.iter().map(|(file, _)| file.bytes).sum());
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    for (file, at) in missing {
        bar.set_message(file.path.to_string());
        let from = tokio::fs::File::open(at).await.map_err(|error| unreadable(at, &error))?;
        let sent = bar.clone();
        let stream = tokio_util::io::ReaderStream::with_capacity(from, 64 << 10);
        let counted = futures::StreamExt::inspect(stream, move |chunk| {
            if let Ok(chunk) = chunk {
                sent.inc(chunk.len() as u64);
            }
        });
        client.put(&format!("/blobs/{}", file.digest), reqwest::Body::wrap_stream(counted)).await?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Waits until every node of the group runs the bundle.
async fn rolled_out(client: &Client, pushed: &Pushed, limit: Duration) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let nodes: Vec<NodeView> = client.get("/nodes").await?;
        let group = || nodes.iter().filter(|view| view.node.group == pushed.group);
        let rejected = group().find_map(|view| match &view.rollout {
            Stage::Rejected(reason) => Some(format!("{} went back: {reason}", view.node.name)),
            _ => None,
        });
        if let Some(rejected) = rejected {
            return Err(Failure::Wanting(rejected));
        }
        let waiting: Vec<&str> =
            group().filter(|view| view.rollout != Stage::Current).map(|view| view.node.name.as_str()).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Failure::Wanting(format!("not within the time: {}", waiting.join(", "))));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The folder's files with their digests; hidden ones left out.
fn files_below(folder: &Path) -> Result<Vec<(File, PathBuf)>, Failure> {
    let mut folders = vec![(String::new(), folder.to_owned())];
    let mut files = Vec::new();
    while let Some((prefix, folder)) = folders.pop() {
        for item in std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            let item = item.map_err(|error| unreadable(&folder, &error))?;
            let (name, at) = (item.file_name().to_string_lossy().into_owned(), item.path());
            if name.starts_with('.') {
                continue;
            }
            let kind = item.file_type().map_err(|error| unreadable(&at, &error))?;
            if kind.is_dir() {
                folders.push((format!("{prefix}{name}/"), at));
            } else if kind.is_file() {
                let path = format!("{prefix}{name}").parse();
                let path = path.map_err(|error: shared::bundle::path::Error| Failure::Failed(error.to_string()))?;
                let (digest, bytes) = digest_of(&at).map_err(|error| unreadable(&at, &error))?;
                files.push((File { path, digest, bytes }, at));
            } else {
                let message = format!("{} is neither file nor folder; a bundle holds no links", at.display());
                return Err(Failure::Failed(message));
            }
            if files.len() > FILES_MAX {
                return Err(Failure::Failed(format!("more than {FILES_MAX} files; is this the right folder?")));
            }
        }
    }
    if files.is_empty() {
        return Err(Failure::Failed(format!("there is no file in {}", folder.display())));
    }
    Ok(files)
}

fn digest_of(path: &Path) -> std::io::Result<(Digest, u64)> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut from = std::fs::File::open(path)?;
    let mut chunk = vec![0; 64 << 10];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok((Digest::from_bytes(hash.finalize().into()), bytes)),
            len => {
                hash.update(&chunk[..len]);
                bytes += len as u64;
            }
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot read {}: {error}", path.display()))
}
