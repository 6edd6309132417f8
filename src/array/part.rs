// SPDX-License-Identifier: GPL-2.0

//! Parts as the driver holds them: a part of `raid/` with the request, or the sync unit, that it belongs to.

use super::streams::NO_STREAM;
use super::Array;
use crate::block::request::{Flush, Slice};
use crate::block::Status;
use crate::mem::mempool::Pooled;
use crate::raid::part::{Part, PartKind, Parts};
use crate::raid::strips::Strips;
use crate::sync::gate::Entry;

/// Whom a part is done for.
pub(super) enum Origin {
    /// Not said yet.
    Nobody,
    /// A request of a user: the slice that holds all sectors of the part.
    Request(Slice),
    /// One that wants nothing but a flush, and ends with this.
    Flush(Flush),
    /// A resync, check, repair or rebuild.
    Sync(Unit),
}

/// What md core's sync thread asked for at once: neighbouring sectors of each member, within one span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// The first sector that md core asked for.
    pub(super) sector: u64,
    /// How many it was told are under way.
    pub(super) sectors: u32,
}

/// A part, and whom it is done for.
pub(super) struct Item {
    pub(super) part: Part,
    pub(super) origin: Origin,
    /// Which stream it is of, if that may have to be waited for.
    pub(super) stream: u32,
    /// When it came, if it is one's.
    pub(super) came: u64,
    /// Keeps the array, once the part is posted. A span takes it over from the first part that it accepts.
    pub(super) entry: Option<Entry<Array>>,
    next: Option<Pooled<Item>>,
}

impl Item {
    /// A part that is in no list.
    pub(super) fn new(part: Part, origin: Origin) -> Self {
        Self {
            part,
            origin,
            stream: NO_STREAM,
            came: 0,
            entry: None,
            next: None,
        }
    }

    /// A part whose content is not said yet.
    pub(super) fn blank() -> Self {
        let part = Part::new(PartKind::Read, Strips::NONE, 0, 0);
        Self::new(part, Origin::Nobody)
    }

    /// Tells whoever waits for the part that it has ended; a request ends when it has no other part.
    fn complete(&mut self, array: &Array) {
        let failed = self.part.failed();
        if self.stream != NO_STREAM {
            // Before its submitter hears of it, who may go on at once.
            array.streams.end(self.stream, self.came);
        }
        match core::mem::replace(&mut self.origin, Origin::Nobody) {
            Origin::Nobody | Origin::Flush(_) => {}
            Origin::Request(slice) => {
                if let Some(seq) = self.part.bitmap_seq {
                    array.bitmap_written(self.part.start, self.part.end, seq);
                }
                if !failed.is_empty() {
                    slice.fail(Status::IO_ERROR);
                }
            }
            Origin::Sync(unit) => array.unit_done(unit, failed, self.part.unstored()),
        }
    }

    /// The slice and the entry of a part that only keeps them.
    pub(super) fn take_rest(&mut self) -> Option<(Slice, Entry<Array>)> {
        match core::mem::replace(&mut self.origin, Origin::Nobody) {
            Origin::Request(slice) => Some((slice, self.entry.take()?)),
            _ => None,
        }
    }
}

/// The parts that a span has accepted, in the order in which they came.
#[derive(Default)]
pub(super) struct PartList {
    head: Option<Pooled<Item>>,
    /// Parts that are complete, and whose owners have not been told.
    done: Option<Pooled<Item>>,
    /// How many have become so, and were not counted yet.
    ended: u32,
}

impl PartList {
    /// Whether it holds no part that is not complete.
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Puts parts at the end.
    pub(super) fn append(&mut self, items: impl Iterator<Item = Pooled<Item>>) {
        let mut tail = &mut self.head;
        while let Some(item) = tail {
            tail = &mut item.next;
        }
        for item in items {
            tail = &mut tail.insert(item).next;
        }
    }

    /// Takes the first part out.
    pub(super) fn pop(&mut self) -> Option<Pooled<Item>> {
        let mut item = self.head.take()?;
        self.head = item.next.take();
        Some(item)
    }

    /// Calls `f` with each part that is not complete, in order.
    pub(super) fn for_each<'a>(&'a self, mut f: impl FnMut(&'a Part, &'a Origin)) {
        let mut at = self.head.as_ref();
        while let Some(item) = at {
            f(&item.part, &item.origin);
            at = item.next.as_ref();
        }
    }

    /// How many parts have become complete since this was asked last.
    pub(super) fn take_ended(&mut self) -> u32 {
        core::mem::take(&mut self.ended)
    }

    /// Tells the owners of complete parts. What they do then may take long, and may start new requests.
    pub(super) fn complete(&mut self, array: &Array) {
        let mut done = self.done.take();
        while let Some(mut item) = done {
            done = item.next.take();
            item.complete(array);
        }
    }
}

impl Parts for PartList {
    fn retain(&mut self, keep: &mut dyn FnMut(&mut Part) -> bool) {
        let mut rest = self.head.take();
        let mut tail = &mut self.head;
        while let Some(mut item) = rest {
            rest = item.next.take();
            if keep(&mut item.part) {
                tail = &mut tail.insert(item).next;
            } else {
                item.next = self.done.take();
                self.done = Some(item);
                self.ended = self.ended.wrapping_add(1);
            }
        }
    }
}
