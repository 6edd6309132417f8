// SPDX-License-Identifier: GPL-2.0

//! The module's kernel-free code, built and tested on the host.
//!
//! `#[path]` takes in the very files that the kernel module is built from; the tests are modules beside them. The file
//! `groups.txt` lists the groups of tests and the command for each.

// The driver is not here, and it uses more than the tests do. Building the module finds what nobody uses.
#![allow(dead_code)]

/// Parity engines.
#[path = "../../../src/parity/mod.rs"]
pub mod parity;

/// The logic of the array.
#[path = "../../../src/raid/mod.rs"]
pub mod raid;

/// The lock-free parts.
#[path = "../../../src/sync"]
pub mod sync {
    pub(crate) mod atomic;
    pub(crate) mod mailbox;
    pub(crate) mod stack;
}

/// The simulator.
#[cfg(not(loom))]
pub mod sim;

#[cfg(test)]
mod engines;
#[cfg(test)]
mod geometry;
#[cfg(all(test, loom))]
mod interleave;
#[cfg(all(test, not(loom)))]
mod threads;
