// SPDX-License-Identifier: GPL-2.0

//! md core: the array as md knows it, its members and threads, sysfs, limits, and the personality's operations.

/// The address of a field of an array or a device that a reference stands for.
macro_rules! field {
    ($of:expr, $($field:ident).+) => {{
        let of = $of.as_ptr();
        // SAFETY: The reference says that the structure is valid.
        unsafe { &raw mut (*of).$($field).+ }
    }};
}

/// Reads a field that is a word, which others may change.
macro_rules! load {
    ($of:expr, $($field:ident).+) => {{
        let word = field!($of, $($field).+);
        // SAFETY: A word of a structure that is valid.
        unsafe { word.read_volatile() }
    }};
}

/// Writes a field that is a word, which others may read.
macro_rules! store {
    ($of:expr, $($field:ident).+, $value:expr) => {{
        let (word, value) = (field!($of, $($field).+), $value);
        // SAFETY: A word of a structure that is valid.
        unsafe { word.write_volatile(value) }
    }};
}

pub(crate) mod exports;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod kunit;
pub(crate) mod limits;
pub(crate) mod mddev;
pub(crate) mod personality;
mod private;
pub(crate) mod rdev;
pub(crate) mod slots;
pub(crate) mod sysfs;
pub(crate) mod thread;
pub(crate) mod trace;
