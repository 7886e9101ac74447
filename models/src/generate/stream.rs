//! Text on its way out: looks for stop texts, counts nothing, keeps the whole.

use std::ops::ControlFlow;

use super::Finish;

/// Passes text on to a receiver, but never a stop text nor the beginning of what may become one.
pub(super) struct Stream<'a> {
    stop: &'a [String],
    on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
    text: String,
    /// How much of `text` the receiver has.
    sent: usize,
}

impl<'a> Stream<'a> {
    pub(super) fn new(stop: &'a [String], on_text: &'a mut dyn FnMut(&str) -> ControlFlow<()>) -> Self {
        Self { stop, on_text, text: String::new(), sent: 0 }
    }

    /// Adds text; `Break` says that the answer is over and why.
    pub(super) fn push(&mut self, text: &str) -> ControlFlow<Finish> {
        // A stop text may begin in what is held back, never in what was sent.
        self.text.push_str(text);
        let held = &self.text[self.sent..];
        let found = self.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.text.truncate(self.sent + at);
            self.send(self.text.len())?;
            return ControlFlow::Break(Finish::Stop);
        }
        let hold = self.stop.iter().map(|stop| overlap(held, stop)).max().unwrap_or(0);
        match self.text.len() - hold {
            end if end > self.sent => self.send(end),
            // Nothing to send, and a receiver that may have gone.
            _ => self.ask(),
        }
    }

    /// Whether the receiver wants to go on.
    pub(super) fn ask(&mut self) -> ControlFlow<Finish> {
        match (self.on_text)("") {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(()) => ControlFlow::Break(Finish::Cancelled),
        }
    }

    /// Sends what was held back and gives the whole text.
    pub(super) fn finish(mut self, finish: Finish) -> (String, Finish) {
        match self.send(self.text.len()) {
            ControlFlow::Continue(()) => (self.text, finish),
            ControlFlow::Break(finish) => (self.text, finish),
        }
    }

    fn send(&mut self, end: usize) -> ControlFlow<Finish> {
        if end > self.sent {
            let piece = &self.text[self.sent..end];
            self.sent = end;
            if (self.on_text)(piece).is_break() {
                self.text.truncate(end);
                return ControlFlow::Break(Finish::Cancelled);
            }
        }
        ControlFlow::Continue(())
    }
}

/// How many bytes at the end of the text are a beginning of the stop text, not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    (1..=longest).rev().find(|&length| text.as_bytes().ends_with(&stop.as_bytes()[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], stop: &[&str], expected: &[&str], finish: Finish) {
        let stop: Vec<String> = stop.iter().map(ToString::to_string).collect();
        let mut sent = Vec::new();
        let mut on_text = |text: &str| {
            // An empty piece only asks.
            sent.extend((!text.is_empty()).then(|| text.to_owned()));
            if text == "break" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut stream = Stream::new(&stop, &mut on_text);
        let mut found = Finish::Length;
        for piece in pieces {
            if let ControlFlow::Break(reason) = stream.push(piece) {
                found = reason;
                break;
            }
        }
        let (text, found) = stream.finish(found);
        assert_eq!((sent.concat(), found), (text, finish));
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_stop_text_is_never_sent_even_when_it_comes_in_pieces() {
        check(&["one", " two"], &[], &["one", " two"], Finish::Length);
        check(&["one E", "N", "D two"], &["END"], &["one "], Finish::Stop);
        check(&["one E", "N", "G two"], &["END"], &["one ", "ENG two"], Finish::Length);
        check(&["one E", "N"], &["END"], &["one ", "EN"], Finish::Length);
        check(&["äß", "ä"], &["ä!", "?"], &["äß", "ä"], Finish::Length);
        check(&["a b c"], &["c", "b"], &["a "], Finish::Stop);
    }

    #[test]
    fn a_receiver_that_breaks_off_gets_nothing_more() {
        check(&["one", "break", "two"], &[], &["one", "break"], Finish::Cancelled);
    }
}
