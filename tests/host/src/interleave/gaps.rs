// SPDX-License-Identifier: GPL-2.0

//! What a sync could not do keeps its mark in the bitmap, however the units' ends meet the beginning of others.

use super::explore;
use crate::array::gaps::Gaps;
use loom::sync::{Arc, Mutex};
use loom::thread;

/// How the marks are seen to; the real way as `RIGHT`, with one fault otherwise.
mod way {
    pub(super) const RIGHT: u32 = 0;
    pub(super) const TAKES_NO_NOTE: u32 = 1;
    pub(super) const TAKES_NOTE_AFTER_THE_MARK: u32 = 2;
    pub(super) const LOOKS_BEFORE_IT_TAKES_THE_MARK_OFF: u32 = 3;
}

/// What the mark is about.
const END: u64 = 64;

/// A mark, as md core keeps it.
struct Mark {
    needed: bool,
    resync: bool,
}

struct World<const WAY: u32> {
    gaps: Gaps,
    mark: Mutex<Mark>,
}

impl<const WAY: u32> World<WAY> {
    /// bitmap_ops->start_sync()
    fn take_off(&self) {
        let mut mark = self.mark.lock().unwrap();
        if mark.needed {
            mark.needed = false;
            mark.resync = true;
        }
    }

    /// bitmap_ops->end_sync()
    fn put_on(&self) {
        let mut mark = self.mark.lock().unwrap();
        mark.needed |= mark.resync;
        mark.resync = false;
    }

    /// As `Array::sync_span()`.
    fn begin(&self, sector: u64) {
        let early = WAY == way::LOOKS_BEFORE_IT_TAKES_THE_MARK_OFF;
        let before = early && self.gaps.are_before(sector, END);
        self.take_off();
        if before || (!early && self.gaps.are_before(sector, END)) {
            self.put_on();
        }
    }

    /// As `Array::unit_done()`, for a unit that could not be done.
    fn fail(&self, sector: u64) {
        if WAY == way::RIGHT || WAY == way::LOOKS_BEFORE_IT_TAKES_THE_MARK_OFF {
            self.gaps.note(sector);
        }
        self.put_on();
        if WAY == way::TAKES_NOTE_AFTER_THE_MARK {
            self.gaps.note(sector);
        }
    }
}

/// The first unit ends, badly, while the next one begins.
fn a_unit_fails<const WAY: u32>() {
    let world = Arc::new(World::<WAY> {
        gaps: Gaps::new(),
        mark: Mutex::new(Mark {
            needed: true,
            resync: false,
        }),
    });
    world.begin(0);
    let other = world.clone();
    let unit = thread::spawn(move || other.fail(0));
    world.begin(16);
    unit.join().unwrap();
    let needed = world.mark.lock().unwrap().needed;
    assert!(needed, "what could not be synced keeps its mark");
}

#[test]
fn what_could_not_be_done_keeps_its_mark() {
    explore(a_unit_fails::<{ way::RIGHT }>);
}

#[test]
#[should_panic(expected = "what could not be synced keeps its mark")]
fn taking_no_note_is_found() {
    explore(a_unit_fails::<{ way::TAKES_NO_NOTE }>);
}

#[test]
#[should_panic(expected = "what could not be synced keeps its mark")]
fn taking_note_after_the_mark_is_found() {
    explore(a_unit_fails::<{ way::TAKES_NOTE_AFTER_THE_MARK }>);
}

#[test]
#[should_panic(expected = "what could not be synced keeps its mark")]
fn looking_before_the_mark_is_taken_off_is_found() {
    explore(a_unit_fails::<{ way::LOOKS_BEFORE_IT_TAKES_THE_MARK_OFF }>);
}
