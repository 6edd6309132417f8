// SPDX-License-Identifier: GPL-2.0

//! Tracepoints: what spans do, for trace-cmd, perf and bpftrace.
//!
//! One that is off costs a test that the kernel patches into the code; what is to be traced is not even looked at. All may be
//! called in any context. Without `CONFIG_TRACEPOINTS` they are nothing. shim/raid456_trace.h defines them.

use super::mddev::Mddev;
use crate::bindings;

/// Whether somebody listens to a tracepoint.
macro_rules! is_on {
    ($tracepoint:ident) => {{
        #[cfg(all(CONFIG_TRACEPOINTS, CONFIG_JUMP_LABEL))]
        // SAFETY: It is a tracepoint of C's, whose key may be looked at at any time.
        let on = unsafe {
            kernel::jump_label::static_branch_unlikely!(
                crate::bindings::$tracepoint,
                crate::bindings::tracepoint,
                key
            )
        };
        #[cfg(all(CONFIG_TRACEPOINTS, not(CONFIG_JUMP_LABEL)))]
        let on = {
            let tracepoint = &raw const crate::bindings::$tracepoint;
            // SAFETY: It is a tracepoint of C's, which is there as long as the module is.
            let count = unsafe { &raw const (*tracepoint).key.key.enabled.counter };
            // SAFETY: A word that is valid, and that others change as a whole.
            unsafe { count.read_volatile() > 0 }
        };
        #[cfg(not(CONFIG_TRACEPOINTS))]
        let on = false;
        on
    }};
}

/// What a span is as a step leaves it: which strips are in which phase.
pub(crate) type Step = bindings::raid456_step;

/// A kind of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum JobKind {
    /// New data and parity by read-modify-write.
    Rmw = bindings::raid456_job_RAID456_JOB_RMW,
    /// New data and parity by reconstruct-write, full strips included.
    Rcw = bindings::raid456_job_RAID456_JOB_RCW,
    /// New data alone.
    Data = bindings::raid456_job_RAID456_JOB_DATA,
    /// Lost blocks.
    Recover = bindings::raid456_job_RAID456_JOB_RECOVER,
    /// Copies to readers.
    Deliver = bindings::raid456_job_RAID456_JOB_DELIVER,
    /// Parity compared with data.
    Check = bindings::raid456_job_RAID456_JOB_CHECK,
    /// Parity that did not match made anew.
    Parity = bindings::raid456_job_RAID456_JOB_PARITY,
    /// The wrong block looked for.
    Locate = bindings::raid456_job_RAID456_JOB_LOCATE,
}

/// What a span waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Reason {
    /// A strip's pages.
    Memory = bindings::raid456_park_RAID456_PARK_MEMORY,
    /// The superblock.
    Superblock = bindings::raid456_park_RAID456_PARK_SUPERBLOCK,
    /// The write-intent bitmap.
    Bitmap = bindings::raid456_park_RAID456_PARK_BITMAP,
}

/// The span at `sector` got work and had none.
#[inline(always)]
pub(crate) fn span_begin(mddev: &Mddev, sector: u64) {
    if is_on!(__tracepoint_span_begin) {
        // SAFETY: The array is valid.
        unsafe { bindings::raid456_trace_span_begin(mddev.as_ptr(), sector) }
    }
}

/// The span at `sector` has nothing left to do.
#[inline(always)]
pub(crate) fn span_end(mddev: &Mddev, sector: u64) {
    if is_on!(__tracepoint_span_end) {
        // SAFETY: The array is valid.
        unsafe { bindings::raid456_trace_span_end(mddev.as_ptr(), sector) }
    }
}

/// A span took in events and went as far as it could; `step` tells where it is.
#[inline(always)]
pub(crate) fn span_step(mddev: &Mddev, step: impl FnOnce() -> Step) {
    if is_on!(__tracepoint_span_step) {
        let step = step();
        // SAFETY: The array is valid, and so is what is told of it.
        unsafe { bindings::raid456_trace_span_step(mddev.as_ptr(), &raw const step) }
    }
}

/// A job begins on `strips` (bits) of the span at `sector`; `kind` tells which.
#[inline(always)]
pub(crate) fn span_job(mddev: &Mddev, sector: u64, kind: impl FnOnce() -> JobKind, strips: u16) {
    if is_on!(__tracepoint_span_job) {
        // CAST: C's number of the kind.
        let kind = kind() as u32;
        // SAFETY: The array is valid.
        unsafe { bindings::raid456_trace_span_job(mddev.as_ptr(), sector, kind, strips.into()) }
    }
}

/// Where a member's bio comes from in the array, if somebody listens to what the block layer tells of that; else 0. That is also
/// what is told of parity, which comes from nowhere.
#[inline(always)]
pub(crate) fn origin(sector: impl FnOnce() -> Option<u64>) -> u64 {
    if is_on!(__tracepoint_block_bio_remap) {
        return sector().unwrap_or(0);
    }
    0
}

/// The span at `sector` begins to wait.
#[inline(always)]
pub(crate) fn span_park(mddev: &Mddev, sector: u64, reason: Reason) {
    if is_on!(__tracepoint_span_park) {
        // CAST: C's number of the reason.
        let reason = reason as u32;
        // SAFETY: The array is valid.
        unsafe { bindings::raid456_trace_span_park(mddev.as_ptr(), sector, reason) }
    }
}
