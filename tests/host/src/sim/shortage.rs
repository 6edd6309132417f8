// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there: at every point where the driver's code asks for some without waiting, it may get none.
//!
//! The points are the kits of strips, one by one; span objects with their parts, for submitters, the sync thread and the
//! array's thread; what a NOWAIT request is accounted with; what a job on an engine takes; what a long bio for a member takes; and the
//! kits that are made again. They are counted from the start of a run.
//!
//! In some runs, of those that are not small, the kernel has kits back, and a larger cache is refused. Then submitters and the sync
//! thread make some again, and may find no memory for that, whatever else fails.

use super::report::Event;
use super::rng::{mix, Rng};
use super::Sim;
use crate::raid::column::Column;
use crate::raid::strips::Run;

/// Most blocks of a member's bio that takes no memory: as in User-mode Linux.
const OWN_PAGES: u32 = 2;

/// What of the dice decides who gets no memory: all others fall as they do without that.
const SALT: u64 = 77;

/// Kits that one who may block makes again at once, at most.
const REGROWN: u32 = 4;

/// How many of a thousand of those there is no memory for, as the kernel was short of it.
const NOT_MADE: u32 = 300;

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

impl Sim {
    /// What of a run goes into one bio: without memory for a long one its first blocks, and the rest comes when these have ended.
    pub(crate) fn fit(&mut self, run: Run, column: &mut Column) -> Run {
        if run.count <= OWN_PAGES {
            return run;
        }
        let none = self.room_rng.chance(self.config.cuts);
        if !self.memory.fails() && !none {
            return run;
        }
        self.count(Event::BioCut);
        let now = Run {
            first: run.first,
            count: OWN_PAGES,
        };
        column.put_back(run.strips() - now.strips());
        now
    }

    /// The kernel is short of memory, and has some kits back: free ones, and then those of spans that are not used, but for what is
    /// kept, and none while somebody waits for one. Returns whether it got one.
    pub(crate) fn give_back(&mut self) -> bool {
        let most = 1 + self.give_rng.below(self.config.kits);
        let mut freed = 0;
        while freed < most && !self.table.anybody_starves() {
            if self.table.shrink() {
                freed += 1;
                self.count(Event::GivenBack);
            } else if !self.table.may_shrink() || !self.table.reclaim() {
                break;
            }
        }
        if freed > 0 {
            self.note(|| format!("the kernel has {freed} kits back"));
        }
        freed > 0
    }

    /// Who may block makes some of the kits that there should be, before he waits for a span: those that were given back, or that could
    /// not be made.
    pub(crate) fn regrow(&mut self) {
        if !self.table.lacks_kits() {
            return;
        }
        let members = self.md.slots.len();
        let mut made = 0;
        for _ in 0..REGROWN {
            let Self {
                table,
                give_rng,
                memory,
                ..
            } = self;
            let mut lacking = false;
            let there = || {
                lacking = give_rng.chance(NOT_MADE) || memory.fails();
                !lacking
            };
            if !table.regrow(members, there) {
                if lacking {
                    self.count(Event::NotMade);
                }
                break;
            }
            made += 1;
            self.count(Event::MadeAgain);
        }
        if made > 0 {
            self.note(|| format!("{made} kits are made again"));
        }
        self.wake_starved();
    }

    /// For how many kits there is memory when somebody asks for `kits` in all: for enough, but where the kernel has some back.
    pub(crate) fn room_for(&mut self, kits: u32) -> u32 {
        if self.config.gives_back == 0 {
            return u32::MAX;
        }
        1 + self.give_rng.below(2 * kits)
    }
}
