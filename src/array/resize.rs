// SPDX-License-Identifier: GPL-2.0

//! The array's size, and what of its shape can change.

use super::Array;
use crate::md::mddev::{Locked, Mddev, Recovery};
use crate::md_warn;
use core::sync::atomic::Ordering;
use kernel::prelude::*;

impl Array {
    /// The size of the array, in sectors, if it used `sectors` sectors of each of `raid_disks` members; 0 stands for what
    /// it has.
    pub(super) fn size(&self, mddev: &Mddev, sectors: u64, raid_disks: u32) -> u64 {
        let sectors = if sectors == 0 {
            mddev.dev_sectors()
        } else {
            sectors
        };
        let parity = u32::from(self.geometry.parity_disks());
        let data = match raid_disks {
            0 => u32::from(self.geometry.data_disks()),
            disks => disks.saturating_sub(parity),
        };
        self.whole_chunks(sectors).saturating_mul(data.into())
    }

    /// Uses `sectors` sectors of each member from now on, after [`Self::prepare_resize`]. Sleeps.
    ///
    /// No request is under way: those that come meanwhile wait, and fail if they lie in what is gone by then.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the array's size is set by somebody else and would not fit any more. Or what the bitmap says.
    pub(super) fn resize(&self, locked: &Locked<'_>, sectors: u64) -> Result {
        let sectors = self.whole_chunks(sectors);
        let size = self.fitting_size(locked, sectors)?;
        if locked.bitmap_is_lockless() {
            locked.bitmap_resize(sectors)?;
            self.mark_new(locked, sectors);
        }

        locked.set_array_sectors(size);
        let old = locked.dev_sectors();
        if sectors > old {
            // Parity of what is new was never made. No sync ends meanwhile that could raise this; a repair that was interrupted has
            // left all parity trusted, and the sync to begin before the old end.
            self.trusted.fetch_min(old, Ordering::Relaxed);
            // Nor has a replacement that holds all but its bad blocks got what its member has there.
            for retry in self.retries.iter() {
                retry.keep_to(old);
            }
            // The bitmap may have lowered it further, to where its chunk begins.
            locked.set_resync_offset(locked.resync_offset().min(old));
            locked.set_recovery(Recovery::Needed);
        }
        locked.set_dev_sectors(sectors);
        locked.set_resync_max_sectors(sectors);
        // What is cached past the end means nothing if the array should grow again.
        self.table.forget_all(&self.kits);
        Ok(())
    }

    /// Has a bitmap that asks for memory be as large as it is to be with `sectors` sectors of each member, and say what is new.
    /// Sleeps.
    ///
    /// Requests go on: memory may come free by a write to this very array. The bitmap stops them by itself while it changes.
    ///
    /// # Errors
    ///
    /// As for [`Self::resize`].
    pub(super) fn prepare_resize(&self, locked: &Locked<'_>, sectors: u64) -> Result {
        let sectors = self.whole_chunks(sectors);
        self.fitting_size(locked, sectors)?;
        if !locked.bitmap_enabled() || locked.bitmap_is_lockless() {
            // There is none; or it has all its memory, and does not stop requests.
            return Ok(());
        }
        // Who writes to free memory must not wait for the superblock, which nobody writes while we have the mutex.
        locked.allow_write();
        locked.bitmap_resize(sectors)?;
        self.mark_new(locked, sectors);
        Ok(())
    }

    /// Has the bitmap, which is large enough by now, say that what is new is to be synced if `sectors` sectors of each member are
    /// used; also if the array is stopped before that: it is durable before the superblock tells the new size. Sleeps.
    ///
    /// md core says so in memory only, and not of what shares a chunk with what was there, or counters that are not in memory, as
    /// all bits are clear. Of a lockless bitmap it leaves the states what they are: the last one, which may be about more than
    /// there was, and those of what was there before the array was made smaller.
    fn mark_new(&self, locked: &Locked<'_>, sectors: u64) {
        let old = locked.dev_sectors();
        if sectors > old {
            locked.bitmap_mark(old..sectors);
            self.bitmap.flush_all(locked);
        }
    }

    /// The array's sectors with `sectors` sectors of each member, if it can have so many.
    fn fitting_size(&self, locked: &Locked<'_>, sectors: u64) -> Result<u64> {
        let size = self.geometry.array_sectors(sectors).ok_or(EINVAL)?;
        if locked.external_size() != 0 && locked.array_sectors() > size {
            return Err(EINVAL);
        }
        Ok(size)
    }

    /// Whether the array can be brought into the shape that md core asks for: only into that which it has.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it would have to be reshaped.
    pub(super) fn check_reshape(&self, locked: &Locked<'_>) -> Result {
        // dm-raid asks only for a reshape, and at first does not say how many members come or go.
        if !locked.is_dm()
            && locked.delta_disks() == 0
            && locked.new_layout() == locked.layout()
            && [0, locked.chunk_sectors()].contains(&locked.new_chunk_sectors())
        {
            return Ok(());
        }
        md_warn!("md/raid:{}: reshaping is not supported.\n", locked.name());
        Err(EINVAL)
    }

    /// `sectors` without a last part of a chunk.
    fn whole_chunks(&self, sectors: u64) -> u64 {
        let chunk = u64::from(self.geometry.chunk_sectors());
        sectors & !chunk.wrapping_sub(1)
    }
}
