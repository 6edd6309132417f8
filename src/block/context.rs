// SPDX-License-Identifier: GPL-2.0

//! On which CPU code runs, and for how long.

use crate::bindings;

/// The CPU on which the caller runs; it may be moved to another at any time, unless it cannot be.
pub(crate) fn current_cpu() -> u32 {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid456_cpu() }
}

/// One more than the highest number that a CPU of this machine can have.
pub(crate) fn cpus() -> u32 {
    // SAFETY: A constant once the kernel has started.
    unsafe { bindings::nr_cpu_ids }
}

/// CPUs that are at work.
pub(crate) fn online_cpus() -> u32 {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid456_online_cpus() }
}

/// The time in jiffies. What is cheap to read: reading a clock is not everywhere.
pub(crate) fn jiffies() -> u64 {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid456_jiffies() }
}

/// Lets others run, if the caller has run for long. May sleep.
pub(crate) fn cond_resched() {
    // SAFETY: The function has no requirements but a context that may sleep.
    unsafe { bindings::raid456_cond_resched() }
}
