// SPDX-License-Identifier: GPL-2.0

//! P alone with registers of 256 bits, a few inputs at a time.
//!
//! With half a line in a register, fetching the address of an input in each step is much of the work, and one instruction
//! that loads from all inputs in turn is none whose next address the CPU can guess. So the whole length is gone over with
//! each address in a register of its own, four inputs at a time. P goes on from the last four; it is in the L1 cache then.

use super::horner::{Entry, Pass};
use super::words::vector_asm;

/// A vector of each of some runs of bytes, at an offset: their sum goes to `p`.
macro_rules! column {
    ($register:literal $offset:literal $($at:literal)*) => {
        concat!(
            "vmovdqu ymm", $register, ", [{first} + ", $offset, "]\n",
            $("vpxor ymm", $register, ", ymm", $register, ", [", $at, " + ", $offset, "]\n",)*
            "vmovdqu [{p} + ", $offset, "], ymm", $register, "\n",
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
        /// of `p` for writes, by nobody else; `p` may be `first`. `bytes` is a multiple of 256, and not zero.
        unsafe fn $name(first: *const u8, inputs: &[Entry; $count], p: *mut u8, bytes: usize) {
            let [$($input),*] = inputs;
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    "2:",
                    column!(0 0 $($at)*),
                    column!(1 32 $($at)*),
                    column!(2 64 $($at)*),
                    column!(3 96 $($at)*),
                    column!(4 128 $($at)*),
                    column!(5 160 $($at)*),
                    column!(6 192 $($at)*),
                    column!(7 224 $($at)*),
                    "add {first}, 256",
                    $(concat!("add ", $at, ", 256"),)*
                    "add {p}, 256",
                    "sub {left}, 256",
                    "jnz 2b";
                    first = inout(reg) first => _,
                    $($input = inout(reg) $input.from => _,)*
                    p = inout(reg) p => _,
                    left = inout(reg) bytes => _,
                );
            }
        }
    };
}

sum!(sum_of_two, 1, (a "{a}"));
sum!(sum_of_three, 2, (a "{a}") (b "{b}"));
sum!(sum_of_four, 3, (a "{a}") (b "{b}") (c "{c}"));
sum!(sum_of_five, 4, (a "{a}") (b "{b}") (c "{c}") (d "{d}"));

/// Makes P; nothing is copied. Of one input alone it makes nothing.
///
/// # Safety
///
/// The CPU has AVX2, and it may be used. The first `bytes` bytes of all that `pass` names are valid: inputs and what P begins
/// with for reads, and P for writes, by nobody else; it may be what it begins with. `bytes` is a multiple of 256, and not
/// zero.
pub(super) unsafe fn make_p(pass: &Pass<'_>, bytes: usize) {
    let (mut first, mut rest) = match pass.inputs {
        [first, rest @ ..] if pass.begun_p.is_null() => (first.from, rest),
        inputs => (pass.begun_p, inputs),
    };
    loop {
        match rest {
            [] => return,
            [a] => {
                // SAFETY: By the requirements of this function.
                unsafe { sum_of_two(first, &[*a], pass.p, bytes) };
                return;
            }
            [a, b] => {
                // SAFETY: As above.
                unsafe { sum_of_three(first, &[*a, *b], pass.p, bytes) };
                return;
            }
            [a, b, c] => {
                // SAFETY: As above.
                unsafe { sum_of_four(first, &[*a, *b, *c], pass.p, bytes) };
                return;
            }
            [a, b, c, d, more @ ..] => {
                // SAFETY: As above.
                unsafe { sum_of_five(first, &[*a, *b, *c, *d], pass.p, bytes) };
                rest = more;
            }
        }
        first = pass.p;
    }
}
