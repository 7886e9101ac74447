//! Names that are nearly the one that was given: what somebody may have meant.

/// Names that are told; more is a list to search in.
const TOLD_MAX: usize = 8;

/// Longer names are not compared letter by letter.
const LEN_MAX: usize = 200;

/// What to say after `there is no task sned`: which names come near, or which there are. Begins with its punctuation; empty
/// when there are none.
#[must_use]
pub fn hint<'n>(wanted: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let mut names: Vec<&str> = Vec::new();
    known.into_iter().for_each(|name| {
        if !names.contains(&name) {
            names.push(name);
        }
    });
    let near: Vec<&str> = names.iter().copied().filter(|name| is_near(wanted, name)).take(TOLD_MAX).collect();
    if !near.is_empty() {
        return format!(": did you mean {}?", near.join(" or "));
    }
    if names.is_empty() {
        return String::new();
    }
    let more = match names.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(TOLD_MAX);
    format!("; there are {}{more}", names.join(", "))
}

/// Whether one could be a slip of the other: the same but for case, the end of a path, or a letter in three.
fn is_near(wanted: &str, name: &str) -> bool {
    let (wanted, name) = (wanted.to_lowercase(), name.to_lowercase());
    let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    if wanted.is_empty() || wanted.len() > LEN_MAX || name.len() > LEN_MAX {
        return false;
    }
    let slips = |a: &str, b: &str| !a.is_empty() && distance(a, b) <= a.chars().count().max(3) / 3;
    slips(&wanted, &name) || slips(&last(&wanted), &last(&name))
}

/// Letters to put in, take out, change, or swap with the next (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let is_same = from[i - 1] == to[j - 1];
            let mut least = (rows[i - 1][j - 1] + usize::from(!is_same)).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_near_is_told_and_otherwise_what_there_is() {
        let known = ["plant/explain", "plant/tidy", "plant/tidy"];
        assert_eq!(hint("plant/explian", known), ": did you mean plant/explain?");
        assert_eq!(hint("Explain", known), ": did you mean plant/explain?");
        assert_eq!(hint("x", known), "; there are plant/explain, plant/tidy");
        assert_eq!(hint("x", []), "");
        let many: Vec<String> = (0..10).map(|n| format!("task-{n}-of-many")).collect();
        assert!(hint("x", many.iter().map(String::as_str)).ends_with("task-7-of-many and 2 more"));
    }

    #[test]
    fn the_distance_counts_letters() {
        for (from, to, letters) in
            [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ä", "a", 1), ("lsat", "last", 1)]
        {
            assert_eq!((distance(from, to), distance(to, from)), (letters, letters), "{from} {to}");
        }
    }
}
