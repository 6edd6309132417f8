// SPDX-License-Identifier: GPL-2.0

//! Members that come and go, and what of a member can be read and written.

use super::retry::{Lacking, Retry, Verdict};
use super::Array;
use crate::md::mddev::{Locked, SbFlag, Starting, MAX_SECTOR};
use crate::md::rdev::{BadBlocks, Flag, Rdev};
use crate::md::slots::{Candidate, Member, Seat, Slot, Slots, Vacancy};
use crate::raid::job::Replacement;
use crate::raid::strips::{Strips, STRIP_SECTORS};
use crate::{md_info, md_warn};
use core::ops::Range;
use core::sync::atomic::Ordering;
use kernel::prelude::*;

impl Array {
    /// The strips of the span at `sector` that a member, or its replacement, can be read at: it is in sync there and knows of
    /// no bad block.
    pub(super) fn readable(&self, member: usize, sector: u64) -> Strips {
        let Some(slot) = self.slots.get(member) else {
            return Strips::NONE;
        };
        let held = |seat: &Seat| look_at(seat, |rdev| self.held(rdev, sector));
        // The replacement first: it may be on its way to the member's place, see `Slots::remove()`.
        let copied = if slot.replacement().is_empty() {
            Strips::NONE
        } else {
            held(slot.replacement())
        };
        copied | held(slot)
    }

    /// The strips of the span at `sector` that a member can be written at: it is there, and has not refused them before.
    pub(super) fn writable(&self, member: usize, sector: u64) -> Strips {
        let slot = self.slots.get(member);
        slot.map_or(Strips::NONE, |slot| self.taken(slot, sector))
    }

    /// What can be read and written at the span at `sector` of the device that is to replace a member, if there is one.
    pub(super) fn replacement(&self, member: usize, sector: u64) -> Option<Replacement> {
        let seat = self.slots.get(member)?.replacement();
        if seat.is_empty() {
            return None;
        }
        let holds = look_at(seat, |rdev| {
            let held = self.held(rdev, sector);
            if rdev.test(Flag::InSync) {
                held
            } else {
                held & self.strips_below(sector, rdev.recovery_offset())
            }
        });
        let takes = self.taken(seat, sector);
        Some(Replacement { takes, holds })
    }

    /// The device to read a range of a member's sectors from: its replacement, if that holds them, or the member.
    pub(super) fn reader(&self, slot: &Slot, sector: u64, sectors: u32) -> Option<Member> {
        let holds = |seat: &Seat| {
            let device = seat.take();
            device.filter(|device| self.holds(device, sector, sectors))
        };
        if !slot.replacement().is_empty() {
            if let Some(replacement) = holds(slot.replacement()) {
                return Some(replacement);
            }
        }
        holds(slot)
    }

    /// Whether members complete their bios later than they are submitted, by an interrupt: as the first one does that is there.
    /// Any context.
    pub(super) fn members_end_later(&self) -> bool {
        let mut found = self
            .slots
            .iter()
            .filter_map(|slot| slot.with(Rdev::is_synchronous));
        found.next() == Some(false)
    }

    /// The strips of the span at `sector` that a device holds.
    fn held(&self, rdev: &Rdev, sector: u64) -> Strips {
        let mut strips = self.geometry.all_strips();
        if !rdev.test(Flag::InSync) {
            strips &= self.strips_below(sector, self.synced_to(rdev));
        }
        strips - self.bad_strips(rdev, sector)
    }

    /// The strips of the span at `sector` that end at or below `end`.
    pub(super) fn strips_below(&self, sector: u64, end: u64) -> Strips {
        let strips = end.saturating_sub(sector) / u64::from(STRIP_SECTORS);
        let below = Strips::first_n(u32::try_from(strips).unwrap_or(u32::MAX));
        below & self.geometry.all_strips()
    }

    /// Below which sector a device of a slot that is not in sync holds everything but its bad blocks. What the metadata says of one that
    /// gets some blocks once more is less: see [`super::retry`]. Any context.
    pub(super) fn synced_to(&self, rdev: &Rdev) -> u64 {
        // In this order: see `Retry::keep_whole()`.
        let synced = rdev.recovery_offset();
        let slot = usize::try_from(rdev.raid_disk()).ok();
        let retry = slot.and_then(|slot| self.retries.get(slot));
        synced.max(retry.map_or(0, |retry| retry.held_to(address(rdev))))
    }

    /// Whether a device has not failed and holds everything but its bad blocks, whatever the metadata says. Any context.
    fn is_whole(&self, rdev: &Rdev) -> bool {
        !rdev.test(Flag::Faulty) && (rdev.test(Flag::InSync) || self.synced_to(rdev) == MAX_SECTOR)
    }

    /// How many members would be lost if those had failed that are to `go`: who is whole can be relied on, see
    /// [`Self::rely_on_whole`]. Any context.
    pub(super) fn lost_without(&self, go: impl Fn(&Rdev) -> bool) -> u16 {
        count_without(&self.slots, |rdev| !go(rdev) && self.is_whole(rdev))
    }

    /// A device is about to fail. If more members were lost then than parity makes up for, those that lack nothing but bad blocks, and of
    /// which the metadata says less, are in sync from now on: nobody is left to give them these blocks. Returns how many there are. For
    /// whoever has the device lock.
    pub(super) fn rely_on_whole(&self, fails: &Rdev) -> u32 {
        let stays = |rdev: &Rdev| !core::ptr::eq(rdev, fails);
        let remains = |rdev: &Rdev| stays(rdev) && counts(rdev);
        if count_without(&self.slots, remains) <= self.geometry.parity_disks() {
            return 0;
        }
        let relied_on = |rdev: &Rdev| stays(rdev) && self.is_whole(rdev) && !rdev.set(Flag::InSync);
        let mut count = 0;
        for slot in self.slots.iter().filter(|slot| has_none(slot, remains)) {
            for seat in slot.seats() {
                count += u32::from(seat.with(relied_on) == Some(true));
            }
        }
        count
    }

    /// The strips of the span at `sector` that a device can be written at.
    fn taken(&self, seat: &Seat, sector: u64) -> Strips {
        if !self.mddev.is_rdwr() {
            // A block that could not be read is not mended then.
            return Strips::NONE;
        }
        let all = self.geometry.all_strips();
        look_at(seat, |rdev| {
            if rdev.test(Flag::WriteErrorSeen) {
                all - self.bad_strips(rdev, sector)
            } else {
                all
            }
        })
    }

    /// Whether one member holds all of a range of its sectors for certain, so that it can be read without a span.
    pub(super) fn holds(&self, rdev: &Rdev, sector: u64, sectors: u32) -> bool {
        let synced = rdev.test(Flag::InSync)
            || self.synced_to(rdev) >= sector.saturating_add(u64::from(sectors));
        synced && rdev.bad_blocks(sector, sectors) == BadBlocks::None
    }

    /// The strips of the span at `sector` in which a member has bad blocks.
    pub(super) fn bad_strips(&self, rdev: &Rdev, sector: u64) -> Strips {
        if rdev.bad_blocks(sector, self.geometry.span_sectors()) == BadBlocks::None {
            return Strips::NONE;
        }
        let bad = |strip: &u32| {
            let at = sector.wrapping_add(u64::from(strip.wrapping_mul(STRIP_SECTORS)));
            rdev.bad_blocks(at, STRIP_SECTORS) != BadBlocks::None
        };
        self.geometry
            .all_strips()
            .iter()
            .filter(bad)
            .fold(Strips::NONE, |strips, strip| strips | Strips::one(strip))
    }

    /// Finds a slot for a spare: the one that it had before, or the first that is empty, or that of a member that is to be
    /// replaced.
    ///
    /// # Errors
    ///
    /// `EINVAL`: a journal is not supported, or too many members are lost for a new one to help. `EEXIST`: there is no slot
    /// for it.
    pub(super) fn add_member(&self, added: Candidate<'_>) -> Result<Vacancy> {
        if added.test(Flag::Journal) {
            md_warn!(
                "md/raid:{}: a journal is not supported.\n",
                self.mddev.name()
            );
            return Err(EINVAL);
        }
        // Of an array that has failed nothing can be rebuilt. md core has just taken out a device that was being rebuilt, too: given
        // its slot again it would be in sync soon, without the data, instead of the member that has failed last.
        let comes_back =
            added.saved_raid_disk() >= 0 && (self.mddev.is_dm() || added.test(Flag::BitmapSync));
        if !comes_back && self.has_failed() {
            return Err(EINVAL);
        }
        let members = i32::from(self.geometry.members());
        let allowed = match added.raid_disk() {
            slot if slot >= 0 => slot..slot.saturating_add(1).min(members),
            _ => 0..members,
        };
        let is_free = |slot: &i32| {
            let slot = usize::try_from(*slot)
                .ok()
                .and_then(|slot| self.slots.get(slot));
            slot.is_some_and(|slot| slot.is_empty())
        };
        let saved = Some(added.saved_raid_disk()).filter(|slot| allowed.contains(slot));
        let slot = saved
            .filter(is_free)
            .or_else(|| allowed.clone().find(is_free));
        let Some(slot) = slot.and_then(|slot| u16::try_from(slot).ok()) else {
            return self.add_replacement(added, allowed);
        };

        if let Some(retry) = self.retries.get(usize::from(slot)) {
            retry.comes(address(&added));
        }
        added.clear(Flag::InSync);
        let is_new = added.saved_raid_disk() != i32::from(slot) || self.bitmap_lacks_rebuilt();
        // dm-raid says so only after this, and who gives it a slot by hand need not say anything: then what it was before
        // it failed means nothing.
        if self.mddev.is_dm() || is_new && added.recovery_offset() == MAX_SECTOR {
            added.set_recovery_offset(0);
        }
        added.set_raid_disk(slot);
        if is_new {
            self.full_sync.store(true, Ordering::Relaxed);
        }
        if self.full_sync.load(Ordering::Relaxed) {
            // The superblock is not to say that the bitmap tells what it lacks, when the array is stopped before all is rebuilt:
            // it may be a spare that has failed half rebuilt, and that md core takes for an old member.
            added.forget_saved_raid_disk();
        }
        Ok(Vacancy::Member(usize::from(slot)))
    }

    /// Whether a member that was away since before a new one was rebuilt could come back, although the bitmap has forgotten what it
    /// lacks: that rebuild has cleared it. md core turns such a member away once it knows that none was missing since then, see
    /// [`Self::activate_spares`]; with a lockless bitmap it never knows.
    fn bitmap_lacks_rebuilt(&self) -> bool {
        self.rebuilt.load(Ordering::Relaxed) && self.mddev.bitmap_is_lockless()
    }

    /// Has a spare replace the first member that is to be replaced and has a slot among `allowed`.
    fn add_replacement(&self, added: Candidate<'_>, allowed: Range<i32>) -> Result<Vacancy> {
        let waits = |slot: &Slot| {
            let wanted = slot.with(|rdev| rdev.test(Flag::WantReplacement));
            wanted == Some(true) && slot.replacement().is_empty()
        };
        let mut slots = (0_u16..).zip(self.slots.iter());
        let found =
            slots.find(|(number, slot)| allowed.contains(&i32::from(*number)) && waits(slot));
        // The bitmap knows what a member lacks that has been away. It does not once the array goes on whole, with another one in its slot:
        // should it be needed later it lacks everything.
        added.forget_saved_raid_disk();
        let (number, _) = found.ok_or(EEXIST)?;
        added.clear(Flag::InSync);
        added.set(Flag::Replacement);
        if added.recovery_offset() == MAX_SECTOR {
            // As above.
            added.set_recovery_offset(0);
        }
        added.set_raid_disk(number);
        if let Some(retry) = self.retries.get(usize::from(number)) {
            retry.forget();
            retry.comes(address(&added));
        }
        self.full_sync.store(true, Ordering::Relaxed);
        Ok(Vacancy::Replacement(usize::from(number)))
    }

    /// Takes a member, or a replacement of one, out of its slot. A replacement takes the place of its member. Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it is in use, or has not failed and could still be brought in sync, or holds everything as it is.
    pub(super) fn remove_member(&self, locked: &Locked<'_>, rdev: &Rdev) -> Result {
        let slot = usize::try_from(rdev.raid_disk())
            .ok()
            .and_then(|slot| self.slots.get(slot));
        if !slot.is_some_and(|slot| slot.seats().iter().any(|seat| seat.holds(rdev))) {
            // Its replacement has its place, perhaps, and it was still in use then.
            if rdev.pending() != 0 {
                return Err(EBUSY);
            }
            rdev.clear(Flag::WantReplacement);
            rdev.set_recovery_offset(0);
            return Ok(());
        }
        // Where parity is made late md core's flag is off one member that lacks nothing, and it is off one that gets its bad blocks once more:
        // were it taken out of an array that has failed it would be one more that is lost.
        if rdev.test(Flag::InSync)
            || rdev.pending() != 0
            || !rdev.test(Flag::Faulty) && (!self.has_failed() || self.is_whole(rdev))
        {
            return Err(EBUSY);
        }
        self.slots.remove(locked, rdev)?;
        rdev.clear(Flag::WantReplacement);
        Ok(())
    }

    /// Makes members that have been rebuilt full ones. Returns how many. md core writes the superblock next. Sleeps.
    pub(super) fn activate_spares(&self, locked: &Locked<'_>) -> u32 {
        let mut count = 0;
        for (slot, retry) in self.slots.iter().zip(self.retries.iter()) {
            if !slot.replacement().is_empty() && self.has_all(slot, retry) {
                count += u32::from(self.activate_replacement(slot));
            }
            for seat in slot.seats() {
                // One was relied on, perhaps, and lacks nothing, as in `take()`. Here is early enough: before the array knows of no member
                // that is missing, and it knows that from here, a lockless bitmap has no parity made late.
                seat.with(|rdev| {
                    if rdev.test(Flag::InSync) {
                        rdev.set_recovery_offset(MAX_SECTOR);
                    }
                });
            }
            // Notifying does not sleep, so it may be done while the slot is looked at.
            let activated = slot.with(|rdev| {
                let activated = {
                    // A member that fails meanwhile is not to be in sync after that.
                    let _guard = self.device.lock();
                    is_rebuilt(rdev) && !rdev.set(Flag::InSync)
                };
                if activated {
                    rdev.notify_state();
                }
                activated
            });
            if activated == Some(true) {
                count += 1;
            }
        }
        self.update_degraded();
        if count > 0 && locked.bitmap_enabled() {
            // The bitmap waits while a chunk has more writes than it counts. None of these is to wait for this thread.
            if !self.failures_recorded() {
                locked.update_sb();
            }
            self.wake_recorded();
        }
        if count > 0 && locked.bitmap_is_whole() {
            // Nothing is cleared on the members behind a bit that waits to be flushed.
            self.bitmap.flush_all(locked);
            if !self.gaps.are_left() {
                // What members that were away lack is not asked for any more. Otherwise the next sync sees to it: to find what could
                // not be done, should that member come back, its bits have to stay.
                locked.bitmap_all_synced();
            }
        }
        count
    }

    /// Whether a replacement, if it has got everything, can be read wherever its member can. If it cannot, md core has a sync go over
    /// it once more.
    fn has_all(&self, slot: &Slot, retry: &Retry) -> bool {
        let (Some(new), Some(old)) = (slot.replacement().take(), slot.take()) else {
            return true;
        };
        if !is_rebuilt(&new) || new.test(Flag::InSync) {
            return true;
        }
        let (new, old) = (&*new, &*old);
        let lacking = self.lacking(new, old);
        match retry.judge(&lacking) {
            Verdict::Ready => return true,
            Verdict::Again(sector) => {
                let again = {
                    // Whoever fails the member finds that this one still counts, or is whole: see `rely_on_whole()`.
                    let _guard = self.device.lock();
                    let again = !old.test(Flag::Faulty);
                    if again {
                        retry.keep_whole(address(new));
                        new.set_recovery_offset(sector);
                    }
                    again
                };
                if !again {
                    // Nobody has any more what it lacks.
                    return true;
                }
                let (mddev, blocks) = (&*self.mddev, lacking.count());
                md_warn!(
                    "md/raid:{}: {new} cannot be read in {blocks} places where {old} can, which it replaces: it is written again from sector {sector} on.\n",
                    mddev.name()
                );
                // The bitmap knows nothing of that. And md core, which is about to write the superblocks, takes what the last sync
                // has come to for what the device holds.
                self.full_sync.store(true, Ordering::Relaxed);
                mddev.set_curr_resync_completed(0);
            }
            Verdict::Unfit => self.mddev.error(new),
        }
        false
    }

    /// What a replacement cannot be read at, and its member can, as far as is known.
    fn lacking(&self, new: &Rdev, old: &Rdev) -> Lacking {
        let mut lacking = Lacking::default();
        let (mut at, end) = (0, self.mddev.dev_sectors());
        while let Some(bad) = new.next_bad_blocks(at, end) {
            at = bad.start - bad.start % u64::from(STRIP_SECTORS);
            while at < bad.end {
                if self.holds(old, at, STRIP_SECTORS) {
                    lacking.add(at);
                }
                at = at.saturating_add(STRIP_SECTORS.into());
            }
        }
        lacking
    }

    /// Makes a replacement that has got everything a full member, and has its member go. Returns whether there is one more
    /// member in sync.
    ///
    /// The member has not failed, but does not get writes from now on: none is acknowledged until the metadata says that it is no
    /// member any more. A crash would bring it back otherwise, with old content.
    fn activate_replacement(&self, slot: &Slot) -> bool {
        let (mut activated, mut is_more) = (false, true);
        {
            let _guard = self.device.lock();
            slot.replacement().with(|rdev| {
                activated = is_rebuilt(rdev) && !rdev.set(Flag::InSync);
            });
            if !activated {
                return false;
            }
            slot.with(|rdev| {
                is_more = !rdev.clear(Flag::InSync);
                if !rdev.set(Flag::Faulty) {
                    rdev.set(Flag::Blocked);
                }
            });
            self.mddev.set_sb(&[SbFlag::Devs, SbFlag::Pending]);
        }
        for seat in slot.seats() {
            seat.with(Rdev::notify_state);
        }
        is_more
    }

    /// How many members lack what they should hold at a sector: with as many as there are parities, or more, there is
    /// nothing to compare there.
    pub(super) fn lacking_at(&self, sector: u64) -> u16 {
        let holds = |rdev: &Rdev| {
            !rdev.test(Flag::Faulty) && (rdev.test(Flag::InSync) || self.synced_to(rdev) > sector)
        };
        let lacking = self.slots.iter().filter(|slot| {
            slot.seats()
                .iter()
                .all(|seat| seat.with(holds) != Some(true))
        });
        u16::try_from(lacking.count()).unwrap_or(u16::MAX)
    }

    /// Whether some slot is empty or its member has failed: a sync cannot make every member right.
    pub(super) fn stays_degraded(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.with(|rdev| !rdev.test(Flag::Faulty)) != Some(true))
    }
}

/// What `look` says of a device; none if there is none, or it has failed.
fn look_at(seat: &Seat, look: impl FnOnce(&Rdev) -> Strips) -> Strips {
    let strips = seat.with(|rdev| {
        if rdev.test(Flag::Faulty) {
            Strips::NONE
        } else {
            look(rdev)
        }
    });
    strips.unwrap_or(Strips::NONE)
}

/// Where a device is in memory, to tell it from others.
fn address(rdev: &Rdev) -> usize {
    rdev.as_ptr() as usize
}

/// Whether a device has got everything that it lacked.
fn is_rebuilt(rdev: &Rdev) -> bool {
    rdev.recovery_offset() == MAX_SECTOR && !rdev.test(Flag::Faulty)
}

/// Whether a device without a slot is one that dm-raid is to rebuild. LVM begins so when it adds members, and does not undo what it does
/// next if the reshape that it asks for then is refused. One that a reshape has left over, and LVM has not taken away yet, is not new.
fn is_one_more(mddev: &Starting<'_>, rdev: &Rdev) -> bool {
    let is_new = !rdev.test(Flag::InSync) && rdev.recovery_offset() == 0;
    // dm-raid sets the flag when it finds somebody new.
    mddev.is_dm() && is_new && mddev.test_sb(SbFlag::Devs)
}

/// Puts the members of an array that starts into their slots, and those that are to replace some of them. Returns whether one of them lacks more than the bitmap knows.
///
/// # Errors
///
/// `EIO`: two devices have one slot. `EINVAL`: dm-raid is to rebuild one more member than there are.
pub(super) fn take(mddev: &Starting<'_>, slots: &Slots) -> Result<bool> {
    let name = mddev.name();
    let mut full_sync = false;
    for rdev in mddev.rdevs() {
        let number = usize::try_from(rdev.raid_disk()).ok();
        let Some(slot) = number.filter(|slot| *slot < slots.len()) else {
            if number.is_some() && is_one_more(mddev, rdev) {
                md_warn!(
                    "md/raid:{name}: no slot for {rdev}: reshaping is not supported - aborting.\n"
                );
                return Err(EINVAL);
            }
            continue;
        };
        let Some(added) = mddev.added(rdev) else {
            continue;
        };
        if rdev.test(Flag::InSync) {
            // So that it is known to lack nothing when a lockless bitmap has it not be in sync, to make parity late.
            added.set_recovery_offset(MAX_SECTOR);
        }
        // The C driver leaves others, after a sync that was interrupted before its first stripe.
        rdev.round_recovery_offset(u64::from(STRIP_SECTORS));
        let added = if rdev.test(Flag::Replacement) {
            // Whatever its superblock says: of one that had been a member the C module records that it lacks no more than the
            // bitmap tells.
            added.forget_saved_raid_disk();
            if mddev.resync_offset() != MAX_SECTOR && !rdev.test(Flag::InSync) {
                // Writes may have got to one of the two alone, and nobody compares them.
                md_info!("md/raid:{name}: {rdev} replaces a member from the start again, as the array is not clean\n");
                added.set_recovery_offset(0);
            }
            slots.add_replacement(mddev, slot, added)
        } else {
            slots.add(mddev, slot, added)
        };
        if added.is_err() {
            md_warn!("md/raid:{name}: {rdev} has slot {slot}, which another device has already.\n");
            return Err(EIO);
        }
        if rdev.test(Flag::InSync) {
            md_info!("md/raid:{name}: device {rdev} operational as raid disk {slot}\n");
        } else if usize::try_from(rdev.saved_raid_disk()) != Ok(slot) {
            full_sync = true;
        }
    }
    slots.promote_alone(mddev)?;
    Ok(full_sync)
}

/// Counts the members that are lost: missing, failed or not in sync.
///
/// While parity is made late, as a lockless bitmap wants it, one member is not in sync that lacks nothing: it is not lost.
pub(super) fn count_degraded(slots: &Slots) -> u16 {
    count_without(slots, counts)
}

/// Whether nobody in this slot holds all that its member should.
pub(super) fn is_lost(slot: &Slot) -> bool {
    has_none(slot, counts)
}

/// Whether a device holds all that its member should, and the metadata says so or soon will.
fn counts(rdev: &Rdev) -> bool {
    !rdev.test(Flag::Faulty) && (rdev.test(Flag::InSync) || is_rebuilt(rdev))
}

/// Counts the slots without such a device.
fn count_without(slots: &Slots, is_such: impl Fn(&Rdev) -> bool) -> u16 {
    let lost = slots.iter().filter(|slot| has_none(slot, &is_such));
    // CAST: there are no more members than a u16 counts.
    lost.count() as u16
}

/// Whether a slot has no such device.
fn has_none(slot: &Slot, is_such: impl Fn(&Rdev) -> bool) -> bool {
    let found = |seat: &&Seat| seat.with(&is_such) == Some(true);
    !slot.seats().iter().any(found)
}
