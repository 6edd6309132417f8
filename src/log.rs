// SPDX-License-Identifier: GPL-2.0

//! Messages about an array, as the C driver has them: nothing stands before `md/raid:`, which is what those look for who read
//! the kernel's log. (The kernel crate's own macros put the module's name there.)

use crate::bindings;
use kernel::fmt;
use kernel::prelude::*;

/// How important a message is, as the kernel's `KERN_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Importance {
    /// Members, or data, are lost.
    Critical,
    /// Something is wrong.
    Warning,
    /// Normal, and worth knowing.
    Notice,
    /// What happens.
    Info,
}

/// Writes a line into the kernel's log; the arguments end with a newline. Any context.
pub(crate) fn print(importance: Importance, args: fmt::Arguments<'_>) {
    let format = match importance {
        Importance::Critical => c"\x012%pA",
        Importance::Warning => c"\x014%pA",
        Importance::Notice => c"\x015%pA",
        Importance::Info => c"\x016%pA",
    };
    #[cfg(CONFIG_PRINTK)]
    // SAFETY: The format takes one argument, a pointer to what is to be formatted, which lives until the call returns.
    unsafe {
        bindings::_printk(
            format.as_char_ptr(),
            core::ptr::from_ref(&args).cast::<kernel::ffi::c_void>(),
        )
    };
    #[cfg(not(CONFIG_PRINTK))]
    let _ = (format, args);
}

/// Prints a message about an array that tells of a loss.
#[macro_export]
macro_rules! md_crit {
    ($($arg:tt)+) => {
        $crate::log::print($crate::log::Importance::Critical, kernel::prelude::fmt!($($arg)+))
    };
}

/// Prints a message about an array where something is wrong.
#[macro_export]
macro_rules! md_warn {
    ($($arg:tt)+) => {
        $crate::log::print($crate::log::Importance::Warning, kernel::prelude::fmt!($($arg)+))
    };
}

/// Prints a message about an array that is worth knowing.
#[macro_export]
macro_rules! md_notice {
    ($($arg:tt)+) => {
        $crate::log::print($crate::log::Importance::Notice, kernel::prelude::fmt!($($arg)+))
    };
}

/// Prints a message about an array that tells what happens.
#[macro_export]
macro_rules! md_info {
    ($($arg:tt)+) => {
        $crate::log::print($crate::log::Importance::Info, kernel::prelude::fmt!($($arg)+))
    };
}
