//! What is done to Kina, and what goes wrong meanwhile.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::effect::{Effect, Fault};
use super::workload::Workload;

/// One effect of a run: the nth of its kind on its object since faults began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    pub effect: Effect,
    pub object: String,
    pub nth: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} #{}", self.effect, self.object, self.nth)
    }
}

/// A fault at a point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Planned {
    #[serde(flatten)]
    pub point: Point,
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.fault, self.point)
    }
}

/// Which faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Faults {
    /// These.
    List(Vec<Planned>),
    /// Drawn at every effect, by rates that the plan's seed draws.
    Drawn,
}

/// A run, wholly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    pub workload: Workload,
    pub faults: Faults,
}

/// splitmix64's output function: numbers that follow from a seed and a place, independent of all other places.
pub fn mixed(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// A number for a point of a run with a seed (FNV-1a over the point, mixed).
pub fn number(seed: u64, point: &Point) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed;
    for byte in point.object.bytes().chain([point.effect as u8]).chain(point.nth.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mixed(hash)
}
