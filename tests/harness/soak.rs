//! A soak of a node's serving: many requests at several models that do not fit together, some of them cancelled or given up, and what must hold
//! of each. Whatever is decided by chance is decided by a seed.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, Setup},
    binaries, net, wait,
};

/// Models with random weights, of different families.
const MODELS: [(&str, &str); 3] = [("local/a", "tiny-qwen3"), ("local/b", "tiny-llama3"), ("local/c", "tiny-qwen2")];
/// Beginnings of prompts: some share theirs, so that what was read before is used again.
const PROMPTS: [&str; 6] = [
    "The pump stands still because",
    "The pump stands still although it",
    "Change the oil of the press when",
    "A sensor that reads 103.2 degrees",
    "Noise at 120 Hz means",
    "Ask a person before",
];
/// Requests that are under way at one time.
const CLIENTS: usize = 8;
/// Nothing takes longer, a queue of others before it included.
const BOUND: Duration = Duration::from_secs(60);
/// Keys and values of all models.
const KEYS_AND_VALUES_KB: u64 = 1_024;
/// What an agent may hold more at the end than after it was warm: pages of its store, and what the allocator keeps.
pub const GROWTH_KB_MAX: u64 = 16 * 1_024;
/// Files beside those of a warm agent: connections that are on their way out.
pub const FILES_MORE_MAX: usize = 8;
/// Of the requests one in so many may be turned away: of a node that is well it is one in fifteen to forty, and more on a machine that is busy.
const TURNED_AWAY_ONE_IN: usize = 2;
/// As many requests come to every end that two of ten or more are meant for, and as many to one that is rare on a fast machine.
const SURE_OF_COMMON: usize = 100;
const SURE_OF_RARE: usize = 1_000;

/// What is asked, by whom it is answered, and how.
#[derive(Debug, Clone)]
struct Case {
    model: &'static str,
    prompt: String,
    seed: u64,
    max_tokens: u64,
    /// Behind `/v1/chat/completions`, or as a text that goes on.
    is_chat: bool,
    /// Held to a schema.
    is_held: bool,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (at, prompt) in PROMPTS.iter().enumerate() {
            for (with, (model, _)) in MODELS.iter().enumerate() {
                let (seed, is_chat) = ((at * 7 + with) as u64, (at + with) % 2 == 0);
                let max_tokens = [4, 12, 40][(at + with) % 3];
                let is_held = is_chat && at % 3 == 0;
                all.push(Self { model, prompt: (*prompt).to_owned(), seed, max_tokens, is_chat, is_held });
            }
        }
        all
    }

    fn path(&self) -> &'static str {
        if self.is_chat { "/v1/chat/completions" } else { "/v1/completions" }
    }

    fn body(&self, stream: bool) -> Value {
        let mut body = json!({
            "model": self.model, "seed": self.seed, "max_tokens": self.max_tokens, "temperature": 0.9, "stream": stream,
        });
        if self.is_chat {
            body["messages"] = json!([{"role": "user", "content": self.prompt}]);
        } else {
            body["prompt"] = self.prompt.clone().into();
        }
        if self.is_held {
            let schema = json!({"type": "string", "minLength": 6, "maxLength": 24});
            body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "text", "schema": schema}});
        }
        body
    }

    /// The text of an answer or of a piece of one.
    fn text<'v>(&self, value: &'v Value) -> &'v str {
        let choice = &value["choices"][0];
        let at = if self.is_chat {
            [&choice["message"]["content"], &choice["delta"]["content"]]
        } else {
            [&choice["text"]; 2]
        };
        at.into_iter().find_map(Value::as_str).unwrap_or_default()
    }
}

/// What becomes of a request, as far as its client has a say.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Whole,
    Streamed,
    /// The client goes away after so many pieces.
    Cancelled(usize),
    /// The client waits no longer than this for the whole.
    GivenUp(Duration),
}

/// Numbers by chance (xorshift64*, Vigna 2016).
struct Chance(u64);

impl Chance {
    fn of(seed: u64, request: usize) -> Self {
        let mut chance = Self(
            (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_add(request as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d) | 1,
        );
        for _ in 0..4 {
            chance.below(2);
        }
        chance
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn fate(&mut self) -> Fate {
        match self.below(10) {
            0..3 => Fate::Whole,
            3..6 => Fate::Streamed,
            6..8 => Fate::Cancelled(self.below(20)),
            _ => Fate::GivenUp(Duration::from_millis(1 + self.below(60) as u64)),
        }
    }
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub resident_kb: u64,
    pub files: usize,
}

impl Held {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says what it has");
        let resident_kb = line.trim().trim_end_matches(" kB").parse().expect("a number");
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the agent runs").count();
        Self { resident_kb, files }
    }
}

/// What a soak came to.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub whole: usize,
    pub streamed: usize,
    pub cancelled: usize,
    pub given_up: usize,
    /// Told that there is no room or time now: an answer, with its reason.
    pub turned_away: usize,
    /// Loads of models, each in place of another from the third on.
    pub loads: usize,
    /// What went otherwise than it must, the first of it.
    pub wrong: Vec<String>,
    /// When a tenth of the requests was over, at each further tenth, and when all was quiet again.
    pub held: Vec<Held>,
    pub took: Duration,
}

impl Report {
    /// # Panics
    /// When something did not hold, with all of it.
    pub fn must_hold(&self) {
        assert!(self.wrong.is_empty(), "{self:#?}");
        let asked = self.asked();
        assert!(self.turned_away * TURNED_AWAY_ONE_IN <= asked, "too many were turned away: {self:#?}");
        let common = self.whole.min(self.streamed).min(self.cancelled);
        assert!(common > 0 || asked < SURE_OF_COMMON, "none was whole, streamed or cancelled: {self:#?}");
        assert!(self.given_up > 0 || asked < SURE_OF_RARE, "none was given up: {self:#?}");
        let (warm, last) = (self.held.first().expect("looked at"), self.held.last().expect("looked at"));
        assert!(last.resident_kb <= warm.resident_kb + GROWTH_KB_MAX, "memory grew: {self:#?}");
        assert!(last.files <= warm.files + FILES_MORE_MAX, "files stay open: {self:#?}");
        assert!(self.loads > MODELS.len(), "no model made room for another: {self:#?}");
    }

    /// Requests that came to an end that may be.
    const fn asked(&self) -> usize {
        self.whole + self.streamed + self.cancelled + self.given_up + self.turned_away
    }

    /// As people read it.
    #[must_use]
    pub fn told(&self) -> String {
        let asked = self.asked();
        let held: Vec<String> =
            self.held.iter().map(|held| format!("{:.1} MB/{}", held.resident_kb as f64 / 1024.0, held.files)).collect();
        format!(
            "seed {}: {asked} requests in {:.0} s: {} whole, {} streamed, {} cancelled, {} given up, {} turned away; {} loads of models; \
             {} wrong\nresident memory/open files, warm to quiet: {}",
            self.seed,
            self.took.as_secs_f64(),
            self.whole,
            self.streamed,
            self.cancelled,
            self.given_up,
            self.turned_away,
            self.loads,
            self.wrong.len(),
            held.join(", ")
        )
    }
}

/// One agent and what is known of its answers.
struct Soak {
    client: reqwest::Client,
    base: String,
    token: String,
    cases: Vec<Case>,
    /// What each case's answer is when nobody else asks.
    alone: Vec<String>,
    report: Mutex<Report>,
    next: AtomicUsize,
}

/// Asks an agent of its own in this folder so many times, and says what came of it.
///
/// # Panics
/// When the agent does not come up, or ends.
pub async fn soak(folder: &Path, requests: usize, seed: u64) -> Report {
    let memory_kb = memory_for_two(folder).await;
    let mut agent = Agent::new(folder, &Setup { site: None, more: &targets(memory_kb), ..Setup::new("soak", folder) });
    agent.start().await;
    let soak = Soak {
        client: net::http(),
        base: agent.url(""),
        token: agent.token(),
        cases: Case::all(),
        alone: Vec::new(),
        report: Mutex::new(Report { seed, ..Report::default() }),
        next: AtomicUsize::new(0),
    };
    let soak = Arc::new(soak.asked_alone().await);
    let (began, pid) = (Instant::now(), agent.running().pid());
    for tenth in 1..=10 {
        let until = requests * tenth / 10;
        let clients = (0..CLIENTS).map(|_| tokio::spawn(Arc::clone(&soak).ask_until(until, seed)));
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client does not break down");
        }
        assert!(agent.running().ended().is_none(), "the agent ended:\n{}", agent.running().log());
        soak.report.lock().expect("no panic").held.push(Held::of(pid));
    }
    let took = began.elapsed();
    soak.asked_again().await;
    // Connections of clients that went away are closed a moment later.
    let most = soak.report.lock().expect("no panic").held[0].files + FILES_MORE_MAX;
    wait::until("connections to be closed", BOUND, async || (Held::of(pid).files <= most).then_some(())).await;
    let loads = agent.running().log().matches("a chat model is loaded").count();
    let panics = agent.running().log().matches("panicked").count();
    let last = Held::of(pid);
    agent.stop().await;
    let mut report = std::mem::take(&mut *soak.report.lock().expect("no panic"));
    (report.loads, report.took) = (loads, took);
    report.held.push(last);
    if panics > 0 {
        report.wrong.push(format!("{panics} panics in the log"));
    }
    report
}

/// `agent.toml` of the targets, with so much for models.
fn targets(memory_kb: u64) -> String {
    let mut more = format!(
        "label = {{ class = \"internal\" }}\n\n[inference]\nmemory = \"{memory_kb} KB\"\nkeys_and_values = \"{KEYS_AND_VALUES_KB} KB\"\n"
    );
    for (at, (name, file)) in MODELS.iter().enumerate() {
        let file = binaries::checkout().join(format!("models/reference/tiny/{file}.gguf"));
        let parallel = if at == 0 { 4 } else { 1 };
        more.push_str(&format!(
            "\n[[targets]]\nname = {name:?}\nkind = \"gguf\"\nfile = {file:?}\nparallel = {parallel}\n"
        ));
    }
    more
}

/// KB in which two of the models fit and never three: all are loaded once where there is room for them, and say what they have.
async fn memory_for_two(folder: &Path) -> u64 {
    let more = targets(512 * 1_024);
    let mut agent = Agent::new(folder, &Setup { site: None, more: &more, ..Setup::new("measure", folder) });
    agent.start().await;
    let mut sizes = Vec::new();
    for case in Case::all().iter().take(MODELS.len()) {
        let request = net::http().post(agent.url(case.path())).bearer_auth(agent.token()).json(&case.body(false));
        let answer = request.send().await.expect("the agent answers");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
        let with = format!("target=\"{}\",of=\"model\"", case.model);
        sizes.push(agent.metric("skerry_model_memory_bytes", &with).await as u64 / 1_024);
    }
    agent.stop().await;
    sizes.sort_unstable();
    let [least, others @ ..] = sizes.as_slice() else { panic!("no model was asked") };
    // Keys and values give way to a model, as far as they are not in use.
    assert!(*least > KEYS_AND_VALUES_KB, "three models may fit: {sizes:?}");
    others.iter().sum::<u64>() + least / 2 + KEYS_AND_VALUES_KB / 2
}

impl Soak {
    fn request(&self, case: &Case, stream: bool) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.base, case.path());
        self.client.post(url).bearer_auth(&self.token).json(&case.body(stream)).timeout(BOUND)
    }

    /// The whole answer, or what the refusal says.
    async fn whole(&self, case: &Case) -> Result<Result<String, Value>, reqwest::Error> {
        let answer = self.request(case, false).send().await?;
        let is_good = answer.status().is_success();
        let value: Value = answer.json().await?;
        Ok(if is_good { Ok(case.text(&value).to_owned()) } else { Err(value) })
    }

    async fn asked_alone(mut self) -> Self {
        for case in &self.cases {
            let answer = self.whole(case).await.expect("the agent answers").expect("one that is alone is answered");
            self.alone.push(answer);
        }
        // A stream of somebody else would not be noticed if all said the same.
        let different: BTreeSet<&String> = self.alone.iter().filter(|text| !text.is_empty()).collect();
        assert_eq!(different.len(), self.cases.len(), "answers are alike: {:?}", self.alone);
        self
    }

    async fn asked_again(&self) {
        for (case, alone) in self.cases.iter().zip(&self.alone) {
            let answer = self.whole(case).await.expect("the agent answers");
            if answer.as_ref() != Ok(alone) {
                self.wrong(format!("{case:?} was answered {alone:?} before and {answer:?} after"));
            }
        }
    }

    fn wrong(&self, what: String) {
        let mut report = self.report.lock().expect("no panic");
        // The first few tell what it is.
        if report.wrong.len() < 10 {
            report.wrong.push(what);
        }
    }

    async fn ask_until(self: Arc<Self>, until: usize, seed: u64) {
        loop {
            let request = self.next.load(Ordering::SeqCst);
            if request >= until {
                return;
            }
            if self.next.compare_exchange(request, request + 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                continue;
            }
            let mut chance = Chance::of(seed, request);
            let (at, fate) = (chance.below(self.cases.len()), chance.fate());
            if let Err(why) = self.ask(at, fate).await {
                self.wrong(format!("request {request}, {:?}, {fate:?}: {why}", self.cases[at]));
            }
        }
    }

    async fn ask(&self, at: usize, fate: Fate) -> Result<(), String> {
        let (case, alone) = (&self.cases[at], self.alone[at].as_str());
        let count = |of: fn(&mut Report) -> &mut usize| *of(&mut self.report.lock().expect("no panic")) += 1;
        let told = |error: reqwest::Error| format!("{error:?}");
        match fate {
            Fate::Whole => match self.whole(case).await.map_err(told)? {
                Ok(text) if text == alone => count(|report| &mut report.whole),
                Ok(text) => return Err(format!("answered {text:?}, alone {alone:?}")),
                Err(refusal) => {
                    is_overloaded(&refusal)?;
                    count(|report| &mut report.turned_away);
                }
            },
            Fate::GivenUp(after) => match tokio::time::timeout(after, self.whole(case)).await {
                Err(_) => count(|report| &mut report.given_up),
                // It was faster.
                Ok(Ok(Ok(text))) if text == alone => count(|report| &mut report.whole),
                Ok(Ok(Ok(text))) => return Err(format!("answered {text:?}, alone {alone:?}")),
                Ok(Ok(Err(refusal))) => {
                    is_overloaded(&refusal)?;
                    count(|report| &mut report.turned_away);
                }
                Ok(Err(error)) => return Err(told(error)),
            },
            Fate::Streamed => match self.stream(case, usize::MAX).await? {
                None => count(|report| &mut report.turned_away),
                Some(text) if text == alone => count(|report| &mut report.streamed),
                Some(text) => return Err(format!("streamed {text:?}, alone {alone:?}")),
            },
            Fate::Cancelled(pieces) => match self.stream(case, pieces).await? {
                None => count(|report| &mut report.turned_away),
                Some(text) if alone.starts_with(&text) => count(|report| &mut report.cancelled),
                Some(text) => return Err(format!("streamed {text:?} until it was cancelled, alone {alone:?}")),
            },
        }
        Ok(())
    }

    /// What was streamed up to so many pieces; then the client goes away. `None`: turned away.
    async fn stream(&self, case: &Case, pieces_max: usize) -> Result<Option<String>, String> {
        let told = |error: reqwest::Error| format!("{error:?}");
        let answer = self.request(case, true).send().await.map_err(told)?;
        if !answer.status().is_success() {
            is_overloaded(&answer.json().await.map_err(told)?)?;
            return Ok(None);
        }
        let (mut text, mut unread, mut pieces) = (String::new(), Vec::new(), 0);
        let mut bytes = answer.bytes_stream();
        while pieces < pieces_max {
            let Some(more) = bytes.next().await.transpose().map_err(told)? else { break };
            unread.extend_from_slice(&more);
            while let Some(end) = unread.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = unread.drain(..end + 2).collect();
                let event = String::from_utf8(event).map_err(|error| error.to_string())?;
                let Some(data) = event.trim().strip_prefix("data: ").filter(|data| *data != "[DONE]") else { continue };
                let value: Value = serde_json::from_str(data).map_err(|error| format!("{data}: {error}"))?;
                if value.get("error").is_some() {
                    is_overloaded(&value)?;
                    return Ok(None);
                }
                text.push_str(case.text(&value));
                pieces += 1;
            }
        }
        Ok(Some(text))
    }
}

/// A refusal is one only with its reason.
fn is_overloaded(refusal: &Value) -> Result<(), String> {
    let is_told = refusal["error"]["message"].as_str().is_some_and(|message| !message.is_empty());
    // No memory now, and no place in the queue.
    let is_passing = [json!("overloaded"), json!("rate_limit_exceeded")].contains(&refusal["error"]["code"]);
    if is_passing && is_told { Ok(()) } else { Err(format!("refused: {refusal}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a soak of a node that is well comes out.
    fn well() -> Report {
        let held = vec![Held { resident_kb: 80_000, files: 33 }];
        Report {
            whole: 122,
            streamed: 76,
            cancelled: 63,
            given_up: 25,
            turned_away: 14,
            loads: 99,
            held,
            ..Report::default()
        }
    }

    #[test]
    fn a_soak_that_went_well_holds() {
        well().must_hold();
        // On a fast machine.
        Report { given_up: 0, ..well() }.must_hold();
    }

    #[test]
    fn one_in_which_nearly_all_were_turned_away_or_nobody_left_does_not() {
        let fails = |report: Report| std::panic::catch_unwind(|| report.must_hold()).is_err();
        assert!(fails(Report { whole: 9, streamed: 9, cancelled: 9, given_up: 9, turned_away: 264, ..well() }));
        assert!(fails(Report { cancelled: 0, ..well() }));
        assert!(fails(Report { whole: 1_000, given_up: 0, ..well() }));
    }
}
