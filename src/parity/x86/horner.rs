// SPDX-License-Identifier: GPL-2.0

//! P and Q of a group of inputs in one pass: made and stored, or compared with what is stored; and what all passes
//! work on.
//!
//! A step of the outer loop makes as many bytes of P and Q as a few registers hold, from the same bytes of all inputs in
//! turn; so parity is stored once, and never loaded unless it goes on from another group.

/// An input: where it is, and where it is to be copied to; null if nowhere.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) from: *const u8,
    pub(super) to: *mut u8,
}

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
    /// What is stored past the caches, by the functions that copy: [`PAST_COPIES`], [`PAST_PARITY`].
    pub(super) past: usize,
}

/// Copies go past the caches.
pub(super) const PAST_COPIES: usize = 1;

/// P and Q go past the caches.
pub(super) const PAST_PARITY: usize = 2;

/// Functions that make, or check, bytes `from..to` of P and Q, of which P may be missing; these must be multiples of `step` apart.
///
/// Each lane is a vector at an offset: registers for P, Q, an input, and what is of use meanwhile.
macro_rules! passes {
    (
        $isa:ident, $step:tt, $two:expr, [$(($p:tt $q:tt $d:tt $t:tt $o:tt))*]
    ) => {
        /// Makes P, and copies the inputs that are to be copied.
        ///
        /// # Safety
        ///
        /// As for P and Q below.
        pub(in super::super) unsafe fn copy_p(pass: &Pass<'_>, from: usize, to: usize) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    "2:",
                    "mov {cur}, {inputs}",
                    "test {begun}, {begun}",
                    "jnz 3f",
                    // P begins with the first input.
                    "mov {src}, [{cur}]",
                    "mov {dst}, [{cur} + 8]",
                    "add {cur}, 16",
                    $($isa!(load $p "{src}" $o),)*
                    "test {dst}, {dst}",
                    "jz 4f",
                    "test {past:e}, 1",
                    "jnz 22f",
                    $($isa!(store "{dst}" $o $p),)*
                    "jmp 4f",
                    "3:",
                    $($isa!(load $p "{begun}" $o),)*
                    "4:",
                    "cmp {cur}, {end}",
                    "jae 7f",
                    "5:",
                    "mov {src}, [{cur}]",
                    "mov {dst}, [{cur} + 8]",
                    "add {cur}, 16",
                    $($isa!(load $d "{src}" $o),)*
                    "test {dst}, {dst}",
                    "jz 6f",
                    "test {past:e}, 1",
                    "jnz 23f",
                    $($isa!(store "{dst}" $o $d),)*
                    "6:",
                    $($isa!(xor $p $d),)*
                    "cmp {cur}, {end}",
                    "jb 5b",
                    "7:",
                    "test {past:e}, 2",
                    "jnz 24f",
                    $($isa!(store "{p}" $o $p),)*
                    "8:",
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b",
                    "jmp 25f",
                    // Past the caches; that takes an order of its own at the end.
                    "22:",
                    $($isa!(stream "{dst}" $o $p),)*
                    "jmp 4b",
                    "23:",
                    $($isa!(stream "{dst}" $o $d),)*
                    "jmp 6b",
                    "24:",
                    $($isa!(stream "{p}" $o $p),)*
                    "jmp 8b",
                    "25:",
                    "test {past:e}, {past:e}",
                    "jz 26f",
                    "sfence",
                    "26:";
                    inputs = in(reg) pass.inputs.as_ptr(),
                    end = in(reg) pass.inputs.as_ptr_range().end,
                    begun = in(reg) pass.begun_p,
                    p = in(reg) pass.p,
                    past = in(reg) pass.past,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                    cur = out(reg) _,
                    src = out(reg) _,
                    dst = out(reg) _,
                );
            }
        }

        /// Makes P and Q, and copies the inputs that are to be copied.
        ///
        /// # Safety
        ///
        /// The CPU has the instructions, and they may be used. Bytes `from..to` of all that `pass` names are valid: inputs
        /// and what parity begins with for reads, with others perhaps writing to inputs that are copied; copies and parity
        /// for writes, by nobody else, and aligned to a line. `to - from` is a multiple of the step and not zero.
        pub(in super::super) unsafe fn copy_pq(pass: &Pass<'_>, from: usize, to: usize) {
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
                    "mov {dst}, [{cur} + 8]",
                    "add {cur}, 16",
                    $($isa!(load $p "{src}" $o),)*
                    $($isa!(copy $q $p),)*
                    "test {dst}, {dst}",
                    "jz 4f",
                    "test {past:e}, 1",
                    "jnz 22f",
                    $($isa!(store "{dst}" $o $p),)*
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
                    "mov {dst}, [{cur} + 8]",
                    "add {cur}, 16",
                    $($isa!(load $d "{src}" $o),)*
                    "test {dst}, {dst}",
                    "jz 6f",
                    "test {past:e}, 1",
                    "jnz 23f",
                    $($isa!(store "{dst}" $o $d),)*
                    "6:",
                    $($isa!(horner $q $d $t),)*
                    $($isa!(xor $p $d),)*
                    "cmp {cur}, {end}",
                    "jb 5b",
                    "7:",
                    "test {past:e}, 2",
                    "jnz 24f",
                    "test {p}, {p}",
                    "jz 8f",
                    $($isa!(store "{p}" $o $p),)*
                    "8:",
                    $($isa!(store "{q}" $o $q),)*
                    "9:",
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b",
                    "jmp 26f",
                    // Past the caches; that takes an order of its own at the end.
                    "22:",
                    $($isa!(stream "{dst}" $o $p),)*
                    "jmp 4b",
                    "23:",
                    $($isa!(stream "{dst}" $o $d),)*
                    "jmp 6b",
                    "24:",
                    "test {p}, {p}",
                    "jz 25f",
                    $($isa!(stream "{p}" $o $p),)*
                    "25:",
                    $($isa!(stream "{q}" $o $q),)*
                    "jmp 9b",
                    "26:",
                    "test {past:e}, {past:e}",
                    "jz 27f",
                    "sfence",
                    "27:";
                    inputs = in(reg) pass.inputs.as_ptr(),
                    end = in(reg) pass.inputs.as_ptr_range().end,
                    begun_p = in(reg) pass.begun_p,
                    begun_q = in(reg) pass.begun_q,
                    p = in(reg) pass.p,
                    q = in(reg) pass.q,
                    past = in(reg) pass.past,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                    cur = out(reg) _,
                    src = inout(reg) $two => _,
                    dst = out(reg) _,
                );
            }
        }

        /// Makes P and Q; nothing is copied.
        ///
        /// # Safety
        ///
        /// As with copies.
        pub(in super::super) unsafe fn make_pq(pass: &Pass<'_>, from: usize, to: usize) {
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
                    "add {cur}, 16",
                    $($isa!(load $p "{src}" $o),)*
                    $($isa!(copy $q $p),)*
                    "jmp 4f",
                    "3:",
                    $($isa!(load $q "{begun_q}" $o),)*
                    $($isa!(zero $p),)*
                    "test {begun_p}, {begun_p}",
                    "jz 4f",
                    $($isa!(load $p "{begun_p}" $o),)*
                    "4:",
                    "cmp {cur}, {end}",
                    "jae 6f",
                    "5:",
                    "mov {src}, [{cur}]",
                    "add {cur}, 16",
                    $($isa!(load $d "{src}" $o),)*
                    $($isa!(horner $q $d $t),)*
                    $($isa!(xor $p $d),)*
                    "cmp {cur}, {end}",
                    "jb 5b",
                    "6:",
                    "test {p}, {p}",
                    "jz 7f",
                    $($isa!(store "{p}" $o $p),)*
                    "7:",
                    $($isa!(store "{q}" $o $q),)*
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
                );
            }
        }

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

pub(super) use passes;
