//! What a question is about, by which it is told that no passage has to do with it: only where it reads as English, the one language in which that was
//! measured. Pure.

use crate::script;

/// Words by which a question is known to be English: other languages do not have them, or seldom. `has` is Spanish, too.
const ENGLISH: [&str; 30] = [
    "and", "are", "because", "could", "did", "does", "from", "have", "his", "how", "she", "should", "that", "the",
    "their", "there", "these", "this", "those", "what", "when", "where", "which", "who", "whose", "why", "with",
    "would", "you", "your",
];

/// What says nothing of a question's subject, beside the words that say nothing anywhere.
const FILLING: [&str; 14] =
    ["again", "because", "but", "he", "her", "him", "his", "she", "them", "those", "too", "us", "very", "whose"];

/// What follows the apostrophe of a word that is written together with a short one: "it's", "we'll".
const CONTRACTED: [&str; 6] = ["s", "re", "ve", "ll", "d", "m"];

/// The words that say what an English question is about; none where it is not known to be English.
pub(super) fn subject(question: &str) -> Vec<String> {
    let question = question.to_lowercase().replace('’', "'");
    let written = question.split(|c: char| !c.is_alphanumeric() && c != '\'' && !script::is_mark(c));
    let written: Vec<&str> = written.map(|word| word.trim_matches('\'')).collect();
    let words: Vec<String> = written.iter().flat_map(|word| script::phrases(whole(word))).collect();
    if !written.iter().any(|word| word.ends_with("n't")) && !words.iter().any(|word| ENGLISH.contains(&word.as_str())) {
        return Vec::new();
    }
    words.into_iter().filter(|word| !models::is_stop_word(word) && !FILLING.contains(&word.as_str())).collect()
}

/// A word without the short one that is written together with it. With "not" it is "can't" or "doesn't" and the like, which name no subject.
fn whole(word: &str) -> &str {
    match word.rsplit_once('\'') {
        Some((_, "t")) if word.ends_with("n't") => "",
        Some((before, end)) if CONTRACTED.contains(&end) => before,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_question_is_known_where_it_is_english() {
        assert_eq!(subject("What is the best oil for P-101?"), ["best", "oil", "p", "101"]);
        assert_eq!(
            subject("Why can't I open the operator's valve, and who’ll close it?"),
            ["open", "operator", "valve", "close"]
        );
        assert_eq!(subject("Why is my pump—isn't it new—so 'loud'?"), ["pump", "new", "loud"]);
        assert_eq!(subject("Can't open valve V-12"), ["open", "valve", "v", "12"]);
        assert_eq!(subject("What's those pumps' rate because they're O'Brien's?"), ["pumps", "rate", "o", "brien"]);
        for other in ["Was ist in der Pumpe?", "Quelle huile pour la pompe ?", "oil press", "冷却水", "What is it?", ""]
        {
            assert_eq!(subject(other), [""; 0], "{other}");
        }
        assert_eq!(subject("¿Qué has cambiado en la bomba?"), [""; 0]);
    }
}
