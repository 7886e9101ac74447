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
const FILLING: [&str; 12] = ["again", "but", "he", "her", "him", "his", "s", "she", "them", "too", "us", "very"];

/// The words that say what an English question is about; none where it is not known to be English.
pub(super) fn subject(question: &str) -> Vec<String> {
    let words: Vec<String> = script::phrases(&question.to_lowercase()).collect();
    if !words.iter().any(|word| ENGLISH.contains(&word.as_str())) {
        return Vec::new();
    }
    words.into_iter().filter(|word| !models::is_stop_word(word) && !FILLING.contains(&word.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_question_is_known_where_it_is_english() {
        assert_eq!(subject("What is the best oil for P-101?"), ["best", "oil", "p", "101"]);
        for other in ["Was ist in der Pumpe?", "Quelle huile pour la pompe ?", "oil press", "冷却水", "What is it?", ""]
        {
            assert_eq!(subject(other), [""; 0], "{other}");
        }
        assert_eq!(subject("¿Qué has cambiado en la bomba?"), [""; 0]);
    }
}
