//! The order in which a finished graph is written: nodes that a search meets together lie together, so that one page brings several.

use super::Builder;
use crate::index::flat::slot_of;

/// Every node once: those of the upper levels first, the highest before all, then along the links from near to near.
pub(in crate::index) fn order(builder: &Builder) -> Vec<u32> {
    let net = builder.net();
    let len = net.len();
    let mut walked: Vec<u32> = Vec::with_capacity(len);
    let mut seen = vec![false; len];
    let mut stack: Vec<u32> = Vec::new();
    for start in std::iter::once(net.entry).chain(0..len as u32) {
        stack.push(start);
        while let Some(slot) = stack.pop() {
            if slot as usize >= len || std::mem::replace(&mut seen[slot as usize], true) {
                continue;
            }
            walked.push(slot);
            let links = net.ground(slot).iter().filter_map(|link| slot_of(*link, len));
            // The nearest is on top.
            stack.extend(links.rev().filter(|link| !seen[*link as usize]));
        }
    }
    // Stable: among those of one level the walk decides.
    walked.sort_by_key(|slot| (std::cmp::Reverse(builder.level(*slot)), *slot != net.entry));
    walked
}
