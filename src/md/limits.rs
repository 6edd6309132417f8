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
    /// Bytes of which a multiple is best written: a stripe's data.
    pub(crate) io_opt: u32,
    /// Sectors that a request does not exceed; raised to a stripe's if that is more.
    pub(crate) max_sectors: u32,
    /// Bytes of which a discard must be a multiple to have an effect: a stripe's data, rounded up to a power of two.
    /// `None`: the array does not say that it can discard.
    pub(crate) discard_granularity: Option<u32>,
}

/// Sets the limits of an array's queue, and returns whether its members can discard as much as the limits say.
///
/// Does nothing for dm-raid, which sets its own. For `run`: the queue must not be in use. Sleeps.
///
/// # Errors
///
/// A member's logical block is larger than a page, or the limits contradict each other.
pub(crate) fn set(mddev: &Locked<'_>, limits: Limits) -> Result<bool> {
    let Some(queue) = queue(mddev) else {
        return Ok(false);
    };
    let mut raw = bindings::queue_limits::default();
    // SAFETY: The limits are ours.
    unsafe { bindings::md_init_stacking_limits(&mut raw) };
    raw.logical_block_size = mddev.logical_block_size();
    raw.io_min = limits.io_min;
    raw.io_opt = limits.io_opt;
    // Requests are split where a stripe ends, so that each finds all its blocks in few stripes.
    raw.chunk_sectors = limits.io_opt >> 9;
    raw.features |= bindings::RAID456_BLK_FEAT_RAID_PARTIAL_STRIPES_EXPENSIVE;
    // Before the members' limits: one that cannot do it takes it away. The C driver does not offer it.
    raw.features |= bindings::RAID456_BLK_FEAT_NOWAIT;
    raw.discard_granularity = limits.discard_granularity.unwrap_or(0);
    raw.max_write_zeroes_sectors = 0;
    raw.max_hw_wzeroes_unmap_sectors = 0;
    // SAFETY: The array is valid and has a disk, the mutex is held, and the limits are ours.
    to_result(unsafe { bindings::mddev_stack_rdev_limits(mddev.as_ptr(), &mut raw, 0) })?;
    // SAFETY: As above.
    unsafe { bindings::raid456_stack_new_offsets(mddev.as_ptr(), &mut raw) };

    let can_discard = limits.discard_granularity.is_some_and(|granularity| {
        raw.max_discard_sectors >= granularity >> 9 && raw.discard_granularity >= granularity
    });

    // Members do not limit these, for requests do not go to them as they are.
    raw.max_hw_sectors = limits.max_sectors.max(limits.io_opt >> 9);
    raw.max_hw_discard_sectors = match limits.discard_granularity {
        Some(_) => u32::MAX,
        None => 0,
    };
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
/// `ENODEV`: the array belongs to dm-raid, which sets its own limits. Or what the block layer says.
pub(crate) fn set_stable_writes(mddev: &Suspended<'_>, stable: bool) -> Result {
    let queue = queue(mddev).ok_or(ENODEV)?;
    // SAFETY: The queue is the array's, so it is valid.
    to_result(unsafe { bindings::raid456_set_stable_writes(queue, stable) })
}

/// The queue of an array; `None` if it has no disk of its own.
fn queue(mddev: &Locked<'_>) -> Option<*mut bindings::request_queue> {
    let disk = load!(mddev, gendisk);
    // SAFETY: An array keeps its disk, if it has one.
    (!disk.is_null()).then(|| unsafe { (*disk).queue })
}
