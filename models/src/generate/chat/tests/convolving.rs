//! A model most of whose layers convolve: what of a conversation is used again begins where their states are known, and changes nothing.

use super::*;

const NAME: &str = "tiny-lfm2";

/// Continues a text of about so many tokens.
fn request(words: usize, max_tokens: usize) -> Request {
    let words: Vec<String> = (0..words).map(|at| format!("pump {at}")).collect();
    Request { continues: true, max_tokens, ..Request::ask(words.join(" ")) }
}

#[test]
fn what_was_read_once_is_used_again_up_to_where_states_are_known() {
    let chat = Chat::load(&path(NAME)).unwrap();
    let alone = |request: &Request| answer(&Chat::load(&path(NAME)).unwrap(), request);
    let check = |request: &Request, reused: usize| {
        let found = answer(&chat, request);
        assert_eq!(found.tokens_reused, reused);
        assert_eq!(Answer { tokens_reused: 0, ..found.clone() }, alone(request));
        found
    };
    let first = request(30, 9);
    let len = chat.prompt(&first).unwrap().len();
    assert!((70..128).contains(&len), "{len}");
    let said = check(&first, 0).text;
    check(&first, 64);
    // All that was read and written but the last token, which nothing was computed for.
    let mut longer = first.clone();
    longer.messages[0].content.push_str(&said);
    let tokens = chat.prompt(&longer).unwrap();
    let held = tokens.len().min(len + 8);
    longer.messages[0].content.push_str(" oil");
    let reused = answer(&chat, &longer).tokens_reused;
    assert!(reused == held || reused == 64, "{reused} of {held}");
    // What has less in common than a piece is read whole, and the other stays.
    check(&request(5, 3), 0);
    check(&first, 64);
}

#[test]
fn a_prompt_that_was_broken_off_goes_on_from_what_was_read() {
    let mut chat = Chat::load(&path(NAME)).unwrap();
    chat.decoder.set_context(4096);
    chat.place = Place::new(&CacheRoom::new(u64::MAX), chat.decoder.token_bytes(), 4096);
    let long = request(300, 5);
    let mut asked = 0;
    let broken = chat.generate(&long, &mut |_| {
        asked += 1;
        if asked == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(broken.unwrap().finish, Finish::Cancelled);
    let whole = answer(&chat, &long);
    assert_eq!(whole.tokens_reused, 3 * CHUNK_LEN, "the receiver is asked before each further part");
    let mut fresh = Chat::load(&path(NAME)).unwrap();
    fresh.decoder.set_context(4096);
    assert_eq!(Answer { tokens_reused: 0, ..whole }, answer(&fresh, &long));
}

#[test]
fn answers_written_side_by_side_are_those_of_each_alone() {
    let chat = Chat::load(&path(NAME)).unwrap();
    let requests: Vec<Request> =
        (0..6).map(|seed| Request { sampling: warm(), seed, ..request(8 + 5 * seed as usize, 30) }).collect();
    let alone: Vec<String> =
        requests.iter().map(|request| answer(&Chat::load(&path(NAME)).unwrap(), request).text).collect();
    for _ in 0..2 {
        let together: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = requests.iter().map(|request| scope.spawn(|| answer(&chat, request).text)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(together, alone);
    }
}

#[test]
fn what_is_taken_back_leaves_no_trace_in_the_states() {
    let chat = Chat::load(&path(NAME)).unwrap();
    let request = request(24, 40);
    let prompt = chat.prompt(&request).unwrap();
    let read = |prompt: Vec<u32>| match chat.read(
        &request,
        prompt,
        40,
        &mut Stream::new(&[], &mut |_| ControlFlow::Continue(())),
    ) {
        Ok(Read::Whole(writing)) => *writing,
        _ => panic!("the prompt is not read"),
    };
    let write = |writing: &mut Writing<'_>, count: usize| {
        for _ in 0..count {
            let token = chat.choose_freely(writing).unwrap();
            writing.push_chosen(token);
        }
    };
    let mut straight = read(prompt.clone());
    write(&mut straight, 30);
    let mut cut = read(prompt);
    write(&mut cut, 20);
    for kept in [12, 3, 0] {
        cut.cut(kept);
        write(&mut cut, 5);
    }
    cut.cut(4);
    write(&mut cut, 26);
    assert_eq!(cut.written(), straight.written());
}
