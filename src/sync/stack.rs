// SPDX-License-Identifier: GPL-2.0

//! A lock-free list onto which any context pushes, and from which one takes everything at once.
//!
//! It is intrusive: an item has a [`Node`] in it for each stack that it can be on, so pushing allocates nothing. Items
//! are pushed at one end and only ever taken all together, so the ABA problem does not arise. [`Stack::take_all`]
//! returns them in the order in which they were pushed.
//!
//! Pushing and taking neither sleep nor take a lock; both may be called in any context, interrupts included.

use super::atomic::{AtomicPtr, Ordering};
use core::marker::{PhantomData, PhantomPinned};
use core::ptr::{self, NonNull};

/// The part of an item that links it into a stack.
#[derive(Debug)]
pub(crate) struct Node {
    /// The node that was pushed before this one. Only meaningful while the item is on a stack.
    next: AtomicPtr<Node>,
    /// Neighbours point here, so an item on a stack does not move.
    _pinned: PhantomPinned,
}

impl Node {
    /// A node that is on no stack.
    pub(crate) fn new() -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            _pinned: PhantomPinned,
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

/// An owning pointer to an item with a [`Node`] in it, which can therefore be on a [`Stack`].
///
/// An item that can be on several stacks has a node for each, and a pointer type of its own for each.
///
/// # Safety
///
/// - [`Self::into_node`] returns a pointer to a node of the item that is valid for reads and writes, does not move, and
///   is not used for any other stack, until the item is had back by [`Self::from_node`].
/// - An item cannot be had by another pointer of this type meanwhile: what was turned into a node once is not turned
///   into that node again before it comes back.
pub(crate) unsafe trait Stacked: Sized {
    /// Turns the pointer into one to the item's node.
    fn into_node(self) -> NonNull<Node>;

    /// Turns a pointer to the item's node back.
    ///
    /// # Safety
    ///
    /// `node` is from [`Self::into_node`] of this type, and each is turned back at most once.
    unsafe fn from_node(node: NonNull<Node>) -> Self;
}

/// A stack of items of the pointer type `T`.
///
/// # Invariants
///
/// `head` is null or the node of the item pushed last; the `next` of each node leads to the item pushed before it, or is
/// null. The stack owns the items that can be reached so.
pub(crate) struct Stack<T: Stacked> {
    head: AtomicPtr<Node>,
    _items: PhantomData<T>,
}

// SAFETY: A shared stack lets items be moved in and out, and nothing else; so it may be shared if they may be sent.
unsafe impl<T: Stacked + Send> Sync for Stack<T> {}

impl<T: Stacked> Stack<T> {
    /// An empty stack.
    pub(crate) fn new() -> Self {
        // INVARIANT: null is the empty stack.
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
            _items: PhantomData,
        }
    }

    /// Puts `item` on the stack. Returns whether the stack was empty, as for a caller that wakes whoever takes.
    pub(crate) fn push(&self, item: T) -> bool {
        let node = item.into_node();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: `into_node` promises that the node is valid until the item is had back, and that is possible only
            // once it is on the stack.
            let next = unsafe { &node.as_ref().next };
            // Relaxed, here and when it is read: the node is published by `head`.
            next.store(head, Ordering::Relaxed);
            // INVARIANT: the node becomes the head and leads to what was the head.
            // Release: whoever takes the item sees what is in it.
            match self.head.compare_exchange_weak(
                head,
                node.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return head.is_null(),
                Err(other) => head = other,
            }
        }
    }

    /// Takes every item, first come first.
    pub(crate) fn take_all(&self) -> Taken<T> {
        // INVARIANT: the stack is empty, and what it owned is reachable from `newest`.
        // Acquire: pairs with the release of every push, for each later one continued its release sequence.
        let mut newest = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        let mut reversed = ptr::null_mut();
        while let Some(node) = NonNull::new(newest) {
            // SAFETY: By the invariant of the stack this is the node of an item that the stack owned, and that is ours
            // now, so it is valid.
            let next = unsafe { &node.as_ref().next };
            newest = next.load(Ordering::Relaxed);
            next.store(reversed, Ordering::Relaxed);
            reversed = node.as_ptr();
        }
        // INVARIANT: `reversed` leads to every item that was taken, oldest first.
        Taken {
            head: reversed,
            _items: PhantomData,
        }
    }

    /// Whether nothing is on the stack; by the time the caller looks at the answer it may be out of date.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Acquire).is_null()
    }
}

impl<T: Stacked> Default for Stack<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Stacked> Drop for Stack<T> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

/// What was taken from a stack, in the order in which it was pushed. Drops what is left in it.
///
/// # Invariants
///
/// `head` is null or the node of the oldest item; the `next` of each node leads to the item that was pushed after it, or
/// is null. These items belong to this list.
pub(crate) struct Taken<T: Stacked> {
    head: *mut Node,
    _items: PhantomData<T>,
}

// SAFETY: The list owns its items, so it may be sent if they may.
unsafe impl<T: Stacked + Send> Send for Taken<T> {}

impl<T: Stacked> Iterator for Taken<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let node = NonNull::new(self.head)?;
        // SAFETY: By the invariant of the list this is the node of an item that the list owns, so it is valid.
        let next = unsafe { &node.as_ref().next };
        // INVARIANT: the list no longer owns the item that is handed out.
        self.head = next.load(Ordering::Relaxed);
        // SAFETY: Every node of the list is from `into_node` of this type, and this one has just left the list.
        Some(unsafe { T::from_node(node) })
    }
}

impl<T: Stacked> Drop for Taken<T> {
    fn drop(&mut self) {
        for item in self {
            drop(item);
        }
    }
}
