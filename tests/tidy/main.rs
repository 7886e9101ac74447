//! What must hold of the source itself: who imports whom, and the few rules of style that a machine can check.
//!
//! A failure names the file and line, the rule, and what to do. It never looks at behaviour.

mod arrows;
mod openapi;
mod purity;
mod source;
mod style;

/// Fails with every violation at once, one a line.
fn check(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}\n  {}", violations.join("\n  "));
}
