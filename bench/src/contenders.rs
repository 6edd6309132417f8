// SPDX-License-Identifier: GPL-2.0

//! Who runs an operation: the kernel's variants, each way in which a driver can use them, and plain copies as the limit.

use crate::libraid::{libc_copy, Libraid, Variant};
use crate::operation::Operation;
use crate::parity::{Line, BLOCK_LINES};
use crate::strip::{Pointers, Strip};
use std::cell::RefCell;
use std::ops::Range;

/// One way to do an operation.
pub(crate) trait Contender {
    /// Whose it is: "lib", "ours" or "memcpy".
    fn side(&self) -> &'static str;

    /// The name in the results.
    fn name(&self) -> String;

    /// Does the operation on a strip; `turn` says which slots. A check says whether parity matches, the others true.
    fn run(&self, op: Operation, strip: &mut Strip<'_>, turn: usize) -> bool;

    /// Blocks that are read and written, of those of a strip: what the time is held against.
    fn traffic(&self, op: Operation, data: usize) -> usize {
        op.traffic(data)
    }
}

/// A way to copy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// The kernel's: `rep movsb`.
    Kernel,
    /// The C library's, which has chosen its code for this CPU.
    Libc,
}

impl Copy {
    const BOTH: [Self; 2] = [Self::Kernel, Self::Libc];

    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "rep movsb",
            Self::Libc => "libc",
        }
    }

    fn copy(self, lib: &Libraid, to: usize, from: usize, strip: &mut Pointers<'_>) {
        match self {
            Self::Kernel => lib.copy(to, from, strip),
            Self::Libc => libc_copy(to, from, strip),
        }
    }
}

/// What XOR begins with, since its target is a source too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Zeros, as the C driver does.
    Zeros,
    /// A copy of the first block.
    First,
}

/// The kernel's code, used in one of several ways.
pub(crate) struct Kernel {
    lib: Libraid,
    /// The variant of raid6; nothing where XOR does.
    variant: Option<Variant>,
    copy: Copy,
    begin: Begin,
    /// 4 KiB at a time, as the C driver does; otherwise the whole block in one call.
    paged: bool,
    scratch: RefCell<[Vec<Line>; 2]>,
}

impl Kernel {
    /// All ways for an operation on blocks of so many lines.
    pub(crate) fn all(
        lib: Libraid,
        variants: &[Variant],
        op: Operation,
        lines: usize,
    ) -> Vec<Self> {
        let xor_only = !op.has_q();
        let variants: Vec<_> = if xor_only {
            vec![None]
        } else {
            variants.iter().copied().map(Some).collect()
        };
        let generates = matches!(op, Operation::CopyP | Operation::GenP | Operation::DataByP);
        let begins: &[Begin] = if generates {
            &[Begin::Zeros, Begin::First]
        } else {
            &[Begin::Zeros]
        };
        // Recovery takes at most a page.
        let recovers = matches!(
            op,
            Operation::DataByQ | Operation::DataAndPByQ | Operation::TwoData
        );
        let paged: &[bool] = if lines <= BLOCK_LINES || recovers {
            &[true]
        } else {
            &[true, false]
        };
        let mut all = Vec::new();
        for variant in variants {
            for copy in Copy::BOTH {
                for begin in begins {
                    if copy == Copy::Libc && !op.copies() && *begin == Begin::Zeros {
                        continue;
                    }
                    for paged in paged {
                        let scratch = [vec![Line::ZERO; lines], vec![Line::ZERO; lines]].into();
                        all.push(Self {
                            lib,
                            variant,
                            copy,
                            begin: *begin,
                            paged: *paged,
                            scratch,
                        });
                    }
                }
            }
        }
        all
    }

    /// Makes the block at `to` the XOR of others, whatever it held.
    fn xor_new(
        &self,
        to: usize,
        mut sources: impl Iterator<Item = usize>,
        strip: &mut Pointers<'_>,
    ) {
        match self.begin {
            Begin::Zeros => self.lib.zero(to, strip),
            Begin::First => {
                if let Some(first) = sources.next() {
                    self.copy.copy(&self.lib, to, first, strip);
                }
            }
        }
        self.lib.xor(to, sources, strip);
    }

    /// The operation on some lines of the blocks.
    fn piece(
        &self,
        op: Operation,
        strip: &mut Strip<'_>,
        turn: usize,
        lines: Range<usize>,
    ) -> bool {
        let (data, slot, two) = (strip.data, strip.slot(turn), strip.two_slots(turn));
        let mut strip = strip.pointers(lines);
        let strip = &mut strip;
        // P follows the data.
        let p = data;
        if op.copies() && !op.is_delta() {
            for page in 0..data {
                self.copy.copy(&self.lib, page, strip.user(page), strip);
            }
        }
        let Some(variant) = self.variant else {
            match op {
                Operation::DeltaP => {
                    self.lib.xor(p, std::iter::once(slot), strip);
                    self.copy.copy(&self.lib, slot, strip.user(0), strip);
                    self.lib.xor(p, std::iter::once(slot), strip);
                }
                Operation::DataByP => {
                    self.xor_new(slot, (0..=data).filter(|member| *member != slot), strip)
                }
                Operation::CheckP => {
                    // As the C driver does it: this destroys P.
                    self.lib.xor(p, 0..data, strip);
                    return strip.run(p).iter().all(|line| *line == Line::ZERO);
                }
                _ => self.xor_new(p, 0..data, strip),
            }
            return true;
        };
        match op {
            Operation::DeltaPq => {
                self.lib.delta(variant, slot, strip);
                self.copy.copy(&self.lib, slot, strip.user(0), strip);
                self.lib.delta(variant, slot, strip);
            }
            // There is nothing that makes the data block alone: the C driver calls this for both, too.
            Operation::DataByQ | Operation::DataAndPByQ => {
                self.lib.recover_data_p(variant, slot, strip)
            }
            Operation::TwoData => self.lib.recover_two(variant, two, strip),
            Operation::CheckPq => {
                let [made_p, made_q] = &mut *self.scratch.borrow_mut();
                let (made_p, made_q) = (&mut made_p[..strip.lines], &mut made_q[..strip.lines]);
                self.lib.gen_into(variant, strip, made_p, made_q);
                return strip.run(p) == made_p && strip.run(p + 1) == made_q;
            }
            _ => self.lib.gen(variant, strip),
        }
        true
    }
}

impl Contender for Kernel {
    fn side(&self) -> &'static str {
        "lib"
    }

    fn name(&self) -> String {
        let mut name = self
            .variant
            .map_or("avx", |variant| variant.name)
            .to_string();
        if self.begin == Begin::First {
            name += ", first copied";
        }
        if self.copy == Copy::Libc {
            name += ", libc's memcpy";
        }
        if !self.paged {
            name += ", one call";
        }
        name
    }

    fn run(&self, op: Operation, strip: &mut Strip<'_>, turn: usize) -> bool {
        let step = if self.paged { BLOCK_LINES } else { strip.lines };
        let mut said = true;
        for at in (0..strip.lines).step_by(step) {
            said &= self.piece(op, strip, turn, at..at + step);
        }
        said
    }
}

/// Copies of the same blocks: nothing that moves as many bytes can be much faster.
pub(crate) struct Limit {
    lib: Libraid,
    copy: Copy,
}

impl Limit {
    /// Both ways to copy.
    pub(crate) fn all(lib: Libraid) -> Vec<Self> {
        Copy::BOTH
            .iter()
            .map(|copy| Self { lib, copy: *copy })
            .collect()
    }
}

impl Contender for Limit {
    fn side(&self) -> &'static str {
        "memcpy"
    }

    fn name(&self) -> String {
        self.copy.name().into()
    }

    fn traffic(&self, op: Operation, data: usize) -> usize {
        if op.copies() {
            2 * op.payload(data)
        } else {
            2 * (op.blocks(data) / 2)
        }
    }

    // Where users' blocks are copied, those; else one half of the strip's blocks to the other.
    fn run(&self, op: Operation, strip: &mut Strip<'_>, turn: usize) -> bool {
        let (data, slot) = (strip.data, strip.slot(turn));
        let mut strip = strip.pointers(0..strip.lines);
        if op.is_delta() {
            self.copy.copy(&self.lib, slot, strip.user(0), &mut strip);
        } else if op.copies() {
            for page in 0..data {
                self.copy
                    .copy(&self.lib, page, strip.user(page), &mut strip);
            }
        } else {
            let half = strip.members / 2;
            for page in 0..half {
                self.copy.copy(&self.lib, page, page + half, &mut strip);
            }
        }
        true
    }
}
