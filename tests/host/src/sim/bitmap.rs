// SPDX-License-Identifier: GPL-2.0

//! The classic write-intent bitmap: counters in memory, bits on the members.
//!
//! One page holds all bits, so it is written whole. Setting a bit makes the page dirty, and only a flush by the array's
//! daemon gets it to the members; flushes are numbered, because whoever finds the page clean must not take that for
//! durable. Bits are cleared later, in steps, and not while a member is missing.

use super::device::BitmapRecord;
use crate::array::durable::{Clearing, Durable};
use crate::array::gaps::Gaps;
use crate::sync::atomic::AtomicU64;
use std::ops::Range;

/// What is known of one chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    /// Writes under way.
    writes: u32,
    /// It must be resynced, or rebuilt on a member that was away.
    needed: bool,
    /// It is being resynced.
    resync: bool,
    /// Times that the daemon has found it without writes.
    quiet: u8,
    /// The bit in the page.
    bit: bool,
}

/// The bitmap of a running array.
#[derive(Debug)]
pub(crate) struct Bitmap {
    chunks: Vec<Chunk>,
    /// Member sectors of a chunk.
    chunk: u32,
    /// Bits were set that no flush has taken yet.
    dirty: bool,
    /// Bits were cleared; that may be written at leisure.
    stale: bool,
    /// See [`BitmapRecord::events_cleared`].
    pub(crate) events_cleared: u64,
    /// Flushes that have begun, and that have ended.
    pub(crate) begun: u32,
    pub(crate) done: u32,
    /// Some part waits for a flush that has not begun.
    pub(crate) wanted: bool,
    /// Chunks whose bits are known to be durable.
    durable: Durable<Vec<AtomicU64>>,
    /// Nothing is known for now.
    pub(crate) distrusted: bool,
    /// What syncs could not do.
    pub(crate) gaps: Gaps,
}

/// Chunks that are remembered: fewer than some arrays have.
const REMEMBERED: usize = 4;

impl Bitmap {
    /// The bitmap of an array that is assembled: chunks whose bits are set need a resync.
    pub(crate) fn load(record: &BitmapRecord, chunk: u32, sequence: u32) -> Self {
        let chunks = record.bits.iter().map(|&bit| Chunk {
            needed: bit,
            bit,
            ..Chunk::default()
        });
        Self {
            chunks: chunks.collect(),
            chunk,
            dirty: false,
            stale: false,
            events_cleared: record.events_cleared,
            begun: sequence,
            done: sequence,
            wanted: false,
            durable: Durable::new((0..REMEMBERED).map(|_| AtomicU64::new(0)).collect()),
            distrusted: false,
            gaps: Gaps::new(),
        }
    }

    /// Number of chunks of a member.
    pub(crate) fn chunks_of(dev_sectors: u32, chunk: u32) -> usize {
        dev_sectors.div_ceil(chunk) as usize
    }

    /// The chunk that holds `sector`.
    pub(crate) fn chunk_of(&self, sector: u32) -> usize {
        (sector / self.chunk) as usize
    }

    /// The chunks that hold `sectors`.
    fn of(&self, sectors: &Range<u64>) -> Range<usize> {
        // CAST: the simulated members are small.
        let (start, end) = (sectors.start as u32, sectors.end as u32);
        (start / self.chunk) as usize..(end.div_ceil(self.chunk) as usize).min(self.chunks.len())
    }

    /// A write to these member sectors begins. The flush that it must wait for has the returned number. `whole`: all members
    /// have all bits that were flushed.
    pub(crate) fn start_write(&mut self, sectors: &Range<u64>, whole: bool) -> Option<u32> {
        let range = self.of(sectors);
        for chunk in &mut self.chunks[range] {
            chunk.writes += 1;
            chunk.quiet = 0;
            if !chunk.bit {
                chunk.bit = true;
                self.dirty = true;
            }
        }
        let known = |chunk| whole && self.durable.knows(chunk);
        if self.one(sectors).is_some_and(known) {
            return None;
        }
        self.wanted = true;
        Some(self.begun.wrapping_add(1))
    }

    /// A write to these member sectors is about to end that has waited for flush number `sequence`.
    pub(crate) fn written(&self, sectors: &Range<u64>, sequence: u32) {
        if let (Some(chunk), true) = (self.one(sectors), self.is_flushed(sequence)) {
            self.durable.learn(chunk);
        }
    }

    /// The chunk that holds all of `sectors`.
    fn one(&self, sectors: &Range<u64>) -> Option<u64> {
        let range = self.of(sectors);
        (range.len() == 1).then_some(range.start as u64)
    }

    /// A write to these member sectors has ended.
    pub(crate) fn end_write(&mut self, sectors: &Range<u64>, degraded: bool, events: u64) {
        let range = self.of(sectors);
        for chunk in &mut self.chunks[range] {
            chunk.writes -= 1;
            chunk.needed |= degraded;
        }
        if !degraded {
            self.events_cleared = self.events_cleared.max(events);
        }
    }

    /// Whether `sector` must be resynced, and up to where that answer holds. Unless `degraded`, the resync of its chunk
    /// begins.
    pub(crate) fn start_sync(&mut self, sector: u32, degraded: bool) -> (bool, u32) {
        let index = sector / self.chunk;
        let end = (index + 1) * self.chunk;
        let Some(chunk) = self.chunks.get_mut(index as usize) else {
            return (false, end);
        };
        if chunk.resync {
            return (true, end);
        }
        if chunk.needed && !degraded {
            chunk.needed = false;
            chunk.resync = true;
            return (true, end);
        }
        (chunk.needed, end)
    }

    /// The resync of `sector`'s chunk has failed or was given up.
    pub(crate) fn abort_sync(&mut self, sector: u32) {
        if let Some(chunk) = self.chunks.get_mut((sector / self.chunk) as usize) {
            if std::mem::take(&mut chunk.resync) {
                chunk.needed = true;
            }
        }
    }

    /// Everything below `sector` is resynced. A chunk that is not is left as it is.
    pub(crate) fn end_sync(&mut self, sector: u32) {
        let whole = (sector / self.chunk) as usize;
        for chunk in self.chunks.iter_mut().take(whole) {
            chunk.resync = false;
        }
    }

    /// The part of `close_sync` that marks all as done.
    pub(crate) fn close_sync(&mut self) {
        for chunk in &mut self.chunks {
            chunk.resync = false;
        }
    }

    /// Nothing is to be synced any more.
    pub(crate) fn all_synced(&mut self) {
        for chunk in &mut self.chunks {
            chunk.needed = false;
        }
    }

    /// bitmap_ops->write_all(): a member has none of the bits, or not all.
    pub(crate) fn write_all(&mut self) {
        self.dirty = true;
        self.wanted = true;
    }

    /// Begins a flush: what the members must hold for it to have ended, or `None` if they do already.
    pub(crate) fn begin_flush(&mut self) -> Option<BitmapRecord> {
        self.begun = self.begun.wrapping_add(1);
        self.wanted = false;
        std::mem::take(&mut self.dirty).then(|| self.record())
    }

    /// The flush that began last has ended.
    pub(crate) fn end_flush(&mut self) {
        self.done = self.begun;
    }

    /// Whether flush number `sequence` has ended.
    pub(crate) fn is_flushed(&self, sequence: u32) -> bool {
        self.done.wrapping_sub(sequence) < 1 << 31
    }

    /// Chunks that might be cleared: twice found without writes. To be called now and then.
    pub(crate) fn quiet_chunks(&mut self) -> Vec<usize> {
        let mut quiet = Vec::new();
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            if chunk.bit && chunk.writes == 0 && !chunk.needed && !chunk.resync {
                chunk.quiet = chunk.quiet.saturating_add(1);
                if chunk.quiet >= 2 {
                    quiet.push(index);
                }
            }
        }
        quiet
    }

    /// Housekeeping that clears the bits of `quiet` chunks that have stayed so. Their data is durable by now. `alone`: nobody has
    /// reconfig_mutex.
    pub(crate) fn clear(&mut self, quiet: &[usize], alone: bool) {
        let clearing = self.durable.begin_clearing();
        self.clear_bits(quiet);
        self.end_clearing(clearing, alone);
    }

    /// Housekeeping that clears nothing; `alone` as above.
    pub(crate) fn housekeeping(&mut self, alone: bool) {
        let clearing = self.durable.begin_clearing();
        self.end_clearing(clearing, alone);
    }

    fn end_clearing(&mut self, clearing: Clearing, alone: bool) {
        self.durable.end_clearing(clearing, alone);
        self.distrusted &= !alone;
    }

    /// Writes are stopped, by somebody who may clear bits from now on, for as long as he has reconfig_mutex. (Other quiesces are not
    /// told: what is known stays known.)
    pub(crate) fn distrust(&mut self) {
        self.durable.distrust();
        self.distrusted = true;
    }

    /// Clears bits as [`Self::clear`] does, and says so to nobody.
    pub(crate) fn clear_bits(&mut self, quiet: &[usize]) {
        for &index in quiet {
            let chunk = &mut self.chunks[index];
            if chunk.quiet >= 2 && chunk.writes == 0 && !chunk.needed && !chunk.resync {
                chunk.bit = false;
                self.stale = true;
            }
        }
    }

    /// What is to be written at leisure, if anything. A dirty page is left to the flush.
    pub(crate) fn take_stale(&mut self) -> Option<BitmapRecord> {
        (!self.dirty && std::mem::take(&mut self.stale)).then(|| self.record())
    }

    /// The page, as it would be written now.
    pub(crate) fn record(&self) -> BitmapRecord {
        BitmapRecord {
            bits: self.chunks.iter().map(|chunk| chunk.bit).collect(),
            events_cleared: self.events_cleared,
        }
    }

    /// Whether no write is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.chunks.iter().all(|chunk| chunk.writes == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap() -> Bitmap {
        let record = BitmapRecord {
            bits: vec![false; 4],
            events_cleared: 0,
        };
        Bitmap::load(&record, 16, u32::MAX)
    }

    #[test]
    fn a_write_waits_for_a_flush_that_began_after_it() {
        let mut bitmap = bitmap();
        assert!(bitmap.begin_flush().is_none(), "nothing is dirty");
        let sequence = bitmap.start_write(&(0..8), true).expect("nothing is known");
        bitmap.end_flush();
        assert!(
            !bitmap.is_flushed(sequence),
            "that flush began before the write"
        );
        let record = bitmap.begin_flush().expect("a bit was set");
        assert_eq!(record.bits, [true, false, false, false]);
        assert!(!bitmap.is_flushed(sequence));
        bitmap.end_flush();
        assert!(bitmap.is_flushed(sequence));
        bitmap.written(&(0..8), sequence);
        assert_eq!(
            bitmap.start_write(&(8..16), true),
            None,
            "its bit is durable"
        );
        assert!(
            bitmap.start_write(&(8..24), true).is_some(),
            "one of two is not"
        );
        assert!(
            bitmap.start_write(&(8..16), false).is_some(),
            "a member lacks it"
        );
        bitmap.clear(&[], true);
        assert!(
            bitmap.start_write(&(8..16), true).is_some(),
            "it may be cleared"
        );
    }

    #[test]
    fn nothing_is_learned_while_somebody_else_may_clear_bits() {
        let mut bitmap = bitmap();
        let mut is_known = |prepare: fn(&mut Bitmap)| {
            prepare(&mut bitmap);
            if let Some(sequence) = bitmap.start_write(&(0..8), true) {
                bitmap.begin_flush();
                bitmap.end_flush();
                bitmap.written(&(0..8), sequence);
            }
            bitmap.start_write(&(0..8), true).is_none()
        };
        assert!(is_known(|_| {}), "after a flush");
        assert!(!is_known(Bitmap::distrust), "somebody has stopped writes");
        assert!(
            !is_known(|bitmap| bitmap.housekeeping(false)),
            "he is not done"
        );
        assert!(is_known(|bitmap| bitmap.housekeeping(true)), "he is done");
    }

    #[test]
    fn a_bit_is_cleared_only_after_two_quiet_rounds() {
        let mut bitmap = bitmap();
        bitmap.start_write(&(0..8), true);
        assert!(bitmap.quiet_chunks().is_empty());
        bitmap.end_write(&(0..8), false, 5);
        assert!(bitmap.quiet_chunks().is_empty());
        let quiet = bitmap.quiet_chunks();
        assert_eq!(quiet, [0]);
        bitmap.start_write(&(0..8), true);
        bitmap.clear(&quiet, true);
        assert!(bitmap.record().bits[0], "it is written again");
    }

    #[test]
    fn what_a_missing_member_missed_is_needed() {
        let mut bitmap = bitmap();
        bitmap.start_write(&(20..24), false);
        bitmap.end_write(&(20..24), true, 5);
        assert_eq!(bitmap.start_sync(0, false), (false, 16));
        assert_eq!(bitmap.start_sync(16, true), (true, 32));
        assert_eq!(bitmap.start_sync(16, false), (true, 32));
        bitmap.abort_sync(16);
        assert_eq!(bitmap.start_sync(16, false), (true, 32));
        bitmap.close_sync();
        assert_eq!(bitmap.start_sync(16, false), (false, 32));
    }
}
