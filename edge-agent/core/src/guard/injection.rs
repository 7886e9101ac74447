//! Text that wants to give a model orders: that it forget its own, be somebody else, tell its instructions, or that looks
//! like a model's own control tokens; and text that hides from people. Read as a model reads it: whatever the letters'
//! width, case and spacing.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

use super::Spot;

/// What it wants, and how it says so, in lower case with single spaces.
static ORDERS: LazyLock<Vec<(&str, &str, Regex)>> = LazyLock::new(|| {
    let order = |kind, what, pattern: &str| (kind, what, Regex::new(pattern).expect("a valid pattern"));
    let rules =
        r"(?:instructions?|prompts?|rules?|guidelines?|directions?|directives?|commands?|restrictions?|safeguards?)";
    vec![
        order(
            "override",
            "wants earlier instructions forgotten",
            &format!(
                r"\b(?:ignore|disregard|forget|override|bypass|skip|discard|do not follow|don't follow|stop following)\b[^.!?]{{0,40}}\b(?:all|any|previous|prior|above|earlier|preceding|your|the|these|those|system|other)\b[^.!?]{{0,30}}\b{rules}\b"
            ),
        ),
        order(
            "override",
            "wants earlier instructions forgotten",
            r"\b(?:ignoriere|vergiss|missachte|übergehe)\b[^.!?]{0,40}\b(?:anweisung(?:en)?|regeln|vorgaben|befehle|instruktionen)\b",
        ),
        order(
            "override",
            "wants earlier instructions forgotten",
            r"\b(?:ignore[rz]?|oublie[rz]?|ne tiens pas compte|ne tenez pas compte)\b[^.!?]{0,40}\b(?:instructions?|consignes?|règles?|directives?)\b",
        ),
        order(
            "override",
            "wants earlier instructions forgotten",
            r"\b(?:ignora|olvida|ignorar|olvidar|ignore|omite|dimentica)\b[^.!?]{0,40}\b(?:instrucciones|reglas|indicaciones|istruzioni|regole|instruções|regras)\b",
        ),
        order(
            "override",
            "gives new instructions",
            &format!(r"\b(?:new|updated|real|actual|following)\b (?:system )?{rules}\s*:"),
        ),
        order(
            "role",
            "wants the model to be somebody else",
            r"\b(?:you are now|from now on,? you|act as|pretend (?:to be|that you|you)|roleplay as|behave as)\b[^.!?]{0,60}\b(?:unrestricted|uncensored|unfiltered|jailbroken|developer mode|dan|no (?:rules|restrictions|limits|filters)|without (?:rules|restrictions|limits|filters)|root|administrator|system|evil)\b",
        ),
        order(
            "role",
            "wants the model to be somebody else",
            r"\b(?:jailbreak|developer mode (?:enabled|on)|do anything now)\b",
        ),
        order(
            "extraction",
            "wants the model's own instructions",
            r"\b(?:reveal|print|show|repeat|output|display|tell me|write out|summari[sz]e|leak|what (?:is|are|were))\b[^.!?]{0,40}\b(?:(?:system|initial|hidden|original|secret|developer) (?:prompt|instructions?|messages?)|your (?:instructions?|prompt|rules|guidelines))\b",
        ),
        order(
            "control-token",
            "looks like a model's own control tokens",
            r"<\|(?:im[_ ]start|im[_ ]end|system|user|assistant|endoftext|eot[_ ]id|start[_ ]header[_ ]id|end[_ ]header[_ ]id|begin[_ ]of[_ ]text)\|>|\[/?inst\]|<</?sys>>|</?(?:tool[_ ]call|tool[_ ]response|function[_ ]call|start[_ ]of[_ ]turn|end[_ ]of[_ ]turn)>|<(?:start|end)[_ ]of[_ ]turn>",
        ),
        order(
            "control-token",
            "speaks in another speaker's name",
            r"(?:^|\n)\s*(?:#{1,6} ?)?(?:system|assistant|developer)(?: (?:message|prompt))?\s*:",
        ),
        order(
            "exfiltration",
            "wants data sent somewhere",
            r"\b(?:send|post|upload|forward|exfiltrate|transmit|leak)\b[^.!?]{0,60}\b(?:to|at|via)\b[^!?]{0,20}(?:https?://|\S+@\S+\.\S+)",
        ),
        order(
            "exfiltration",
            "would send data by an image's address",
            r"!\[[^\]]{0,200}\]\(https?://[^)\s]{1,400}[?&][^)\s]{0,400}=[^)\s]*\)",
        ),
    ]
});

/// Orders of one form that are told of one text: it is refused for one, and a text of nothing else must not take minutes.
const EACH_MAX: usize = 32;

/// The orders to a model in the text.
pub(super) fn find(text: &str) -> Vec<Spot> {
    let mut spots = hidden(text);
    let read = Read::new(text);
    for (kind, what, order) in &*ORDERS {
        for found in order.find_iter(&read.text).take(EACH_MAX) {
            let place = read.place(text, &found.range());
            let is_known =
                |spot: &Spot| spot.kind == *kind && spot.place.start < place.end && place.start < spot.place.end;
            if !spots.iter().any(is_known) {
                spots.push(Spot { kind, place, message: (*what).to_owned(), mask: None });
            }
        }
    }
    spots.sort_by_key(|spot| spot.place.start);
    spots
}

/// Characters that people do not see and models read: tags (U+E0000), embeddings and overrides of the direction of
/// writing, and those without width where there are several.
fn hidden(text: &str) -> Vec<Spot> {
    let spot =
        |place: Range<usize>, what: &str| Spot { kind: "hidden-text", place, message: what.to_owned(), mask: None };
    let place_of = |wanted: fn(char) -> bool| {
        let mut found = text.char_indices().filter(|(_, c)| wanted(*c));
        let first = found.next()?;
        let (count, last) = found.fold((1, first), |(count, _), next| (count + 1, next));
        Some((count, first.0..last.0 + last.1.len_utf8()))
    };
    let mut spots = Vec::new();
    if let Some(place) = tags(text) {
        spots.push(spot(place, "characters that people do not see"));
    }
    if let Some((_, place)) = place_of(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        spots.push(spot(place, "characters that turn the direction of writing"));
    }
    if let Some((4.., place)) = place_of(|c| matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{00ad}')) {
        spots.push(spot(place, "characters without width between others"));
    }
    spots
}

const fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Where tags stand that are not those of a flag: a black flag, at most six letters, and the tag that ends it.
fn tags(text: &str) -> Option<Range<usize>> {
    const FLAG_TAGS_MAX: usize = 7;
    let mut found: Option<Range<usize>> = None;
    let mut from = 0;
    while let Some(at) = text[from..].find(is_tag) {
        let start = from + at;
        let run = &text[start..];
        let run = &run[..run.find(|c| !is_tag(c)).unwrap_or(run.len())];
        let is_flag =
            text[..start].ends_with('\u{1f3f4}') && run.chars().count() <= FLAG_TAGS_MAX && run.ends_with('\u{e007f}');
        from = start + run.len();
        if !is_flag {
            found = Some(found.map_or(start, |found| found.start)..from);
        }
    }
    found
}

/// A text as a model reads it, and where each byte of that came from.
struct Read {
    text: String,
    /// For each byte, where its character begins in the text that was given, which has a megabyte at most.
    from: Vec<u32>,
}

/// How many times longer than the text that was given it may become; there are characters that stand for eighteen.
const GROWTH_MAX: usize = 4;

impl Read {
    /// Compatible forms of letters are one (Unicode NFKC), case and what has no width do not count, spaces are one.
    fn new(given: &str) -> Self {
        let mut read = Self { text: String::with_capacity(given.len()), from: Vec::with_capacity(given.len()) };
        for (at, c) in given.char_indices() {
            if read.text.len() > GROWTH_MAX * given.len() {
                break;
            }
            let from = u32::try_from(at).unwrap_or(u32::MAX);
            if matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{00ad}')
            {
                continue;
            }
            for plain in std::iter::once(c).nfkc().flat_map(char::to_lowercase) {
                let plain = match plain {
                    '\n' => '\n',
                    '’' | '‘' | '`' => '\'',
                    c if c.is_whitespace() || c == '_' || c == '*' => ' ',
                    c => c,
                };
                if plain == ' ' && read.text.ends_with([' ', '\n']) {
                    continue;
                }
                read.text.push(plain);
                read.from.extend(std::iter::repeat_n(from, plain.len_utf8()));
            }
        }
        read
    }

    /// Where this stood in the text that was given.
    fn place(&self, given: &str, read: &Range<usize>) -> Range<usize> {
        let (first, last) = (self.from[read.start] as usize, self.from[read.end - 1] as usize);
        first..last + given[last..].chars().next().map_or(0, char::len_utf8)
    }
}
