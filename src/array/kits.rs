// SPDX-License-Identifier: GPL-2.0

//! The kits of an array: how many there are, which are free, and who waits for one.
//!
//! A strip takes a whole kit before its first read and can then always finish. A span that gets none stands in the
//! deferred list, where it holds no kit of an idle strip; kits that come free go to the spans there, first come first
//! served, and nobody else may take one while somebody waits.
//!
//! Locks: each pool's lock and the lock of the deferred list are taken alone, in task context: interrupts stay on.

use super::deferred::{Comes, Deferred, Ends};
use super::object::SpanObject;
use super::queue::Pushed;
use super::stock::Stock;
use super::table::Slab;
use crate::block::context::current_cpu;
use crate::mem::kit::Kit;
use crate::mem::{self, boxed, Ask, NoWait, Setup};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::alloc::AllocError;
use kernel::prelude::*;
use kernel::sync::{new_spinlock, SpinLock};

/// A kit that can stand in a list.
pub(super) struct KitNode {
    pub(super) kit: Kit,
    next: Option<KBox<KitNode>>,
}

/// A list of kits.
#[derive(Default)]
pub(super) struct KitList {
    head: Option<KBox<KitNode>>,
}

impl KitList {
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(super) fn push(&mut self, mut node: KBox<KitNode>) {
        node.next = self.head.take();
        self.head = Some(node);
    }

    pub(super) fn pop(&mut self) -> Option<KBox<KitNode>> {
        let mut node = self.head.take()?;
        self.head = node.next.take();
        Some(node)
    }
}

impl Drop for KitList {
    fn drop(&mut self) {
        // One by one: a long list must not be dropped by recursion.
        while self.pop().is_some() {}
    }
}

/// Kits that an array keeps however short memory is: as many as the smallest cache has. One would do: see [`mem::least`].
const KEPT: u32 = 17;

/// The most pools of free kits.
const MAX_POOLS: u32 = 16;

#[pin_data]
struct Pool {
    #[pin]
    free: SpinLock<KitList>,
    /// Whether there is none, to be asked without the lock.
    count: AtomicU32,
}

/// The kits of an array.
#[pin_data]
pub(super) struct Kits {
    members: u16,
    /// How many exist, in spans and in pools, and how many there should be; what comes free beyond that is freed.
    stock: Stock,
    pools: KVec<Pin<KBox<Pool>>>,
    /// Kits that were freed because the kernel was short of memory, and those that were made in their place.
    given_back: AtomicU64,
    made_again: AtomicU64,
    /// Who waits.
    deferred: Deferred,
    #[pin]
    ends: SpinLock<Ends>,
}

impl Kits {
    /// An initialiser of no kits, for `members` members. May sleep.
    pub(super) fn new(members: u16, cpus: u32, setup: &Setup) -> impl PinInit<Self, Error> + '_ {
        let make_pools = move || -> Result<KVec<Pin<KBox<Pool>>>> {
            let count = cpus.clamp(1, MAX_POOLS);
            let mut pools = KVec::with_capacity(count as usize, setup.flags())?;
            for _ in 0..count {
                let pool = KBox::pin_init(
                    pin_init!(Pool {
                        free <- new_spinlock!(KitList::default(), "raid456 kits"),
                        count: AtomicU32::new(0),
                    }),
                    setup.flags(),
                )?;
                pools.push(pool, setup.flags())?;
            }
            Ok(pools)
        };
        let stock = if mem::least() {
            Stock::new(1, 1)
        } else {
            Stock::new(KEPT, u32::MAX)
        };
        try_pin_init!(Self {
            members,
            stock,
            pools: make_pools()?,
            given_back: AtomicU64::new(0),
            made_again: AtomicU64::new(0),
            deferred: Deferred::new(),
            ends <- new_spinlock!(Ends::new(), "raid456 deferred"),
        }? Error)
    }

    /// Number of kits that exist.
    pub(super) fn total(&self) -> u32 {
        self.stock.total()
    }

    /// Number of kits that there should be.
    pub(super) fn target(&self) -> u32 {
        self.stock.target()
    }

    /// The same, as far as there may be so many.
    pub(super) fn wanted(&self) -> u32 {
        self.stock.wanted()
    }

    /// Number of kits that are in no span.
    pub(super) fn free(&self) -> u32 {
        let pools = self.pools.iter();
        pools.map(|pool| pool.count.load(Ordering::Relaxed)).sum()
    }

    /// Whether there are more kits than `count`, free ones not counted.
    pub(super) fn is_above(&self, count: u32) -> bool {
        self.total().saturating_sub(self.free()) > count
    }

    /// Number of kits that the array can do without.
    pub(super) fn spare(&self) -> u32 {
        self.stock.spare()
    }

    /// Number of kits that [`Self::shrink`] has freed.
    pub(super) fn given_back(&self) -> u64 {
        self.given_back.load(Ordering::Relaxed)
    }

    /// Number of kits that [`Self::regrow`] has made.
    pub(super) fn made_again(&self) -> u64 {
        self.made_again.load(Ordering::Relaxed)
    }

    /// Number of spans that wait for a kit.
    pub(super) fn waiting(&self) -> u32 {
        self.deferred.count()
    }

    /// Frees a kit that is in no span. Returns whether there was one that the array can do without. Somebody may have looked
    /// for one meanwhile, and wait now: the caller grants kits afterwards.
    pub(super) fn shrink(&self) -> bool {
        if self.spare() == 0 {
            return false;
        }
        let Some(node) = self.take() else {
            return false;
        };
        let freed = self.stock.may_go();
        if freed {
            drop(node);
            self.given_back.fetch_add(1, Ordering::Relaxed);
        } else {
            self.give(node);
        }
        freed
    }

    /// Makes a kit, of memory that is free at once, if there should be more than there are. Returns whether it did.
    pub(super) fn regrow(&self) -> bool {
        let Some(node) = self.stock.add(|| self.make(&NoWait).ok()) else {
            return false;
        };
        self.made_again.fetch_add(1, Ordering::Relaxed);
        self.give(node);
        true
    }

    /// A new kit, which is not counted.
    fn make(&self, by: &impl Ask) -> Result<KBox<KitNode>, AllocError> {
        let kit = Kit::new(self.members, by)?;
        boxed(KitNode { kit, next: None }, by)
    }

    /// Takes a free kit out of a pool.
    pub(super) fn take(&self) -> Option<KBox<KitNode>> {
        let count = self.pools.len().max(1);
        let own = current_cpu() as usize % count;
        (0..count).find_map(|i| {
            let pool = self.pools.get((own + i) % count)?;
            if pool.count.load(Ordering::Relaxed) == 0 {
                return None;
            }
            let mut free = pool.free.lock();
            let node = free.pop()?;
            pool.count.fetch_sub(1, Ordering::Relaxed);
            Some(node)
        })
    }

    /// Puts a kit into a pool, or frees it if there are more than there should be. Returns whether somebody can have it.
    pub(super) fn give(&self, node: KBox<KitNode>) -> bool {
        if self.stock.is_surplus() {
            return false;
        }
        let own = current_cpu() as usize % self.pools.len().max(1);
        if let Some(pool) = self.pools.get(own) {
            let mut free = pool.free.lock();
            free.push(node);
            // With the lock held: who looks at the count without it and finds a kit there does not look in vain for long.
            pool.count.fetch_add(1, Ordering::SeqCst);
        }
        true
    }

    /// Gives all kits of a list. Returns whether somebody can have one of them.
    #[must_use = "what was freed is no help for those who wait"]
    pub(super) fn give_all(&self, mut list: KitList) -> bool {
        let mut some = false;
        while let Some(node) = list.pop() {
            some |= self.give(node);
        }
        some
    }

    /// Changes how many kits there should be, and allocates what is missing if that is more than before. May sleep.
    ///
    /// Only one caller at a time: the array's configuration is locked. What is too much is freed now as far as it is
    /// free, and the rest when it comes free. What is given back meanwhile for want of memory is made again later.
    ///
    /// # Errors
    ///
    /// There is no memory; then there should be as many as there are, or as there should have been.
    pub(super) fn resize(&self, target: u32, setup: &Setup) -> Result {
        let before = self.target();
        self.stock.aim(target);
        if target <= before {
            // What is missing was given back for want of memory, and is made again when there is some.
            self.drop_surplus();
            return Ok(());
        }
        let put = |node| {
            self.give(node);
        };
        if !self.stock.fill(|| self.make(setup).ok(), put) {
            self.stock.aim(self.total().max(before));
            return Err(ENOMEM);
        }
        Ok(())
    }

    /// Frees what is too much, as far as it is free.
    fn drop_surplus(&self) {
        while self.total() > self.wanted() {
            let Some(node) = self.take() else {
                return;
            };
            self.give(node);
        }
    }

    /// Whether some span waits for a kit.
    pub(super) fn anybody_waits(&self) -> bool {
        self.deferred.is_any()
    }

    /// Puts a span into the deferred list, unless it is in it. The caller looks for kits afterwards. Tells whether
    /// it is the only one there.
    pub(super) fn defer(&self, slab: &Slab, index: u32, comes: Comes) -> Pushed {
        let place = |index| Some(&slab.get(index)?.deferred);
        self.deferred.push(self.ends.lock(), index, comes, place)
    }

    /// Takes the first span out of the deferred list, if there is a kit for it: it may take one when it runs next, which the caller
    /// sees to. Until then it counts as waiting.
    pub(super) fn next_waiting(&self, slab: &Slab) -> Option<u32> {
        let place = |index| Some(&slab.get(index)?.deferred);
        self.deferred.pop(self.ends.lock(), || self.free(), place)
    }

    /// The first span in the deferred list.
    pub(super) fn first_waiting(&self) -> Option<u32> {
        self.ends.lock().first()
    }

    /// Whether there are more than have been granted.
    pub(super) fn is_any_left(&self) -> bool {
        self.free() > self.deferred.granted()
    }

    /// Whether somebody waits who was not granted one.
    pub(super) fn anybody_lacks(&self) -> bool {
        self.anybody_waits() && self.waiting() > self.deferred.granted()
    }

    /// Whether a span may take a kit although others wait, having waited itself. For the span's runner, who ends that.
    pub(super) fn is_granted(span: &SpanObject) -> bool {
        Deferred::is_granted(&span.deferred)
    }

    /// A span that was granted a kit waits no more.
    pub(super) fn end_grant(&self, span: &SpanObject) {
        self.deferred.end_grant(&span.deferred);
    }
}
