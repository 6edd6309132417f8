// SPDX-License-Identifier: GPL-2.0

//! The lock-free parts of `src/sync`: what each call answers, and a rough ride on the machine's own threads.
//!
//! The proof that no order of events breaks them is in `interleave`, under loom.

mod mailbox;
mod stack;
