//! Which machines stand where, and what time does to all of them.

use shared::time::Timestamp;

use super::{
    Command, Fault, Machine, Quantity, Surroundings, cold_room::ColdRoom, compressor::Compressor, noise::Noise,
    press::Press, pump::Pump, sensor::Sensor,
};

/// The sites and what they have: pumps, compressors, presses, cold rooms.
pub const SITES: [(&str, [usize; 4]); 3] =
    [("hamburg", [8, 2, 3, 0]), ("basel", [4, 1, 2, 5]), ("houston", [6, 4, 2, 0])];

/// Physics advances in steps this small, whatever the interval between samples.
const STEP_S: f64 = 5.0;

/// One machine with its sensors.
pub struct Unit {
    pub name: String,
    pub site: &'static str,
    machine: Box<dyn Machine>,
    sensors: Vec<Sensor>,
    noise: Noise,
}

/// A value that a sensor tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub channel: &'static str,
    pub unit: &'static str,
    pub value: f64,
}

/// All machines of all sites, and their common clock.
pub struct Plant {
    units: Vec<Unit>,
    now: Timestamp,
}

impl Unit {
    fn new(name: String, site: &'static str, seed: u64, make: impl Fn(&mut Noise) -> Box<dyn Machine>) -> Self {
        let mut noise = Noise::new(seed);
        let machine = make(&mut noise);
        let sensors = vec![Sensor::default(); machine.quantities().len()];
        Self { name, site, machine, sensors, noise }
    }

    /// The true values, which no agent ever sees.
    #[cfg(test)]
    pub fn truth(&self) -> Vec<Quantity> {
        self.machine.quantities()
    }

    /// What its sensors tell now.
    pub fn samples(&mut self) -> Vec<Sample> {
        let quantities = self.machine.quantities();
        let sensed = quantities.iter().zip(&mut self.sensors).map(|(Quantity { channel, unit, value }, sensor)| {
            Sample { channel, unit, value: sensor.measure(channel, *value, &mut self.noise) }
        });
        sensed.collect()
    }

    /// Begins a fault; `false` if this machine cannot have it.
    pub fn afflict(&mut self, fault: Fault) -> bool {
        if fault == Fault::SensorStuck {
            self.sensors[0].get_stuck();
            return true;
        }
        self.machine.afflict(fault)
    }

    pub fn obey(&mut self, command: Command) {
        self.machine.obey(command);
    }
}

impl Plant {
    /// The plant at `start`; the same seed gives the same plant.
    pub fn new(seed: u64, start: Timestamp) -> Self {
        let mut units = Vec::new();
        for (site, [pumps, compressors, presses, cold_rooms]) in SITES {
            let mut add = |kind: &str, count: usize, make: fn(&mut Noise) -> Box<dyn Machine>| {
                for number in 1..=count {
                    let seed = seed.wrapping_mul(1_000_003).wrapping_add(units.len() as u64);
                    units.push(Unit::new(format!("{kind}-{number}"), site, seed, make));
                }
            };
            add("pump", pumps, |noise| Box::new(Pump::new(noise)));
            add("compressor", compressors, |noise| Box::new(Compressor::new(noise)));
            add("press", presses, |noise| Box::new(Press::new(noise)));
            add("cold-room", cold_rooms, |noise| Box::new(ColdRoom::new(noise)));
        }
        Self { units, now: start }
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn units(&mut self) -> &mut [Unit] {
        &mut self.units
    }

    pub fn unit(&mut self, site: &str, machine: &str) -> Option<&mut Unit> {
        self.units.iter_mut().find(|unit| unit.site == site && unit.name == machine)
    }

    /// Lets simulated time pass.
    pub fn advance(&mut self, seconds: f64) {
        let mut left = seconds;
        while left > 1e-9 {
            let step = left.min(STEP_S);
            self.now = self.now.plus(std::time::Duration::from_secs_f64(step));
            let hour = (self.now.as_millis() as f64 / 3_600_000.0).rem_euclid(24.0);
            for unit in &mut self.units {
                let around = surroundings(unit.site, hour);
                unit.machine.advance(step, &around, &mut unit.noise);
            }
            left -= step;
        }
    }
}

/// The day of a site: halls warm up in the afternoon, two shifts work, the night is quiet. `hour` is UTC.
fn surroundings(site: &str, hour: f64) -> Surroundings {
    let (zone_h, mean_c) = match site {
        "houston" => (-6.0, 27.0),
        "basel" => (1.0, 21.0),
        _ => (1.0, 19.0),
    };
    let local = (hour + zone_h).rem_euclid(24.0);
    let sun = (std::f64::consts::TAU * (local - 9.0) / 24.0).sin();
    // Work rises between five and seven and falls between nine and eleven in the evening.
    let ramp = |centre: f64| 1.0 / (1.0 + (-(local - centre) * 3.0).exp());
    let work = ramp(6.0) - ramp(22.0);
    Surroundings { ambient_c: mean_c + 2.5 * sun, load: 0.25 + 0.7 * work }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Timestamp {
        "2026-03-02T11:00:00Z".parse().expect("an instant")
    }

    fn truth(plant: &mut Plant, site: &str, machine: &str, channel: &str) -> f64 {
        let unit = plant.unit(site, machine).expect("a machine of the site");
        unit.truth().iter().find(|quantity| quantity.channel == channel).expect("a channel of the machine").value
    }

    #[test]
    fn same_seed_gives_the_same_plant() {
        let run = || {
            let mut plant = Plant::new(7, noon());
            plant.advance(600.0);
            plant.units().iter_mut().flat_map(Unit::samples).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn a_day_without_faults_stays_within_the_alarm_limits() {
        let mut plant = Plant::new(1, noon());
        for _ in 0..24 * 60 {
            plant.advance(60.0);
            for unit in plant.units() {
                for Sample { channel, value, .. } in unit.samples() {
                    let limit = match channel {
                        "vibration" => 4.5,
                        "bearing_temperature" => 75.0,
                        "discharge_temperature" => 100.0,
                        "oil_temperature" => 62.0,
                        "air_temperature" => 8.0,
                        _ => f64::INFINITY,
                    };
                    assert!(value < limit, "{} {channel} = {value}", unit.name);
                }
            }
        }
    }

    #[test]
    fn a_worn_bearing_shakes_then_heats_and_a_slower_pump_calms() {
        let mut plant = Plant::new(1, noon());
        plant.advance(3_600.0);
        let cool = truth(&mut plant, "hamburg", "pump-7", "bearing_temperature");
        assert!(plant.unit("hamburg", "pump-7").expect("a pump").afflict(Fault::BearingWear));
        plant.advance(840.0);
        assert!(truth(&mut plant, "hamburg", "pump-7", "vibration") > 7.1);
        assert!(truth(&mut plant, "hamburg", "pump-7", "bearing_temperature") > cool + 5.0);
        plant.unit("hamburg", "pump-7").expect("a pump").obey(Command::ReduceSpeed);
        plant.advance(300.0);
        assert!(truth(&mut plant, "hamburg", "pump-7", "vibration") < 4.5);
        plant.advance(36_000.0);
        assert!(truth(&mut plant, "hamburg", "pump-7", "vibration") < 5.6, "wear stopped");
    }

    #[test]
    fn cavitation_costs_flow_and_a_slower_pump_needs_less_head() {
        let mut plant = Plant::new(1, noon());
        plant.advance(3_600.0);
        let flow = truth(&mut plant, "houston", "pump-2", "flow");
        plant.unit("houston", "pump-2").expect("a pump").afflict(Fault::Cavitation);
        plant.advance(1_200.0);
        assert!(truth(&mut plant, "houston", "pump-2", "flow") < 0.75 * flow);
        assert!(truth(&mut plant, "houston", "pump-2", "vibration") > 4.5);
        plant.unit("houston", "pump-2").expect("a pump").obey(Command::ReduceSpeed);
        plant.advance(300.0);
        assert!(truth(&mut plant, "houston", "pump-2", "vibration") < 3.0);
    }

    #[test]
    fn backup_cooling_brings_a_failed_cooler_back() {
        for (site, machine, channel, limit) in [
            ("houston", "compressor-3", "discharge_temperature", 105.0),
            ("hamburg", "press-1", "oil_temperature", 65.0),
            ("basel", "cold-room-2", "air_temperature", 8.0),
        ] {
            let mut plant = Plant::new(1, noon());
            plant.advance(1_800.0);
            plant.unit(site, machine).expect("a machine").afflict(Fault::CoolingFailure);
            plant.advance(2_400.0);
            assert!(truth(&mut plant, site, machine, channel) > limit, "{machine} must pass its limit");
            plant.unit(site, machine).expect("a machine").obey(Command::BackupCooling);
            plant.advance(2_400.0);
            assert!(truth(&mut plant, site, machine, channel) < limit, "{machine} must recover");
        }
    }

    #[test]
    fn a_stuck_sensor_repeats_itself_while_the_machine_goes_on() {
        let mut plant = Plant::new(1, noon());
        plant.unit("hamburg", "pump-1").expect("a pump").afflict(Fault::SensorStuck);
        let mut told = || {
            plant.advance(60.0);
            plant.unit("hamburg", "pump-1").expect("a pump").samples()
        };
        let (first, later) = (told(), told());
        assert_eq!(first[0], later[0]);
        assert_ne!(first[1..], later[1..]);
    }
}
