//! A prompt that is to be written: all that a chat template needs, so that another process may run it. A template comes with the model's
//! file, and what it makes up on its way, such as a text joined to itself again and again, has no limit within a process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::generate::{Message, Tool};

/// A conversation, and the template that it is to be written by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// Jinja, as transformers has it.
    pub template: String,
    /// The texts of the tokens that begin and end a sequence.
    pub begin: String,
    pub end: String,
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
    /// Bytes of the prompt.
    pub most: usize,
}

/// Writes drafts elsewhere. `None` for a prompt of more bytes than it may have, else why the template refuses the messages.
pub type WriteDraft = Arc<dyn Fn(&Draft) -> Result<Option<String>, String> + Send + Sync>;

impl Draft {
    /// The prompt; `None` when it would have more bytes than it may have.
    ///
    /// # Errors
    /// When the template cannot be read, refuses the messages, or takes too many steps.
    pub fn write(&self) -> Result<Option<String>, String> {
        let refused = |error: minijinja::Error| format!("{error:#}");
        let template = Template::new(Some(&self.template), &self.begin, &self.end).map_err(refused)?;
        template.render(&self.messages, &self.tools, self.most).map_err(refused)
    }
}
