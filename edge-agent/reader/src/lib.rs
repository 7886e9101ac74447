//! Documents of several forms as Markdown: a heading says where a passage stands (a page, a row), so that whoever cuts the
//! text into passages can cite it. Pure.
//!
//! The libraries behind it may need much memory or time for a document that was made to do that, and may panic: who reads
//! documents of others does so in a process with limits.

mod html;
mod pdf;
mod table;

use std::str::FromStr;

/// What a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Markdown,
    /// Plain text, which has no headings: whoever cuts it takes its lines as they are.
    Text,
    Html,
    Pdf,
    Csv,
}

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("byte {0} is not UTF-8: expected a file saved as UTF-8")]
    Encoding(usize),
    #[error("this is no PDF that can be read: {0}")]
    Pdf(String),
    #[error("it has no pages")]
    NoPages,
    #[error("it has {0} pages without any text: pictures of pages are not read")]
    NoText(usize),
    #[error("this is no HTML that can be read: {0}")]
    Html(String),
    #[error("line {line}: {why}")]
    Csv { line: u64, why: String },
    #[error("it comes to more than {0} bytes of text")]
    TooLong(usize),
}

/// Text that one document may come to; a book has a megabyte.
pub const TEXT_BYTES_MAX: usize = 8 << 20;

impl Form {
    /// The form of a file by the end of its name, in capitals too.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let (_, ending) = path.rsplit_once('.')?;
        ending.to_ascii_lowercase().parse().ok()
    }

    /// Whether reading needs a process with limits: its size says nothing about what it takes.
    #[must_use]
    pub const fn is_risky(self) -> bool {
        matches!(self, Self::Html | Self::Pdf)
    }

    /// As it is named on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Markdown => "md",
            Self::Text => "txt",
            Self::Html => "html",
            Self::Pdf => "pdf",
            Self::Csv => "csv",
        }
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(ending: &str) -> Result<Self, String> {
        match ending.to_ascii_lowercase().as_str() {
            "md" => Ok(Self::Markdown),
            "txt" => Ok(Self::Text),
            "html" | "htm" => Ok(Self::Html),
            "pdf" => Ok(Self::Pdf),
            "csv" => Ok(Self::Csv),
            _ => Err(format!("{ending:?} is no form of document: expected md, txt, html, pdf or csv")),
        }
    }
}

/// The document as Markdown, or as it is where it is plain text.
///
/// # Errors
/// When it is not of this form, or has no text or too much.
pub fn markdown(form: Form, content: &[u8]) -> Result<String, Error> {
    let text = match form {
        Form::Markdown | Form::Text => utf8(content)?.to_owned(),
        Form::Html => html::markdown(utf8(content)?)?,
        Form::Pdf => pdf::markdown(content)?,
        Form::Csv => table::markdown(utf8(content)?)?,
    };
    if text.len() > TEXT_BYTES_MAX { Err(Error::TooLong(TEXT_BYTES_MAX)) } else { Ok(text) }
}

fn utf8(content: &[u8]) -> Result<&str, Error> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    std::str::from_utf8(content).map_err(|error| Error::Encoding(error.valid_up_to()))
}

#[cfg(test)]
mod tests;
