// SPDX-License-Identifier: GPL-2.0

//! The kernel's own XOR, `xor_gen`: it has chosen the fastest code for this machine at boot.
//!
//! May only run in task context with interrupts on, because that code may use vector registers.

use super::{Engine, Sector, GROUP};
use crate::bindings;
use core::ffi::c_void;
use kernel::transmute::{AsBytes, FromBytes};

// SAFETY: A sector is an array of integers: any bytes make one.
unsafe impl FromBytes for Sector {}

// SAFETY: A sector is an array of integers as long as it is: it has no padding.
unsafe impl AsBytes for Sector {}

/// XOR by the kernel's library. Only in task context with interrupts on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel;

impl Engine for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn set(&self, dst: &mut [Sector], sources: &[&[Sector]]) {
        match sources.split_first() {
            Some((first, rest)) => {
                for (dst, source) in dst.iter_mut().zip(*first) {
                    *dst = *source;
                }
                self.add(dst, rest);
            }
            None => dst.fill(Sector::ZERO),
        }
    }

    fn add(&self, dst: &mut [Sector], sources: &[&[Sector]]) {
        let mut pointers = [core::ptr::null_mut::<c_void>(); GROUP];
        let mut sectors = dst.len();
        let mut count = 0;
        for (pointer, source) in pointers.iter_mut().zip(sources) {
            *pointer = source.as_ptr().cast::<c_void>().cast_mut();
            sectors = sectors.min(source.len());
            count += 1;
        }
        let bytes = sectors.saturating_mul(size_of::<Sector>());
        let (Ok(bytes @ 1..), 1..) = (u32::try_from(bytes), count) else {
            return;
        };
        // SAFETY: `dst` and the `count` sources are at least `bytes` long, a multiple of 512, and aligned to 64 bytes as
        // sectors are; `dst` is borrowed mutably, so it is none of the sources, which are only read.
        unsafe {
            bindings::xor_gen(dst.as_mut_ptr().cast(), pointers.as_mut_ptr(), count, bytes);
        }
    }
}
