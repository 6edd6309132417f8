// SPDX-License-Identifier: GPL-2.0

//! How many tasks have much to submit at the same time, roughly.
//!
//! Nothing but time depends on it, so the fields are read and written one by one: who looks while another one turns the page may
//! count too few or too many.

use crate::sync::atomic::{AtomicU64, Ordering};

/// Tasks that have lately had much to submit: each is a bit, by a hash.
#[repr(align(64))]
pub(crate) struct Submitters {
    page: AtomicU64,
    page_before: AtomicU64,
    /// When the page was begun.
    begun: AtomicU64,
    /// For how long a page is written.
    period: u64,
}

impl Submitters {
    /// Nobody is known. A task will be until its page and the next one have been written, each for `period`: longer than a
    /// scheduler lets one task of several have a CPU.
    pub(crate) fn new(period: u64) -> Self {
        Self {
            page: AtomicU64::new(0),
            page_before: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            period,
        }
    }

    /// Takes note of a task that has much to submit, by a number of its own. Returns how many there are, at least 1 and at most
    /// 64. `now`: the time in units of the period, which may wrap. Any context.
    pub(crate) fn note(&self, task: u32, now: u64) -> u32 {
        let begun = self.begun.load(Ordering::Relaxed);
        let age = now.wrapping_sub(begun);
        if age >= self.period {
            let turned =
                self.begun
                    .compare_exchange(begun, now, Ordering::Relaxed, Ordering::Relaxed);
            if turned.is_ok() {
                let page = self.page.swap(0, Ordering::Relaxed);
                let is_last = age < self.period.saturating_mul(2);
                self.page_before
                    .store(if is_last { page } else { 0 }, Ordering::Relaxed);
            }
        }
        let task = 1 << (task % u64::BITS);
        let page = self.page.load(Ordering::Relaxed);
        if page & task == 0 {
            self.page.fetch_or(task, Ordering::Relaxed);
        }
        (page | task | self.page_before.load(Ordering::Relaxed)).count_ones()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Submitters;

    #[test]
    fn tasks_are_counted_while_they_submit() {
        let submitters = Submitters::new(10);
        assert_eq!(submitters.note(7, 1), 1);
        assert_eq!(submitters.note(7, 2), 1, "the same task again");
        assert_eq!(submitters.note(8, 3), 2);
        assert_eq!(submitters.note(7, 14), 2, "8 is on the page before");
        assert_eq!(submitters.note(7, 25), 1, "8 has gone");
    }

    #[test]
    fn who_comes_after_a_pause_is_alone() {
        let submitters = Submitters::new(10);
        submitters.note(1, 1);
        submitters.note(2, 2);
        assert_eq!(submitters.note(3, 50), 1);
    }

    #[test]
    fn the_time_may_wrap() {
        let submitters = Submitters::new(10);
        submitters.note(1, u64::MAX - 1);
        assert_eq!(submitters.note(2, u64::MAX), 2);
        assert_eq!(submitters.note(2, 9), 2, "1 is on the page before");
        assert_eq!(submitters.note(2, 20), 1, "1 has gone");
    }
}
