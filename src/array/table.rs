// SPDX-License-Identifier: GPL-2.0

//! Where the spans are: found by place, made for a place, and forgotten when memory is needed elsewhere.
//!
//! A span object is *active* from the moment somebody finds it in order to post a part, until its runner finds that
//! nothing is left to do. Inactive ones may hold cached blocks; they stand in an LRU list, and the oldest is taken when a
//! place has none yet. Spans are dealt out to shards by a hash of their place; each shard has its own lock, so no lock is
//! common to all I/O.
//!
//! Locks: a shard's lock, then nothing (kits are given back outside it). No two shards are locked at once. Task context
//! only: interrupts stay on.

use super::errors::Faults;
use super::kits::{KitList, Kits};
use super::object::{SpanObject, Work};
use super::part::Item;
use super::queue::END;
use super::run::unless_ended;
use super::Array;
use crate::mem::mempool::Pooled;
use crate::mem::{Ask, MayBlock, Setup};
use crate::new_wait_queue;
use crate::raid::geometry::Geometry;
use crate::raid::span::SpanKey;
use crate::sync::actor::Turn;
use crate::sync::gate::Entry;
use crate::sync::mailbox::Events;
use crate::sync::waitqueue::WaitQueue;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{new_spinlock, Arc, SetOnce, SpinLock};
use kernel::time::{delay::fsleep, Delta};

/// Span objects that are allocated together.
const CHUNK: u32 = 256;

/// The most span objects: as many as strips in the cache.
pub(super) const MAX_SPANS: u32 = 32768;

/// Hash buckets of a shard.
const BUCKETS: u32 = 1024;

/// The most shards.
const MAX_SHARDS: u32 = 16;

/// All span objects of an array, by index. Objects are added and never removed while the array runs.
pub(super) struct Slab {
    chunks: KVec<SetOnce<KVec<Arc<SpanObject>>>>,
}

impl Slab {
    /// An empty slab. May sleep.
    pub(super) fn new(setup: &Setup) -> Result<Self> {
        let count = MAX_SPANS / CHUNK;
        let mut chunks = KVec::with_capacity(count as usize, setup.flags())?;
        for _ in 0..count {
            chunks.push(SetOnce::new(), setup.flags())?;
        }
        Ok(Self { chunks })
    }

    /// The object with that index.
    pub(super) fn get(&self, index: u32) -> Option<&Arc<SpanObject>> {
        let chunk = self.chunks.get((index / CHUNK) as usize)?.as_ref()?;
        chunk.get((index % CHUNK) as usize)
    }

    /// The spans that are active. Those that become so meanwhile may be missed.
    pub(super) fn active(&self) -> impl Iterator<Item = &Arc<SpanObject>> {
        let chunks = self.chunks.iter().map_while(SetOnce::as_ref);
        chunks
            .flat_map(|chunk| chunk.iter())
            .filter(|span| span.place.active.load(Ordering::Relaxed))
    }
}

/// What a search of inactive spans for a kit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reclaimed {
    /// A kit has come free that somebody can have.
    Found,
    /// There was none to be had, but somebody has the turn of a span that was passed over: a late event has come to it. He gives it up
    /// soon, and tells nobody, for what ended long ago does not know its array.
    Perhaps,
    /// There is none.
    Nothing,
}

/// The inactive object that was used longest ago among those whose turn can be had.
enum Oldest<'a> {
    Taken(&'a Arc<SpanObject>, Turn<'a, Work>),
    /// There are some, and somebody has the turn of each, for a late event.
    InUse,
    None,
}

/// Where a span object is in its shard. Changed under the shard's lock.
#[derive(Debug)]
pub(super) struct Place {
    sector: AtomicU64,
    generation: AtomicU32,
    /// The next in the hash bucket, or in the list of free objects.
    next: AtomicU32,
    /// Neighbours in the LRU list.
    older: AtomicU32,
    newer: AtomicU32,
    /// Whether it is active; never set while it stands in the LRU list or the free list.
    active: AtomicBool,
}

impl Place {
    /// The place of an object that has none.
    pub(super) fn new() -> Self {
        Self {
            sector: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            next: AtomicU32::new(END),
            older: AtomicU32::new(END),
            newer: AtomicU32::new(END),
            active: AtomicBool::new(false),
        }
    }

    /// The span that it is.
    pub(super) fn key(&self) -> SpanKey {
        SpanKey {
            sector: self.sector.load(Ordering::Relaxed),
            generation: self.generation.load(Ordering::Relaxed),
        }
    }
}

/// What a shard's lock protects: lists of objects, linked by the objects' [`Place`]s.
struct Lists {
    /// The first object of each hash bucket.
    buckets: KVec<u32>,
    /// The first free object: one without a place.
    free: u32,
    /// The ends of the LRU list of inactive objects.
    oldest: u32,
    newest: u32,
}

impl Lists {
    fn new(setup: &Setup) -> Result<Self> {
        Ok(Self {
            buckets: KVec::from_elem(END, BUCKETS as usize, setup.flags())?,
            free: END,
            oldest: END,
            newest: END,
        })
    }

    fn find(&self, slab: &Slab, bucket: usize, key: SpanKey) -> Option<u32> {
        let mut index = self.buckets.get(bucket).copied()?;
        while let Some(span) = slab.get(index) {
            if span.place.key() == key {
                return Some(index);
            }
            index = span.place.next.load(Ordering::Relaxed);
        }
        None
    }

    fn insert(&mut self, span: &SpanObject, bucket: usize, key: SpanKey) {
        let Some(head) = self.buckets.get_mut(bucket) else {
            return;
        };
        span.place.sector.store(key.sector, Ordering::Relaxed);
        span.place
            .generation
            .store(key.generation, Ordering::Relaxed);
        span.place.next.store(*head, Ordering::Relaxed);
        *head = span.index;
    }

    fn remove(&mut self, slab: &Slab, bucket: usize, index: u32) {
        let Some(head) = self.buckets.get_mut(bucket) else {
            return;
        };
        let Some(next) = slab
            .get(index)
            .map(|s| s.place.next.load(Ordering::Relaxed))
        else {
            return;
        };
        if *head == index {
            *head = next;
            return;
        }
        let mut at = *head;
        while let Some(span) = slab.get(at) {
            let after = span.place.next.load(Ordering::Relaxed);
            if after == index {
                span.place.next.store(next, Ordering::Relaxed);
                return;
            }
            at = after;
        }
    }

    fn push_free(&mut self, span: &SpanObject) {
        span.place.next.store(self.free, Ordering::Relaxed);
        self.free = span.index;
    }

    /// Puts an object into the LRU list: as the newest, or as the one to go first.
    fn push_inactive(&mut self, slab: &Slab, span: &SpanObject, newest: bool) {
        let (older, newer) = if newest {
            (self.newest, END)
        } else {
            (END, self.oldest)
        };
        span.place.older.store(older, Ordering::Relaxed);
        span.place.newer.store(newer, Ordering::Relaxed);
        self.set_newer(slab, older, span.index);
        self.set_older(slab, newer, span.index);
    }

    fn remove_inactive(&mut self, slab: &Slab, span: &SpanObject) {
        let older = span.place.older.load(Ordering::Relaxed);
        let newer = span.place.newer.load(Ordering::Relaxed);
        self.set_newer(slab, older, newer);
        self.set_older(slab, newer, older);
    }

    /// Makes `newer` follow `older`, which may be the end of the list.
    fn set_newer(&mut self, slab: &Slab, older: u32, newer: u32) {
        match slab.get(older) {
            Some(span) => span.place.newer.store(newer, Ordering::Relaxed),
            None => self.oldest = newer,
        }
    }

    /// Makes `older` precede `newer`, which may be the end of the list.
    fn set_older(&mut self, slab: &Slab, newer: u32, older: u32) {
        match slab.get(newer) {
            Some(span) => span.place.older.store(older, Ordering::Relaxed),
            None => self.newest = older,
        }
    }
}

#[pin_data]
struct Shard {
    #[pin]
    lists: SpinLock<Lists>,
    /// Objects of these lists that are active. Changed under the lock.
    active: AtomicU32,
}

impl Shard {
    /// Makes a span active on behalf of somebody. The lists are locked.
    fn pin<'a>(&self, span: &'a Arc<SpanObject>) -> Pinned<'a> {
        if !span.place.active.load(Ordering::Relaxed) {
            span.place.active.store(true, Ordering::Relaxed);
            let active = self.active.load(Ordering::Relaxed);
            self.active.store(active.wrapping_add(1), Ordering::Relaxed);
        }
        span.pins.fetch_add(1, Ordering::Relaxed);
        Pinned { span }
    }

    /// Takes note that a span is not active any more. The lists are locked. Returns false if it was not.
    fn unpin(&self, span: &SpanObject) -> bool {
        if !span.place.active.load(Ordering::Relaxed) {
            return false;
        }
        span.place.active.store(false, Ordering::Relaxed);
        let active = self.active.load(Ordering::Relaxed);
        self.active.store(active.wrapping_sub(1), Ordering::Relaxed);
        true
    }
}

/// The spans of an array.
#[pin_data]
pub(super) struct Table {
    slab: Arc<Slab>,
    shards: KVec<Pin<KBox<Shard>>>,
    /// Log2 of the number of shards.
    shard_bits: u32,
    /// Log2 of a span's sectors.
    span_shift: u32,
    /// Number of objects; they have the indices below it.
    spans: AtomicU32,
    /// Submitters that wait until an object becomes inactive.
    #[pin]
    waiters: WaitQueue,
}

impl Table {
    /// An initialiser of a table without spans, for spans of `span_sectors` sectors. May sleep.
    pub(super) fn new(
        span_sectors: u32,
        cpus: u32,
        setup: &Setup,
    ) -> impl PinInit<Self, Error> + '_ {
        // Two for each CPU: posts to different spans seldom meet.
        let count = cpus.saturating_mul(2).clamp(1, MAX_SHARDS);
        let shard_bits = u32::BITS - 1 - count.leading_zeros();
        let make_shards = move || -> Result<KVec<Pin<KBox<Shard>>>> {
            let mut shards = KVec::with_capacity(1 << shard_bits, setup.flags())?;
            for _ in 0..1u32 << shard_bits {
                let lists = Lists::new(setup)?;
                let shard = KBox::pin_init(
                    pin_init!(Shard {
                        lists <- new_spinlock!(lists, "raid456 shard"),
                        active: AtomicU32::new(0),
                    }),
                    setup.flags(),
                )?;
                shards.push(shard, setup.flags())?;
            }
            Ok(shards)
        };
        try_pin_init!(Self {
            slab: Arc::new(Slab::new(setup)?, setup.flags())?,
            shards: make_shards()?,
            shard_bits,
            span_shift: span_sectors.trailing_zeros(),
            spans: AtomicU32::new(0),
            waiters <- new_wait_queue!("raid456 spans"),
        }? Error)
    }

    /// All span objects.
    pub(super) fn slab(&self) -> &Arc<Slab> {
        &self.slab
    }

    /// Number of span objects.
    pub(super) fn len(&self) -> u32 {
        self.spans.load(Ordering::Relaxed)
    }

    /// Number of spans that are being worked on.
    pub(super) fn active(&self) -> u32 {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.active.load(Ordering::Relaxed))
            .sum()
    }

    /// Adds span objects for `members` members until there are at least `count`. May sleep.
    ///
    /// Only one caller at a time: the array's configuration is locked.
    ///
    /// # Errors
    ///
    /// There is no memory; those added so far stay.
    pub(super) fn grow(
        &self,
        count: u32,
        members: u16,
        faults: &Arc<Faults>,
        setup: &Setup,
    ) -> Result {
        while self.len() < count.min(MAX_SPANS) {
            let first = self.len();
            let Some(slot) = self.slab.chunks.get((first / CHUNK) as usize) else {
                return Err(EINVAL);
            };
            let mut chunk = KVec::with_capacity(CHUNK as usize, setup.flags())?;
            for index in first..first + CHUNK {
                let span = SpanObject::new(index, members, faults.clone(), setup)?;
                chunk.push(span, setup.flags())?;
            }
            if !slot.populate(chunk) {
                return Err(EBUSY);
            }
            for index in first..first + CHUNK {
                let shard = self.shards.get((index as usize) % self.shards.len().max(1));
                if let (Some(shard), Some(span)) = (shard, self.slab.get(index)) {
                    shard.lists.lock().push_free(span);
                }
            }
            self.spans.store(first + CHUNK, Ordering::Relaxed);
            // At once: for the next ones there may be no memory.
            self.waiters.wake_all();
        }
        Ok(())
    }

    /// The shard and the bucket of a place.
    fn hash(&self, key: SpanKey) -> (usize, usize) {
        let place = (key.sector >> self.span_shift) ^ (u64::from(key.generation) << 40);
        let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let shard = (mixed >> 32) & ((1 << self.shard_bits) - 1);
        let bucket = (mixed >> 40) % u64::from(BUCKETS);
        (shard as usize, bucket as usize)
    }

    /// Finds the span at `key`, or makes one of an object that is free or inactive; `None` if all objects are active. The kits that come free by that are for the caller to give back.
    ///
    /// The span is active until its runner finds nothing left to do, and not before the caller has dropped what it gets.
    pub(super) fn lookup<'a>(
        &'a self,
        key: SpanKey,
        geometry: &Geometry,
    ) -> Option<(Pinned<'a>, KitList)> {
        let (own, bucket) = self.hash(key);
        let shard = self.shards.get(own)?;
        {
            let mut lists = shard.lists.lock();
            if let Some(pinned) = self.find_and_pin(shard, &mut lists, bucket, key) {
                return Some((pinned, KitList::default()));
            }
        }
        // The own shard's oldest first, then the others'.
        let mut taken = None;
        for other in (0..self.shards.len()).map(|i| own ^ i) {
            taken = self.take_object(other);
            if taken.is_some() {
                break;
            }
        }
        let (span, mut turn) = taken?;
        let freed = turn.evict();
        turn.place(key, geometry);
        finish_quiet(turn);

        let mut lists = shard.lists.lock();
        if let Some(pinned) = self.find_and_pin(shard, &mut lists, bucket, key) {
            lists.push_free(span);
            drop(lists);
            self.waiters.wake_all();
            return Some((pinned, freed));
        }
        lists.insert(span, bucket, key);
        Some((shard.pin(span), freed))
    }

    /// As [`Self::lookup`], but waits until there is an object. Sleeps.
    pub(super) fn wait_lookup<'a>(
        &'a self,
        key: SpanKey,
        geometry: &Geometry,
        _may_block: &MayBlock,
    ) -> Option<(Pinned<'a>, KitList)> {
        let mut found = self.lookup(key, geometry);
        if found.is_none() {
            self.waiters.wait(|| {
                found = self.lookup(key, geometry);
                found.is_some()
            });
        }
        found
    }

    fn find_and_pin<'a>(
        &'a self,
        shard: &Shard,
        lists: &mut Lists,
        bucket: usize,
        key: SpanKey,
    ) -> Option<Pinned<'a>> {
        let index = lists.find(&self.slab, bucket, key)?;
        let span = self.slab.get(index)?;
        if !span.place.active.load(Ordering::Relaxed) {
            lists.remove_inactive(&self.slab, span);
        }
        Some(shard.pin(span))
    }

    /// Takes an object without a place, or the inactive one that was used longest ago, out of a shard.
    fn take_object(&self, shard: usize) -> Option<(&Arc<SpanObject>, Turn<'_, Work>)> {
        let mut lists = self.shards.get(shard)?.lists.lock();
        let mut before: Option<&Arc<SpanObject>> = None;
        let mut index = lists.free;
        while let Some(span) = self.slab.get(index) {
            let next = span.place.next.load(Ordering::Relaxed);
            // A late event may have found the span's turn free; the next one does as well.
            if let Some(turn) = span.actor.claim() {
                match before {
                    Some(before) => before.place.next.store(next, Ordering::Relaxed),
                    None => lists.free = next,
                }
                return Some((span, turn));
            }
            before = Some(span);
            index = next;
        }
        match self.take_oldest(&mut lists) {
            Oldest::Taken(span, turn) => Some((span, turn)),
            Oldest::InUse | Oldest::None => None,
        }
    }

    /// Takes the inactive object that was used longest ago out of its lists.
    fn take_oldest(&self, lists: &mut Lists) -> Oldest<'_> {
        let mut found = Oldest::None;
        let mut index = lists.oldest;
        while let Some(span) = self.slab.get(index) {
            // As above.
            if let Some(turn) = span.actor.claim() {
                lists.remove_inactive(&self.slab, span);
                let (_, bucket) = self.hash(span.place.key());
                lists.remove(&self.slab, bucket, index);
                return Oldest::Taken(span, turn);
            }
            found = Oldest::InUse;
            index = span.place.newer.load(Ordering::Relaxed);
        }
        found
    }

    /// Has inactive spans forget their blocks, those first that were used longest ago, until a kit has come free that somebody
    /// can have; of those that there are too many of there may be any number. Returns whether one has. The shard of the span
    /// that asks is searched first.
    #[must_use = "who waits for a kit is to be told"]
    pub(super) fn reclaim(&self, asking: &SpanObject, kits: &Kits) -> Reclaimed {
        let (own, _) = self.hash(asking.place.key());
        self.reclaim_in_order(|i| own ^ i, kits)
    }

    /// As [`Self::reclaim`], from shards in some order.
    fn reclaim_in_order(&self, order: impl Fn(usize) -> usize, kits: &Kits) -> Reclaimed {
        let mut all = Reclaimed::Nothing;
        for i in 0..self.shards.len() {
            match self.reclaim_from(order(i), kits) {
                Reclaimed::Found => return Reclaimed::Found,
                Reclaimed::Perhaps => all = Reclaimed::Perhaps,
                Reclaimed::Nothing => {}
            }
        }
        all
    }

    fn reclaim_from(&self, shard: usize, kits: &Kits) -> Reclaimed {
        let Some(shard) = self.shards.get(shard) else {
            return Reclaimed::Nothing;
        };
        loop {
            // The lock is let go at the end of this statement.
            let oldest = self.take_oldest(&mut shard.lists.lock());
            let (span, mut turn) = match oldest {
                Oldest::Taken(span, turn) => (span, turn),
                Oldest::InUse => return Reclaimed::Perhaps,
                Oldest::None => return Reclaimed::Nothing,
            };
            let freed = turn.evict();
            finish_quiet(turn);
            shard.lists.lock().push_free(span);
            self.waiters.wake_all();
            if kits.give_all(freed) {
                return Reclaimed::Found;
            }
        }
    }

    /// As [`Self::reclaim`], on behalf of nobody.
    #[must_use = "who waits for a kit is to be told"]
    pub(super) fn reclaim_any(&self, kits: &Kits) -> Reclaimed {
        self.reclaim_in_order(|i| i, kits)
    }

    /// Forgets the cached blocks of all inactive spans. Sleeps while somebody has the turn of one.
    pub(super) fn forget_all(&self, kits: &Kits) {
        for shard in 0..self.shards.len() {
            loop {
                match self.reclaim_from(shard, kits) {
                    Reclaimed::Found => {}
                    // He gives it up soon, and tells nobody.
                    Reclaimed::Perhaps => fsleep(Delta::from_millis(1)),
                    Reclaimed::Nothing => break,
                }
            }
        }
    }

    /// Ends a runner's turn at a span that has no work left: it becomes inactive, unless somebody is about to post.
    ///
    /// # Errors
    ///
    /// The turn comes back if there are events.
    pub(super) fn retire<'a>(
        &self,
        span: &'a SpanObject,
        turn: Turn<'a, Work>,
    ) -> Result<(), Turn<'a, Work>> {
        let (own, _) = self.hash(span.place.key());
        let Some(shard) = self.shards.get(own) else {
            return turn.finish();
        };
        let cached = turn.has_kits();
        {
            let mut lists = shard.lists.lock();
            // Somebody is about to post, or has: the event that follows makes somebody come here again.
            if span.pins.load(Ordering::Acquire) != 0 {
                drop(lists);
                return turn.finish();
            }
            turn.finish()?;
            if !shard.unpin(span) {
                return Ok(());
            }
            lists.push_inactive(&self.slab, span, cached);
        }
        self.waiters.wake_all();
        Ok(())
    }
}

/// Ends the turn at an object that is in no list, so that only late events can reach it; they are dropped.
fn finish_quiet(turn: Turn<'_, Work>) {
    let mut turn = turn;
    while let Err(mut again) = turn.finish() {
        again.take();
        turn = again;
    }
}

/// A span that stays active: somebody is about to post a part to it.
///
/// One that is dropped without a post leaves the span active until the next part comes; nobody does that.
pub(super) struct Pinned<'a> {
    span: &'a Arc<SpanObject>,
}

impl<'a> Pinned<'a> {
    /// Posts a part, for which `entry` keeps the array. Returns the span's turn if nobody had it: the caller must get the span
    /// run, which keeps the array meanwhile. Else the array may be gone by now.
    #[must_use = "the poster that finds nobody responsible for the span becomes so"]
    pub(super) fn post(
        self,
        mut item: Pooled<Item>,
        entry: Entry<Array>,
    ) -> Option<Turn<'a, Work>> {
        let span = self.span;
        // The pin goes with the part; who accepts that takes it off. Were it dropped here, a runner that had done the part
        // by then would find the span pinned, and leave it active for an event that makes nobody look again.
        core::mem::forget(self);
        if let Some(mut turn) = span.actor.claim() {
            // Nobody else does it, so it goes to the span at once, with the entry.
            item.entry = Some(entry);
            turn.take_in(span, core::iter::once(item));
            let _none = span.actor.post(Events::PARTS);
            return Some(turn);
        }
        // Whoever has the span's turn may do the part before its event has come, and then who stops the array waits for our own
        // entry alone, which goes at the end of this.
        item.entry = Some(entry.clone());
        span.posted.push(item);
        unless_ended(span, span.actor.post(Events::PARTS)?)
    }

    /// Where the span is.
    pub(super) fn key(&self) -> SpanKey {
        self.span.place.key()
    }

    /// The span.
    pub(super) fn span(&self) -> &'a Arc<SpanObject> {
        self.span
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        // Release: whoever sees the pin gone sees what was pushed before.
        self.span.pins.fetch_sub(1, Ordering::Release);
    }
}
