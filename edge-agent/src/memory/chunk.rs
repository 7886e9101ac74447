//! Cuts a text into chunks along its own structure: headings, then paragraphs, then sentences. Pure.

use reader::Form;

use crate::script;

/// A piece of a document that is found and cited as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The headings above it, joined by ` > `; its lines when there are none.
    pub place: String,
    pub text: String,
}

/// What a chunk should not exceed: about 250 tokens, which is what the small embedders read (MiniLM: 256).
const WORDS_MAX: usize = 190;
/// What a word of a language may have; tokens are shorter.
const WORD_BYTES_MAX: usize = 64;
/// What is cut off at a time from what is no word.
const PIECE_BYTES_MAX: usize = 1_024;
/// The same in characters, where words have no space between them.
const PIECE_CHARS_MAX: usize = 16;
/// How much of a chunk's end the next one repeats, so that a thought across the cut is found.
const WORDS_OVERLAP: usize = 40;

/// A run of lines without an empty one between, or a part of one.
struct Block {
    text: String,
    first_line: usize,
    last_line: usize,
}

/// What stands under one heading.
#[derive(Default)]
struct Section {
    headings: Vec<String>,
    /// The last of the headings as it is written.
    title: Option<Block>,
    blocks: Vec<Block>,
}

/// What one document may come to: as many as a table may have rows. Each takes a vector, however short it is, so that a text of nothing
/// but headings would take a hundred times its size.
pub const CHUNKS_MAX: usize = 50_000;
/// A title is told with every chunk below it; what is longer is no title.
const TITLE_CHARS_MAX: usize = 200;

/// The text comes to more chunks than a document may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it comes to more than {CHUNKS_MAX} passages: expected a text that people read; records belong into a collection"
)]
pub struct TooMany;

/// The chunks of a document's text, in order: of Markdown, which documents of all forms are read as, or of plain text. None where it is blank.
///
/// # Errors
/// When there are too many.
pub fn chunk(text: &str, form: Form) -> Result<Vec<Chunk>, TooMany> {
    let sections = if form == Form::Text { vec![lines(text)] } else { sections(text)? };
    let mut chunks = Vec::new();
    for section in sections {
        chunks.extend(pack(section));
        if chunks.len() > CHUNKS_MAX {
            return Err(TooMany);
        }
    }
    Ok(chunks)
}

/// Plain text, in which a line with a mark of Markdown is one like any other.
fn lines(text: &str) -> Section {
    let mut section = Section::default();
    let mut open = false;
    for (line, number) in text.lines().map(str::trim_end).zip(1..) {
        if !line.is_empty() {
            section.add(line, number, open);
        }
        open = !line.is_empty();
    }
    section
}

fn sections(text: &str) -> Result<Vec<Section>, TooMany> {
    let mut sections = vec![Section::default()];
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut in_fence = false;
    let mut open = false;
    for (line, number) in text.lines().map(str::trim_end).zip(1..) {
        let fence = line.trim_start().starts_with("```");
        in_fence ^= fence;
        if let Some((level, title)) = heading(line).filter(|_| !in_fence && !fence) {
            // A heading with nothing under it but a deeper one is told by that one, any other by its own words.
            let is_told = path.last().is_none_or(|(above, _)| *above < level);
            sections.pop_if(|section| section.blocks.is_empty() && is_told);
            if sections.len() >= CHUNKS_MAX {
                return Err(TooMany);
            }
            path.retain(|(above, _)| *above < level);
            let end = title.char_indices().nth(TITLE_CHARS_MAX).map_or(title.len(), |(at, _)| at);
            path.push((level, title[..end].to_owned()));
            let headings = path.iter().map(|(_, title)| title.clone()).collect();
            let whole = Block { text: title.to_owned(), first_line: number, last_line: number };
            let (title, blocks) = if end < title.len() { (None, vec![whole]) } else { (Some(whole), Vec::new()) };
            sections.push(Section { headings, title, blocks });
            open = false;
        } else if line.is_empty() && !in_fence {
            open = false;
        } else if let Some(section) = sections.last_mut() {
            section.add(line, number, open);
            open = true;
        }
    }
    Ok(sections)
}

impl Section {
    /// Adds a line, to the block before it where that is still open.
    fn add(&mut self, line: &str, number: usize, open: bool) {
        match self.blocks.last_mut().filter(|_| open) {
            Some(block) => {
                block.text.push('\n');
                block.text.push_str(line);
                block.last_line = number;
            }
            None => self.blocks.push(Block { text: line.to_owned(), first_line: number, last_line: number }),
        }
    }
}

/// A heading of Markdown: 1 to 6 `#`, a space, a title.
fn heading(line: &str) -> Option<(usize, &str)> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    let title = title.strip_prefix(' ')?.trim().trim_end_matches('#').trim_end();
    ((1..=6).contains(&level) && !title.is_empty()).then_some((level, title))
}

fn pack(Section { headings, title, mut blocks }: Section) -> Vec<Chunk> {
    if blocks.is_empty() {
        blocks.extend(title);
    }
    let mut chunks = Vec::new();
    let mut pieces: Vec<Block> = Vec::new();
    // Of the pieces; counted anew for each, a section of many short paragraphs would take minutes.
    let mut held = 0;
    let mut fresh = false;
    for piece in blocks.into_iter().flat_map(split) {
        let more = words(&piece.text);
        if held + more > WORDS_MAX && fresh {
            chunks.push(join(&headings, &pieces));
            let tail = pieces.pop().filter(|last| words(&last.text) <= WORDS_OVERLAP);
            pieces = tail.into_iter().collect();
            held = pieces.iter().map(|piece| words(&piece.text)).sum();
        }
        held += more;
        pieces.push(piece);
        fresh = true;
    }
    if fresh {
        chunks.push(join(&headings, &pieces));
    }
    chunks
}

fn join(headings: &[String], pieces: &[Block]) -> Chunk {
    let text = pieces.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join("\n\n");
    let place = if headings.is_empty() {
        let first = pieces.first().map_or(1, |piece| piece.first_line);
        let last = pieces.last().map_or(first, |piece| piece.last_line);
        if first == last { format!("line {first}") } else { format!("lines {first}-{last}") }
    } else {
        headings.join(" > ")
    };
    Chunk { place, text }
}

/// Words; one that is longer than any real one counts as several, and so does what is written without spaces.
fn words(text: &str) -> usize {
    text.split_whitespace().map(weight).sum()
}

fn weight(word: &str) -> usize {
    let (unspaced, bytes) = script::tokens(word);
    if bytes == 0 { unspaced } else { unspaced + 1 + bytes / WORD_BYTES_MAX }
}

/// A block as it is, or, when it is longer than a chunk, cut after sentences (after words if one sentence is that long, between
/// characters where words have no space between them, and within a word that is none, such as a picture in base64).
fn split(block: Block) -> Vec<Block> {
    if words(&block.text) <= WORDS_MAX {
        return vec![block];
    }
    let lines = block.text.split('\n').zip(block.first_line..);
    let words = lines.flat_map(|(line, number)| line.split_whitespace().map(move |word| (word, number)));
    let mut parts = Vec::new();
    let (mut part, mut length): (Vec<Piece<'_>>, usize) = (Vec::new(), 0);
    for piece in words.flat_map(|(word, line)| pieces(word, line)) {
        if length + piece.weight > WORDS_MAX {
            parts.push(joined(&part));
            // The last words again, whole sentences not asked for: it is only for the search.
            let mut kept = 0;
            let tail = part.iter().rev().take_while(|piece| {
                kept += piece.weight;
                kept <= WORDS_OVERLAP / 2
            });
            part = part.split_off(part.len() - tail.count());
            length = part.iter().map(|piece| piece.weight).sum();
        }
        let ends = script::ends_sentence(piece.text);
        length += piece.weight;
        part.push(piece);
        if ends && length >= WORDS_MAX / 2 {
            parts.push(joined(&part));
            (part, length) = (Vec::new(), 0);
        }
    }
    if !part.is_empty() {
        parts.push(joined(&part));
    }
    parts
}

/// A word, or a part of one.
struct Piece<'t> {
    text: &'t str,
    weight: usize,
    line: usize,
    /// Whether no space stands before it.
    goes_on: bool,
}

fn joined(part: &[Piece<'_>]) -> Block {
    let mut text = String::new();
    for piece in part {
        if !text.is_empty() && !piece.goes_on {
            text.push(' ');
        }
        text.push_str(piece.text);
    }
    let line = |piece: Option<&Piece<'_>>| piece.map_or(1, |piece| piece.line);
    Block { text, first_line: line(part.first()), last_line: line(part.last()) }
}

/// A word as it is, or what one that is too long, or has others in it, is cut into.
fn pieces(word: &str, line: usize) -> impl Iterator<Item = Piece<'_>> {
    let (mut rest, mut goes_on) = (word, false);
    std::iter::from_fn(move || {
        let end = script::cut(rest.get(..rest.floor_char_boundary(PIECE_BYTES_MAX)).unwrap_or(rest), PIECE_CHARS_MAX);
        let (text, more) = rest.split_at(end);
        rest = more;
        let piece = Piece { text, weight: weight(text), line, goes_on: std::mem::replace(&mut goes_on, true) };
        (!text.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn markdown(text: &str) -> Result<Vec<Chunk>, TooMany> {
        chunk(text, Form::Markdown)
    }

    fn places(chunks: &[Chunk]) -> Vec<(&str, &str)> {
        chunks.iter().map(|chunk| (chunk.place.as_str(), chunk.text.as_str())).collect()
    }

    #[test]
    fn a_chunk_knows_the_headings_above_it() {
        let text =
            "# Press\nIntro.\n\n## Cooling\nThe fan cools.\n\n### Fan\nChange it yearly.\n\n## Oil\nISO VG 46.\n";
        let chunks = markdown(text).expect("few");
        assert_eq!(
            places(&chunks),
            [
                ("Press", "Intro."),
                ("Press > Cooling", "The fan cools."),
                ("Press > Cooling > Fan", "Change it yearly."),
                ("Press > Oil", "ISO VG 46."),
            ]
        );
    }

    #[test]
    fn a_hash_in_a_code_fence_is_no_heading_and_plain_text_has_lines() {
        let chunks = markdown("first\n\n```\n# not a heading\n\nstill code\n```\n").expect("few");
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].place, "lines 1-7");
        assert!(chunks[0].text.contains("# not a heading\n\nstill code"));
    }

    #[test]
    fn a_heading_that_nothing_below_tells_is_a_passage_of_its_own() {
        let chunks =
            markdown("# Alarm codes\n\n## E17: pump failed\n## E18: door open\n# Oil\nVG 46.\n# End").expect("few");
        assert_eq!(
            places(&chunks),
            [
                ("Alarm codes > E17: pump failed", "E17: pump failed"),
                ("Alarm codes > E18: door open", "E18: door open"),
                ("Oil", "VG 46."),
                ("End", "End"),
            ]
        );
        let long = format!("{} serengeti", "word ".repeat(60));
        let chunks = markdown(&format!("# {long}\n## Below\nIt is here.\n")).expect("few");
        assert_eq!(chunks.len(), 2);
        assert!(chunks[0].text.ends_with("serengeti"), "what is too long for a title is text");
    }

    #[test]
    fn plain_text_has_no_headings_and_no_fences() {
        let chunks = chunk("# mount the disk\n\n```\n# check it\n", Form::Text).expect("few");
        assert_eq!(places(&chunks), [("lines 1-4", "# mount the disk\n\n```\n# check it")]);
    }

    #[test]
    fn a_passage_without_headings_has_its_own_lines() {
        let text: String = (1..=3_000).map(|line| format!("{line}\n")).collect();
        for form in [Form::Text, Form::Markdown] {
            let chunks = chunk(&text, form).expect("few");
            assert!(chunks.len() > 10);
            for Chunk { place, text } in chunks {
                let mut lines = text.split_whitespace();
                let (first, last) = (lines.next().expect("one"), lines.next_back().expect("another"));
                assert_eq!(place, format!("lines {first}-{last}"));
            }
        }
    }

    #[test]
    fn paragraphs_are_packed_and_the_last_short_one_is_repeated() {
        let paragraph = |n: usize| format!("P{n} {}", "word ".repeat(34).trim());
        let text: Vec<String> = (0..12).map(paragraph).collect();
        let chunks = markdown(&format!("# H\n{}", text.join("\n\n"))).expect("few");
        assert!(chunks.len() >= 3);
        for pair in chunks.windows(2) {
            let last = pair[0].text.rsplit("\n\n").next().expect("a paragraph");
            assert!(pair[1].text.starts_with(last), "the cut repeats {last}");
        }
    }

    #[test]
    fn a_text_that_was_made_to_be_large_is_cut_or_refused() {
        let title = "t".repeat(1 << 20);
        let own = markdown(&title).expect("few").len();
        let below: String = (0..1_000).map(|n| format!("## {n}\nx\n")).collect();
        let chunks = markdown(&format!("# {title}\n{below}")).expect("few");
        assert_eq!(chunks.len(), own + 1_000);
        assert!(
            chunks.iter().all(|chunk| chunk.place.len() < TITLE_CHARS_MAX + 10),
            "no title is told a thousand times"
        );
        assert_eq!(markdown(&"# a\nx\n".repeat(CHUNKS_MAX + 1)), Err(TooMany));
        assert_eq!(markdown(&"# a\n".repeat(1 << 20)), Err(TooMany));
        assert_eq!(markdown(&"# a\n## b\n".repeat(CHUNKS_MAX / 2)).map(|chunks| chunks.len()), Ok(CHUNKS_MAX / 2));
        assert_eq!(markdown(&"x".repeat(8 << 20)).map(|chunks| (500..2_000).contains(&chunks.len())), Ok(true));
        assert_eq!(markdown(&"word. \n\n".repeat(1 << 17)).map(|chunks| chunks.len() < CHUNKS_MAX), Ok(true));
    }

    #[test]
    fn what_has_no_words_is_cut_all_the_same() {
        let picture = format!("![leak](data:image/png;base64,{})", "iVBORw0KGgo\u{e9}".repeat(20_000));
        let text = format!("# Pump\nBefore it.\n{picture}\nAfter it.\n");
        let chunks = markdown(&text).expect("few");
        assert!(chunks.iter().all(|chunk| chunk.text.len() <= WORDS_MAX * WORD_BYTES_MAX), "none is large");
        let whole: String = chunks.iter().flat_map(|chunk| chunk.text.split_whitespace()).collect();
        assert!(whole.starts_with("Beforeit.![leak]") && whole.ends_with("Afterit."));
        assert!(whole.len() < text.len() * 5 / 4, "little is repeated");
    }

    #[test]
    fn a_text_without_spaces_is_cut_after_its_sentences() {
        let text: String = (0..60).map(|n| format!("第{n}工程では冷却水の圧力を確かめてください。")).collect();
        let chunks = markdown(&text).expect("few");
        assert!(chunks.len() > 5, "{}", chunks.len());
        assert!(chunks.iter().all(|chunk| chunk.text.ends_with('。') && words(&chunk.text) <= WORDS_MAX));
        assert_eq!(chunks.iter().flat_map(|chunk| chunk.text.split("\n\n")).collect::<String>(), text);
        let thai = "น้ำมันเครื่องควรเปลี่ยนทุกสองพันชั่วโมง".repeat(60);
        let chunks = markdown(&thai).expect("few");
        assert!(chunks.len() > 5 && chunks.iter().all(|chunk| words(&chunk.text) <= WORDS_MAX));
        assert!(chunks.iter().all(|chunk| !chunk.text.starts_with(script::is_mark)));
    }

    proptest! {
        #[test]
        fn no_word_of_a_document_is_lost(text in "((#{1,7} ?|```|\u{200b}|)[a-z \u{e4}]{0,12}[.]?\n{1,2}){0,40}") {
            for form in [Form::Markdown, Form::Text] {
                let chunks = chunk(&text, form).expect("few");
                let told: Vec<String> = chunks.iter().map(|chunk| format!("{} {}", chunk.place, chunk.text)).collect();
                let told: Vec<&str> = told.iter().flat_map(|told| told.split_whitespace()).collect();
                let mut words = text.split_whitespace().filter(|word| !word.starts_with('#'));
                prop_assert!(words.all(|word| told.contains(&word)), "{told:?}");
                prop_assert_eq!(chunks.is_empty(), text.trim().is_empty());
            }
        }

        #[test]
        fn every_character_of_a_text_without_spaces_is_in_a_chunk(text in "([ぁ-んァ-ヶ一-龠]{1,40}[。、！]?|[a-z ]{0,9}|[ก-์]{1,30}){0,120}") {
            let chunks = markdown(&text).expect("few");
            let bare = |text: &str| text.split_whitespace().collect::<String>();
            let whole: String = chunks.iter().map(|chunk| bare(&chunk.text)).collect();
            // What is repeated at a cut comes twice; nothing is left out or changes its order.
            let mut rest = whole.chars();
            prop_assert!(bare(&text).chars().all(|c| rest.any(|other| other == c)));
            prop_assert!(chunks.iter().all(|chunk| words(&chunk.text) <= WORDS_MAX + WORDS_OVERLAP));
        }

        #[test]
        fn every_word_is_in_a_chunk_and_no_chunk_is_too_long(
            paragraphs in proptest::collection::vec(proptest::collection::vec("[a-z]{1,8}[.]?", 1..400), 1..6)
        ) {
            let text = paragraphs.iter().map(|p| p.join(" ")).collect::<Vec<_>>().join("\n\n");
            let chunks = markdown(&text).expect("few");
            let mut found: Vec<&str> = chunks.iter().flat_map(|c| c.text.split_whitespace()).collect();
            found.sort_unstable();
            let mut expected: Vec<&str> = text.split_whitespace().collect();
            expected.sort_unstable();
            expected.dedup();
            found.dedup();
            prop_assert_eq!(found, expected);
            for chunk in &chunks {
                prop_assert!(words(&chunk.text) <= WORDS_MAX + WORDS_OVERLAP);
            }
        }
    }
}
