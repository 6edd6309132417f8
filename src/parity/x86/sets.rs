// SPDX-License-Identifier: GPL-2.0

//! The instruction sets: the assembly of each, in wide steps and, for what is left of them, in steps of one line.

use super::cpu::Features;
use super::horner::{copies, copying, leaving, pass, passes, reading, streaming, sum_pass, Pass};
use super::products::{products, Change, One, Two};
use super::solving::solving;
use super::streams;
use super::sums::{all_zero, sums};
use super::words::{
    avx2, avx512, evex, gfni, gfni256, gfni512, half_bytes, plain, vector_asm, vex,
};
use crate::parity::gf::{Element, POLYNOMIAL};
use crate::parity::GROUP;

/// The code of an instruction set.
///
/// Every function works on the first `bytes` bytes, whole lines, of what it is given. What each of them requires is said once
/// for all, at [`Self::make`].
pub(super) trait Code: Sync + 'static {
    const NAME: &'static str;
    const NEEDS: Features;

    /// How many inputs are copied at once where P alone is made, which goes on from those before. Blocks are pages, so that equal
    /// offsets have the same place in the L1 cache: two of it for each input, and one for P. Most CPUs that
    /// have no more than AVX2 have eight of them, and those with AVX-512 that were measured twelve.
    const COPIED_AT_ONCE: usize;

    /// The same where Q is made, too. On a CPU with eight places more of them at once took twice as long. With twelve that gained next to nothing
    /// in the caches, and parity that is stored and loaded again costs a tenth from memory.
    const COPIED_AT_ONCE_WITH_Q: usize;

    /// How many inputs are read at once where P and Q are made and nothing is copied; P and Q go on from those before. From memory
    /// eight at once were measured to be faster than 16 on a CPU that has no more than AVX2, most likely as it fetches ahead for no more.
    const READ_AT_ONCE: usize;

    /// Makes P, and Q if it is wanted; `copies` says whether any input is to be copied.
    ///
    /// # Safety
    ///
    /// [`Self::NEEDS`] is on this CPU, and vector registers may be used. What the arguments name is valid for so many bytes:
    /// for reads, or for writes by nobody else where it is mutable; a null pointer is allowed where the argument's type says
    /// so. Inputs that are copied and the new bytes of a change may be written to by others meanwhile.
    unsafe fn make(pass: &Pass<'_>, want_q: bool, copies: bool, bytes: usize);

    /// Whether there is [`Self::stream`] of its own. With stores of half a line copies past the caches did not pay where they were measured:
    /// from memory full strips took as long as without them with P, and nearly twice as long with Q; in a cache four times and more.
    const STREAMS: bool;

    /// As [`Self::make`], with copies past the caches if there are such stores.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe fn stream(pass: &Pass<'_>, want_q: bool, bytes: usize) {
        // SAFETY: By the requirements of this function.
        unsafe { Self::make(pass, want_q, true, bytes) }
    }

    /// Whether there is [`Self::leave`].
    const LEAVES: bool;

    /// Makes P and Q past the caches, where `pass` says so, from all inputs at once, and copies nothing. On a CPU that has no more than AVX2 this
    /// was measured to be faster from memory, with steps of a line; from its caches it is slower.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`]. Only where the set has this.
    unsafe fn leave(_pass: &Pass<'_>, _bytes: usize) {}

    /// Whether there is [`Self::solve`].
    const SOLVES: bool;

    /// Two lost blocks in one pass.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`]; there is an input, and none is copied. Only where the set has this.
    unsafe fn solve(_pass: &Pass<'_>, _two: &Two, _by: (Element, Element), _bytes: usize) {}

    /// The same past the caches, if there are such stores.
    ///
    /// # Safety
    ///
    /// As for [`Self::solve`].
    unsafe fn solve_past(pass: &Pass<'_>, two: &Two, by: (Element, Element), bytes: usize) {
        // SAFETY: By the requirements of this function.
        unsafe { Self::solve(pass, two, by, bytes) }
    }

    /// Not zero if P differs.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`]; P is only read.
    unsafe fn check_p(pass: &Pass<'_>, bytes: usize) -> u32;

    /// Bit 0: P differs; bit 1: Q does.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`]; P and Q are only read.
    unsafe fn check_pq(pass: &Pass<'_>, bytes: usize) -> u32;

    /// Has P follow a change.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe fn change_p(change: &Change, bytes: usize);

    /// Has P and Q follow a change.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe fn change_pq(change: &Change, factor: Element, bytes: usize);

    /// A lost block by Q.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe fn recover_one(one: &One, by: Element, bytes: usize);

    /// Two lost blocks by P and Q.
    ///
    /// # Safety
    ///
    /// As for [`Self::make`].
    unsafe fn recover_two(two: &Two, by: (Element, Element), bytes: usize);
}

/// What [`avx2`] and [`avx512`] double with: the polynomial in each byte.
static POLYNOMIALS: u64 = u64::from_ne_bytes([POLYNOMIAL; 8]);

fn polynomials() -> *const u64 {
    &POLYNOMIALS
}

/// What GFNI doubles with: the matrix of two.
fn matrix_of_two() -> *const u64 {
    Element::power(1).matrix()
}

fn nibbles(factor: Element) -> *const u8 {
    core::ptr::from_ref(factor.nibbles()).cast()
}

fn matrix(factor: Element) -> *const u8 {
    core::ptr::from_ref(factor.matrix()).cast()
}

/// Wide steps as far as they go, then narrow ones.
macro_rules! steps {
    ($module:ident::$function:ident($($argument:expr),*), $bytes:expr, $step:tt) => {
        steps!($module::$function($($argument),*), $bytes, $step, |_done| ())
    };
    ($module:ident::$function:ident($($argument:expr),*), $bytes:expr, $step:tt, |$result:ident| $use:expr) => {{
        let wide = $bytes / $step * $step;
        if wide > 0 {
            // SAFETY: By the requirements of the caller; the range is a multiple of the step, and not empty.
            let $result = unsafe { $module::wide::$function($($argument,)* 0, wide) };
            $use
        }
        if wide < $bytes {
            // SAFETY: As above: whole lines are left.
            let $result = unsafe { $module::narrow::$function($($argument,)* wide, $bytes) };
            $use
        }
    }};
}

/// P alone, from all inputs in each step.
macro_rules! by_step {
    ($module:ident, $pass:expr, $bytes:expr, $step:tt) => {
        steps!($module::make_p($pass), $bytes, $step)
    };
}

/// P alone, from a few inputs after the other.
macro_rules! by_streams {
    ($module:ident, $pass:expr, $bytes:expr, $step:tt) => {{
        let single = $pass.inputs.len() < 2 && $pass.begun_p.is_null();
        if single || $bytes % streams::STEP != 0 {
            steps!($module::make_p($pass), $bytes, $step)
        } else {
            // SAFETY: By the requirements of the caller.
            unsafe { streams::make_p($pass, $bytes) }
        }
    }};
}

macro_rules! is_there {
    () => {
        false
    };
    ($what:ident) => {
        true
    };
}

/// The code of a set, and what it is known by.
macro_rules! set {
    (
        $name:literal, $module:ident, $type:ident, $isa:ident, $needs:expr, $two:ident, $table:ident,
        sums $sum:ident $sum_step:tt $sum_wide:tt $sum_narrow:tt,
        reads $read_at_once:tt, copies $at_once:tt $at_once_with_q:tt $copy_step:tt $copy_wide:tt $copy_narrow:tt,
        passes $step:tt $wide:tt $narrow:tt, [$($stream_p:ident $stream_pq:ident)?] [$($leave_pq:ident)?] [$($solve:ident)?] [$($solve_past:ident)?], products $product_step:tt $product_wide:tt $product_narrow:tt
    ) => {
        mod $module {
            pub(super) mod wide {
                use super::super::*;
                sums!($isa, $sum_step, $sum_wide);
                copies!($isa, $copy_step, $copy_wide);
                passes!($isa, $step, $two(), $wide);
                $(copies!(past $stream_p, $isa, $copy_step, $copy_wide);)?
                $(passes!(past $stream_pq, $isa, $step, $two(), $wide);)?
                $(solving!($solve, store "", $isa, $step, $two(), $wide);)?
                $(solving!($solve_past, stream "sfence", $isa, $step, $two(), $wide);)?
                products!($isa, $product_step, $product_wide);
            }
            pub(super) mod narrow {
                use super::super::*;
                sums!($isa, 64, $sum_narrow);
                copies!($isa, 64, $copy_narrow);
                passes!($isa, 64, $two(), $narrow);
                $(copies!(past $stream_p, $isa, 64, $copy_narrow);)?
                $(passes!(past $stream_pq, $isa, 64, $two(), $narrow);)?
                $(passes!(parity past $leave_pq, $isa, 64, $two(), $narrow);)?
                $(solving!($solve, store "", $isa, 64, $two(), $narrow);)?
                $(solving!($solve_past, stream "sfence", $isa, 64, $two(), $narrow);)?
                products!($isa, 64, $product_narrow);
            }
        }

        #[derive(Clone, Copy, Debug)]
        pub(super) struct $type;

        impl Code for $type {
            const NAME: &'static str = $name;
            const NEEDS: Features = $needs;
            const COPIED_AT_ONCE: usize = $at_once;
            const COPIED_AT_ONCE_WITH_Q: usize = $at_once_with_q;
            const READ_AT_ONCE: usize = $read_at_once;

            unsafe fn make(pass: &Pass<'_>, want_q: bool, copies: bool, bytes: usize) {
                match (want_q, copies) {
                    (false, false) => $sum!($module, pass, bytes, $sum_step),
                    (false, true) => steps!($module::copy_p(pass), bytes, $copy_step),
                    (true, false) => steps!($module::make_pq(pass), bytes, $step),
                    (true, true) => steps!($module::copy_pq(pass), bytes, $step),
                }
            }
            const STREAMS: bool = is_there!($($stream_p)?);
            $(unsafe fn stream(pass: &Pass<'_>, want_q: bool, bytes: usize) {
                if want_q {
                    steps!($module::$stream_pq(pass), bytes, $step)
                } else {
                    steps!($module::$stream_p(pass), bytes, $copy_step)
                }
            })?
            const LEAVES: bool = is_there!($($leave_pq)?);
            $(unsafe fn leave(pass: &Pass<'_>, bytes: usize) {
                // SAFETY: By the requirements of this function: they are whole lines.
                unsafe { $module::narrow::$leave_pq(pass, 0, bytes) }
            })?
            const SOLVES: bool = is_there!($($solve)?);
            $(unsafe fn solve(pass: &Pass<'_>, two: &Two, by: (Element, Element), bytes: usize) {
                let tables = [$table(by.0), $table(by.1)];
                steps!($module::$solve(pass, two, tables), bytes, $step);
            })?
            $(unsafe fn solve_past(pass: &Pass<'_>, two: &Two, by: (Element, Element), bytes: usize) {
                let tables = [$table(by.0), $table(by.1)];
                steps!($module::$solve_past(pass, two, tables), bytes, $step);
            })?
            unsafe fn check_p(pass: &Pass<'_>, bytes: usize) -> u32 {
                let mut found = 0;
                steps!($module::check_p(pass), bytes, $sum_step, |differs| found |=
                    differs);
                found
            }
            unsafe fn check_pq(pass: &Pass<'_>, bytes: usize) -> u32 {
                let mut found = 0;
                steps!($module::check_pq(pass), bytes, $step, |differs| found |=
                    differs);
                found
            }
            unsafe fn change_p(change: &Change, bytes: usize) {
                steps!($module::change_p(change), bytes, $product_step)
            }
            unsafe fn change_pq(change: &Change, factor: Element, bytes: usize) {
                let table = $table(factor);
                steps!($module::change_pq(change, table), bytes, $product_step)
            }
            unsafe fn recover_one(one: &One, by: Element, bytes: usize) {
                let table = $table(by);
                steps!($module::one(one, table), bytes, $product_step)
            }
            unsafe fn recover_two(two: &Two, by: (Element, Element), bytes: usize) {
                let tables = [$table(by.0), $table(by.1)];
                steps!($module::two(two, tables), bytes, $product_step)
            }
        }
    };
}

const AVX2_FEATURES: Features = Features {
    avx2: true,
    avx512: false,
    gfni: false,
};

const AVX512_FEATURES: Features = Features {
    avx2: true,
    avx512: true,
    gfni: false,
};

const fn and_gfni(mut features: Features) -> Features {
    features.gfni = true;
    features
}

set!(
    "avx2", avx2_code, Avx2, avx2, AVX2_FEATURES, polynomials, nibbles,
    sums by_streams 256 [(0 0) (1 32) (2 64) (3 96) (4 128) (5 160) (6 192) (7 224)]
        [(0 0) (1 32)],
    reads 8, copies 3 3 256 [
        (0 8 0) (1 9 32) (2 10 64) (3 11 96) (4 12 128) (5 13 160) (6 14 192) (7 15 224)
    ]
        [(0 8 0) (1 9 32)],
    passes 128 [(0 4 8 12 0) (1 5 9 13 32) (2 6 10 12 64) (3 7 11 13 96)]
        [(0 4 8 12 0) (1 5 9 13 32)],
    [] [leave_pq] [] [], products 64 [(0 2 4 6 0) (1 3 5 7 32)]
        [(0 2 4 6 0) (1 3 5 7 32)]
);

set!(
    "gfni256", gfni256_code, Gfni256, gfni256, and_gfni(AVX2_FEATURES), matrix_of_two, matrix,
    sums by_streams 256 [(0 0) (1 32) (2 64) (3 96) (4 128) (5 160) (6 192) (7 224)]
        [(0 0) (1 32)],
    reads GROUP, copies 3 GROUP 256 [
        (0 8 0) (1 9 32) (2 10 64) (3 11 96) (4 12 128) (5 13 160) (6 14 192) (7 15 224)
    ]
        [(0 8 0) (1 9 32)],
    passes 128 [(0 4 8 12 0) (1 5 9 12 32) (2 6 10 12 64) (3 7 11 12 96)]
        [(0 4 8 12 0) (1 5 9 12 32)],
    [] [] [solve] [], products 128 [(0 4 8 12 0) (1 5 9 12 32) (2 6 10 12 64) (3 7 11 12 96)]
        [(0 4 8 12 0) (1 5 9 12 32)]
);

set!(
    "avx512", avx512_code, Avx512, avx512, AVX512_FEATURES, polynomials, nibbles,
    sums by_step 512 [(0 0) (1 64) (2 128) (3 192) (4 256) (5 320) (6 384) (7 448)]
        [(0 0)],
    reads GROUP, copies 4 GROUP 512 [
        (0 8 0) (1 9 64) (2 10 128) (3 11 192) (4 12 256) (5 13 320) (6 14 384) (7 15 448)
    ]
        [(0 8 0)],
    passes 512 [
        (0 8 16 24 0) (1 9 17 25 64) (2 10 18 26 128) (3 11 19 27 192)
        (4 12 20 24 256) (5 13 21 25 320) (6 14 22 26 384) (7 15 23 27 448)
    ]
        [(0 8 16 24 0)],
    [stream_p stream_pq] [] [] [], products 256 [(0 4 16 20 0) (1 5 17 21 64) (2 6 18 22 128) (3 7 19 23 192)]
        [(0 4 16 20 0)]
);

set!(
    "gfni512", gfni512_code, Gfni512, gfni512, and_gfni(AVX512_FEATURES), matrix_of_two, matrix,
    sums by_step 512 [(0 0) (1 64) (2 128) (3 192) (4 256) (5 320) (6 384) (7 448)]
        [(0 0)],
    reads GROUP, copies 4 GROUP 512 [
        (0 8 0) (1 9 64) (2 10 128) (3 11 192) (4 12 256) (5 13 320) (6 14 384) (7 15 448)
    ]
        [(0 8 0)],
    passes 512 [
        (0 8 16 24 0) (1 9 17 24 64) (2 10 18 24 128) (3 11 19 24 192)
        (4 12 20 24 256) (5 13 21 24 320) (6 14 22 24 384) (7 15 23 24 448)
    ]
        [(0 8 16 24 0)],
    [stream_p stream_pq] [] [solve] [solve_past], products 256 [(0 4 16 20 0) (1 5 17 20 64) (2 6 18 20 128) (3 7 19 20 192)]
        [(0 4 16 20 0)]
);
