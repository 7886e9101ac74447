//! How the story looks in a terminal: numbered scenes, one line for each thing that was seen.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Where the story is told.
pub struct Screen {
    colours: bool,
    spins: bool,
    scene: u32,
    begun: Instant,
}

impl Screen {
    pub fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let colours = terminal && env::var_os("NO_COLOR").is_none();
        Self { colours, spins: terminal, scene: 0, begun: Instant::now() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(text: &str) {
        // A reader that is gone is no reason to stop what runs.
        let _ = writeln!(io::stdout(), "{text}");
    }

    pub fn scene(&mut self, title: &str) {
        self.scene += 1;
        let seconds = self.begun.elapsed().as_secs();
        let clock = self.paint("2", &format!("{}:{:02}", seconds / 60, seconds % 60));
        let title = self.paint("1;36", &format!("{}. {title}", self.scene));
        Self::line(&format!("\n{title}  {clock}"));
    }

    /// What is about to happen, or what to look at.
    pub fn say(&self, text: &str) {
        Self::line(&format!("   {}", text.replace('\n', "\n   ")));
    }

    /// Something that was read back from a running program.
    pub fn saw(&self, text: &str) {
        Self::line(&format!("   {} {}", self.paint("32", "✓"), text.replace('\n', "\n     ")));
    }

    pub fn missed(&self, text: &str) {
        Self::line(&format!("   {} {}", self.paint("1;31", "✗"), text.replace('\n', "\n     ")));
    }

    /// An address or secret that a person may want.
    pub fn offer(&self, name: &str, value: &str) {
        Self::line(&format!("   {name:<22} {}", self.paint("1", value)));
    }

    /// Shows that something is awaited; ends when dropped.
    pub fn waiting(&self, what: &str) -> Waiting {
        let bar = if self.spins { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("   {spinner:.cyan} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Waiting(bar)
    }
}

/// A spinner.
pub struct Waiting(ProgressBar);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
