// SPDX-License-Identifier: GPL-2.0

//! Which chunks of the write-intent bitmap are known to be marked on the members, so that a write there waits for nothing.
//!
//! A classic bitmap clears bits in one place only, md core's housekeeping, and never the bit of a chunk with a write under
//! way. So a bit that a flush has made durable stays so for as long as no housekeeping has begun since. Each housekeeping
//! begins and ends an epoch, and a chunk is remembered with the epoch in which its bit was seen to be durable.

use crate::sync::atomic::{fence, AtomicU64, Ordering};
use core::ops::Deref;

/// Bits of a word that tell the chunk; the others tell the epoch, which is never 0.
const CHUNK_BITS: u32 = 24;

/// What is known of a bitmap. All methods may be called in any context.
///
/// A write sets its bits before it asks [`Self::knows`], and they are not cleared before it has ended. It says
/// [`Self::learn`] when a flush that began after that has ended, and before the write ends itself.
#[derive(Debug)]
pub(crate) struct Durable<S> {
    /// Odd while bits may be cleared.
    epoch: AtomicU64,
    /// Chunks that were durable in an epoch; where a chunk is kept follows from its number.
    slots: S,
}

impl<S: Deref<Target = [AtomicU64]>> Durable<S> {
    /// Knows nothing. It can remember as many chunks as there are slots, which are to be 0.
    pub(crate) fn new(slots: S) -> Self {
        Self {
            epoch: AtomicU64::new(2),
            slots,
        }
    }

    /// Bits may be cleared from now on, until [`Self::end_clearing`]. One task at a time.
    pub(crate) fn begin_clearing(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        // Before any bit is looked at.
        fence(Ordering::SeqCst);
    }

    /// No bit is cleared any more.
    pub(crate) fn end_clearing(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets everything: another bitmap may have come, or bits were cleared.
    pub(crate) fn forget(&self) {
        self.epoch.fetch_add(2, Ordering::SeqCst);
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
        (epoch % 2 == 0 && chunk >> CHUNK_BITS == 0).then_some((epoch << CHUNK_BITS) | chunk)
    }

    fn slot(&self, chunk: u64) -> Option<&AtomicU64> {
        let place = chunk.checked_rem(self.slots.len() as u64)?;
        self.slots.get(place as usize)
    }
}
