// SPDX-License-Identifier: GPL-2.0

//! Bits of the bitmap that are known to be durable: none is taken for durable that was cleared and set again.

use super::explore_within;
use crate::array::durable::Durable;
use loom::sync::atomic::{fence, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// What is known, or a faulty copy of it.
trait Known: Send + Sync + 'static {
    fn new() -> Self;
    fn begin_clearing(&self);
    fn end_clearing(&self);
    fn knows(&self) -> bool;
    fn learn(&self);
}

/// Any chunk will do.
const CHUNK: u64 = 5;

impl Known for Durable<Vec<AtomicU64>> {
    fn new() -> Self {
        Self::new(vec![AtomicU64::new(0)])
    }
    fn begin_clearing(&self) {
        self.begin_clearing();
    }
    fn end_clearing(&self) {
        self.end_clearing();
    }
    fn knows(&self) -> bool {
        self.knows(CHUNK)
    }
    fn learn(&self) {
        self.learn(CHUNK);
    }
}

/// What a copy does wrong.
mod way {
    pub(super) const ONE_EPOCH: u32 = 1;
    pub(super) const AN_EPOCH_ONLY_AT_THE_END: u32 = 2;
    pub(super) const LEARNS_WHILE_BITS_ARE_CLEARED: u32 = 3;
}

/// A copy with a fault.
struct Faulty<const WAY: u32> {
    epoch: AtomicU64,
    slot: AtomicU64,
}

impl<const WAY: u32> Faulty<WAY> {
    fn word(&self) -> Option<u64> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        (WAY == way::LEARNS_WHILE_BITS_ARE_CLEARED || epoch % 2 == 0).then_some(epoch / 2 * 2)
    }
}

impl<const WAY: u32> Known for Faulty<WAY> {
    fn new() -> Self {
        Self {
            epoch: AtomicU64::new(2),
            slot: AtomicU64::new(0),
        }
    }
    fn begin_clearing(&self) {
        match WAY {
            way::ONE_EPOCH | way::AN_EPOCH_ONLY_AT_THE_END => {}
            _ => {
                self.epoch.fetch_add(1, Ordering::SeqCst);
            }
        }
        fence(Ordering::SeqCst);
    }
    fn end_clearing(&self) {
        let steps = match WAY {
            way::ONE_EPOCH => 0,
            way::AN_EPOCH_ONLY_AT_THE_END => 2,
            _ => 1,
        };
        self.epoch.fetch_add(steps, Ordering::SeqCst);
    }
    fn knows(&self) -> bool {
        fence(Ordering::SeqCst);
        self.word()
            .is_some_and(|word| self.slot.load(Ordering::Acquire) == word)
    }
    fn learn(&self) {
        if let Some(word) = self.word() {
            self.slot.store(word, Ordering::Release);
        }
    }
}

/// One bit, as md core keeps it.
#[derive(Default)]
struct Bit {
    writes: u32,
    set: bool,
    durable: bool,
}

struct World<T> {
    known: T,
    bit: Mutex<Bit>,
}

impl<T: Known> World<T> {
    fn write(&self) {
        {
            let mut bit = self.bit.lock().unwrap();
            bit.writes += 1;
            bit.set = true;
        }
        if !self.known.knows() {
            {
                let mut bit = self.bit.lock().unwrap();
                bit.durable = bit.set;
            }
            self.known.learn();
        }
        let mut bit = self.bit.lock().unwrap();
        assert!(bit.durable, "a write goes on when its bit is durable");
        bit.writes -= 1;
    }

    fn housekeeping(&self) {
        self.known.begin_clearing();
        {
            let mut bit = self.bit.lock().unwrap();
            if bit.writes == 0 {
                bit.set = false;
                bit.durable = false;
            }
        }
        self.known.end_clearing();
    }
}

fn writes_and_housekeeping<T: Known>() {
    let world = Arc::new(World {
        known: T::new(),
        bit: Mutex::new(Bit::default()),
    });
    let other = world.clone();
    let keeper = thread::spawn(move || other.housekeeping());
    let other = world.clone();
    let writer = thread::spawn(move || other.write());
    world.write();
    world.write();
    keeper.join().unwrap();
    writer.join().unwrap();
}

const PREEMPTIONS: usize = 3;

#[test]
fn what_was_cleared_is_not_known() {
    explore_within(
        PREEMPTIONS,
        writes_and_housekeeping::<Durable<Vec<AtomicU64>>>,
    );
}

#[test]
#[should_panic(expected = "a write goes on when its bit is durable")]
fn knowing_for_ever_is_found() {
    explore_within(
        PREEMPTIONS,
        writes_and_housekeeping::<Faulty<{ way::ONE_EPOCH }>>,
    );
}

#[test]
#[should_panic(expected = "a write goes on when its bit is durable")]
fn forgetting_only_after_bits_were_cleared_is_found() {
    explore_within(
        PREEMPTIONS,
        writes_and_housekeeping::<Faulty<{ way::AN_EPOCH_ONLY_AT_THE_END }>>,
    );
}

#[test]
#[should_panic(expected = "a write goes on when its bit is durable")]
fn learning_while_bits_are_cleared_is_found() {
    explore_within(
        PREEMPTIONS,
        writes_and_housekeeping::<Faulty<{ way::LEARNS_WHILE_BITS_ARE_CLEARED }>>,
    );
}
