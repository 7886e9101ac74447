//! The decoder on tiny models with random weights, whose logits transformers or llama.cpp gave.

mod attention;

use std::path::Path;

use super::{Cache, Decoder, Session, lay_out};
use crate::{gguf::Gguf, lanes::Processor, product::Plan};

const NAMES: [&str; 10] = [
    "tiny-llama2",
    "tiny-llama3",
    "tiny-qwen2",
    "tiny-qwen3",
    "tiny-qwen3-q8",
    "tiny-gemma3",
    "tiny-phi3",
    "tiny-phi4",
    "tiny-lfm2",
    "tiny-lfm2-q8",
];

/// Whole files of one kind, and a mixture.
const QUANTS: [&str; 5] = ["tiny-q40", "tiny-q4ks", "tiny-q5ks", "tiny-q6k", "tiny-q4km"];

/// How far a logit may lie from what floats give, where they lie between -6 and 6: with weights of fewer bits than a half-precision float
/// activations are rounded too.
fn most(name: &str) -> f32 {
    if name.ends_with("-q8") || QUANTS.contains(&name) { 0.2 } else { 0.01 }
}

#[derive(serde::Deserialize)]
struct Reference {
    prompt_ids: Vec<u32>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
    #[serde(default)]
    margins: Vec<f32>,
}

fn decoder(name: &str, cache: Cache, processor: Processor) -> Decoder {
    on_threads(name, 2, cache, processor)
}

fn on_threads(name: &str, threads: usize, cache: Cache, processor: Processor) -> Decoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/tiny").join(format!("{name}.gguf"));
    let file = Gguf::open(&path).unwrap();
    let vocabulary = file.texts("tokenizer.ggml.tokens").unwrap().len();
    lay_out(&file, vocabulary).unwrap().load(threads, cache, processor, Plan::load).unwrap()
}

fn reference(name: &str) -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/tiny").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_processor_gives_the_same_bits() {
    for name in NAMES.into_iter().chain(QUANTS) {
        let Reference { prompt_ids, logits: expected, .. } = reference(name);
        for cache in [Cache::Half, Cache::Eight] {
            let logits = |processor| {
                let decoder = decoder(name, cache, processor);
                let mut session = decoder.session();
                let mut logits = decoder.forward(&mut session, &prompt_ids).unwrap();
                logits.extend(decoder.forward(&mut session, &prompt_ids[..1]).unwrap());
                logits
            };
            let plain = logits(Processor::Plain);
            for processor in Processor::all() {
                let found = logits(processor);
                assert!(
                    found.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{name} {}",
                    processor.name()
                );
            }
            let found = difference(&plain[..expected.len()], &expected);
            let most = if cache == Cache::Eight { 0.3 } else { most(name) };
            println!("{name} {cache:?}: largest difference of a logit {found}");
            assert!(found < most, "{name} {cache:?}: {found}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for name in NAMES.into_iter().chain(QUANTS) {
        let Reference { prompt_ids, .. } = reference(name);
        let [first, others @ ..] = [1, 2, 3, 7].map(|threads| {
            let decoder = on_threads(name, threads, Cache::Half, Processor::detect());
            let mut session = decoder.session();
            let prompt = decoder.forward(&mut session, &prompt_ids).unwrap();
            [prompt, decoder.forward(&mut session, &prompt_ids[..1]).unwrap()]
        });
        assert!(others.iter().all(|other| *other == first), "{name}");
    }
}

#[test]
fn keys_and_values_in_eight_bits_take_about_half_and_change_little() {
    for name in NAMES {
        let Reference { prompt_ids, .. } = reference(name);
        let [half, eight] = [Cache::Half, Cache::Eight].map(|cache| decoder(name, cache, Processor::detect()));
        assert!(10 * eight.token_bytes() < 7 * half.token_bytes(), "{} {}", eight.token_bytes(), half.token_bytes());
        let expected = half.forward(&mut half.session(), &prompt_ids).unwrap();
        let found = difference(&eight.forward(&mut eight.session(), &prompt_ids).unwrap(), &expected);
        println!("{name}: largest difference of a logit by eight bits {found}");
        assert!(found < 0.6, "{name}: {found}");
    }
}

#[test]
fn sessions_computed_together_have_the_bits_of_each_alone() {
    for name in ["tiny-llama3", "tiny-qwen3-q8", "tiny-gemma3", "tiny-phi3", "tiny-lfm2", "tiny-lfm2-q8", "tiny-q4km"] {
        for cache in [Cache::Half, Cache::Eight] {
            let decoder = decoder(name, cache, Processor::detect());
            let vocabulary = decoder.output.rows as u32;
            let decoder = &decoder;
            let steps = &|seed: u32, session: &mut Session| -> Vec<Vec<f32>> {
                let _writer = decoder.writer();
                let prompt: Vec<u32> = (0..5 + 11 * seed).map(|at| (at * 31 + seed * 17) % vocabulary).collect();
                let mut all = vec![decoder.forward(session, &prompt).unwrap()];
                for at in 0..20 {
                    all.push(decoder.forward(session, &[(at * 13 + seed) % vocabulary]).unwrap());
                }
                all
            };
            let alone: Vec<_> = (0..6).map(|seed| steps(seed, &mut decoder.session())).collect();
            let together: Vec<_> = std::thread::scope(|scope| {
                let start = |seed| scope.spawn(move || steps(seed, &mut decoder.session()));
                let threads: Vec<_> = (0..6).map(start).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(alone == together, "{name} {cache:?}");
        }
    }
}

#[test]
fn files_of_every_kind_choose_the_tokens_that_their_numbers_choose() {
    for name in QUANTS.into_iter().chain(["tiny-lfm2-q8"]) {
        let decoder = decoder(name, Cache::Half, Processor::detect());
        let Reference { prompt_ids, greedy, margins, .. } = reference(name);
        let mut session = decoder.session();
        let mut logits = decoder.forward(&mut session, &prompt_ids).unwrap();
        let mut told = 0;
        for (token, margin) in greedy.iter().zip(&margins) {
            // Of two logits, each may be off by as much.
            if *margin > 2.0 * most(name) {
                let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
                assert_eq!(best, Some(*token as usize), "{name}: {margin} above the next");
                told += 1;
            }
            logits = decoder.forward(&mut session, &[*token]).unwrap();
        }
        println!("{name}: {told} of {} tokens lie far enough above the next", greedy.len());
        assert!(told >= 5, "{name}: {told}");
    }
}

#[test]
fn a_cut_session_goes_on_with_the_same_bits_from_where_it_is_known() {
    for (name, known) in [("tiny-qwen3", [150, 149, 128, 127, 64, 30, 0]), ("tiny-lfm2", [150, 128, 128, 64, 64, 0, 0])]
    {
        for cache in [Cache::Half, Cache::Eight] {
            let decoder = decoder(name, cache, Processor::detect());
            let tokens: Vec<u32> = (0..160).map(|at| at * 31 % 200).collect();
            let whole = decoder.forward(&mut decoder.session(), &tokens).unwrap();
            for (len, known) in [150, 149, 128, 127, 64, 30, 0].into_iter().zip(known) {
                let mut session = decoder.session();
                decoder.forward(&mut session, &tokens[..37]).unwrap();
                decoder.forward(&mut session, &tokens[37..150]).unwrap();
                let mut copy = session.copy(len);
                session.truncate(len);
                for session in [&mut session, &mut copy] {
                    assert_eq!(session.len(), known, "{name} cut to {len}");
                    assert!(
                        decoder.forward(session, &tokens[known..]).unwrap() == whole,
                        "{name} {cache:?} cut to {len}"
                    );
                }
                // What was forgotten is not known again.
                session.truncate(70);
                decoder.forward(&mut session, &[7; 20]).unwrap();
                let other = decoder.forward(&mut session, &[9]).unwrap();
                let mut alone = decoder.session();
                let kept = if name == "tiny-lfm2" { 64 } else { 70 };
                decoder.forward(&mut alone, &[&tokens[..kept], &[7; 20]].concat()).unwrap();
                assert!(other == decoder.forward(&mut alone, &[9]).unwrap(), "{name} {cache:?}");
            }
        }
    }
}

#[test]
fn a_tokenizer_that_does_not_fit_its_model_is_refused_with_both_numbers() {
    for name in NAMES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/tiny").join(format!("{name}.gguf"));
        let file = Gguf::open(&path).unwrap();
        let tokens = file.texts("tokenizer.ggml.tokens").unwrap().len();
        let error = lay_out(&file, tokens + 3).err().unwrap().to_string();
        let both = format!("tokenizer.ggml.tokens has {} tokens, token_embd.weight has {tokens} rows", tokens + 3);
        assert!(error.contains(&both), "{error}");
    }
}

#[test]
fn the_logits_that_are_wanted_have_the_bits_of_all() {
    for name in NAMES {
        let decoder = decoder(name, Cache::Half, Processor::detect());
        let Reference { prompt_ids, .. } = reference(name);
        let all = decoder.forward(&mut decoder.session(), &prompt_ids).unwrap();
        for every in [1, 5, 64, 200] {
            let mut bits = vec![0u32; all.len().div_ceil(32)];
            let wanted: Vec<usize> = (0..all.len()).step_by(every).collect();
            wanted.iter().for_each(|token| bits[token / 32] |= 1 << (token % 32));
            let some = decoder.forward_to(&mut decoder.session(), &prompt_ids, Some(&bits)).unwrap();
            assert_eq!(some.len(), all.len());
            assert!(wanted.iter().all(|token| some[*token] == all[*token]), "{name}, each {every}th");
            assert!(some.iter().zip(&all).all(|(some, all)| some == all || *some == f32::NEG_INFINITY), "{name}");
        }
    }
}
