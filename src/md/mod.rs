// SPDX-License-Identifier: GPL-2.0

//! md core: the array as md knows it, its members and threads, sysfs, limits, and the personality's operations.

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
