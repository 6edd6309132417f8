// SPDX-License-Identifier: GPL-2.0

//! What a sync could not do, so that the write-intent bitmap keeps its mark for it.
//!
//! One mark is about many units of a sync. The first of them takes it off, and a unit that could not be done puts it on again.
//! The next unit would take it off once more: in the end all of them would count as synced, and what a member lacks there would be
//! passed over when it is rebuilt. So each unit that begins puts the mark on again as well, if one before it could not be done.

use crate::sync::atomic::{AtomicU64, Ordering};

/// Where the last unit is that could not be done.
#[derive(Debug)]
pub(crate) struct Gaps {
    /// The sector after that unit's first one; 0 if there is none.
    last: AtomicU64,
    /// What the mark is about that the sync is at: the first sector that it was at there, and the end.
    start: AtomicU64,
    end: AtomicU64,
}

impl Gaps {
    /// There are none.
    pub(crate) fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
        }
    }

    /// Takes note that the unit at `sector` could not be done; before its mark is put on again. Any context.
    pub(crate) fn note(&self, sector: u64) {
        // Release: whoever takes off a mark that was put on after this finds it.
        self.last
            .fetch_max(sector.saturating_add(1), Ordering::Release);
    }

    /// A sync begins at the first sector: what it does not go over has no mark.
    pub(crate) fn forget(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// Whether something could not be done, by a sync that has gone over everything from the first sector on, in one go or more. For when
    /// that has ended.
    pub(crate) fn are_left(&self) -> bool {
        self.last.load(Ordering::Acquire) != 0
    }

    /// Whether a mark that was just taken off for the unit at `sector`, and is about everything from there to `end`, is to be put on
    /// again: it is about a unit too that could not be done.
    ///
    /// For the sync thread, before the unit begins. A sync goes on to higher sectors; no unit of another one is under way.
    pub(crate) fn are_before(&self, sector: u64, end: u64) -> bool {
        let start = self.start.load(Ordering::Relaxed);
        if end != self.end.load(Ordering::Relaxed) || sector < start {
            self.start.store(sector, Ordering::Relaxed);
            self.end.store(end, Ordering::Relaxed);
        }
        let last = self.last.load(Ordering::Acquire);
        if last > sector {
            // It is gone over again.
            self.last.store(0, Ordering::Relaxed);
            return false;
        }
        last > self.start.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Sectors of a unit, and of what a mark is about.
    const UNIT: u64 = 8;
    const CHUNK: u64 = 32;

    /// Goes over the units from `from` on; those of `bad` cannot be done. Returns the units whose marks are put on again.
    fn sync(gaps: &Gaps, from: u64, to: u64, bad: &[u64]) -> Vec<u64> {
        let mut again = Vec::new();
        for unit in (from..to).step_by(UNIT as usize) {
            if gaps.are_before(unit, unit / CHUNK * CHUNK + CHUNK) {
                again.push(unit);
            }
            if bad.contains(&unit) {
                gaps.note(unit);
            }
        }
        again
    }

    #[test]
    fn what_comes_after_a_gap_keeps_its_mark() {
        let gaps = Gaps::new();
        assert_eq!(sync(&gaps, 0, 96, &[]), [0; 0]);
        assert_eq!(sync(&gaps, 0, 96, &[0]), [8, 16, 24]);
        assert_eq!(sync(&gaps, 0, 96, &[40, 48]), [48, 56]);
        assert_eq!(sync(&gaps, 0, 96, &[24, 64]), [72, 80, 88]);
    }

    #[test]
    fn a_gap_that_is_gone_over_again_is_forgotten() {
        let gaps = Gaps::new();
        assert_eq!(sync(&gaps, 0, 48, &[40]), [0; 0]);
        assert_eq!(sync(&gaps, 0, 96, &[]), [0; 0]);
        // At the very one, too.
        gaps.note(64);
        assert_eq!(sync(&gaps, 64, 96, &[]), [0; 0]);
    }

    #[test]
    fn a_sync_that_goes_on_behind_a_gap_keeps_the_mark() {
        let gaps = Gaps::new();
        assert_eq!(sync(&gaps, 0, 48, &[32]), [40]);
        assert_eq!(sync(&gaps, 48, 96, &[]), [48, 56]);
    }

    #[test]
    fn what_is_left_is_forgotten_with_the_next_sync() {
        let gaps = Gaps::new();
        sync(&gaps, 0, 96, &[]);
        assert!(!gaps.are_left());
        sync(&gaps, 0, 48, &[0]);
        sync(&gaps, 48, 96, &[]);
        assert!(gaps.are_left());
        gaps.forget();
        assert_eq!(sync(&gaps, 8, 96, &[]), [0; 0]);
        assert!(!gaps.are_left());
    }

    #[test]
    fn units_end_in_any_order() {
        let gaps = Gaps::new();
        assert!(!gaps.are_before(24, 32));
        assert!(!gaps.are_before(32, 64));
        gaps.note(32);
        gaps.note(24);
        assert!(gaps.are_before(40, 64));
        assert!(!gaps.are_before(64, 96));
    }
}
