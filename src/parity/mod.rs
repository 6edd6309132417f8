// SPDX-License-Identifier: GPL-2.0

//! Parity: P, the XOR of a strip's data blocks, and Q, their sum weighted with powers of two in the field of [`gf`].
//!
//! The work is done by one of several [`Engine`]s, of which `engine.rs` chooses one when the module is loaded. An engine
//! works on runs of [`Line`]s and on groups of at most [`GROUP`] inputs, so that nothing grows with the number of members.
//! What cuts a strip into such groups, for every case of writing, checking and recovering, is [`strip::Blocks`].
//!
//! Q is made by Horner's rule: from the highest slot down to slot 0, Q becomes twice Q plus the block. So each step
//! multiplies by two alone, and the next group goes on with the Q that the group before has left in memory.
//!
//! Blocks are the driver's own pages while no I/O is in flight on them. Pages of requests are never blocks, for their owner
//! may change them at any time: they are [`Source`]s, of which each byte is loaded once.

// The host builds all but what needs the kernel, for its tests.
#[cfg(MODULE)]
pub(crate) mod engine;
mod few;
pub(crate) mod gf;
mod group;
#[cfg(MODULE)]
pub(crate) mod kernel;
#[cfg(MODULE)]
mod kunit;
pub(crate) mod lender;
pub(crate) mod locate;
mod recover;
pub(crate) mod scalar;
mod source;
pub(crate) mod strip;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

pub(crate) use group::Group;
pub(crate) use source::Source;

use gf::Element;

/// Bytes of a line.
pub(crate) const LINE_BYTES: usize = 64;

/// Lines of a block.
pub(crate) const BLOCK_LINES: usize = 64;

/// The most inputs that an engine is given at once.
pub(crate) const GROUP: usize = 16;

/// What engines count in: 64 bytes, aligned to as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u64; LINE_BYTES / 8]);

impl Line {
    /// A line of zeros.
    pub(crate) const ZERO: Self = Self([0; LINE_BYTES / 8]);
}

/// A strip's block on one member: a page of 4 KiB.
pub(crate) type Block = [Line; BLOCK_LINES];

/// What takes part in parity at one slot.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// Zeros: the slot has no data, or what it has is lost.
    Zero,
    /// A block, or a part of one.
    Block(&'a [Line]),
    /// Bytes that become the block: each is loaded once, stored to it, and counts in parity as it was loaded.
    Copy {
        /// Where they are.
        from: Source<'a>,
        /// The block.
        to: &'a mut [Line],
    },
}

/// Where P and Q go; each may be missing.
#[derive(Debug, Default)]
pub(crate) struct Parity<'a> {
    pub(crate) p: Option<&'a mut [Line]>,
    pub(crate) q: Option<&'a mut [Line]>,
}

/// P and Q, to be read; each may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums<'a> {
    pub(crate) p: Option<&'a [Line]>,
    pub(crate) q: Option<&'a [Line]>,
}

/// What P and Q begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Zeros: the inputs are those of the highest slots.
    Zero,
    /// What a group of higher slots has left in them.
    Begun,
}

/// Which of the two does not match the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) p: bool,
    pub(crate) q: bool,
}

/// A way to make parity.
///
/// No method sleeps or allocates. Scalar may run in any context, the others in task context with interrupts on.
///
/// Every run of lines in a call is as long as the others. If one is shorter, then which lines beyond its end are worked on
/// is not specified; nothing outside of what is given to be changed is.
pub(crate) trait Engine: Sync {
    /// The name by which logs and settings call the engine.
    fn name(&self) -> &'static str;

    /// Makes P and Q of a group: for each input, from higher slots to lower ones, P becomes P plus the input, and Q twice Q
    /// plus the input. Inputs that are copies are copied, also if there is neither P nor Q.
    fn generate(&self, group: &mut Group<'_>, parity: Parity<'_>, start: Start);

    /// As [`Self::generate`], for blocks that no CPU reads soon: if the engine can, then what it copies goes past the caches,
    /// and so does parity if these are the `last` inputs. From memory to memory that is twice as fast; where blocks are in
    /// a cache it is much slower.
    fn generate_past(&self, group: &mut Group<'_>, parity: Parity<'_>, start: Start, last: bool) {
        let _ = last;
        self.generate(group, parity, start);
    }

    /// Whether `stored` is what [`Self::generate`] would make of a group of blocks, none of which is to be copied, from what
    /// is `begun` on, or from zeros. What is not stored is not wrong.
    fn check(&self, group: &mut Group<'_>, begun: Sums<'_>, stored: Sums<'_>) -> Wrong;

    /// Makes `data` what `new` is, each byte of which is loaded once, and has parity follow: P changes by the difference,
    /// Q by `factor` times that.
    fn change(&self, data: &mut [Line], new: Source<'_>, parity: Parity<'_>, factor: Element);

    /// Has parity follow a block that was `old` and is `new`.
    fn delta(&self, old: &[Line], new: &[Line], parity: Parity<'_>, factor: Element);

    /// Computes two lost blocks of a group of blocks that is all of a strip. P of the group and `stored.0` differ by a, Q and
    /// `stored.1` by b: then the first of `lost` becomes `by.0` times a plus `by.1` times b, and the second one what the first
    /// lacks to a. If the engine can, they go past the caches where `past` says so.
    fn recover_group(
        &self,
        group: &mut Group<'_>,
        lost: (&mut [Line], &mut [Line]),
        stored: (&[Line], &[Line]),
        by: (Element, Element),
        past: bool,
    ) {
        let _ = past;
        let (x, y) = lost;
        let parity = Parity {
            p: Some(&mut *x),
            q: Some(&mut *y),
        };
        self.generate(group, parity, Start::Zero);
        self.recover_two(x, y, stored, by);
    }

    /// Computes a data block by Q. `lost` is the Q of the other blocks before, and becomes `by` times the difference of
    /// that and `q`. `p` is the P of the other blocks, and has the block added.
    fn recover_one(&self, lost: &mut [Line], q: &[Line], by: Element, p: Option<&mut [Line]>);

    /// Computes two data blocks by P and Q, which are `stored`. `x` is the P of the other blocks before, and `y` their Q.
    /// Then `x` becomes `by.0` times the difference of P plus `by.1` times that of Q, and `y` what `x` lacks to that of P.
    fn recover_two(
        &self,
        x: &mut [Line],
        y: &mut [Line],
        stored: (&[Line], &[Line]),
        by: (Element, Element),
    );
}
