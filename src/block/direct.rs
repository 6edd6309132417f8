// SPDX-License-Identifier: GPL-2.0

//! Reads that go straight to a member.
//!
//! A read that lies on one member needs no span: md core's clone of the request is sent there itself, and comes back when
//! it has ended.

use super::request::Slice;
use super::{Flags, Status};
use crate::bindings;
use crate::md::slots::Member;
use crate::sync::gate::Entry;
use core::mem::ManuallyDrop;

/// Whose direct reads end here.
pub(crate) trait DirectReader: Send + Sync + Sized + 'static {
    /// A direct read has ended with `status`. The slice is as it was; if the read was good, dropping it ends the request.
    /// Any context.
    ///
    /// Not called for a read that must not wait and would have had to in the member's queue: that is no error of the
    /// member's, and has ended with [`Status::AGAIN`].
    fn direct_read_done(array: Entry<Self>, slice: Slice, member: Member, status: Status);
}

/// Reads a whole request from `sector` of a member's data on; ends in [`DirectReader::direct_read_done`]. May sleep, unless
/// the caller is below `submit_bio`, where the bio is only queued.
///
/// # Errors
///
/// The arguments come back if the slice is not the whole of a read, or a part of it was cut off before.
pub(crate) fn submit<T: DirectReader>(
    array: Entry<T>,
    slice: Slice,
    member: Member,
    sector: u64,
) -> Result<(), (Entry<T>, Slice, Member)> {
    // SAFETY: By the invariant of the slice it is valid.
    if !unsafe { bindings::raid456_slice_is_whole(&slice.raw) } {
        return Err((array, slice, member));
    }
    let bio = ManuallyDrop::new(slice).raw.bio;
    // SAFETY: The bio is a clone that only our slice counts, of a read; the member is kept, and the owner's pointer is
    // taken back by `end_io`, to which the bio belongs from now on.
    unsafe {
        bindings::raid456_direct_submit(
            bio,
            member.into_raw(),
            sector,
            Some(end_io::<T>),
            array.into_raw(),
        )
    };
    Ok(())
}

/// # Safety
///
/// Called by the block layer for a bio that [`submit`] submitted for a `T`.
unsafe extern "C" fn end_io<T: DirectReader>(bio: *mut bindings::bio) {
    let mut rdev = core::ptr::null_mut();
    let mut owner = core::ptr::null_mut();
    let mut raw = bindings::raid456_slice::default();
    // SAFETY: By the requirement of this function; the others are ours.
    let status = unsafe { bindings::raid456_direct_finish(bio, &mut rdev, &mut owner, &mut raw) };
    // INVARIANT: the bio is again what it was, and our slice its only one.
    let slice = Slice {
        raw,
        counted: false,
    };
    // SAFETY: `submit` gave it away for this bio, which has ended once.
    let member = unsafe { Member::from_raw(rdev) };
    // SAFETY: As above.
    let array = unsafe { Entry::<T>::from_raw(owner) };
    let status = Status(status);
    if status == Status::AGAIN && slice.flags().contains(Flags::NOWAIT) {
        slice.fail(status);
        drop(member);
        // Before the array, which is kept for it.
        drop(slice);
        drop(array);
        return;
    }
    T::direct_read_done(array, slice, member, status);
}
