//! What tells of a person and can be known by its form: addresses of mail, telephone numbers, bank accounts (ISO 13616,
//! with their check digits), payment cards (ISO/IEC 7812, with theirs), numbers of social security (US). Names and street
//! addresses have no form.

use std::sync::LazyLock;

use regex::Regex;

use super::{Spot, Taken};

static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)[\p{L}\p{N}][\p{L}\p{N}._%+'-]*@(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?\.)+[\p{L}]{2,24}")
});
static IBAN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{1,4}){3,8}\b"));
static CARD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[0-9](?:[ -]?[0-9]){12,18}\b"));
static SOCIAL: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b"));
static PHONE: LazyLock<Regex> = LazyLock::new(|| {
    let international = r"(?:\+|\b00)[1-9][0-9]{0,2}(?:[ ./-]?\(?[0-9]{1,4}\)?){2,6}";
    let national =
        r"\(0[0-9]{2,4}\)[ ./-]?[0-9]{2,4}(?:[ ./-]?[0-9]{2,4}){1,3}|\b0[0-9]{2,3}[ /][0-9]{3}(?:[ .-][0-9]{2,4}){1,3}";
    let american = r"(?:\([2-9][0-9]{2}\) ?|\b[2-9][0-9]{2}[-.])[2-9][0-9]{2}[-.][0-9]{4}";
    pattern(&format!("(?:{international}|{national}|{american})"))
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// Everything in the text that tells of a person.
pub(super) fn find(text: &str) -> Vec<Spot> {
    let mut found = Found { text, taken: Taken::default(), spots: Vec::new() };
    // The stricter form first: a card's number is no telephone's.
    found.add(&EMAIL, "email", "an address of mail", |_| true);
    found.add(&IBAN, "iban", "the number of a bank account", is_iban);
    found.add(&CARD, "card", "the number of a payment card", is_card);
    found.add(&SOCIAL, "social-security", "a number of social security", is_social);
    found.add(&PHONE, "phone", "a telephone number", is_phone);
    found.spots.sort_by_key(|spot| spot.place.start);
    found.spots
}

struct Found<'t> {
    text: &'t str,
    taken: Taken,
    spots: Vec<Spot>,
}

impl Found<'_> {
    fn add(&mut self, form: &Regex, kind: &'static str, what: &str, holds: fn(&str) -> bool) {
        for found in form.find_iter(self.text) {
            let is_meant = !within_number(self.text, found.start(), found.end()) && holds(found.as_str());
            if is_meant && self.taken.take(&found.range()) {
                self.spots.push(Spot::masked(kind, found.range(), what));
            }
        }
    }
}

/// Whether the place is a part of a longer number, such as a measured value or a time.
fn within_number(text: &str, start: usize, end: usize) -> bool {
    let before: Vec<char> = text[..start].chars().rev().take(2).collect();
    let after: Vec<char> = text[end..].chars().take(2).collect();
    let goes_on = |near: &[char]| match near {
        [digit, ..] if digit.is_ascii_digit() => true,
        ['.' | ',' | ':' | 'T', digit] => digit.is_ascii_digit(),
        _ => false,
    };
    goes_on(&before) || goes_on(&after)
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// ISO 7064 MOD 97-10 over the account with its first four characters at the end.
fn is_iban(text: &str) -> bool {
    let plain: Vec<u32> = text.chars().filter_map(|c| c.to_digit(36)).collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let rest = plain[4..].iter().chain(&plain[..4]).fold(0, |rest, value| match value {
        0..=9 => (rest * 10 + value) % 97,
        _ => (rest * 100 + value) % 97,
    });
    rest == 1
}

/// The check digit of Luhn (ISO/IEC 7812-1, annex B); every first digit but 0 names an industry that gives out cards.
fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits.iter().rev().enumerate().map(|(i, digit)| luhn(i, *digit)).sum();
    let first = digits.first().copied().unwrap_or_default();
    (2..=6).contains(&first) && sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != first)
}

const fn luhn(place: usize, digit: u32) -> u32 {
    let doubled = if place % 2 == 1 { digit * 2 } else { digit };
    if doubled > 9 { doubled - 9 } else { doubled }
}

/// Areas 000, 666 and 900 to 999, group 00 and serial 0000 are never given out.
fn is_social(text: &str) -> bool {
    let (area, group, serial) = (&text[..3], &text[4..6], &text[7..]);
    area != "000" && area != "666" && !area.starts_with('9') && group != "00" && serial != "0000"
}

/// E.164: at most 15 digits. Fewer than 8 are too few to be told from other numbers.
fn is_phone(text: &str) -> bool {
    (8..=17).contains(&digits(text).len())
}
