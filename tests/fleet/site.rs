//! A control plane and nodes for the tests here, and waiting with a bound.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use cloud_control::{
    Control,
    control::{self, PushRequest, Pushed},
    serve::{Options, Running, start},
    store::operators::Operator,
};
use edge_agent::{
    clock,
    store::Store,
    sync::{self, Handles, Identity, Report, Sources},
};
use serde_json::Value;
use shared::{
    bundle::manifest::File,
    digest::Digest,
    id::{ApprovalId, NodeName, RunId},
    label::Label,
    ledger::entry::{Entry, Fact},
    time::Timestamp,
    wire::{
        token::JoinToken,
        v1::{Health, PendingApproval, RunSummary},
    },
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longest wait for something that must happen.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A question of the workflow that stops a press.
pub fn question_about(asked: Timestamp, proposal: Value) -> PendingApproval {
    PendingApproval {
        approval: ApprovalId::derive(asked, b"q"),
        run: RunId::derive(asked, b"r"),
        workflow: "plant/stop".to_owned(),
        role: "maintenance".to_owned(),
        title: "Stop the press?".to_owned(),
        shown: Digest::of_json(&proposal),
        proposal: Some(proposal),
        label: Label::default(),
        asked,
        deadline: None,
    }
}

pub struct Cloud {
    pub running: Running,
    pub admin: Operator,
    pub folder: TempDir,
}

impl Cloud {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let running = Self::serve(folder.path(), 0).await;
        let secret = running.control.first_operator(|_| Ok(())).await.expect("writable").expect("the first start");
        let admin = running.control.login(&secret).await.expect("readable").expect("the secret counts");
        Self { running, admin, folder }
    }

    pub async fn serve(folder: &Path, port: u16) -> Running {
        let options = Options {
            data: folder.to_owned(),
            listen: ([127, 0, 0, 1], port).into(),
            console: None,
            host: "127.0.0.1".to_owned(),
            names: Vec::new(),
        };
        start(options).await.expect("it starts")
    }

    /// Ends it, changes its store, and starts it again at the same place.
    pub async fn restarted(self, change: &str) -> Self {
        let port = self.control().url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let Self { running, admin, folder } = self;
        running.shut_down().await;
        let store = rusqlite::Connection::open(folder.path().join("control.db")).expect("opens");
        store.execute_batch(change).expect("changed");
        drop(store);
        Self { running: Self::serve(folder.path(), port).await, admin, folder }
    }

    pub fn control(&self) -> &Arc<Control> {
        &self.running.control
    }

    pub async fn token(&self) -> JoinToken {
        self.token_for(Duration::from_secs(600)).await
    }

    pub async fn token_for(&self, valid: Duration) -> JoinToken {
        self.control().create_token(&self.admin, "plant", valid).await.expect("a token")
    }

    /// Pushes a bundle of these files to the group of every node here.
    pub async fn push(&self, files: &[(&str, &str)]) -> Pushed {
        self.try_push("plant", NewGroup::Made, files).await.expect("pushed")
    }

    /// Pushes a bundle that may be refused.
    pub async fn try_push(&self, group: &str, new: NewGroup, files: &[(&str, &str)]) -> Result<Pushed, control::Error> {
        let create_group = matches!(new, NewGroup::Made);
        let request = PushRequest { group: group.to_owned(), create_group, ..self.request(files).await };
        self.control().push(&self.admin, request).await
    }

    /// Uploads these files and asks for them in the group that is there.
    pub async fn request(&self, files: &[(&str, &str)]) -> PushRequest {
        let mut list = Vec::new();
        for (path, content) in files {
            let digest = Digest::of(content.as_bytes());
            let chunk = Ok::<_, std::io::Error>(content.as_bytes().to_vec().into());
            self.control().blobs().put(digest, futures::stream::iter([chunk])).await.expect("a blob");
            list.push(File { path: path.parse().expect("a path"), digest, bytes: content.len() as u64 });
        }
        let (name, group) = ("plant".to_owned(), "plant".to_owned());
        PushRequest { name, group, create_group: false, again: false, files: list }
    }
}

/// What becomes of a push to a group that is not there.
pub enum NewGroup {
    Made,
    Refused,
}

pub struct Node {
    pub identity: Identity,
    pub store: Store,
    pub handles: Handles,
    pub questions: watch::Sender<Vec<PendingApproval>>,
    pub runs: watch::Sender<Vec<RunSummary>>,
    _report: watch::Sender<Report>,
    pub folder: TempDir,
    stop: CancellationToken,
    tasks: TaskTracker,
}

pub fn name(name: &str) -> NodeName {
    name.parse().expect("a name")
}

/// A node's papers in a new folder, enrolled with this token.
pub async fn enroll(node: &str, token: &JoinToken) -> Result<(TempDir, Identity), sync::Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut identity = Identity::open(folder.path(), &name(node))?;
    sync::enroll(&mut identity, token, "CH", "0.1.0").await?;
    Ok((folder, identity))
}

impl Node {
    pub async fn join(node: &str, cloud: &Cloud) -> Self {
        let (folder, identity) = enroll(node, &cloud.token().await).await.expect("enrolled");
        Self::start(folder, identity)
    }

    pub fn start(folder: TempDir, identity: Identity) -> Self {
        let store = Store::open(&folder.path().join("node.db")).expect("a store");
        let (questions, asked) = watch::channel(Vec::new());
        let (runs, ran) = watch::channel(Vec::<RunSummary>::new());
        let (report, reported) =
            watch::channel(Report { health: Health::Healthy, complaints: Vec::new(), figures: BTreeMap::new() });
        let sources = Sources {
            report: reported,
            runs: Arc::new(move |_, after, limit| {
                let later = |run: &&RunSummary| (run.updated, Some(run.run)) > after;
                Ok(ran.borrow().iter().filter(later).take(limit).cloned().collect())
            }),
            approvals: Arc::new(move |_, limit| Ok(asked.borrow().iter().take(limit).cloned().collect())),
        };
        let options = sync::Options {
            data: folder.path().to_owned(),
            jurisdiction: "CH".to_owned(),
            version: "0.1.0".to_owned(),
            started: clock::now(),
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let handles =
            sync::start(options, &identity, store.clone(), sources, stop.clone(), &tasks).expect("syncing starts");
        Self { identity, store, handles, questions, runs, _report: report, folder, stop, tasks }
    }

    /// Stops syncing and answers what is left: folder and papers.
    pub async fn stop(self) -> (TempDir, Identity, Store) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        (self.folder, self.identity, self.store)
    }

    /// Appends entries to the ledger, one for each word.
    pub async fn log(&self, words: &[&str]) {
        log(&self.store, words).await;
    }

    pub async fn link_is_up(&mut self) {
        let up = self.handles.link.wait_for(sync::Link::is_up);
        tokio::time::timeout(WAIT_MAX, up).await.expect("the link comes up in time").expect("syncing");
    }
}

pub async fn log(store: &Store, words: &[&str]) {
    for word in words {
        let entry =
            Entry { at: clock::now(), run: None, task: None, fact: Fact::AgentStarted { version: (*word).to_owned() } };
        store.write("log", move |tx| Ok(tx.append(&entry)?)).await.expect("written");
    }
}

/// Asks until the answer is `Some`, at most `WAIT_MAX` long.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, asking).await.unwrap_or_else(|_| panic!("{what}: not within {WAIT_MAX:?}"))
}
