// SPDX-License-Identifier: GPL-2.0

//! Members that come and go, and what of a member can be read and written.

use super::Array;
use crate::md::mddev::{Locked, MAX_SECTOR};
use crate::md::rdev::{BadBlocks, Flag, Rdev};
use crate::md::slots::{Added, Slots};
use crate::raid::strips::{Strips, STRIP_SECTORS};
use core::sync::atomic::Ordering;
use kernel::prelude::*;

impl Array {
    /// The strips of the span at `sector` that a member can be read at: it is in sync there and knows of no bad block.
    pub(super) fn readable(&self, member: usize, sector: u64) -> Strips {
        let all = self.geometry.all_strips();
        self.look_at(member, |rdev| {
            let mut strips = all;
            if !rdev.test(Flag::InSync) {
                let synced =
                    rdev.recovery_offset().saturating_sub(sector) / u64::from(STRIP_SECTORS);
                strips &= Strips::first_n(u32::try_from(synced).unwrap_or(u32::MAX));
            }
            strips - self.bad_strips(rdev, sector)
        })
    }

    /// The strips of the span at `sector` that a member can be written at: it is there, and has not refused them before.
    pub(super) fn writable(&self, member: usize, sector: u64) -> Strips {
        if !self.mddev.is_rdwr() {
            // A block that could not be read is not mended then.
            return Strips::NONE;
        }
        let all = self.geometry.all_strips();
        self.look_at(member, |rdev| {
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
            || rdev.recovery_offset() >= sector.saturating_add(u64::from(sectors));
        synced && rdev.bad_blocks(sector, sectors) == BadBlocks::None
    }

    fn look_at(&self, member: usize, look: impl FnOnce(&Rdev) -> Strips) -> Strips {
        let Some(slot) = self.slots.get(member) else {
            return Strips::NONE;
        };
        let strips = slot.with(|rdev| {
            if rdev.test(Flag::Faulty) {
                Strips::NONE
            } else {
                look(rdev)
            }
        });
        strips.unwrap_or(Strips::NONE)
    }

    /// The strips of the span at `sector` in which a member has bad blocks.
    fn bad_strips(&self, rdev: &Rdev, sector: u64) -> Strips {
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

    /// Gives a spare a slot: the one that it had before, or the first that is empty.
    ///
    /// # Errors
    ///
    /// `EINVAL`: a journal is not supported, or too many members are lost for a new one to help. `EEXIST`: no slot that it
    /// may have is empty; replacing a member that is there is not supported.
    pub(super) fn add_member(&self, added: Added<'_>) -> Result {
        if added.test(Flag::Journal) {
            pr_warn!(
                "md/raid:{}: a journal is not supported.\n",
                self.mddev.name()
            );
            return Err(EINVAL);
        }
        if added.saved_raid_disk() < 0 && self.has_failed() {
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
        let slot = slot
            .and_then(|slot| u16::try_from(slot).ok())
            .ok_or(EEXIST)?;

        added.clear(Flag::InSync);
        added.set_raid_disk(slot);
        if added.saved_raid_disk() != i32::from(slot) {
            self.full_sync.store(true, Ordering::Relaxed);
        }
        self.slots.add(usize::from(slot), added)
    }

    /// Takes a member out of its slot. Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it is in use, or has not failed and could still be brought in sync.
    pub(super) fn remove_member(&self, rdev: &Rdev) -> Result {
        let slot = usize::try_from(rdev.raid_disk())
            .ok()
            .and_then(|slot| self.slots.get(slot));
        if !slot.is_some_and(|slot| slot.holds(rdev)) {
            return Ok(());
        }
        if rdev.test(Flag::InSync)
            || rdev.pending() != 0
            || !rdev.test(Flag::Faulty) && !self.has_failed()
        {
            return Err(EBUSY);
        }
        self.slots.remove(rdev)?;
        rdev.clear(Flag::WantReplacement);
        Ok(())
    }

    /// Makes members that have been rebuilt full ones. Returns how many.
    pub(super) fn activate_spares(&self) -> u32 {
        let mut count = 0;
        for slot in self.slots.iter() {
            // Notifying does not sleep, so it may be done while the slot is looked at.
            let activated = slot.with(|rdev| {
                let activated = {
                    // A member that fails meanwhile is not to be in sync after that.
                    let _guard = self.device.lock();
                    let ready = rdev.recovery_offset() == MAX_SECTOR && !rdev.test(Flag::Faulty);
                    ready && !rdev.set(Flag::InSync)
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
        count
    }

    /// How many members lack what they should hold at a sector: with as many as there are parities, or more, there is
    /// nothing to compare there.
    pub(super) fn lacking_at(&self, sector: u64) -> u16 {
        let holds = |rdev: &Rdev| {
            !rdev.test(Flag::Faulty) && (rdev.test(Flag::InSync) || rdev.recovery_offset() > sector)
        };
        let lacking = self
            .slots
            .iter()
            .filter(|slot| slot.with(holds) != Some(true));
        u16::try_from(lacking.count()).unwrap_or(u16::MAX)
    }

    /// Whether some slot is empty or its member has failed: a sync cannot make every member right.
    pub(super) fn stays_degraded(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.with(|rdev| !rdev.test(Flag::Faulty)) != Some(true))
    }
}

/// Puts the members of an array that starts into their slots. Returns whether one of them lacks more than the bitmap knows.
///
/// # Errors
///
/// `EIO`: two devices have one slot.
pub(super) fn take(mddev: &Locked<'_>, slots: &Slots) -> Result<bool> {
    let name = mddev.name();
    let mut full_sync = false;
    for rdev in mddev.rdevs() {
        let Some(slot) = usize::try_from(rdev.raid_disk())
            .ok()
            .filter(|slot| *slot < slots.len())
        else {
            continue;
        };
        let Some(added) = mddev.added(rdev) else {
            continue;
        };
        if slots.add(slot, added).is_err() {
            pr_warn!("md/raid:{name}: {rdev} has slot {slot}, which another device has already.\n");
            return Err(EIO);
        }
        if rdev.test(Flag::InSync) {
            pr_info!("md/raid:{name}: device {rdev} operational as raid disk {slot}\n");
        } else if usize::try_from(rdev.saved_raid_disk()) != Ok(slot) {
            full_sync = true;
        }
    }
    Ok(full_sync)
}

/// Counts the members that are lost: missing, failed or not in sync.
pub(super) fn count_degraded(slots: &Slots) -> u16 {
    let lost = slots.iter().filter(|slot| {
        slot.with(|rdev| !rdev.test(Flag::Faulty) && rdev.test(Flag::InSync)) != Some(true)
    });
    // CAST: there are no more members than a u16 counts.
    lost.count() as u16
}
