// SPDX-License-Identifier: GPL-2.0

//! The array's own thread: md core's housekeeping, the one place where the write-intent bitmap is flushed, and waking
//! the spans that wait for that or for the superblock.

use super::counters::{Event, Work};
use super::object::SpanObject;
use super::queue::{IndexStack, Link, Pushed};
use super::Array;
use crate::md::mddev::Locked;
use crate::sync::gate::Gate;
use crate::sync::mailbox::Events;
use core::sync::atomic::{fence, Ordering};
use kernel::sync::Arc;

/// Spans that wait for what the array's thread does.
pub(super) struct Waiting {
    /// For a flush of the bitmap.
    bitmap: IndexStack,
    /// For failures to be recorded in the superblock.
    superblock: IndexStack,
}

impl Waiting {
    /// Nobody waits.
    pub(super) fn new() -> Self {
        Self {
            bitmap: IndexStack::new(),
            superblock: IndexStack::new(),
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
        let waiting = &self.waiting.superblock;
        if waiting.push(span.index, &span.for_superblock) != Pushed::Already {
            span.counts.add(Work::ParksSuperblock, 1);
        }
        if self.failures_recorded() {
            return true;
        }
        self.mddev.wake_thread();
        false
    }

    /// Puts a span among those that wait for a flush of the bitmap. Returns whether that is needless: it has ended. The
    /// span's runner still owns it.
    pub(super) fn wait_for_bitmap(&self, span: &SpanObject, seq: u32) -> bool {
        let waiting = &self.waiting.bitmap;
        if waiting.push(span.index, &span.for_bitmap) != Pushed::Already {
            span.counts.add(Work::ParksBitmap, 1);
        }
        fence(Ordering::SeqCst);
        self.bitmap.is_flushed(seq)
    }

    /// Wakes the spans that wait for the superblock if failures are recorded there.
    pub(super) fn wake_recorded(&self) {
        if !self.waiting.superblock.is_empty() && self.failures_recorded() {
            self.wake(
                &self.waiting.superblock,
                |span| &span.for_superblock,
                Events::SUPERBLOCK,
            );
        }
    }

    /// Flushes the bitmap if somebody wants it. Returns whether that was so. Only for the array's thread; sleeps.
    fn flush_bitmap(&self) -> bool {
        let Some(seq) = self.bitmap.start() else {
            return false;
        };
        self.counters.add(Event::BitmapFlushes);
        self.mddev.bitmap_unplug();
        self.bitmap.end(seq);
        self.wake(
            &self.waiting.bitmap,
            |span| &span.for_bitmap,
            Events::BITMAP,
        );
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
        if self.waiting.superblock.is_empty() {
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
