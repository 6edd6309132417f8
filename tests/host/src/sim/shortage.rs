// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there: at every point where the driver's code asks for some without waiting, it may get none.
//!
//! The points are the kits of strips, one by one; span objects with their parts, for submitters, the sync thread and the
//! array's thread; what a NOWAIT request is accounted with; and what a job on an engine takes. They are counted from the start of a run.
//!
//! Not among them: kits that submitters make again after the kernel had some back. None is given back for good here.

use super::rng::{mix, Rng};

/// What of the dice decides who gets no memory: all others fall as they do without that.
const SALT: u64 = 77;

/// Which of those who ask for memory get none.
#[derive(Clone, Debug, Default)]
pub enum Shortage {
    /// None, but for what is scarce anyhow.
    #[default]
    Never,
    /// Those with these numbers.
    At(Vec<u64>),
    /// So many of a thousand.
    Chance(u32),
}

/// A run: what happens is a matter of the seed, how much of it there is and what fails is said here.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Few requests to a small array, so that all that may fail can be tried.
    pub small: bool,
    /// Who gets no memory.
    pub shortage: Shortage,
}

impl Scenario {
    /// The words for the `sim` program beside the seed.
    pub(crate) fn words(&self) -> String {
        let small = if self.small { " --small" } else { "" };
        let shortage = match &self.shortage {
            Shortage::Never => String::new(),
            Shortage::At(points) => {
                let points: Vec<_> = points.iter().map(u64::to_string).collect();
                format!(" --fail {}", points.join(","))
            }
            Shortage::Chance(permille) => format!(" --chance {permille}"),
        };
        format!("{small}{shortage}")
    }
}

/// The memory of a run.
#[derive(Debug)]
pub(crate) struct Memory {
    shortage: Shortage,
    rng: Rng,
    asked: u64,
    failed: u64,
}

impl Memory {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            shortage: scenario.shortage.clone(),
            rng: Rng::new(mix(scenario.seed, SALT)),
            asked: 0,
            failed: 0,
        }
    }

    /// Somebody asks for memory. Returns whether there is none.
    pub(crate) fn fails(&mut self) -> bool {
        let fails = match &self.shortage {
            Shortage::Never => false,
            Shortage::At(points) => points.contains(&self.asked),
            Shortage::Chance(permille) => self.rng.chance(*permille),
        };
        self.asked += 1;
        self.failed += u64::from(fails);
        fails
    }

    /// How often somebody has asked, and has got nothing.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.asked, self.failed)
    }
}
