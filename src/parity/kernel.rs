// SPDX-License-Identifier: GPL-2.0

//! The kernel's own code: `xor_gen` and `raid6_gen_syndrome`, for which it has chosen the fastest way at boot.
//!
//! May only run in task context with interrupts on, because that code may use vector registers. What the kernel has no
//! function for that fits is done by [`Scalar`]: Q that goes on from a group before, and what is left of recovering once
//! P and Q of the other blocks are there.

use super::gf::Element;
use super::group::ZEROS;
use super::scalar::{check_lines, generate_lines, Scalar};
use super::strip::Holder;
use super::{
    Block, Engine, Group, Line, Parity, Source, Start, Sums, Wrong, BLOCK_LINES, GROUP, LINE_BYTES,
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

/// Pointers to as many data blocks as a group has, a Q that goes on, and to P and Q.
type Pointers = [*mut c_void; GROUP + 3];

/// Parity by the kernel's library. Only in task context with interrupts on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel;

impl Engine for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn generate(&self, group: &mut Group<'_>, parity: Parity<'_>, start: Start) {
        group.settle();
        let Parity { mut p, mut q } = parity;
        let lines = group.lines_with(p.as_deref(), q.as_deref());
        let whole = lines / SECTOR_LINES * SECTOR_LINES;
        // With both, and nothing in them, the kernel's function does all of it at once.
        let simple = q.is_none() || (p.is_some() && start == Start::Zero);
        let most = if simple { BLOCK_LINES } else { SECTOR_LINES };
        for first in (0..whole).step_by(most) {
            let part = first..first.saturating_add(most).min(whole);
            let p = p.as_deref_mut().and_then(|p| p.get_mut(part.clone()));
            let q = q.as_deref_mut().and_then(|q| q.get_mut(part));
            match (p, q) {
                (None, None) => {}
                (Some(p), None) => xor(p, group, first, start),
                (Some(p), Some(q)) if start == Start::Zero => syndrome(group, first, None, p, q),
                (p, Some(q)) => go_on(group, first, p, q, start),
            }
        }
        generate_lines(group, Parity { p, q }, start, whole..lines);
    }

    fn check(&self, group: &mut Group<'_>, begun: Sums<'_>, stored: Sums<'_>) -> Wrong {
        group.settle();
        let lines = group.lines_with(stored.p, stored.q);
        let whole = lines / SECTOR_LINES * SECTOR_LINES;
        let mut wrong = check_lines(group, begun, stored, whole..lines);
        for first in (0..whole).step_by(SECTOR_LINES) {
            let found = check_sector(group, first, begun, stored);
            wrong.p |= found.p;
            wrong.q |= found.q;
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
            } if lines.min(p.len()) % SECTOR_LINES == 0 => {
                let bytes = lines.min(p.len()).saturating_mul(LINE_BYTES);
                let blocks = [pointer(old), pointer(new)].into_iter();
                // SAFETY: All of them are lines, so many bytes of them, a multiple of 512; `p` is borrowed mutably, so it is
                // none of the others.
                unsafe { add(p, blocks, bytes) }
            }
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

fn copy(to: &mut [Line], from: Option<&[Line]>) {
    for (to, from) in to.iter_mut().zip(from.unwrap_or(&[])) {
        *to = *from;
    }
}

/// Bytes that P and Q have from their beginnings on, and a group from line `first` on: a multiple of 512, and of a block's
/// at most.
fn common_bytes(p: &[Line], q: &[Line], group: &Group<'_>, first: usize) -> usize {
    let lines = group.lines().saturating_sub(first);
    let lines = lines.min(p.len()).min(q.len());
    lines / SECTOR_LINES * SECTOR_LINES * LINE_BYTES
}

fn pointer(block: &[Line]) -> *mut c_void {
    block.as_ptr().cast::<c_void>().cast_mut()
}

/// The blocks of a group, from line `first` on.
fn pointers<'g>(
    group: &'g Group<'_>,
    first: usize,
) -> impl DoubleEndedIterator<Item = *mut c_void> + 'g {
    let at = first.saturating_mul(LINE_BYTES);
    let entries = group.entries().iter();
    entries.map(move |entry| entry.from.wrapping_add(at).cast::<c_void>().cast_mut())
}

/// P of a group of blocks, from line `first` on.
// Its own frame, as those below: the stack is small, and other work has none of this.
#[inline(never)]
fn xor(p: &mut [Line], group: &Group<'_>, first: usize, start: Start) {
    let bytes = common_bytes(p, p, group, first);
    let mut blocks = pointers(group, first);
    if start == Start::Zero {
        match blocks.next() {
            None => p.fill(Line::ZERO),
            // SAFETY: The block has `bytes` bytes from there on, which nobody changes, and P has as many; P is borrowed mutably,
            // so it is no block.
            Some(block) => unsafe {
                core::ptr::copy_nonoverlapping(block.cast(), p.as_mut_ptr().cast::<u8>(), bytes)
            },
        }
    }
    // SAFETY: `p` and the blocks of a group are at least `bytes` long from there on; `p` is borrowed mutably, so it is none of
    // them.
    unsafe { add(p, blocks, bytes) }
}

/// Adds blocks, at most as many as a group has, to P.
///
/// # Safety
///
/// `bytes`, a multiple of 512, may be read of each of the blocks, and P, which is none of them, is as long. All are aligned
/// to 64 bytes.
unsafe fn add(p: &mut [Line], blocks: impl Iterator<Item = *mut c_void>, bytes: usize) {
    let mut list: Pointers = [core::ptr::null_mut(); GROUP + 3];
    let mut count = 0;
    for (place, block) in list.iter_mut().zip(blocks) {
        *place = block;
        count += 1;
    }
    if let (Ok(bytes @ 1..), 1..) = (u32::try_from(bytes), count) {
        // SAFETY: By the requirements of this function; `count` pointers are those of blocks, which are only read.
        unsafe { bindings::xor_gen(p.as_mut_ptr().cast(), list.as_mut_ptr(), count, bytes) }
    }
}

/// P and Q of a group of blocks, from line `first` on; of `above`, if it is there, as if it were the block before.
#[inline(never)]
fn syndrome(
    group: &Group<'_>,
    first: usize,
    above: Option<&[Line]>,
    p: &mut [Line],
    q: &mut [Line],
) {
    let bytes = common_bytes(p, above.unwrap_or(q), group, first);
    let bytes = bytes.min(common_bytes(p, q, group, first));
    // The kernel's function wants two data blocks at least.
    let missing = 2_usize.saturating_sub(group.len().saturating_add(above.iter().count()));
    let data = pointers(group, first).rev().chain(above.map(pointer));
    let data = data.chain(core::iter::repeat_n(pointer(&ZEROS), missing));
    let all = data.chain([p.as_mut_ptr().cast(), q.as_mut_ptr().cast()]);
    let mut list: Pointers = [core::ptr::null_mut(); GROUP + 3];
    let mut count = 0;
    for (place, pointer) in list.iter_mut().zip(all) {
        *place = pointer;
        count += 1;
    }
    if bytes == 0 {
        return;
    }
    // SAFETY: The first `count` pointers, four at least, point to `bytes` bytes each, which are a multiple of 512 and aligned
    // to 64 as lines are: blocks of a group, from line `first` on, what is above, and zeros, of which there is a block. The
    // last two are borrowed mutably, so they are none of the others, which are only read.
    unsafe { bindings::raid6_gen_syndrome(count, bytes, list.as_mut_ptr()) }
}

/// As [`syndrome`], of 512 bytes; where P is not wanted.
#[inline(never)]
fn syndrome_q(group: &Group<'_>, first: usize, above: Option<&[Line]>, q: &mut [Line]) {
    let mut p = [Line::ZERO; SECTOR_LINES];
    syndrome(group, first, above, &mut p, q);
}

/// Q, and P if it is there, of 512 bytes of a group of blocks, from what is in them on or from zeros.
///
/// Q before counts as if it were the block before the first.
#[inline(never)]
fn go_on(group: &Group<'_>, first: usize, p: Option<&mut [Line]>, q: &mut [Line], start: Start) {
    if let Some(p) = p {
        xor(p, group, first, start);
    }
    let mut new_q = [Line::ZERO; SECTOR_LINES];
    let above = (start == Start::Begun).then_some(&*q);
    syndrome_q(group, first, above, &mut new_q);
    copy(q, Some(&new_q));
}

/// Checks 512 bytes from line `first` on.
#[inline(never)]
fn check_sector(group: &Group<'_>, first: usize, begun: Sums<'_>, stored: Sums<'_>) -> Wrong {
    let part = first..first.saturating_add(SECTOR_LINES);
    let mut wrong = Wrong::default();
    let mut sum = [Line::ZERO; SECTOR_LINES];
    if let Some(p) = stored.p.and_then(|p| p.get(part.clone())) {
        copy(&mut sum, begun.p.and_then(|p| p.get(part.clone())));
        xor(&mut sum, group, first, Start::Begun);
        wrong.p = *p != sum;
    }
    if let Some(q) = stored.q.and_then(|q| q.get(part.clone())) {
        let above = begun.q.and_then(|q| q.get(part.clone()));
        syndrome_q(group, first, above, &mut sum);
        wrong.q = *q != sum;
    }
    wrong
}

fn can_change_syndrome() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid6_can_xor_syndrome() }
}

/// Has P and Q follow a block that was zeros; or that becomes zeros.
fn change_syndrome(block: &[Line], exponent: usize, p: &mut [Line], q: &mut [Line]) {
    let lines = block.len().min(p.len()).min(q.len());
    let bytes = lines / SECTOR_LINES * SECTOR_LINES * LINE_BYTES;
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
