// SPDX-License-Identifier: GPL-2.0

//! Memory that the driver reserves: pages, the kits of strips, and pools of small objects.

pub(crate) mod kit;
pub(crate) mod kunit;
pub(crate) mod mempool;
pub(crate) mod pages;
pub(crate) mod shrinker;

use crate::bindings;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::alloc::flags::{GFP_KERNEL, GFP_NOWAIT, __GFP_NOWARN};
use kernel::alloc::{AllocError, Flags, KBox};

/// Proof that the caller may block: it is a submitter before its first member bio, or md core's sync thread.
///
/// What may block on an I/O path asks for one, and there is no other way to get one than to be called by md core so. Lanes,
/// completions and the array's own thread have none: what they can call does not block. While it lives, allocations of this
/// task start no I/O (`memalloc_noio_save`), for that could be I/O to this very array.
pub(crate) struct MayBlock {
    /// The task's flag as it was before.
    before: u32,
    /// It is the task's.
    _task: PhantomData<*mut ()>,
}

impl MayBlock {
    /// Enters the scope.
    ///
    /// # Safety
    ///
    /// md core has called for a request, or for sync, and nothing was submitted to a member since; the value is dropped
    /// before that call returns, by the same task.
    pub(crate) unsafe fn enter() -> Self {
        Self {
            // SAFETY: It concerns the running task only.
            before: unsafe { bindings::raid456_noio_save() },
            _task: PhantomData,
        }
    }
}

impl Drop for MayBlock {
    fn drop(&mut self) {
        // SAFETY: It is what `enter` found, in the same task.
        unsafe { bindings::raid456_noio_restore(self.before) }
    }
}

/// Whether arrays that are started now are to have the least memory that they can work with: one strip's kit, one object of each
/// pool and no other. For tests: it is the module's parameter.
pub(crate) fn least() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid456_least_memory() }
}

/// By what right memory is asked for: what may block takes a [`Setup`] for a proof, what may not a [`NoWait`].
///
/// Lanes, completions and the array's own thread have no [`Setup`] and cannot make one, so nothing they write compiles but
/// what does not block. Nobody outside this layer names the kernel's flags (`make lint`).
pub(crate) trait Ask {
    /// The kernel's flags for it.
    fn flags(&self) -> Flags;

    /// A page of the shim's; null without memory.
    fn page(&self) -> *mut kernel::ffi::c_void;

    /// Memory for an object, for `kfree`, aligned to a word at least; null if there is none.
    fn room(&self, bytes: usize) -> *mut kernel::ffi::c_void;
}

/// Puts a value into memory of its own.
///
/// # Errors
///
/// There is no memory; the value is dropped.
pub(crate) fn boxed<T>(value: T, by: &impl Ask) -> Result<KBox<T>, AllocError> {
    const { assert!(core::mem::align_of::<T>() <= 8 && core::mem::size_of::<T>() != 0) };

    let room = by.room(core::mem::size_of::<T>()).cast::<T>();
    let room = NonNull::new(room).ok_or(AllocError)?;
    // SAFETY: The memory is new, as large as the value, and aligned.
    unsafe { room.write(value) };
    // SAFETY: It was allocated as `Kmalloc` does, holds a value, and is ours.
    Ok(unsafe { KBox::from_raw(room.as_ptr()) })
}

/// Never blocks; fails, without a message, if there is no free memory. Any context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoWait;

impl Ask for NoWait {
    fn flags(&self) -> Flags {
        GFP_NOWAIT | __GFP_NOWARN
    }

    fn page(&self) -> *mut kernel::ffi::c_void {
        // SAFETY: The function has no requirements.
        unsafe { bindings::raid456_page_take() }
    }

    fn room(&self, bytes: usize) -> *mut kernel::ffi::c_void {
        // SAFETY: The function has no requirements.
        unsafe { bindings::raid456_take(bytes) }
    }
}

/// May block and start I/O: the module is being loaded, or an array is set up with its `reconfig_mutex` held, or changed without it.
/// Not while I/O to it is stopped, for that could be waited for.
#[derive(Debug)]
pub(crate) struct Setup(PhantomData<*mut ()>);

impl Setup {
    /// Says that it is so.
    ///
    /// # Safety
    ///
    /// It is so until the value is dropped, and nobody waits for the caller to free memory.
    pub(crate) unsafe fn assume() -> Self {
        Self(PhantomData)
    }
}

impl Ask for Setup {
    fn flags(&self) -> Flags {
        GFP_KERNEL
    }

    fn page(&self) -> *mut kernel::ffi::c_void {
        // SAFETY: It may block, as this value proves.
        unsafe { bindings::raid456_page_alloc() }
    }

    fn room(&self, bytes: usize) -> *mut kernel::ffi::c_void {
        // SAFETY: As above.
        unsafe { bindings::raid456_alloc(bytes) }
    }
}
