// SPDX-License-Identifier: GPL-2.0

//! Tickets for the bitmap's flushes: nobody goes on before its bit is durable, and nobody waits for ever.

use super::explore_within;
use crate::array::flushes::Flushes;
use loom::sync::atomic::{fence, AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// The flushes, or a faulty copy of them.
trait Tickets: Send + Sync + 'static {
    fn new() -> Self;
    fn ticket(&self) -> (u32, bool);
    fn is_flushed(&self, seq: u32) -> bool;
    fn start(&self) -> Option<u32>;
    fn end(&self, seq: u32);
}

impl Tickets for Flushes {
    fn new() -> Self {
        Self::new()
    }
    fn ticket(&self) -> (u32, bool) {
        self.ticket()
    }
    fn is_flushed(&self, seq: u32) -> bool {
        self.is_flushed(seq)
    }
    fn start(&self) -> Option<u32> {
        self.start()
    }
    fn end(&self, seq: u32) {
        self.end(seq);
    }
}

/// What a copy does wrong.
mod way {
    pub(super) const TAKES_THE_FLUSH_UNDER_WAY: u32 = 1;
    pub(super) const WANTS_BEFORE_IT_LOOKS: u32 = 2;
    pub(super) const NO_FENCE_BEFORE_THE_LOOK: u32 = 3;
    pub(super) const COUNTS_BEFORE_IT_CLEARS: u32 = 4;
}

/// A copy with a fault.
struct Faulty<const WAY: u32> {
    started: AtomicU32,
    ended: AtomicU32,
    wanted: AtomicBool,
}

impl<const WAY: u32> Faulty<WAY> {
    fn want(&self) -> bool {
        !self.wanted.load(Ordering::Relaxed) && !self.wanted.swap(true, Ordering::SeqCst)
    }
}

impl<const WAY: u32> Tickets for Faulty<WAY> {
    fn new() -> Self {
        Self {
            started: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            wanted: AtomicBool::new(false),
        }
    }

    fn ticket(&self) -> (u32, bool) {
        let early = WAY == way::WANTS_BEFORE_IT_LOOKS && self.want();
        if WAY != way::NO_FENCE_BEFORE_THE_LOOK {
            fence(Ordering::SeqCst);
        }
        let seq = self.started.load(Ordering::Acquire);
        if WAY == way::TAKES_THE_FLUSH_UNDER_WAY {
            return (seq.max(1), self.want());
        }
        let wake = early || (WAY != way::WANTS_BEFORE_IT_LOOKS && self.want());
        (seq.wrapping_add(1), wake)
    }

    fn is_flushed(&self, seq: u32) -> bool {
        self.ended.load(Ordering::Acquire).wrapping_sub(seq) as i32 >= 0
    }

    fn start(&self) -> Option<u32> {
        let seq = self.started.load(Ordering::Relaxed).wrapping_add(1);
        if WAY == way::COUNTS_BEFORE_IT_CLEARS {
            if !self.wanted.load(Ordering::SeqCst) {
                return None;
            }
            self.started.store(seq, Ordering::SeqCst);
            self.wanted.store(false, Ordering::SeqCst);
        } else {
            if !self.wanted.swap(false, Ordering::SeqCst) {
                return None;
            }
            self.started.store(seq, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        Some(seq)
    }

    fn end(&self, seq: u32) {
        self.ended.store(seq, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

/// A bitmap of a few bits, with a daemon that flushes it and writers that wait for that.
struct World<T> {
    flushes: T,
    bits: [AtomicU32; 2],
    durable: [AtomicU32; 2],
    /// The daemon was told to look.
    woken: AtomicBool,
    waiting: Mutex<Vec<(usize, u32)>>,
}

impl<T: Tickets> World<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flushes: T::new(),
            bits: [AtomicU32::new(0), AtomicU32::new(0)],
            durable: [AtomicU32::new(0), AtomicU32::new(0)],
            woken: AtomicBool::new(false),
            waiting: Mutex::new(Vec::new()),
        })
    }

    fn goes_on(&self, writer: usize) {
        let durable = self.durable[writer].load(Ordering::Relaxed);
        assert_eq!(durable, 1, "a write goes on when its bit is durable");
    }

    fn write(&self, writer: usize) {
        self.bits[writer].store(1, Ordering::Relaxed);
        let (seq, wake) = self.flushes.ticket();
        if wake {
            // Loom does not order a store among swaps of others.
            self.woken.swap(true, Ordering::AcqRel);
        }
        if !self.flushes.is_flushed(seq) {
            self.waiting.lock().unwrap().push((writer, seq));
            fence(Ordering::SeqCst);
            if !self.flushes.is_flushed(seq) {
                return;
            }
            self.waiting
                .lock()
                .unwrap()
                .retain(|(who, _)| *who != writer);
        }
        self.goes_on(writer);
    }

    fn daemon(&self) {
        while self.woken.swap(false, Ordering::AcqRel) {
            let Some(seq) = self.flushes.start() else {
                continue;
            };
            for (bit, durable) in self.bits.iter().zip(&self.durable) {
                durable.fetch_max(bit.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            self.flushes.end(seq);
            self.waiting.lock().unwrap().retain(|(writer, seq)| {
                let flushed = self.flushes.is_flushed(*seq);
                if flushed {
                    self.goes_on(*writer);
                }
                !flushed
            });
        }
    }
}

fn writers_and_a_daemon<T: Tickets>() {
    let world = World::<T>::new();
    let other = world.clone();
    let writer = thread::spawn(move || other.write(1));
    let other = world.clone();
    let daemon = thread::spawn(move || other.daemon());
    world.write(0);
    writer.join().unwrap();
    daemon.join().unwrap();
    // It sleeps until it is told; if it was, it looks again.
    world.daemon();
    let waiting = world.waiting.lock().unwrap();
    assert!(
        waiting.is_empty(),
        "nobody waits for a flush that nobody starts"
    );
}

const PREEMPTIONS: usize = 3;

#[test]
fn nobody_goes_on_too_early_or_waits_for_ever() {
    explore_within(PREEMPTIONS, writers_and_a_daemon::<Flushes>);
}

#[test]
#[should_panic(expected = "a write goes on when its bit is durable")]
fn waiting_for_the_flush_under_way_is_found() {
    explore_within(
        PREEMPTIONS,
        writers_and_a_daemon::<Faulty<{ way::TAKES_THE_FLUSH_UNDER_WAY }>>,
    );
}

#[test]
#[should_panic(expected = "nobody waits for a flush that nobody starts")]
fn wanting_before_looking_is_found() {
    explore_within(
        PREEMPTIONS,
        writers_and_a_daemon::<Faulty<{ way::WANTS_BEFORE_IT_LOOKS }>>,
    );
}

#[test]
#[should_panic(expected = "a write goes on when its bit is durable")]
fn looking_without_a_fence_is_found() {
    explore_within(
        PREEMPTIONS,
        writers_and_a_daemon::<Faulty<{ way::NO_FENCE_BEFORE_THE_LOOK }>>,
    );
}

#[test]
#[should_panic(expected = "nobody waits for a flush that nobody starts")]
fn counting_before_clearing_is_found() {
    explore_within(
        PREEMPTIONS,
        writers_and_a_daemon::<Faulty<{ way::COUNTS_BEFORE_IT_CLEARS }>>,
    );
}
