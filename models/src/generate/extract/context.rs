//! The text that an answer may be taken from, as sentences that know their label, their section and their passage.
//! Reads plain text and the Markdown that manuals are written in: headings, lists, tables, `Cause:` labels.

use super::intent::{Intent, labelled};
use crate::{
    Error,
    generate::Passage,
    text::{readable, sentences},
};

/// A long manual chapter; a request that brings more should have retrieved first.
const CONTEXT_BYTES_MAX: usize = 1 << 20;

/// One sentence, list item or table cell.
#[derive(Debug, Clone)]
pub(super) struct Sentence {
    /// Without its label and without Markdown marks.
    pub(super) text: String,
    /// `Cause` of `Cause: dry bearing`, or the head of the table's column, or the heading when it names a kind of statement.
    pub(super) label: Option<String>,
    /// Which of the context's sections it stands in.
    pub(super) section: usize,
    /// The passage's number for citing, from 1; `None` for a message's own text.
    pub(super) passage: Option<usize>,
}

impl Sentence {
    /// The kind of statement that its label announces.
    pub(super) fn kind(&self) -> Option<Intent> {
        self.label.as_deref().and_then(labelled)
    }
}

/// All sentences, and the text of each section that they stand in.
#[derive(Debug, Default)]
pub(super) struct Context {
    pub(super) sentences: Vec<Sentence>,
    /// Heading and text of each section.
    pub(super) sections: Vec<String>,
}

impl Context {
    pub(super) fn of_passages(passages: &[Passage]) -> Result<Self, Error> {
        check_size(passages.iter().map(|passage| passage.text.len()).sum())?;
        let mut context = Self::default();
        for (at, passage) in passages.iter().enumerate() {
            // The document's name often names the machine.
            let name = passage.document.rsplit('/').next().unwrap_or_default();
            let name = name.split('.').next().unwrap_or_default();
            context.read(&passage.text, Some(at + 1), &format!("{} {}", readable(name), passage.place));
        }
        Ok(context)
    }

    pub(super) fn of_text(text: &str) -> Result<Self, Error> {
        check_size(text.len())?;
        let mut context = Self::default();
        context.read(text, None, "");
        Ok(context)
    }

    fn read(&mut self, text: &str, passage: Option<usize>, title: &str) {
        let mut reader = Reader {
            context: self,
            passage,
            title: title.to_owned(),
            heading: String::new(),
            heading_label: None,
            block: String::new(),
            columns: Vec::new(),
        };
        reader.open_section();
        let mut is_code = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                reader.close_block();
                is_code = !is_code;
            } else if is_code {
                reader.sentence(line.trim(), None);
            } else {
                reader.line(line);
            }
        }
        reader.close_block();
    }
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > CONTEXT_BYTES_MAX {
        let message =
            format!("passages and messages have {bytes} bytes: expected at most {CONTEXT_BYTES_MAX}; retrieve fewer");
        return Err(Error::request(message));
    }
    Ok(())
}

struct Reader<'a> {
    context: &'a mut Context,
    passage: Option<usize>,
    /// What the whole passage is about.
    title: String,
    heading: String,
    heading_label: Option<String>,
    /// The paragraph or list item that is being collected.
    block: String,
    /// The heads of the table that is being read.
    columns: Vec<String>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) {
        let trimmed = line.trim();
        if let Some(row) = trimmed.strip_prefix('|') {
            self.close_block();
            return self.row(row.strip_suffix('|').unwrap_or(row));
        }
        self.columns.clear();
        let (item, is_item) = without_bullet(trimmed);
        if trimmed.is_empty() {
            self.close_block();
        } else if let Some((level, heading)) = heading(trimmed) {
            self.close_block();
            self.open_heading(level, &clean(heading));
        } else if is_item || label_of(&clean(item)).is_some() {
            self.close_block();
            self.block = item.to_owned();
        } else {
            if !self.block.is_empty() {
                self.block.push(' ');
            }
            self.block.push_str(item);
        }
    }

    /// A heading that names a kind of statement ("Causes") labels what follows and stays in the section; another opens one.
    fn open_heading(&mut self, level: usize, heading: &str) {
        if labelled(heading).is_some() && heading.split_whitespace().count() <= 3 {
            self.heading_label = Some(heading.to_owned());
            return;
        }
        if level == 1 {
            self.title.push(' ');
            self.title.push_str(heading);
            self.heading.clear();
        } else {
            heading.clone_into(&mut self.heading);
        }
        self.open_section();
    }

    fn open_section(&mut self) {
        self.context.sections.push(format!("{} {}", self.title, self.heading).trim().to_owned());
        self.heading_label = None;
    }

    /// A new symptom begins a new case, also where no heading says so.
    fn open_case(&mut self, kind: Option<Intent>) {
        let section = self.context.sections.len() - 1;
        let last = self.context.sentences.last();
        if kind == Some(Intent::Symptom)
            && last
                .is_some_and(|last| last.section == section && last.kind().is_some_and(|kind| kind != Intent::Symptom))
        {
            self.open_section();
        }
    }

    fn row(&mut self, row: &str) {
        let cells: Vec<String> = row.split('|').map(clean).collect();
        if self.columns.is_empty() {
            self.columns = cells;
            return;
        }
        if cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':' | ' '))) {
            return;
        }
        self.open_section();
        for (at, cell) in cells.iter().enumerate() {
            let label = self.columns.get(at).filter(|column| !column.is_empty()).cloned();
            for sentence in sentences(cell) {
                self.sentence(&sentence, label.clone());
            }
        }
    }

    fn close_block(&mut self) {
        let block = clean(&std::mem::take(&mut self.block));
        let (label, text) = match label_of(&block) {
            Some((label, text)) => (Some(label.to_owned()), text),
            None => (self.heading_label.clone(), block.as_str()),
        };
        self.open_case(label.as_deref().and_then(labelled));
        for sentence in sentences(text) {
            self.sentence(&sentence, label.clone());
        }
    }

    fn sentence(&mut self, text: &str, label: Option<String>) {
        if text.chars().any(char::is_alphanumeric) {
            let section = self.context.sections.len() - 1;
            let around = &mut self.context.sections[section];
            around.push(' ');
            around.push_str(text);
            self.context.sentences.push(Sentence { text: text.to_owned(), label, section, passage: self.passage });
        }
    }
}

/// The level and text of `# Heading`, or of a line that is bold as a whole.
fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|&byte| byte == b'#').count();
    if level > 0 {
        return Some((level, line[level..].strip_prefix(' ')?));
    }
    let inside = line.strip_prefix("**")?.strip_suffix("**")?;
    (!inside.contains("**") && !inside.ends_with(':')).then_some((6, inside))
}

fn without_bullet(line: &str) -> (&str, bool) {
    for bullet in ["- ", "* ", "+ ", "• "] {
        if let Some(item) = line.strip_prefix(bullet) {
            return (item.trim_start(), true);
        }
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    match line[digits..].strip_prefix(". ").or_else(|| line[digits..].strip_prefix(") ")) {
        Some(item) if digits > 0 && digits < 4 => (item.trim_start(), true),
        _ => (line, false),
    }
}

/// `Cause` and the rest of `Cause: the rest`: up to three words before the colon.
fn label_of(text: &str) -> Option<(&str, &str)> {
    let (label, rest) = text.split_once(':')?;
    let is_label = (1..=3).contains(&label.split_whitespace().count())
        && label.chars().all(|c| c.is_alphabetic() || c.is_whitespace() || c == '-' || c == '/')
        && label.starts_with(char::is_uppercase);
    // A colon without a space belongs to a name or a time.
    (is_label && (rest.is_empty() || rest.starts_with(char::is_whitespace))).then(|| (label, rest.trim_start()))
}

/// The text without emphasis marks and doubled spaces.
fn clean(text: &str) -> String {
    let plain = text.replace("**", "").replace("__", "").replace('`', "");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let context = Context::of_text(text).unwrap();
        let show = |s: &Sentence| format!("{}|{}|{}", s.section, s.label.as_deref().unwrap_or("-"), s.text);
        context.sentences.iter().map(show).collect()
    }

    #[test]
    fn labels_headings_and_lists_are_read() {
        let text = "# Pump\n\n## Bearing hot\n**Symptom:** above 80 °C.\nCause: no grease. It dries out,\ne.g. in summer.\n\n\
                    ### Actions\n1. Stop the pump.\n2. Grease it.\n\n## Noise\nThe pump may hum at 12:30.";
        let expected = [
            "2|Symptom|above 80 °C.",
            "2|Cause|no grease.",
            "2|Cause|It dries out, e.g. in summer.",
            "2|Actions|Stop the pump.",
            "2|Actions|Grease it.",
            "3|-|The pump may hum at 12:30.",
        ];
        assert_eq!(read(text), expected);
    }

    #[test]
    fn each_row_of_a_table_is_a_section_with_labelled_cells() {
        let text = "| Symptom | Cause | Action |\n|---|:--|---|\n| Hot | Dry | Grease it. Wait. |\n| Loud | Loose |  |";
        let expected = [
            "1|Symptom|Hot",
            "1|Cause|Dry",
            "1|Action|Grease it.",
            "1|Action|Wait.",
            "2|Symptom|Loud",
            "2|Cause|Loose",
        ];
        assert_eq!(read(text), expected);
    }

    #[test]
    fn a_new_symptom_opens_a_new_section() {
        let text = "Symptom: hot\nCause: dry\nSymptom: loud\nCause: loose";
        assert_eq!(read(text), ["0|Symptom|hot", "0|Cause|dry", "1|Symptom|loud", "1|Cause|loose"]);
    }

    #[test]
    fn more_text_than_the_limit_is_refused() {
        let error = Context::of_text(&"word ".repeat(300_000)).unwrap_err().to_string();
        assert!(error.contains("1500000 bytes: expected at most 1048576"), "{error}");
    }
}
