//! A chat model from a GGUF file: template, tokens, decoder, sampler.

mod calls;
mod draft;
mod grammar;
mod guide;
mod marks;
mod measure;
mod merge;
mod number;
mod room;
mod sample;
mod schema;
mod template;
mod tokens;
mod writing;

use std::{
    num::NonZero,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use draft::{Draft, WriteDraft};
use grammar::Grammars;
use guide::Guide;
pub use measure::{Held, Speed, Trial, measure, measure_held, read_speed};
pub use room::CacheRoom;
use room::Place;
use sample::{Allowed, Sampler};
use template::{Template, cleaned};
use tokens::Tokens;
use writing::{Begun, Writing};

use super::{
    Answer, Finish, Generator, Message, Request, Role, Tool,
    passages::{asking, with_passages},
    stream::Stream,
};
use crate::{
    Error,
    decoder::{CHUNK_LEN, Cache, Decoder, Layout, lay_out},
    gguf::Gguf,
    lanes::Processor,
    packed,
    product::Plan,
};

/// A loaded model. Answers may be asked of it from several threads; each takes memory for its own context.
struct Chat {
    name: String,
    tokens: Arc<Tokens>,
    /// The most bytes of a text that one token stands for.
    longest: usize,
    template: Template,
    /// Who writes prompts by a template of the file; without it, this process.
    write: Option<WriteDraft>,
    decoder: Decoder,
    place: Place,
    grammars: Grammars,
    /// What it says freely, in place of what its weights say.
    #[cfg(test)]
    script: std::sync::Mutex<std::collections::VecDeque<u32>>,
}

/// How a model is to be computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compute {
    /// How many threads compute, the caller's among them; without a number, as many as the machine has cores.
    pub threads: Option<NonZero<usize>>,
    /// In which form keys and values are kept.
    pub cache: Cache,
    /// The folder where packed weights are kept as files, see [`crate::packed`], and mapped; without one they are packed into memory.
    pub weights: Option<PathBuf>,
}

impl Compute {
    fn threads(&self) -> usize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get)
    }
}

/// What a chat model takes of the machine, in bytes, told from its file's header before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The weights as they are computed with.
    pub weights: u64,
    /// The vocabulary, and what is between the layers while the model computes.
    pub work: u64,
    /// The keys and values of one token.
    pub token: u64,
    /// Tokens that an answer and its prompt have at most.
    pub context: usize,
}

/// A chat model whose file was looked at and that is not loaded.
pub struct Unloaded {
    file: Gguf,
    layout: Layout,
    compute: Compute,
    write: Option<WriteDraft>,
}

/// Looks at a chat model of the Llama, Qwen2, Qwen3, Gemma 3, Phi-3 or LFM2 family.
///
/// # Errors
/// When the file is cut off, contradicts itself, or is of another family.
pub fn open_gguf(path: &Path, compute: Compute) -> Result<Unloaded, Error> {
    let file = Gguf::open(path)?;
    let layout = lay_out(&file, file.texts("tokenizer.ggml.tokens")?.len())?;
    Ok(Unloaded { file, layout, compute, write: None })
}

/// Loads a chat model with room for keys and values of its own. The file's name becomes the model's.
///
/// # Errors
/// As [`open_gguf`].
pub fn load_gguf(path: &Path) -> Result<Arc<dyn Generator>, Error> {
    open_gguf(path, Compute::default())?.load(&CacheRoom::new(u64::MAX))
}

/// Bytes that a token of the vocabulary takes beside its text: 400 in the tables that texts are split by, 500 in those that answers are held
/// to schemas by, which the first such answer makes. An estimate, on the large side.
const VOCABULARY_TOKEN_BYTES: u64 = 900;

impl Unloaded {
    /// What it takes once it is loaded.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let vocabulary = self.layout.vocabulary() as u64 * VOCABULARY_TOKEN_BYTES;
        Needs {
            weights: self.layout.weights_bytes() as u64,
            work: self.layout.work_bytes() as u64 + vocabulary,
            token: self.layout.token_bytes(self.compute.cache) as u64,
            context: self.layout.context(),
        }
    }

    /// Reads all but the weights: the vocabulary, whether it fits the model, the template.
    ///
    /// # Errors
    /// As [`Unloaded::load`].
    pub fn examine(&self) -> Result<(), Error> {
        let tokens = Tokens::load(&self.file)?;
        template(&self.file, &tokens).map(drop)
    }

    /// Has its prompts written by this, where the template is the file's own: elsewhere, within limits that a process has.
    #[must_use]
    pub fn written_by(self, write: WriteDraft) -> Self {
        Self { write: Some(write), ..self }
    }

    /// Loads it; its keys and values take part in this room.
    ///
    /// # Errors
    /// When the file cannot be read to its end, or holds no tokenizer or template that can be used.
    pub fn load(self, room: &Arc<CacheRoom>) -> Result<Arc<dyn Generator>, Error> {
        Ok(Arc::new(Chat::load_in(self, room)?))
    }
}

fn template(file: &Gguf, tokens: &Tokens) -> Result<Template, Error> {
    let source = file.value("tokenizer.chat_template").map(|_| file.text("tokenizer.chat_template")).transpose()?;
    let template = Template::new(source, tokens.begin_text(), tokens.end_text());
    template.map_err(|error| file.wrong(format!("tokenizer.chat_template: {error:#}")))
}

impl Chat {
    #[cfg(test)]
    fn load(path: &Path) -> Result<Self, Error> {
        Self::load_with(path, Compute::default())
    }

    fn load_with(path: &Path, compute: Compute) -> Result<Self, Error> {
        Self::load_in(open_gguf(path, compute)?, &CacheRoom::new(u64::MAX))
    }

    fn load_in(model: Unloaded, room: &Arc<CacheRoom>) -> Result<Self, Error> {
        let Unloaded { file, layout, compute, write } = model;
        // The vocabulary of a large model takes as long as the weights of a small one.
        let (tokens, decoder) = std::thread::scope(|scope| {
            let tokens = scope.spawn(|| Tokens::load(&file));
            let bring = |plan: &Plan, pool: &mut _| match &compute.weights {
                Some(folder) => packed::weights(folder, &file, plan, pool),
                None => plan.load(pool),
            };
            let decoder = layout.load(compute.threads(), compute.cache, Processor::detect(), bring);
            (tokens.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), decoder)
        });
        let (tokens, decoder) = (Arc::new(tokens?), decoder?);
        let template = template(&file, &tokens)?;
        let name = file.path().file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let place = Place::new(room, decoder.token_bytes(), decoder.context());
        let longest = tokens.longest();
        Ok(Self {
            name,
            tokens,
            longest,
            template,
            write,
            decoder,
            place,
            grammars: Grammars::default(),
            #[cfg(test)]
            script: std::sync::Mutex::default(),
        })
    }

    /// The prompt's tokens.
    fn prompt(&self, request: &Request) -> Result<Vec<u32>, Error> {
        let text = match request.messages.last() {
            Some(last) if request.continues => self.tokens.without_controls(&last.content),
            _ => self.chat_text(request)?,
        };
        if text.len() > self.bytes_max() {
            return Err(self.too_long());
        }
        let tokens = self.tokens.encode(&text)?;
        if tokens.is_empty() {
            return Err(Error::request("the text to be continued is empty: expected at least one character"));
        }
        if tokens.len() >= self.decoder.context() {
            let (found, most) = (tokens.len(), self.decoder.context());
            let message = format!("prompt has {found} tokens: expected fewer than the context of {most}");
            return Err(Error::TooLong { message });
        }
        if tokens.len() >= self.place.tokens_max() {
            let (found, most) = (tokens.len(), self.place.tokens_max());
            let message = format!(
                "prompt has {found} tokens: expected fewer than {most}, for which there is room for keys and values"
            );
            return Err(Error::TooLong { message });
        }
        Ok(tokens)
    }

    /// A prompt of more bytes no tokens can be few enough for: it is not split at all, which takes time.
    fn bytes_max(&self) -> usize {
        self.decoder.context().saturating_mul(self.longest)
    }

    fn too_long(&self) -> Error {
        let (most, context) = (self.bytes_max(), self.decoder.context());
        let held = format!("which is what the context of {context} tokens can hold");
        Error::TooLong { message: format!("prompt has too many bytes: expected at most {most}, {held}") }
    }

    /// The conversation as its template writes it.
    fn chat_text(&self, request: &Request) -> Result<String, Error> {
        let mut messages = with_passages(&request.messages, &request.passages);
        let asking = asking(&messages)?;
        if let Some(schema) = request.held_to() {
            let order = order(request, schema);
            match &mut messages[asking] {
                Message { role: Role::User | Role::System, content } => content.push_str(&format!("\n\n{order}")),
                // No word is put into the mouth of who does not ask.
                _ => messages.push(Message { role: Role::User, content: order }),
            }
        }
        for message in &mut messages {
            message.content = self.tokens.without_controls(&message.content);
        }
        self.render(&messages, &request.tools)
    }

    /// One JSON value that fits the schema. It is never cut: stop texts do not count, and when `max_tokens` are written the
    /// rest is made as short as is found.
    fn generate_json(
        &self,
        request: &Request,
        schema: &serde_json::Value,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        let prompt = self.prompt(request)?;
        let (matcher, hints) = self.grammars.matcher(&self.tokens, schema)?;
        let most = self.most(request, &prompt);
        let mut stream = Stream::new(&[], on_text);
        let mut writing = match self.read(request, prompt, most, &mut stream)? {
            Read::Whole(writing) => *writing,
            Read::Broken(tokens_in, finish) => return Ok(unwritten(stream, tokens_in, finish)),
        };
        let send = &mut |text: &str| stream.push(text);
        let finish = Guide { hints: &hints, matcher, writing: &mut writing, send }.write(most)?;
        Ok(answer(writing, stream, finish))
    }

    /// How many tokens an answer may have.
    fn most(&self, request: &Request, prompt: &[u32]) -> usize {
        let context = self.decoder.context().min(self.place.tokens_max());
        request.max_tokens.min(context.saturating_sub(prompt.len()))
    }

    /// Takes the prompt in, as far as it is not what a kept answer began with, with room for so many tokens of an answer.
    fn read(
        &self,
        request: &Request,
        prompt: Vec<u32>,
        most: usize,
        stream: &mut Stream<'_>,
    ) -> Result<Read<'_>, Error> {
        let (session, claim) = match self.place.take(&prompt, prompt.len() + most, &mut || stream.ask()) {
            ControlFlow::Continue(taken) => taken,
            ControlFlow::Break(finish) => return Ok(Read::Broken(prompt.len(), finish)),
        };
        let mut session = session.unwrap_or_else(|| self.decoder.session());
        let reused = session.len();
        let mut sampler = Sampler::new(request, self.decoder.processor());
        prompt.iter().for_each(|token| sampler.saw(*token));
        let mut logits = Vec::new();
        for (at, tokens) in prompt[session.len()..].chunks(CHUNK_LEN).enumerate() {
            if at > 0
                && let ControlFlow::Break(finish) = stream.ask()
            {
                self.place.keep(prompt[..session.len()].to_vec(), session, claim);
                return Ok(Read::Broken(prompt.len(), finish));
            }
            logits = self.decoder.forward(&mut session, tokens)?;
        }
        let begun = Begun { prompt, reused, session, claim, logits };
        Ok(Read::Whole(Box::new(Writing::new(self, request, sampler, begun))))
    }

    fn render(&self, messages: &[Message], tools: &[Tool]) -> Result<String, Error> {
        let clean = |text: &str| self.tokens.without_controls(text);
        let tools: Vec<Tool> = tools.iter().map(|tool| cleaned(tool, &clean)).collect();
        let most = self.bytes_max();
        let draft = self.write.as_ref().and_then(|write| Some((write, self.template.draft(messages, &tools, most)?)));
        let rendered = match draft {
            Some((write, draft)) => write(&draft),
            None => self.template.render(messages, &tools, most).map_err(|error| format!("{error:#}")),
        };
        let refused =
            |error: String| Error::request(format!("the chat template of {} refuses the messages: {error}", self.name));
        rendered.map_err(refused)?.ok_or_else(|| self.too_long())
    }
}

/// How far a prompt was read.
enum Read<'a> {
    /// All of it.
    Whole(Box<Writing<'a>>),
    /// The receiver broke off; the prompt's tokens, and why.
    Broken(usize, Finish),
}

/// The answer to a prompt that was not read to its end.
fn unwritten(stream: Stream<'_>, tokens_in: usize, finish: Finish) -> Answer {
    let (text, finish) = stream.finish(finish);
    Answer { text, calls: Vec::new(), tokens_in, tokens_reused: 0, tokens_out: 0, finish, logprobs: Vec::new() }
}

fn answer(writing: Writing<'_>, stream: Stream<'_>, finish: Finish) -> Answer {
    let (tokens_in, tokens_out, tokens_reused) = (writing.tokens_in(), writing.tokens_out(), writing.tokens_reused());
    let logprobs = writing.finish();
    let (text, finish) = stream.finish(finish);
    Answer { text, calls: Vec::new(), tokens_in, tokens_reused, tokens_out, finish, logprobs }
}

/// Bytes of tokens as text, holding back characters that are not yet whole.
#[derive(Default)]
struct Characters {
    pending: Vec<u8>,
}

impl Characters {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (whole, rest) = self.pending.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(wrong) = error.error_len() else {
                        self.pending = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.pending = rest[wrong..].to_vec();
                }
            }
        }
    }
}

/// What tells the model of the schema.
fn order(request: &Request, schema: &serde_json::Value) -> String {
    let how = if request.may_call() { "Call a tool, or answer" } else { "Answer" };
    format!("{how} with one JSON value that fits this schema:\n{schema}")
}

impl Generator for Chat {
    fn name(&self) -> &str {
        &self.name
    }

    fn unread(&self, request: &Request) -> Result<Option<usize>, Error> {
        let prompt = self.prompt(request)?;
        Ok(Some(prompt.len() - self.place.known(&prompt)))
    }

    fn kept_bytes(&self) -> u64 {
        self.place.kept_bytes()
    }

    fn mapped_bytes(&self) -> u64 {
        self.decoder.mapped_bytes() as u64
    }

    fn generate(&self, request: &Request, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Answer, Error> {
        request.check()?;
        match request.held_to() {
            held if request.may_call() => return self.generate_calls(request, held, on_text),
            Some(schema) => return self.generate_json(request, schema, on_text),
            None => {}
        }
        let prompt = self.prompt(request)?;
        let most = self.most(request, &prompt);
        let mut stream = Stream::new(&request.stop, on_text);
        let mut writing = match self.read(request, prompt, most, &mut stream)? {
            Read::Whole(writing) => *writing,
            Read::Broken(tokens_in, finish) => return Ok(unwritten(stream, tokens_in, finish)),
        };
        let mut characters = Characters::default();
        let mut finish = Finish::Length;
        while writing.tokens_out() < most {
            let token = self.choose_freely(&mut writing)?;
            if self.tokens.is_end(token) {
                finish = Finish::Stop;
                break;
            }
            let mut text = characters.push(self.tokens.bytes(token));
            if writing.tokens_out() == 0 && self.tokens.adds_space() && !request.continues {
                text = text.trim_start_matches(' ').to_owned();
            }
            writing.push_chosen(token);
            if let ControlFlow::Break(reason) = stream.push(&text) {
                finish = reason;
                break;
            }
        }
        Ok(answer(writing, stream, finish))
    }
}

impl Chat {
    fn choose_freely(&self, writing: &mut Writing<'_>) -> Result<u32, Error> {
        let token = writing.choose(Allowed::All)?;
        #[cfg(test)]
        let token = self.script.lock().unwrap().pop_front().or(token);
        token.ok_or_else(|| Error::broken(format!("{} gives no numbers: its weights are broken", self.name)))
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
