// SPDX-License-Identifier: GPL-2.0

//! Which channels have failed too often to be used.
//!
//! What fails is counted until something goes well. Jobs that are late are late together, as a rule: an engine stood still, or
//! the CPUs had no time for its driver. So those that were begun before one was given up count with that one.

use core::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};

/// How often a channel may fail, one time after the other, before it is not used any more.
pub(crate) const FAILURES: u32 = 16;

/// How many failures it counts as that jobs are late.
pub(crate) const LATE_FAILURES: u32 = 8;

/// How many channels are watched.
pub(crate) const CHANNELS: usize = 32;

/// What a job has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Well,
    Failed,
    /// It is late.
    Late {
        /// When it was begun.
        began: i64,
        /// When it was given up.
        now: i64,
    },
}

/// How often one channel has failed since it last did not.
pub(crate) struct Health {
    /// Which channel; 0 for none yet.
    channel: AtomicUsize,
    failures: AtomicU32,
    /// When a job was given up last.
    gave_up: AtomicI64,
}

/// See the module. Any context, any number at once.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a>(pub(crate) &'a [Health; CHANNELS]);

impl<'a> Record<'a> {
    /// Whether a channel is used.
    pub(crate) fn is_good(self, channel: usize) -> bool {
        self.of(channel).is_none_or(Health::is_good)
    }

    /// How many are not.
    pub(crate) fn dropped(self) -> usize {
        self.0.iter().filter(|health| !health.is_good()).count()
    }

    /// Takes note of how a channel (not 0) has done. Returns whether it is dropped by that.
    pub(crate) fn note(self, channel: usize, outcome: Outcome) -> bool {
        if channel == 0 {
            // There was none.
            return false;
        }
        let more = match outcome {
            Outcome::Well => {
                if let Some(health) = self.of(channel).filter(|health| health.is_good()) {
                    health.failures.store(0, Ordering::Relaxed);
                }
                return false;
            }
            Outcome::Failed => 1,
            Outcome::Late { .. } => LATE_FAILURES,
        };
        let claim = |health: &&Health| {
            let place = &health.channel;
            let was = place.compare_exchange(0, channel, Ordering::Relaxed, Ordering::Relaxed);
            was.is_ok() || was == Err(channel)
        };
        let Some(health) = self.0.iter().find(claim) else {
            return false;
        };
        if let Outcome::Late { began, now } = outcome {
            if health.gave_up.fetch_max(now, Ordering::Relaxed) >= began {
                return false;
            }
        }
        let before = health.failures.fetch_add(more, Ordering::Relaxed);
        before < FAILURES && before.saturating_add(more) >= FAILURES
    }

    /// Forgets all failures: every channel is used again.
    pub(crate) fn forget(self) {
        for health in self.0 {
            health.failures.store(0, Ordering::Relaxed);
        }
    }

    fn of(self, channel: usize) -> Option<&'a Health> {
        let is_it = |health: &&Health| health.channel.load(Ordering::Relaxed) == channel;
        self.0.iter().find(is_it)
    }
}

impl Health {
    /// Of no channel yet.
    pub(crate) const fn new() -> Self {
        Self {
            channel: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            gave_up: AtomicI64::new(i64::MIN),
        }
    }

    fn is_good(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < FAILURES
    }
}
