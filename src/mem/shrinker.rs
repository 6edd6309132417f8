// SPDX-License-Identifier: GPL-2.0

//! Memory that is given back when the kernel is short of it.

use super::Setup;
use crate::bindings;
use core::marker::PhantomData;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

/// What has memory that it can do without.
pub(crate) trait Shrink: Send + Sync + 'static {
    /// How many objects it could free. Called where memory is short: must neither sleep nor allocate.
    fn count(&self) -> usize;

    /// Frees at most `most` objects, and returns how many. As [`Self::count`].
    fn shrink(&self, most: usize) -> usize;
}

/// A registered shrinker, which keeps what it shrinks until it is stopped or dropped.
///
/// # Invariants
///
/// The pointer is null, or a shrinker of the shim whose object is an `Arc<T>` that was given to it.
pub(crate) struct Shrinker<T: Shrink>(AtomicPtr<bindings::raid456_shrinker>, PhantomData<Arc<T>>);

impl<T: Shrink> Shrinker<T> {
    /// Has `of` asked for memory from now on. May sleep.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(crate) fn start(of: Arc<T>, _setup: &Setup) -> Result<Self> {
        let object = Arc::into_raw(of);
        // SAFETY: The object stays until the shrinker is freed; it is shared and may be used by any task.
        let shrinker = unsafe {
            bindings::raid456_shrinker_new(
                Some(count::<T>),
                Some(shrink::<T>),
                object.cast_mut().cast(),
            )
        };
        if shrinker.is_null() {
            // SAFETY: The pointer is from `into_raw`, and nobody else has it.
            drop(unsafe { Arc::from_raw(object) });
            return Err(ENOMEM);
        }
        // INVARIANT: as just made.
        Ok(Self(AtomicPtr::new(shrinker), PhantomData))
    }

    /// Ends it, and waits until nobody is at it. Nothing if it has ended. Sleeps.
    pub(crate) fn stop(&self) {
        let shrinker = self.0.swap(null_mut(), Ordering::AcqRel);
        if shrinker.is_null() {
            return;
        }
        // SAFETY: By the invariant it is a shrinker, and it was ours alone to take out.
        let object = unsafe { bindings::raid456_shrinker_free(shrinker) };
        // SAFETY: By the invariant the object is an `Arc<T>` that was given up; nobody uses it any more.
        drop(unsafe { Arc::from_raw(object.cast::<T>()) });
    }
}

impl<T: Shrink> Drop for Shrinker<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// # Safety
///
/// `object` is a `T` that stays during the call.
unsafe extern "C" fn count<T: Shrink>(object: *mut kernel::ffi::c_void) -> usize {
    // SAFETY: By the requirement of this function.
    unsafe { &*object.cast::<T>() }.count()
}

/// # Safety
///
/// As of [`count`].
unsafe extern "C" fn shrink<T: Shrink>(object: *mut kernel::ffi::c_void, most: usize) -> usize {
    // SAFETY: By the requirement of this function.
    unsafe { &*object.cast::<T>() }.shrink(most)
}
