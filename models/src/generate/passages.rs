//! Passages as part of a prompt, for models that know only messages; and back again, so that a far extractive generator
//! behind a chat endpoint finds them.

use super::{Message, Passage, Role};
use crate::Error;

const OPENING: &str = "Answer from these passages only, and cite them as [n].";
const QUESTION: &str = "Question:";

/// The messages with the passages put before the last user message, numbered from 1.
#[must_use]
pub fn with_passages(messages: &[Message], passages: &[Passage]) -> Vec<Message> {
    let mut messages = messages.to_vec();
    if passages.is_empty() {
        return messages;
    }
    let mut text = format!("{OPENING}\n");
    for (at, passage) in passages.iter().enumerate() {
        let heading = [passage.document.as_str(), passage.place.as_str()].map(one_line);
        let heading: Vec<String> = heading.into_iter().filter(|part| !part.is_empty()).collect();
        text.push_str(&format!("\n[{}] {}\n{}\n", at + 1, heading.join(", "), passage.text.trim()));
    }
    match messages.iter_mut().rev().find(|message| message.role == Role::User) {
        Some(message) => message.content = format!("{text}\n{QUESTION}\n{}", message.content),
        None => messages.push(Message { role: Role::User, content: text }),
    }
    messages
}

/// The message that asks: the last by the user, in a conversation of orders alone the last of those, and else the last.
///
/// # Errors
/// Where there is none.
pub(super) fn asking(messages: &[Message]) -> Result<usize, Error> {
    let last = |role| messages.iter().rposition(|message| message.role == role);
    let asking = last(Role::User).or_else(|| last(Role::System)).or_else(|| messages.len().checked_sub(1));
    asking.ok_or_else(|| Error::request("messages: expected at least one"))
}

/// The passages and the question of a message that [`with_passages`] made.
pub(super) fn split_passages(content: &str) -> Option<(Vec<Passage>, String)> {
    let rest = content.strip_prefix(OPENING)?;
    let (listed, question) = rest.split_once(&format!("\n{QUESTION}\n")).unwrap_or((rest, ""));
    let mut passages: Vec<Passage> = Vec::new();
    for line in listed.lines() {
        let mark = format!("[{}] ", passages.len() + 1);
        if let Some(heading) = line.strip_prefix(&mark) {
            let (document, place) = heading.split_once(", ").unwrap_or((heading, ""));
            let (document, place) = (document.to_owned(), place.to_owned());
            passages.push(Passage { document, place, ..Passage::default() });
        } else if let Some(passage) = passages.last_mut() {
            passage.text.push_str(line);
            passage.text.push('\n');
        }
    }
    for passage in &mut passages {
        passage.text.truncate(passage.text.trim_end().len());
    }
    Some((passages, question.to_owned()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_survive_the_way_through_a_message() {
        let passage = |text: &str, document: &str, place: &str| Passage {
            text: text.to_owned(),
            document: document.to_owned(),
            place: place.to_owned(),
        };
        let passages = vec![
            passage("# Hot\n\nCause: dry.\n[9] is a mark", "manuals/pump.md", "Bearing, hot"),
            passage("Text", "b", ""),
        ];
        let system = Message { role: Role::System, content: "Be brief.".to_owned() };
        let user = Message { role: Role::User, content: "Why?\nQuestion:\nis it hot?".to_owned() };
        let messages = with_passages(&[system.clone(), user.clone()], &passages);
        assert_eq!(messages[0], system);
        assert_eq!(split_passages(&messages[1].content), Some((passages, user.content.clone())));
        assert_eq!(split_passages(&user.content), None);
        assert_eq!(with_passages(std::slice::from_ref(&user), &[]), [user]);
    }
}
