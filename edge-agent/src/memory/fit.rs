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
    let words: Vec<String> = question.split_whitespace().flat_map(|word| script::phrases(whole(word))).collect();
    if !words.iter().any(|word| ENGLISH.contains(&word.as_str())) {
        return Vec::new();
    }
    words.into_iter().filter(|word| !models::is_stop_word(word) && !FILLING.contains(&word.as_str())).collect()
}

/// A word without the short one that is written together with it. With "not" it is "can't" or "doesn't" and the like, which name no subject.
fn whole(word: &str) -> &str {
    let word = word.trim_end_matches(|c: char| !c.is_alphanumeric() && !script::is_mark(c));
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
        assert_eq!(subject("What's those pumps' rate because they're O'Brien's?"), ["pumps", "rate", "o", "brien"]);
        for other in ["Was ist in der Pumpe?", "Quelle huile pour la pompe ?", "oil press", "冷却水", "What is it?", ""]
        {
            assert_eq!(subject(other), [""; 0], "{other}");
        }
        assert_eq!(subject("¿Qué has cambiado en la bomba?"), [""; 0]);
    }
}
