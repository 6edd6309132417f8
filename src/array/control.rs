// SPDX-License-Identifier: GPL-2.0

//! The array's own thread: md core's housekeeping, and waking the spans that wait for the superblock.

use super::counters::Work;
use super::lanes::Lanes;
use super::object::SpanObject;
use super::queue::{IndexStack, Link, Pushed};
use super::table::Slab;
use super::Array;
use crate::md::mddev::Locked;
use crate::md::trace::{self, Reason};
use crate::sync::gate::Gate;
use crate::sync::mailbox::Events;
use kernel::sync::Arc;

/// The work of the array's own thread. Sleeps.
pub(super) fn control(gate: &Gate<Array>) {
    let array: &Array = gate;
    array.bitmap.housekeeping(&array.mddev);
    loop {
        array.wake_recorded();
        let posted = array.post_later();
        if array.mddev.sb_needs_more_than_pending() {
            array.bitmap.housekeeping(&array.mddev);
            array.wake_recorded();
        }
        if !posted {
            return;
        }
    }
}

impl Array {
    /// Puts a span among those that wait for the superblock. Returns whether that is needless: failures are recorded. The
    /// span's runner still owns it.
    pub(super) fn wait_for_superblock(&self, span: &SpanObject) -> bool {
        if self.recording.push(span.index, &span.for_superblock) != Pushed::Already {
            span.counts.add(Work::ParksSuperblock, 1);
            trace::span_park(&self.mddev, span.sector(), Reason::Superblock);
        }
        if self.failures_recorded() {
            return true;
        }
        self.mddev.wake_thread();
        false
    }

    /// Wakes the spans that wait for the superblock if failures are recorded there, and ends the flushes that do.
    pub(super) fn wake_recorded(&self) {
        let nobody_waits = self.recording.is_empty() && !self.flushes_wait();
        if !nobody_waits && self.failures_recorded() {
            self.end_flushes();
            wake(
                self.table.slab(),
                &self.lanes,
                &self.recording,
                |span| &span.for_superblock,
                Events::SUPERBLOCK,
            );
        }
    }

    /// Whether some span or flush waits for a failure that a program has to record, as it keeps the array's metadata.
    pub(super) fn waits_for_program(&self) -> bool {
        let somebody_waits = !self.recording.is_empty() || self.flushes_wait();
        self.mddev.is_external() && somebody_waits && !self.failures_recorded()
    }

    /// For quiesce: sees that failures get recorded, if some span or flush waits for that.
    pub(super) fn help_recording(&self, locked: Option<&Locked<'_>>) {
        if self.recording.is_empty() && !self.flushes_wait() {
            return;
        }
        if !self.failures_recorded() {
            match locked {
                Some(locked) => locked.update_sb(),
                None => self.mddev.wake_thread(),
            }
        }
        self.wake_recorded();
        if self.flushes_wait() {
            // Writes go on there.
            self.mddev.wake_thread();
        }
    }
}

/// Posts events to all spans of a list, and gives those that nobody runs to lanes. Any context.
pub(super) fn wake(
    slab: &Slab,
    lanes: &Lanes,
    list: &IndexStack,
    link: fn(&SpanObject) -> &Link,
    events: Events,
) {
    let of = |index| slab.get(index).map(|span: &Arc<SpanObject>| link(span));
    for index in list.take_all(of) {
        lanes.post(slab, index, events);
    }
}
