// SPDX-License-Identifier: GPL-2.0

//! Members that fail, and I/O that does.
//!
//! What must never happen is that a write is acknowledged which a failed member did not take, while after a crash the
//! array would be assembled with that member. So a failure is visible to those who skip the member no earlier than the
//! flags that hold acknowledgements back: both change under the device lock, and who acknowledges looks under it too.
//!
//! Locks: the device lock, in any context; before it, in the same contexts, where a flush has failed, that of what could not be
//! flushed.

use super::blocked::{hold_back, Noted};
use super::members::count_degraded;
use super::Array;
use crate::block::reserve::FailedFlushes;
use crate::md::mddev::{Flag as ArrayFlag, Handle, Mddev, Recovery, SbFlag};
use crate::md::rdev::{BadBlocks, Flag, Rdev};
use crate::md::slots::{Seat, Slot};
use crate::raid::strips::{Strips, STRIP_SECTORS};
use crate::ratelimited;
use crate::{md_crit, md_warn};
use core::sync::atomic::{AtomicU32, Ordering};

/// What it takes to take note of a member's failed I/O. Spans share it, so that a bio under way need not keep the array.
pub(super) struct Faults {
    mddev: Handle,
    parity_disks: u16,
    /// Read errors in a row that a member is forgiven if nobody has said how many: as many as there are strips in the cache.
    forgiven: AtomicU32,
    /// How many are recording bad blocks.
    recording: AtomicU32,
}

impl Array {
    /// Counts the members that are lost, and lets md core know. Any context.
    pub(super) fn update_degraded(&self) {
        let _guard = self.device.lock();
        self.mddev
            .set_degraded(i32::from(count_degraded(&self.slots)));
    }

    /// Whether more members are lost than parity makes up for, or were: md core lets nobody write from then on.
    pub(super) fn has_failed(&self) -> bool {
        self.mddev.test(ArrayFlag::Broken) || self.lacks_too_many()
    }

    /// Whether more members are lost than parity makes up for, now: dm-raid may bring some of them back. Any context.
    pub(super) fn lacks_too_many(&self) -> bool {
        self.mddev.degraded() > i32::from(self.geometry.parity_disks())
    }

    /// Fails a member: md core's error handler. Any context.
    pub(super) fn fail_member(&self, rdev: &Rdev) {
        let mddev = &*self.mddev;
        md_crit!(
            "md/raid:{}: Disk failure on {rdev}, disabling device.\n",
            mddev.name()
        );
        let relied_on;
        let degraded;
        let failed;
        {
            let _guard = self.device.lock();
            // First: no superblock that tells of the failure is to say that the array lacks these too.
            relied_on = self.rely_on_whole(rdev);
            rdev.set(Flag::Faulty);
            rdev.clear(Flag::InSync);
            degraded = count_degraded(&self.slots);
            mddev.set_degraded(i32::from(degraded));
            failed = self.has_failed();
            if failed {
                mddev.set(ArrayFlag::Broken);
            }
            rdev.set(Flag::Blocked);
            mddev.set_sb(&[SbFlag::Devs, SbFlag::Pending]);
        }
        mddev.set_recovery(Recovery::Interrupted);
        if relied_on > 0 {
            for seat in self.slots.iter().flat_map(Slot::seats) {
                seat.with(Rdev::notify_state);
            }
            md_warn!(
                "md/raid:{}: too many members have failed: devices that lack nothing but bad blocks are in sync now ({relied_on}).\n",
                mddev.name()
            );
        }
        let members = self.geometry.members();
        if failed {
            md_crit!(
                "md/raid:{}: Cannot continue operation ({degraded}/{members} failed).\n",
                mddev.name()
            );
        } else {
            md_crit!(
                "md/raid:{}: Operation continuing on {} devices.\n",
                mddev.name(),
                members.saturating_sub(degraded)
            );
        }
        // Of an array that has failed md core does not.
        have_recorded(mddev);
    }

    /// Takes note that some members could not flush their caches: they may lack what was acknowledged. They fail, as members
    /// do that do not take a write, if the array goes on without them: parity makes up for what they lack, once it is recorded that
    /// they have failed. Returns whether that is so. Any context.
    pub(super) fn flush_failed(&self, failed: &FailedFlushes) -> bool {
        let mddev = &*self.mddev;
        // One after the other: the second flush counts the members that have failed by the first one.
        let _guard = self.unflushed.lock();
        let fails = |rdev: &Rdev| {
            let mut members = failed.members();
            members.any(|member| core::ptr::eq(&*member, rdev))
        };
        // Of an array that is not to be written nothing is recorded.
        let goes_on = mddev.is_rdwr()
            && !self.has_failed()
            && self.lost_without(fails) <= self.geometry.parity_disks();
        if !goes_on {
            ratelimited!(md_warn!(
                "md/raid:{}: a flush has failed on members that the array needs.\n",
                mddev.name()
            ));
            return false;
        }
        for member in failed.members() {
            mddev.error(&member);
        }
        true
    }

    /// Whether every failure that somebody may have seen is recorded in the metadata, or none will be. Any context.
    pub(super) fn failures_recorded(&self) -> bool {
        let mddev = &*self.mddev;
        // What is recorded nowhere stays pending for md core: for ever, from the end of the first sync on.
        if self.closing.load(Ordering::Relaxed) || !mddev.is_rdwr() || !mddev.has_metadata() {
            return true;
        }
        let _guard = self.device.lock();
        self.faults.recording.load(Ordering::Acquire) == 0
            && !mddev.test_sb(SbFlag::Pending)
            && !self.slots.iter().any(|slot| {
                let is_blocked = |seat: &Seat| seat.with(Rdev::is_blocked) == Some(true);
                // In this order: see `Slot::seats()`.
                !slot.replacement().is_empty() && is_blocked(slot.replacement()) || is_blocked(slot)
            })
    }

    /// Takes note that a member's blocks of some strips of a span could not be rebuilt, and are not elsewhere in its slot: from a
    /// device that is being rebuilt there they cannot be read. Before md core may take their unit for done. Any context.
    pub(super) fn rebuild_failed(&self, slot: usize, span_sector: u64, strips: Strips) {
        for seat in self.slots.get(slot).into_iter().flat_map(Slot::seats) {
            let Some(member) = seat.take() else {
                continue;
            };
            if member.test(Flag::InSync) {
                continue;
            }
            for run in strips.runs() {
                let first = u64::from(run.first.wrapping_mul(STRIP_SECTORS));
                let start = span_sector.wrapping_add(first);
                let end = start.saturating_add(u64::from(run.count.wrapping_mul(STRIP_SECTORS)));
                // What it holds already was rebuilt before: this may be for the sake of the other one that has the slot.
                let start = start.max(self.synced_to(&member));
                // CAST: a span's sectors at most.
                let sectors = end.saturating_sub(start) as u32;
                if sectors != 0 && !self.faults.record_bad_blocks(&member, start, sectors) {
                    self.mddev.sync_error();
                }
            }
        }
    }
}

impl Faults {
    /// For an array with so many blocks of parity in a strip. Read errors are forgiven once [`Self::forgive`] has said how
    /// many.
    pub(super) fn new(mddev: Handle, parity_disks: u16) -> Self {
        Self {
            mddev,
            parity_disks,
            forgiven: AtomicU32::new(0),
            recording: AtomicU32::new(0),
        }
    }

    /// Forgives members so many read errors in a row.
    pub(super) fn forgive(&self, errors: u32) {
        self.forgiven.store(errors, Ordering::Relaxed);
    }

    /// Takes note that a write to a member has failed: its blocks are recorded as bad, or the member fails. Any context.
    pub(super) fn write_failed(&self, rdev: &Rdev, sector: u64, sectors: u32) {
        if is_beside_member(rdev) {
            // Nothing is lost with it but time, and it would be a bad member.
            self.mddev.error(rdev);
            return;
        }
        rdev.set(Flag::WriteErrorSeen);
        if !rdev.set(Flag::WantReplacement) {
            self.mddev.set_recovery(Recovery::Needed);
        }
        self.record_bad_blocks(rdev, sector, sectors);
    }

    /// Takes note that a read from a member has failed. Any context.
    ///
    /// The block is computed from the others' and written again if enough of them are there; the member fails when that
    /// happens too often. Otherwise the block is lost, and recorded as bad. `counts`: the error says something about the
    /// medium.
    pub(super) fn read_failed(&self, rdev: &Rdev, sector: u64, sectors: u32, counts: bool) {
        let limit = self.mddev.max_read_errors();
        if counts && limit.is_some() {
            rdev.decay_read_errors();
        }
        let errors = if counts { rdev.add_read_error() } else { 0 };
        let name = self.mddev.name();
        let at = sector.wrapping_add(rdev.data_offset());
        let forgiven = self.forgiven.load(Ordering::Relaxed);
        let most = limit.unwrap_or(i32::try_from(forgiven).unwrap_or(i32::MAX));
        if rdev.test(Flag::Replacement) {
            // Its member has the block, as a rule.
            ratelimited!(md_warn!(
                "md/raid:{name}: read error on replacement device (sector {at} on {rdev}).\n"
            ));
            self.record_bad_blocks(rdev, sector, sectors);
        } else if self.mddev.degraded() >= i32::from(self.parity_disks) {
            ratelimited!(md_warn!(
                "md/raid:{name}: read error not correctable (sector {at} on {rdev}).\n"
            ));
            if rdev.test(Flag::InSync) {
                self.record_bad_blocks(rdev, sector, sectors);
            }
        } else if errors > most && !rdev.test(Flag::Faulty) {
            match limit {
                Some(_) => {
                    md_warn!("md/raid:{name}: {errors} read_errors > max_read_errors {most}\n")
                }
                None => md_warn!("md/raid:{name}: {errors} read_errors > {forgiven} stripes\n"),
            }
            md_warn!("md/raid:{name}: Too many read errors, failing device {rdev}.\n");
            self.mddev.error(rdev);
        }
    }

    /// Takes note that a read from a member was good. Where nobody has said how many errors are too many, only those in a row
    /// count. Any context.
    pub(super) fn read_succeeded(&self, rdev: &Rdev) {
        if rdev.read_errors() != 0 && self.mddev.max_read_errors().is_none() {
            rdev.reset_read_errors();
        }
    }

    /// Takes note that a block which could not be read was written again, and cannot be read still: it is bad, or the device fails as if
    /// it had not taken the write. Any context.
    pub(super) fn rewrite_failed(&self, rdev: &Rdev, sector: u64, sectors: u32) {
        rdev.add_read_error();
        let at = sector.wrapping_add(rdev.data_offset());
        ratelimited!(md_warn!(
            "md/raid:{}: read error NOT corrected!! (sector {at} on {rdev}).\n",
            self.mddev.name()
        ));
        if is_beside_member(rdev) {
            self.mddev.error(rdev);
        } else {
            self.record_bad_blocks(rdev, sector, sectors);
        }
    }

    /// Takes blocks that were written off a device's record of bad ones. Any context.
    pub(super) fn written(&self, rdev: &Rdev, sector: u64, sectors: u32) {
        if rdev.bad_blocks(sector, sectors) == BadBlocks::None {
            return;
        }
        rdev.clear_bad_blocks(sector, sectors);
        if self.mddev.is_external() {
            // Whoever keeps the metadata may not have taken note of them, and finds them gone when he looks.
            hold_back(rdev);
            self.mddev.wake_thread();
        }
    }

    /// Records blocks as bad; if that cannot be done, md core fails the member. Returns whether it could.
    fn record_bad_blocks(&self, rdev: &Rdev, sector: u64, sectors: u32) -> bool {
        // From here on others may skip these blocks; none of them acknowledges before md core has raised its flag.
        self.recording.fetch_add(1, Ordering::AcqRel);
        let recorded = rdev.set_bad_blocks(sector, sectors);
        if self.mddev.is_external() {
            // Nobody else holds acknowledgements back until whoever keeps the metadata has taken note.
            hold_back(rdev);
        }
        self.recording.fetch_sub(1, Ordering::AcqRel);
        have_recorded(&self.mddev);
        recorded
    }
}

/// Has the array's thread see to what has become pending. Any context.
///
/// Nothing is recorded of an array that is not to be written, and the thread takes back that something is pending; who makes the array
/// read-only waits for that. But it looks only if it is told that something may have to be done.
fn have_recorded(mddev: &Mddev) {
    if !mddev.is_rdwr() {
        mddev.set_recovery(Recovery::Needed);
    }
    mddev.wake_thread();
}

/// Whether a device is to replace a member that holds more than it. (One that is in sync is the member, whose forerunner has failed
/// and is still to be taken out: nobody else holds all of it.)
fn is_beside_member(rdev: &Rdev) -> bool {
    rdev.test(Flag::Replacement) && !rdev.test(Flag::InSync)
}

impl Noted for Rdev {
    fn raise(&self) {
        self.set(Flag::BlockedBadBlocks);
    }

    fn lower(&self) {
        self.clear(Flag::BlockedBadBlocks);
    }

    fn is_unnoted(&self) -> bool {
        self.has_unrecorded_blocks()
    }
}
