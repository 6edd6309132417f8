// SPDX-License-Identifier: GPL-2.0

//! The module's kernel-free code, built and tested on the host.

/// The module's own files.
#[path = "../../../src/raid/mod.rs"]
pub mod raid;

#[cfg(test)]
mod geometry;
