//! A chat model from a GGUF file: template, tokens, decoder, sampler.

mod calls;
mod grammar;
mod guide;
mod kept;
mod measure;
mod merge;
mod number;
mod sample;
mod schema;
mod template;
mod tokens;
mod writing;

use std::{num::NonZero, ops::ControlFlow, path::Path, sync::Arc};

use grammar::Grammars;
use guide::Guide;
use kept::Kept;
pub use measure::{Held, Speed, Trial, measure, measure_held, read_speed};
use sample::Sampler;
use template::Template;
use tokens::Tokens;
use writing::Writing;

use super::{
    Answer, Finish, Generator, Message, Request, Role, Tool, ToolChoice, passages::with_passages, stream::Stream,
};
use crate::{
    Error,
    decoder::{self, CHUNK_LEN, Cache, Decoder},
    gguf::Gguf,
    lanes::Processor,
};

/// A loaded model. Answers may be asked of it from several threads; each takes memory for its own context.
struct Chat {
    name: String,
    tokens: Arc<Tokens>,
    template: Template,
    decoder: Decoder,
    kept: Kept,
    grammars: Grammars,
}

/// How a model is to be computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compute {
    /// How many threads compute, the caller's among them; without a number, as many as the machine has cores.
    pub threads: Option<NonZero<usize>>,
    /// In which form keys and values are kept.
    pub cache: Cache,
    /// Bytes that the keys and values of ended answers may take together, kept for prompts that begin like them; without a number,
    /// those of one whole context.
    pub kept_bytes: Option<usize>,
}

impl Compute {
    fn threads(self) -> usize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get)
    }
}

/// Loads a chat model of the Llama, Qwen2 or Qwen3 family. The file's name becomes the model's.
///
/// # Errors
/// When the file is cut off, contradicts itself, or is of another family.
pub fn load_gguf(path: &Path) -> Result<Arc<dyn Generator>, Error> {
    load_gguf_with(path, Compute::default())
}

/// As [`load_gguf`], computed as is said.
///
/// # Errors
/// As [`load_gguf`].
pub fn load_gguf_with(path: &Path, compute: Compute) -> Result<Arc<dyn Generator>, Error> {
    Ok(Arc::new(Chat::load_with(path, compute)?))
}

impl Chat {
    #[cfg(test)]
    fn load(path: &Path) -> Result<Self, Error> {
        Self::load_with(path, Compute::default())
    }

    fn load_with(path: &Path, compute: Compute) -> Result<Self, Error> {
        let file = Gguf::open(path)?;
        // The vocabulary of a large model takes as long as the weights of a small one.
        let vocabulary = file.texts("tokenizer.ggml.tokens")?.len();
        let (tokens, decoder) = std::thread::scope(|scope| {
            let tokens = scope.spawn(|| Tokens::load(&file));
            let decoder = decoder::load(&file, vocabulary, compute.threads(), compute.cache, Processor::detect());
            (tokens.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), decoder)
        });
        let (tokens, decoder) = (Arc::new(tokens?), decoder?);
        let source = file.value("tokenizer.chat_template").map(|_| file.text("tokenizer.chat_template")).transpose()?;
        let template = Template::new(source, tokens.begin_text(), tokens.end_text());
        let template = template.map_err(|error| file.wrong(format!("tokenizer.chat_template: {error:#}")))?;
        let name = file.path().file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let token_bytes = decoder.token_bytes().max(1);
        let kept_tokens = compute.kept_bytes.map_or(decoder.context(), |bytes| bytes / token_bytes);
        let (kept, grammars) = (Kept::new(kept_tokens), Grammars::default());
        Ok(Self { name, tokens, template, decoder, kept, grammars })
    }

    /// The prompt's tokens.
    fn prompt(&self, request: &Request) -> Result<Vec<u32>, Error> {
        let mut messages = with_passages(&request.messages, &request.passages);
        if !messages.iter().any(|message| message.role == Role::User) {
            return Err(Error::request("messages hold none by the user: expected at least one"));
        }
        if let (Some(schema), Some(last)) =
            (&request.schema, messages.iter_mut().rev().find(|message| message.role == Role::User))
        {
            last.content.push_str(&format!("\n\nAnswer with one JSON value that fits this schema:\n{schema}"));
        }
        for message in &mut messages {
            message.content = self.tokens.without_controls(&message.content);
        }
        let text = self.render(&messages, &request.tools)?;
        let tokens = self.tokens.encode(&text)?;
        if tokens.len() >= self.decoder.context() {
            let (found, most) = (tokens.len(), self.decoder.context());
            return Err(Error::request(format!(
                "prompt has {found} tokens: expected fewer than the context of {most}"
            )));
        }
        Ok(tokens)
    }

    /// One JSON value that fits the schema. It is never cut: stop texts do not count, and when `max_tokens` are written the
    /// rest is made as short as is found.
    fn generate_json(
        &self,
        request: &Request,
        schema: &serde_json::Value,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        if !request.tools.is_empty() {
            return Err(Error::request("schema and tools: expected one of them"));
        }
        let (matcher, hints) = self.grammars.matcher(&self.tokens, schema)?;
        let prompt = self.prompt(request)?;
        let most = self.most(request, &prompt);
        let mut stream = Stream::new(&[], on_text);
        let mut writing = match self.read(request, prompt, &mut stream)? {
            Read::Whole(writing) => *writing,
            Read::Broken(tokens_in, finish) => return Ok(unwritten(stream, tokens_in, finish)),
        };
        let send = &mut |text: &str| stream.push(text);
        let finish = Guide { hints: &hints, matcher, writing: &mut writing, send }.write(most)?;
        Ok(answer(writing, stream, finish))
    }

    /// How many tokens an answer may have.
    fn most(&self, request: &Request, prompt: &[u32]) -> usize {
        request.max_tokens.min(self.decoder.context() - prompt.len())
    }

    /// Takes the prompt in, as far as it is not what the last answer began with.
    fn read(&self, request: &Request, prompt: Vec<u32>, stream: &mut Stream<'_>) -> Result<Read<'_>, Error> {
        let mut session = self.kept.take(&prompt).unwrap_or_else(|| self.decoder.session());
        let mut sampler = Sampler::new(request);
        prompt.iter().for_each(|token| sampler.saw(*token));
        let mut logits = Vec::new();
        for (at, tokens) in prompt[session.len()..].chunks(CHUNK_LEN).enumerate() {
            if at > 0
                && let ControlFlow::Break(finish) = stream.ask()
            {
                self.kept.keep(prompt[..session.len()].to_vec(), session);
                return Ok(Read::Broken(prompt.len(), finish));
            }
            logits = self.decoder.forward(&mut session, tokens)?;
        }
        Ok(Read::Whole(Box::new(Writing::new(self, request, sampler, prompt, session, logits))))
    }

    fn render(&self, messages: &[Message], tools: &[Tool]) -> Result<String, Error> {
        let clean = |text: &str| self.tokens.without_controls(text);
        let rendered = self.template.render(messages, tools, &clean);
        rendered.map_err(|error| {
            Error::request(format!("the chat template of {} refuses the messages: {error:#}", self.name))
        })
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
    Answer { text, calls: Vec::new(), tokens_in, tokens_out: 0, finish, logprobs: Vec::new() }
}

fn answer(writing: Writing<'_>, stream: Stream<'_>, finish: Finish) -> Answer {
    let (tokens_in, tokens_out, logprobs) = writing.finish();
    let (text, finish) = stream.finish(finish);
    Answer { text, calls: Vec::new(), tokens_in, tokens_out, finish, logprobs }
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

impl Generator for Chat {
    fn name(&self) -> &str {
        &self.name
    }

    fn generate(&self, request: &Request, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Answer, Error> {
        if let Some(schema) = &request.schema {
            return self.generate_json(request, schema, on_text);
        }
        if !request.tools.is_empty() && request.tool_choice != ToolChoice::None {
            return self.generate_calls(request, on_text);
        }
        let prompt = self.prompt(request)?;
        let most = self.most(request, &prompt);
        let mut stream = Stream::new(&request.stop, on_text);
        let mut writing = match self.read(request, prompt, &mut stream)? {
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
            if writing.tokens_out() == 0 && self.tokens.adds_space() {
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
        let token = writing.choose(&|_| true)?;
        token.ok_or_else(|| Error::request(format!("{} gives no numbers: its weights are broken", self.name)))
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
