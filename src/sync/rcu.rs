// SPDX-License-Identifier: GPL-2.0

//! RCU: the kernel crate's read guard, and waiting for readers.

use crate::bindings;
pub(crate) use kernel::sync::rcu::read_lock;

/// Waits until every reader that is inside an RCU read section now has left it. Sleeps, for milliseconds.
pub(crate) fn synchronize() {
    // SAFETY: Nothing is required but a context that may sleep; if it may not, the kernel reports it.
    unsafe { bindings::synchronize_rcu() }
}
