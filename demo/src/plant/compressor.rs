//! An air compressor: it loads and unloads between two tank pressures, and its oil cooler's fan can fail.

use super::{
    Command, Fault, Machine, Quantity, Surroundings, approach,
    drive::Drive,
    noise::{Noise, Wander},
};

const LOAD_BELOW_BAR: f64 = 6.6;
const UNLOAD_ABOVE_BAR: f64 = 7.6;
const DISCHARGE_TIME_CONSTANT_S: f64 = 300.0;
/// How much hotter the discharge gets, as a share of its rise, when the fan stands still.
const NO_FAN_HEAT: f64 = 0.85;

pub struct Compressor {
    drive: Drive,
    tank_bar: f64,
    loaded: bool,
    demand: Wander,
    discharge_c: f64,
    base_vibration_mm_s: f64,
    fan_failed: bool,
    backup_fan: bool,
}

impl Compressor {
    pub fn new(noise: &mut Noise) -> Self {
        Self {
            drive: Drive::running(),
            tank_bar: 6.8 + 0.6 * noise.uniform(),
            loaded: true,
            demand: Wander::new(1_200.0),
            discharge_c: 78.0,
            base_vibration_mm_s: 2.2 + 0.6 * noise.uniform(),
            fan_failed: false,
            backup_fan: false,
        }
    }
}

impl Machine for Compressor {
    fn advance(&mut self, seconds: f64, around: &Surroundings, noise: &mut Noise) {
        self.drive.advance(seconds);
        let speed = self.drive.speed();
        // Bar a second: what the works draw, and what the machine adds while loaded.
        let drawn = 0.004 * (0.5 + 0.6 * around.load + 0.08 * self.demand.advance(seconds, noise)).max(0.1);
        let added = if self.loaded { 0.010 * speed } else { 0.0 };
        self.tank_bar = (self.tank_bar + (added - drawn) * seconds).clamp(0.0, 9.0);
        if self.tank_bar < LOAD_BELOW_BAR {
            self.loaded = true;
        } else if self.tank_bar > UNLOAD_ABOVE_BAR {
            self.loaded = false;
        }
        let no_fan = if self.fan_failed && !self.backup_fan { NO_FAN_HEAT } else { 0.0 };
        let work = if self.loaded { 1.0 } else { 0.75 };
        let rise_c = 58.0 * speed * speed * work * (1.0 + no_fan);
        self.discharge_c = approach(self.discharge_c, around.ambient_c + rise_c, seconds, DISCHARGE_TIME_CONSTANT_S);
    }

    fn quantities(&self) -> Vec<Quantity> {
        let speed = self.drive.speed();
        let hard = if self.loaded { 1.0 } else { 0.6 };
        vec![
            Quantity { channel: "discharge_temperature", unit: "degC", value: self.discharge_c },
            Quantity {
                channel: "vibration",
                unit: "mm/s",
                value: self.base_vibration_mm_s * speed * (0.8 + 0.2 * hard),
            },
            Quantity { channel: "pressure", unit: "bar", value: self.tank_bar },
            Quantity { channel: "power", unit: "kW", value: 75.0 * speed.powi(3) * hard },
        ]
    }

    fn afflict(&mut self, fault: Fault) -> bool {
        self.fan_failed |= fault == Fault::CoolingFailure;
        fault == Fault::CoolingFailure
    }

    fn obey(&mut self, command: Command) {
        self.drive.obey(command);
        self.backup_fan |= command == Command::BackupCooling;
    }
}
