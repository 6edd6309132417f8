// SPDX-License-Identifier: GPL-2.0

//! The words that the assembly is written in: one macro for each instruction set, with the same words in each.
//!
//! A vector register is named by its number alone. Constants lie in registers 11 to 15; where parity is made, in 14, 15 and 31. Address operands are those of the block that uses the words; `{at}` is the offset that all of them are read and
//! written at.
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
//! | `is_zero a` | ZF says whether a is zero |

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
    (scale_setup 0 $from:tt) => {
        concat!(
            "vbroadcasti128 ymm13, [", $from, "]\n",
            "vbroadcasti128 ymm14, [", $from, " + 16]\n",
            "vpcmpeqb ymm15, ymm15, ymm15\n",
            "vpsrlw ymm15, ymm15, 12\n",
            "vpackuswb ymm15, ymm15, ymm15\n",
        )
    };
    (scale_setup 1 $from:tt) => {
        concat!(
            "vbroadcasti128 ymm11, [", $from, "]\n",
            "vbroadcasti128 ymm12, [", $from, " + 16]\n",
        )
    };
    (scale 0 $m:tt $d:tt $t:tt) => { avx2!(look_up "13" "14" $m $d $t) };
    (scale 1 $m:tt $d:tt $t:tt) => { avx2!(look_up "11" "12" $m $d $t) };
    (look_up $low:tt $high:tt $m:tt $d:tt $t:tt) => {
        concat!(
            "vpand ymm", $t, ", ymm", $d, ", ymm15\n",
            "vpsrlw ymm", $m, ", ymm", $d, ", 4\n",
            "vpand ymm", $m, ", ymm", $m, ", ymm15\n",
            "vpshufb ymm", $t, ", ymm", $low, ", ymm", $t, "\n",
            "vpshufb ymm", $m, ", ymm", $high, ", ymm", $m, "\n",
            "vpxor ymm", $m, ", ymm", $m, ", ymm", $t, "\n",
        )
    };
    ($($word:tt)*) => { vex!($($word)*) };
}

/// GFNI with registers of 256 bits: a product is one instruction.
macro_rules! gfni256 {
    (horner_setup $from:tt) => { concat!("vpbroadcastq ymm14, [", $from, "]\n") };
    (horner $q:tt $d:tt $t:tt) => {
        concat!(
            "vgf2p8affineqb ymm", $q, ", ymm", $q, ", ymm14, 0\n",
            "vpxor ymm", $q, ", ymm", $q, ", ymm", $d, "\n",
        )
    };
    (scale_setup 0 $from:tt) => { concat!("vpbroadcastq ymm14, [", $from, "]\n") };
    (scale_setup 1 $from:tt) => { concat!("vpbroadcastq ymm15, [", $from, "]\n") };
    (scale 0 $m:tt $d:tt $t:tt) => {
        concat!("vgf2p8affineqb ymm", $m, ", ymm", $d, ", ymm14, 0\n")
    };
    (scale 1 $m:tt $d:tt $t:tt) => {
        concat!("vgf2p8affineqb ymm", $m, ", ymm", $d, ", ymm15, 0\n")
    };
    ($($word:tt)*) => { vex!($($word)*) };
}

/// What the sets with registers of 256 bits have in common.
macro_rules! vex {
    (load $d:tt $from:tt $o:tt) => {
        concat!("vmovdqu ymm", $d, ", [", $from, " + {at} + ", $o, "]\n")
    };
    (store $to:tt $o:tt $d:tt) => {
        concat!("vmovdqu [", $to, " + {at} + ", $o, "], ymm", $d, "\n")
    };
    (stream $to:tt $o:tt $d:tt) => {
        concat!("vmovntdq [", $to, " + {at} + ", $o, "], ymm", $d, "\n")
    };
    (zero $d:tt) => {
        concat!("vpxor xmm", $d, ", xmm", $d, ", xmm", $d, "\n")
    };
    (copy $d:tt $a:tt) => {
        concat!("vmovdqa ymm", $d, ", ymm", $a, "\n")
    };
    (xor $d:tt $a:tt) => {
        concat!("vpxor ymm", $d, ", ymm", $d, ", ymm", $a, "\n")
    };
    (or $d:tt $a:tt) => {
        concat!("vpor ymm", $d, ", ymm", $d, ", ymm", $a, "\n")
    };
    (xor_from $d:tt $a:tt $from:tt $o:tt) => {
        concat!(
            "vpxor ymm",
            $d,
            ", ymm",
            $a,
            ", [",
            $from,
            " + {at} + ",
            $o,
            "]\n"
        )
    };
    (xor_near $d:tt $from:tt $o:tt) => {
        concat!("vpxor ymm", $d, ", ymm", $d, ", [", $from, " + ", $o, "]\n")
    };
    (is_zero $a:tt) => {
        concat!("vptest ymm", $a, ", ymm", $a, "\n")
    };
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
    (scale_setup 0 $from:tt) => {
        concat!(
            "vbroadcasti32x4 zmm13, [", $from, "]\n",
            "vbroadcasti32x4 zmm14, [", $from, " + 16]\n",
            "vpternlogd zmm15, zmm15, zmm15, 0xff\n",
            "vpsrlw zmm15, zmm15, 12\n",
            "vpackuswb zmm15, zmm15, zmm15\n",
        )
    };
    (scale_setup 1 $from:tt) => {
        concat!(
            "vbroadcasti32x4 zmm11, [", $from, "]\n",
            "vbroadcasti32x4 zmm12, [", $from, " + 16]\n",
        )
    };
    (scale 0 $m:tt $d:tt $t:tt) => { avx512!(look_up "13" "14" $m $d $t) };
    (scale 1 $m:tt $d:tt $t:tt) => { avx512!(look_up "11" "12" $m $d $t) };
    (look_up $low:tt $high:tt $m:tt $d:tt $t:tt) => {
        concat!(
            "vpandq zmm", $t, ", zmm", $d, ", zmm15\n",
            "vpsrlw zmm", $m, ", zmm", $d, ", 4\n",
            "vpandq zmm", $m, ", zmm", $m, ", zmm15\n",
            "vpshufb zmm", $t, ", zmm", $low, ", zmm", $t, "\n",
            "vpshufb zmm", $m, ", zmm", $high, ", zmm", $m, "\n",
            "vpxorq zmm", $m, ", zmm", $m, ", zmm", $t, "\n",
        )
    };
    ($($word:tt)*) => { evex!($($word)*) };
}

/// GFNI with registers of 512 bits.
macro_rules! gfni512 {
    (horner_setup $from:tt) => { concat!("vpbroadcastq zmm31, [", $from, "]\n") };
    (horner $q:tt $d:tt $t:tt) => {
        concat!(
            "vgf2p8affineqb zmm", $q, ", zmm", $q, ", zmm31, 0\n",
            "vpxorq zmm", $q, ", zmm", $q, ", zmm", $d, "\n",
        )
    };
    (scale_setup 0 $from:tt) => { concat!("vpbroadcastq zmm14, [", $from, "]\n") };
    (scale_setup 1 $from:tt) => { concat!("vpbroadcastq zmm15, [", $from, "]\n") };
    (scale 0 $m:tt $d:tt $t:tt) => {
        concat!("vgf2p8affineqb zmm", $m, ", zmm", $d, ", zmm14, 0\n")
    };
    (scale 1 $m:tt $d:tt $t:tt) => {
        concat!("vgf2p8affineqb zmm", $m, ", zmm", $d, ", zmm15, 0\n")
    };
    ($($word:tt)*) => { evex!($($word)*) };
}

/// What the sets with registers of 512 bits have in common.
macro_rules! evex {
    (load $d:tt $from:tt $o:tt) => {
        concat!("vmovdqu64 zmm", $d, ", [", $from, " + {at} + ", $o, "]\n")
    };
    (store $to:tt $o:tt $d:tt) => {
        concat!("vmovdqu64 [", $to, " + {at} + ", $o, "], zmm", $d, "\n")
    };
    (stream $to:tt $o:tt $d:tt) => {
        concat!("vmovntdq [", $to, " + {at} + ", $o, "], zmm", $d, "\n")
    };
    (zero $d:tt) => {
        concat!("vpxor xmm", $d, ", xmm", $d, ", xmm", $d, "\n")
    };
    (copy $d:tt $a:tt) => {
        concat!("vmovdqa64 zmm", $d, ", zmm", $a, "\n")
    };
    (xor $d:tt $a:tt) => {
        concat!("vpxorq zmm", $d, ", zmm", $d, ", zmm", $a, "\n")
    };
    (or $d:tt $a:tt) => {
        concat!("vporq zmm", $d, ", zmm", $d, ", zmm", $a, "\n")
    };
    (xor_from $d:tt $a:tt $from:tt $o:tt) => {
        concat!(
            "vpxorq zmm",
            $d,
            ", zmm",
            $a,
            ", [",
            $from,
            " + {at} + ",
            $o,
            "]\n"
        )
    };
    (xor_near $d:tt $from:tt $o:tt) => {
        concat!(
            "vpxorq zmm",
            $d,
            ", zmm",
            $d,
            ", [",
            $from,
            " + ",
            $o,
            "]\n"
        )
    };
    (is_zero $a:tt) => {
        concat!(
            "vptestmq k1, zmm",
            $a,
            ", zmm",
            $a,
            "\n",
            "kortestw k1, k1\n"
        )
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

pub(super) use {avx2, avx512, evex, gfni256, gfni512, vector_asm, vex};
