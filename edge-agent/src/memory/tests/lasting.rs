//! How long and how much is kept: by the time that the node was on, whatever its clock says, and no more than its indexes may hold.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures::{FutureExt as _, future::BoxFuture};

use super::{kept::kept_as, *};

/// Time that passes when a test says so, and a wall clock that says what it likes.
#[derive(Clone, Default)]
pub(super) struct Hands(Arc<(AtomicI64, AtomicU64)>);

impl Hands {
    fn set_wall(&self, years: i64) {
        self.0.0.store(years * 365 * 24 * 3_600_000, Ordering::Relaxed);
    }

    pub(super) fn pass(&self, hours: u64) {
        self.0.1.fetch_add(hours * 3_600, Ordering::Relaxed);
    }
}

impl Source for Hands {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.0.0.load(Ordering::Relaxed))
    }

    fn passed(&self) -> Duration {
        Duration::from_secs(self.0.1.load(Ordering::Relaxed))
    }

    fn pass(&self, _: Duration) -> BoxFuture<'static, ()> {
        futures::future::pending().boxed()
    }
}

pub(super) async fn site_by(hands: &Hands, dir: tempfile::TempDir, limits: &str) -> Site {
    let store = Store::open(&dir.path().join("node.db")).expect("a store");
    let (embedder, folder) = (models::embed::default_embedder(), dir.path().join("indexes"));
    let memory = Memory::begin(store, embedder.into(), Some(Shelf::new(&folder)), Box::new(hands.clone()));
    let site = Site { dir, memory: memory.within(toml::from_str(limits).expect("limits")) };
    site.refresh().await;
    site
}

pub(super) async fn fresh(hands: &Hands, limits: &str) -> Site {
    site_by(hands, tempfile::tempdir().expect("a folder"), limits).await
}

async fn keep(site: &Site, id: &str, text: &str, more: Value) -> Result<Completion, Failure> {
    let mut input = json!({"index": "notes", "id": id, "text": text});
    input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    kept_as("run:/do/0/keep", site, "remember", input, DataClass::Public).await
}

pub(super) async fn kept(site: &Site, id: &str, text: &str, more: Value) {
    keep(site, id, text, more).await.unwrap_or_else(|failure| panic!("{id}: {:?}", failure.error));
}

/// The ids of what a search finds, in order.
pub(super) async fn found(site: &Site, query: &str) -> Vec<String> {
    let input = json!({"index": "notes", "query": query, "topK": 100});
    let Ok(done) = kept_as("run:/do/0/look", site, "retrieve", input, DataClass::Public).await else {
        return Vec::new();
    };
    let passages = done.output["passages"].as_array().expect("a list").clone();
    let mut ids: Vec<_> =
        passages.iter().map(|own| own["document"].as_str().expect("a name")[11..].to_owned()).collect();
    ids.sort();
    ids
}

/// Rows of texts, of their chunks and of vectors that the index still holds.
fn taken(site: &Site) -> (i64, i64, usize) {
    let count = |sql: &'static str| {
        site.memory.inner.store.read_blocking("count", |c| c.query_row(sql, [], |row| row.get(0))).expect("a number")
    };
    let indexes = site.memory.inner.indexes.read().expect("no panic");
    let vectors = indexes.get("notes").map_or(0, |served| served.index.ids().count());
    (count("SELECT count(*) FROM memory_document"), count("SELECT count(*) FROM memory_chunk"), vectors)
}

/// Does what idle time is for.
async fn swept(site: &Site) {
    let inner = Arc::clone(&site.memory.inner);
    let sweep = move || while inner.expire().expect("swept") {};
    tokio::task::spawn_blocking(sweep).await.expect("no panic");
}

#[tokio::test]
async fn what_is_kept_for_a_time_is_found_until_then_and_gives_its_room_back() {
    let hands = Hands::default();
    let site = fresh(&hands, "").await;
    kept(&site, "hour", "The pump stands still.", json!({"keepFor": "PT1H"})).await;
    kept(&site, "week", "The pump was greased.", json!({"keepFor": "P7D"})).await;
    kept(&site, "ever", "The pump is blue.", json!({})).await;
    assert_eq!(found(&site, "pump").await, ["ever", "hour", "week"]);
    hands.pass(2);
    assert_eq!(found(&site, "pump").await, ["ever", "week"], "not found, whether it was taken away already or not");
    swept(&site).await;
    assert_eq!(taken(&site), (2, 2, 2));
    hands.pass(24 * 7);
    swept(&site).await;
    assert_eq!(taken(&site), (1, 1, 1));
    assert_eq!(found(&site, "pump").await, ["ever"]);
}

#[tokio::test]
async fn a_clock_that_jumps_takes_nothing_away_and_a_restart_does_not_make_it_young() {
    let hands = Hands::default();
    let site = fresh(&hands, "keep_for = 'P10D'").await;
    kept(&site, "a", "The pump stands still.", json!({})).await;
    for years in [80, 0, -20] {
        hands.set_wall(years);
        swept(&site).await;
        assert_eq!(found(&site, "pump").await, ["a"], "{years} years");
    }
    hands.pass(24 * 6);
    swept(&site).await;
    let Site { dir, memory } = site;
    drop(memory);
    // The machine's own count begins anew.
    let after = Hands::default();
    let site = site_by(&after, dir, "").await;
    after.pass(24 * 3);
    assert_eq!(found(&site, "pump").await, ["a"], "nine days");
    after.pass(25);
    assert_eq!(found(&site, "pump").await, [""; 0], "ten");
}

#[tokio::test]
async fn what_was_said_is_kept_for_a_time_too() {
    let hands = Hands::default();
    let site = fresh(&hands, "[indexes.sessions]\nkeep_for = 'PT1H'").await;
    for (at, more) in [json!({}), json!({"keepFor": "P1D"})].into_iter().enumerate() {
        let mut input = json!({"session": "chat", "text": format!("turn {at}")});
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        kept_as(&format!("run:/do/{at}/say"), &site, "remember", input, DataClass::Public).await.expect("kept");
    }
    let turns = async || {
        let input = json!({"session": "chat"});
        let done = kept_as("run:/do/9/hear", &site, "retrieve", input, DataClass::Public).await.expect("heard");
        done.output["passages"].as_array().expect("a list").len()
    };
    let sessions = || {
        let sql = "SELECT count(*) FROM memory_session";
        site.memory.inner.store.read_blocking("count", |c| c.query_row(sql, [], |row| row.get::<_, i64>(0)))
    };
    assert_eq!(turns().await, 2);
    hands.pass(2);
    assert_eq!(turns().await, 1);
    hands.pass(24);
    assert_eq!(turns().await, 0);
    swept(&site).await;
    assert_eq!(sessions().expect("counted"), 0, "a conversation that is empty is none");
}

#[tokio::test]
async fn an_index_that_is_full_refuses_or_forgets_the_oldest_as_it_is_told() {
    let hands = Hands::default();
    let limits = "entries = 2\nbytes = '1 KB'\n[indexes.ring]\nwhen_full = 'forget_oldest'";
    let site = fresh(&hands, limits).await;
    for id in ["a", "b"] {
        kept(&site, id, "The pump stands still.", json!({"keepFor": "PT1H"})).await;
    }
    let refused = keep(&site, "c", "The pump runs.", json!({})).await.expect_err("full").error;
    let detail = refused.detail.unwrap_or_default();
    assert_eq!(refused.status, 413);
    assert!(
        detail.contains("the index \"notes\" holds 2 kept texts of 2 at most, 44 bytes of 1024 at most"),
        "{detail}"
    );
    kept(&site, "b", "The pump runs.", json!({"keepFor": "PT1H"})).await;
    let long = keep(&site, "b", &"long ".repeat(300), json!({})).await.expect_err("too long").error;
    assert_eq!(long.status, 413);
    assert_eq!(found(&site, "pump").await, ["a", "b"], "what was refused replaced nothing");
    hands.pass(2);
    kept(&site, "c", "The pump runs again.", json!({})).await;
    assert_eq!(taken(&site), (1, 1, 1), "those whose time is over make room");
    for id in ["1", "2", "3"] {
        kept(&site, id, "The ring is worn.", json!({"index": "ring"})).await;
    }
    let list = |connection: &rusqlite::Connection| crate::store::documents::list(connection, Some("ring"));
    let listed = site.memory.inner.store.read_blocking("list the documents", list).expect("a list");
    assert_eq!(listed.iter().map(|own| own.document.as_str()).collect::<Vec<_>>(), ["remembered:2", "remembered:3"]);
}

#[tokio::test]
async fn conversations_are_forgotten_whole_by_source_and_by_whom_they_are_about() {
    let site = site(&[]).await;
    for (at, (session, source, subject)) in
        [("a", "desk", "Mia"), ("a", "desk", "Jon"), ("b", "mail", "Mia"), ("b", "mail", "Jon"), ("c", "desk", "Jon")]
            .into_iter()
            .enumerate()
    {
        let input = json!({"session": session, "text": "said", "source": source, "subject": subject});
        kept_as(&format!("run:/do/{at}/say"), &site, "remember", input, DataClass::Public).await.expect("kept");
    }
    let forget = async |input: Value| kept_as("run:/do/9/go", &site, "forget", input, DataClass::Public).await;
    let gone = async |input: Value| forget(input).await.expect("gone").output["forgotten"].clone();
    assert_eq!(gone(json!({"session": "a", "subject": "Mia"})).await, 1);
    assert_eq!(gone(json!({"kind": "session", "subject": "Mia"})).await, 1);
    assert_eq!(gone(json!({"kind": "session", "source": "mail"})).await, 1);
    assert_eq!(gone(json!({"session": "c"})).await, 1);
    assert_eq!(gone(json!({"session": "a"})).await, 1);
    assert_eq!(gone(json!({"session": "a"})).await, 0);
    for (input, told) in [
        (json!({"kind": "session"}), "session: missing; expected a session, a source or a subject"),
        (json!({"session": "a", "id": "x"}), "id: given for what has none"),
        (json!({"kind": "text", "session": "a", "id": "x"}), "session: given for what has none"),
    ] {
        let detail = forget(input).await.expect_err("refused").error.detail.unwrap_or_default();
        assert!(detail.contains(told), "{detail}");
    }
}

#[tokio::test]
async fn an_index_that_the_configuration_speaks_of_may_be_empty_and_another_is_a_mistake() {
    let site = fresh(&Hands::default(), "[indexes.notes]\nentries = 5").await;
    let look = async |index: &str| {
        kept_as("run:/do/0/look", &site, "retrieve", json!({"index": index, "query": "pump"}), DataClass::Public).await
    };
    assert_eq!(look("notes").await.expect("nothing is there yet").output["passages"], json!([]));
    let mistake = look("note").await.expect_err("no such index");
    assert!(mistake.error.detail.is_some_and(|detail| detail.contains("\"note\" is not an index of this node")));
}
