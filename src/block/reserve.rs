// SPDX-License-Identifier: GPL-2.0

//! Bios that an array keeps for itself, and what they are for: cutting requests ([`Request::cut`]), and flushing the members'
//! caches before a request goes on.
//!
//! Neither is left to the kernel's own reserves, on which two requests can wait for each other: see `shim/reserve.c`.
//!
//! [`Request::cut`]: super::request::Request::cut

use super::request::{Flush, Request, Slice};
use crate::bindings;
use crate::md::slots::Member;
use crate::mem::MayBlock;
use crate::sync::stack::{Node, Stacked};
use core::ptr::NonNull;
use kernel::prelude::*;

/// What goes on when the members' caches have been flushed.
pub(crate) trait Flushed: Stacked + Send + 'static {
    /// Some members' flushes have failed, which was logged. Returns whether what they may have lost is made up for, so that the flush
    /// counts as good all the same. Any context.
    fn is_made_up_for(&self, failed: &FailedFlushes) -> bool;

    /// The members' flushes have ended. If they are `good`, what had ended before the flush was asked for is durable. Any context.
    fn flushed(self, good: bool);
}

/// Members whose flush has failed, at least one; they are kept from going while this lives.
///
/// # Invariants
///
/// The pointer is the first of those of one flush, and they are ours to let go.
pub(crate) struct FailedFlushes(NonNull<bindings::raid456_member_flush>);

impl FailedFlushes {
    /// The members.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let mut next = self.0.as_ptr();
        core::iter::from_fn(move || {
            let flush = NonNull::new(next)?.as_ptr();
            // SAFETY: By the invariant it is one of those that are ours.
            next = unsafe { bindings::raid456_flush_next(flush) };
            // SAFETY: As above.
            let rdev = unsafe { bindings::raid456_flush_rdev(flush) };
            // SAFETY: The device is counted as pending until we let it go.
            Some(unsafe { Member::hold(rdev) })
        })
    }
}

impl Drop for FailedFlushes {
    fn drop(&mut self) {
        // SAFETY: By the invariant they are ours; they are not used after this.
        unsafe { bindings::raid456_flush_release(self.0.as_ptr()) }
    }
}

/// The bios of an array. Dropping it waits until none is under way, so it must be dropped where one may sleep.
///
/// # Invariants
///
/// The pointer is a reserve that this value owns.
pub(crate) struct Reserve(NonNull<bindings::raid456_reserve>);

// SAFETY: A reserve has its own locks, and may be used and freed by any task.
unsafe impl Send for Reserve {}

// SAFETY: As above.
unsafe impl Sync for Reserve {}

impl Reserve {
    /// Makes a reserve for an array that has never more than `devices` devices in use at once. May sleep.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(crate) fn new(devices: u32) -> Result<Self> {
        // SAFETY: The function has no requirements but a context that may sleep.
        let reserve = unsafe { bindings::raid456_reserve_new(devices) };
        // INVARIANT: the reserve is new, and ours.
        Ok(Self(NonNull::new(reserve).ok_or(ENOMEM)?))
    }

    /// For the shim. Valid while this value is.
    pub(super) fn as_ptr(&self) -> *mut bindings::raid456_reserve {
        self.0.as_ptr()
    }

    /// Has the members of the slice's array flush their caches; ends in [`Flushed::flushed`] of `then`. May sleep, for
    /// memory that other flushes have; below `submit_bio` the flushes go out when that returns.
    pub(crate) fn flush<T: Flushed>(&self, slice: &Slice, then: T, _may_block: &MayBlock) {
        // SAFETY: By the invariant of the slice its bio is valid and keeps the array from being suspended while it is
        // borrowed.
        unsafe { self.send(slice.mddev(), then) }
    }

    /// As [`Self::flush`], for a request that wants nothing else: `then` is what comes of it.
    pub(crate) fn flush_for<T: Flushed>(
        &self,
        request: Request<'_>,
        _may_block: &MayBlock,
        then: impl FnOnce(Flush) -> T,
    ) {
        let mddev = request.mddev().as_ptr();
        let then = then(request.into_flush());
        // SAFETY: md core keeps the array from being suspended until the call that gave us the request is over.
        unsafe { self.send(mddev, then) }
    }

    /// # Safety
    ///
    /// The array is valid, and is not suspended during the call.
    unsafe fn send<T: Flushed>(&self, mddev: *mut bindings::mddev, then: T) {
        let private = then.into_node().as_ptr().cast();
        // SAFETY: By the requirement of this function. What `private` points to belongs to the flush, which calls `end`
        // once.
        unsafe { bindings::raid456_flush(self.as_ptr(), mddev, Some(end::<T>), private) }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reserve is ours; it is not used after this.
        unsafe { bindings::raid456_reserve_free(self.0.as_ptr()) }
    }
}

/// # Safety
///
/// Called for a flush that [`Reserve::flush`] had made for a `T`. `failed` is the first of those that have failed, which are the
/// function's to let go, or null.
unsafe extern "C" fn end<T: Flushed>(
    private: *mut kernel::ffi::c_void,
    failed: *mut bindings::raid456_member_flush,
) {
    // INVARIANT: By the requirement of this function.
    let failed = NonNull::new(failed).map(FailedFlushes);
    let Some(node) = NonNull::new(private.cast::<Node>()) else {
        return;
    };
    // SAFETY: `flush` took the node from a `T`, for this flush, which has ended once.
    let then = unsafe { T::from_node(node) };
    let good = failed
        .as_ref()
        .is_none_or(|failed| then.is_made_up_for(failed));
    // Before what keeps the array.
    drop(failed);
    then.flushed(good);
}
