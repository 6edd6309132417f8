// SPDX-License-Identifier: GPL-2.0

//! What dm-raid calls: the Rust side of the functions that the shim exports.

use super::mddev::{Locked, Mddev};
use super::private::{self, Ops};
use crate::bindings;
use kernel::error::from_result;
use kernel::prelude::*;

/// Calls an operation of the array's personality.
///
/// # Safety
///
/// `mddev` is valid and its `reconfig_mutex` is held during the call.
unsafe fn call(
    mddev: *mut bindings::mddev,
    op: impl FnOnce(&Ops) -> unsafe fn(*mut bindings::raid456_private, &Locked<'_>, i32) -> Result,
    argument: i32,
) -> Result<i32> {
    // SAFETY: By the requirement of this function.
    let mddev = unsafe { Mddev::from_raw(mddev) };
    // SAFETY: As above.
    let locked = unsafe { Locked::new(mddev) };
    // SAFETY: As above.
    let private = unsafe { private::of(mddev) }.ok_or(ENODEV)?;
    // SAFETY: The private data is valid while the mutex is held.
    let ops = unsafe { (*private.as_ptr()).ops };
    // SAFETY: They are those of a type, and live for ever.
    let ops = unsafe { &*ops.cast::<Ops>() };
    // SAFETY: The operations are those of the type that the private data is of.
    unsafe { op(ops)(private.as_ptr(), &locked, argument)? };
    Ok(0)
}

/// Changes the number of strips in the cache: `raid5_set_cache_size`. Sleeps.
///
/// # Safety
///
/// `mddev` is valid and its `reconfig_mutex` is held during the call.
#[no_mangle]
unsafe extern "C" fn raid456_rs_set_cache_size(
    mddev: *mut bindings::mddev,
    size: kernel::ffi::c_int,
) -> kernel::ffi::c_int {
    // SAFETY: By the requirement of this function.
    from_result(|| unsafe { call(mddev, |ops| ops.set_cache_size, size) })
}

/// Changes the journal's mode: `r5c_journal_mode_set`. Sleeps.
///
/// # Safety
///
/// `mddev` is valid and its `reconfig_mutex` is held during the call.
#[no_mangle]
unsafe extern "C" fn raid456_rs_set_journal_mode(
    mddev: *mut bindings::mddev,
    mode: kernel::ffi::c_int,
) -> kernel::ffi::c_int {
    // SAFETY: By the requirement of this function.
    from_result(|| unsafe { call(mddev, |ops| ops.set_journal_mode, mode) })
}
