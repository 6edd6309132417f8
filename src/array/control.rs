// SPDX-License-Identifier: GPL-2.0

//! The array's own thread: md core's housekeeping, the one place where the write-intent bitmap is flushed, and waking
//! the spans that wait for that or for the superblock.

use super::object::SpanObject;
use super::queue::{IndexStack, Link};
use super::Array;
use crate::md::mddev::Locked;
use crate::sync::mailbox::Events;
use crate::sync::percpu_ref::Gate;
use core::sync::atomic::{fence, AtomicBool, AtomicU32, Ordering};
use kernel::sync::Arc;

/// The flushes of the write-intent bitmap: each has a number, and a write waits for one that started after its bits were
/// set.
pub(super) struct Flushes {
    started: AtomicU32,
    ended: AtomicU32,
    /// Somebody has set bits since the last flush started.
    wanted: AtomicBool,
    /// Spans that wait for a flush.
    waiting: IndexStack,
}

impl Flushes {
    /// No flush yet.
    pub(super) fn new() -> Self {
        Self {
            started: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            wanted: AtomicBool::new(false),
            waiting: IndexStack::new(),
        }
    }

    /// The flush that a write has to wait for whose bits have just been set, and whether the thread has to be woken for it.
    pub(super) fn ticket(&self) -> (u32, bool) {
        // The bits come before the look at the counter. Whoever starts the flush after this one was read sees them.
        fence(Ordering::SeqCst);
        let seq = self.started.load(Ordering::Relaxed).wrapping_add(1);
        let wake =
            !self.wanted.load(Ordering::Relaxed) && !self.wanted.swap(true, Ordering::SeqCst);
        (seq, wake)
    }

    /// Whether a flush has ended.
    pub(super) fn is_flushed(&self, seq: u32) -> bool {
        // CAST: numbers wrap; the later one is ahead by less than half of the range.
        self.ended.load(Ordering::Acquire).wrapping_sub(seq) as i32 >= 0
    }
}

/// The spans that wait until failures are recorded in the superblock.
pub(super) struct Recording {
    waiting: IndexStack,
}

impl Recording {
    /// Nobody waits.
    pub(super) fn new() -> Self {
        Self {
            waiting: IndexStack::new(),
        }
    }
}

/// The work of the array's own thread. Sleeps.
pub(super) fn control(gate: &Gate<Array>) {
    let array: &Array = gate;
    array.mddev.check_recovery();
    loop {
        array.wake_recorded();
        let flushed = array.flush_bitmap();
        let posted = array.post_later();
        if array.mddev.sb_needs_more_than_pending() {
            array.mddev.check_recovery();
            array.wake_recorded();
        }
        if !flushed && !posted {
            return;
        }
    }
}

impl Array {
    /// Puts a span among those that wait for the superblock. Returns whether that is needless: failures are recorded. The
    /// span's runner still owns it.
    pub(super) fn wait_for_superblock(&self, span: &SpanObject) -> bool {
        self.recorded.waiting.push(span.index, &span.for_superblock);
        if self.failures_recorded() {
            return true;
        }
        self.mddev.wake_thread();
        false
    }

    /// Puts a span among those that wait for a flush of the bitmap. Returns whether that is needless: it has ended. The
    /// span's runner still owns it.
    pub(super) fn wait_for_bitmap(&self, span: &SpanObject, seq: u32) -> bool {
        self.bitmap.waiting.push(span.index, &span.for_bitmap);
        fence(Ordering::SeqCst);
        self.bitmap.is_flushed(seq)
    }

    /// Wakes the spans that wait for the superblock if failures are recorded there.
    pub(super) fn wake_recorded(&self) {
        if !self.recorded.waiting.is_empty() && self.failures_recorded() {
            self.wake(
                &self.recorded.waiting,
                |span| &span.for_superblock,
                Events::SUPERBLOCK,
            );
        }
    }

    /// Flushes the bitmap if somebody wants it. Returns whether that was so. Only for the array's thread; sleeps.
    fn flush_bitmap(&self) -> bool {
        let bitmap = &self.bitmap;
        if !bitmap.wanted.swap(false, Ordering::SeqCst) {
            return false;
        }
        let seq = bitmap.started.load(Ordering::Relaxed).wrapping_add(1);
        bitmap.started.store(seq, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.mddev.bitmap_unplug();
        bitmap.ended.store(seq, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.wake(&bitmap.waiting, |span| &span.for_bitmap, Events::BITMAP);
        true
    }

    /// Posts events to all spans of a list.
    fn wake(&self, list: &IndexStack, link: fn(&SpanObject) -> &Link, events: Events) {
        let slab = self.table.slab();
        let of = |index| slab.get(index).map(|span: &Arc<SpanObject>| link(span));
        for index in list.take_all(of) {
            self.post_to(index, events);
        }
    }

    /// For quiesce: sees that failures get recorded, if some span waits for that.
    pub(super) fn help_recording(&self, locked: Option<&Locked<'_>>) {
        if self.recorded.waiting.is_empty() {
            return;
        }
        if !self.failures_recorded() {
            match locked {
                Some(locked) => locked.update_sb(),
                None => self.mddev.wake_thread(),
            }
        }
        self.wake_recorded();
    }
}
