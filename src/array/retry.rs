// SPDX-License-Identifier: GPL-2.0

//! Whether a replacement that has got everything may become the member, or gets once more what it cannot be read at.
//!
//! Blocks that were copied to it may be bad by then, and its member still have them. It does not become the member before another
//! sync has gone over these. What it lacks after that as well the member could not give either: else it would have been copied, or the
//! replacement have failed, as it does if it does not take a block or cannot be read there after that. So it becomes the member
//! without. Each round is about other blocks than the one before, and there are only so many of them.
//!
//! For md core, and in the metadata, it lacks all that lies behind the first such block meanwhile. It does not: it has all but its bad
//! blocks, and gets each write. What it was given in the first place its member may not have, and nobody be there any more to make up for
//! it. So that is remembered, in memory. Should so many members fail that the array goes on only with it, it is in sync from then on, for
//! md core and in the metadata too, and its bad blocks stay bad: there is nobody to give it these.

use crate::sync::atomic::{fence, AtomicU32, AtomicU64, AtomicUsize, Ordering};

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

/// What a slot's replacement has lacked before. It changes with `reconfig_mutex` held.
#[derive(Debug)]
pub(crate) struct Retry {
    rounds: AtomicU32,
    /// [`Lacking::sum`] of the last round.
    sum: AtomicU64,
    /// The device of the slot that has got everything, and gets some of that again: its address, which is only compared. 0: there is none.
    whole: AtomicUsize,
    /// Below which sector it has. Behind that is what is new since then.
    end: AtomicU64,
}

impl Retry {
    /// Of a replacement that has never been looked at.
    pub(crate) fn new() -> Self {
        Self {
            rounds: AtomicU32::new(0),
            sum: AtomicU64::new(0),
            whole: AtomicUsize::new(0),
            end: AtomicU64::new(0),
        }
    }

    /// A device is put into the slot: whatever was at its address before, it has no more than it says itself. Before it is seen there.
    pub(crate) fn comes(&self, device: usize) {
        if self.whole.load(Ordering::Relaxed) == device {
            self.whole.store(0, Ordering::Relaxed);
        }
    }

    /// A device of the slot that has got everything is to count as one that lacks something. Before it does.
    pub(crate) fn keep_whole(&self, device: usize) {
        self.whole.store(device, Ordering::Relaxed);
        // Release: whoever finds this finds whose it is. The one before may have had less.
        self.end.store(u64::MAX, Ordering::Release);
        // Whoever sees that it lacks something sees this as well.
        fence(Ordering::Release);
    }

    /// From `end` on there is something new: no device of the slot has more there than it says.
    pub(crate) fn keep_to(&self, end: u64) {
        // Only one changes this at a time.
        let before = self.end.load(Ordering::Relaxed);
        self.end.store(before.min(end), Ordering::Relaxed);
    }

    /// Below which sector a device that is in the slot has all but its bad blocks, whatever it says: `u64::MAX` if everywhere, 0 if it has no
    /// more than it says. For whoever has seen what that is. Any context.
    pub(crate) fn held_to(&self, device: usize) -> u64 {
        fence(Ordering::Acquire);
        let end = self.end.load(Ordering::Acquire);
        if self.whole.load(Ordering::Relaxed) == device {
            end
        } else {
            0
        }
    }

    /// Another device is to replace the member. The member may be one that is whole.
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
    fn who_has_got_everything_is_remembered_until_the_address_is_used_again() {
        let retry = Retry::new();
        assert_eq!(retry.held_to(80), 0);
        retry.keep_whole(80);
        assert_eq!((retry.held_to(80), retry.held_to(96)), (u64::MAX, 0));
        // It is the member, and another one is to replace it.
        retry.forget();
        retry.comes(96);
        assert_eq!(retry.held_to(80), u64::MAX);
        retry.comes(80);
        assert_eq!(retry.held_to(80), 0);
    }

    #[test]
    fn of_what_is_new_nobody_has_anything_until_it_has_got_everything_again() {
        let retry = Retry::new();
        retry.keep_to(4096);
        retry.keep_whole(80);
        assert_eq!(retry.held_to(80), u64::MAX);
        retry.keep_to(2048);
        // It was made smaller, and larger again.
        retry.keep_to(1024);
        retry.keep_to(4096);
        assert_eq!((retry.held_to(80), retry.held_to(96)), (1024, 0));
        retry.keep_whole(80);
        assert_eq!(retry.held_to(80), u64::MAX);
        retry.keep_to(2048);
        // What another one has is its own.
        retry.keep_whole(96);
        assert_eq!((retry.held_to(80), retry.held_to(96)), (0, u64::MAX));
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
