// SPDX-License-Identifier: GPL-2.0

//! Resync, check, repair and rebuild, as md core's sync thread asks for them; and quiesce.

use super::part::{Item, Origin, Unit};
use super::run::{give, run};
use super::Array;
use crate::md::mddev::{Locked, Recovery, MAX_SECTOR, SYNC_BEGUN};
use crate::md::personality::Synced;
use crate::md::slots::Slot;
use crate::mem::MayBlock;
use crate::raid::part::{Part, PartKind};
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, STRIP_SECTORS};
use crate::sync::gate::{Entry, Gate};
use crate::sync::mailbox::Events;
use core::sync::atomic::Ordering;
use core::time::Duration;
use kernel::prelude::*;

/// How often quiesce looks whether the superblock has to be written.
const LOOK: Duration = Duration::from_millis(100);

/// Syncs some sectors of the members from `sector` on, at most to `max_sector`; ends the sync if `sector` is there.
///
/// For md core's sync thread. Sleeps.
pub(super) fn sync_request(
    gate: &Gate<Array>,
    sector: u64,
    max_sector: u64,
    may_block: &MayBlock,
) -> Synced {
    let array: &Array = gate;
    // A spare that was added would have the next superblock say that members are rebuilt up to where the resync is.
    array.mddev.keep_to_resync();
    if sector >= max_sector {
        array.end_sync(max_sector);
        return Synced::Aborted;
    }
    let entry = array.wait_enter(gate, may_block);
    array.sync_span(entry, sector, max_sector, may_block)
}

impl Array {
    fn end_sync(&self, max_sector: u64) {
        let mddev = &*self.mddev;
        let reached = mddev.curr_resync();
        if reached <= SYNC_BEGUN {
            // md core takes its number for a sector, and would begin there the next time, or record that a member is in sync
            // up to there.
            mddev.set_curr_resync_completed(0);
            for seat in self.slots.iter().flat_map(Slot::seats) {
                seat.with(|rdev| rdev.round_recovery_offset(u64::from(STRIP_SECTORS)));
            }
        }
        if reached < max_sector {
            mddev.bitmap_end_sync(reached);
            mddev.bitmap_close_sync();
            return;
        }
        if mddev.test_recovery(Recovery::Sync) && !self.only_checks() {
            self.trusted.store(u64::MAX, Ordering::Relaxed);
        }
        if mddev.test_recovery(Recovery::Recover) && !self.stays_degraded() {
            // With a slot empty some spare that failed half rebuilt may come back. And a resync has rebuilt nobody.
            if self.full_sync.swap(false, Ordering::Relaxed) {
                self.rebuilt.store(true, Ordering::Relaxed);
            }
        }
        mddev.bitmap_close_sync();
    }

    fn sync_span(
        &self,
        entry: Entry<Array>,
        sector: u64,
        max_sector: u64,
        may_block: &MayBlock,
    ) -> Synced {
        let mddev = &*self.mddev;
        let strip = u64::from(STRIP_SECTORS);
        if mddev.test_recovery(Recovery::Sync)
            && mddev.degraded() >= i32::from(self.geometry.parity_disks())
            && self.lacking_at(sector) >= self.geometry.parity_disks()
        {
            // Nothing is left to compare parity with. Before this sector there was: of a chunk of the bitmap that began there the
            // rest is still to be rebuilt.
            if !mddev.bitmap_is_lockless() {
                mddev.bitmap_end_sync(sector);
            }
            return Synced::Skipped(mddev.dev_sectors().saturating_sub(sector).max(1));
        }

        if sector == 0 {
            self.gaps.forget();
        }
        let lockless = mddev.lockless_chunk();
        if sector.checked_rem(lockless) == Some(0) {
            // Nowhere else: it takes the whole chunk for synced, and the rest of it would be passed over. And not once the sync of
            // this chunk has begun.
            mddev.bitmap_cond_end_sync(sector, false);
        }
        let (needed, known) = mddev.bitmap_start_sync(sector, true);
        let asked_for = mddev.test_recovery(Recovery::Requested);
        if !needed && !asked_for && !self.full_sync.load(Ordering::Relaxed) && known >= strip {
            return Synced::Skipped(known - known % strip);
        }
        if lockless == 0 {
            mddev.bitmap_cond_end_sync(sector, false);
        }

        // One span, and no further than where the bitmap's answer ends, the sync pauses, or the members end.
        let start = self.geometry.span_of(sector);
        let span_end = start.saturating_add(u64::from(self.geometry.span_sectors()));
        let first = sector.saturating_sub(start) / strip;
        let mut end = span_end
            .min(max_sector)
            .min(mddev.resync_max().max(sector + 1));
        if known >= strip {
            end = end.min(sector.saturating_add(known));
        }
        let behind = end.saturating_sub(start).div_ceil(strip).max(first + 1);
        // CAST: both are within a span.
        let strips = Strips::range(first as u32, (behind - first) as u32);
        let sectors = start.saturating_add(behind * strip).saturating_sub(sector);
        mddev.bitmap_start_sync(sector, self.keeps_bits());
        if lockless == 0 && self.gaps.are_before(sector, sector.saturating_add(known)) {
            // That has just begun to sync a chunk for which a unit before this one has said that it is not to count as synced.
            mddev.bitmap_end_sync(sector);
        }

        let check = self.only_checks();
        // Where parity is not trusted nothing is located. Where it is, md core's resync is a repair that goes on.
        let locate = self.settings.mismatch_method().locates(check);
        let replace = mddev.test_recovery(Recovery::Recover);
        let kind = PartKind::Sync {
            check,
            locate,
            replace,
        };
        let unit = Unit {
            sector,
            // CAST: a span's sectors at most.
            sectors: sectors as u32,
        };
        let item = Item::new(Part::new(kind, strips, 0, 0), Origin::Sync(unit));
        let key = SpanKey {
            sector: start,
            generation: self.generation,
        };
        self.regrow();
        let Ok(item) = self.items.wait_take(item, may_block) else {
            return Synced::Aborted;
        };
        let Some(pinned) = self.wait_find_span(key, may_block) else {
            return Synced::Aborted;
        };
        let span = pinned.span();
        if let Some(turn) = pinned.post(item, entry) {
            // One thread asks for all of it; where bios are ended or copied as they are sent, that would be the work of one CPU.
            match self.enough_of_much(strips.count()) {
                Some(enough) => give(span, turn, enough),
                None => run(span, turn),
            }
        }
        Synced::Started(unit.sectors)
    }

    /// Whether bits of the bitmap stay where a sync has been: not every member holds everything. One that is rebuilt may fail before
    /// that has ended, and another one come back by the bitmap that lacks what was rebuilt. [`Self::activate_spares`] clears them.
    fn keeps_bits(&self) -> bool {
        self.mddev.degraded() > 0 || self.stays_degraded()
    }

    /// Whether parity that does not match is only counted. Of an array that is not in sync md core makes a resync of a check, and
    /// takes all parity for right when that has ended.
    fn only_checks(&self) -> bool {
        self.mddev.test_recovery(Recovery::Check) && self.mddev.resync_offset() == MAX_SECTOR
    }

    /// A unit of a sync has ended; in the strips `failed` there were too few good blocks, in those of `unstored` one could not
    /// be written. Any context.
    pub(super) fn unit_done(&self, unit: Unit, failed: Strips, unstored: Strips) {
        let mddev = &*self.mddev;
        // With a member missing the chunk must not be spared should that one come back. A lockless bitmap sees to that by itself, and
        // takes this word for the end of the sync: all that follows would be gone through, for each unit.
        let may_be_spared = self.stays_degraded() && !mddev.bitmap_is_lockless();
        let undone = !(failed | unstored).is_empty();
        if undone {
            self.gaps.note(unit.sector);
        }
        if undone || may_be_spared {
            mddev.bitmap_end_sync(unit.sector);
        }
        mddev.done_sync(unit.sectors);
        if mddev.sb_needs_more_than_pending() {
            // A checkpoint, perhaps: md core's sync thread leaves it to whoever wakes the array's.
            mddev.wake_thread();
        }
    }

    /// Enters the gate, after waiting for the end of a quiesce. Sleeps.
    pub(super) fn wait_enter(&self, gate: &Gate<Array>, _may_block: &MayBlock) -> Entry<Array> {
        loop {
            match gate.enter() {
                Some(entry) => return entry,
                None => gate.wait_open(),
            }
        }
    }
}

/// Stops requests: those that come wait, and those that are under way end. `Gate::open` undoes it. Sleeps.
///
/// With `reconfig_mutex` held the array's thread cannot write the superblock, for which some span may wait; so this does it
/// instead.
pub(super) fn quiesce(gate: &Gate<Array>, locked: Option<&Locked<'_>>) {
    close(gate);
    while !gate.wait_empty_timeout(LOOK) {
        gate.help_recording(locked);
    }
    gate.bitmap.settle();
}

/// As [`quiesce`], for who would rather be refused than wait for a program that may wait for him: one that keeps the array's
/// metadata takes `reconfig_mutex` to say that it has recorded a failure.
///
/// # Errors
///
/// `EBUSY`: some span waits for that, and requests go on.
pub(super) fn try_quiesce(gate: &Gate<Array>, locked: &Locked<'_>) -> Result {
    close(gate);
    while !gate.wait_empty_timeout(LOOK) {
        if gate.waits_for_program() {
            gate.open();
            return Err(EBUSY);
        }
        gate.help_recording(Some(locked));
    }
    gate.bitmap.settle();
    Ok(())
}

/// Lets no request in any more, and no write wait for more to come.
fn close(gate: &Gate<Array>) {
    gate.close();
    for span in gate.table.slab().active() {
        if let Some(turn) = span.actor.post(Events::FLUSH) {
            run(span, turn);
        }
    }
}
