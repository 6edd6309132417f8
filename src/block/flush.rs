// SPDX-License-Identifier: GPL-2.0

//! Flushing the members' caches before a request goes on.
//!
//! md core's `md_flush_request` sends flushes to the members and returns; what it is given ends when they have. So it is given
//! a bio of ours that wants nothing else, and the request goes on when that has ended.

use super::request::Slice;
use crate::bindings;
use crate::sync::stack::{Node, Stacked};
use core::ptr::NonNull;

/// What goes on when the members' caches have been flushed.
pub(crate) trait Flushed: Stacked + Send + 'static {
    /// What had ended before the flush was asked for is durable, unless a member's flush failed, which md core logs. Any
    /// context.
    fn flushed(self);
}

/// Has the members of the slice's array flush their caches; ends in [`Flushed::flushed`] of `then`. May sleep, for memory
/// only; below `submit_bio` the flushes go out when that returns.
pub(crate) fn flush<T: Flushed>(slice: &Slice, then: T) {
    let private = then.into_node().as_ptr().cast();
    // SAFETY: By the invariant of the slice its bio is valid and keeps the array from being suspended while it is borrowed.
    // What `private` points to belongs to the flush, which `end_io` ends once.
    unsafe { bindings::raid456_flush(slice.raw.bio, Some(end_io::<T>), private) }
}

/// # Safety
///
/// Called by the block layer for a bio that [`flush`] had made for a `T`.
unsafe extern "C" fn end_io<T: Flushed>(bio: *mut bindings::bio) {
    // SAFETY: By the requirement of this function; the bio has ended.
    let private = unsafe { bindings::raid456_flush_finish(bio) };
    let Some(node) = NonNull::new(private.cast::<Node>()) else {
        return;
    };
    // SAFETY: `flush` took the node from a `T`, for this bio, which has ended once.
    let then = unsafe { T::from_node(node) };
    then.flushed();
}
