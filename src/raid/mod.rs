// SPDX-License-Identifier: GPL-2.0

//! The logic of RAID 4, 5 and 6, free of the kernel: safe code alone, no allocation, no I/O.
//!
//! [`span::Span::step`] takes what has happened and says what to do next; the driver in `array/` does it with bios and
//! pages, the simulator in `tests/host` with buffers and a seeded dice.

mod accept;
pub(crate) mod column;
pub(crate) mod count;
pub(crate) mod geometry;
pub(crate) mod job;
mod layout;
pub(crate) mod part;
pub(crate) mod phase;
mod plan;
pub(crate) mod roles;
pub(crate) mod span;
pub(crate) mod strips;
mod work;
