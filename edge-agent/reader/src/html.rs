//! HTML: its own headings, lists and tables; nothing of what is not read (scripts, styles, menus).

use htmd::{HtmlToMarkdown, options::Options};

use super::Error;

/// What a reader of the page would not take for its text.
const SKIPPED: &[&str] =
    &["script", "style", "noscript", "template", "svg", "nav", "header", "footer", "iframe", "form", "head"];

pub(super) fn markdown(text: &str) -> Result<String, Error> {
    let converter = HtmlToMarkdown::builder().options(Options::default()).skip_tags(SKIPPED.to_vec()).build();
    converter.convert(text).map_err(|error| Error::Html(error.to_string()))
}
