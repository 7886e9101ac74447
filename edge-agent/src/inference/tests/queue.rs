//! The queue before a model: who goes first, who is turned away, and who is told at once that it would be too late.

use std::{
    ops::ControlFlow,
    sync::mpsc::{Receiver, Sender, channel},
};

use edge_core::admit::Refused;

use super::*;
use crate::inference::local::Error;

fn request() -> generate::Request {
    let passages = vec![generate::Passage {
        text: "Stop the pump when it leaks.".to_owned(),
        document: "m.md".to_owned(),
        place: String::new(),
    }];
    generate::Request { passages, ..generate::Request::ask("What to do when the pump leaks?") }
}

/// Holds a model up in the middle of an answer until it is let go.
fn hold() -> (OnText, Receiver<()>, Sender<()>) {
    let (begun, is_begun) = channel();
    let (go, may_go) = channel();
    let mut held = false;
    let on_text: OnText = Box::new(move |text| {
        if !text.is_empty() && !held {
            held = true;
            let _gone = begun.send(());
            let _gone = may_go.recv();
        }
        ControlFlow::Continue(())
    });
    (on_text, is_begun, go)
}

/// Waits until so many wait for the built-in model.
async fn waiting(inference: &Inference, count: usize) {
    let found = || inference.figures().into_iter().find(|(name, _)| name == EXTRACT).expect("it is there").1.waiting;
    let began = std::time::Instant::now();
    while found() != count {
        assert!(began.elapsed() < Duration::from_secs(30), "{} wait, not {count}", found());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An answer of the built-in model that stands still until it is let go.
fn held_up(inference: &Inference) -> (tokio::task::JoinHandle<()>, Sender<()>) {
    let (on_text, is_begun, go) = hold();
    let asking = inference.clone();
    let first = tokio::spawn(async move {
        let worker = asking.worker(EXTRACT).expect("built in");
        worker.ask(request(), on_text, LOCAL_TIMEOUT, Priority::Batch).await.expect("answered");
    });
    is_begun.recv_timeout(Duration::from_secs(30)).expect("it begins");
    (first, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_go_before_batches_and_near_deadlines_before_far_ones() {
    let inference = Inference::new(Vec::new(), &Digests::default());
    let (first, go) = held_up(&inference);
    let done: Arc<Mutex<Vec<&str>>> = Arc::default();
    let mut tasks = Vec::new();
    let comers = [
        ("batch", Priority::Batch, 100),
        ("late", Priority::Normal, 500),
        ("soon", Priority::Normal, 200),
        ("alarm", Priority::Urgent, 600),
    ];
    for (at, (name, priority, within)) in comers.into_iter().enumerate() {
        let (asking, done) = (inference.clone(), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            let mut is_told = false;
            let on_text: OnText = Box::new(move |_| {
                if !std::mem::replace(&mut is_told, true) {
                    done.lock().expect("free").push(name);
                }
                ControlFlow::Continue(())
            });
            let worker = asking.worker(EXTRACT).expect("built in");
            worker.ask(request(), on_text, Duration::from_secs(within), priority).await.expect("answered");
        }));
        waiting(&inference, at + 1).await;
    }
    go.send(()).expect("it waits");
    first.await.expect("answered");
    for task in tasks {
        task.await.expect("answered");
    }
    assert_eq!(*done.lock().expect("free"), ["alarm", "soon", "late", "batch"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_turns_away_who_is_least_important_and_says_so_at_once() {
    let inference = Inference::new(Vec::new(), &Digests::default());
    let (first, go) = held_up(&inference);
    let ask = |priority| {
        let asking = inference.clone();
        tokio::spawn(async move {
            let worker = asking.worker(EXTRACT).expect("built in");
            worker.ask(request(), Box::new(|_| ControlFlow::Continue(())), LOCAL_TIMEOUT, priority).await.map(drop)
        })
    };
    let mut batch: Vec<_> = (0..64).map(|_| ask(Priority::Batch)).collect();
    waiting(&inference, 64).await;
    assert!(matches!(ask(Priority::Batch).await.expect("ended"), Err(Error::Refused(Refused::Full { waiting: 64 }))));
    let alarm = ask(Priority::Urgent);
    let (displaced, ..) = futures::future::select_all(&mut batch).await;
    assert!(matches!(displaced.expect("ended"), Err(Error::Refused(Refused::Displaced))));
    // The endpoint says so in HTTP, as a thing that passes.
    let error = reply::local_error(EXTRACT, &Refused::Full { waiting: 64 }.into());
    assert_eq!(error.status, 429);
    go.send(()).expect("it waits");
    alarm.await.expect("ended").expect("answered");
    first.await.expect("answered");
    let figures = inference.figures().pop().expect("the built-in model").1;
    assert_eq!(figures.turned_away, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_leaves_the_queue_and_is_not_computed() {
    let inference = Inference::new(Vec::new(), &Digests::default());
    let (first, go) = held_up(&inference);
    let ask = || {
        let asking = inference.clone();
        tokio::spawn(async move {
            let worker = asking.worker(EXTRACT).expect("built in");
            let on_text: OnText = Box::new(|_| ControlFlow::Continue(()));
            worker.ask(request(), on_text, LOCAL_TIMEOUT, Priority::Normal).await.map(drop)
        })
    };
    let gone: Vec<_> = (0..64).map(|_| ask()).collect();
    waiting(&inference, 64).await;
    gone.iter().for_each(tokio::task::JoinHandle::abort);
    waiting(&inference, 0).await;
    let last = ask();
    waiting(&inference, 1).await;
    go.send(()).expect("it waits");
    first.await.expect("answered");
    last.await.expect("ended").expect("there is a place");
    assert_eq!(inference.figures().pop().expect("the built-in model").1.answers, 2);
}

#[tokio::test]
async fn a_deadline_that_the_measured_speed_cannot_meet_is_told_before_the_model_is_asked() {
    let inference = Inference::new(vec![tiny("local/a", "tiny-qwen3")], &Digests::default());
    let question = || call(json!({"prompt": "Stop the pump when it leaks?", "model": "local/a", "maxTokens": 200}));
    infer(&inference, &question(), &[]).await.expect("answered");
    let worker = inference.worker("local/a").expect("it is there");
    let asked = generate::Request { max_tokens: 200, ..generate::Request::ask("Stop the pump when it leaks?") };
    let expected = worker.expected(&asked, None, Priority::Normal).await.expect("it has answered once");
    let late = worker.ask(asked, Box::new(|_| ControlFlow::Continue(())), expected / 4, Priority::Normal);
    let late = late.await.expect_err("too late");
    assert!(matches!(late, Error::Refused(Refused::Late { .. })) && late.is_unasked(), "{late}");
    let endless = generate::Request::ask("Stop the pump when it leaks? ".repeat(400));
    let others: Arc<OnceLock<()>> = Arc::default();
    let other = Arc::clone(&others);
    tokio::spawn(async move { other.set(()) });
    let endless = worker.ask(endless, Box::new(|_| ControlFlow::Continue(())), expected / 4, Priority::Normal).await;
    let endless = endless.expect_err("no time is enough for it");
    let is_told =
        matches!(&endless, Error::Generate(models::Error::TooLong { message }) if message.contains("prompt has"));
    assert!(is_told, "it is not told to come again: {endless:?}");
    assert!(others.get().is_some(), "others have their turn on this thread while a long prompt is split");
    let mut hurried = question();
    hurried.deadline = Some(crate::clock::now().plus(expected / 4));
    let failure = infer(&inference, &hurried, &[]).await.expect_err("no target in time");
    assert_eq!(failure.error.kind, kind::TIMEOUT.0, "{failure:?}");
    assert_eq!(requests(&failure.facts), [], "nobody was asked");
    assert_eq!(inference.figures()[0].1.answers, 1);
}

#[tokio::test]
async fn what_is_kept_of_a_conversation_is_not_counted_against_its_deadline() {
    let inference = Inference::new(vec![tiny("local/a", "tiny-qwen3")], &Digests::default());
    let worker = inference.worker("local/a").expect("it is there");
    let request = |words: &str| generate::Request { max_tokens: 2, ..generate::Request::ask(words.repeat(15)) };
    let ask = |words: &str, within| {
        worker.ask(request(words), Box::new(|_| ControlFlow::Continue(())), within, Priority::Normal)
    };
    ask("Stop the pump. ", LOCAL_TIMEOUT).await.expect("answered");
    let whole =
        worker.expected(&request("Stop the pump. "), None, Priority::Normal).await.expect("it has answered once");
    let rest =
        worker.expected(&request("Stop the pump. "), Some(Duration::ZERO), Priority::Normal).await.expect("the same");
    assert!(rest < whole, "{rest:?} of {whole:?} without what is kept");
    let within = (rest + whole) / 2;
    let other = ask("Open the gate. ", within).await;
    assert!(matches!(other, Err(Error::Refused(Refused::Late { .. }))), "nothing is kept of it: {other:?}");
    // A machine that is busy may not keep the time; that it is tried is what counts.
    let same = ask("Stop the pump. ", within).await;
    assert!(matches!(same, Ok(_) | Err(Error::Timeout { .. })), "{same:?}");
}

#[tokio::test]
async fn models_rest_while_the_machine_is_too_hot() {
    let root = tempfile::tempdir().expect("a folder");
    let zone = root.path().join("sys/class/thermal/thermal_zone0");
    std::fs::create_dir_all(&zone).expect("made");
    let heat = |millis: &str| std::fs::write(zone.join("temp"), millis).expect("written");
    let limits = Limits { temperature_max: Some(80.0), ..Limits::default() };
    let targets = vec![tiny("local/a", "tiny-qwen3")];
    let inference =
        Inference::within(targets, &Digests::default(), limits, Beside::default(), Machine::at(root.path()), None);
    let question = || call(json!({"prompt": "Why?", "model": "local/a", "maxTokens": 2, "offline": "refuse"}));
    let ask = || {
        let worker = inference.worker("local/a").expect("it is there");
        worker.ask(
            generate::Request::ask("Why?"),
            Box::new(|_| ControlFlow::Break(())),
            LOCAL_TIMEOUT,
            Priority::Normal,
        )
    };
    heat("90500");
    let hot = ask().await.expect_err("it rests");
    assert_eq!(hot.to_string(), "the machine has 90 degrees, above `temperature_max` under [inference]: models rest");
    assert_eq!(reply::local_error("local/a", &hot).status, 503, "it may be asked again");
    let failure = infer(&inference, &question(), &[]).await.expect_err("a workflow's too");
    assert!(failure.error.detail.is_some_and(|detail| detail.contains("above `temperature_max`")));
    let worker = inference.worker(EXTRACT).expect("built in");
    worker
        .ask(request(), Box::new(|_| ControlFlow::Continue(())), LOCAL_TIMEOUT, Priority::Normal)
        .await
        .expect("it computes next to nothing");
    heat("79900");
    ask().await.expect("it has cooled");
    infer(&inference, &question(), &[]).await.expect("answered");
}

#[tokio::test]
async fn each_call_draws_its_own_answer_and_the_same_when_it_is_asked_again() {
    let inference = Inference::new(vec![tiny("local/a", "tiny-qwen3")], &Digests::default());
    let ask = async |key: &str, seed: Option<u32>| {
        let mut input =
            json!({"prompt": "Why?", "model": "local/a", "maxTokens": 12, "temperature": 1.5, "topP": 0.99});
        if let Some(seed) = seed {
            input["seed"] = seed.into();
        }
        let asked = Call {
            key: edge_core::engine::effect::EffectKey(key.to_owned()),
            asked_at: Timestamp::from_millis(0),
            ..call(input)
        };
        infer(&inference, &asked, &[]).await.expect("answered").output["text"].clone()
    };
    let first = ask("a", None).await;
    assert_eq!(ask("a", None).await, first);
    assert_ne!(ask("b", None).await, first);
    assert_eq!(ask("a", Some(7)).await, ask("b", Some(7)).await);
}
