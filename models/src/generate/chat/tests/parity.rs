//! Tokens, templates, logits and greedy tokens held to transformers', and Gemma 3's and Phi-3's to llama.cpp's too.

use super::*;

#[derive(serde::Deserialize)]
pub(super) struct Reference {
    #[serde(default)]
    texts: Vec<Text>,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    rendered: String,
    #[serde(default)]
    rendered_ids: Vec<u32>,
    pub(super) prompt_ids: Vec<u32>,
    #[serde(flatten)]
    first: Computed,
    /// What transformers computes, where llama.cpp is the first.
    transformers: Option<Computed>,
}

impl Reference {
    fn each(&self) -> impl Iterator<Item = &Computed> {
        [&self.first].into_iter().chain(&self.transformers)
    }
}

#[derive(serde::Deserialize)]
struct Computed {
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

#[derive(serde::Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

pub(super) fn reference(name: &str) -> Reference {
    serde_json::from_slice(&std::fs::read(path(name).with_extension("json")).unwrap()).unwrap()
}

#[test]
fn tokens_are_those_of_transformers() {
    for name in NAMES {
        let chat = Chat::load(&path(name)).unwrap();
        for Text { text, ids } in reference(name).texts {
            let mut tokens = Vec::new();
            chat.tokens.encode_plain(&text, &mut tokens).unwrap();
            assert_eq!(tokens, ids, "{name} {text:?}");
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| chat.tokens.bytes(*token)).copied().collect();
            let back = String::from_utf8(bytes).unwrap();
            assert_eq!(back.strip_prefix(' ').filter(|_| chat.tokens.adds_space()).unwrap_or(&back), text, "{name}");
        }
    }
}

#[test]
fn chats_are_rendered_and_split_as_by_transformers() {
    for name in NAMES {
        let chat = Chat::load(&path(name)).unwrap();
        let reference = reference(name);
        assert_eq!(chat.render(&reference.messages, &[]).unwrap(), reference.rendered, "{name}");
        assert_eq!(chat.tokens.encode(&reference.rendered).unwrap(), reference.rendered_ids, "{name}");
    }
}

#[test]
fn logits_are_those_of_the_reference() {
    for name in NAMES.into_iter().chain(FAMILIES) {
        let chat = Chat::load(&path(name)).unwrap();
        let reference = reference(name);
        // Keys and values are kept in half precision; with 8-bit weights the activations are rounded to 8 bits too. The logits lie
        // between -6 and 6.
        let tolerance = if name.ends_with("q8") { 0.2 } else { 0.01 };
        let mut whole = chat.decoder.session();
        let logits = chat.decoder.forward(&mut whole, &reference.prompt_ids).unwrap();
        assert_eq!(reference.transformers.is_some(), FAMILIES.contains(&name));
        for expected in reference.each() {
            assert_eq!(logits.len(), expected.logits.len());
            let differences = logits.iter().zip(&expected.logits).map(|(a, b)| (a - b).abs());
            let furthest = differences.fold(0.0, f32::max);
            println!("{name}: largest difference of a logit {furthest}");
            assert!(furthest < tolerance, "{name}: {furthest}");
        }

        // Piece by piece, as after a cached beginning.
        let mut pieces = chat.decoder.session();
        let mut last = Vec::new();
        for piece in reference.prompt_ids.chunks(5) {
            last = chat.decoder.forward(&mut pieces, piece).unwrap();
        }
        assert_eq!(last, logits, "{name}: the same bits, however the tokens are divided");
    }
}

#[test]
fn greedy_tokens_are_those_of_the_reference() {
    // Where a model's tokens hardly differ in likelihood, the decoder's tests hold those that do.
    for name in NAMES.into_iter().chain(FAMILIES).filter(|name| *name != "tiny-lfm2-q8") {
        let chat = Chat::load(&path(name)).unwrap();
        let reference = reference(name);
        let mut session = chat.decoder.session();
        let mut logits = chat.decoder.forward(&mut session, &reference.prompt_ids).unwrap();
        let mut sampler = Sampler::new(&Request::default(), chat.decoder.processor());
        let mut tokens = Vec::new();
        for _ in &reference.first.greedy {
            let token = sampler.choose(&logits, Allowed::All).unwrap();
            tokens.push(token);
            logits = chat.decoder.forward(&mut session, &[token]).unwrap();
        }
        // With 8-bit activations near ties may fall otherwise and change all that follows.
        for Computed { greedy, .. } in reference.each() {
            let same = tokens.iter().zip(greedy).take_while(|(a, b)| a == b).count();
            println!("{name}: {same} of {} greedy tokens the same", tokens.len());
            let expected = if name.ends_with("q8") { 4 } else { greedy.len() };
            assert!(same >= expected, "{name}: {tokens:?} {greedy:?}");
        }
    }
}
