// SPDX-License-Identifier: GPL-2.0

//! The numbers of the write-intent bitmap's flushes.
//!
//! A write sets its bits and then asks for a ticket: the number of a flush that starts after that. Whoever flushes says
//! when a flush starts and when it has ended. Nobody waits here: a span that waits for a number is woken by its owner.

use crate::sync::atomic::{fence, AtomicBool, AtomicU32, Ordering};

/// The flushes of a bitmap: each has a number, and numbers wrap.
#[derive(Debug)]
pub(crate) struct Flushes {
    started: AtomicU32,
    ended: AtomicU32,
    /// Somebody has set bits since the last flush started.
    wanted: AtomicBool,
}

impl Flushes {
    /// No flush yet.
    pub(crate) fn new() -> Self {
        Self {
            started: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            wanted: AtomicBool::new(false),
        }
    }

    /// The flush that a write has to wait for whose bits have just been set, and whether whoever flushes has to be told.
    /// Any context.
    pub(crate) fn ticket(&self) -> (u32, bool) {
        // The bits come before the look at the counter. Whoever starts the flush after this one was read sees them.
        fence(Ordering::SeqCst);
        // Acquire: who sees that a flush has started does not find it still wanted from before that.
        let seq = self.started.load(Ordering::Acquire).wrapping_add(1);
        let wake =
            !self.wanted.load(Ordering::Relaxed) && !self.wanted.swap(true, Ordering::SeqCst);
        (seq, wake)
    }

    /// Whether a flush has ended. Any context.
    pub(crate) fn is_flushed(&self, seq: u32) -> bool {
        // CAST: numbers wrap; the later one is ahead by less than half of the range.
        self.ended.load(Ordering::Acquire).wrapping_sub(seq) as i32 >= 0
    }

    /// Starts a flush if somebody wants one, and returns its number. To be ended by [`Self::end`] before the next starts:
    /// only one task flushes.
    pub(crate) fn start(&self) -> Option<u32> {
        if !self.wanted.swap(false, Ordering::SeqCst) {
            return None;
        }
        let seq = self.started.load(Ordering::Relaxed).wrapping_add(1);
        self.started.store(seq, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Some(seq)
    }

    /// The flush that was started has ended: the bits that were set before it are durable. Who looks at the waiters next
    /// sees all that did not see this.
    pub(crate) fn end(&self, seq: u32) {
        self.ended.store(seq, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}
