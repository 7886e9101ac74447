//! What a walk has found so far: the best few, sorted, and which of them it has been to.

/// A node and how near it is: the dot product, as far as bytes tell.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::index) struct Near {
    pub(in crate::index) score: f32,
    pub(in crate::index) slot: u32,
}

/// The best nodes found, the nearest first. A plain sorted list: for some hundred of them shifting is cheaper than a heap.
#[derive(Default)]
pub(in crate::index) struct Beam {
    found: Vec<Near>,
    visited: Vec<bool>,
    breadth: usize,
    /// All before it were visited.
    next: usize,
}

impl Beam {
    pub(in crate::index) fn begin(&mut self, breadth: usize) {
        self.found.clear();
        self.visited.clear();
        self.found.reserve(breadth + 1);
        self.visited.reserve(breadth + 1);
        self.breadth = breadth;
        self.next = 0;
    }

    pub(in crate::index) fn found(&self) -> &[Near] {
        &self.found
    }

    /// How near what stands at a place is; nothing is too far while less was found.
    pub(in crate::index) fn nearness(&self, place: usize) -> f32 {
        self.found.get(place).map_or(f32::NEG_INFINITY, |near| near.score)
    }

    pub(in crate::index) fn is_full(&self) -> bool {
        self.found.len() >= self.breadth
    }

    /// What a node must be nearer than to be taken in.
    #[inline(always)]
    pub(in crate::index) fn least(&self) -> f32 {
        if self.is_full() { self.found.last().map_or(f32::INFINITY, |worst| worst.score) } else { f32::NEG_INFINITY }
    }

    /// Takes a node in when it is among the best; returns its place.
    #[inline(always)]
    pub(in crate::index) fn offer(&mut self, near: Near) -> Option<usize> {
        if self.is_full() {
            if self.found.last().is_none_or(|worst| near.score <= worst.score) {
                return None;
            }
            self.found.pop();
            self.visited.pop();
        }
        let place = self.found.partition_point(|other| other.score >= near.score);
        self.found.insert(place, near);
        self.visited.insert(place, false);
        self.next = self.next.min(place);
        Some(place)
    }

    /// The nearest that was not visited yet.
    #[inline(always)]
    pub(in crate::index) fn peek(&self) -> Option<Near> {
        self.found.get(self.next).copied()
    }

    /// Marks what `peek` showed as visited.
    #[inline(always)]
    pub(in crate::index) fn visit(&mut self) {
        if let Some(visited) = self.visited.get_mut(self.next) {
            *visited = true;
        }
        while self.visited.get(self.next) == Some(&true) {
            self.next += 1;
        }
    }
}
