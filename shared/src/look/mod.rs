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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What the Web Content Accessibility Guidelines 2.2 (1.4.3, level AA) ask of text.
    const CONTRAST_MIN: f64 = 4.5;

    /// The colours of the stylesheet by name: light, and dark over it.
    fn palettes() -> [BTreeMap<&'static str, &'static str>; 2] {
        let blocks: Vec<_> = STYLE.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        let read = |block: &'static str| -> BTreeMap<_, _> {
            let pairs = block.split(';').filter_map(|line| line.trim().strip_prefix("--")?.split_once(": "));
            pairs.filter(|(_, value)| value.starts_with('#')).collect()
        };
        let light = read(blocks[0]);
        let mut dark = light.clone();
        dark.extend(read(blocks[1]));
        [light, dark]
    }

    /// The relative luminance of `#rrggbb` (WCAG 2.2, definition).
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let part = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn every_text_can_be_read_on_every_ground() {
        let (grounds, inks) = (["ground", "sheet", "raised", "idle-tint"], ["ink", "ink-soft", "ink-faint"]);
        let plain = inks.into_iter().flat_map(|ink| grounds.map(|ground| (ink, ground)));
        let tinted = ["good", "wait", "bad"].map(|name| (name, format!("{name}-tint")));
        let links = ["ground", "sheet", "raised"].map(|ground| ("sea", ground.to_owned()));
        let pairs: Vec<(&str, String)> = plain
            .map(|(ink, ground)| (ink, ground.to_owned()))
            .chain(tinted)
            .chain(links)
            .chain([("sea-strong", "sea-tint".to_owned())])
            .collect();
        for (scheme, colours) in ["light", "dark"].into_iter().zip(palettes()) {
            for (ink, ground) in &pairs {
                let (a, b) = (luminance(colours[ink]), luminance(colours[ground.as_str()]));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= CONTRAST_MIN, "{scheme}: {ink} on {ground} has {contrast:.2}");
            }
        }
    }
}
