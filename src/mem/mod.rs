// SPDX-License-Identifier: GPL-2.0

//! Memory that the driver reserves: pages, the kits of strips, and pools of small objects.

pub(crate) mod kit;
mod kunit;
pub(crate) mod mempool;
pub(crate) mod pages;
pub(crate) mod shrinker;

use crate::bindings;
use core::marker::PhantomData;

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

/// How pages and kits are allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Never blocks; fails, without a message, if there is no free memory. Any context.
    NoWait,
    /// May block and start I/O: for setting up an array. Not while I/O to it is stopped, for that could be waited for.
    Setup,
}

impl Wait {
    /// The shim's word for it.
    fn to_raw(self) -> bindings::raid456_wait {
        match self {
            Self::NoWait => bindings::raid456_wait_RAID456_NO_WAIT,
            Self::Setup => bindings::raid456_wait_RAID456_SETUP,
        }
    }
}
