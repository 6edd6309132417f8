// SPDX-License-Identifier: GPL-2.0

//! Which chunks of the write-intent bitmap are known to be marked on the members, so that a write there waits for nothing.
//!
//! A classic bitmap clears bits in md core's housekeeping, and never the bit of a chunk with a write under way. So a bit that a
//! flush has made durable stays so for as long as no housekeeping has begun since. Each housekeeping begins and ends an epoch, and a
//! chunk is remembered with the epoch in which its bit was seen to be durable.
//!
//! Bits are also cleared by whoever stops writes, after a quiesce; where a machine goes down writes go on by then. He says when he is
//! done to nobody, but holds the array's mutex until he is. So after a quiesce nothing is known until a housekeeping, begun later, has
//! found that nobody has the mutex.

use crate::sync::atomic::{fence, AtomicU64, Ordering};
use core::ops::Deref;

/// Bits of a word that tell the chunk; the others tell the epoch, which is never 0.
const CHUNK_BITS: u32 = 24;

/// Of an epoch: housekeeping is under way.
const CLEARING: u64 = 1;

/// Of an epoch: somebody else may clear bits as well.
const OTHERS: u64 = 2;

/// From one epoch to the next.
const STEP: u64 = 4;

/// The proof that [`Durable::begin_clearing`] was called: which epoch it has begun.
#[derive(Debug)]
#[must_use = "nothing is known until clearing ends"]
pub(crate) struct Clearing(u64);

/// What is known of a bitmap. All methods may be called in any context.
///
/// A write sets its bits before it asks [`Self::knows`], and they are not cleared before it has ended. It says
/// [`Self::learn`] when a flush that began after that has ended, and before the write ends itself.
#[derive(Debug)]
pub(crate) struct Durable<S> {
    /// A multiple of [`STEP`] but while bits may be cleared: [`CLEARING`], [`OTHERS`].
    epoch: AtomicU64,
    /// Chunks that were durable in an epoch; where a chunk is kept follows from its number.
    slots: S,
}

impl<S: Deref<Target = [AtomicU64]>> Durable<S> {
    /// Knows nothing. It can remember as many chunks as there are slots, which are to be 0.
    pub(crate) fn new(slots: S) -> Self {
        Self {
            epoch: AtomicU64::new(STEP),
            slots,
        }
    }

    /// Bits may be cleared from now on, until [`Self::end_clearing`]. One task at a time.
    pub(crate) fn begin_clearing(&self) -> Clearing {
        let before = self.epoch.fetch_add(CLEARING, Ordering::SeqCst);
        // Before any bit is looked at.
        fence(Ordering::SeqCst);
        Clearing(before | CLEARING)
    }

    /// The caller clears no bit any more. `alone`: some time after [`Self::begin_clearing`] nobody had the array's mutex, and it is seen
    /// what was done by who had it before.
    pub(crate) fn end_clearing(&self, clearing: Clearing, alone: bool) {
        let Clearing(epoch) = clearing;
        let next = (epoch & !(CLEARING | OTHERS)).wrapping_add(STEP);
        let exchange = || {
            let epochs = &self.epoch;
            epochs.compare_exchange(epoch, next, Ordering::SeqCst, Ordering::Relaxed)
        };
        if !alone || exchange().is_err() {
            // Others go on, or may have begun since: see `distrust()`.
            self.epoch.fetch_add(STEP - CLEARING, Ordering::SeqCst);
        }
    }

    /// Forgets everything: another bitmap may have come.
    pub(crate) fn forget(&self) {
        self.epoch.fetch_add(STEP, Ordering::SeqCst);
    }

    /// Forgets everything, and learns nothing more: who has the array's mutex may clear bits from now on, until he gives it up.
    pub(crate) fn distrust(&self) {
        // In this order: a housekeeping that is under way either ends before, or finds another epoch, and so leaves it at that.
        self.forget();
        self.epoch.fetch_or(OTHERS, Ordering::SeqCst);
    }

    /// Whether the bit of `chunk`, which a write under way has set, is known to be durable.
    pub(crate) fn knows(&self, chunk: u64) -> bool {
        // The bit comes before the look: whoever clears bits after this epoch sees that there is a write.
        fence(Ordering::SeqCst);
        match (self.word(chunk), self.slot(chunk)) {
            (Some(word), Some(slot)) => slot.load(Ordering::Acquire) == word,
            _ => false,
        }
    }

    /// Remembers that the bit of `chunk` is durable, for there is a write under way that has set it and waited for a flush.
    pub(crate) fn learn(&self, chunk: u64) {
        if let (Some(word), Some(slot)) = (self.word(chunk), self.slot(chunk)) {
            slot.store(word, Ordering::Release);
        }
    }

    /// What is kept of a chunk that is durable now, unless bits are being cleared.
    fn word(&self, chunk: u64) -> Option<u64> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        (epoch % STEP == 0 && chunk >> CHUNK_BITS == 0).then_some((epoch << CHUNK_BITS) | chunk)
    }

    fn slot(&self, chunk: u64) -> Option<&AtomicU64> {
        let place = chunk.checked_rem(self.slots.len() as u64)?;
        self.slots.get(place as usize)
    }
}
