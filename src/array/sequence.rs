// SPDX-License-Identifier: GPL-2.0

//! Who writes in sequence, and whether it was right to wait for him.
//!
//! Nothing but time depends on what is known here, so the fields are read and written one by one: two tasks that share a
//! place at most spoil each other's sequence.

use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// For at most so many stripes is a task not believed, however often it was waited for in vain.
const MOST_DOUBT: u32 = 1023;

/// What is known of the writes of a task.
#[repr(align(64))]
pub(crate) struct Sequence {
    /// Where the last write ended, in array sectors.
    end: AtomicU64,
    /// Sectors of the writes up to that, each of which began where the one before it ended; without the first one.
    run: AtomicU64,
    /// When the last write came that was worth waiting for, in nanoseconds.
    came: AtomicU64,
    /// It was waited for in vain, since the stripe before was left.
    missed: AtomicBool,
    /// Stripes for which it is not believed.
    doubt: AtomicU32,
    /// For how many it was not believed the last time.
    last_doubt: AtomicU32,
}

impl Sequence {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            end: AtomicU64::new(u64::MAX),
            run: AtomicU64::new(0),
            came: AtomicU64::new(0),
            missed: AtomicBool::new(false),
            doubt: AtomicU32::new(0),
            last_doubt: AtomicU32::new(0),
        }
    }

    /// Takes note of a write from array sector `start` to `end`. Returns whether what it leaves of its last stripe is likely to
    /// be written next: if as much as a stripe was written in sequence, and the task was not waited for in vain. `stripe`: the
    /// array sectors of one; `now`: the time in nanoseconds. Any context.
    pub(crate) fn goes_on(
        &self,
        start: u64,
        end: u64,
        stripe: u64,
        now: impl FnOnce() -> u64,
    ) -> bool {
        let follows = self.end.load(Ordering::Relaxed) == start;
        self.end.store(end, Ordering::Relaxed);
        let run = self.run.load(Ordering::Relaxed);
        if !follows {
            if run != 0 {
                self.run.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let run = run.saturating_add(end.saturating_sub(start));
        self.run.store(run, Ordering::Relaxed);
        if run < stripe {
            return false;
        }
        if start.checked_div(stripe) != end.checked_div(stripe) {
            self.leave_stripe();
        }
        self.came.store(now(), Ordering::Relaxed);
        self.doubt.load(Ordering::Relaxed) == 0 && !self.missed.load(Ordering::Relaxed)
    }

    /// When the last write came that was worth waiting for, in nanoseconds.
    pub(crate) fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }

    /// Takes note that it was waited for in vain.
    pub(crate) fn miss(&self) {
        self.missed.store(true, Ordering::Relaxed);
    }

    /// A stripe is left: was it right to wait in it?
    fn leave_stripe(&self) {
        let last = self.last_doubt.load(Ordering::Relaxed);
        let doubt = self.doubt.load(Ordering::Relaxed);
        if self.missed.load(Ordering::Relaxed) {
            let more = last.saturating_mul(2).saturating_add(1).min(MOST_DOUBT);
            self.last_doubt.store(more, Ordering::Relaxed);
            self.doubt.store(more, Ordering::Relaxed);
            self.missed.store(false, Ordering::Relaxed);
        } else if doubt > 0 {
            self.doubt.store(doubt.saturating_sub(1), Ordering::Relaxed);
        } else if last > 0 {
            self.last_doubt.store(last / 2, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Sequence, MOST_DOUBT};

    /// Sectors of a stripe.
    const STRIPE: u64 = 640;

    /// Writes stripe number `stripe` in quarters. Returns after how many of the first three it was to be waited. The first
    /// time is in vain if `miss`.
    fn write(sequence: &Sequence, stripe: u64, miss: bool) -> u32 {
        let quarter = STRIPE / 4;
        let mut waits = 0;
        for at in 0..4 {
            let start = stripe * STRIPE + at * quarter;
            if sequence.goes_on(start, start + quarter, STRIPE, || start) && at < 3 {
                waits += 1;
                if miss {
                    sequence.miss();
                }
            }
        }
        waits
    }

    #[test]
    fn who_has_written_a_stripe_is_believed() {
        let sequence = Sequence::new();
        let waits = [7, 8, 9, 11].map(|stripe| write(&sequence, stripe, false));
        // What follows the first write has to make a stripe, and 11 does not follow 9.
        assert_eq!(waits, [0, 3, 3, 0]);
        assert_eq!(
            sequence.came(),
            9 * STRIPE + STRIPE / 4 * 3,
            "when the last write came that was worth waiting for"
        );
    }

    #[test]
    fn small_and_random_writes_are_not_waited_for() {
        let sequence = Sequence::new();
        for at in 0..1000 {
            let start = at * 7919 % 5003 * 8;
            let waits = sequence.goes_on(start, start + 8, STRIPE, || 0);
            assert!(!waits, "write {at}, at {start}");
        }
    }

    #[test]
    fn who_was_waited_for_in_vain_is_doubted_for_ever_longer() {
        let sequence = Sequence::new();
        write(&sequence, 0, false);
        let mut stripe = 1;
        let mut doubted = || {
            let mut without = 0;
            while write(&sequence, stripe, true) == 0 {
                stripe += 1;
                without += 1;
            }
            stripe += 1;
            without
        };
        let doubts: Vec<_> = (0..13).map(|_| doubted()).collect();
        assert_eq!(
            doubts[..6],
            [0, 1, 3, 7, 15, 31],
            "stripes for which it was not waited"
        );
        assert_eq!(doubts[12], MOST_DOUBT, "there is an end to that");
    }

    #[test]
    fn stripes_that_came_take_the_doubt_away() {
        let sequence = Sequence::new();
        for stripe in 0..200 {
            let miss = stripe % 20 == 10;
            let doubted = (1..200).contains(&stripe) && stripe % 20 == 11;
            let waits = match (stripe, miss || doubted) {
                (0, _) => 0,
                (_, true) => u32::from(miss),
                (_, false) => 3,
            };
            assert_eq!(write(&sequence, stripe, miss), waits, "stripe {stripe}");
        }
    }
}
