// SPDX-License-Identifier: GPL-2.0

//! Memory that may change while it is read.

use super::{Line, LINE_BYTES};
use core::marker::PhantomData;
use core::ops::Range;

/// Bytes that whoever owns them may change at any time, such as a page of a request.
///
/// So they are no `&[u8]`, and what is read of them twice need not be the same: they are copied, each byte once, and what
/// works on them works on the copy, or on the very register that the copy was stored from. They need not be aligned.
///
/// # Invariants
///
/// `len` bytes from `start` may be read for as long as `'a`, though others may write to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    start: *const u8,
    len: usize,
    _bytes: PhantomData<&'a [u8]>,
}

// SAFETY: Any thread may read the bytes, by the invariant.
unsafe impl Send for Source<'_> {}

// SAFETY: As above.
unsafe impl Sync for Source<'_> {}

impl<'a> Source<'a> {
    /// `len` bytes from `start` on.
    ///
    /// # Safety
    ///
    /// They may be read for as long as `'a`, with ordinary loads of any width. Others may write to them meanwhile.
    pub(crate) const unsafe fn from_raw(start: *const u8, len: usize) -> Self {
        // INVARIANT: By the requirement of this function.
        Self {
            start,
            len,
            _bytes: PhantomData,
        }
    }

    /// Bytes that nobody changes.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        // SAFETY: They are borrowed for as long as `'a`.
        unsafe { Self::from_raw(bytes.as_ptr(), bytes.len()) }
    }

    /// The bytes of a line that nobody changes.
    pub(super) fn of_line(line: &'a Line) -> Self {
        let start = core::ptr::from_ref(line).cast();
        // SAFETY: A line has so many bytes, and is borrowed for as long as `'a`.
        unsafe { Self::from_raw(start, LINE_BYTES) }
    }

    /// How many bytes they are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Some of the bytes; `None` if there are no such.
    pub(crate) fn get(&self, range: Range<usize>) -> Option<Self> {
        let len = range.end.checked_sub(range.start)?;
        if range.end > self.len {
            return None;
        }
        // INVARIANT: They lie within these.
        Some(Self {
            start: self.start.wrapping_add(range.start),
            len,
            _bytes: PhantomData,
        })
    }

    /// The address of the first byte.
    pub(crate) const fn as_ptr(&self) -> *const u8 {
        self.start
    }

    /// Copies the bytes from `from` on into a line, from its byte `at` on, as far as both reach; each is read once.
    ///
    /// What may change may not be copied as memory is: the compiler could load it again where it uses the copy. Volatile
    /// loads are as many as there are.
    pub(super) fn copy_to(&self, from: usize, line: &mut Line, at: usize) {
        let room = LINE_BYTES.saturating_sub(at);
        let len = self.len.saturating_sub(from).min(room);
        if len == LINE_BYTES {
            let start = self.start.wrapping_add(from).cast::<[u8; 8]>();
            for (index, word) in line.0.iter_mut().enumerate() {
                // SAFETY: So many words lie behind `from`, by the invariant and the length; they need not be aligned.
                let bytes = unsafe { start.wrapping_add(index).read_volatile() };
                *word = u64::from_ne_bytes(bytes);
            }
            return;
        }
        let start = self.start.wrapping_add(from);
        for index in 0..len {
            // SAFETY: So many bytes lie behind `from`, by the invariant and the length.
            let byte = unsafe { start.wrapping_add(index).read_volatile() };
            line.set_byte(at.wrapping_add(index), byte);
        }
    }
}

impl Line {
    /// Changes a byte, if there is such a one.
    fn set_byte(&mut self, at: usize, byte: u8) {
        if let Some(word) = self.0.get_mut(at / 8) {
            let mut bytes = word.to_ne_bytes();
            if let Some(place) = bytes.get_mut(at % 8) {
                *place = byte;
            }
            *word = u64::from_ne_bytes(bytes);
        }
    }
}
