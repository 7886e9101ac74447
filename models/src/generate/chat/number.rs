//! How long numbers in JSON may become: beyond what double precision holds their digits say nothing, or make another number of them.

/// Digits that are exact in double precision, whatever they are.
pub(super) const DIGITS_MAX: u8 = 15;
/// Digits that one which must be a multiple is written with before its end is looked for, which may take the rest of them.
pub(super) const DIGITS_OF_MULTIPLE: u8 = DIGITS_MAX - MULTIPLE_DIGITS;
/// Digits that bring any number to a multiple of what a schema may ask for.
pub(super) const MULTIPLE_DIGITS: u8 = 4;

/// Where in a JSON text its end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    digits_max: u8,
    is_text: bool,
    is_escaped: bool,
    /// Digits of the number so far; 0 outside of one.
    digits: u8,
}

impl Numbers {
    /// At the beginning of a text whose numbers should have at most so many digits.
    pub(super) const fn new(digits_max: u8) -> Self {
        Self { digits_max, is_text: false, is_escaped: false, digits: 0 }
    }

    /// Whether the end is within a string.
    pub(super) const fn is_text(&self) -> bool {
        self.is_text
    }

    /// Whether the end is within a number that should have no more digits.
    pub(super) const fn is_full(&self) -> bool {
        self.digits >= self.digits_max
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(*byte);
        }
    }

    /// Whether these bytes may follow.
    pub(super) fn take(&self, bytes: &[u8]) -> bool {
        let mut after = *self;
        bytes.iter().all(|byte| after.step(*byte))
    }

    fn step(&mut self, byte: u8) -> bool {
        if self.is_text {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_text = false,
                _ => {}
            }
            return true;
        }
        match byte {
            b'0'..=b'9' => {
                self.digits = self.digits.saturating_add(1);
                return self.digits <= self.digits_max;
            }
            // A digit must follow.
            b'.' if self.digits > 0 => return self.digits < self.digits_max,
            b'+' | b'-' => {}
            b'e' | b'E' if self.digits > 0 => return false,
            b'"' => (self.is_text, self.digits) = (true, 0),
            _ => self.digits = 0,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_no_more_digits_than_are_exact_and_no_exponent() {
        let check = |before: &str, next: &str, expected: bool| {
            let mut numbers = Numbers::new(11);
            numbers.push(before.as_bytes());
            assert_eq!(numbers.take(next.as_bytes()), expected, "{before} {next}");
        };
        check("[12345678.90", "1", true);
        check("[12345678.901", "2", false);
        check("[12345678.901", ", 2", true);
        check("[1234567890", ".", true);
        check("[12345678901", ".", false);
        check("[12345678901", ", 1.5", true);
        check("[1", "e", false);
        check("[tru", "e", true);
        check(r#"["a\"b"#, "1234567890123456e", true);
        check(r#"["a\\", "#, "1e", false);
    }
}
