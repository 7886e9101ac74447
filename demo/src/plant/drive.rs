//! A motor with a speed controller, which every machine of the plant has.

use super::{Command, approach};

/// Where the speed controller goes when it is told to slow down.
const REDUCED_SPEED: f64 = 0.6;
const SPEED_TIME_CONSTANT_S: f64 = 25.0;

/// A drive; speed 1 is nominal.
#[derive(Debug, Clone)]
pub struct Drive {
    speed: f64,
    wanted: f64,
}

impl Drive {
    pub fn running() -> Self {
        Self { speed: 1.0, wanted: 1.0 }
    }

    pub fn speed(&self) -> f64 {
        self.speed
    }

    pub fn advance(&mut self, seconds: f64) {
        self.speed = approach(self.speed, self.wanted, seconds, SPEED_TIME_CONSTANT_S);
    }

    pub fn obey(&mut self, command: Command) {
        match command {
            Command::Start => self.wanted = 1.0,
            Command::Stop => self.wanted = 0.0,
            Command::ReduceSpeed => self.wanted = REDUCED_SPEED,
            Command::BackupCooling => {}
        }
    }
}
