// SPDX-License-Identifier: GPL-2.0

//! The queue limits of an array that has a disk of its own.

use super::mddev::Locked;
use super::sysfs::Suspended;
use crate::bindings;
use kernel::error::to_result;
use kernel::prelude::*;

/// What an array promises to those who send it requests, beside what its members impose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes below which a write costs more than it must: a chunk.
    pub(crate) io_min: u32,
    /// Bytes of which a multiple is best written: a stripe's data, or 0 if that is 4 GiB or more.
    pub(crate) io_opt: u32,
    /// Sectors that a request does not exceed; raised to a stripe's if that is more.
    pub(crate) max_sectors: u32,
    /// Bytes at whose multiples the block layer may cut a discard, a power of two: a stripe's data, for less has no effect;
    /// if that is none, what divides it.
    pub(crate) discard_granularity: u32,
    /// Bytes of a member that are discarded at once.
    pub(crate) discard_unit: u32,
}

/// Sets the limits of an array's queue, and returns whether its members are to discard what the array is asked to.
///
/// They are if the administrator says that what they discard reads as zeroes (the module's parameter), and if each of them
/// can. The array offers it then, or if a lockless bitmap at least takes note of it.
///
/// Does nothing for dm-raid, which sets its own, and asks for what it knows that its devices can. For `run`: the queue must
/// not be in use. Sleeps.
///
/// # Errors
///
/// A member's logical block is larger than a page, or the limits contradict each other.
pub(crate) fn set(mddev: &Locked<'_>, limits: Limits) -> Result<bool> {
    let Some(queue) = queue(mddev) else {
        return Ok(true);
    };
    let mut raw = bindings::queue_limits::default();
    // SAFETY: The limits are ours.
    unsafe { bindings::md_init_stacking_limits(&mut raw) };
    raw.logical_block_size = mddev.logical_block_size();
    raw.io_min = limits.io_min;
    raw.io_opt = limits.io_opt;
    // Requests are split where a stripe ends, so that each finds all its blocks in few stripes. (Nowhere if stripes are that
    // large.)
    raw.chunk_sectors = limits.io_opt >> 9;
    raw.features |= bindings::RAID456_BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE;
    // Before the members' limits: one that cannot do it takes it away. The C driver does not offer it.
    raw.features |= bindings::RAID456_BLK_FEAT_NOWAIT;
    // SAFETY: The array is valid and the mutex is held.
    let can_discard = unsafe {
        bindings::raid456_discard_is_safe()
            && bindings::raid456_members_can_discard(mddev.as_ptr(), limits.discard_unit)
    };
    let offers_discard = can_discard || mddev.bitmap_is_lockless();
    raw.discard_granularity = if offers_discard {
        limits.discard_granularity
    } else {
        0
    };
    raw.max_write_zeroes_sectors = 0;
    raw.max_hw_wzeroes_unmap_sectors = 0;
    // SAFETY: The array is valid and has a disk, the mutex is held, and the limits are ours.
    to_result(unsafe { bindings::mddev_stack_rdev_limits(mddev.as_ptr(), &mut raw, 0) })?;
    // SAFETY: As above.
    unsafe { bindings::raid456_stack_new_offsets(mddev.as_ptr(), &mut raw) };

    // Members do not limit these, for requests do not go to them as they are.
    raw.max_hw_sectors = limits.max_sectors.max(limits.io_opt >> 9);
    raw.max_hw_discard_sectors = if offers_discard { u32::MAX } else { 0 };
    raw.max_secure_erase_sectors = 0;
    raw.max_segments = u16::MAX;

    // SAFETY: The queue is the array's, so it is valid.
    to_result(unsafe { bindings::queue_limits_set(queue, &mut raw) })?;
    Ok(can_discard)
}

/// Says whether pages must not change while they are written, because they are not copied. Sleeps.
///
/// # Errors
///
/// `ENODEV`: the array belongs to dm-raid, which sets its own limits. `EBUSY`: somebody changes them, or looks at one; he may wait for
/// requests to be let in. Or what the block layer says.
pub(crate) fn set_stable_writes(mddev: &Suspended<'_>, stable: bool) -> Result {
    let queue = queue(mddev.locked()).ok_or(ENODEV)?;
    // SAFETY: The queue is the array's, so it is valid.
    to_result(unsafe { bindings::raid456_set_stable_writes(queue, stable) })
}

/// The queue of an array; `None` if it has no disk of its own.
fn queue(mddev: &Locked<'_>) -> Option<*mut bindings::request_queue> {
    let disk = load!(mddev, gendisk);
    // SAFETY: An array keeps its disk, if it has one.
    (!disk.is_null()).then(|| unsafe { (*disk).queue })
}
