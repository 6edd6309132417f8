// SPDX-License-Identifier: GPL-2.0

//! The stack.

use super::explore;
use crate::sync::stack::{Node, Stack, Stacked};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::ptr::NonNull;

/// Something to push.
#[repr(C)]
pub(super) struct Item {
    node: Node,
    value: UnsafeCell<u32>,
}

/// Owns an item.
pub(super) struct Owner(Box<Item>);

impl Owner {
    pub(super) fn new(value: u32) -> Self {
        let item = Box::new(Item {
            node: Node::new(),
            value: UnsafeCell::new(0),
        });
        // SAFETY: Nobody else has the item yet; loom checks it.
        item.value.with_mut(|place| unsafe { *place = value });
        Self(item)
    }

    pub(super) fn value(&self) -> u32 {
        // SAFETY: Loom checks that the item was written before.
        self.0.value.with(|place| unsafe { *place })
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

/// A stack, real or faulty.
pub(super) trait Pile: Default + Send + Sync + 'static {
    fn push(&self, item: Owner) -> bool;
    fn take_all(&self) -> Vec<Owner>;
}

impl Pile for Stack<Owner> {
    fn push(&self, item: Owner) -> bool {
        self.push(item)
    }
    fn take_all(&self) -> Vec<Owner> {
        self.take_all().collect()
    }
}

/// Two threads push two items each while a third takes all.
fn pushed_items_are_taken_once_in_order<S: Pile>() {
    let pile = Arc::new(S::default());
    let pushers: Vec<_> = [1u32, 2]
        .into_iter()
        .map(|pusher| {
            let pile = pile.clone();
            thread::spawn(move || {
                let first = pile.push(Owner::new(10 * pusher));
                let second = pile.push(Owner::new(10 * pusher + 1));
                (first, second)
            })
        })
        .collect();
    // The values are read at once: joining the pushers would make them visible in any case.
    let take = || -> Vec<u32> { pile.take_all().iter().map(Owner::value).collect() };
    let mut batches = vec![take()];
    let mut found_empty = Vec::new();
    for (pusher, thread) in (1u32..).zip(pushers) {
        let (first, second) = thread.join().unwrap();
        found_empty.extend(first.then_some(10 * pusher));
        found_empty.extend(second.then_some(10 * pusher + 1));
    }
    batches.push(take());

    let taken = batches.concat();
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [10, 11, 20, 21], "each item is taken exactly once");
    for pusher in [1, 2] {
        let own: Vec<u32> = taken
            .iter()
            .copied()
            .filter(|value| value / 10 == pusher)
            .collect();
        assert!(
            own.is_sorted(),
            "items of one pusher stay in order: {taken:?}"
        );
    }
    let mut oldest: Vec<u32> = batches
        .iter()
        .flat_map(|batch| batch.first().copied())
        .collect();
    oldest.sort_unstable();
    found_empty.sort_unstable();
    assert_eq!(
        found_empty, oldest,
        "the pushers that are told so are those whose item was the first of a batch"
    );
}

#[test]
fn no_item_is_lost_doubled_or_out_of_order() {
    explore(pushed_items_are_taken_once_in_order::<Stack<Owner>>);
}

/// Copies of the stack with one fault each, all of which the scenario must find.
mod faults {
    use super::super::explore_within;
    use super::*;
    use loom::sync::atomic::{AtomicPtr, Ordering};
    use std::ptr;

    /// What is wrong.
    mod fault {
        pub(super) const PUSH_RELAXED: u32 = 1;
        pub(super) const PUSH_IN_TWO_STEPS: u32 = 2;
        pub(super) const TAKE_RELAXED: u32 = 3;
        pub(super) const TAKE_IN_TWO_STEPS: u32 = 4;
        pub(super) const NEWEST_FIRST: u32 = 5;
        pub(super) const PUSH_FORGETS_THE_NEW_HEAD: u32 = 6;
    }

    struct Link {
        next: *mut Link,
        item: Owner,
    }

    struct Faulty<const FAULT: u32>(AtomicPtr<Link>);

    impl<const FAULT: u32> Default for Faulty<FAULT> {
        fn default() -> Self {
            Self(AtomicPtr::new(ptr::null_mut()))
        }
    }

    impl<const FAULT: u32> Pile for Faulty<FAULT> {
        fn push(&self, item: Owner) -> bool {
            let success = match FAULT {
                fault::PUSH_RELAXED => Ordering::Relaxed,
                _ => Ordering::Release,
            };
            let mut head = self.0.load(Ordering::Relaxed);
            let link = Box::into_raw(Box::new(Link { next: head, item }));
            if FAULT == fault::PUSH_IN_TWO_STEPS {
                self.0.store(link, Ordering::Release);
                return head.is_null();
            }
            loop {
                let result = self
                    .0
                    .compare_exchange(head, link, success, Ordering::Relaxed);
                let Err(other) = result else {
                    return head.is_null();
                };
                head = other;
                if FAULT != fault::PUSH_FORGETS_THE_NEW_HEAD {
                    // SAFETY: The link is not on the stack yet.
                    unsafe { (*link).next = head };
                }
            }
        }

        fn take_all(&self) -> Vec<Owner> {
            let mut head = match FAULT {
                fault::TAKE_RELAXED => self.0.swap(ptr::null_mut(), Ordering::Relaxed),
                fault::TAKE_IN_TWO_STEPS => {
                    let head = self.0.load(Ordering::Acquire);
                    self.0.store(ptr::null_mut(), Ordering::Release);
                    head
                }
                _ => self.0.swap(ptr::null_mut(), Ordering::Acquire),
            };
            let mut items = Vec::new();
            while !head.is_null() {
                // SAFETY: What was reachable from the head is ours now.
                let link = unsafe { Box::from_raw(head) };
                head = link.next;
                items.push(link.item);
            }
            if FAULT != fault::NEWEST_FIRST {
                items.reverse();
            }
            items
        }
    }

    fn explore_stack<const FAULT: u32>() {
        explore(pushed_items_are_taken_once_in_order::<Faulty<FAULT>>);
    }

    #[test]
    fn the_copy_without_a_fault_passes() {
        explore_within(3, pushed_items_are_taken_once_in_order::<Faulty<0>>);
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_relaxed_push_is_found() {
        explore_stack::<{ fault::PUSH_RELAXED }>();
    }

    #[test]
    #[should_panic(expected = "each item is taken exactly once")]
    fn a_push_in_two_steps_is_found() {
        explore_stack::<{ fault::PUSH_IN_TWO_STEPS }>();
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_relaxed_take_is_found() {
        explore_stack::<{ fault::TAKE_RELAXED }>();
    }

    #[test]
    #[should_panic(expected = "each item is taken exactly once")]
    fn a_take_in_two_steps_is_found() {
        explore_stack::<{ fault::TAKE_IN_TWO_STEPS }>();
    }

    #[test]
    #[should_panic(expected = "stay in order")]
    fn the_wrong_order_is_found() {
        explore_stack::<{ fault::NEWEST_FIRST }>();
    }

    #[test]
    #[should_panic(expected = "each item is taken exactly once")]
    fn a_push_that_forgets_the_new_head_is_found() {
        explore_stack::<{ fault::PUSH_FORGETS_THE_NEW_HEAD }>();
    }
}
