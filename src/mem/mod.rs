// SPDX-License-Identifier: GPL-2.0

//! Memory that the driver reserves: pages, the kits of strips, and pools of small objects.

pub(crate) mod kit;
mod kunit;
pub(crate) mod mempool;
pub(crate) mod pages;

use crate::bindings;

/// Whether an allocation may block.
#[expect(clippy::enum_variant_names, reason = "the kernel says NOWAIT")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Never blocks; fails, without a message, if there is no free memory. Any context.
    NoWait,
    /// May block, but starts no I/O: for submitters, before their first member bio.
    MayBlock,
    /// May block and start I/O: for setting up an array. Not while I/O to it is stopped, for that could be waited for.
    Setup,
}

impl Wait {
    /// The shim's word for it.
    fn to_raw(self) -> bindings::raid456_wait {
        match self {
            Self::NoWait => bindings::raid456_wait_RAID456_NO_WAIT,
            Self::MayBlock => bindings::raid456_wait_RAID456_MAY_BLOCK,
            Self::Setup => bindings::raid456_wait_RAID456_SETUP,
        }
    }
}
