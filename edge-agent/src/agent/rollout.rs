//! Bringing a bundle into force: read it whole, give each room its part, watch it for a while, keep it or go back.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use shared::{digest::Digest, problem::Problems, time::Timestamp};
use tokio::sync::{Mutex, watch};

use super::trial::{self, Counts, Limits};
use crate::{
    clock,
    config::Config,
    feed::{config::Feeds, ingest::Control, journal::totals},
    memory::{Memory, documents::Content},
    site::Site,
    store::Store,
    sync,
    workflow::{self, Runner},
};

/// What the node works by just now, for pages and the control plane.
#[derive(Debug, Clone, Default)]
pub(super) struct InForce {
    pub digest: Option<Digest>,
    pub version: u64,
    pub since: Timestamp,
    pub feeds: Arc<Feeds>,
    /// The folder on this machine, when the bundle did not come from the control plane.
    pub local: bool,
}

impl InForce {
    /// For a log line.
    pub(super) fn shown(&self) -> String {
        self.digest.map_or_else(|| "none".to_owned(), |digest| digest.short())
    }
}

/// What was read, and which bundle of the control plane it is; none for the node's own site folder.
pub(super) struct Force {
    pub site: Site,
    pub content: Content,
    bundle: Option<(Digest, u64)>,
}

/// The rooms that get a part of each bundle.
pub(super) struct Rooms {
    pub config: Config,
    pub store: Store,
    pub runner: Runner,
    pub performer: Arc<workflow::Rooms>,
    pub memory: Memory,
    pub pipeline: Control,
}

/// Keeps the bundle in force. One change at a time.
pub(super) struct Rollout {
    rooms: Rooms,
    state: watch::Sender<InForce>,
    one_at_a_time: Mutex<()>,
}

/// What to work by at start: the bundle that the control plane sent and that came up, or the one before when its files are
/// no longer what they were, or the node's own site folder, or nothing yet. What could not be used is written down: the node
/// does not say that it runs what it does not run.
pub(super) async fn at_start(config: &Config, store: &Store) -> anyhow::Result<Force> {
    let standing = store.read("read which bundle is in force", sync::standing).await?;
    let mut lost = None;
    for applied in standing.applied.into_iter().chain(standing.previous) {
        match verified(&config.data_dir, applied.digest).await {
            Ok((site, content)) => {
                if let Some((bundle, reason)) = lost {
                    sync::bundle_lost(store, bundle, reason, Some(applied)).await?;
                }
                return Ok(Force { site, content, bundle: Some((applied.digest, applied.version)) });
            }
            Err(reason) => {
                tracing::error!(bundle = %applied.digest, reason, "the bundle on disk cannot be used");
                lost.get_or_insert((applied, reason));
            }
        }
    }
    let (site, content) = match config.site.clone() {
        Some(folder) => read(folder).await.map_err(|problems| anyhow!("the site cannot be used:\n{problems}"))?,
        None => (Site::empty(), Content::default()),
    };
    if let Some((bundle, reason)) = lost {
        sync::bundle_lost(store, bundle, reason, None).await?;
    }
    Ok(Force { site, content, bundle: None })
}

async fn verified(data: &Path, digest: Digest) -> Result<(Site, Content), String> {
    let data = data.to_owned();
    let check = tokio::task::spawn_blocking(move || sync::verify_bundle(&data, digest));
    let folder = check.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    read(folder).await.map_err(|problems| problems.to_string())
}

/// Reads a bundle's folder; nothing of the node changes.
async fn read(folder: PathBuf) -> Result<(Site, Content), Problems> {
    let work = move || Ok((Site::load(&folder)?, Content::read(&folder)?));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Problems(Vec::new())))
}

impl Rollout {
    /// Gives each room its part of what `at_start` found. The pipeline began with its feeds: asking it for a change now
    /// would wait for findings of before a kill, which wait for the runner, which is let to them after this.
    pub(super) async fn begin(rooms: Rooms, force: Force) -> anyhow::Result<Self> {
        let (state, _) = watch::channel(InForce::default());
        let rollout = Self { rooms, state, one_at_a_time: Mutex::new(()) };
        rollout.give_rules(&force).await?;
        rollout.tell(&force);
        Ok(rollout)
    }

    /// What is in force; changes with each bundle.
    pub(super) fn state(&self) -> watch::Receiver<InForce> {
        self.state.subscribe()
    }

    /// Brings a verified bundle on this disk into force, and answers when it has shown itself healthy.
    ///
    /// # Errors
    /// Why it was not taken or not kept; what was in force before is again.
    pub(super) async fn apply(&self, folder: &Path, digest: Digest, version: u64) -> Result<(), String> {
        let _one = self.one_at_a_time.lock().await;
        if self.state.borrow().digest == Some(digest) && !self.state.borrow().local {
            return Ok(());
        }
        let (site, content) = read(folder.to_owned()).await.map_err(|problems| problems.to_string())?;
        let told = |error: anyhow::Error| format!("{error:#}");
        tracing::info!(bundle = %digest, version, "a bundle is on trial");
        let given = self.give(&Force { site, content, bundle: Some((digest, version)) }).await.map_err(told);
        let healthy = match given {
            Ok(()) => self.watch().await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = healthy {
            tracing::warn!(bundle = %digest, version, reason, "going back to what ran before");
            let former = at_start(&self.rooms.config, &self.rooms.store).await.map_err(told)?;
            self.give(&former).await.map_err(told)?;
            return Err(reason);
        }
        tracing::info!(bundle = %digest, version, "bundle in force");
        Ok(())
    }

    /// Each room takes its part. Runs that have begun keep the workflows that they began with.
    async fn give(&self, force: &Force) -> anyhow::Result<()> {
        self.give_rules(force).await?;
        let feeds = Arc::new(force.site.feeds.clone());
        self.rooms.pipeline.change(feeds).await.context("cannot take the bundle's feeds")?;
        self.tell(force);
        Ok(())
    }

    /// All but the feeds.
    async fn give_rules(&self, force: &Force) -> anyhow::Result<()> {
        let site = &force.site;
        let digest = force.bundle.map_or(site.digest, |(digest, _)| digest);
        self.rooms.performer.set_policies(Arc::clone(&site.policies));
        self.rooms.performer.set_guards(Arc::clone(&site.guards));
        self.rooms.memory.set_content(force.content.clone());
        self.rooms
            .runner
            .set_workflows(digest, site.workflows.clone())
            .await
            .context("cannot take the bundle's workflows")
    }

    fn tell(&self, force: &Force) {
        let site = &force.site;
        let (digest, version) = force.bundle.unwrap_or((site.digest, 0));
        self.state.send_replace(InForce {
            digest: (force.bundle.is_some() || !site.folder.as_os_str().is_empty()).then_some(digest),
            version,
            since: clock::now(),
            feeds: Arc::new(site.feeds.clone()),
            local: force.bundle.is_none(),
        });
    }

    /// Whether the node is well under the bundle that all rooms have just taken their part of.
    async fn watch(&self) -> Result<(), String> {
        let before = self.totals().await?;
        trial::watch(Limits::STANDARD, &before, self.rooms.memory.status(), || self.totals()).await
    }

    async fn totals(&self) -> Result<Counts, String> {
        self.rooms.store.read("read the feeds' totals", totals).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::v1::Applied;

    use super::*;

    /// A bundle on the disk of this data folder, as it came from the control plane.
    fn on_disk(data: &Path, version: u64, feeds: &str) -> Applied {
        use shared::bundle::manifest::{File, Manifest};
        let path = "feeds.yaml".parse().expect("a path");
        let file = File { path, digest: Digest::of(feeds.as_bytes()), bytes: feeds.len() as u64 };
        let manifest = Manifest::new("plant", version, vec![file]).expect("a manifest");
        let folder = sync::bundle_dir(data, manifest.digest());
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("feeds.yaml"), feeds).expect("written");
        std::fs::write(folder.with_extension("manifest"), manifest.canonical()).expect("written");
        Applied { digest: manifest.digest(), version, at: Timestamp::from_millis(1) }
    }

    async fn set(store: &Store, applied: Applied, previous: Applied) {
        let json = [applied, previous].map(|applied| serde_json::to_string(&applied).expect("plain"));
        let sql = "UPDATE sync SET applied = ?1, previous = ?2";
        store.write("set", move |tx| Ok(tx.connection().execute(sql, json).map(drop)?)).await.expect("written");
    }

    #[tokio::test]
    async fn a_bundle_that_a_start_cannot_use_is_neither_reported_nor_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        let text = format!("name = \"basel\"\njurisdiction = \"CH\"\ndata_dir = {:?}\n", data.display().to_string());
        let config = Config::parse("agent.toml", &text).expect("a configuration");
        let store = Store::open(&config.store_path()).expect("a store");
        let (older, newer) = (on_disk(data, 1, "feeds: []\n"), on_disk(data, 2, "feeds: [] # newer\n"));
        set(&store, newer, older).await;
        let standing = async || store.read("look", sync::standing).await.expect("readable");
        let force = at_start(&config, &store).await.expect("starts");
        assert_eq!(force.bundle, Some((newer.digest, 2)));
        assert_eq!((standing().await.applied, standing().await.lost), (Some(newer), None));

        std::fs::write(sync::bundle_dir(data, newer.digest).join("stray"), "x").expect("written");
        let force = at_start(&config, &store).await.expect("starts");
        assert_eq!(force.bundle, Some((older.digest, 1)));
        let lost = standing().await.lost.expect("told");
        assert!(lost.starts_with("bundle version 2 (") && lost.contains("stray"), "{lost}");
        assert_eq!((standing().await.applied, standing().await.previous), (Some(older), None));

        std::fs::write(sync::bundle_dir(data, older.digest).join("feeds.yaml"), "rot").expect("written");
        let force = at_start(&config, &store).await.expect("starts");
        assert_eq!((force.bundle, standing().await.applied), (None, None));
        at_start(&config, &store).await.expect("starts");
        let sql = "SELECT count(*) FROM ledger WHERE fact = 'bundle-rolled-back'";
        let told = store.read("count", move |c| c.query_row(sql, [], |row| row.get::<_, i64>(0))).await;
        assert_eq!(told.expect("readable"), 2, "each once");
    }
}
