// SPDX-License-Identifier: GPL-2.0

//! The span object: what the driver keeps for a span of `raid/`.
//!
//! Anybody may post to it; its runner alone touches [`Work`].

use super::counters::SpanCounts;
use super::deferred;
use super::engines::SpanTickets;
use super::errors::Faults;
use super::heirs::Heirs;
use super::kits::{KitList, KitNode};
use super::part::{Item, PartList};
use super::pump::Flight;
use super::queue::Link;
use super::sequence::Wait;
use super::streams::NO_STREAM;
use super::table::Place;
use super::Array;
use crate::block::member_bio::MemberBio;
use crate::md::slots::Member;
use crate::mem::mempool::Pooled;
use crate::mem::{boxed, Ask, Setup};
use crate::raid::column::Column;
use crate::raid::geometry::Geometry;
use crate::raid::span::{Span, SpanKey};
use crate::raid::strips::{Strips, SPAN_STRIPS};
use crate::sync::actor::Actor;
use crate::sync::flights::Flights;
use crate::sync::gate::Entry;
use crate::sync::mailbox::CompletionWord;
use crate::sync::stack::Stack;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

/// A span object.
pub(super) struct SpanObject {
    /// Its index in the slab.
    pub(super) index: u32,
    /// The mailbox, and what only the runner touches.
    pub(super) actor: Actor<Work>,
    /// What its runner counts.
    pub(super) counts: KBox<SpanCounts>,
    /// Parts that nobody has accepted yet.
    pub(super) posted: Stack<Pooled<Item>>,
    /// For each member, the strips whose I/O has ended.
    pub(super) ended: KVVec<CompletionWord>,
    /// What is under way.
    pub(super) flights: Flights,
    /// How many of its jobs are on engines; the runner's.
    pub(super) jobs: AtomicU32,
    /// How many parts it has taken in that have not ended; the runner's.
    parts: AtomicU32,
    /// Who takes note of I/O that fails.
    pub(super) faults: Arc<Faults>,
    /// Where it is; the table's.
    pub(super) place: Place,
    /// Those who are about to post a part; raised under the lock of the shard.
    pub(super) pins: AtomicU32,
    /// Its place in the queue of a lane.
    pub(super) run: Link,
    /// Which stream it is held for, as of its last run.
    pub(super) stream: AtomicU32,
    /// Since when, and since when that one has been elsewhere.
    pub(super) wait: Wait,
    /// Its place among those that are held for streams.
    pub(super) held: Link,
    /// Its place among those that wait for a flush of the write-intent bitmap.
    pub(super) for_bitmap: Link,
    /// Its place among those that wait for the superblock.
    pub(super) for_superblock: Link,
    /// Its place in the deferred list.
    pub(super) deferred: deferred::Place,
}

// There are as many as strips, and the allocator's objects are of 256 bytes, of 512 and so on. With its count of references a span
// is in one of 512, and the ports of six members are in one of 256.
const _: () = assert!(size_of::<SpanObject>() <= 504 && size_of::<Port>() <= 40);

impl SpanObject {
    /// An object without a place, for `members` members. May sleep.
    // Made in its place, for it is large.
    #[inline(never)]
    pub(super) fn new(
        index: u32,
        members: u16,
        faults: Arc<Faults>,
        setup: &Setup,
    ) -> Result<Arc<Self>> {
        let mut ended = KVVec::with_capacity(usize::from(members), setup.flags())?;
        for _ in 0..members {
            ended.push(CompletionWord::new(), setup.flags())?;
        }
        let span = try_init!(Self {
            index,
            actor: Actor::new(Work::new(members, setup)?),
            counts: boxed(SpanCounts::new(), setup)?,
            posted: Stack::new(),
            ended,
            flights: Flights::new(),
            jobs: AtomicU32::new(0),
            parts: AtomicU32::new(0),
            faults,
            place: Place::new(),
            pins: AtomicU32::new(0),
            run: Link::new(),
            stream: AtomicU32::new(NO_STREAM),
            wait: Wait::new(),
            held: Link::new(),
            for_bitmap: Link::new(),
            for_superblock: Link::new(),
            deferred: deferred::Place::new(),
        }? Error);
        Arc::init(span, setup.flags())
    }

    /// Whether it waits for kits; by the time the caller looks at the answer it may be out of date.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred.is_waiting()
    }

    /// How many parts it has taken in that have not ended; by the time the caller looks at the answer it may be out of date.
    pub(super) fn parts(&self) -> u32 {
        self.parts.load(Ordering::Relaxed)
    }

    /// Notes that parts have come, and that others have ended. For its runner.
    pub(super) fn count_parts(&self, came: u32, ended: u32) {
        let left = self.parts().wrapping_add(came).wrapping_sub(ended);
        self.parts.store(left, Ordering::Relaxed);
    }

    /// The first sector on its members.
    pub(super) fn sector(&self) -> u64 {
        self.place.key().sector
    }
}

/// A member's bio in a span, and the devices that it is kept for.
pub(super) struct Port {
    pub(super) bio: Pin<KBox<MemberBio<Flight>>>,
    /// The member that is being written where it has bad blocks, or where it could not be read; kept until that has ended,
    /// so that it is not taken for another one that gets its slot.
    pub(super) healing: Option<Member>,
    /// Whoever gets copies.
    pub(super) heirs: Heirs,
}

/// The kits of a span's strips.
pub(super) type SpanKits = [Option<KBox<KitNode>>; SPAN_STRIPS as usize];

/// Takes the kits of `strips` out.
pub(super) fn take_out(kits: &mut SpanKits, strips: Strips) -> KitList {
    let mut list = KitList::default();
    for strip in strips.iter() {
        if let Some(node) = kits.get_mut(strip as usize).and_then(Option::take) {
            list.push(node);
        }
    }
    list
}

/// What the runner of a span works on.
pub(super) struct Work {
    pub(super) span: Span,
    pub(super) columns: KVVec<Column>,
    pub(super) ports: KVVec<Port>,
    pub(super) parts: PartList,
    /// In memory of their own: with them a [`SpanObject`] would need twice as much.
    pub(super) kits: KBox<SpanKits>,
    /// What its jobs on engines have.
    pub(super) tickets: SpanTickets,
    /// The stream that has written to it last.
    pub(super) stream: u32,
    /// Keeps the array while the span has work; its runner has it meanwhile.
    pub(super) entry: Option<Entry<Array>>,
}

impl Work {
    // Its own frame, which has gone before the next is made.
    #[inline(never)]
    fn new(members: u16, setup: &Setup) -> Result<Self> {
        let count = usize::from(members);
        let mut columns = KVVec::with_capacity(count, setup.flags())?;
        let mut ports = KVVec::with_capacity(count, setup.flags())?;
        for _ in 0..members {
            columns.push(Column::default(), setup.flags())?;
            ports.push(
                Port {
                    bio: KBox::pin_init(MemberBio::new(), setup.flags())?,
                    healing: None,
                    heirs: Heirs::default(),
                },
                setup.flags(),
            )?;
        }
        Ok(Self {
            span: Span::new(),
            columns,
            ports,
            parts: PartList::default(),
            kits: boxed([const { None }; SPAN_STRIPS as usize], setup)?,
            tickets: None,
            stream: NO_STREAM,
            entry: None,
        })
    }

    /// Gives an idle span without kits a place.
    pub(super) fn place(&mut self, key: SpanKey, geometry: &Geometry) {
        self.span.place(key, geometry);
    }

    /// Forgets the blocks of an idle span and hands out its kits.
    pub(super) fn evict(&mut self) -> KitList {
        let strips = self.span.evict(&mut self.columns);
        take_out(&mut self.kits, strips)
    }

    /// Forgets the blocks of idle strips, whatever the others do, and hands out their kits.
    pub(super) fn shed(&mut self) -> KitList {
        let strips = self.span.shed(&mut self.columns);
        take_out(&mut self.kits, strips)
    }

    /// Whether some strip has a kit.
    pub(super) fn has_kits(&self) -> bool {
        !self.span.kits().is_empty()
    }

    /// Whether nothing is left to do.
    pub(super) fn is_quiet(&self) -> bool {
        self.span.is_idle() && self.parts.is_empty()
    }
}
