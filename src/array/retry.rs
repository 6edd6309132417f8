// SPDX-License-Identifier: GPL-2.0

//! Whether a replacement that has got everything may become the member, or gets once more what it cannot be read at.
//!
//! Blocks that were copied to it may be bad by then, and its member still have them. It does not become the member before another
//! sync has gone over these. What it lacks after that as well the member could not give either: else it would have been copied, or the
//! replacement have failed, as it does if it does not take a block or cannot be read there after that. So it becomes the member
//! without. Each round is about other blocks than the one before, and there are only so many of them.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How often a replacement gets what it lacks once more.
const ROUNDS: u32 = 8;

/// Blocks that are bad on a replacement, and that its member holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacking {
    first: Option<u64>,
    count: u32,
    /// Differs where the blocks do.
    sum: u64,
}

impl Lacking {
    /// Adds the block at a sector; those at lower ones come first.
    pub(crate) fn add(&mut self, sector: u64) {
        self.first = self.first.or(Some(sector));
        self.count = self.count.saturating_add(1);
        let mixed = sector.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.sum = self.sum.wrapping_add(mixed ^ (mixed >> 32));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

/// What becomes of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the member.
    Ready,
    /// A sync is to go over it once more, from this sector on.
    Again(u64),
    /// It can be read less and less: it is to fail.
    Unfit,
}

/// What a slot's replacement has lacked before. For whoever has `reconfig_mutex`.
#[derive(Debug)]
pub(crate) struct Retry {
    rounds: AtomicU32,
    /// [`Lacking::sum`] of the last round.
    sum: AtomicU64,
}

impl Retry {
    /// Of a replacement that has never been looked at.
    pub(crate) fn new() -> Self {
        Self {
            rounds: AtomicU32::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Another device is to replace the member.
    pub(crate) fn forget(&self) {
        self.rounds.store(0, Ordering::Relaxed);
        self.sum.store(0, Ordering::Relaxed);
    }

    /// The replacement has got everything, and lacks this.
    pub(crate) fn judge(&self, lacking: &Lacking) -> Verdict {
        let Some(first) = lacking.first else {
            return Verdict::Ready;
        };
        let rounds = self.rounds.load(Ordering::Relaxed);
        if rounds > 0 && self.sum.load(Ordering::Relaxed) == lacking.sum {
            return Verdict::Ready;
        }
        if rounds >= ROUNDS {
            return Verdict::Unfit;
        }
        self.rounds.store(rounds.wrapping_add(1), Ordering::Relaxed);
        self.sum.store(lacking.sum, Ordering::Relaxed);
        Verdict::Again(first)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn lacking(sectors: &[u64]) -> Lacking {
        let mut lacking = Lacking::default();
        for sector in sectors {
            lacking.add(*sector);
        }
        lacking
    }

    #[test]
    fn who_lacks_nothing_is_ready() {
        let retry = Retry::new();
        assert_eq!(retry.judge(&lacking(&[])), Verdict::Ready);
        assert_eq!(retry.judge(&lacking(&[80, 96])), Verdict::Again(80));
        assert_eq!(retry.judge(&lacking(&[])), Verdict::Ready);
    }

    #[test]
    fn what_cannot_be_had_is_asked_for_once() {
        let retry = Retry::new();
        assert_eq!(retry.judge(&lacking(&[80, 96])), Verdict::Again(80));
        assert_eq!(retry.judge(&lacking(&[80, 96])), Verdict::Ready);
        // Of another device nothing is known.
        retry.forget();
        assert_eq!(retry.judge(&lacking(&[80, 96])), Verdict::Again(80));
    }

    #[test]
    fn other_blocks_are_asked_for_too_but_not_for_ever() {
        let retry = Retry::new();
        assert_eq!(retry.judge(&lacking(&[80, 96])), Verdict::Again(80));
        assert_eq!(retry.judge(&lacking(&[96])), Verdict::Again(96));
        assert_eq!(retry.judge(&lacking(&[0, 96])), Verdict::Again(0));
        let rounds = (0..100).map(|sector| retry.judge(&lacking(&[sector * 8])));
        let again = rounds.filter(|verdict| *verdict != Verdict::Unfit).count();
        assert_eq!(again as u32, ROUNDS - 3);
    }

    #[test]
    fn sets_of_blocks_are_told_apart() {
        let sets: Vec<_> = (0..1u64 << 12)
            .map(|set| {
                let sectors: Vec<_> = (0..12).filter(|bit| set & (1 << bit) != 0).collect();
                lacking(&sectors.iter().map(|bit| bit * 8).collect::<Vec<_>>()).sum
            })
            .collect();
        let mut sums = sets.clone();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), sets.len());
    }
}
