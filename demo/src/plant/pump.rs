//! A centrifugal pump: affinity laws (flow as speed, head as its square), a bearing that warms and wears, a suction side
//! that can run short.

use super::{
    Command, Fault, Machine, Quantity, Surroundings, approach,
    drive::Drive,
    noise::{Noise, Wander},
};

/// How fast wear feeds on itself at full speed: from first pitting to alarm within a quarter of an hour. Real bearings
/// take weeks; the demo's clock and this constant shorten the wait.
const WEAR_TIME_CONSTANT_S: f64 = 330.0;
/// Below this speed the oil film carries the load again and wear stops.
const WEAR_SPEED_MIN: f64 = 0.7;
/// Vibration of a bearing that is worn through, in mm/s rms at full speed.
const WORN_VIBRATION_MM_S: f64 = 11.0;
const WORN_HEAT_C: f64 = 42.0;
const BEARING_TIME_CONSTANT_S: f64 = 480.0;
/// How long a strainer takes to clog.
const CLOG_TIME_CONSTANT_S: f64 = 400.0;

pub struct Pump {
    drive: Drive,
    nominal_flow_m3_h: f64,
    nominal_pressure_bar: f64,
    base_vibration_mm_s: f64,
    bearing_c: f64,
    load: f64,
    wander: Wander,
    rough: f64,
    wear: f64,
    wearing: bool,
    clogged: f64,
    clogging: bool,
}

impl Pump {
    pub fn new(noise: &mut Noise) -> Self {
        Self {
            drive: Drive::running(),
            nominal_flow_m3_h: 80.0 + 60.0 * noise.uniform(),
            nominal_pressure_bar: 4.0 + 2.0 * noise.uniform(),
            base_vibration_mm_s: 1.5 + 0.7 * noise.uniform(),
            bearing_c: 48.0,
            load: 0.8,
            wander: Wander::new(900.0),
            rough: 0.0,
            wear: 0.0,
            wearing: false,
            clogged: 0.0,
            clogging: false,
        }
    }

    /// How much of the flow collapses into bubbles: the shortage of head, less what a slower wheel does without.
    fn cavitation(&self) -> f64 {
        (self.clogged - 2.0 * (1.0 - self.drive.speed())).clamp(0.0, 1.0)
    }
}

impl Machine for Pump {
    fn advance(&mut self, seconds: f64, around: &Surroundings, noise: &mut Noise) {
        self.drive.advance(seconds);
        let speed = self.drive.speed();
        self.load = (0.45 + 0.5 * around.load + 0.04 * self.wander.advance(seconds, noise)).clamp(0.2, 1.1);
        if self.wearing {
            let stress = ((speed - WEAR_SPEED_MIN) / (1.0 - WEAR_SPEED_MIN)).max(0.0);
            self.wear = (self.wear + (0.05 + self.wear) * stress * seconds / WEAR_TIME_CONSTANT_S).min(1.0);
        }
        if self.clogging {
            self.clogged = approach(self.clogged, 1.0, seconds, CLOG_TIME_CONSTANT_S);
        }
        self.rough = self.cavitation() * noise.normal();
        let friction_c = 26.0 * speed * speed * (0.4 + 0.6 * self.load) + WORN_HEAT_C * self.wear * speed * speed;
        self.bearing_c = approach(self.bearing_c, around.ambient_c + friction_c, seconds, BEARING_TIME_CONSTANT_S);
    }

    fn quantities(&self) -> Vec<Quantity> {
        let speed = self.drive.speed();
        let square = speed * speed;
        let cavitation = self.cavitation();
        let vibration = self.base_vibration_mm_s * square * (0.7 + 0.3 * self.load)
            + WORN_VIBRATION_MM_S * self.wear * square
            + 4.5 * cavitation * square
            + 0.8 * self.rough.abs();
        let flow = self.nominal_flow_m3_h * speed * self.load * (1.0 - 0.45 * cavitation);
        let pressure = self.nominal_pressure_bar * square * (1.15 - 0.15 * self.load) * (1.0 - 0.3 * cavitation)
            + 0.25 * self.rough;
        vec![
            Quantity { channel: "vibration", unit: "mm/s", value: vibration },
            Quantity { channel: "bearing_temperature", unit: "degC", value: self.bearing_c },
            Quantity { channel: "flow", unit: "m3/h", value: flow },
            Quantity { channel: "pressure", unit: "bar", value: pressure.max(0.0) },
        ]
    }

    fn afflict(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::BearingWear => self.wearing = true,
            Fault::Cavitation => self.clogging = true,
            Fault::CoolingFailure | Fault::SensorStuck => return false,
        }
        true
    }

    fn obey(&mut self, command: Command) {
        self.drive.obey(command);
    }
}
