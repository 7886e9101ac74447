//! Documents of each form, whole and damaged.

use proptest::prelude::*;

use super::*;

/// A PDF of these pages, each a text in Helvetica (ISO 32000-1, 7.5).
fn pdf(pages: &[&str]) -> Vec<u8> {
    let mut objects: Vec<String> = vec!["<< /Type /Catalog /Pages 2 0 R >>".to_owned()];
    let kids: Vec<String> = (0..pages.len()).map(|n| format!("{} 0 R", 4 + 2 * n)).collect();
    objects.push(format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()));
    objects.push("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned());
    for (n, page) in pages.iter().enumerate() {
        let lines: String = page.lines().map(|line| format!("({line}) Tj 0 -14 Td ")).collect();
        let content = format!("BT /F1 12 Tf 50 700 Td {lines}ET");
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>",
            5 + 2 * n
        ));
        objects.push(format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()));
    }
    let (mut bytes, mut places) = (b"%PDF-1.4\n".to_vec(), Vec::new());
    for (n, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n{object}\nendobj\n", n + 1).bytes());
    }
    let start = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for place in places {
        bytes.extend(format!("{place:010} 00000 n \n").bytes());
    }
    bytes
        .extend(format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n", objects.len() + 1).bytes());
    bytes
}

#[test]
fn the_pages_of_a_pdf_are_told_apart() {
    let text = markdown(Form::Pdf, &pdf(&["Replace the fan every year.", "", "Use oil ISO VG 46."])).unwrap();
    assert_eq!(text, "# Page 1\n\nReplace the fan every year.\n\n# Page 3\n\nUse oil ISO VG 46.\n\n");
    assert_eq!(markdown(Form::Pdf, &pdf(&["", ""])), Err(Error::NoText(2)));
    assert_eq!(markdown(Form::Pdf, &pdf(&[])), Err(Error::NoPages));
    assert_eq!(markdown(Form::Pdf, b"hello"), Err(Error::Pdf("it does not begin with %PDF-".to_owned())));
}

#[test]
fn html_keeps_its_structure_and_nothing_of_the_page_around() {
    let page = "<html><head><title>t</title><style>x{}</style></head><body><nav>Home</nav><h1>Press</h1><p>Intro &amp; more.</p>\
        <h2>Oil</h2><ul><li>ISO VG 46</li></ul><script>evil()</script><table><tr><th>a</th></tr><tr><td>1</td></tr></table></body></html>";
    let text = markdown(Form::Html, page.as_bytes()).unwrap();
    assert!(text.starts_with("# Press\n\nIntro & more.\n\n## Oil\n"), "{text}");
    assert!(
        text.contains("ISO VG 46") && !text.contains("evil") && !text.contains("Home") && !text.contains("x{}"),
        "{text}"
    );
}

#[test]
fn a_table_says_each_cell_with_its_column() {
    let text = markdown(Form::Csv, "\u{feff}code;cause;action\nE1;\"fan; stuck\";clean it\n;;\nE2;;call\n".as_bytes())
        .unwrap();
    assert_eq!(
        text,
        "# Row 2\n\ncode: E1; cause: fan; stuck; action: clean it\n\n# Row 4\n\ncode: E2; action: call\n\n"
    );
    let wrong = markdown(Form::Csv, b"a,b\n1,2\n3\n").unwrap_err().to_string();
    assert_eq!(wrong, "line 3: 1 cells: expected 2, as many as the first line has");
    assert_eq!(markdown(Form::Csv, b"a\xff"), Err(Error::Encoding(1)));
}

#[test]
fn a_form_is_known_by_its_ending() {
    assert_eq!(
        (Form::of("a/B.PDF"), Form::of("a.htm"), Form::of("a.docx"), Form::of("md")),
        (Some(Form::Pdf), Some(Form::Html), None, None)
    );
    assert_eq!((Form::of("a.md"), Form::of("a.TXT")), (Some(Form::Markdown), Some(Form::Text)));
}

proptest! {
    /// Whatever the bytes are, there is an answer; what panics below is caught by the process around it, and known here.
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        for form in [Form::Text, Form::Csv, Form::Html] {
            drop(markdown(form, text.as_bytes()));
        }
    }

    #[test]
    fn a_damaged_pdf_is_read_or_refused(at in 0_usize..900, byte: u8, end in 0_usize..900) {
        let mut bytes = pdf(&["Replace the fan every year."]);
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - end % 64);
        drop(std::panic::catch_unwind(|| markdown(Form::Pdf, &bytes)));
    }
}
