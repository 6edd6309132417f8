// SPDX-License-Identifier: GPL-2.0

//! The atomics of the lock-free parts: `core`'s, or loom's where a test explores every interleaving.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{
    fence, AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    fence, AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

/// Stands between two accesses of different variables that are both [`Ordering::SeqCst`], and so in one order that all agree
/// on. Loom knows that of fences alone.
pub(crate) fn between() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
