//! The room of keys and values with real models, and what a model takes before it is loaded.

use super::*;
use crate::generate::{
    Finish, Generator as _, Request,
    chat::{
        Chat, Compute, open_gguf,
        tests::{FAMILIES, NAMES, answer, path, warm},
    },
};

#[test]
fn two_models_share_one_room_and_never_pass_its_limit() {
    let room = CacheRoom::new(u64::MAX);
    let load = |name: &str| Chat::load_in(open_gguf(&path(name), Compute::default()).unwrap(), &room).unwrap();
    let (first, second) = (load("tiny-qwen3"), load("tiny-llama3"));
    let step = |chat: &Chat| chat.decoder.token_bytes() as u64 * 64;
    // Three steps of the larger: an answer of two and what is kept of one.
    let limit = 3 * step(&first).max(step(&second));
    room.set_limit(limit);
    let most = std::sync::atomic::AtomicU64::new(0);
    let ask = |chat: &Chat, seed: u64| {
        let request = Request { max_tokens: 20, seed, sampling: warm(), ..Request::ask("What is the cause?") };
        let answer = chat.generate(&request, &mut |_| {
            most.fetch_max(room.used(), std::sync::atomic::Ordering::Relaxed);
            ControlFlow::Continue(())
        });
        assert!(answer.unwrap().tokens_out > 0);
    };
    std::thread::scope(|scope| {
        for seed in 0..6 {
            let (first, second, ask) = (&first, &second, &ask);
            scope.spawn(move || ask(if seed % 2 == 0 { first } else { second }, seed));
        }
    });
    let most = most.into_inner();
    assert!(most > 0 && most <= limit, "{most} of {limit}");
    assert!(room.used() > 0, "the last conversations are kept");
    assert_eq!(room.used(), first.kept_bytes() + second.kept_bytes(), "no claim is left");
    drop(first);
    assert_eq!(room.used(), second.kept_bytes(), "what was kept of a model goes with it");

    room.set_limit(step(&second));
    let long = second.generate(&Request::ask("word ".repeat(40)), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(long.to_string().contains("expected fewer than 64, for which there is room"), "{long}");
}

#[test]
fn an_answer_waits_for_room_until_its_caller_goes() {
    let chat = Chat::load(&path("tiny-qwen3")).unwrap();
    let room = CacheRoom::new(chat.decoder.token_bytes() as u64 * 128);
    let chat = Chat { place: Place::new(&room, chat.decoder.token_bytes(), 256), ..chat };
    let (_, held) = chat.place.take(&[], 128, &mut || ControlFlow::Break(())).continue_value().unwrap();
    let mut looks = 0;
    let gone = chat.generate(&Request { max_tokens: 9, ..Request::ask("What?") }, &mut |_| {
        looks += 1;
        if looks == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((gone.unwrap().finish, looks), (Finish::Cancelled, 3));
    drop(held);
    assert_eq!(answer(&chat, &Request { max_tokens: 9, ..Request::ask("What?") }).tokens_out, 9);
}

#[test]
fn what_a_model_will_take_is_known_before_it_is_loaded() {
    for name in NAMES.into_iter().chain(FAMILIES) {
        let unloaded = open_gguf(&path(name), Compute::default()).unwrap();
        let needs = unloaded.needs();
        let chat = Chat::load_in(unloaded, &CacheRoom::new(u64::MAX)).unwrap();
        assert_eq!(needs.weights, chat.decoder.weights_bytes() as u64, "{name}");
        assert_eq!(needs.context, chat.decoder.context(), "{name}");
        let mut session = chat.decoder.session();
        chat.decoder.forward(&mut session, &[1; 64]).unwrap();
        assert_eq!(needs.token * 64, session.bytes() as u64, "{name}");
        session.truncate(0);
        session.shrink();
        assert_eq!(session.bytes(), 0, "{name}");
    }
}

#[test]
fn what_is_kept_of_a_prompt_is_not_to_be_read_again() {
    let chat = Chat::load(&path("tiny-qwen3")).unwrap();
    let request = |text: &str| Request { max_tokens: 4, ..Request::ask(text.repeat(12)) };
    let whole = chat.prompt(&request("Stop the pump. ")).unwrap().len();
    assert_eq!(chat.unread(&request("Stop the pump. ")).unwrap(), Some(whole));
    let answer = chat.generate(&request("Stop the pump. "), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(answer.tokens_in, whole);
    assert_eq!(chat.unread(&request("Stop the pump. ")).unwrap(), Some(1), "its last, whose logits are wanted");
    let other = chat.unread(&request("Open the gate. ")).unwrap().unwrap();
    assert!(other > whole / 2, "{other} of {whole}");
    let long = chat.unread(&Request::ask("word ".repeat(100_000))).unwrap_err();
    assert!(long.to_string().contains("expected at most"), "{long}");
}

#[test]
fn what_is_gone_on_with_takes_no_more_than_was_claimed() {
    let chat = Chat::load(&path("tiny-qwen3")).unwrap();
    let go_on = &mut || ControlFlow::<()>::Continue(());
    let prompt: Vec<u32> = (1..=192).collect();
    let mut session = chat.decoder.session();
    chat.decoder.forward(&mut session, &prompt).unwrap();
    let (_, claim) = chat.place.take(&[], 192, go_on).continue_value().unwrap();
    chat.place.keep(prompt.clone(), session, claim);
    let (taken, claim) = chat.place.take(&prompt[..100], 110, go_on).continue_value().unwrap();
    let session = taken.expect("what was kept begins alike");
    assert_eq!((session.len(), session.bytes() as u64), (99, claim.bytes), "two steps of 64");
}
