//! The chat template of a model: how messages become one prompt. A template comes with the model's file, so it is held within
//! limits of steps and memory.

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value, context, syntax::SyntaxConfig};

use crate::generate::{Message, Role};

/// Steps of the template engine; a template takes some tens a message.
const FUEL: u64 = 2_000_000;

/// The form of the ChatML family, for files that carry none.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
                      {% endfor %}{{ '<|im_start|>assistant\n' }}";
/// The least that a model without a template may understand.
const PLAIN: &str =
    "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}{{ 'assistant: ' }}";

/// A compiled template.
pub(super) struct Template {
    environment: Environment<'static>,
    begin: String,
    end: String,
}

impl Template {
    /// Compiles a template; without one, the form that fits the vocabulary's end token.
    pub(super) fn new(source: Option<&str>, begin: &str, end: &str) -> Result<Self, minijinja::Error> {
        let default = if end == "<|im_end|>" { CHATML } else { PLAIN };
        let mut environment = Environment::new();
        // As transformers sets Jinja up.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", source.unwrap_or(default).to_owned())?;
        Ok(Self { environment, begin: begin.to_owned(), end: end.to_owned() })
    }

    /// The prompt, up to where the assistant speaks.
    pub(super) fn render(&self, messages: &[Message]) -> Result<String, minijinja::Error> {
        let values: Vec<Value> = messages
            .iter()
            .map(|message| {
                let role = match message.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                context! { role => role, content => message.content.as_str() }
            })
            .collect();
        self.environment.get_template("chat")?.render(context! {
            messages => values,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
            add_generation_prompt => true,
            // What a reasoning model thinks aloud costs a gateway minutes and is not asked for.
            enable_thinking => false,
        })
    }
}
