// SPDX-License-Identifier: GPL-2.0

//! P alone with registers of 256 bits, a few inputs at a time.
//!
//! With half a line in a register, fetching the address of an input in each step is much of the work, and one instruction
//! that loads from all inputs in turn is none whose next address the CPU can guess. So the whole length is gone over with
//! each address in a register of its own, four inputs at a time. P goes on from the last four; it is in the L1 cache then.

use super::horner::{Entry, Pass};
use super::words::vector_asm;

/// An instruction for each of eight vectors, which are next to each other in memory.
macro_rules! eight {
    ($word:ident $at:tt) => {
        concat!(
            $word!("0" $at "0"), $word!("1" $at "32"), $word!("2" $at "64"), $word!("3" $at "96"),
            $word!("4" $at "128"), $word!("5" $at "160"), $word!("6" $at "192"), $word!("7" $at "224"),
        )
    };
}

macro_rules! load {
    ($register:tt $at:tt $offset:tt) => {
        concat!("vmovdqu ymm", $register, ", [", $at, " + ", $offset, "]\n")
    };
}

macro_rules! add {
    ($register:tt $at:tt $offset:tt) => {
        concat!(
            "vpxor ymm",
            $register,
            ", ymm",
            $register,
            ", [",
            $at,
            " + ",
            $offset,
            "]\n"
        )
    };
}

macro_rules! store {
    ($register:tt $at:tt $offset:tt) => {
        concat!("vmovdqu [", $at, " + ", $offset, "], ymm", $register, "\n")
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
concat!(load!("0" "{first}" "0"), $(add!("0" $at "0"),)* store!("0" "{p}" "0")),
concat!(load!("1" "{first}" "32"), $(add!("1" $at "32"),)* store!("1" "{p}" "32")),
concat!(load!("2" "{first}" "64"), $(add!("2" $at "64"),)* store!("2" "{p}" "64")),
concat!(load!("3" "{first}" "96"), $(add!("3" $at "96"),)* store!("3" "{p}" "96")),
concat!(load!("4" "{first}" "128"), $(add!("4" $at "128"),)* store!("4" "{p}" "128")),
concat!(load!("5" "{first}" "160"), $(add!("5" $at "160"),)* store!("5" "{p}" "160")),
concat!(load!("6" "{first}" "192"), $(add!("6" $at "192"),)* store!("6" "{p}" "192")),
concat!(load!("7" "{first}" "224"), $(add!("7" $at "224"),)* store!("7" "{p}" "224")),
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
