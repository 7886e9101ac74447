//! What keeps targets from answering, told in the log: at the start what costs nothing to see, and beside all else what a look into the models
//! shows. It keeps nothing from starting, as routes go on to the next target.

use models::catalog::Digests;

use crate::{
    idle,
    inference::{
        config::Target,
        problems::{self, Look, Problem},
    },
};

/// Tells what is seen at once; the models are looked into on a thread of its own, at the lowest priority. Their heads come first: a digest takes as
/// long as reading the file, once.
pub(super) fn look_through(targets: Vec<Target>, digests: Digests) {
    let mut told = Vec::new();
    tell(&mut told, problems::of(&targets, &digests, Look::Quick));
    // Nobody waits for it, not at the end of the process either.
    let looked = idle::spawn(move || {
        for look in [Look::Heads, Look::Digests] {
            tell(&mut told, problems::of(&targets, &digests, look));
        }
    });
    if let Err(error) = looked {
        tracing::warn!(%error, "models are not looked into before they are asked");
    }
}

fn tell(told: &mut Vec<String>, found: Vec<Problem>) {
    for Problem { target, found, advice } in untold(told, found) {
        tracing::warn!(target_name = target, found, advice, "a target cannot answer");
    }
}

/// Problems of targets that nothing was told of before; they are told now.
fn untold(told: &mut Vec<String>, found: Vec<Problem>) -> Vec<Problem> {
    let new: Vec<Problem> = found.into_iter().filter(|problem| !told.contains(&problem.target)).collect();
    told.extend(new.iter().map(|problem| problem.target.clone()));
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_told_of_once() {
        let found = |targets: &[&str]| {
            let problem =
                |target: &&str| Problem { target: (*target).to_owned(), found: String::new(), advice: String::new() };
            targets.iter().map(problem).collect::<Vec<_>>()
        };
        let mut told = Vec::new();
        let mut names =
            |targets| untold(&mut told, found(targets)).into_iter().map(|new| new.target).collect::<Vec<_>>();
        assert_eq!(names(&["a"]), ["a"]);
        assert_eq!(names(&["a", "b"]), ["b"]);
        assert!(names(&["b", "a"]).is_empty());
    }
}
