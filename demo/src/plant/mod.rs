//! The simulated plant: machines with first-order physics, load cycles, noise and faults, at three sites.
//!
//! Everything is a function of the seed and of the simulated time that passed, so the same seed gives the same plant.
//! `run` is the only file that talks to brokers; the rest never reads a clock.

mod cold_room;
mod compressor;
mod drive;
mod noise;
mod press;
mod pump;
pub mod records;
pub mod run;
mod sensor;
mod site;

use std::{fmt, str::FromStr};

pub use site::{Plant, SITES};

use noise::Noise;

/// What surrounds the machines of a site at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// Air in the hall, in degrees Celsius.
    pub ambient_c: f64,
    /// How much is asked of the machines, 0 (night) to about 1 (busy shift).
    pub load: f64,
}

/// One true value, before a sensor looks at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity {
    pub channel: &'static str,
    pub unit: &'static str,
    pub value: f64,
}

/// What a machine is made of: state that time, load, faults and commands change.
pub trait Machine: Send {
    /// Lets `seconds` pass (small against the machine's time constants).
    fn advance(&mut self, seconds: f64, around: &Surroundings, noise: &mut Noise);
    /// The true values now, in a fixed order.
    fn quantities(&self) -> Vec<Quantity>;
    /// Begins a fault; `false` if this machine cannot have it.
    fn afflict(&mut self, fault: Fault) -> bool;
    fn obey(&mut self, command: Command);
}

/// What can go wrong in the plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A bearing pits: vibration grows ever faster, its temperature follows.
    BearingWear,
    /// The suction side is short of head: flow falls, vibration and pressure get rough.
    Cavitation,
    /// A fan or cooler stops carrying heat away.
    CoolingFailure,
    /// A sensor repeats its last value.
    SensorStuck,
}

/// What the control system of a machine can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Start,
    Stop,
    ReduceSpeed,
    /// Takes over from a failed fan or cooler.
    BackupCooling,
}

/// The text names nothing of this kind.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not known: expected one of {expected}")]
pub struct UnknownName {
    text: String,
    expected: &'static str,
}

impl FromStr for Fault {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "bearing_wear" => Ok(Self::BearingWear),
            "cavitation" => Ok(Self::Cavitation),
            "cooling_failure" => Ok(Self::CoolingFailure),
            "sensor_stuck" => Ok(Self::SensorStuck),
            _ => Err(UnknownName {
                text: text.to_owned(),
                expected: "bearing_wear, cavitation, cooling_failure, sensor_stuck",
            }),
        }
    }
}

impl FromStr for Command {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop),
            "reduce_speed" => Ok(Self::ReduceSpeed),
            "backup_cooling" => Ok(Self::BackupCooling),
            _ => Err(UnknownName { text: text.to_owned(), expected: "start, stop, reduce_speed, backup_cooling" }),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::ReduceSpeed => "reduce_speed",
            Self::BackupCooling => "backup_cooling",
        })
    }
}

/// Moves `value` towards `target` as a first-order system with this time constant does in `seconds`.
fn approach(value: f64, target: f64, seconds: f64, time_constant_s: f64) -> f64 {
    target + (value - target) * (-seconds / time_constant_s).exp()
}
