// SPDX-License-Identifier: GPL-2.0

//! Parts and spans on their ways: parts are posted to a span, and a span is handed to a lane through a run queue, which is
//! woken for it.

use super::stack::Owner;
use super::{explore, explore_within};
use crate::array::queue::{IndexStack, Link, Pushed};
use crate::sync::mailbox::{Events, Mailbox};
use crate::sync::stack::{Node, Stack, Stacked};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{fence, AtomicBool, AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use std::ptr::NonNull;

/// A span with the parts that came, and with the parts that its runners have seen.
#[repr(C)]
struct Span {
    queued: Node,
    mailbox: Mailbox,
    parts: Stack<Owner>,
    seen: UnsafeCell<Vec<u32>>,
}

// SAFETY: Loom checks that only the span's owner touches `seen`.
unsafe impl Send for Span {}
// SAFETY: As above.
unsafe impl Sync for Span {}

/// The right to run a span, on its way to a lane.
struct Duty(Arc<Span>);

// SAFETY: The counted pointer keeps the span where it is. Its node is used for the run queue alone, and once at a time:
// only its owner queues a span.
unsafe impl Stacked for Duty {
    fn into_node(self) -> NonNull<Node> {
        let span = Arc::into_raw(self.0);
        NonNull::new(span.cast_mut()).unwrap().cast()
    }

    unsafe fn from_node(node: NonNull<Node>) -> Self {
        // SAFETY: By the contract the node is of `into_node`, so it is the start of a span, and the count is ours.
        Self(unsafe { Arc::from_raw(node.cast::<Span>().as_ptr().cast_const()) })
    }
}

impl Span {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            queued: Node::new(),
            mailbox: Mailbox::new(),
            parts: Stack::new(),
            seen: UnsafeCell::new(Vec::new()),
        })
    }

    /// Posts a part. Whether the caller must get the span run.
    fn post(&self, part: u32) -> bool {
        self.parts.push(Owner::new(part));
        self.mailbox.post(Events::PARTS)
    }

    /// One round: whether that was the last one.
    fn round(&self) -> bool {
        if self.mailbox.take().contains(Events::PARTS) {
            for part in self.parts.take_all() {
                self.seen.with_mut(|seen| {
                    // SAFETY: Only the owner gets here; loom checks it.
                    unsafe { (*seen).push(part.value()) };
                });
            }
        }
        self.mailbox.finish()
    }

    fn run(&self) {
        while !self.round() {}
    }

    fn check(&self, expected: &[u32]) {
        // SAFETY: All threads have ended; loom checks it.
        let mut seen = self.seen.with(|seen| unsafe { (*seen).clone() });
        seen.sort_unstable();
        assert_eq!(seen, expected, "each part is seen by a runner exactly once");
        assert!(self.parts.is_empty(), "no part is left");
    }
}

#[test]
fn every_posted_part_is_seen_by_a_runner() {
    explore_within(6, || {
        let span = Span::new();
        let other = span.clone();
        let poster = thread::spawn(move || {
            for part in [10, 11] {
                if other.post(part) {
                    other.run();
                }
            }
        });
        for part in [20, 21] {
            if span.post(part) {
                span.run();
            }
        }
        poster.join().unwrap();
        span.check(&[10, 11, 20, 21]);
    });
}

#[test]
fn a_span_is_handed_to_a_lane_while_parts_arrive() {
    explore(|| {
        let span = Span::new();
        let queue = Arc::new(Stack::<Duty>::new());

        // Runs one round at once, then leaves the rest to a lane.
        let (own, lane_queue) = (span.clone(), queue.clone());
        let submitter = thread::spawn(move || {
            if own.post(1) && !own.round() {
                lane_queue.push(Duty(own));
            }
        });
        // Queues the span without running it.
        let (own, lane_queue) = (span.clone(), queue.clone());
        let interrupt = thread::spawn(move || {
            if own.post(2) {
                lane_queue.push(Duty(own));
            }
        });
        // The lane: looks once while the others are at work, and once when it is woken in the end.
        for duty in queue.take_all() {
            duty.0.run();
        }
        submitter.join().unwrap();
        interrupt.join().unwrap();
        for duty in queue.take_all() {
            duty.0.run();
        }
        span.check(&[1, 2]);
    });
}

/// What is wrong with how a lane is woken.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// md core's bit is set before it is seen what for.
    WakesWithoutABarrier,
    /// The lane looks before it is seen that it has taken the bit back.
    LooksWithoutABarrier,
}

/// A lane with its list of spans, and its thread: as `raid456_wake_thread_at()` of `shim/md.c`, `md_thread()` of md core, `run` of
/// `src/md/thread.rs`, and `src/array/lanes.rs`.
struct Lane {
    fault: Fault,
    queue: IndexStack,
    links: [Link; 2],
    /// md core's bit; it is set and taken back in no order with anything else.
    wakeup: AtomicBool,
    /// How many spans were run.
    run: AtomicU32,
}

impl Lane {
    fn push(&self, index: u32) {
        if self.queue.push(index, &self.links[index as usize]) != Pushed::First {
            return;
        }
        if self.fault != Fault::WakesWithoutABarrier {
            fence(Ordering::SeqCst);
        }
        self.wakeup.swap(true, Ordering::Relaxed);
    }

    /// What the thread does if it is woken.
    fn look(&self) {
        if !self.wakeup.swap(false, Ordering::Relaxed) {
            return;
        }
        if self.fault != Fault::LooksWithoutABarrier {
            fence(Ordering::SeqCst);
        }
        while !self.queue.is_empty() {
            let of = |index| self.links.get(index as usize);
            let count = self.queue.take_all(of).count();
            // CAST: there are two.
            self.run.fetch_add(count as u32, Ordering::Relaxed);
        }
    }
}

/// Two spans are pushed while the lane looks; what it does not see then it is woken for.
fn a_lane_is_woken(fault: Fault) {
    let lane = Arc::new(Lane {
        fault,
        queue: IndexStack::new(),
        links: [Link::new(), Link::new()],
        wakeup: AtomicBool::new(false),
        run: AtomicU32::new(0),
    });
    let other = lane.clone();
    let pusher = thread::spawn(move || {
        other.push(0);
        other.push(1);
    });
    lane.look();
    lane.look();
    pusher.join().unwrap();
    // It is not asleep with the bit set.
    lane.look();
    let run = lane.run.load(Ordering::Relaxed);
    assert_eq!(run, 2, "a lane is woken for each span that it does not see");
}

#[test]
fn a_lane_runs_every_span_that_is_pushed() {
    explore(|| a_lane_is_woken(Fault::None));
}

#[test]
#[should_panic(expected = "a lane is woken for each span that it does not see")]
fn waking_a_lane_without_a_barrier_is_found() {
    explore(|| a_lane_is_woken(Fault::WakesWithoutABarrier));
}

#[test]
#[should_panic(expected = "a lane is woken for each span that it does not see")]
fn looking_for_spans_without_a_barrier_is_found() {
    explore(|| a_lane_is_woken(Fault::LooksWithoutABarrier));
}
