// SPDX-License-Identifier: GPL-2.0

//! Engines for x86-64: AVX2, AVX-512, and GFNI with registers of either size.
//!
//! The kernel is compiled for CPUs without floating point, where vectors are unknown to the compiler: it would turn what
//! the intrinsics say into scalar code. So loops are written in assembly, whole, with pointers in general registers
//! ([`sums`], [`streams`], [`horner`], [`products`]), in the words of each instruction set ([`words`]). Here is what makes calls of it safe.

mod cpu;
mod fpu;
mod horner;
mod products;
mod sets;
mod solving;
mod streams;
mod sums;
mod words;

use super::gf::Element;
use super::scalar::Scalar;
use super::{
    Engine, Group, Line, Parity, Source, Start, Sums, Wrong, BLOCK_LINES, GROUP, LINE_BYTES,
};
use core::marker::PhantomData;
use core::ops::Range;
use cpu::Features;
use fpu::Fpu;
use horner::Pass;
use products::{Change, One, Two};
use sets::{Avx2, Avx512, Code, Gfni256, Gfni512};

/// Every engine for this kind of CPU: its name, and the engine if this CPU can run it. Any context.
pub(crate) fn engines() -> impl Iterator<Item = (&'static str, Option<&'static dyn Engine>)> {
    let features = Features::detect();
    [
        offer::<Avx2>(features),
        offer::<Avx512>(features),
        offer::<Gfni256>(features),
        offer::<Gfni512>(features),
    ]
    .into_iter()
}

fn offer<C: Code>(features: Features) -> (&'static str, Option<&'static dyn Engine>) {
    // INVARIANT: only where the CPU has what it needs.
    let engine: &'static dyn Engine = &Simd::<C>(PhantomData);
    (C::NAME, features.have(C::NEEDS).then_some(engine))
}

/// An engine that runs the code of an instruction set, a block's length at a time: so vector registers are not kept for
/// long. Only in task context with interrupts on.
///
/// # Invariants
///
/// Where there is a value that others can see, there the CPU has what [`Code::NEEDS`] says.
#[derive(Debug)]
struct Simd<C>(PhantomData<C>);

/// Where what is generated goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stores {
    /// To the caches, as ever.
    Near,
    /// Copies past them, and parity, too, if it is whole.
    Past { parity: bool },
}

/// Lines that are worked on before vector registers are given back: those of a block.
const PIECE: usize = BLOCK_LINES;

impl<C: Code> Engine for Simd<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn generate(&self, group: &mut Group<'_>, parity: Parity<'_>, start: Start) {
        self.make(group, parity, start, Stores::Near);
    }

    fn generate_past(&self, group: &mut Group<'_>, parity: Parity<'_>, start: Start, last: bool) {
        let leaves = C::LEAVES && !group.copies() && parity.q.is_some();
        let stores = if C::STREAMS || leaves {
            Stores::Past { parity: last }
        } else {
            Stores::Near
        };
        self.make(group, parity, start, stores);
    }

    fn check(&self, group: &mut Group<'_>, begun: Sums<'_>, stored: Sums<'_>) -> Wrong {
        let lines = group.lines_with(stored.p, stored.q);
        let lines = [begun.p, begun.q]
            .into_iter()
            .flatten()
            .map(<[Line]>::len)
            .fold(lines, usize::min);
        let mut wrong = Wrong::default();
        if lines == 0 || (stored.p.is_none() && stored.q.is_none()) {
            return wrong;
        }
        let pass = Pass {
            inputs: group.entries(),
            begun_p: address(begun.p),
            begun_q: address(begun.q),
            p: address(stored.p).cast_mut(),
            q: address(stored.q).cast_mut(),
            past: false,
        };
        let bytes = lines.wrapping_mul(LINE_BYTES);
        let _fpu = Fpu::begin();
        if stored.q.is_some() {
            // SAFETY: By the invariant of this type the CPU has the instructions, and vector registers may be used. All
            // inputs, what parity begins with and what is stored have so many lines, `bytes` bytes, if they are there; Q is.
            // They are only read.
            let found = unsafe { C::check_pq(&pass, bytes) };
            wrong.p = found & 1 != 0;
            wrong.q = found & 2 != 0;
        } else {
            // SAFETY: As above; P is there, as Q is not.
            wrong.p = unsafe { C::check_p(&pass, bytes) } != 0;
        }
        wrong
    }

    fn change(&self, data: &mut [Line], new: Source<'_>, parity: Parity<'_>, factor: Element) {
        if parity.p.is_none() && parity.q.is_none() {
            Scalar.change(data, new, parity, factor);
            return;
        }
        let lines = data.len().min(new.len() / LINE_BYTES);
        let copy = data.as_mut_ptr().cast::<u8>();
        // SAFETY: The old lines may be read, and written to as a copy, for they are borrowed mutably; there are so many of
        // them, and as many new bytes, which may be read while others write to them.
        unsafe { self.follow(copy, new.as_ptr(), copy, lines, parity, factor) }
    }

    fn delta(&self, old: &[Line], new: &[Line], parity: Parity<'_>, factor: Element) {
        let lines = old.len().min(new.len());
        let copy = core::ptr::null_mut();
        // SAFETY: The old and the new lines may be read, for they are borrowed, and there are so many of both.
        unsafe {
            self.follow(
                old.as_ptr().cast(),
                new.as_ptr().cast(),
                copy,
                lines,
                parity,
                factor,
            )
        }
    }

    fn recover_group(
        &self,
        group: &mut Group<'_>,
        lost: (&mut [Line], &mut [Line]),
        stored: (&[Line], &[Line]),
        by: (Element, Element),
        past: bool,
    ) {
        let (x, y) = lost;
        let (p, q) = stored;
        let lines = group.lines_with(Some(x), Some(y)).min(p.len()).min(q.len());
        let inputs = group.entries_after_zeros();
        if C::SOLVES && !inputs.is_empty() && !group.copies() && lines > 0 {
            let pass = Pass {
                inputs,
                begun_p: core::ptr::null(),
                begun_q: core::ptr::null(),
                p: core::ptr::null_mut(),
                q: core::ptr::null_mut(),
                past: false,
            };
            let two = Two {
                x: x.as_mut_ptr().cast(),
                y: y.as_mut_ptr().cast(),
                p: p.as_ptr().cast(),
                q: q.as_ptr().cast(),
            };
            let bytes = lines.wrapping_mul(LINE_BYTES);
            let _fpu = Fpu::begin();
            // SAFETY: By the invariant of this type the CPU has the instructions, and vector registers may be used. All inputs,
            // of which there is one, and what is lost and stored have so many lines, `bytes` bytes, and are borrowed as they are
            // used.
            unsafe {
                if past {
                    C::solve_past(&pass, &two, by, bytes);
                } else {
                    C::solve(&pass, &two, by, bytes);
                }
            }
            return;
        }
        self.make(
            group,
            Parity {
                p: Some(&mut *x),
                q: Some(&mut *y),
            },
            Start::Zero,
            Stores::Near,
        );
        self.recover_two(x, y, stored, by);
    }

    fn recover_one(&self, lost: &mut [Line], q: &[Line], by: Element, mut p: Option<&mut [Line]>) {
        let lines = lost.len().min(q.len());
        let lines = p.as_deref().map_or(lines, |p| lines.min(p.len()));
        for piece in pieces(lines) {
            let one = One {
                lost: address_mut(lost.get_mut(piece.clone())),
                q: address(q.get(piece.clone())),
                p: address_mut(part_mut(&mut p, &piece)),
            };
            let bytes = piece.len().wrapping_mul(LINE_BYTES);
            let _fpu = Fpu::begin();
            // SAFETY: By the invariant of this type the CPU has the instructions, and vector registers may be used. All have
            // the lines of this piece, `bytes` bytes, and are borrowed as they are used; P alone may be missing.
            unsafe { C::recover_one(&one, by, bytes) }
        }
    }

    fn recover_two(
        &self,
        x: &mut [Line],
        y: &mut [Line],
        stored: (&[Line], &[Line]),
        by: (Element, Element),
    ) {
        let lines = x.len().min(y.len()).min(stored.0.len()).min(stored.1.len());
        for piece in pieces(lines) {
            let two = Two {
                x: address_mut(x.get_mut(piece.clone())),
                y: address_mut(y.get_mut(piece.clone())),
                p: address(stored.0.get(piece.clone())),
                q: address(stored.1.get(piece.clone())),
            };
            let bytes = piece.len().wrapping_mul(LINE_BYTES);
            let _fpu = Fpu::begin();
            // SAFETY: By the invariant of this type the CPU has the instructions, and vector registers may be used. All have
            // the lines of this piece, `bytes` bytes, and are borrowed as they are used.
            unsafe { C::recover_two(&two, by, bytes) }
        }
    }
}

impl<C: Code> Simd<C> {
    /// Generates.
    fn make(&self, group: &mut Group<'_>, parity: Parity<'_>, start: Start, stores: Stores) {
        let Parity { p, q } = parity;
        if p.is_none() && q.is_none() {
            // To copy alone takes no vectors.
            Scalar.generate(group, Parity::default(), start);
            return;
        }
        let lines = group.lines_with(p.as_deref(), q.as_deref());
        let inputs = match start {
            Start::Zero => group.entries_after_zeros(),
            Start::Begun => group.entries(),
        };
        if inputs.is_empty() {
            if start == Start::Zero {
                let parity = p.into_iter().chain(q);
                parity.for_each(|lines| lines.fill(Line::ZERO));
            }
            return;
        }
        if lines == 0 {
            return;
        }
        let want_q = q.is_some();
        let (p, q) = (address_mut(p), address_mut(q));
        let begun = |of: *mut u8| match start {
            Start::Zero => core::ptr::null(),
            Start::Begun => of.cast_const(),
        };
        let bytes = lines.wrapping_mul(LINE_BYTES);
        let copies = group.copies();
        let at_once = match stores {
            Stores::Near if copies && want_q => C::COPIED_AT_ONCE_WITH_Q,
            Stores::Near if copies => C::COPIED_AT_ONCE,
            Stores::Near if want_q => C::READ_AT_ONCE,
            _ => GROUP,
        };
        let (mut begun_p, mut begun_q) = (begun(p), begun(q));
        let _fpu = Fpu::begin();
        for inputs in inputs.chunks(at_once) {
            let pass = Pass {
                inputs,
                begun_p,
                begun_q,
                p,
                q,
                past: stores == Stores::Past { parity: true },
            };
            // SAFETY: By the invariant of this type the CPU has the instructions, and vector registers may be used. All
            // inputs, of which there is one, and P and Q have so many lines, `bytes` bytes; they are borrowed as they are
            // used. One of P and Q is there, and both are if Q is wanted, or P is null.
            unsafe {
                match stores {
                    Stores::Near => C::make(&pass, want_q, copies, bytes),
                    Stores::Past { .. } if C::STREAMS => C::stream(&pass, want_q, bytes),
                    Stores::Past { .. } => C::leave(&pass, bytes),
                }
            }
            (begun_p, begun_q) = (p.cast_const(), q.cast_const());
        }
    }

    /// Has parity follow a change of `lines` lines, and copies the new ones unless `copy` is null.
    ///
    /// # Safety
    ///
    /// So many lines at `old` and `new` may be read, those at `new` while others write to them, and those at `copy`, if it
    /// is not null, written to, by nobody else. `copy` may be `old`.
    unsafe fn follow(
        &self,
        old: *const u8,
        new: *const u8,
        copy: *mut u8,
        lines: usize,
        parity: Parity<'_>,
        factor: Element,
    ) {
        let Parity { mut p, mut q } = parity;
        let lengths = [p.as_deref(), q.as_deref()]
            .into_iter()
            .flatten()
            .map(<[Line]>::len);
        for piece in pieces(lengths.fold(lines, usize::min)) {
            let at = piece.start.wrapping_mul(LINE_BYTES);
            let part_of_q = part_mut(&mut q, &piece);
            let has_q = part_of_q.is_some();
            let change = Change {
                old: old.wrapping_add(at),
                new: new.wrapping_add(at),
                copy: if copy.is_null() {
                    copy
                } else {
                    copy.wrapping_add(at)
                },
                p: address_mut(part_mut(&mut p, &piece)),
                q: address_mut(part_of_q),
            };
            let bytes = piece.len().wrapping_mul(LINE_BYTES);
            let _fpu = Fpu::begin();
            if has_q {
                // SAFETY: By the invariant of this type the CPU has the instructions, and vector registers may be used. The
                // old, the new and the copied lines are valid by the requirements of this function, and P and Q, of which
                // P may be missing, are borrowed mutably; all have the lines of this piece, `bytes` bytes.
                unsafe { C::change_pq(&change, factor, bytes) }
            } else if !change.p.is_null() {
                // SAFETY: As above; P is there.
                unsafe { C::change_p(&change, bytes) }
            }
        }
    }
}

/// Runs of lines, none longer than is worked on at once.
fn pieces(lines: usize) -> impl Iterator<Item = Range<usize>> {
    let piece = move |first: usize| first..first.saturating_add(PIECE).min(lines);
    (0..lines).step_by(PIECE).map(piece)
}

fn part_mut<'a>(
    lines: &'a mut Option<&mut [Line]>,
    piece: &Range<usize>,
) -> Option<&'a mut [Line]> {
    lines.as_deref_mut()?.get_mut(piece.clone())
}

/// The address of lines; null if there are none.
fn address(lines: Option<&[Line]>) -> *const u8 {
    lines.map_or(core::ptr::null(), |lines| lines.as_ptr().cast())
}

fn address_mut(lines: Option<&mut [Line]>) -> *mut u8 {
    lines.map_or(core::ptr::null_mut(), |lines| lines.as_mut_ptr().cast())
}
