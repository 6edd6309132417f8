// SPDX-License-Identifier: GPL-2.0

//! Locks, counts and waiting: what the driver needs beyond the kernel crate's `sync`.

pub(crate) mod actor;
pub(crate) mod atomic;
pub(crate) mod irqlock;
mod kunit;
pub(crate) mod mailbox;
pub(crate) mod percpu_ref;
pub(crate) mod rcu;
pub(crate) mod stack;
pub(crate) mod waitqueue;
