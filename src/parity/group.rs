// SPDX-License-Identifier: GPL-2.0

//! The inputs that an engine is given at once.

use super::few::Few;
use super::{Block, Input, Line, Source, BLOCK_LINES, LINE_BYTES};
use core::marker::PhantomData;

/// What slots hold that have no data.
pub(super) static ZEROS: Block = [Line::ZERO; BLOCK_LINES];

/// An input as assembly takes it: where it is, and where it is to be copied to; null if nowhere.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) from: *const u8,
    pub(super) to: *mut u8,
}

/// At most [`GROUP`](super::GROUP) inputs, from higher slots to lower ones, of as many lines as the shortest has, and of a
/// block's at most.
///
/// # Invariants
///
/// So many lines of each entry may be read for as long as `'a`, from `from` on. If `to` is null, then they are lines, and
/// nobody changes them; else others may, while the lines at `to` are borrowed mutably, and nobody else uses them.
pub(crate) struct Group<'a> {
    entries: Few<Entry>,
    lines: usize,
    copies: bool,
    _inputs: PhantomData<&'a mut [Line]>,
}

impl<'a> Group<'a> {
    /// No inputs.
    pub(crate) fn new() -> Self {
        Self {
            entries: Few::new(),
            lines: BLOCK_LINES,
            copies: false,
            _inputs: PhantomData,
        }
    }

    /// Adds the input of the next slot down, if there is room.
    #[inline]
    pub(crate) fn push(&mut self, input: Input<'a>) {
        let (entry, lines) = match input {
            Input::Zero => (Entry::of(&ZEROS), BLOCK_LINES),
            Input::Block(block) => (Entry::of(block), block.len()),
            Input::Copy { from, to } => {
                self.copies = true;
                let lines = to.len().min(from.len() / LINE_BYTES);
                let (from, to) = (from.as_ptr(), to.as_mut_ptr().cast());
                (Entry { from, to }, lines)
            }
        };
        // INVARIANT: They are borrowed, or may be read though they change, for as long as `'a`, and are not shorter.
        self.entries.push(entry);
        self.lines = self.lines.min(lines);
    }

    /// How many inputs there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many lines all inputs have.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// How many lines all inputs have, and what parity there is.
    pub(super) fn lines_with(&self, p: Option<&[Line]>, q: Option<&[Line]>) -> usize {
        let parity = [p, q].into_iter().flatten().map(<[Line]>::len);
        parity.fold(self.lines, usize::min)
    }

    /// Whether any input is to be copied.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn copies(&self) -> bool {
        self.copies
    }

    /// The inputs as assembly takes them.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The inputs from the first one on that is not zeros: zeros before all else leave zeros as they are.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn entries_after_zeros(&self) -> &[Entry] {
        let entries = self.entries();
        let zeros = entries.iter().take_while(|entry| entry.is_zero()).count();
        entries.get(zeros..).unwrap_or(&[])
    }

    /// The inputs one by one.
    pub(super) fn inputs(&mut self) -> impl Iterator<Item = Input<'_>> {
        let lines = self.lines;
        self.entries.iter().map(move |entry| {
            if entry.is_zero() {
                Input::Zero
            } else if entry.to.is_null() {
                // SAFETY: By the invariant of a group so many lines are there, which nobody changes.
                Input::Block(unsafe { core::slice::from_raw_parts(entry.from.cast(), lines) })
            } else {
                let bytes = lines.saturating_mul(LINE_BYTES);
                Input::Copy {
                    // SAFETY: By the invariant of a group so many bytes may be read.
                    from: unsafe { Source::from_raw(entry.from, bytes) },
                    // SAFETY: By the invariant of a group so many lines are borrowed mutably, and the group is for as long as
                    // the input.
                    to: unsafe { core::slice::from_raw_parts_mut(entry.to.cast(), lines) },
                }
            }
        })
    }

    /// Copies all that is to be copied, so that what is left are blocks.
    pub(super) fn settle(&mut self) {
        if !self.copies {
            return;
        }
        for input in self.inputs() {
            if let Input::Copy { from, to } = input {
                for (at, line) in to.iter_mut().enumerate() {
                    from.copy_to(at.saturating_mul(LINE_BYTES), line, 0);
                }
            }
        }
        for entry in self.entries.iter_mut() {
            if !entry.to.is_null() {
                // INVARIANT: What is borrowed mutably for as long as `'a` nobody else changes.
                entry.from = entry.to;
                entry.to = core::ptr::null_mut();
            }
        }
        self.copies = false;
    }
}

impl Entry {
    fn of(block: &[Line]) -> Self {
        Self {
            from: block.as_ptr().cast(),
            to: core::ptr::null_mut(),
        }
    }

    fn is_zero(&self) -> bool {
        self.from == ZEROS.as_ptr().cast()
    }
}

impl<'a> Extend<Input<'a>> for Group<'a> {
    fn extend<I: IntoIterator<Item = Input<'a>>>(&mut self, inputs: I) {
        inputs.into_iter().for_each(|input| self.push(input));
    }
}
