// SPDX-License-Identifier: GPL-2.0

//! The kernel's C side: `kernel::bindings`, and what it lacks, generated from md core's headers and our shim's.
//!
//! Only the wrappers in `md/`, `block/`, `mem/` and `sync/` may use this; and of parity what is the kernel's: its
//! own engine, leave to use vector registers, and the parameter that names an engine.

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
#[allow(
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr
)]
#[cfg_attr(not(CONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES), allow(unknown_lints))]
#[allow(unnecessary_transmutes)]
mod raw {
    // What is generated here takes precedence over what is imported, as it must: the kernel crate only declares
    // some of these types.
    use kernel::bindings::*;
    use pin_init::MaybeZeroable;

    include!(env!("RAID456_GENERATED"));
}

pub(crate) use kernel::bindings::*;
pub(crate) use raw::*;
