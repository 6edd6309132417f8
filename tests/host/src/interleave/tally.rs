// SPDX-License-Identifier: GPL-2.0

//! Counting those inside: nobody is found gone who is inside, nobody enters what is closed, and who waits is told.

use super::explore_within;
use crate::sync::atomic::between;
use crate::sync::tally::{Slot, Tally};
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;

/// The tally, or a faulty copy of it.
trait Count: Send + Sync + 'static {
    fn new() -> Self;
    fn enter(&self, cpu: usize) -> bool;
    fn add(&self, cpu: usize);
    fn leave(&self, cpu: usize) -> bool;
    fn close(&self);
    fn is_empty(&self) -> bool;
}

impl Count for Tally<Vec<Slot>> {
    fn new() -> Self {
        Self::new(vec![Slot::new(), Slot::new()])
    }
    fn enter(&self, cpu: usize) -> bool {
        self.enter(cpu).is_ok()
    }
    fn add(&self, cpu: usize) {
        self.add(cpu);
    }
    fn leave(&self, cpu: usize) -> bool {
        self.leave(cpu)
    }
    fn close(&self) {
        self.close();
    }
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// What a copy does wrong.
mod way {
    pub(super) const SUMS_THOSE_WHO_ENTERED_FIRST: u32 = 1;
    pub(super) const LOOKS_BEFORE_IT_ENTERS: u32 = 2;
    pub(super) const LOOKS_BEFORE_IT_LEAVES: u32 = 3;
}

/// A copy with a fault.
struct Faulty<const WAY: u32> {
    slots: [(AtomicU32, AtomicU32); 2],
    closed: AtomicBool,
}

impl<const WAY: u32> Faulty<WAY> {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

impl<const WAY: u32> Count for Faulty<WAY> {
    fn new() -> Self {
        let slot = || (AtomicU32::new(0), AtomicU32::new(0));
        Self {
            slots: [slot(), slot()],
            closed: AtomicBool::new(false),
        }
    }

    fn enter(&self, cpu: usize) -> bool {
        let early = self.is_closed();
        between();
        self.slots[cpu].0.fetch_add(1, Ordering::SeqCst);
        between();
        let closed = if WAY == way::LOOKS_BEFORE_IT_ENTERS {
            early
        } else {
            self.is_closed()
        };
        if closed {
            self.slots[cpu].1.fetch_add(1, Ordering::SeqCst);
        }
        !closed
    }

    fn add(&self, cpu: usize) {
        self.slots[cpu].0.fetch_add(1, Ordering::SeqCst);
    }

    fn leave(&self, cpu: usize) -> bool {
        let early = self.is_closed();
        between();
        self.slots[cpu].1.fetch_add(1, Ordering::SeqCst);
        between();
        if WAY == way::LOOKS_BEFORE_IT_LEAVES {
            early
        } else {
            self.is_closed()
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        between();
    }

    fn is_empty(&self) -> bool {
        let left = || {
            let counts = self.slots.iter().map(|slot| slot.1.load(Ordering::SeqCst));
            counts.sum::<u32>()
        };
        let entered = || {
            let counts = self.slots.iter().map(|slot| slot.0.load(Ordering::SeqCst));
            counts.sum::<u32>()
        };
        if WAY == way::SUMS_THOSE_WHO_ENTERED_FIRST {
            let entered = entered();
            between();
            entered == left()
        } else {
            let left = left();
            between();
            left == entered()
        }
    }
}

/// Something that goes when nobody is inside.
struct World<C> {
    count: C,
    gone: AtomicU32,
    /// How often the one who waits was told to look again.
    woken: AtomicU32,
}

impl<C: Count> World<C> {
    fn is_here(&self) {
        let gone = self.gone.fetch_add(0, Ordering::AcqRel);
        assert_eq!(gone, 0, "what somebody is inside of is there");
    }

    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::AcqRel);
    }

    /// Comes in by one CPU, lets somebody in by the other, and both leave.
    fn visit(&self) {
        if !self.count.enter(0) {
            return self.wake();
        }
        self.is_here();
        self.count.add(1);
        if self.count.leave(0) {
            self.wake();
        }
        self.is_here();
        if self.count.leave(1) {
            self.wake();
        }
    }
}

fn visitors_and_one_who_waits<C: Count>() {
    let world = Arc::new(World {
        count: C::new(),
        gone: AtomicU32::new(0),
        woken: AtomicU32::new(0),
    });
    let other = world.clone();
    let visitor = thread::spawn(move || other.visit());
    world.count.close();
    let seen = world.woken.fetch_add(0, Ordering::AcqRel);
    let empty = world.count.is_empty();
    if empty {
        world.gone.fetch_add(1, Ordering::AcqRel);
    }
    visitor.join().unwrap();
    assert!(world.count.is_empty(), "all have left");
    let looks_again = world.woken.fetch_add(0, Ordering::AcqRel) != seen;
    assert!(
        empty || looks_again,
        "who waits is told when the last one has left"
    );
}

const PREEMPTIONS: usize = 4;

#[test]
fn nobody_inside_is_missed_and_nobody_waits_for_ever() {
    explore_within(PREEMPTIONS, visitors_and_one_who_waits::<Tally<Vec<Slot>>>);
}

#[test]
#[should_panic(expected = "what somebody is inside of is there")]
fn summing_those_who_entered_first_is_found() {
    explore_within(
        PREEMPTIONS,
        visitors_and_one_who_waits::<Faulty<{ way::SUMS_THOSE_WHO_ENTERED_FIRST }>>,
    );
}

#[test]
#[should_panic(expected = "what somebody is inside of is there")]
fn looking_before_entering_is_found() {
    explore_within(
        PREEMPTIONS,
        visitors_and_one_who_waits::<Faulty<{ way::LOOKS_BEFORE_IT_ENTERS }>>,
    );
}

#[test]
#[should_panic(expected = "who waits is told when the last one has left")]
fn looking_before_leaving_is_found() {
    explore_within(
        PREEMPTIONS,
        visitors_and_one_who_waits::<Faulty<{ way::LOOKS_BEFORE_IT_LEAVES }>>,
    );
}
