// SPDX-License-Identifier: GPL-2.0

//! Reads that one member can answer alone, without a span; and what becomes of them when it cannot.

use super::counters::Event;
use super::part::{Item, Origin, PartList};
use super::run::hand_over;
use super::Array;
use crate::block::direct::{self, DirectReader};
use crate::block::request::{Request, Slice};
use crate::block::slice_list::SliceList;
use crate::block::{Flags, Status};
use crate::md::slots::Member;
use crate::mem::mempool::Pooled;
use crate::mem::MayBlock;
use crate::new_irq_spinlock;
use crate::sync::gate::Entry;
use crate::sync::irqlock::IrqSpinLock;
use crate::sync::stack::Stack;
use core::sync::atomic::{fence, AtomicBool, Ordering};
use kernel::prelude::*;

/// Reads that a member could not answer.
struct Failed {
    slices: SliceList,
    /// Keeps the array while there are any.
    entry: Option<Entry<Array>>,
}

/// What of a request is left to be posted.
type Rest = (Slice, Entry<Array>);

/// Requests that the array's thread brings to spans, because whoever had them could not wait for what that needs.
#[pin_data]
pub(super) struct Later {
    #[pin]
    failed: IrqSpinLock<Failed>,
    /// Writes for which the members have flushed their caches.
    flushed: Stack<Pooled<Item>>,
    /// The same, when the thread has seen it.
    #[pin]
    queue: IrqSpinLock<PartList>,
    /// What the thread has begun and could not end, for there was no span object or no memory.
    #[pin]
    current: IrqSpinLock<Option<Rest>>,
    /// There is something in `current`: wake the thread when a span comes free.
    stuck: AtomicBool,
    /// Mere flushes that must not end yet.
    flushes: Stack<Pooled<Item>>,
}

impl Later {
    /// An initialiser of nothing.
    pub(super) fn new() -> impl PinInit<Self> {
        let failed = Failed {
            slices: SliceList::new(),
            entry: None,
        };
        pin_init!(Self {
            failed <- new_irq_spinlock!(failed, "raid456 failed reads"),
            flushed: Stack::new(),
            queue <- new_irq_spinlock!(PartList::default(), "raid456 flushed"),
            current <- new_irq_spinlock!(None, "raid456 current"),
            stuck: AtomicBool::new(false),
            flushes: Stack::new(),
        })
    }
}

/// Sends a read to the one member that holds it, if it is so; else gives it back. A native array's read is cut at the end
/// of its chunk before, or at the end of its stripe, if it is for a span to read all of that. May sleep.
pub(super) fn read<'a>(
    array: &Array,
    entry: Entry<Array>,
    request: Request<'a>,
    may_block: &MayBlock,
) -> Option<(Entry<Array>, Request<'a>)> {
    let sector = request.sector();
    let to_end = array.geometry.chunk_end(sector).saturating_sub(sector);
    let nowait = request.flags().contains(Flags::NOWAIT);
    if nowait && to_end < u64::from(request.sectors()) {
        // Cutting may wait for memory.
        return Some((entry, request));
    }
    let end = sector.saturating_add(request.sectors().into());
    if let Some(beside) = array.beside_lost(sector, end) {
        let request = request.cut(beside, &array.reserve, may_block)?;
        return Some((entry, request));
    }
    let most = u32::try_from(to_end).unwrap_or(u32::MAX);
    let request = request.cut(most, &array.reserve, may_block)?;
    let Some((member, member_sector)) = array.may_bypass(sector, request.sectors()) else {
        return Some((entry, request));
    };
    let slice = if nowait {
        match request.try_account() {
            Ok(slice) => slice,
            Err(request) => {
                request.end(Status::AGAIN);
                return None;
            }
        }
    } else {
        request.account(may_block)
    };
    array.counters.add(Event::DirectReads);
    if let Err((_, slice, _)) = direct::submit(entry, slice, member, member_sector) {
        // Not for a request that was accounted just now.
        slice.fail(Status::IO_ERROR);
    }
    None
}

impl DirectReader for Array {
    fn direct_read_done(entry: Entry<Self>, slice: Slice, member: Member, status: Status) {
        drop(member);
        if status.is_ok() {
            // Before the entry goes: the request ends while the array is kept.
            drop(slice);
            return;
        }
        let array: &Array = &entry;
        array.counters.add(Event::DirectReadsFailed);
        {
            let mut failed = array.later.failed.lock();
            if let Err(slice) = failed.slices.push(slice) {
                slice.fail(status);
                drop(failed);
                return;
            }
            failed.entry.get_or_insert_with(|| entry.clone());
        }
        array.mddev.wake_thread();
    }
}

impl Array {
    /// Whether a read may go past the spans: the member that holds all of it, and the sector there.
    ///
    /// A write that is acknowledged is on its member, or the member is known to lack it; so a member that is in sync and
    /// has no bad block there answers as well as a span.
    fn may_bypass(&self, sector: u64, sectors: u32) -> Option<(Member, u64)> {
        let location = self.geometry.locate(sector);
        if sector.saturating_add(sectors.into()) > self.geometry.chunk_end(sector) {
            return None;
        }
        let slot = self.slots.get(usize::from(location.member))?;
        let member = self.reader(slot, location.member_sector, sectors)?;
        Some((member, location.member_sector))
    }

    /// How many sectors of a read of `sector..end` are for a span, though members hold some of the chunks: all up to the end of the stripe,
    /// if it has there a chunk that no member holds. That is made of the others, which would be read twice. Where members copy from memory and
    /// are done, to read twice is no more than to copy from the span, which is another CPU's work then.
    fn beside_lost(&self, sector: u64, end: u64) -> Option<u32> {
        let end = end.min(self.geometry.stripe_end(sector));
        if self.mddev.degraded() == 0
            || self.geometry.chunk_end(sector) >= end
            || !self.members_end_later()
        {
            return None;
        }
        let mut at = sector;
        while at < end {
            let next = self.geometry.chunk_end(at).min(end);
            let sectors = u32::try_from(next.saturating_sub(at)).ok()?;
            if self.may_bypass(at, sectors).is_none() {
                return u32::try_from(end.saturating_sub(sector)).ok();
            }
            at = next;
        }
        None
    }

    /// Leaves to the array's thread a write that is in `item`. Any context.
    pub(super) fn post_by_thread(&self, item: Pooled<Item>) {
        self.counters.add(Event::RequestsLeft);
        self.later.flushed.push(item);
        self.mddev.wake_thread();
    }

    /// Brings requests to spans that could not go there before. Returns whether there was one. Only for the array's
    /// thread.
    pub(super) fn post_later(&self) -> bool {
        let mut any = false;
        while let Some((slice, entry)) = self.next_later() {
            let Some(rest) = self.post_slowly(slice, &entry) else {
                any = true;
                continue;
            };
            *self.later.current.lock() = Some((rest, entry));
            // Whoever frees a span after this wakes us; one may have come free before, so look once more.
            if self.later.stuck.swap(true, Ordering::SeqCst) {
                break;
            }
        }
        any
    }

    /// A span has come free: wakes the thread if it waits for that. Any context.
    pub(super) fn span_came_free(&self) {
        fence(Ordering::SeqCst);
        if self.later.stuck.load(Ordering::Relaxed)
            && self.later.stuck.swap(false, Ordering::SeqCst)
        {
            self.mddev.wake_thread();
        }
    }

    /// Posts as much of a slice as there are spans for; returns what is left. Does not sleep.
    fn post_slowly(&self, mut slice: Slice, entry: &Entry<Array>) -> Option<Slice> {
        loop {
            let start = slice.sector();
            let (key, next) = self.piece(start);
            let Some((pinned, mut item)) = self.reserve_span(key) else {
                return Some(slice);
            };
            // CAST: a span's sectors at most.
            let (front, rest) = match slice.split_front(next.saturating_sub(start) as u32) {
                Some(front) => (front, Some(slice)),
                None => (slice, None),
            };
            item.part = self.part(&self.template(&front), key.sector);
            item.origin = Origin::Request(front);
            let span = pinned.span();
            if let Some(turn) = pinned.post(item, entry.clone()) {
                hand_over(span, turn);
            }
            slice = rest?;
        }
    }

    fn next_later(&self) -> Option<Rest> {
        let current = self.later.current.lock().take();
        current
            .or_else(|| self.next_failed())
            .or_else(|| self.next_flushed())
    }

    fn next_failed(&self) -> Option<Rest> {
        let mut failed = self.later.failed.lock();
        let entry = failed.entry.clone()?;
        let slice = failed.slices.pop();
        if failed.slices.is_empty() {
            failed.entry = None;
        }
        Some((slice?, entry))
    }

    /// The next write whose flush has ended, if that is good for something: see [`Self::flush_done`].
    fn next_flushed(&self) -> Option<Rest> {
        if !self.has_flushed() || !self.failures_recorded() {
            return None;
        }
        loop {
            let (slice, entry) = {
                let mut queue = self.later.queue.lock();
                queue.append(self.later.flushed.take_all());
                queue.pop()?.take_rest()?
            };
            if !self.lacks_too_many() {
                return Some((slice, entry));
            }
            // What it was to come after may be lost: see `end_flush()`.
            slice.fail(Status::IO_ERROR);
            // Before what keeps the array.
            drop(slice);
            drop(entry);
        }
    }

    /// Whether there are writes whose flush has ended, and that have not gone on. Any context.
    fn has_flushed(&self) -> bool {
        !self.later.flushed.is_empty() || !self.later.queue.lock().is_empty()
    }

    /// The members have flushed their caches for who wants nothing else, which is in `item`. Any context.
    ///
    /// Those that have failed were passed over, and what is in their caches alone may be lost. Parity makes up for that, but only
    /// once the metadata say that they have failed: after a crash before that the array would be assembled with them.
    pub(super) fn flush_done(&self, item: Pooled<Item>) {
        if self.failures_recorded() {
            return self.end_flush(item);
        }
        self.later.flushes.push(item);
        self.mddev.wake_thread();
    }

    /// Ends flushes that wait until failures are recorded, which they are. Any context.
    pub(super) fn end_flushes(&self) {
        for item in self.later.flushes.take_all() {
            self.end_flush(item);
        }
    }

    /// Ends a mere flush, which is in `item`, while failures are recorded. Any context.
    ///
    /// More members may have failed than parity makes up for, before the flush or meanwhile, with somebody left to record it on or
    /// not: then what was in their caches alone is lost.
    fn end_flush(&self, item: Pooled<Item>) {
        if let (Origin::Flush(flush), true) = (&item.origin, self.lacks_too_many()) {
            flush.fail(Status::IO_ERROR);
        }
        drop(item);
    }

    /// Whether flushes wait until failures are recorded, or writes that asked for one. Any context.
    pub(super) fn flushes_wait(&self) -> bool {
        !self.later.flushes.is_empty() || self.has_flushed()
    }
}
