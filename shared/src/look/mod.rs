//! What the node's local page and the console look like alike: one stylesheet, one small script, and ledger entries
//! in words. Text, nothing else.

pub mod parts;
mod told;
pub mod words;

pub use told::{Told, Tone, tell};

/// The stylesheet. Light and dark by the browser's wish; no picture, no font to load.
pub const STYLE: &str = include_str!("skerry.css");

/// The script: listens at the URL in `<body data-events>` and swaps the parts marked `data-live` when told of a change.
/// Without it every page works, by reloading.
pub const SCRIPT: &str = include_str!("live.js");

/// The content security policy of every page: nothing from elsewhere, no inline script or style.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
