//! The queue before the small models: who goes first, who makes way in the middle, who is turned away, and who is told at once that it would
//! be too late.

use edge_core::admit::Priority;
use shared::policy::{Target, TargetKind};
use tokio::task::JoinHandle;

use super::{shelf::manual, *};
use crate::testing::{BREAK_DOWN, Noting, STAND_STILL, until};

async fn noted(files: &[(&str, &str)]) -> (Arc<Site>, Arc<Noting>) {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), files);
    let noting = Noting::new();
    let store = Store::open(&dir.path().join("node.db")).expect("a store");
    let memory = Memory::open(store, Arc::clone(&noting) as Arc<dyn Embedder>);
    let site = Site { dir, memory };
    site.refresh().await;
    noting.clear();
    (Arc::new(site), noting)
}

type Asked = JoinHandle<Result<Completion, Failure>>;

fn ask(site: &Arc<Site>, within: Option<Duration>, function: &'static str, input: Value) -> Asked {
    let (site, deadline) = (Arc::clone(site), within.map(|within| clock::now().plus(within)));
    tokio::spawn(async move { site.call_until(deadline, function, input).await })
}

fn embed(site: &Arc<Site>, text: &str, priority: &str) -> Asked {
    ask(site, None, "embed", json!({"text": text, "priority": priority}))
}

/// One for whom the models stand still.
async fn held(site: &Arc<Site>, noting: &Noting) -> Asked {
    let asked = embed(site, STAND_STILL, "batch");
    until("it stands still", || noting.stands()).await;
    asked
}

fn figures(site: &Site) -> Figures {
    site.memory.as_figures()().remove(0)
}

async fn waiting(site: &Site, count: usize) {
    until(&format!("{count} wait"), || figures(site).waiting == count).await;
}

async fn error(asked: Asked) -> (u16, String) {
    let error = asked.await.expect("it ends").expect_err("it fails").error;
    (error.status, error.detail.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_important_go_first_then_who_has_the_nearest_deadline() {
    let (site, noting) = noted(&[]).await;
    let mut asked = vec![held(&site, &noting).await];
    let comers = [("batch", "batch", 100), ("late", "normal", 500), ("soon", "normal", 200), ("alarm", "urgent", 600)];
    for (at, (text, priority, within)) in comers.into_iter().enumerate() {
        let input = json!({"text": text, "priority": priority});
        asked.push(ask(&site, Some(Duration::from_secs(within)), "embed", input));
        waiting(&site, at + 1).await;
    }
    noting.go();
    for asked in asked {
        asked.await.expect("it ends").expect("embedded");
    }
    assert_eq!(noting.read(), [STAND_STILL, "alarm", "soon", "late", "batch"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_turns_away_who_is_least_important_and_documents_wait_beside_it() {
    let (site, noting) = noted(&[]).await;
    let first = held(&site, &noting).await;
    let mut batch: Vec<Asked> = (0..64).map(|_| embed(&site, "batch", "batch")).collect();
    waiting(&site, 64).await;
    write(site.dir.path(), &[("documents/manuals/pump.md", PUMP)]);
    site.memory.set_content(Content::read(site.dir.path()).expect("a valid bundle"));
    waiting(&site, 65).await;
    let full = (
        429,
        "embed of /do/0/look: 64 requests wait already, which is as many as may, and none of them is less important",
    );
    let (status, detail) = error(embed(&site, "one more", "batch")).await;
    assert_eq!((status, detail.as_str()), full);
    let target = Target::new(TargetKind::Local, EMBEDDER);
    let (workflow, label, node_jurisdiction) = ("node/openai".to_owned(), Label::default(), "CH".to_owned());
    let request = Request { action: Action::Embed, workflow, agent: None, target, label, node_jurisdiction };
    let permit = PolicySet::default_rules().decide(&request).expect("open data");
    let by_http = site.memory.as_embed()(permit, vec!["one more".to_owned()], Priority::Batch).await;
    assert_eq!(by_http.expect_err("no place").status, 429);
    let alarm = embed(&site, "alarm", "urgent");
    let (displaced, ..) = futures::future::select_all(&mut batch).await;
    let displaced = displaced.expect("it ends").expect_err("no place").error;
    assert_eq!((displaced.status, figures(&site).turned_away), (429, 3), "{displaced:?}");
    noting.go();
    for asked in [first, alarm] {
        asked.await.expect("it ends").expect("embedded");
    }
    site.refresh().await;
    assert_eq!(site.places("E4711").await[0], "Pump P-7", "the document had its turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_the_measured_speed_cannot_meet_is_told_at_once() {
    let (site, noting) = noted(&[]).await;
    let much = || json!({"texts": vec![PUMP.repeat(8); 256], "priority": "batch"});
    let hour = Some(Duration::from_secs(3_600));
    ask(&site, hour, "embed", much()).await.expect("it ends").expect("nobody knows yet how long it takes");
    let seen = figures(&site);
    let speed = seen.speed.prompt.expect("it was measured");
    let takes = Duration::from_secs_f64(256.0 * (PUMP.len() * 8 / 3) as f64 / speed);
    let (status, detail) = error(ask(&site, Some(takes / 4), "embed", much())).await;
    assert!(status == 408 && detail.contains("it takes about ") && detail.contains(" ms are left"), "{detail}");
    let text = PUMP.repeat(2_048);
    let long = json!({"index": "notes", "text": text, "id": "long"});
    let (status, detail) = error(ask(&site, Some(Duration::from_micros(1)), "remember", long)).await;
    assert!(status == 408 && detail.starts_with("remember of "), "{detail}");
    assert_eq!((figures(&site).texts, figures(&site).turned_away), (seen.texts, 1), "nothing was computed");

    let first = held(&site, &noting).await;
    let mut before = much();
    before["priority"] = "normal".into();
    let before = ask(&site, None, "embed", before);
    waiting(&site, 1).await;
    let behind = ask(&site, Some(takes / 2), "embed", json!({"text": "a few words", "priority": "batch"}));
    let (status, detail) = error(behind).await;
    assert!(status == 408 && detail.contains(" of them for those before it") && !detail.contains(" 0 of"), "{detail}");
    noting.go();
    for asked in [first, before] {
        asked.await.expect("it ends").expect("embedded");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_past_its_deadline_and_who_has_gone_leave_the_queue() {
    let (site, noting) = noted(&[]).await;
    let texts: Vec<&str> = [STAND_STILL].into_iter().chain([PUMP; 99]).collect();
    let first = ask(&site, None, "embed", json!({ "texts": texts }));
    until("it stands still", || noting.stands()).await;
    let hurried = json!({"text": "hurried"});
    let (status, detail) = error(ask(&site, Some(Duration::from_millis(200)), "embed", hurried)).await;
    assert_eq!((status, detail.as_str()), (408, "embed of /do/0/look: it was not done in time"));
    let gone: Vec<Asked> = (0..3).map(|_| embed(&site, "gone", "urgent")).collect();
    waiting(&site, 3).await;
    gone.iter().for_each(JoinHandle::abort);
    waiting(&site, 0).await;
    first.abort();
    assert!(first.await.is_err(), "nobody waits for it any more");
    noting.go();
    embed(&site, "next", "batch").await.expect("it ends").expect("embedded");
    assert_eq!(noting.read(), [STAND_STILL, "next"], "what nobody waits for is not computed to its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_and_long_requests_make_way_for_a_question_after_the_piece_that_they_are_at() {
    let (site, noting) = noted(&[("documents/manuals/pump.md", PUMP)]).await;
    write(site.dir.path(), &[("documents/manuals/still.md", &manual(STAND_STILL))]);
    site.memory.set_content(Content::read(site.dir.path()).expect("a valid bundle"));
    until("a document is being indexed", || noting.stands()).await;
    let texts: Vec<String> = (0..100).map(|at| format!("text {at}")).collect();
    let long = ask(&site, None, "embed", json!({ "texts": texts }));
    waiting(&site, 1).await;
    let question = json!({"index": "manuals", "query": "which connector", "priority": "urgent"});
    let question = ask(&site, None, "retrieve", question);
    waiting(&site, 2).await;
    noting.go();
    question.await.expect("it ends").expect("found");
    let vectors = long.await.expect("it ends").expect("embedded").output["vectors"].clone();
    site.refresh().await;
    let read = noting.read();
    let order = ["which connector", "text 0", "text 32", "text 64", "text 96"].map(str::to_owned);
    assert!(read[0].contains(STAND_STILL) && read[1..6] == order, "{read:?}");
    assert!(read.len() > 30 && read[6..].iter().all(|text| text.contains(STAND_STILL)), "{read:?}");
    let alone = site.call("embed", json!({ "texts": texts })).await.expect("embedded").output["vectors"].clone();
    assert_eq!(vectors, alone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_request_makes_way_in_the_middle_and_goes_on_where_it_was() {
    let (site, noting) = noted(&[]).await;
    let mut texts: Vec<String> = (0..100).map(|at| format!("text {at}")).collect();
    texts[40] = STAND_STILL.to_owned();
    let long = ask(&site, None, "embed", json!({"texts": texts, "priority": "batch"}));
    until("it is in the middle", || noting.read().len() == 2).await;
    let (alarm, batch) = (embed(&site, "alarm", "urgent"), embed(&site, "batch", "batch"));
    waiting(&site, 2).await;
    noting.go();
    let vectors = long.await.expect("it ends").expect("embedded").output["vectors"].clone();
    for asked in [alarm, batch] {
        asked.await.expect("it ends").expect("embedded");
    }
    assert_eq!(noting.read(), ["text 0", "text 32", "alarm", "text 64", "text 96", "batch"]);
    let alone = site.call("embed", json!({ "texts": texts })).await.expect("embedded").output["vectors"].clone();
    assert_eq!(vectors, alone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_told_to_its_caller_and_the_next_is_served() {
    let (site, noting) = noted(&[]).await;
    let first = held(&site, &noting).await;
    let broken = embed(&site, BREAK_DOWN, "normal");
    waiting(&site, 1).await;
    let next = embed(&site, "next", "normal");
    waiting(&site, 2).await;
    noting.go();
    assert_eq!(error(broken).await, (500, "embed of /do/0/look: the computation panicked, see the log".to_owned()));
    for asked in [first, next] {
        asked.await.expect("it ends").expect("embedded");
    }
}
