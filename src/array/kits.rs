// SPDX-License-Identifier: GPL-2.0

//! The kits of an array: how many there are, which are free, and who waits for one.
//!
//! A strip takes a whole kit before its first read and can then always finish. A span that gets none stands in the
//! deferred list, where it holds no kit of an idle strip; kits that come free go to the spans there, first come first
//! served, and nobody else may take one while somebody waits.
//!
//! Locks: each pool's lock and the lock of the deferred list are taken alone, in task context: interrupts stay on.

use super::object::SpanObject;
use super::queue::{Pushed, END};
use super::table::Slab;
use crate::block::context::current_cpu;
use crate::mem::kit::Kit;
use crate::mem::{self, boxed, Ask, NoWait, Setup};
use core::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
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

/// The ends of the deferred list; spans in it are linked by [`super::object::SpanObject::deferred`].
struct Fifo {
    first: u32,
    last: u32,
}

/// In [`super::object::SpanObject::deferred`]: the span is not in the deferred list.
pub(super) const NOT_DEFERRED: u32 = END - 1;

/// In [`super::object::SpanObject::deferred`]: the span was taken out of the deferred list to get a kit, and its runner has
/// not seen that yet.
const GRANTED: u32 = END - 2;

/// The kits of an array.
#[pin_data]
pub(super) struct Kits {
    members: u16,
    /// How many it keeps, and the most that it has.
    kept: u32,
    most: u32,
    pools: KVec<Pin<KBox<Pool>>>,
    /// Kits that exist, in spans and in pools.
    total: AtomicU32,
    /// Kits that there should be; what comes free beyond that is freed.
    target: AtomicU32,
    /// Kits that were freed because the kernel was short of memory, and those that were made in their place.
    given_back: AtomicU64,
    made_again: AtomicU64,
    #[pin]
    deferred: SpinLock<Fifo>,
    /// Spans in the deferred list, or just taken out of it to get a kit.
    waiting: AtomicU32,
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
        let (kept, most) = if mem::least() {
            (1, 1)
        } else {
            (KEPT, u32::MAX)
        };
        try_pin_init!(Self {
            members,
            kept,
            most,
            pools: make_pools()?,
            total: AtomicU32::new(0),
            target: AtomicU32::new(0),
            given_back: AtomicU64::new(0),
            made_again: AtomicU64::new(0),
            deferred <- new_spinlock!(Fifo { first: END, last: END }, "raid456 deferred"),
            waiting: AtomicU32::new(0),
        }? Error)
    }

    /// Number of kits that exist.
    pub(super) fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Number of kits that there should be.
    pub(super) fn target(&self) -> u32 {
        self.target.load(Ordering::Relaxed)
    }

    /// The same, as far as there may be so many.
    pub(super) fn wanted(&self) -> u32 {
        self.target().min(self.most)
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
        self.total().saturating_sub(self.kept)
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
        self.waiting.load(Ordering::Relaxed)
    }

    /// Frees a kit that is in no span. Returns whether there was one that the array can do without.
    pub(super) fn shrink(&self) -> bool {
        let Some(node) = self.take() else {
            return false;
        };
        let spare = |total: u32| (total > self.kept).then(|| total - 1);
        let freed = self
            .total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spare)
            .is_ok();
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
        let lacks = |total: u32| (total < self.wanted()).then(|| total + 1);
        let counted = self
            .total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lacks);
        if counted.is_err() {
            return false;
        }
        let node = self.make(&NoWait);
        match node {
            Ok(node) => {
                self.made_again.fetch_add(1, Ordering::Relaxed);
                self.give(node);
                true
            }
            Err(_) => {
                self.total.fetch_sub(1, Ordering::Relaxed);
                false
            }
        }
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
            let node = pool.free.lock().pop()?;
            pool.count.fetch_sub(1, Ordering::Relaxed);
            Some(node)
        })
    }

    /// Puts a kit into a pool, or frees it if there are more than there should be.
    pub(super) fn give(&self, node: KBox<KitNode>) {
        if self.total() > self.wanted() {
            let above = |total: u32| (total > self.wanted()).then(|| total - 1);
            if self
                .total
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, above)
                .is_ok()
            {
                drop(node);
                return;
            }
        }
        let own = current_cpu() as usize % self.pools.len().max(1);
        if let Some(pool) = self.pools.get(own) {
            // Counted first, so that whoever sees no kit in the count did not miss one in the list for long: he who puts
            // a span into the deferred list looks again afterwards.
            pool.count.fetch_add(1, Ordering::SeqCst);
            pool.free.lock().push(node);
        }
    }

    /// Puts all kits of a list into a pool.
    pub(super) fn give_all(&self, mut list: KitList) {
        while let Some(node) = list.pop() {
            self.give(node);
        }
    }

    /// Changes how many kits there should be, and allocates what is missing. May sleep.
    ///
    /// Only one caller at a time: the array's configuration is locked. What is too much is freed now as far as it is
    /// free, and the rest when it comes free.
    ///
    /// # Errors
    ///
    /// There is no memory; then there should be as many as there are.
    pub(super) fn resize(&self, target: u32, setup: &Setup) -> Result {
        self.target.store(target, Ordering::Relaxed);
        while self.total() > self.wanted() {
            match self.take() {
                Some(node) => self.give(node),
                None => return Ok(()),
            }
        }
        while self.total() < self.wanted() {
            let Ok(node) = self.make(setup) else {
                self.target.store(self.total(), Ordering::Relaxed);
                return Err(ENOMEM);
            };
            self.total.fetch_add(1, Ordering::Relaxed);
            self.give(node);
        }
        Ok(())
    }

    /// Whether some span waits for a kit.
    pub(super) fn anybody_waits(&self) -> bool {
        // Pairs with the one who puts a span into the list and then looks for kits: one of the two sees the other.
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Puts a span at the end of the deferred list, unless it is in it. The caller looks for kits afterwards. Tells whether
    /// it is the only one there.
    pub(super) fn defer(&self, slab: &Slab, index: u32) -> Pushed {
        let Some(span) = slab.get(index) else {
            return Pushed::Already;
        };
        let alone;
        {
            let mut fifo = self.deferred.lock();
            if span.deferred.load(Ordering::Relaxed) != NOT_DEFERRED {
                return Pushed::Already;
            }
            span.deferred.store(END, Ordering::Relaxed);
            match slab.get(fifo.last) {
                Some(last) => last.deferred.store(index, Ordering::Relaxed),
                None => fifo.first = index,
            }
            fifo.last = index;
            alone = self.waiting.fetch_add(1, Ordering::Relaxed) == 0;
        }
        fence(Ordering::SeqCst);
        if alone {
            Pushed::First
        } else {
            Pushed::More
        }
    }

    /// Takes the first span out of the deferred list: it may take a kit when it runs next, which the caller sees to. Until
    /// then it counts as waiting.
    pub(super) fn next_waiting(&self, slab: &Slab) -> Option<u32> {
        let mut fifo = self.deferred.lock();
        let index = fifo.first;
        let span = slab.get(index)?;
        fifo.first = span.deferred.swap(GRANTED, Ordering::Relaxed);
        if fifo.first == END {
            fifo.last = END;
        }
        Some(index)
    }

    /// Whether a span may take a kit although others wait, having waited itself. For the span's runner.
    pub(super) fn take_grant(&self, span: &SpanObject) -> bool {
        // Only the runner changes the field from here on, so there is no need for the lock.
        let granted = span.deferred.load(Ordering::Relaxed) == GRANTED;
        if granted {
            span.deferred.store(NOT_DEFERRED, Ordering::Relaxed);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        granted
    }
}
