// SPDX-License-Identifier: GPL-2.0

//! A list of whole requests, linked through their bios: nothing is allocated to put one in.

use super::request::Slice;
use crate::bindings;
use core::ptr;

/// Slices, each the whole of its request and the only one of it. Last in, first out.
///
/// # Invariants
///
/// `head` is null or the bio of a slice that this list owns, whose count of pending writes is as it was for a read: none;
/// each `bi_next` leads to the next such bio, or is null. The slice's range is the bio's.
pub(crate) struct SliceList {
    head: *mut bindings::bio,
}

// SAFETY: The list owns slices, which may be sent.
unsafe impl Send for SliceList {}

impl SliceList {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        // INVARIANT: null is the empty list.
        Self {
            head: ptr::null_mut(),
        }
    }

    /// Whether nothing is in the list.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Puts a slice in. Any context.
    ///
    /// # Errors
    ///
    /// The slice comes back if it is not the whole of a read, or not the only slice of it.
    pub(crate) fn push(&mut self, slice: Slice) -> Result<(), Slice> {
        // SAFETY: By the invariant of the slice its bio is valid.
        let whole = unsafe { bindings::raid456_slice_is_whole(&slice.raw) };
        if !whole || slice.counted {
            return Err(slice);
        }
        let bio = core::mem::ManuallyDrop::new(slice).raw.bio;
        // INVARIANT: the bio leads to what was the head.
        // SAFETY: The bio is valid, and as its only slice is ours nobody else uses the field.
        unsafe { (*bio).bi_next = self.head };
        self.head = bio;
        Ok(())
    }

    /// Takes out the slice that was put in last. Any context.
    pub(crate) fn pop(&mut self) -> Option<Slice> {
        let bio = self.head;
        if bio.is_null() {
            return None;
        }
        // SAFETY: By the invariant the bio is valid and its only slice is ours, so nobody else uses it.
        let bio_ref = unsafe { &mut *bio };
        self.head = bio_ref.bi_next;
        bio_ref.bi_next = ptr::null_mut();
        let raw = bindings::raid456_slice {
            bio,
            iter: bio_ref.bi_iter,
        };
        // INVARIANT: the slice that `push` took: all of a read.
        Some(Slice {
            raw,
            counted: false,
        })
    }
}

impl Drop for SliceList {
    fn drop(&mut self) {
        while let Some(slice) = self.pop() {
            drop(slice);
        }
    }
}
