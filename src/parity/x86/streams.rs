// SPDX-License-Identifier: GPL-2.0

//! P alone with registers of 256 bits, a few inputs at a time.
//!
//! With half a line in a register, fetching the address of an input in each step is much of the work, and one instruction
//! that loads from all inputs in turn is none whose next address the CPU can guess. So the whole length is gone over with
//! each address in a register of its own, and with instructions of its own. P goes on from the inputs before; it is in the
//! L1 cache then.

use super::horner::Pass;
use super::words::vector_asm;
use crate::parity::group::Entry;

/// Adds 128 bytes of an input to as many registers as they need.
macro_rules! add {
    ($at:literal) => {
        concat!(
            "vpxor ymm0, ymm0, [",
            $at,
            " + {at}]\n",
            "vpxor ymm1, ymm1, [",
            $at,
            " + {at} + 32]\n",
            "vpxor ymm2, ymm2, [",
            $at,
            " + {at} + 64]\n",
            "vpxor ymm3, ymm3, [",
            $at,
            " + {at} + 96]\n",
        )
    };
}

/// A function that sums up a first run of bytes and those of some inputs.
macro_rules! sum {
    ($name:ident, $count:literal, $(($input:ident $at:literal))*) => {
        /// Sums up inputs.
        ///
        /// # Safety
        ///
        /// The CPU has AVX2, and it may be used. `bytes` bytes at `first`, and of the inputs, are valid for reads, and those
        /// of `p` for writes, by nobody else; `p` may be `first`. `bytes` is a multiple of [`STEP`], and not zero.
        unsafe fn $name(first: *const u8, inputs: &[Entry; $count], p: *mut u8, bytes: usize) {
            let [$($input),*] = inputs;
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    "2:",
                    "vmovdqu ymm0, [{first} + {at}]",
                    "vmovdqu ymm1, [{first} + {at} + 32]",
                    "vmovdqu ymm2, [{first} + {at} + 64]",
                    "vmovdqu ymm3, [{first} + {at} + 96]",
                    $(add!($at),)*
                    "vmovdqu [{p} + {at}], ymm0",
                    "vmovdqu [{p} + {at} + 32], ymm1",
                    "vmovdqu [{p} + {at} + 64], ymm2",
                    "vmovdqu [{p} + {at} + 96], ymm3",
                    "add {at}, 128",
                    "cmp {at}, {bytes}",
                    "jb 2b";
                    first = in(reg) first,
                    $($input = in(reg) $input.from,)*
                    p = in(reg) p,
                    bytes = in(reg) bytes,
                    at = inout(reg) 0_usize => _,
                );
            }
        }
    };
}

sum!(sum_of_two, 1, (a "{a}"));
sum!(sum_of_three, 2, (a "{a}") (b "{b}"));
sum!(sum_of_four, 3, (a "{a}") (b "{b}") (c "{c}"));
sum!(sum_of_five, 4, (a "{a}") (b "{b}") (c "{c}") (d "{d}"));
sum!(sum_of_six, 5, (a "{a}") (b "{b}") (c "{c}") (d "{d}") (e "{e}"));
sum!(sum_of_seven, 6, (a "{a}") (b "{b}") (c "{c}") (d "{d}") (e "{e}") (f "{f}"));
sum!(sum_of_eight, 7, (a "{a}") (b "{b}") (c "{c}") (d "{d}") (e "{e}") (f "{f}") (g "{g}"));
sum!(sum_of_nine, 8, (a "{a}") (b "{b}") (c "{c}") (d "{d}") (e "{e}") (f "{f}") (g "{g}") (h "{h}"));

/// What the length has to be a multiple of.
pub(super) const STEP: usize = 128;

/// So many inputs are summed up with the first run in one go, if there are no more. There are no registers for more.
const ALL_AT_ONCE: usize = 8;

/// If there are more inputs, so many at a time: from the L2 cache more streams at once were measured to be slower then.
const SOME: usize = 5;

/// Makes P; nothing is copied. Of one input alone it makes nothing.
///
/// # Safety
///
/// The CPU has AVX2, and it may be used. The first `bytes` bytes of all that `pass` names are valid: inputs and what P begins
/// with for reads, and P for writes, by nobody else; it may be what it begins with. `bytes` is a multiple of [`STEP`], and
/// not zero.
pub(super) unsafe fn make_p(pass: &Pass<'_>, bytes: usize) {
    let (mut first, rest) = match pass.inputs {
        [first, rest @ ..] if pass.begun_p.is_null() => (first.from, rest),
        inputs => (pass.begun_p, inputs),
    };
    let count = if rest.len() <= ALL_AT_ONCE {
        ALL_AT_ONCE
    } else {
        SOME
    };
    for inputs in rest.chunks(count) {
        macro_rules! sum_up {
            ($sum:ident $($input:ident)*) => {
                // SAFETY: By the requirements of this function.
                unsafe { $sum(first, &[$($input),*], pass.p, bytes) }
            };
        }
        match *inputs {
            [] => {}
            [a] => sum_up!(sum_of_two a),
            [a, b] => sum_up!(sum_of_three a b),
            [a, b, c] => sum_up!(sum_of_four a b c),
            [a, b, c, d] => sum_up!(sum_of_five a b c d),
            [a, b, c, d, e] => sum_up!(sum_of_six a b c d e),
            [a, b, c, d, e, f] => sum_up!(sum_of_seven a b c d e f),
            [a, b, c, d, e, f, g] => sum_up!(sum_of_eight a b c d e f g),
            [a, b, c, d, e, f, g, h, ..] => sum_up!(sum_of_nine a b c d e f g h),
        }
        first = pass.p;
    }
}
