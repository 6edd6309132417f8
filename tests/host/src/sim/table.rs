// SPDX-License-Identifier: GPL-2.0

//! The span table and the strip kits: few of both, so that they run out.
//!
//! What the driver shards and locks is plain here. The rules are the same: a span that is not idle is *active* and holds
//! a reference that quiesce waits for; an inactive one keeps its kits and blocks until somebody needs them; a span that
//! got no kit waits in the deferred list, which is the driver's own, and holds no kit of an idle strip.

use super::code::Slots;
use super::engines::EndedJob;
use crate::array::deferred::{Comes, Deferred, Ends, Place};
use crate::array::queue::Pushed;
use crate::array::stock::Stock;
use crate::raid::column::Column;
use crate::raid::geometry::Geometry;
use crate::raid::part::{Part, Parts};
use crate::raid::span::{Span, SpanKey};
use crate::raid::strips::{Strips, SPAN_STRIPS};
use std::collections::VecDeque;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Kits that an array keeps however short memory is. The driver keeps more, and one has to do.
pub(crate) const KEPT: u32 = 1;

/// The pages of a strip: eight sectors of each member.
pub(crate) type Kit = Vec<[u64; 8]>;

/// The kits of a span's strips.
pub(crate) type Kits = [Option<Kit>; SPAN_STRIPS as usize];

/// Whom a part belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartOwner {
    /// A request, by its place in the request table.
    User(usize),
    /// The sync thread.
    Sync,
    /// Nobody: it asks for nothing, and only sees to it that its span does not stay active.
    Nobody,
}

/// A part with what the driver needs to know about it.
#[derive(Debug)]
pub(crate) struct SimPart {
    pub(crate) part: Part,
    pub(crate) owner: PartOwner,
    /// The strips it was made for.
    pub(crate) strips: Strips,
    /// It has failed for a good reason.
    pub(crate) excused: bool,
    /// The strips that the oracle has seen failing.
    pub(crate) seen_failed: Strips,
    /// The strips that were being worked on after the last step.
    pub(crate) at_work: Strips,
    /// The clocks of all devices when it was posted, of a part of the sync thread.
    pub(crate) since: Vec<u32>,
}

/// The parts of a span.
#[derive(Debug, Default)]
pub(crate) struct SimParts {
    pub(crate) list: Vec<SimPart>,
    /// Removed, and not yet looked at.
    pub(crate) done: Vec<SimPart>,
}

impl Parts for SimParts {
    fn retain(&mut self, keep: &mut dyn FnMut(&mut Part) -> bool) {
        let mut index = 0;
        while let Some(part) = self.list.get_mut(index) {
            if keep(&mut part.part) {
                index += 1;
            } else {
                self.done.push(self.list.remove(index));
            }
        }
    }
}

/// What has happened to a span.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Events(u8);

impl Events {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const PARTS: Self = Self(1);
    pub(crate) const IO: Self = Self(2);
    pub(crate) const JOB: Self = Self(4);
    pub(crate) const MEMORY: Self = Self(8);
    pub(crate) const BITMAP: Self = Self(16);
    pub(crate) const SUPERBLOCK: Self = Self(32);
    pub(crate) const FLUSH: Self = Self(64);
    pub(crate) const UNPLUG: Self = Self(128);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::PARTS, "parts"),
            (Self::IO, "io"),
            (Self::JOB, "job"),
            (Self::MEMORY, "kits"),
            (Self::BITMAP, "bitmap"),
            (Self::SUPERBLOCK, "superblock"),
            (Self::FLUSH, "flush"),
            (Self::UNPLUG, "unplug"),
        ];
        let names = names
            .into_iter()
            .filter(|(event, _)| self.has(*event))
            .map(|(_, name)| name);
        write!(f, "<{}>", names.collect::<Vec<_>>().join(","))
    }
}

impl BitOr for Events {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Blocks that a member could not read and that were recovered, or that its replacement could not: they have to be written there
/// again.
#[derive(Debug)]
pub(crate) struct Owed {
    pub(crate) member: usize,
    pub(crate) device: Option<usize>,
    pub(crate) strips: Strips,
    /// It is the replacement.
    pub(crate) is_copy: bool,
}

/// What only a span's runner touches.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) span: Span,
    pub(crate) columns: Vec<Column>,
    pub(crate) parts: SimParts,
    pub(crate) kits: Kits,
    /// Strips that members were written at since the oracle looked at them.
    pub(crate) unchecked: Strips,
    pub(crate) owed: Vec<Owed>,
    /// Strips that some member was written at for the work that goes on, and the members that do not hold their blocks of
    /// them: they did not when it began to be written and have not taken it, or could not.
    pub(crate) stored: Strips,
    pub(crate) unheld: [Slots; SPAN_STRIPS as usize],
}

/// A span object.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Option<SpanKey>,
    /// Away while the span runs.
    pub(crate) actor: Option<Box<Actor>>,
    /// Somebody runs the span or is bound to.
    pub(crate) owned: bool,
    pub(crate) events: Events,
    /// Posted and not yet taken, newest last.
    pub(crate) posted: Vec<SimPart>,
    /// For each member, the strips whose I/O has ended well, and badly.
    pub(crate) ended: Vec<(Strips, Strips)>,
    /// Strips whose jobs have ended.
    pub(crate) jobs_ended: Vec<EndedJob>,
    /// For each member, the strips to be read again one by one.
    pub(crate) retry: Vec<Strips>,
    /// For each member, the strips of which a read has failed once.
    pub(crate) again: Vec<Strips>,
    /// For each member, the strips that its replacement could not read, and that are read from it instead.
    pub(crate) elsewhere: Vec<Strips>,
    /// For each member, the devices that are to replace it and are to be written. They may become members meanwhile.
    pub(crate) heirs: Vec<Vec<(usize, Strips)>>,
    /// Its place in the list of those that wait for kits.
    pub(crate) place: Place,
    /// The member's embedded bio is in use.
    pub(crate) bio_busy: Vec<bool>,
    /// Holds a reference that quiesce waits for.
    pub(crate) active: bool,
    /// Those who are about to post to it.
    pub(crate) pins: u32,
    /// When it became inactive.
    pub(crate) idle_since: u64,
}

/// All spans and kits of an array.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
    pub(crate) free_kits: Vec<Kit>,
    /// How many kits there are, in the pool and in spans, and how many there should be.
    stock: Stock,
    /// Spans that wait for kits, first come first served; and the same as it should be.
    deferred: Deferred,
    ends: Ends,
    starved: VecDeque<usize>,
    /// Spans that are owned and wait for a lane.
    pub(crate) lanes: VecDeque<usize>,
    /// Spans that wait for a flush of the bitmap, and for the superblock.
    pub(crate) parked_bitmap: Vec<usize>,
    pub(crate) parked_super: Vec<usize>,
    /// Spans that wait for the rest of a stream.
    pub(crate) watched: Vec<usize>,
    clock: u64,
}

impl Table {
    /// A table of `spans` span objects and `kits` kits for `members` members.
    pub(crate) fn new(spans: usize, kits: u32, members: usize) -> Self {
        let entry = |_| Entry {
            key: None,
            actor: Some(Box::new(Actor {
                span: Span::new(),
                columns: vec![Column::default(); members],
                parts: SimParts::default(),
                kits: Kits::default(),
                unchecked: Strips::NONE,
                owed: Vec::new(),
                stored: Strips::NONE,
                unheld: [Slots::NONE; SPAN_STRIPS as usize],
            })),
            owned: false,
            events: Events::NONE,
            posted: Vec::new(),
            ended: vec![(Strips::NONE, Strips::NONE); members],
            jobs_ended: Vec::new(),
            retry: vec![Strips::NONE; members],
            again: vec![Strips::NONE; members],
            elsewhere: vec![Strips::NONE; members],
            heirs: vec![Vec::new(); members],
            place: Place::new(),
            bio_busy: vec![false; members],
            active: false,
            pins: 0,
            idle_since: 0,
        };
        let mut table = Self {
            entries: (0..spans).map(entry).collect(),
            free_kits: Vec::new(),
            stock: Stock::new(KEPT, u32::MAX),
            deferred: Deferred::new(),
            ends: Ends::new(),
            starved: VecDeque::new(),
            lanes: VecDeque::new(),
            parked_bitmap: Vec::new(),
            parked_super: Vec::new(),
            watched: Vec::new(),
            clock: 0,
        };
        table.resize(kits, members, || true);
        table
    }

    /// Changes how many kits there should be: makes those that are missing, and drops those that are too many as far as nobody
    /// works with them, the rest when they come back. Returns false if there was no memory, by `there`, for one that is to be made:
    /// then there should be as many as there are, or as there should have been.
    pub(crate) fn resize(
        &mut self,
        kits: u32,
        members: usize,
        mut there: impl FnMut() -> bool,
    ) -> bool {
        let before = self.stock.target();
        while self.stock.total() - self.count_free() > kits && self.reclaim() {}
        self.stock.aim(kits);
        while self.stock.total() > kits {
            let Some(kit) = self.free_kits.pop() else {
                return true;
            };
            self.give(kit);
        }
        if kits <= before {
            // What is missing was given back, and is made again by who asks for a strip.
            return true;
        }
        let Self {
            stock, free_kits, ..
        } = self;
        let make = || there().then(|| vec![[0; 8]; members]);
        let filled = stock.fill(make, |kit| free_kits.push(kit));
        if !filled {
            stock.aim(stock.total().max(before));
        }
        filled
    }

    /// Frees a kit of the pool, if the array can do without it. Returns whether it did.
    pub(crate) fn shrink(&mut self) -> bool {
        if !self.may_shrink() {
            return false;
        }
        let Some(kit) = self.free_kits.pop() else {
            return false;
        };
        let freed = self.stock.may_go();
        if !freed {
            self.give(kit);
        }
        freed
    }

    /// Whether there are more kits than an array keeps.
    pub(crate) fn may_shrink(&self) -> bool {
        self.stock.spare() > 0
    }

    /// Whether there should be more kits than there are.
    pub(crate) fn lacks_kits(&self) -> bool {
        self.stock.total() < self.stock.wanted()
    }

    /// Makes a kit, if there should be more than there are and memory is `there`. Returns whether it did.
    pub(crate) fn regrow(&mut self, members: usize, there: impl FnOnce() -> bool) -> bool {
        let Some(kit) = self.stock.add(|| there().then(|| vec![[0; 8]; members])) else {
            return false;
        };
        self.give(kit);
        true
    }

    /// Takes a kit back, unless there are more than there should be. Returns whether somebody can have it.
    pub(crate) fn give(&mut self, kit: Kit) -> bool {
        let stays = !self.stock.is_surplus();
        if stays {
            self.free_kits.push(kit);
        }
        stays
    }

    /// The entry of the span at `key`, if it is in the table.
    pub(crate) fn find(&self, key: SpanKey) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == Some(key))
    }

    /// An entry for the span at `key`: its own, a free one, or that of the inactive span that was not used for longest.
    /// `None` if all are active.
    pub(crate) fn find_or_place(&mut self, key: SpanKey, geometry: &Geometry) -> Option<usize> {
        if let Some(index) = self.find(key) {
            return Some(index);
        }
        let index = self
            .entries
            .iter()
            .position(|entry| entry.key.is_none())
            .or_else(|| self.oldest(|_| true))?;
        self.evict(index);
        let entry = &mut self.entries[index];
        entry.key = Some(key);
        if let Some(actor) = &mut entry.actor {
            actor.span.place(key, geometry);
        }
        Some(index)
    }

    /// Marks an entry active. Returns whether it was not.
    pub(crate) fn activate(&mut self, index: usize) -> bool {
        !std::mem::replace(&mut self.entries[index].active, true)
    }

    /// Marks an entry inactive: the last one to be evicted.
    pub(crate) fn deactivate(&mut self, index: usize) {
        self.clock += 1;
        self.entries[index].active = false;
        self.entries[index].idle_since = self.clock;
    }

    /// Adds to an entry's events. Returns whether the caller became responsible for running it.
    pub(crate) fn post(&mut self, index: usize, events: Events) -> bool {
        let entry = &mut self.entries[index];
        entry.events |= events;
        !std::mem::replace(&mut entry.owned, true)
    }

    /// The kits of an inactive span, back in the pool. Returns whether somebody can have some.
    pub(crate) fn evict(&mut self, index: usize) -> bool {
        self.give_up(index, |actor| actor.span.evict(&mut actor.columns))
    }

    /// The kits of the strips that an actor says it can do without, back in the pool. Returns whether somebody can have some.
    fn give_up(&mut self, index: usize, which: impl FnOnce(&mut Actor) -> Strips) -> bool {
        let Some(actor) = &mut self.entries[index].actor else {
            return false;
        };
        let strips = which(actor);
        let kits: Vec<_> = strips
            .iter()
            .filter_map(|strip| actor.kits[strip as usize].take())
            .collect();
        kits.into_iter()
            .fold(false, |found, kit| self.give(kit) || found)
    }

    /// Has inactive spans forget their blocks, those first that were not used for longest, until somebody can have a kit. Returns
    /// whether it came to that.
    pub(crate) fn reclaim(&mut self) -> bool {
        while let Some(index) = self.oldest(|actor| !actor.span.kits().is_empty()) {
            if self.evict(index) {
                return true;
            }
        }
        false
    }

    /// A kit, if need be from the inactive span that was not used for longest. The flag tells whether it had to be.
    pub(crate) fn take_kit(&mut self) -> Option<(Kit, bool)> {
        if let Some(kit) = self.free_kits.pop() {
            return Some((kit, false));
        }
        self.reclaim();
        Some((self.free_kits.pop()?, true))
    }

    /// The inactive span that was not used for longest among those that `suits`.
    pub(crate) fn oldest(&self, suits: impl Fn(&Actor) -> bool) -> Option<usize> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.key.is_some() && !entry.active && !entry.owned)
            .filter(|(_, entry)| entry.actor.as_deref().is_some_and(&suits))
            .min_by_key(|(_, entry)| entry.idle_since)
            .map(|(index, _)| index)
    }

    /// Whether somebody waits for kits, or has been told to try and has not.
    pub(crate) fn anybody_starves(&self) -> bool {
        self.deferred.is_any()
    }

    /// How many do.
    pub(crate) fn starving(&self) -> u32 {
        self.deferred.count()
    }

    /// Puts a span into the list of those that wait for kits. Tells whether it is the only one there.
    pub(crate) fn starve(&mut self, index: usize, comes: Comes) -> Pushed {
        let entries = &self.entries;
        let place = |index| Some(&entries.get(usize::try_from(index).ok()?)?.place);
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let pushed = self.deferred.push(&mut self.ends, number, comes, place);
        if pushed == Pushed::Already {
            return pushed;
        }
        if comes == Comes::InVain {
            self.starved.push_front(index);
        } else {
            self.starved.push_back(index);
        }
        pushed
    }

    /// Takes the one that has waited for longest out of that list, if there is a kit that has not been granted. The second is the
    /// one that should be.
    pub(crate) fn next_starved(&mut self) -> (Option<usize>, Option<usize>) {
        let kits = self.free_kits.len();
        let granted = (self.entries.iter()).filter(|entry| Deferred::is_granted(&entry.place));
        let expected = if kits > granted.count() {
            self.starved.pop_front()
        } else {
            None
        };
        let entries = &self.entries;
        let place = |index| Some(&entries.get(usize::try_from(index).ok()?)?.place);
        let kits = || u32::try_from(kits).unwrap_or(u32::MAX);
        let first = self.deferred.pop(&mut self.ends, kits, place);
        let first = first.and_then(|index| usize::try_from(index).ok());
        (first, expected)
    }

    /// Number of kits in the pool.
    fn count_free(&self) -> u32 {
        u32::try_from(self.free_kits.len()).unwrap_or(u32::MAX)
    }

    /// Whether there are more of them than have been granted.
    pub(crate) fn is_any_left(&self) -> bool {
        self.count_free() > self.deferred.granted()
    }

    /// Whether somebody waits who was not granted one.
    pub(crate) fn anybody_lacks(&self) -> bool {
        self.deferred.count() > self.deferred.granted()
    }

    /// Whether a span may take kits although others wait.
    pub(crate) fn is_granted(&self, index: usize) -> bool {
        Deferred::is_granted(&self.entries[index].place)
    }

    /// It has taken what it wanted.
    pub(crate) fn end_grant(&self, index: usize) {
        self.deferred.end_grant(&self.entries[index].place);
    }

    /// Takes the kits of idle strips out of active spans that nobody runs, until somebody can have one: who keeps them so may
    /// sleep. Returns whether it came to that.
    pub(crate) fn shed_active(&mut self) -> bool {
        (0..self.entries.len()).any(|index| {
            let entry = &self.entries[index];
            entry.active
                && !entry.owned
                && self.give_up(index, |actor| actor.span.shed(&mut actor.columns))
        })
    }

    /// How many kits there are, by the books.
    pub(crate) fn total_kits(&self) -> usize {
        self.stock.total() as usize
    }

    /// Kits that are in the pool or held by spans.
    pub(crate) fn count_kits(&self) -> usize {
        let held: usize = self
            .entries
            .iter()
            .filter_map(|entry| entry.actor.as_deref())
            .map(|actor| actor.kits.iter().flatten().count())
            .sum();
        held + self.free_kits.len()
    }
}
