// SPDX-License-Identifier: GPL-2.0

//! A device of an array as md core knows it: `struct md_rdev`.

use super::mddev::{is_set, Mddev, MAX_SECTOR};
use crate::bindings;
use core::ops::Range;
use kernel::fmt;
use kernel::prelude::*;
use kernel::types::Opaque;

/// States of a device that md core knows by a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Flag {
    /// It has failed.
    Faulty = bindings::flag_bits_Faulty,
    /// All of it is in sync with the array.
    InSync = bindings::flag_bits_In_sync,
    /// Writes must not be acknowledged until its failure is recorded.
    Blocked = bindings::flag_bits_Blocked,
    /// A write to it has failed; from then on writes look for bad blocks.
    WriteErrorSeen = bindings::flag_bits_WriteErrorSeen,
    /// A write waits until a bad block is recorded.
    BlockedBadBlocks = bindings::flag_bits_BlockedBadBlocks,
    /// It should be replaced.
    WantReplacement = bindings::flag_bits_WantReplacement,
    /// It replaces the device that has the same slot.
    Replacement = bindings::flag_bits_Replacement,
    /// It holds the journal.
    Journal = bindings::flag_bits_Journal,
    /// It was a member before, and lacks no more than the bitmap tells.
    BitmapSync = bindings::flag_bits_Bitmap_sync,
}

/// Whether a range has bad blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadBlocks {
    /// It has none.
    None,
    /// It has some, which are recorded.
    Recorded,
    /// It has some, and not all are recorded yet: a write that would rely on it has to wait.
    Unrecorded,
}

/// A device of an array. References are valid as long as whatever gave them says.
///
/// Sectors are counted from the start of the device's data, unless a method says otherwise.
#[repr(transparent)]
pub(crate) struct Rdev(Opaque<bindings::md_rdev>);

// SAFETY: md core uses a device from many threads; every method here does what md core itself does in any of them.
unsafe impl Send for Rdev {}

// SAFETY: As above.
unsafe impl Sync for Rdev {}

impl Rdev {
    /// Names a device that C knows.
    ///
    /// # Safety
    ///
    /// `ptr` is a device that stays valid for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::md_rdev) -> &'a Self {
        // SAFETY: By the requirement of this function; the types have one layout.
        unsafe { &*ptr.cast() }
    }

    /// The device as C knows it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::md_rdev {
        self.0.get()
    }

    /// Whether a flag is set.
    pub(crate) fn test(&self, flag: Flag) -> bool {
        is_set(load!(self, flags), flag as u32)
    }

    /// Sets a flag; returns whether it was set before.
    pub(crate) fn set(&self, flag: Flag) -> bool {
        let word = field!(self, flags);
        // SAFETY: The flag word of a device that is valid.
        unsafe { bindings::raid456_test_and_set_bit(flag as u32, word) }
    }

    /// Clears a flag; returns whether it was set before.
    pub(crate) fn clear(&self, flag: Flag) -> bool {
        let word = field!(self, flags);
        // SAFETY: The flag word of a device that is valid.
        unsafe { bindings::raid456_test_and_clear_bit(flag as u32, word) }
    }

    /// Whether writes that it would get must not be acknowledged yet: its failure or a bad block is not recorded.
    pub(crate) fn is_blocked(&self) -> bool {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_blocked(self.as_ptr()) }
    }

    /// Whether it is a device of this array.
    pub(super) fn is_of(&self, mddev: &Mddev) -> bool {
        core::ptr::eq(load!(self, mddev), mddev.as_ptr())
    }

    /// Its slot in the array; negative if it has none.
    pub(crate) fn raid_disk(&self) -> i32 {
        load!(self, raid_disk)
    }

    /// Gives it a slot.
    pub(super) fn set_raid_disk(&self, slot: i32) {
        store!(self, raid_disk, slot);
    }

    /// The slot that it had in this array, and could have again after a partial sync; negative if none.
    pub(crate) fn saved_raid_disk(&self) -> i32 {
        load!(self, saved_raid_disk)
    }

    /// Says that it could have no slot again after a partial sync alone: it is given another one, or replaces its member. md core
    /// would record that it lacks no more there than the bitmap tells.
    pub(super) fn forget_saved_raid_disk(&self) {
        store!(self, saved_raid_disk, -1);
    }

    /// Sectors below this are in sync even if the device as a whole is not; `MAX_SECTOR` if all are.
    pub(crate) fn recovery_offset(&self) -> u64 {
        let field = field!(self, __bindgen_anon_1);
        // SAFETY: The field is a word, by either name, that others may change.
        unsafe { field.cast::<u64>().read_volatile() }
    }

    /// Says below which sector it is in sync. For `run`, and whoever has `reconfig_mutex` while no sync is under way.
    pub(crate) fn set_recovery_offset(&self, sector: u64) {
        let field = field!(self, __bindgen_anon_1);
        // SAFETY: The field is a word, by either name, that others may read.
        unsafe { field.cast::<u64>().write_volatile(sector) }
    }

    /// Says that it is in sync up to a whole multiple of `unit` sectors, and no further, if it is said to be in sync up to the
    /// middle of one. For `run`, and the sync thread.
    pub(crate) fn round_recovery_offset(&self, unit: u64) {
        let sector = self.recovery_offset();
        let beyond = sector.checked_rem(unit).unwrap_or(0);
        let is_journal = self.test(Flag::Journal);
        if sector != MAX_SECTOR && beyond != 0 && !is_journal && !self.test(Flag::InSync) {
            self.set_recovery_offset(sector - beyond);
        }
    }

    /// Sectors that it can hold for the array.
    pub(crate) fn sectors(&self) -> u64 {
        load!(self, sectors)
    }

    /// Where its data begins on the block device, in sectors.
    pub(crate) fn data_offset(&self) -> u64 {
        load!(self, data_offset)
    }

    /// Requests that hold the device. A full memory barrier comes first.
    pub(crate) fn pending(&self) -> i32 {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_pending(self.as_ptr()) }
    }

    /// Whether it completes its bios in the context that submits them, and this context is one in which work may go on.
    pub(crate) fn may_run_inline(&self) -> bool {
        let bdev = load!(self, bdev);
        // SAFETY: As long as the device is valid, so is its block device.
        unsafe { bindings::raid456_may_run_inline(bdev) }
    }

    /// Whether it completes its bios in the context that submits them, whatever that is. Any context.
    pub(crate) fn is_synchronous(&self) -> bool {
        let bdev = load!(self, bdev);
        // SAFETY: As long as the device is valid, so is its block device.
        unsafe { bindings::raid456_is_synchronous(bdev) }
    }

    /// Whether it forgets every run of `unit` bytes at a multiple of it in its data, all of it. Any context.
    pub(crate) fn can_discard(&self, unit: u32) -> bool {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_can_discard(self.as_ptr(), unit) }
    }

    /// Whether a CPU may read what is written to it at once: a RAM disk copies it, device-mapper may encrypt it. Other devices
    /// fetch it later. Any context.
    pub(crate) fn is_copied(&self) -> bool {
        let bdev = load!(self, bdev);
        // SAFETY: As long as the device is valid, so is its block device.
        unsafe { bindings::raid456_is_copied(bdev) }
    }

    /// Whether `sectors` sectors from `sector` on have bad blocks. Any context.
    pub(crate) fn bad_blocks(&self, sector: u64, sectors: u32) -> BadBlocks {
        if load!(self, badblocks.count) == 0 {
            return BadBlocks::None;
        }
        let (mut first, mut count) = (0, 0);
        // SAFETY: The reference says that the device is valid; the others are ours.
        let found = unsafe {
            bindings::raid456_rdev_badblocks(
                self.as_ptr(),
                sector,
                u64::from(sectors),
                &mut first,
                &mut count,
            )
        };
        match found {
            0 => BadBlocks::None,
            1.. => BadBlocks::Recorded,
            _ => BadBlocks::Unrecorded,
        }
    }

    /// The first bad sectors from `sector` on, and before `end`. Any context.
    pub(crate) fn next_bad_blocks(&self, sector: u64, end: u64) -> Option<Range<u64>> {
        // C counts them in an int.
        const MOST: u64 = 1 << 30;
        let mut at = sector;
        while at < end && load!(self, badblocks.count) != 0 {
            let sectors = end.saturating_sub(at).min(MOST);
            let (mut first, mut count) = (0, 0);
            // SAFETY: The reference says that the device is valid; the others are ours.
            let found = unsafe {
                bindings::raid456_rdev_badblocks(self.as_ptr(), at, sectors, &mut first, &mut count)
            };
            if found != 0 {
                // They may begin before the data, too, which is a large number then.
                let behind = first.wrapping_add(count).min(end);
                let first = if first > at && first < behind {
                    first
                } else {
                    at
                };
                return Some(first..behind.max(first.saturating_add(1)));
            }
            at = at.saturating_add(sectors);
        }
        None
    }

    /// Whether it has a bad block that is not recorded yet, wherever that is. Any context.
    pub(crate) fn has_unrecorded_blocks(&self) -> bool {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_has_unrecorded(self.as_ptr()) }
    }

    /// Records bad blocks; if that is not possible md core fails the device. Any context. Returns whether it was possible.
    pub(crate) fn set_bad_blocks(&self, sector: u64, sectors: u32) -> bool {
        let sectors = i32::try_from(sectors).unwrap_or(i32::MAX);
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::rdev_set_badblocks(self.as_ptr(), sector, sectors, 0) }
    }

    /// Takes bad blocks off the record: they were written. Any context.
    pub(crate) fn clear_bad_blocks(&self, sector: u64, sectors: u32) {
        let sectors = i32::try_from(sectors).unwrap_or(i32::MAX);
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::rdev_clear_badblocks(self.as_ptr(), sector, sectors, 0) }
    }

    /// How many read errors are counted. Any context.
    pub(crate) fn read_errors(&self) -> i32 {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_count_read_errors(self.as_ptr()) }
    }

    /// Forgives a half of the read errors for each hour since this was called last. Any context.
    pub(crate) fn decay_read_errors(&self) {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_decay_read_errors(self.as_ptr()) }
    }

    /// Counts one more read error, and returns their number. Any context.
    pub(crate) fn add_read_error(&self) -> i32 {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_read_errors(self.as_ptr(), 1) }
    }

    /// Forgives all read errors. Any context.
    pub(crate) fn reset_read_errors(&self) {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_reset_read_errors(self.as_ptr()) }
    }

    /// Counts sectors that could not be read and were mended by writing them. Any context.
    pub(crate) fn add_corrected(&self, sectors: u32) {
        let sectors = i32::try_from(sectors).unwrap_or(i32::MAX);
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_add_corrected(self.as_ptr(), sectors) }
    }

    /// Tells who watches the device's `state` in sysfs that it has changed. Any context.
    pub(crate) fn notify_state(&self) {
        // SAFETY: The reference says that the device is valid.
        unsafe { bindings::raid456_rdev_notify_state(self.as_ptr()) }
    }
}

/// The name of the block device, as "sda1".
impl fmt::Display for Rdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A block device's name has at most 32 bytes, and a partition's number some more.
        let mut name = [0u8; 48];
        // SAFETY: The reference says that the device is valid; the buffer is ours and as long as said.
        unsafe { bindings::raid456_rdev_name(self.as_ptr(), name.as_mut_ptr().cast(), name.len()) };
        match CStr::from_bytes_until_nul(&name) {
            Ok(name) => fmt::Display::fmt(name, f),
            Err(_) => f.write_str("?"),
        }
    }
}
