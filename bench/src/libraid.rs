// SPDX-License-Identifier: GPL-2.0

//! The kernel's lib/raid, from the shared library that `scripts/bench-parity` compiles.
//!
//! The functions here check what the C functions need: enough blocks, slots that are there, a CPU with the variant's
//! instructions. The strip's pointers are right by themselves.

#![allow(
    clippy::disallowed_methods,
    reason = "an ordinary program has no kernel's C strings"
)]

use crate::memory::LINE;
use crate::parity::{Line, BLOCK_LINES};
use crate::strip::{Pointers, POINTERS};
use std::ffi::{c_char, c_int, c_uint, c_void, CStr, CString};

type Gen = unsafe extern "C" fn(c_uint, c_int, usize, *mut *mut c_void);
type Delta = unsafe extern "C" fn(c_uint, c_int, c_int, usize, *mut *mut c_void);
type Two = unsafe extern "C" fn(c_uint, c_int, usize, c_int, c_int, *mut *mut c_void);
type DataP = unsafe extern "C" fn(c_uint, c_int, usize, c_int, *mut *mut c_void);
type Xor = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, c_uint, c_uint);
type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize);
type Zero = unsafe extern "C" fn(*mut c_void, usize);
type Name = unsafe extern "C" fn(c_uint) -> *const c_char;

/// The library's functions.
#[derive(Clone, Copy)]
pub(crate) struct Libraid {
    gen: Gen,
    delta: Delta,
    two: Two,
    data_p: DataP,
    xor: Xor,
    copy: Copy,
    zero: Zero,
    name: Name,
}

/// A variant that this CPU can run.
#[derive(Clone, Copy)]
pub(crate) struct Variant {
    number: c_uint,
    /// Its name in the kernel's log, "avx512x2" for example.
    pub(crate) name: &'static str,
}

impl Libraid {
    /// Loads the library.
    pub(crate) fn load(path: &str) -> Result<Self, String> {
        let file = CString::new(path).map_err(|_| "a file name with a zero byte in it")?;
        // SAFETY: The name ends with a zero byte. The library has no constructors.
        let handle = unsafe { dlopen(file.as_ptr(), RTLD_NOW) };
        if handle.is_null() {
            return Err(format!("{path} can not be loaded"));
        }
        let symbol = |name: &CStr| {
            // SAFETY: The handle is that of a library that stays loaded; the name ends with a zero byte.
            let at = unsafe { dlsym(handle, name.as_ptr()) };
            if at.is_null() {
                return Err(format!("{path} has no {}", name.to_string_lossy()));
            }
            Ok(at)
        };
        // SAFETY: Each of these is a function of bench/libraid/glue.c, which declares it so.
        unsafe {
            Ok(Self {
                gen: std::mem::transmute::<*mut c_void, Gen>(symbol(c"libraid_gen")?),
                delta: std::mem::transmute::<*mut c_void, Delta>(symbol(c"libraid_delta")?),
                two: std::mem::transmute::<*mut c_void, Two>(symbol(c"libraid_recover_two")?),
                data_p: std::mem::transmute::<*mut c_void, DataP>(symbol(
                    c"libraid_recover_data_p",
                )?),
                xor: std::mem::transmute::<*mut c_void, Xor>(symbol(c"libraid_xor")?),
                copy: std::mem::transmute::<*mut c_void, Copy>(symbol(c"libraid_copy")?),
                zero: std::mem::transmute::<*mut c_void, Zero>(symbol(c"libraid_zero")?),
                name: std::mem::transmute::<*mut c_void, Name>(symbol(c"libraid_name")?),
            })
        }
    }

    /// The variants that this CPU can run: those that the kernel would try at boot.
    pub(crate) fn variants(&self) -> Vec<Variant> {
        let avx512 = ["avx512f", "avx512bw", "avx512vl", "avx512dq"];
        let has = |name: &str| {
            std::fs::read_to_string("/proc/cpuinfo")
                .is_ok_and(|text| text.split_whitespace().any(|word| word == name))
        };
        let avx512 = avx512.iter().all(|name| has(name));
        (0..)
            // SAFETY: The call may be made with any number.
            .map(|number| (number, unsafe { (self.name)(number) }))
            .take_while(|(_, name)| !name.is_null())
            .map(|(number, name)| {
                // SAFETY: It is not null, and so a constant string of the library.
                let name = unsafe { CStr::from_ptr::<'static>(name) };
                Variant {
                    number,
                    name: name.to_str().expect("names are ASCII"),
                }
            })
            .filter(|variant| avx512 || !variant.name.starts_with("avx512"))
            .collect()
    }

    /// P and Q of the data.
    pub(crate) fn gen(&self, variant: Variant, strip: &mut Pointers<'_>) {
        let disks = with_q(strip);
        // SAFETY: By the invariants of the pointers, of which `disks` are those of data, P and Q.
        unsafe { (self.gen)(variant.number, disks, bytes(strip), list(strip)) }
    }

    /// P and Q of the data in other places.
    pub(crate) fn gen_into(
        &self,
        variant: Variant,
        strip: &mut Pointers<'_>,
        p: &mut [Line],
        q: &mut [Line],
    ) {
        let disks = with_q(strip);
        assert!(p.len() >= strip.lines && q.len() >= strip.lines);
        let at = strip.members - 2;
        let stored = [strip.list[at], strip.list[at + 1]];
        strip.list[at..at + 2].copy_from_slice(&[p.as_mut_ptr(), q.as_mut_ptr()]);
        // SAFETY: By the invariants of the pointers; those of P and Q are to as many lines, borrowed mutably.
        unsafe { (self.gen)(variant.number, disks, bytes(strip), list(strip)) }
        strip.list[at..at + 2].copy_from_slice(&stored);
    }

    /// Changes P and Q by the block of `slot`.
    pub(crate) fn delta(&self, variant: Variant, slot: usize, strip: &mut Pointers<'_>) {
        let disks = with_q(strip);
        assert!(slot + 2 < strip.members);
        // SAFETY: By the invariants of the pointers. Only those of the slot, of P and of Q are used.
        unsafe {
            (self.delta)(
                variant.number,
                disks,
                slot as c_int,
                bytes(strip),
                list(strip),
            )
        }
    }

    /// Recovers the data blocks `a` and `b`; of at most 4 KiB.
    pub(crate) fn recover_two(
        &self,
        variant: Variant,
        (a, b): (usize, usize),
        strip: &mut Pointers<'_>,
    ) {
        let disks = with_q(strip);
        assert!(a < b && b + 2 < strip.members && strip.lines <= BLOCK_LINES);
        // SAFETY: By the invariants of the pointers; the two are data blocks, in order.
        unsafe {
            (self.two)(
                variant.number,
                disks,
                bytes(strip),
                a as c_int,
                b as c_int,
                list(strip),
            )
        }
    }

    /// Recovers the data block `a` and P; of at most 4 KiB.
    pub(crate) fn recover_data_p(&self, variant: Variant, a: usize, strip: &mut Pointers<'_>) {
        let disks = with_q(strip);
        assert!(a + 2 < strip.members && strip.lines <= BLOCK_LINES);
        // SAFETY: By the invariants of the pointers; `a` is a data block.
        unsafe { (self.data_p)(variant.number, disks, bytes(strip), a as c_int, list(strip)) }
    }

    /// Changes the block at `to` by the XOR of others.
    pub(crate) fn xor(
        &self,
        to: usize,
        sources: impl Iterator<Item = usize>,
        strip: &mut Pointers<'_>,
    ) {
        let mut chosen = [std::ptr::null_mut::<c_void>(); POINTERS];
        let mut count = 0;
        for source in sources {
            assert!(source < strip.count && source != to);
            chosen[count] = strip.list[source].cast();
            count += 1;
        }
        assert!(to < strip.count && count > 0);
        // SAFETY: By the invariants of the pointers, `count` of which are in the list, and none of them is that of `to`.
        unsafe {
            (self.xor)(
                strip.list[to].cast(),
                chosen.as_mut_ptr(),
                count as c_uint,
                bytes(strip) as c_uint,
            )
        }
    }

    /// Copies a block as the kernel's memcpy() does on a CPU with fast short string operations.
    pub(crate) fn copy(&self, to: usize, from: usize, strip: &mut Pointers<'_>) {
        assert!(to < strip.count && from < strip.count && to != from);
        // SAFETY: By the invariants of the pointers.
        unsafe { (self.copy)(strip.list[to].cast(), strip.list[from].cast(), bytes(strip)) }
    }

    /// Zeros a block as the kernel's memset() does there.
    pub(crate) fn zero(&self, to: usize, strip: &mut Pointers<'_>) {
        assert!(to < strip.count);
        // SAFETY: By the invariants of the pointers.
        unsafe { (self.zero)(strip.list[to].cast(), bytes(strip)) }
    }
}

/// Copies a block as the C library does.
pub(crate) fn libc_copy(to: usize, from: usize, strip: &mut Pointers<'_>) {
    assert!(to < strip.count && from < strip.count && to != from);
    // SAFETY: By the invariants of the pointers.
    unsafe { std::ptr::copy_nonoverlapping(strip.list[from], strip.list[to], strip.lines) }
}

/// How many disks a strip with P and Q has.
fn with_q(strip: &Pointers<'_>) -> c_int {
    assert!(
        strip.members >= 4 && strip.members <= strip.count,
        "lib/raid wants two data blocks, P and Q"
    );
    strip.members as c_int
}

fn bytes(strip: &Pointers<'_>) -> usize {
    strip.lines * LINE
}

fn list(strip: &mut Pointers<'_>) -> *mut *mut c_void {
    strip.list.as_mut_ptr().cast()
}

const RTLD_NOW: c_int = 2;

extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}
