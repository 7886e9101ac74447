//! What keeps targets from answering, told in the log: at the start what costs nothing to see, and beside all else what a look into the models
//! shows. It keeps nothing from starting, as routes go on to the next target.

use models::catalog::Digests;

use crate::inference::{
    config::Target,
    problems::{self, Look, Problem},
};

/// Tells what is seen at once; the models are looked into on a thread of its own, at the lowest priority. Their heads come first: a digest takes as
/// long as reading the file, once.
pub(super) fn look_through(targets: Vec<Target>, digests: Digests) {
    let mut told = Vec::new();
    tell(&mut told, problems::of(&targets, &digests, Look::Quick));
    let low = move || {
        // SAFETY: it takes no pointer. Of process 0 it means this thread alone, and whoever may run may be nicer; else it runs as it did.
        unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, 19) };
        for look in [Look::Heads, Look::Digests] {
            tell(&mut told, problems::of(&targets, &digests, look));
        }
    };
    // Nobody waits for it, not at the end of the process either.
    if let Err(error) = std::thread::Builder::new().name("idle time".to_owned()).spawn(low) {
        tracing::warn!(%error, "models are not looked into before they are asked");
    }
}

/// Tells of targets that nothing was told of before.
fn tell(told: &mut Vec<String>, found: Vec<Problem>) {
    for Problem { target, found, advice } in found {
        if !told.contains(&target) {
            tracing::warn!(target_name = target, found, advice, "a target cannot answer");
            told.push(target);
        }
    }
}
