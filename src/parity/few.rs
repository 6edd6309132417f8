// SPDX-License-Identifier: GPL-2.0

//! A list of a few elements, on the stack.

use super::GROUP;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};

/// As many elements as a group has inputs at most. Room for the others is not initialised, which would take longer than some
/// of the work on them. They are not dropped: none may have to be.
///
/// # Invariants
///
/// The first `count` elements are initialised.
pub(super) struct Few<T> {
    elements: [MaybeUninit<T>; GROUP],
    count: usize,
}

impl<T> Few<T> {
    /// No elements.
    pub(super) fn new() -> Self {
        const { assert!(!core::mem::needs_drop::<T>()) };
        // INVARIANT: there is none.
        Self {
            elements: [const { MaybeUninit::uninit() }; GROUP],
            count: 0,
        }
    }

    /// Adds an element, if there is room.
    pub(super) fn push(&mut self, element: T) {
        if let Some(place) = self.elements.get_mut(self.count) {
            place.write(element);
            // INVARIANT: this one is initialised too.
            self.count = self.count.wrapping_add(1);
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: By the invariant so many are initialised, one behind the other, and borrowed as this is.
        unsafe { core::slice::from_raw_parts(self.elements.as_ptr().cast(), self.count) }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: As above; borrowed mutably as this is.
        unsafe { core::slice::from_raw_parts_mut(self.elements.as_mut_ptr().cast(), self.count) }
    }
}
