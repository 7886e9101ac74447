//! PDF: the text of each page under a heading with the page's number.

use super::{Error, TEXT_BYTES_MAX};

pub(super) fn markdown(content: &[u8]) -> Result<String, Error> {
    // Some tools put a few bytes before the mark (ISO 32000-1, annex H, implementation note 13).
    let head = &content[..content.len().min(1_024)];
    if !head.windows(5).any(|window| window == b"%PDF-") {
        return Err(Error::Pdf("it does not begin with %PDF-".to_owned()));
    }
    let pages = pdf_extract::extract_text_from_mem_by_pages(content).map_err(|error| Error::Pdf(error.to_string()))?;
    if pages.is_empty() {
        return Err(Error::NoPages);
    }
    let mut text = String::new();
    for (number, page) in (1..).zip(&pages) {
        let page = paragraphs(page);
        if page.is_empty() {
            continue;
        }
        text.push_str(&format!("# Page {number}\n\n{page}\n\n"));
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::TooLong(TEXT_BYTES_MAX));
        }
    }
    if text.is_empty() { Err(Error::NoText(pages.len())) } else { Ok(text) }
}

/// The lines of a page as paragraphs, with what would be taken for Markdown's headings set apart.
fn paragraphs(page: &str) -> String {
    let mut paragraphs: Vec<String> = vec![String::new()];
    for line in page.lines() {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let last = paragraphs.last_mut().expect("there is one");
        if line.is_empty() {
            if !last.is_empty() {
                paragraphs.push(String::new());
            }
            continue;
        }
        // A word that was divided at the end of a line is one again.
        match last.strip_suffix('-').filter(|_| line.starts_with(char::is_lowercase)) {
            Some(before) => *last = format!("{before}{line}"),
            None if last.is_empty() => last.push_str(line.trim_start_matches(['#', '`'])),
            None => {
                last.push(' ');
                last.push_str(&line);
            }
        }
    }
    paragraphs.retain(|paragraph| !paragraph.trim().is_empty());
    paragraphs.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_paragraphs_and_divided_words_one() {
        let page = "  # Cooling \nThe fan must be re-\nplaced every  year.\n\n\nUse a T-\n20 key.\n";
        assert_eq!(paragraphs(page), " Cooling The fan must be replaced every year.\n\nUse a T- 20 key.");
    }
}
