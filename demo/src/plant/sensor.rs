//! What a sensor makes of a true value: noise, steps of its converter, and sometimes nothing new at all.

use super::noise::Noise;

/// Sensors that measure this quantity: how far they scatter and in which steps they tell.
fn quality(channel: &str) -> (f64, f64) {
    match channel {
        "vibration" => (0.06, 0.01),
        "flow" => (0.6, 0.1),
        "pressure" => (0.02, 0.01),
        "power" => (0.15, 0.1),
        "force" => (3.0, 1.0),
        _ => (0.12, 0.1),
    }
}

/// One sensor of one machine.
#[derive(Debug, Clone, Default)]
pub struct Sensor {
    stuck_at: Option<f64>,
    stick: bool,
}

impl Sensor {
    /// From the next value on it repeats itself.
    pub fn get_stuck(&mut self) {
        self.stick = true;
    }

    pub fn measure(&mut self, channel: &str, value: f64, noise: &mut Noise) -> f64 {
        if let Some(stuck) = self.stuck_at {
            return stuck;
        }
        let (scatter, step) = quality(channel);
        let seen = value + scatter * noise.normal();
        let told = ((seen / step).round() * step * 1_000.0).round() / 1_000.0;
        if self.stick {
            self.stuck_at = Some(told);
        }
        told
    }
}
