// SPDX-License-Identifier: GPL-2.0

//! One block at a time: parity that follows a change, and what is left of recovering lost blocks.
//!
//! In a step everything is loaded before anything is stored: blocks are pages, and a load at the same place in a page as a
//! store before would wait for it.

/// A block that changes. Every pointer is one to the first byte; null where what it says is optional is missing.
pub(super) struct Change {
    pub(super) old: *const u8,
    pub(super) new: *const u8,
    /// Where the new bytes are copied to; optional.
    pub(super) copy: *mut u8,
    /// Parity that follows; P is optional if there is Q.
    pub(super) p: *mut u8,
    pub(super) q: *mut u8,
}

/// What a lost block is computed of.
pub(super) struct One {
    pub(super) lost: *mut u8,
    pub(super) q: *const u8,
    /// Optional.
    pub(super) p: *mut u8,
}

/// What two lost blocks are computed of.
#[derive(Clone, Copy)]
pub(super) struct Two {
    pub(super) x: *mut u8,
    pub(super) y: *mut u8,
    pub(super) p: *const u8,
    pub(super) q: *const u8,
}

/// Functions that work on bytes `from..to`; these must be multiples of `step` apart.
///
/// Each lane is a vector at an offset: four registers, whose use differs.
macro_rules! products {
    (
        $isa:ident, $step:tt, [$(($a:tt $b:tt $c:tt $t:tt $o:tt))*]    ) => {
        /// Has P follow a change.
        ///
        /// # Safety
        ///
        /// The CPU has the instructions, and they may be used. Bytes `from..to` of all that `change` names are valid: the
        /// old ones for reads, the new ones too, though others may write to them; the copy and parity for writes, by
        /// nobody else; the copy may be the old block. `to - from` is a multiple of the step and not zero.
        pub(in super::super) unsafe fn change_p(change: &Change, from: usize, to: usize) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    "2:",
                    $($isa!(load $a "{new}" $o),)*
                    $($isa!(xor_from $b $a "{old}" $o),)*
                    $($isa!(xor_from $b $b "{p}" $o),)*
                    "test {copy}, {copy}",
                    "jz 3f",
                    $($isa!(store "{copy}" $o $a),)*
                    "3:",
                    $($isa!(store "{p}" $o $b),)*
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b";
                    old = in(reg) change.old,
                    new = in(reg) change.new,
                    copy = in(reg) change.copy,
                    p = in(reg) change.p,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                );
            }
        }

        /// Has P and Q follow a change.
        ///
        /// # Safety
        ///
        /// As for P alone; and Q for writes as P. `table` is the set's table for the factor.
        pub(in super::super) unsafe fn change_pq(change: &Change, table: *const u8, from: usize, to: usize) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    $isa!(scale_setup 0 "{table}"),
                    "2:",
                    $($isa!(load $a "{new}" $o),)*
                    $($isa!(xor_from $b $a "{old}" $o),)*
                    $($isa!(scale 0 $c $b $t),)*
                    $($isa!(xor_from $c $c "{q}" $o),)*
                    "test {p}, {p}",
                    "jz 3f",
                    $($isa!(xor_from $b $b "{p}" $o),)*
                    $($isa!(store "{p}" $o $b),)*
                    "3:",
                    "test {copy}, {copy}",
                    "jz 4f",
                    $($isa!(store "{copy}" $o $a),)*
                    "4:",
                    $($isa!(store "{q}" $o $c),)*
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b";
                    table = in(reg) table,
                    old = in(reg) change.old,
                    new = in(reg) change.new,
                    copy = in(reg) change.copy,
                    p = in(reg) change.p,
                    q = in(reg) change.q,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                );
            }
        }

        /// A lost block by Q.
        ///
        /// # Safety
        ///
        /// The CPU has the instructions, and they may be used. Bytes `from..to` of all that `one` names are valid, Q for
        /// reads and the rest for writes, by nobody else. `table` is the set's table for the factor. `to - from` is a
        /// multiple of the step and not zero.
        pub(in super::super) unsafe fn one(one: &One, table: *const u8, from: usize, to: usize) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    $isa!(scale_setup 0 "{table}"),
                    "2:",
                    $($isa!(load $a "{lost}" $o),)*
                    $($isa!(xor_from $a $a "{q}" $o),)*
                    $($isa!(scale 0 $c $a $t),)*
                    "test {p}, {p}",
                    "jz 3f",
                    $($isa!(xor_from $b $c "{p}" $o),)*
                    $($isa!(store "{p}" $o $b),)*
                    "3:",
                    $($isa!(store "{lost}" $o $c),)*
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b";
                    table = in(reg) table,
                    lost = in(reg) one.lost,
                    q = in(reg) one.q,
                    p = in(reg) one.p,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                );
            }
        }

        /// Two lost blocks by P and Q.
        ///
        /// # Safety
        ///
        /// The CPU has the instructions, and they may be used. Bytes `from..to` of all that `two` names are valid, P and Q
        /// for reads and the rest for writes, by nobody else. `tables` are the set's tables for the factors. `to - from`
        /// is a multiple of the step and not zero.
        pub(in super::super) unsafe fn two(two: &Two, tables: [*const u8; 2], from: usize, to: usize) {
            // SAFETY: By the requirements of this function the code reads and writes what it may.
            unsafe {
                vector_asm!(
                    $isa!(scale_setup 0 "{by_p}"),
                    $isa!(scale_setup 1 "{by_q}"),
                    "2:",
                    $($isa!(load $a "{x}" $o),)*
                    $($isa!(load $b "{y}" $o),)*
                    $($isa!(xor_from $a $a "{p}" $o),)*
                    $($isa!(xor_from $b $b "{q}" $o),)*
                    $($isa!(scale 0 $c $a $t),)*
                    // Lane by lane: what is of use meanwhile holds a product.
                    $(concat!($isa!(scale 1 $b $b $t), $isa!(xor $c $b), $isa!(xor $a $c)),)*
                    $($isa!(store "{x}" $o $c),)*
                    $($isa!(store "{y}" $o $a),)*
                    concat!("add {at}, ", $step),
                    "cmp {at}, {to}",
                    "jb 2b";
                    by_p = in(reg) tables[0],
                    by_q = in(reg) tables[1],
                    x = in(reg) two.x,
                    y = in(reg) two.y,
                    p = in(reg) two.p,
                    q = in(reg) two.q,
                    to = in(reg) to,
                    at = inout(reg) from => _,
                );
            }
        }
    };
}

pub(super) use products;
