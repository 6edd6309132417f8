// SPDX-License-Identifier: GPL-2.0

//! A scope in which no allocation starts I/O.

use crate::bindings;
use kernel::types::NotThreadSafe;

/// While it lives, allocations of this task start no I/O, whatever flags they pass.
///
/// For allocations while I/O to the array is stopped: I/O started to free memory could wait for that very array. Scopes
/// may be nested, and must then be dropped in the reverse order of entering.
#[must_use = "the scope ends when this is dropped"]
pub(crate) struct NoIo {
    saved: u32,
    _task: NotThreadSafe,
}

impl NoIo {
    /// Enters the scope. Process context.
    pub(crate) fn enter() -> Self {
        Self {
            // SAFETY: The function has no requirements.
            saved: unsafe { bindings::raid456_noio_save() },
            _task: NotThreadSafe,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: The flags are those that the scope's beginning saved, in this task.
        unsafe { bindings::raid456_noio_restore(self.saved) }
    }
}
