// SPDX-License-Identifier: GPL-2.0

//! Two lost blocks in one pass over all that is left, so that what parity lacks never leaves the registers.

/// A function that computes bytes `from..to` of two lost blocks; these must be multiples of `step` apart.
///
/// Each lane is a vector at an offset: registers for P, Q, an input, and one that is not of use here. The word says how the two are
/// stored, and then there is the order that such stores take.
macro_rules! solving {
    ($name:ident, $store:tt $order:tt, $isa:ident, $step:tt, $two:expr, [$(($p:tt $q:tt $d:tt $t:tt $o:tt))*]) => {
        /// With a for what P of the inputs and `two.p` differ by, and b for Q: x becomes the product of a and the first factor
        /// plus that of b and the second, and y the sum of a and x.
        ///
        /// # Safety
        ///
        /// The CPU has the instructions, and they may be used. Bytes `from..to` of all inputs of `pass`, of which there is one,
        /// are valid for reads, and so are those of `two.p` and `two.q`; those of `two.x` and `two.y`, which are aligned to a
        /// line, are for writes, by nobody else. `tables` are the set's tables for the factors. `to - from` is a multiple of the
        /// step and not zero.
        pub(in super::super) unsafe fn $name(
            pass: &Pass<'_>,
            two: &Two,
            tables: [*const u8; 2],
            from: usize,
            to: usize,
        ) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    $isa!(horner_setup "{src}"),
                    $isa!(solve_setup 0 "{cur}"),
                    $isa!(solve_setup 1 "{by_q}"),
                    "2:",
                    "mov {cur}, {inputs}",
                    "mov {src}, [{cur}]",
                    "add {cur}, 16",
                    $($isa!(load $p "{src}" $o),)*
                    $($isa!(copy $q $p),)*
                    "cmp {cur}, {end}",
                    "jae 4f",
                    "3:",
                    "mov {src}, [{cur}]",
                    "add {cur}, 16",
                    $($isa!(load $d "{src}" $o),)*
                    $($isa!(horner $q $d $t),)*
                    $($isa!(xor $p $d),)*
                    "cmp {cur}, {end}",
                    "jb 3b",
                    "4:",
                    $($isa!(xor_from $p $p "{p}" $o),)*
                    $($isa!(xor_from $q $q "{q}" $o),)*
                    $($isa!(solve 0 $d $p),)*
                    $($isa!(solve 1 $q $q),)*
                    $($isa!(xor $d $q),)*
                    $($isa!(xor $p $d),)*
                    $($isa!($store "{x}" $o $d),)*
                    $($isa!($store "{y}" $o $p),)*
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b",
                    $order;
                    inputs = in(reg) pass.inputs.as_ptr(),
                    end = in(reg) pass.inputs.as_ptr_range().end,
                    x = in(reg) two.x,
                    y = in(reg) two.y,
                    p = in(reg) two.p,
                    q = in(reg) two.q,
                    by_q = in(reg) tables[1],
                    to = in(reg) to,
                    at = inout(reg) from => _,
                    cur = inout(reg) tables[0] => _,
                    src = inout(reg) $two => _,
                );
            }
        }
    };
}

pub(super) use solving;
