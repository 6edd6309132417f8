// SPDX-License-Identifier: GPL-2.0

//! The kernel's own code: `xor_gen` and `raid6_gen_syndrome`, for which it has chosen the fastest way at boot.
//!
//! May only run in task context with interrupts on, because that code may use vector registers. What the kernel has no
//! function for that fits is done by [`Scalar`]: Q that goes on from a group before, and what is left of recovering once
//! P and Q of the other blocks are there.

use super::gf::Element;
use super::scalar::{parity_lines, Scalar};
use super::strip::Holder;
use super::{
    Block, Engine, Input, Line, Parity, Source, Start, Sums, Wrong, BLOCK_LINES, GROUP, LINE_BYTES,
};
use crate::bindings;
use crate::mem::pages::Page;
use core::ffi::c_void;
use kernel::transmute::{AsBytes, FromBytes};
use kernel::warn_on;

// SAFETY: A line is an array of integers: any bytes make one.
unsafe impl FromBytes for Line {}

// SAFETY: A line is an array of integers as long as it is: it has no padding.
unsafe impl AsBytes for Line {}

impl Holder for Page {
    fn block(&self) -> Option<&Block> {
        self.view()
    }

    fn block_mut(&mut self) -> Option<&mut Block> {
        self.view_mut()
    }

    fn complain() {
        warn_on!(true);
    }
}

/// Lines of 512 bytes: the kernel's functions take multiples of as many.
const SECTOR_LINES: usize = 8;

/// What slots hold that have no data.
static ZEROS: Block = [Line::ZERO; BLOCK_LINES];

/// Pointers to as many data blocks as a group has, a Q that goes on, and to P and Q.
type Pointers = [*mut c_void; GROUP + 3];

/// Parity by the kernel's library. Only in task context with interrupts on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel;

impl Engine for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn generate(&self, inputs: &mut [Input<'_>], parity: Parity<'_>, start: Start) {
        let Parity { mut p, mut q } = parity;
        let lines = parity_lines(inputs, p.as_deref(), q.as_deref());
        let mut first = 0;
        while first < lines {
            // With both, and nothing in them, the kernel's function does all of it at once.
            let simple = q.is_none() || (p.is_some() && start == Start::Zero);
            let most = if simple { BLOCK_LINES } else { SECTOR_LINES };
            let count = lines.saturating_sub(first).min(most);
            let part = first..first.saturating_add(count);
            let p = p.as_deref_mut().and_then(|p| p.get_mut(part.clone()));
            let q = q.as_deref_mut().and_then(|q| q.get_mut(part.clone()));
            let mut blocks = [&ZEROS[..0]; GROUP];
            let used = blocks.iter_mut().zip(inputs.iter_mut());
            let used = used.map(|(block, input)| *block = settle(input, part.clone()));
            let used = used.count();
            let blocks = blocks.get(..used).unwrap_or(&[]);
            if count % SECTOR_LINES != 0 {
                let mut inputs = blocks_to_inputs(blocks);
                let inputs = inputs.get_mut(..used).unwrap_or(&mut []);
                Scalar.generate(inputs, Parity { p, q }, start);
            } else {
                match (p, q) {
                    (None, None) => {}
                    (Some(p), None) => xor(p, blocks, start),
                    (Some(p), Some(q)) if start == Start::Zero => syndrome(blocks, None, p, q),
                    (p, Some(q)) => go_on(blocks, p, q, start),
                }
            }
            first = part.end;
        }
    }

    fn check(&self, inputs: &mut [Input<'_>], begun: Sums<'_>, stored: Sums<'_>) -> Wrong {
        let (lines, inputs_count) = (parity_lines(inputs, stored.p, stored.q), inputs.len());
        let mut wrong = Wrong::default();
        for first in (0..lines).step_by(SECTOR_LINES) {
            let part = first..first.saturating_add(SECTOR_LINES).min(lines);
            let count = part.len();
            let mut sums = [[Line::ZERO; SECTOR_LINES]; 2];
            let [p, q] = &mut sums;
            let start = if begun.p.or(begun.q).is_some() {
                Start::Begun
            } else {
                Start::Zero
            };
            copy(p, begun.p.and_then(|p| p.get(part.clone())));
            copy(q, begun.q.and_then(|q| q.get(part.clone())));
            let mut group = [const { Input::Zero }; GROUP];
            for (place, input) in group.iter_mut().zip(inputs.iter_mut()) {
                *place = Input::Block(settle(input, part.clone()));
            }
            let group = group.get_mut(..inputs_count).unwrap_or(&mut []);
            let parity = Parity {
                p: p.get_mut(..count),
                q: q.get_mut(..count).filter(|_| stored.q.is_some()),
            };
            self.generate(group, parity, start);
            let differs = |stored: Option<&[Line]>, sum: &[Line]| {
                stored.is_some_and(|stored| stored.get(part.clone()) != sum.get(..count))
            };
            wrong.p |= differs(stored.p, p);
            wrong.q |= differs(stored.q, q);
        }
        wrong
    }

    fn change(&self, data: &mut [Line], new: Source<'_>, parity: Parity<'_>, factor: Element) {
        let Parity { mut p, mut q } = parity;
        let lines = data.len().min(new.len() / LINE_BYTES);
        for first in (0..lines).step_by(SECTOR_LINES) {
            let part = first..first.saturating_add(SECTOR_LINES).min(lines);
            let mut copied = [Line::ZERO; SECTOR_LINES];
            for (line, at) in copied.iter_mut().zip(part.clone()) {
                new.copy_to(at.saturating_mul(LINE_BYTES), line, 0);
            }
            let (Some(data), Some(copied)) = (data.get_mut(part.clone()), copied.get(..part.len()))
            else {
                return;
            };
            let parity = Parity {
                p: p.as_deref_mut().and_then(|p| p.get_mut(part.clone())),
                q: q.as_deref_mut().and_then(|q| q.get_mut(part.clone())),
            };
            self.delta(data, copied, parity, factor);
            data.copy_from_slice(copied);
        }
    }

    fn delta(&self, old: &[Line], new: &[Line], parity: Parity<'_>, factor: Element) {
        let lines = old.len().min(new.len());
        let exponent = factor.log().map(usize::from);
        match parity {
            Parity {
                p: Some(p),
                q: None,
            } if lines.min(p.len()) % SECTOR_LINES == 0 => xor(p, &[old, new], Start::Begun),
            Parity {
                p: Some(p),
                q: Some(q),
            } if lines.min(p.len()).min(q.len()) % SECTOR_LINES == 0
                && exponent.is_some_and(|exponent| exponent < GROUP)
                && can_change_syndrome() =>
            {
                let exponent = exponent.unwrap_or(0);
                change_syndrome(old, exponent, p, q);
                change_syndrome(new, exponent, p, q);
            }
            parity => Scalar.delta(old, new, parity, factor),
        }
    }

    fn recover_one(&self, lost: &mut [Line], q: &[Line], by: Element, p: Option<&mut [Line]>) {
        Scalar.recover_one(lost, q, by, p);
    }

    fn recover_two(
        &self,
        x: &mut [Line],
        y: &mut [Line],
        stored: (&[Line], &[Line]),
        by: (Element, Element),
    ) {
        Scalar.recover_two(x, y, stored, by);
    }
}

/// Some lines of an input, which are copied first if they have to be.
fn settle<'a>(input: &'a mut Input<'_>, lines: core::ops::Range<usize>) -> &'a [Line] {
    let block = match input {
        Input::Zero => return ZEROS.get(..lines.len()).unwrap_or(&[]),
        Input::Block(block) => block,
        Input::Copy { from, to } => {
            for at in lines.clone() {
                if let Some(line) = to.get_mut(at) {
                    from.copy_to(at.saturating_mul(LINE_BYTES), line, 0);
                }
            }
            &**to
        }
    };
    block.get(lines).unwrap_or(&[])
}

fn blocks_to_inputs<'a>(blocks: &[&'a [Line]]) -> [Input<'a>; GROUP] {
    let mut inputs = [const { Input::Zero }; GROUP];
    for (input, block) in inputs.iter_mut().zip(blocks) {
        *input = Input::Block(block);
    }
    inputs
}

fn copy(to: &mut [Line], from: Option<&[Line]>) {
    for (to, from) in to.iter_mut().zip(from.unwrap_or(&[])) {
        *to = *from;
    }
}

/// Bytes that all of these have.
fn common_bytes(p: &[Line], q: &[Line], blocks: &[&[Line]]) -> usize {
    let lines = blocks.iter().map(|block| block.len());
    lines.fold(p.len().min(q.len()), usize::min) / SECTOR_LINES * SECTOR_LINES * LINE_BYTES
}

fn pointer(block: &[Line]) -> *mut c_void {
    block.as_ptr().cast::<c_void>().cast_mut()
}

/// P of at most [`GROUP`] blocks.
fn xor(p: &mut [Line], blocks: &[&[Line]], start: Start) {
    let rest = match (start, blocks.split_first()) {
        (Start::Zero, Some((first, rest))) => {
            copy(p, Some(first));
            rest
        }
        (Start::Zero, None) => {
            p.fill(Line::ZERO);
            return;
        }
        (Start::Begun, _) => blocks,
    };
    let mut pointers: Pointers = [core::ptr::null_mut(); GROUP + 3];
    let mut count = 0;
    for (place, block) in pointers.iter_mut().zip(rest).take(GROUP) {
        *place = pointer(block);
        count += 1;
    }
    let rest = rest.get(..count as usize).unwrap_or(&[]);
    let (Ok(bytes @ 1..), 1..) = (u32::try_from(common_bytes(p, p, rest)), count) else {
        return;
    };
    // SAFETY: `p` and the `count` sources are at least `bytes` long, a multiple of 512, and aligned to 64 bytes as lines
    // are; `p` is borrowed mutably, so it is none of the sources, which are only read.
    unsafe { bindings::xor_gen(p.as_mut_ptr().cast(), pointers.as_mut_ptr(), count, bytes) }
}

/// P and Q of at most [`GROUP`] blocks, the highest first; of `above`, if it is there, as if it were the block before.
fn syndrome(blocks: &[&[Line]], above: Option<&[Line]>, p: &mut [Line], q: &mut [Line]) {
    let bytes = common_bytes(p, q, blocks);
    let bytes = above.map_or(bytes, |above| bytes.min(common_bytes(p, above, &[])));
    // The kernel's function wants two data blocks at least.
    let zeros = &ZEROS[..];
    let blocks = blocks.get(..blocks.len().min(GROUP)).unwrap_or(&[]);
    let missing = 2_usize.saturating_sub(blocks.len().saturating_add(above.iter().count()));
    let data = blocks.iter().rev().copied().chain(above);
    let data = data.chain(core::iter::repeat_n(zeros, missing));
    let all = data
        .map(pointer)
        .chain([p.as_mut_ptr().cast(), q.as_mut_ptr().cast()]);
    let mut pointers: Pointers = [core::ptr::null_mut(); GROUP + 3];
    let mut count = 0;
    for (place, pointer) in pointers.iter_mut().zip(all) {
        *place = pointer;
        count += 1;
    }
    if bytes == 0 || bytes > size_of::<Block>() {
        return;
    }
    // SAFETY: The first `count` pointers, four at least, point to `bytes` bytes each, which are a multiple of 512 and aligned
    // to 64 as lines are. The last two of them are borrowed mutably, so they are none of the others, which are only read.
    unsafe { bindings::raid6_gen_syndrome(count, bytes, pointers.as_mut_ptr()) }
}

/// Q, and P if it is there, of at most [`GROUP`] blocks, from what is in them on or from zeros: eight lines at most.
///
/// Q before counts as if it were the block before the first; P, which gets it too, loses it again.
fn go_on(blocks: &[&[Line]], p: Option<&mut [Line]>, q: &mut [Line], start: Start) {
    let mut sums = [[Line::ZERO; SECTOR_LINES]; 2];
    let [new_p, new_q] = &mut sums;
    let above = (start == Start::Begun).then_some(&*q);
    syndrome(blocks, above, new_p, new_q);
    if let Some(p) = p {
        for ((p, q), new_p) in p.iter_mut().zip(&*q).zip(new_p) {
            *p = match start {
                Start::Zero => *new_p,
                Start::Begun => p.plus(q).plus(new_p),
            };
        }
    }
    copy(q, Some(new_q));
}

fn can_change_syndrome() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid6_can_xor_syndrome() }
}

/// Has P and Q follow a block that was zeros; or that becomes zeros.
fn change_syndrome(block: &[Line], exponent: usize, p: &mut [Line], q: &mut [Line]) {
    let bytes = common_bytes(p, q, &[block]);
    let mut pointers: Pointers = [core::ptr::null_mut(); GROUP + 3];
    // The kernel's function wants two data blocks at least, but looks only at the one that changes.
    let data = exponent.saturating_add(1).max(2);
    let places = [
        (exponent, pointer(block)),
        (data, p.as_mut_ptr().cast()),
        (data.saturating_add(1), q.as_mut_ptr().cast()),
    ];
    for (index, pointer) in places {
        if let Some(place) = pointers.get_mut(index) {
            *place = pointer;
        }
    }
    let (Ok(slot), Ok(count)) = (
        i32::try_from(exponent),
        i32::try_from(data.saturating_add(2)),
    ) else {
        return;
    };
    if bytes == 0 || exponent >= GROUP {
        return;
    }
    // SAFETY: The pointers of the one slot that changes, and of P and Q, which come last of `count`, point to `bytes` bytes
    // each, a multiple of 512 and aligned to 64. P and Q are borrowed mutably, so they are not the block.
    unsafe { bindings::raid6_xor_syndrome(count, slot, slot, bytes, pointers.as_mut_ptr()) }
}
