// SPDX-License-Identifier: GPL-2.0

//! What vector instructions this CPU has, and the system lets programs use.

use core::arch::asm;

/// Vector instructions that engines need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) avx2: bool,
    /// AVX-512 with instructions on bytes: F and BW.
    pub(crate) avx512: bool,
    pub(crate) gfni: bool,
}

/// Parts of the registers' state, as XCR0 counts them: those of SSE and AVX; and of AVX-512 besides.
const AVX_STATE: u64 = 0x06;
const AVX512_STATE: u64 = 0xe6;

impl Features {
    /// Asks the CPU. Any context.
    pub(crate) fn detect() -> Self {
        let bit = |word: u32, bit: u32| (word >> bit) & 1 != 0;
        if cpuid(0).eax < 7 || !bit(cpuid(1).ecx, 27) {
            // No extended features; or the system saves no vector registers.
            return Self::default();
        }
        let (state, leaf) = (xcr0(), cpuid(7));
        let saves = |parts: u64| state & parts == parts;
        Self {
            avx2: saves(AVX_STATE) && bit(leaf.ebx, 5),
            avx512: saves(AVX512_STATE) && bit(leaf.ebx, 16) && bit(leaf.ebx, 30),
            gfni: bit(leaf.ecx, 8),
        }
    }

    /// Whether everything that is wanted is here.
    pub(crate) fn have(self, wanted: Self) -> bool {
        (self.avx2 || !wanted.avx2)
            && (self.avx512 || !wanted.avx512)
            && (self.gfni || !wanted.gfni)
    }
}

struct Leaf {
    eax: u32,
    ebx: u32,
    ecx: u32,
}

/// A leaf of what the CPU says of itself, its first part.
fn cpuid(leaf: u32) -> Leaf {
    let (eax, ebx, ecx);
    // SAFETY: Every 64-bit CPU has the instruction. The compiler keeps rbx for itself, so it is put back.
    unsafe {
        asm!(
            "mov {saved}, rbx",
            "cpuid",
            "xchg {saved}, rbx",
            saved = out(reg) ebx,
            inout("eax") leaf => eax,
            inout("ecx") 0_u32 => ecx,
            out("edx") _,
            options(nomem, nostack),
        );
    }
    let ebx: u64 = ebx;
    Leaf {
        eax,
        // CAST: the instruction sets 32 bits.
        ebx: ebx as u32,
        ecx,
    }
}

/// Which parts of the registers' state the system saves. Only if it has said that it uses XSAVE.
fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: As the system uses XSAVE, the instruction may be used, and there is a register 0.
    unsafe {
        asm!(
            "xgetbv",
            in("ecx") 0_u32,
            out("eax") low,
            out("edx") high,
            options(nomem, nostack),
        );
    }
    (u64::from(high) << 32) | u64::from(low)
}
