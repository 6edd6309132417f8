// SPDX-License-Identifier: GPL-2.0

//! The module's kernel-free code, built and tested on the host.
//!
//! `#[path]` takes in the very files that the kernel module is built from; the tests are modules beside them. The file
//! `groups.txt` lists the groups of tests and the command for each.

// The driver is not here, and it uses more than the tests do. Building the module finds what nobody uses.
#![allow(dead_code)]

// No doc comments here: rustdoc would look up the links of the files' own ones in this place.
#[path = "../../../src/parity/mod.rs"]
pub mod parity;

#[path = "../../../src/raid/mod.rs"]
pub mod raid;

#[path = "../../../src/sync"]
pub mod sync {
    //! The lock-free parts.

    pub(crate) mod actor;
    pub(crate) mod atomic;
    pub(crate) mod flights;
    pub(crate) mod mailbox;
    pub(crate) mod stack;
    pub(crate) mod tally;
}

#[path = "../../../src/offload"]
pub mod offload {
    //! What jobs on engines are made of.

    pub(crate) mod course;
    pub(crate) mod health;
    pub(crate) mod recipe;
    pub(crate) mod worth;
}

#[path = "../../../src/array"]
pub mod array {
    //! What of the driver needs no kernel.

    pub(crate) mod blocked;
    pub(crate) mod deferred;
    pub(crate) mod durable;
    pub(crate) mod flushes;
    pub(crate) mod gaps;
    pub(crate) mod queue;
    pub(crate) mod retry;
    pub(crate) mod sequence;
    pub(crate) mod stock;
    pub(crate) mod submitters;
}

// What loom has no use for takes minutes to build.
#[cfg(not(loom))]
pub mod sim;

#[cfg(all(test, not(loom)))]
mod engines;
#[cfg(all(test, not(loom)))]
mod geometry;
#[cfg(all(test, loom))]
mod interleave;
#[cfg(all(test, not(loom)))]
mod jobs_on_engines;
#[cfg(all(test, not(loom)))]
mod threads;
