// SPDX-License-Identifier: GPL-2.0

//! Which channels have failed too often to be used.
//!
//! What fails is counted until something goes well. Stages that are late are late together, as a rule: an engine stood still, or
//! the CPUs had no time for its driver. So those that were begun before one was given up count with that one. What a channel
//! does not take it has no room for, as a rule, until something has ended: so there is one time for that in each [`FULL`].

use core::ops::Range;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};

/// How often a channel may fail, one time after the other, before it is not used any more.
pub(crate) const FAILURES: u32 = 16;

/// How many failures it counts as that stages are late.
pub(crate) const LATE_FAILURES: u32 = 8;

/// For how many nanoseconds it counts as one failure that a channel takes nothing.
pub(crate) const FULL: i64 = 100_000_000;

/// How many channels are watched.
pub(crate) const CHANNELS: usize = 32;

/// What a channel has come to with its part of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Well,
    /// It has not taken all of it; the rest has ended.
    Refused,
    Failed,
    /// It has not ended in time.
    Late,
}

/// How often one channel has failed since it last did not.
pub(crate) struct Health {
    /// Which channel; 0 for none yet.
    channel: AtomicUsize,
    failures: AtomicU32,
    /// When a stage was given up last.
    gave_up: AtomicI64,
    /// When something was not taken last, counted in [`FULL`].
    refused: AtomicI64,
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

    /// Takes note of how a channel (not 0) has done with what was begun and has ended, or was given up, then, in nanoseconds.
    /// Returns whether it is dropped by that.
    pub(crate) fn note(self, channel: usize, outcome: Outcome, time: Range<i64>) -> bool {
        let more = match outcome {
            Outcome::Well => {
                if let Some(health) = self.of(channel).filter(|health| health.is_good()) {
                    health.failures.store(0, Ordering::Relaxed);
                }
                return false;
            }
            Outcome::Refused | Outcome::Failed => 1,
            Outcome::Late => LATE_FAILURES,
        };
        let claim = |health: &&Health| {
            let place = &health.channel;
            let was = place.compare_exchange(0, channel, Ordering::Relaxed, Ordering::Relaxed);
            was.is_ok() || was == Err(channel)
        };
        let Some(health) = self.0.iter().find(claim) else {
            return false;
        };
        let is_another = match outcome {
            Outcome::Well | Outcome::Failed => true,
            Outcome::Refused => {
                let now = time.end / FULL;
                health.refused.fetch_max(now, Ordering::Relaxed) < now
            }
            Outcome::Late => health.gave_up.fetch_max(time.end, Ordering::Relaxed) < time.start,
        };
        if !is_another {
            return false;
        }
        let before = health.failures.fetch_add(more, Ordering::Relaxed);
        before < FAILURES && before.saturating_add(more) >= FAILURES
    }

    /// Forgets all failures: every channel is used again, and others than before may be watched.
    pub(crate) fn forget(self) {
        for health in self.0 {
            health.failures.store(0, Ordering::Relaxed);
            health.channel.store(0, Ordering::Relaxed);
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
            refused: AtomicI64::new(i64::MIN),
        }
    }

    fn is_good(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < FAILURES
    }
}
