//! A cold room for medicines at 5 degrees: air over goods, a thermostat with hysteresis, doors that people open.

use super::{Command, Fault, Machine, Quantity, Surroundings, drive::Drive, noise::Noise};

const COOL_ABOVE_C: f64 = 5.6;
const REST_BELOW_C: f64 = 4.4;
/// Heat flows in shares of the temperature difference a second.
const WALL_PER_S: f64 = 1.0 / 2_600.0;
const GOODS_PER_S: f64 = 1.0 / 900.0;
const GOODS_INERTIA: f64 = 3.0;
const DOOR_PER_S: f64 = 1.0 / 700.0;
/// What the unit takes out of the air at full power, in degrees a second.
const COOLING_C_PER_S: f64 = 0.016;

pub struct ColdRoom {
    unit: Drive,
    air_c: f64,
    goods_c: f64,
    cooling: bool,
    door_open_s: f64,
    condenser_failed: bool,
    backup_unit: bool,
}

impl ColdRoom {
    pub fn new(noise: &mut Noise) -> Self {
        Self {
            unit: Drive::running(),
            air_c: 4.6 + 0.8 * noise.uniform(),
            goods_c: 5.0,
            cooling: false,
            door_open_s: 0.0,
            condenser_failed: false,
            backup_unit: false,
        }
    }

    fn capacity(&self) -> f64 {
        let main = if self.condenser_failed { 0.1 } else { self.unit.speed() };
        if self.backup_unit { main.max(0.95) } else { main }
    }
}

impl Machine for ColdRoom {
    fn advance(&mut self, seconds: f64, around: &Surroundings, noise: &mut Noise) {
        self.unit.advance(seconds);
        if self.door_open_s > 0.0 {
            self.door_open_s -= seconds;
        } else if noise.happens(2.0 * around.load, seconds) {
            self.door_open_s = 20.0 + 40.0 * noise.uniform();
        }
        if self.air_c > COOL_ABOVE_C {
            self.cooling = true;
        } else if self.air_c < REST_BELOW_C {
            self.cooling = false;
        }
        let outside = around.ambient_c - self.air_c;
        let door = if self.door_open_s > 0.0 { DOOR_PER_S } else { 0.0 };
        let cold = if self.cooling { COOLING_C_PER_S * self.capacity() } else { 0.0 };
        let to_goods = (self.air_c - self.goods_c) * GOODS_PER_S;
        self.air_c += (outside * (WALL_PER_S + door) - to_goods - cold) * seconds;
        self.goods_c += to_goods / GOODS_INERTIA * seconds;
    }

    fn quantities(&self) -> Vec<Quantity> {
        let running = if self.cooling { self.capacity().max(0.3) } else { 0.02 };
        vec![
            Quantity { channel: "air_temperature", unit: "degC", value: self.air_c },
            Quantity { channel: "power", unit: "kW", value: 6.5 * running },
        ]
    }

    fn afflict(&mut self, fault: Fault) -> bool {
        self.condenser_failed |= fault == Fault::CoolingFailure;
        fault == Fault::CoolingFailure
    }

    fn obey(&mut self, command: Command) {
        self.unit.obey(command);
        self.backup_unit |= command == Command::BackupCooling;
    }
}
