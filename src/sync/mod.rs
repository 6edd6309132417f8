// SPDX-License-Identifier: GPL-2.0

//! Locks, counts and waiting: what the driver needs beyond the kernel crate's `sync`.

pub(crate) mod actor;
pub(crate) mod atomic;
pub(crate) mod flights;
pub(crate) mod gate;
pub(crate) mod irqlock;
mod kunit;
pub(crate) mod mailbox;
pub(crate) mod rcu;
pub(crate) mod stack;
pub(crate) mod tally;
pub(crate) mod waitqueue;
