// SPDX-License-Identifier: GPL-2.0

//! P alone of a group of inputs in one pass: made and stored, or compared with what is stored.

/// Functions that make, or check, bytes `from..to` of P; these must be multiples of `step` apart.
///
/// Each lane is a vector at an offset: a register for P.
macro_rules! sums {
    ($isa:ident, $step:tt, [$(($p:tt $o:tt))*]) => {
        /// Makes P; nothing is copied.
        ///
        /// # Safety
        ///
        /// The CPU has the instructions, and they may be used. Bytes `from..to` of all that `pass` names are valid: inputs
        /// and what P begins with for reads, and P for writes, by nobody else; it may be what it begins with. `to - from`
        /// is a multiple of the step and not zero.
        pub(in super::super) unsafe fn make_p(pass: &Pass<'_>, from: usize, to: usize) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    "2:",
                    "mov {cur}, {inputs}",
                    // P begins with what there is, or with the first input.
                    "mov {src}, {begun}",
                    "test {src}, {src}",
                    "jnz 3f",
                    "mov {src}, [{cur}]",
                    "add {cur}, 16",
                    "3:",
                    $($isa!(load $p "{src}" $o),)*
                    "cmp {cur}, {end}",
                    "jae 5f",
                    "4:",
                    "mov {src}, [{cur}]",
                    "add {cur}, 16",
                    "add {src}, {at}",
                    $($isa!(xor_near $p "{src}" $o),)*
                    "cmp {cur}, {end}",
                    "jb 4b",
                    "5:",
                    $($isa!(store "{p}" $o $p),)*
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b";
                    inputs = in(reg) pass.inputs.as_ptr(),
                    end = in(reg) pass.inputs.as_ptr_range().end,
                    begun = in(reg) pass.begun_p,
                    p = in(reg) pass.p,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                    cur = out(reg) _,
                    src = out(reg) _,
                );
            }
        }

        /// Compares P: not zero if it differs. Nothing is copied.
        ///
        /// # Safety
        ///
        /// As for making it, but P is only read.
        pub(in super::super) unsafe fn check_p(pass: &Pass<'_>, from: usize, to: usize) -> u32 {
            let found: u32;
            // SAFETY: By the requirements of this function the code reads what it may.
            unsafe {
                vector_asm!(
                    "2:",
                    "mov {cur}, {inputs}",
                    $($isa!(load $p "{p}" $o),)*
                    "test {begun}, {begun}",
                    "jz 3f",
                    $($isa!(xor_from $p $p "{begun}" $o),)*
                    "3:",
                    "cmp {cur}, {end}",
                    "jae 5f",
                    "4:",
                    "mov {src}, [{cur}]",
                    "add {cur}, 16",
                    "add {src}, {at}",
                    $($isa!(xor_near $p "{src}" $o),)*
                    "cmp {cur}, {end}",
                    "jb 4b",
                    "5:",
                    all_zero!($isa $($p)*),
                    "jz 6f",
                    "mov {found:e}, 1",
                    "6:",
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b";
                    inputs = in(reg) pass.inputs.as_ptr(),
                    end = in(reg) pass.inputs.as_ptr_range().end,
                    begun = in(reg) pass.begun_p,
                    p = in(reg) pass.p,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                    cur = out(reg) _,
                    src = out(reg) _,
                    found = inout(reg) 0_u32 => found,
                );
            }
            found
        }
    };
}

/// ZF says whether all of some vectors are zero; the first ones are spoilt.
macro_rules! all_zero {
    ($isa:ident $a:tt) => { $isa!(is_zero $a) };
    ($isa:ident $a:tt $b:tt) => { concat!($isa!(or $a $b), $isa!(is_zero $a)) };
    ($isa:ident $a:tt $b:tt $c:tt $d:tt) => {
        concat!($isa!(or $a $b), $isa!(or $c $d), all_zero!($isa $a $c))
    };
    ($isa:ident $a:tt $b:tt $c:tt $d:tt $e:tt $f:tt $g:tt $h:tt) => {
        concat!(
            $isa!(or $a $b), $isa!(or $c $d), $isa!(or $e $f), $isa!(or $g $h),
            all_zero!($isa $a $c $e $g)
        )
    };
}

pub(super) use {all_zero, sums};
