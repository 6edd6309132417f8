// SPDX-License-Identifier: GPL-2.0

//! The words that the assembly is written in: one macro for each instruction set, with the same words in each.
//!
//! A vector register is named by its number alone. Constants lie in registers 11 to 15; where parity is made, in 13 to 15 and 29 to 31.
//! Address operands are those of the block that uses the words; `{at}` is the offset that all of them are read and written at.
//!
//! | word | meaning |
//! |---|---|
//! | `load d from at o`, `store to at o d` | a vector at an address, unaligned as it may be |
//! | `stream to at o d` | as store, past the caches; aligned |
//! | `zero d`, `copy d a`, `xor d a`, `or d a` | d = 0, a, d + a, d \| a |
//! | `xor_from d a from at o` | d = a + what is at an address |
//! | `xor_near d from o` | d = d + what is at an address that has the offset in it already |
//! | `horner_setup from`, `horner q d t` | q = 2q + d; from: the set's word for that |
//! | `scale_setup n from`, `scale n m d t` | m = c·d, where c is the n-th of two; from: the set's table for c |
//! | `solve_setup n from`, `solve n m d` | the same besides `horner`; GFNI alone has the registers |
//! | `is_zero a` | ZF says whether a is zero |
//!
//! What sets share is written once, for registers `v`, with the ends that instructions get for wide ones: `m` for those that
//! move, `b` for those that work on bits.

/// AVX2: products are looked up by half bytes.
macro_rules! avx2 {
    (horner_setup $from:tt) => {
        concat!(
            "vpbroadcastq ymm14, [", $from, "]\n",
            "vpxor xmm15, xmm15, xmm15\n",
        )
    };
    (horner $q:tt $d:tt $t:tt) => {
        concat!(
            "vpcmpgtb ymm", $t, ", ymm15, ymm", $q, "\n",
            "vpaddb ymm", $q, ", ymm", $q, ", ymm", $q, "\n",
            "vpand ymm", $t, ", ymm", $t, ", ymm14\n",
            "vpxor ymm", $q, ", ymm", $q, ", ymm", $d, "\n",
            "vpxor ymm", $q, ", ymm", $q, ", ymm", $t, "\n",
        )
    };
    (ones $d:tt) => { concat!("vpcmpeqb ymm", $d, ", ymm", $d, ", ymm", $d, "\n") };
    (scale_setup $n:tt $from:tt) => { half_bytes!(avx2 "ymm" "vbroadcasti128" setup $n $from) };
    (scale $n:tt $m:tt $d:tt $t:tt) => { half_bytes!("ymm" "" scale $n $m $d $t) };
    ($($word:tt)*) => { vex!($($word)*) };
}

/// AVX-512 without GFNI.
macro_rules! avx512 {
    (horner_setup $from:tt) => { concat!("vpbroadcastq zmm31, [", $from, "]\n") };
    (horner $q:tt $d:tt $t:tt) => {
        concat!(
            "vpmovb2m k1, zmm", $q, "\n",
            "vpaddb zmm", $q, ", zmm", $q, ", zmm", $q, "\n",
            "vmovdqu8 zmm", $t, " {{k1}} {{z}}, zmm31\n",
            "vpternlogq zmm", $q, ", zmm", $d, ", zmm", $t, ", 0x96\n",
        )
    };
    (ones $d:tt) => { concat!("vpternlogd zmm", $d, ", zmm", $d, ", zmm", $d, ", 0xff\n") };
    (scale_setup $n:tt $from:tt) => { half_bytes!(avx512 "zmm" "vbroadcasti32x4" setup $n $from) };
    (scale $n:tt $m:tt $d:tt $t:tt) => { half_bytes!("zmm" "q" scale $n $m $d $t) };
    ($($word:tt)*) => { evex!($($word)*) };
}

/// Products by half bytes: the tables for the first factor lie in registers 13 and 14, those for the second in 11 and 12.
macro_rules! half_bytes {
    ($isa:ident $v:tt $broadcast:tt setup 0 $from:tt) => {
        concat!(
            half_bytes!($v $broadcast tables "13" "14" $from),
            $isa!(ones "15"),
            "vpsrlw ", $v, "15, ", $v, "15, 12\n",
            "vpackuswb ", $v, "15, ", $v, "15, ", $v, "15\n",
        )
    };
    ($isa:ident $v:tt $broadcast:tt setup 1 $from:tt) => {
        half_bytes!($v $broadcast tables "11" "12" $from)
    };
    ($v:tt $broadcast:tt tables $low:tt $high:tt $from:tt) => {
        concat!(
            $broadcast, " ", $v, $low, ", [", $from, "]\n",
            $broadcast, " ", $v, $high, ", [", $from, " + 16]\n",
        )
    };
    ($v:tt $b:tt scale 0 $m:tt $d:tt $t:tt) => { half_bytes!($v $b look_up "13" "14" $m $d $t) };
    ($v:tt $b:tt scale 1 $m:tt $d:tt $t:tt) => { half_bytes!($v $b look_up "11" "12" $m $d $t) };
    ($v:tt $b:tt look_up $low:tt $high:tt $m:tt $d:tt $t:tt) => {
        concat!(
            "vpand", $b, " ", $v, $t, ", ", $v, $d, ", ", $v, "15\n",
            "vpsrlw ", $v, $m, ", ", $v, $d, ", 4\n",
            "vpand", $b, " ", $v, $m, ", ", $v, $m, ", ", $v, "15\n",
            "vpshufb ", $v, $t, ", ", $v, $low, ", ", $v, $t, "\n",
            "vpshufb ", $v, $m, ", ", $v, $high, ", ", $v, $m, "\n",
            "vpxor", $b, " ", $v, $m, ", ", $v, $m, ", ", $v, $t, "\n",
        )
    };
}

/// GFNI with registers of 256 bits: a product is one instruction.
macro_rules! gfni256 {
    (horner_setup $from:tt) => { gfni!("ymm" setup "14" $from) };
    (horner $q:tt $d:tt $t:tt) => {
        concat!(gfni!("ymm" times "14" $q $q), vex!(xor $q $d))
    };
    (scale_setup $n:tt $from:tt) => { gfni!("ymm" scale_setup $n $from) };
    (scale $n:tt $m:tt $d:tt $t:tt) => { gfni!("ymm" scale $n $m $d) };
    (solve_setup 0 $from:tt) => { gfni!("ymm" setup "13" $from) };
    (solve_setup 1 $from:tt) => { gfni!("ymm" setup "15" $from) };
    (solve 0 $m:tt $d:tt) => { gfni!("ymm" times "13" $m $d) };
    (solve 1 $m:tt $d:tt) => { gfni!("ymm" times "15" $m $d) };
    ($($word:tt)*) => { vex!($($word)*) };
}

/// GFNI with registers of 512 bits.
macro_rules! gfni512 {
    (horner_setup $from:tt) => { gfni!("zmm" setup "31" $from) };
    (horner $q:tt $d:tt $t:tt) => {
        concat!(gfni!("zmm" times "31" $q $q), evex!(xor $q $d))
    };
    (scale_setup $n:tt $from:tt) => { gfni!("zmm" scale_setup $n $from) };
    (scale $n:tt $m:tt $d:tt $t:tt) => { gfni!("zmm" scale $n $m $d) };
    (solve_setup 0 $from:tt) => { gfni!("zmm" setup "29" $from) };
    (solve_setup 1 $from:tt) => { gfni!("zmm" setup "30" $from) };
    (solve 0 $m:tt $d:tt) => { gfni!("zmm" times "29" $m $d) };
    (solve 1 $m:tt $d:tt) => { gfni!("zmm" times "30" $m $d) };
    ($($word:tt)*) => { evex!($($word)*) };
}

/// Products by a matrix: that of the first factor lies in register 14, that of the second in 15.
macro_rules! gfni {
    ($v:tt setup $matrix:tt $from:tt) => {
        concat!("vpbroadcastq ", $v, $matrix, ", [", $from, "]\n")
    };
    ($v:tt times $matrix:tt $m:tt $d:tt) => {
        concat!("vgf2p8affineqb ", $v, $m, ", ", $v, $d, ", ", $v, $matrix, ", 0\n")
    };
    ($v:tt scale_setup 0 $from:tt) => { gfni!($v setup "14" $from) };
    ($v:tt scale_setup 1 $from:tt) => { gfni!($v setup "15" $from) };
    ($v:tt scale 0 $m:tt $d:tt) => { gfni!($v times "14" $m $d) };
    ($v:tt scale 1 $m:tt $d:tt) => { gfni!($v times "15" $m $d) };
}

/// What the sets with registers of 256 bits have in common.
macro_rules! vex {
    (is_zero $a:tt) => {
        concat!("vptest ymm", $a, ", ymm", $a, "\n")
    };
    (stream $to:tt $o:tt $d:tt) => {
        concat!("vmovntdq [", $to, " + {at} + ", $o, "], ymm", $d, "\n")
    };
    ($($word:tt)*) => { plain!("ymm" "" "" $($word)*) };
}

/// What the sets with registers of 512 bits have in common.
macro_rules! evex {
    (is_zero $a:tt) => {
        concat!("vptestmq k1, zmm", $a, ", zmm", $a, "\n", "kortestw k1, k1\n")
    };
    (stream $to:tt $o:tt $d:tt) => {
        concat!("vmovntdq [", $to, " + {at} + ", $o, "], zmm", $d, "\n")
    };
    ($($word:tt)*) => { plain!("zmm" "64" "q" $($word)*) };
}

/// What all sets have in common.
macro_rules! plain {
    ($v:tt $m:tt $b:tt load $d:tt $from:tt $o:tt) => {
        concat!(
            "vmovdqu",
            $m,
            " ",
            $v,
            $d,
            ", [",
            $from,
            " + {at} + ",
            $o,
            "]\n"
        )
    };
    ($v:tt $m:tt $b:tt store $to:tt $o:tt $d:tt) => {
        concat!(
            "vmovdqu",
            $m,
            " [",
            $to,
            " + {at} + ",
            $o,
            "], ",
            $v,
            $d,
            "\n"
        )
    };
    ($v:tt $m:tt $b:tt zero $d:tt) => {
        concat!("vpxor xmm", $d, ", xmm", $d, ", xmm", $d, "\n")
    };
    ($v:tt $m:tt $b:tt copy $d:tt $a:tt) => {
        concat!("vmovdqa", $m, " ", $v, $d, ", ", $v, $a, "\n")
    };
    ($v:tt $m:tt $b:tt xor $d:tt $a:tt) => {
        concat!("vpxor", $b, " ", $v, $d, ", ", $v, $d, ", ", $v, $a, "\n")
    };
    ($v:tt $m:tt $b:tt or $d:tt $a:tt) => {
        concat!("vpor", $b, " ", $v, $d, ", ", $v, $d, ", ", $v, $a, "\n")
    };
    ($v:tt $m:tt $b:tt xor_from $d:tt $a:tt $from:tt $o:tt) => {
        concat!(
            "vpxor",
            $b,
            " ",
            $v,
            $d,
            ", ",
            $v,
            $a,
            ", [",
            $from,
            " + {at} + ",
            $o,
            "]\n"
        )
    };
    ($v:tt $m:tt $b:tt xor_near $d:tt $from:tt $o:tt) => {
        concat!("vpxor", $b, " ", $v, $d, ", ", $v, $d, ", [", $from, " + ", $o, "]\n")
    };
}

/// `asm!` for vectors: those that the words name are clobbered, with a mask, and no upper half of one that
/// older instructions use is left dirty.
macro_rules! vector_asm {
    ($($template:expr),* ; $($operands:tt)*) => {
        core::arch::asm!(
            $($template,)*
            "vzeroupper",
            $($operands)*
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            out("k1") _,
            options(nostack),
        )
    };
}

pub(super) use {avx2, avx512, evex, gfni, gfni256, gfni512, half_bytes, plain, vector_asm, vex};
