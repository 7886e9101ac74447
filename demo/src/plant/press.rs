//! A hydraulic press: strokes heat the oil, a water cooler carries the heat away and can clog.

use super::{
    Command, Fault, Machine, Quantity, Surroundings, approach,
    drive::Drive,
    noise::{Noise, Wander},
};

const OIL_TIME_CONSTANT_S: f64 = 700.0;
const CLOG_TIME_CONSTANT_S: f64 = 300.0;

pub struct Press {
    drive: Drive,
    nominal_force_kn: f64,
    base_vibration_mm_s: f64,
    stroke: Wander,
    stroke_scatter: f64,
    strokes_per_minute: f64,
    oil_c: f64,
    cooler_clogged: f64,
    clogging: bool,
    backup_cooler: bool,
}

impl Press {
    pub fn new(noise: &mut Noise) -> Self {
        Self {
            drive: Drive::running(),
            nominal_force_kn: 900.0 + 400.0 * noise.uniform(),
            base_vibration_mm_s: 2.4 + 0.6 * noise.uniform(),
            stroke: Wander::new(240.0),
            stroke_scatter: 0.0,
            strokes_per_minute: 12.0,
            oil_c: 46.0,
            cooler_clogged: 0.0,
            clogging: false,
            backup_cooler: false,
        }
    }
}

impl Machine for Press {
    fn advance(&mut self, seconds: f64, around: &Surroundings, noise: &mut Noise) {
        self.drive.advance(seconds);
        self.stroke_scatter = self.stroke.advance(seconds, noise);
        self.strokes_per_minute = 16.0 * self.drive.speed() * (0.35 + 0.6 * around.load);
        if self.clogging {
            self.cooler_clogged = approach(self.cooler_clogged, 0.8, seconds, CLOG_TIME_CONSTANT_S);
        }
        let blocked = if self.backup_cooler { 0.0 } else { self.cooler_clogged };
        let rise_c = 1.75 * self.strokes_per_minute / (1.0 - blocked).max(0.35);
        self.oil_c = approach(self.oil_c, around.ambient_c + rise_c, seconds, OIL_TIME_CONSTANT_S);
    }

    fn quantities(&self) -> Vec<Quantity> {
        // Hot oil is thin: the pump behind the ram builds up less force.
        let thin = 1.0 - 0.004 * (self.oil_c - 55.0).max(0.0);
        let force = self.nominal_force_kn * thin * (1.0 + 0.015 * self.stroke_scatter) * self.drive.speed().min(1.0);
        vec![
            Quantity { channel: "oil_temperature", unit: "degC", value: self.oil_c },
            Quantity { channel: "force", unit: "kN", value: force },
            Quantity {
                channel: "vibration",
                unit: "mm/s",
                value: self.base_vibration_mm_s * self.strokes_per_minute / 16.0,
            },
        ]
    }

    fn afflict(&mut self, fault: Fault) -> bool {
        self.clogging |= fault == Fault::CoolingFailure;
        fault == Fault::CoolingFailure
    }

    fn obey(&mut self, command: Command) {
        self.drive.obey(command);
        self.backup_cooler |= command == Command::BackupCooling;
    }
}
