// SPDX-License-Identifier: GPL-2.0

//! Elements of a slice, each borrowed by itself.

use core::marker::PhantomData;
use core::ptr::NonNull;

/// The most elements that can be lent.
const MOST: u16 = 256;

/// Lends the elements of a slice, in any order, each at most once: so that a group of blocks can be held at the same time,
/// some of them to be changed, without an array as long as the slice.
///
/// # Invariants
///
/// `len` elements from `first` on are borrowed mutably for as long as `'a`; of them, those marked in `lent` have been
/// given away, and no other reference to the rest exists.
pub(crate) struct Lender<'a, T> {
    first: NonNull<T>,
    len: u16,
    lent: [u64; 4],
    _elements: PhantomData<&'a mut [T]>,
}

impl<'a, T> Lender<'a, T> {
    /// Lends the elements of `slice`; of a longer one than 256 the first 256.
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        // INVARIANT: nothing is lent yet.
        Self {
            len: u16::try_from(slice.len()).map_or(MOST, |len| len.min(MOST)),
            first: NonNull::from(slice).cast(),
            lent: [0; 4],
            _elements: PhantomData,
        }
    }

    /// An element; `None` if it has been taken before, or there is no such.
    pub(crate) fn take(&mut self, index: u16) -> Option<&'a mut T> {
        let word = self.lent.get_mut(usize::from(index / 64))?;
        let bit = 1 << (index % 64);
        if index >= self.len || *word & bit != 0 {
            return None;
        }
        // INVARIANT: marked, as it is given away.
        *word |= bit;
        let address = self.first.as_ptr().wrapping_add(usize::from(index));
        // SAFETY: By the invariant the element is borrowed mutably for as long as `'a`, and no other reference to it
        // exists: it was not marked. From now on it is, so this is the only one.
        Some(unsafe { &mut *address })
    }
}
