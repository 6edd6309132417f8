// SPDX-License-Identifier: GPL-2.0

//! The stack.

use crate::sync::stack::{Node, Stack, Stacked};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Something to push.
#[repr(C)]
struct Item {
    node: Node,
    value: u32,
    /// Counts the items that were dropped.
    dropped: Arc<AtomicU32>,
}

impl Drop for Item {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Owns an item.
struct Owner(Box<Item>);

impl Owner {
    fn new(value: u32, dropped: &Arc<AtomicU32>) -> Self {
        Self(Box::new(Item {
            node: Node::new(),
            value,
            dropped: dropped.clone(),
        }))
    }
}

// SAFETY: The box keeps the item where it is, and the node of an item is used for these stacks alone.
unsafe impl Stacked for Owner {
    fn into_node(self) -> NonNull<Node> {
        NonNull::from(Box::leak(self.0)).cast()
    }

    unsafe fn from_node(node: NonNull<Node>) -> Self {
        // SAFETY: By the contract the node is of `into_node`, so it is the start of a leaked box, and it is ours.
        Self(unsafe { Box::from_raw(node.cast::<Item>().as_ptr()) })
    }
}

#[test]
fn items_come_in_the_order_in_which_they_were_pushed() {
    let dropped = Arc::default();
    let stack = Stack::new();
    assert!(stack.is_empty());
    assert_eq!(stack.take_all().count(), 0, "items of an empty stack");
    for count in [1, 2, 3, 100] {
        for value in 0..count {
            let was_empty = stack.push(Owner::new(value, &dropped));
            assert_eq!(was_empty, value == 0, "empty before push {value}");
            assert!(!stack.is_empty());
        }
        let taken: Vec<u32> = stack.take_all().map(|item| item.0.value).collect();
        assert_eq!(taken, (0..count).collect::<Vec<_>>());
        assert!(stack.is_empty());
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 106, "items dropped");
}

#[test]
fn an_item_can_be_pushed_again() {
    let dropped = Arc::default();
    let (one, other) = (Stack::new(), Stack::new());
    one.push(Owner::new(1, &dropped));
    one.push(Owner::new(2, &dropped));
    for _ in 0..10 {
        for item in one.take_all() {
            other.push(item);
        }
        for item in other.take_all() {
            one.push(item);
        }
    }
    let taken: Vec<u32> = one.take_all().map(|item| item.0.value).collect();
    assert_eq!(taken, [1, 2]);
}

#[test]
fn what_nobody_takes_is_dropped_with_the_stack() {
    let dropped: Arc<AtomicU32> = Arc::default();
    let stack = Stack::new();
    for value in 0..5 {
        stack.push(Owner::new(value, &dropped));
    }
    let mut taken = stack.take_all();
    stack.push(Owner::new(5, &dropped));
    drop(taken.next());
    assert_eq!(dropped.load(Ordering::Relaxed), 1, "the one handed out");
    drop(taken);
    assert_eq!(dropped.load(Ordering::Relaxed), 5, "and the rest taken");
    drop(stack);
    assert_eq!(dropped.load(Ordering::Relaxed), 6, "and what was left");
}

#[test]
fn threads_lose_no_item() {
    const EACH: u32 = 50_000;
    const PUSHERS: u32 = 3;
    let dropped: Arc<AtomicU32> = Arc::default();
    let stack = Stack::new();
    let mut next = [0u32; PUSHERS as usize];
    let deadline = Instant::now() + Duration::from_secs(30);
    thread::scope(|scope| {
        for pusher in 0..PUSHERS {
            let (stack, dropped) = (&stack, &dropped);
            scope.spawn(move || {
                for value in 0..EACH {
                    stack.push(Owner::new(pusher * EACH + value, dropped));
                }
            });
        }
        while next.iter().any(|&next| next < EACH) {
            for item in stack.take_all() {
                let (pusher, value) = (item.0.value / EACH, item.0.value % EACH);
                let expected = &mut next[pusher as usize];
                assert_eq!(value, *expected, "next item of pusher {pusher}");
                *expected += 1;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "not all items came in time, only up to {next:?}");
            thread::yield_now();
        }
    });
    assert!(stack.is_empty());
    let dropped = dropped.load(Ordering::Relaxed);
    assert_eq!(dropped, PUSHERS * EACH, "items dropped");
}
