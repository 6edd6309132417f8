// SPDX-License-Identifier: GPL-2.0

//! P and Q of a group of inputs in one pass: made and stored, or compared with what is stored; and what all passes
//! work on.
//!
//! A step of the outer loop makes as many bytes of P and Q as a few registers hold, from the same bytes of all inputs in
//! turn; so parity is stored once, and never loaded unless it goes on from another group.

use crate::parity::group::Entry;

/// What a pass works on. Every pointer is one to the first byte; null where what it says is optional is missing.
pub(super) struct Pass<'a> {
    /// One at least, unless something is only checked.
    pub(super) inputs: &'a [Entry],
    /// What P and Q begin with; optional.
    pub(super) begun_p: *const u8,
    pub(super) begun_q: *const u8,
    /// Where they go, or what they are compared with. P is optional if there is Q.
    pub(super) p: *mut u8,
    pub(super) q: *mut u8,
    /// Whether P and Q go past the caches, too, by the functions that have copies do so.
    pub(super) past: bool,
}

/// What a pass does besides parity: nothing.
macro_rules! reading {
    ($($word:tt)*) => {
        ""
    };
}

/// What a pass does besides parity: it copies the inputs that are to be copied. Jumps go to labels of the pass.
macro_rules! copying {
    // Where the input goes that `cur` is at.
    (next) => {
        "mov {dst}, [{cur} + 8]\n"
    };
    // Stores an input, if it is to be copied; both ways lead to a label.
    ($isa:ident store $label:tt $(($d:tt $o:tt))*) => {
        concat!(
            "test {dst}, {dst}\n",
            "jz ", $label, "f\n",
            $($isa!(store "{dst}" $o $d),)*
        )
    };
    ($($word:tt)*) => {
        ""
    };
}

/// What a pass does besides parity: it copies past the caches, and stores parity so where that is wanted. The words are those of
/// [`copying`], and two; it has labels 22 and 23.
macro_rules! streaming {
    (next) => {
        copying!(next)
    };
    ($isa:ident store $label:tt $(($d:tt $o:tt))*) => {
        concat!(
            "test {dst}, {dst}\n",
            "jz ", $label, "f\n",
            $($isa!(stream "{dst}" $o $d),)*
        )
    };
    // Parity is to be stored otherwise, perhaps: by what stands at the end.
    (parity) => {
        "test {past:e}, {past:e}\njnz 22f\n"
    };
    // The end; how parity is stored past the caches, and the order that such stores take.
    (end $parity:expr) => {
        concat!("jmp 23f\n", "22:\n", $parity, "jmp 9b\n", "23:\n", "sfence\n")
    };
}

/// What a pass does besides parity: it stores that past the caches where that is wanted. As [`streaming`], with nothing to copy.
macro_rules! leaving {
    (parity) => {
        streaming!(parity)
    };
    (end $parity:expr) => {
        streaming!(end $parity)
    };
    ($($word:tt)*) => {
        ""
    };
}

/// A function that makes bytes `from..to` of P, with what a macro has to say of copies; `operands` are those that it uses.
macro_rules! sum_pass {
    (
        $(#[$doc:meta])* $name:ident, |$pass:ident| $copies:ident [$($operands:tt)*],
        $isa:ident, $step:tt, [$(($p:tt $d:tt $o:tt))*]
    ) => {
        $(#[$doc])*
        pub(in super::super) unsafe fn $name($pass: &Pass<'_>, from: usize, to: usize) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    "2:",
                    "mov {cur}, {inputs}",
                    "test {begun}, {begun}",
                    "jnz 3f",
                    // P begins with the first input.
                    "mov {src}, [{cur}]",
                    $copies!(next),
                    "add {cur}, 16",
                    $($isa!(load $p "{src}" $o),)*
                    $copies!($isa store "4" $(($p $o))*),
                    "jmp 4f",
                    "3:",
                    $($isa!(load $p "{begun}" $o),)*
                    "4:",
                    "cmp {cur}, {end}",
                    "jae 7f",
                    "5:",
                    "mov {src}, [{cur}]",
                    $copies!(next),
                    "add {cur}, 16",
                    $($isa!(load $d "{src}" $o),)*
                    $copies!($isa store "6" $(($d $o))*),
                    "6:",
                    $($isa!(xor $p $d),)*
                    "cmp {cur}, {end}",
                    "jb 5b",
                    "7:",
                    $copies!(parity),
                    $($isa!(store "{p}" $o $p),)*
                    "9:",
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b",
                    $copies!(end concat!($($isa!(stream "{p}" $o $p),)*));
                    $($operands)*
                    inputs = in(reg) $pass.inputs.as_ptr(),
                    end = in(reg) $pass.inputs.as_ptr_range().end,
                    begun = in(reg) $pass.begun_p,
                    p = in(reg) $pass.p,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                    cur = out(reg) _,
                    src = out(reg) _,
                );
            }
        }
    };
}

/// Functions that make bytes `from..to` of P and copy the inputs that are to be copied; these must be multiples of `step`
/// apart.
///
/// Each lane is a vector at an offset: registers for P and an input.
macro_rules! copies {
    ($isa:ident, $step:tt, $lanes:tt) => {
        sum_pass!(
            /// Makes P, and copies the inputs that are to be copied.
            ///
            /// # Safety
            ///
            /// As for P and Q; P is there.
            copy_p, |pass| copying [dst = out(reg) _,], $isa, $step, $lanes
        );
    };
    (past $name:ident, $isa:ident, $step:tt, $lanes:tt) => {
        sum_pass!(
            /// The same past the caches.
            ///
            /// # Safety
            ///
            /// As for P and Q; P is there.
            $name, |pass| streaming [past = in(reg) u32::from(pass.past), dst = out(reg) _,], $isa, $step, $lanes
        );
    };
}

/// A function that makes bytes `from..to` of P and Q, with what a macro has to say of copies; `operands` are those that it
/// uses.
macro_rules! pass {
    (
        $(#[$doc:meta])* $name:ident, |$pass:ident| $copies:ident [$($operands:tt)*],
        $isa:ident, $step:tt, $two:expr, [$(($p:tt $q:tt $d:tt $t:tt $o:tt))*]
    ) => {
        $(#[$doc])*
        pub(in super::super) unsafe fn $name($pass: &Pass<'_>, from: usize, to: usize) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    $isa!(horner_setup "{src}"),
                    "2:",
                    "mov {cur}, {inputs}",
                    "test {begun_q}, {begun_q}",
                    "jnz 3f",
                    // P and Q begin with the first input.
                    "mov {src}, [{cur}]",
                    $copies!(next),
                    "add {cur}, 16",
                    $($isa!(load $p "{src}" $o),)*
                    $($isa!(copy $q $p),)*
                    $copies!($isa store "4" $(($p $o))*),
                    "jmp 4f",
                    "3:",
                    $($isa!(load $q "{begun_q}" $o),)*
                    $($isa!(zero $p),)*
                    "test {begun_p}, {begun_p}",
                    "jz 4f",
                    $($isa!(load $p "{begun_p}" $o),)*
                    "4:",
                    "cmp {cur}, {end}",
                    "jae 7f",
                    "5:",
                    "mov {src}, [{cur}]",
                    $copies!(next),
                    "add {cur}, 16",
                    $($isa!(load $d "{src}" $o),)*
                    $copies!($isa store "6" $(($d $o))*),
                    "6:",
                    $($isa!(horner $q $d $t),)*
                    $($isa!(xor $p $d),)*
                    "cmp {cur}, {end}",
                    "jb 5b",
                    "7:",
                    $copies!(parity),
                    "test {p}, {p}",
                    "jz 8f",
                    $($isa!(store "{p}" $o $p),)*
                    "8:",
                    $($isa!(store "{q}" $o $q),)*
                    "9:",
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b",
                    $copies!(end concat!(
                        "test {p}, {p}\n",
                        "jz 24f\n",
                        $($isa!(stream "{p}" $o $p),)*
                        "24:\n",
                        $($isa!(stream "{q}" $o $q),)*
                    ));
                    $($operands)*
                    inputs = in(reg) $pass.inputs.as_ptr(),
                    end = in(reg) $pass.inputs.as_ptr_range().end,
                    begun_p = in(reg) $pass.begun_p,
                    begun_q = in(reg) $pass.begun_q,
                    p = in(reg) $pass.p,
                    q = in(reg) $pass.q,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                    cur = out(reg) _,
                    src = inout(reg) $two => _,
                );
            }
        }
    };
}

/// Functions that make, or check, bytes `from..to` of P and Q, of which P may be missing; these must be multiples of `step` apart.
///
/// Each lane is a vector at an offset: registers for P, Q, an input, and what is of use meanwhile.
macro_rules! passes {
    (parity past $name:ident, $isa:ident, $step:tt, $two:expr, $lanes:tt) => {
        pass!(
            /// Makes P and Q, past the caches where that is wanted; nothing is copied.
            ///
            /// # Safety
            ///
            /// As for the same not past the caches.
            $name, |pass| leaving [past = in(reg) u32::from(pass.past),], $isa, $step, $two, $lanes
        );
    };
    (past $name:ident, $isa:ident, $step:tt, $two:expr, $lanes:tt) => {
        pass!(
            /// Makes P and Q, and copies the inputs that are to be copied past the caches.
            ///
            /// # Safety
            ///
            /// As for the same not past the caches.
            $name, |pass| streaming [past = in(reg) u32::from(pass.past), dst = out(reg) _,],
            $isa, $step, $two, $lanes
        );
    };
    ($isa:ident, $step:tt, $two:expr, [$(($p:tt $q:tt $d:tt $t:tt $o:tt))*]) => {
        pass!(
            /// Makes P and Q, and copies the inputs that are to be copied.
            ///
            /// # Safety
            ///
            /// The CPU has the instructions, and they may be used. Bytes `from..to` of all that `pass` names are valid: inputs
            /// and what parity begins with for reads, with others perhaps writing to inputs that are copied; copies and parity
            /// for writes, by nobody else, and aligned to a line. `to - from` is a multiple of the step and not zero.
            copy_pq, |pass| copying [dst = out(reg) _,],
            $isa, $step, $two, [$(($p $q $d $t $o))*]
        );
        pass!(
            /// Makes P and Q; nothing is copied.
            ///
            /// # Safety
            ///
            /// As with copies.
            make_pq, |pass| reading [], $isa, $step, $two, [$(($p $q $d $t $o))*]
        );

        /// Compares P and Q: bit 0 says that P differs, and bit 1 that Q does. Nothing is copied.
        ///
        /// # Safety
        ///
        /// As for making them, but P and Q are only read.
        pub(in super::super) unsafe fn check_pq(pass: &Pass<'_>, from: usize, to: usize) -> u32 {
            let found: u32;
            // SAFETY: By the requirements of this function the code reads what it may.
            unsafe {
                vector_asm!(
                    $isa!(horner_setup "{src}"),
                    "2:",
                    "mov {cur}, {inputs}",
                    $($isa!(zero $p),)*
                    $($isa!(zero $q),)*
                    "test {begun_q}, {begun_q}",
                    "jz 4f",
                    $($isa!(load $q "{begun_q}" $o),)*
                    "4:",
                    "test {begun_p}, {begun_p}",
                    "jz 5f",
                    $($isa!(load $p "{begun_p}" $o),)*
                    "5:",
                    "cmp {cur}, {end}",
                    "jae 7f",
                    "6:",
                    "mov {src}, [{cur}]",
                    "add {cur}, 16",
                    $($isa!(load $d "{src}" $o),)*
                    $($isa!(horner $q $d $t),)*
                    $($isa!(xor $p $d),)*
                    "cmp {cur}, {end}",
                    "jb 6b",
                    "7:",
                    $($isa!(xor_from $q $q "{q}" $o),)*
                    all_zero!($isa $($q)*),
                    "jz 8f",
                    "or {found:e}, 2",
                    "8:",
                    "test {p}, {p}",
                    "jz 9f",
                    $($isa!(xor_from $p $p "{p}" $o),)*
                    all_zero!($isa $($p)*),
                    "jz 9f",
                    "or {found:e}, 1",
                    "9:",
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b";
                    inputs = in(reg) pass.inputs.as_ptr(),
                    end = in(reg) pass.inputs.as_ptr_range().end,
                    begun_p = in(reg) pass.begun_p,
                    begun_q = in(reg) pass.begun_q,
                    p = in(reg) pass.p,
                    q = in(reg) pass.q,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                    cur = out(reg) _,
                    src = inout(reg) $two => _,
                    found = inout(reg) 0_u32 => found,
                );
            }
            found
        }
    };
}

pub(super) use {copies, copying, leaving, pass, passes, reading, streaming, sum_pass};
