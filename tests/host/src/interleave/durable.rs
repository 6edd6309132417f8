// SPDX-License-Identifier: GPL-2.0

//! Bits of the bitmap that are known to be durable: none is taken for durable that was cleared and set again.

use super::explore_within;
use crate::array::durable::{Clearing, Durable};
use loom::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// What is known, or a faulty copy of it.
trait Known: Send + Sync + 'static {
    type Clearing;
    fn new() -> Self;
    fn begin_clearing(&self) -> Self::Clearing;
    fn end_clearing(&self, clearing: Self::Clearing, alone: bool);
    fn distrust(&self);
    fn knows(&self) -> bool;
    fn learn(&self);
}

/// Any chunk will do.
const CHUNK: u64 = 5;

impl Known for Durable<Vec<AtomicU64>> {
    type Clearing = Clearing;
    fn new() -> Self {
        Self::new(vec![AtomicU64::new(0)])
    }
    fn begin_clearing(&self) -> Clearing {
        self.begin_clearing()
    }
    fn end_clearing(&self, clearing: Clearing, alone: bool) {
        self.end_clearing(clearing, alone);
    }
    fn distrust(&self) {
        self.distrust();
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
    /// After a quiesce nothing is known, but learned at once.
    pub(super) const FORGETS_AND_GOES_ON: u32 = 4;
    /// Any housekeeping after the quiesce ends that.
    pub(super) const TRUSTS_WHO_HAS_THE_MUTEX: u32 = 5;
    /// A housekeeping that began before the quiesce ends that, too.
    pub(super) const TRUSTS_WHO_HAS_JUST_COME: u32 = 6;
}

/// A copy with a fault. The epochs are those of the real one.
struct Faulty<const WAY: u32> {
    epoch: AtomicU64,
    slot: AtomicU64,
}

impl<const WAY: u32> Faulty<WAY> {
    fn word(&self) -> Option<u64> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        (WAY == way::LEARNS_WHILE_BITS_ARE_CLEARED || epoch % 4 == 0).then_some(epoch / 4)
    }
}

impl<const WAY: u32> Known for Faulty<WAY> {
    type Clearing = u64;
    fn new() -> Self {
        Self {
            epoch: AtomicU64::new(4),
            slot: AtomicU64::new(0),
        }
    }
    fn begin_clearing(&self) -> u64 {
        let epoch = match WAY {
            way::ONE_EPOCH | way::AN_EPOCH_ONLY_AT_THE_END => 0,
            _ => self.epoch.fetch_add(1, Ordering::SeqCst) + 1,
        };
        fence(Ordering::SeqCst);
        epoch
    }
    fn end_clearing(&self, clearing: u64, alone: bool) {
        match WAY {
            way::ONE_EPOCH => return,
            way::AN_EPOCH_ONLY_AT_THE_END => {
                self.epoch.fetch_add(4, Ordering::SeqCst);
                return;
            }
            way::TRUSTS_WHO_HAS_JUST_COME if alone => {
                self.epoch.fetch_and(!2, Ordering::SeqCst);
            }
            _ if alone || WAY == way::TRUSTS_WHO_HAS_THE_MUTEX => {
                let next = (clearing & !3) + 4;
                let (yes, no) = (Ordering::SeqCst, Ordering::Relaxed);
                let changed = self.epoch.compare_exchange(clearing, next, yes, no);
                if changed.is_ok() {
                    return;
                }
            }
            _ => {}
        }
        self.epoch.fetch_add(3, Ordering::SeqCst);
    }
    fn distrust(&self) {
        self.epoch.fetch_add(4, Ordering::SeqCst);
        if WAY != way::FORGETS_AND_GOES_ON {
            self.epoch.fetch_or(2, Ordering::SeqCst);
        }
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

impl Bit {
    fn clear(&mut self) {
        if self.writes == 0 {
            self.set = false;
            self.durable = false;
        }
    }
}

struct World<T> {
    known: T,
    bit: Mutex<Bit>,
    /// Whether somebody has the array's mutex.
    locked: AtomicBool,
}

impl<T: Known> World<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            known: T::new(),
            bit: Mutex::new(Bit::default()),
            locked: AtomicBool::new(false),
        })
    }

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
        let clearing = self.known.begin_clearing();
        let alone = !self.locked.load(Ordering::Acquire);
        self.bit.lock().unwrap().clear();
        self.known.end_clearing(clearing, alone);
    }

    /// Stops writes, lets them in again, and clears bits: as `__md_stop_writes()`.
    fn stop_writes(&self) {
        self.locked.store(true, Ordering::Relaxed);
        self.known.distrust();
        self.bit.lock().unwrap().clear();
        self.locked.store(false, Ordering::Release);
    }
}

fn writes_and_housekeeping<T: Known>() {
    let world = World::<T>::new();
    let other = world.clone();
    let keeper = thread::spawn(move || other.housekeeping());
    let other = world.clone();
    let writer = thread::spawn(move || other.write());
    world.write();
    world.write();
    keeper.join().unwrap();
    writer.join().unwrap();
}

/// A machine goes down, and writes go on.
fn writes_and_who_stops_them<T: Known>() {
    let world = World::<T>::new();
    let other = world.clone();
    let stopper = thread::spawn(move || other.stop_writes());
    let other = world.clone();
    let writer = thread::spawn(move || {
        other.write();
        other.write();
    });
    world.housekeeping();
    stopper.join().unwrap();
    writer.join().unwrap();
    // In the end something is known again.
    world.housekeeping();
    world.write();
    assert!(
        world.known.knows(),
        "one housekeeping after all that is enough"
    );
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
fn what_is_cleared_by_who_stops_writes_is_not_known() {
    explore_within(
        PREEMPTIONS,
        writes_and_who_stops_them::<Durable<Vec<AtomicU64>>>,
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

#[test]
#[should_panic(expected = "a write goes on when its bit is durable")]
fn forgetting_alone_when_writes_are_stopped_is_found() {
    explore_within(
        PREEMPTIONS,
        writes_and_who_stops_them::<Faulty<{ way::FORGETS_AND_GOES_ON }>>,
    );
}

#[test]
#[should_panic(expected = "a write goes on when its bit is durable")]
fn trusting_who_has_the_mutex_is_found() {
    explore_within(
        PREEMPTIONS,
        writes_and_who_stops_them::<Faulty<{ way::TRUSTS_WHO_HAS_THE_MUTEX }>>,
    );
}

#[test]
#[should_panic(expected = "a write goes on when its bit is durable")]
fn trusting_who_has_just_come_is_found() {
    explore_within(
        PREEMPTIONS,
        writes_and_who_stops_them::<Faulty<{ way::TRUSTS_WHO_HAS_JUST_COME }>>,
    );
}
