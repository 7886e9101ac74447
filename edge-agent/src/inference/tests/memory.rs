//! Memory that is planned before a model is loaded, with real models.

use std::{num::NonZero, ops::ControlFlow};

use super::*;
use crate::inference::{
    config::Gguf,
    limits::Bytes,
    residents::{self, Residents},
};

fn within(targets: Vec<Target>, memory: u64) -> Inference {
    let limits = Limits { memory: Some(Bytes(memory)), keys_and_values: Some(Bytes(1 << 20)), ..Limits::default() };
    Inference::within(targets, &Digests::default(), limits, Beside::default(), Machine::this(), None)
}

/// What each model needs, in bytes.
fn needs(targets: &[Target]) -> Vec<u64> {
    let inference = within(targets.to_vec(), 1 << 30);
    inference.look().into_iter().map(|(name, needs)| needs.unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

fn loaded(inference: &Inference) -> Vec<String> {
    inference.figures().into_iter().filter(|(_, figures)| figures.held.is_some()).map(|(name, _)| name).collect()
}

fn ask(model: Value, offline: &str) -> Call {
    call(json!({"prompt": "Stop the pump?", "model": model, "maxTokens": 4, "offline": offline}))
}

#[tokio::test]
async fn a_model_that_does_not_fit_is_refused_with_the_numbers_and_the_route_goes_on() {
    let targets = vec![tiny("local/a", "tiny-qwen3")];
    let inference = within(targets.clone(), needs(&targets)[0] / 2);
    let done = infer(&inference, &ask(json!(["local/a", "local/extract"]), "refuse"), &[]).await.expect("the next one");
    assert_eq!(done.output["target"], EXTRACT);
    assert_eq!(routes(&done.facts), ["local/a", EXTRACT]);
    assert_eq!(requests(&done.facts).len(), 1, "the first was never asked: {:?}", done.facts);
    let told = format!("{:?}", done.facts);
    for number in
        ["local/a needs ", "MB (weights ", "keys and values ", "of `memory` under [inference]", "or raise `memory`"]
    {
        assert!(told.contains(number), "{told} lacks {number}");
    }
    for offline in ["park", "refuse", "degrade"] {
        let refused = infer(&inference, &ask(json!("local/a"), offline), &[]).await;
        if offline == "degrade" {
            assert_eq!(refused.expect("the next one").output["target"], EXTRACT);
            continue;
        }
        let refused = refused.expect_err("it never fits");
        assert_eq!((refused.error.kind.as_str(), refused.ask_again_at), (kind::CONFIGURATION.0, None), "{refused:?}");
        let detail = refused.error.detail.expect("a reason");
        assert!(detail.contains("there is no room for the model: local/a needs"), "{detail}");
    }
    assert!(loaded(&inference).is_empty());
}

#[tokio::test]
async fn a_model_that_does_not_fit_now_is_waited_for_and_one_that_never_fits_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("proc")).expect("made");
    let told = "MemTotal: 1048576 kB\nMemAvailable: 1024 kB\n";
    std::fs::write(folder.path().join("proc/meminfo"), told).expect("written");
    let on = |memory: u64| {
        let limits = Limits { memory: Some(Bytes(memory)), ..Limits::default() };
        let (targets, machine) = (vec![tiny("local/a", "tiny-qwen3")], Machine::at(folder.path()));
        Inference::within(targets, &Digests::default(), limits, Beside::default(), machine, None)
    };
    let for_v1 = async |inference: &Inference| {
        let worker = inference.worker("local/a").expect("it is there");
        let on_text: OnText = Box::new(|_| ControlFlow::Continue(()));
        let asked = generate::Request::ask("Stop the pump?");
        let error = worker.ask(asked, on_text, LOCAL_TIMEOUT, Priority::Normal).await.expect_err("no room");
        reply::local_error("local/a", &error)
    };
    let full = on(1 << 30);
    let parked = infer(&full, &ask(json!("local/a"), "park"), &[]).await.expect_err("no room now");
    assert!(parked.ask_again_at.is_some(), "{parked:?}");
    let refused = for_v1(&full).await;
    assert_eq!((refused.kind.as_str(), refused.status), (kind::COMMUNICATION.0, 503), "{refused:?}");
    let small = for_v1(&on(1_000)).await;
    assert_eq!((small.kind.as_str(), small.status), (kind::CONFIGURATION.0, 400), "{small:?}");
}

#[tokio::test]
async fn the_longest_unused_model_makes_room_and_comes_back_when_it_is_asked() {
    let targets = vec![tiny("local/a", "tiny-qwen3"), tiny("local/b", "tiny-llama3"), tiny("local/c", "tiny-qwen2")];
    let needs = needs(&targets);
    let all = within(targets.clone(), 1 << 30);
    for target in &targets {
        infer(&all, &ask(json!(target.name), "refuse"), &[]).await.expect("there is room for all");
    }
    // Weights and work of each; what it needs beside them is for keys and values, which all share.
    let models: Vec<u64> = all.figures().iter().filter_map(|(_, figures)| Some(figures.held?.model)).collect();
    let cache = needs.iter().zip(&models).map(|(needs, model)| needs - model).max().expect("three");
    // Two of them, and never three.
    let inference = within(targets, models.iter().sum::<u64>() + cache - models.iter().min().expect("three") / 2);
    let mut order = Vec::new();
    for name in ["local/a", "local/b", "local/a", "local/c", "local/b"] {
        let done = infer(&inference, &ask(json!(name), "refuse"), &[]).await.expect("loaded in place of another");
        assert_eq!(done.output["target"], name);
        order.push(loaded(&inference).join(" "));
    }
    assert_eq!(order, ["local/a", "local/a local/b", "local/a local/b", "local/a local/c", "local/b local/c"]);
    let (used, most) = inference.cache();
    assert!(used > 0 && used <= most && most <= 1 << 20, "{used} of {most}");
}

#[test]
fn weights_that_are_mapped_are_not_given_away_although_the_kernel_calls_their_pages_available() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, other] = ["one.gguf", "other.gguf"].map(|name| {
        let file = folder.path().join(name);
        std::fs::copy(tiny_file("tiny-qwen3-q8"), &file).expect("copied");
        Gguf::of(&file)
    });
    let limits = Limits { keys_and_values: Some(Bytes(1 << 20)), ..Limits::default() };
    let weights = folder.path().join("weights");
    let residents = |available: u64| {
        std::fs::create_dir_all(folder.path().join("proc")).expect("made");
        let told = format!("MemTotal: 1048576 kB\nMemAvailable: {} kB\n", available.div_ceil(1024));
        std::fs::write(folder.path().join("proc/meminfo"), told).expect("written");
        Residents::new(limits, Beside::default(), Machine::at(folder.path()), Some(weights.clone()))
    };
    let needs = residents(1 << 30).look("local/one", &one).expect("it fits");
    // Enough for one beside what the node keeps for itself. What the kernel tells stays the same when it is loaded.
    let residents = residents(needs + (32 << 20));
    let (busy, _) = residents.load("local/one", &one).expect("there is room");
    assert!(busy.mapped_bytes() > 4096 && residents.held("local/one").is_some());
    let Err(residents::Error::NoRoom(refusal)) = residents.load("local/other", &other) else { panic!("no room") };
    assert_eq!(refusal.busy, ["local/one"], "{refusal}");
    assert!(refusal.to_string().starts_with("local/other needs "), "{refusal}");
    drop(busy);
    residents.load("local/other", &other).expect("the idle one makes room");
    assert!(residents.held("local/one").is_none() && residents.held("local/other").is_some());

    let kept = || std::fs::read_dir(&weights).expect("it is there").count();
    assert_eq!(kept(), 2);
    residents.sweep(std::slice::from_ref(&other.file));
    assert_eq!(kept(), 1, "what is no target's is removed");
}

#[tokio::test]
async fn a_model_that_nobody_asks_is_unloaded_with_what_it_kept_and_loaded_again() {
    let limits = Limits { unload_after_s: NonZero::new(1), ..Limits::default() };
    let targets = vec![tiny("local/a", "tiny-qwen3")];
    let inference = Inference::within(targets, &Digests::default(), limits, Beside::default(), Machine::this(), None);
    for _ in 0..2 {
        infer(&inference, &ask(json!("local/a"), "refuse"), &[]).await.expect("answered");
        assert!(!loaded(&inference).is_empty() && inference.cache().0 > 0);
        let gone = async {
            while !loaded(&inference).is_empty() || inference.cache().0 > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("a second without a question is enough");
    }
}

#[tokio::test]
async fn figures_tell_what_a_model_did_and_has() {
    let inference = within(vec![tiny("local/a", "tiny-qwen3")], 1 << 30);
    let question = ask(json!("local/a"), "refuse");
    for _ in 0..2 {
        infer(&inference, &question, &[]).await.expect("answered");
    }
    let (name, figures) = inference.figures().swap_remove(0);
    let held = figures.held.expect("it is loaded");
    assert_eq!((name.as_str(), figures.waiting, figures.writing, figures.answers), ("local/a", 0, 0, 2));
    assert!(held.model > 0 && held.kept > 0, "{held:?}");
    assert!(figures.tokens_in > 0 && figures.tokens_out > 0 && figures.tokens_out <= 8, "{figures:?}");
    assert!(figures.tokens_reused > 0, "the second prompt was known: {figures:?}");
    let speed = figures.speed;
    assert!(speed.load > Some(0.0) && speed.first > Some(0.0) && speed.prompt > Some(0.0), "{speed:?}");
}

#[test]
fn an_embedder_that_does_not_fit_is_refused_with_the_numbers() {
    let limits = Limits { memory: Some(Bytes(80 << 20)), ..Limits::default() };
    assert_eq!(admit("all-minilm", 79 << 20, 0, limits, &Machine::this()), Ok(()));
    let refusal =
        admit("all-minilm", 79 << 20, 2 << 20, limits, &Machine::this()).expect_err("beside others").to_string();
    assert!(refusal.contains("free are 78 of 80 MB of `memory` under [inference]"), "{refusal}");
    let refusal = admit("all-minilm", 91 << 20, 0, limits, &Machine::this()).expect_err("too large").to_string();
    let expected = "all-minilm needs 91 MB (weights 91, work 0, keys and values 0) and never fits into the 80 MB of `memory` under [inference]";
    assert!(refusal.starts_with(expected), "{refusal}");
}

#[test]
fn keys_and_values_below_what_a_model_takes_anyway_are_told() {
    let targets = [tiny("local/a", "tiny-qwen3"), tiny("local/b", "tiny-llama3")];
    let given = |bytes: u64| Limits { keys_and_values: Some(Bytes(bytes)), ..Limits::default() };
    let told = shortage(&targets, &given(1 << 10)).expect("too little");
    assert!(told.starts_with("1 KB is less than local/") && told.contains("of 1024 tokens"), "{told}");
    assert_eq!(shortage(&targets, &given(1 << 30)), None);
    assert_eq!(shortage(&targets, &Limits::default()), None, "what is not given is planned");
}

#[test]
fn a_model_is_unused_from_the_end_of_its_last_answer_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let models = ["one", "two", "three"].map(|name| {
        let file = folder.path().join(name);
        std::fs::copy(tiny_file("tiny-qwen3-q8"), &file).expect("copied");
        (name, Gguf::of(&file))
    });
    let residents = |memory: Option<u64>| {
        let memory = memory.map(Bytes);
        let limits = Limits { memory, keys_and_values: Some(Bytes(1 << 20)), ..Limits::default() };
        Residents::new(limits, Beside::default(), Machine::this(), None)
    };
    let load = |residents: &Residents, at: usize| residents.load(models[at].0, &models[at].1).expect("there is room").0;
    let free = residents(None);
    let needs = free.look("one", &models[0].1).expect("it fits");
    drop(load(&free, 0));
    let one = free.held("one").expect("it is loaded").model;
    // Two of them, and never three.
    let residents = residents(Some(needs + one + one / 2));
    let writes = load(&residents, 0);
    drop(load(&residents, 1));
    drop(writes);
    residents.rests("one");
    drop(load(&residents, 2));
    let loaded = models.each_ref().map(|(name, _)| residents.held(name).is_some());
    assert_eq!(loaded, [true, false, true], "of the first an answer ended last");
}
