//! Seeded noise: white, and wandering (Ornstein-Uhlenbeck), which is what loads and draughts look like.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// A seeded source of noise.
pub struct Noise(StdRng);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Uniform in 0..1.
    pub fn uniform(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Whether something that happens on average `per_hour` times an hour happens within `seconds`.
    pub fn happens(&mut self, per_hour: f64, seconds: f64) -> bool {
        self.uniform() < 1.0 - (-per_hour * seconds / 3_600.0).exp()
    }
}

/// A value that wanders around zero with standard deviation 1 and forgets itself within `memory_s`.
#[derive(Debug, Clone)]
pub struct Wander {
    value: f64,
    memory_s: f64,
}

impl Wander {
    pub fn new(memory_s: f64) -> Self {
        Self { value: 0.0, memory_s }
    }

    /// Lets `seconds` pass and gives the new value.
    pub fn advance(&mut self, seconds: f64, noise: &mut Noise) -> f64 {
        let keep = (-seconds / self.memory_s).exp();
        self.value = self.value * keep + noise.normal() * (1.0 - keep * keep).sqrt();
        self.value
    }
}
