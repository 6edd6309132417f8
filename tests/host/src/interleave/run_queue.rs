// SPDX-License-Identifier: GPL-2.0

//! Parts and spans on their ways: parts are posted to a span, and a span is handed to a lane through a run queue.

use super::stack::Owner;
use super::{explore, explore_within};
use crate::sync::mailbox::{Events, Mailbox};
use crate::sync::stack::{Node, Stack, Stacked};
use loom::cell::UnsafeCell;
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
