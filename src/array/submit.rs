// SPDX-License-Identifier: GPL-2.0

//! Requests: from what md core hands over to parts of spans.
//!
//! While md core calls us, bios for members are only queued, and go out when we return. So whatever may sleep comes before
//! the first of them: the superblock, quiesce, accounting, parts, span objects, in this order. A request that is accounted
//! may have to wait for the others, so nobody who has any of them may wait to be accounted. Where a request needs more span objects
//! than are there at once, lanes run those that it has got, and it waits for more.

use super::counters::Event;
use super::direct;
use super::object::{SpanObject, Work};
use super::part::{Item, Origin};
use super::run::{give, hand_over, run};
use super::table::Pinned;
use super::Array;
use crate::block::context;
use crate::block::plug::{self, Plugged};
use crate::block::request::{Request, Slice};
use crate::block::reserve::{FailedFlushes, Flushed};
use crate::block::{Flags, Op, Status};
use crate::md::mddev::Mddev;
use crate::mem::mempool::Pooled;
use crate::mem::MayBlock;
use crate::raid::part::{Hold, Part, PartKind};
use crate::raid::span::SpanKey;
use crate::sync::gate::{Entry, Gate};
use crate::sync::mailbox::Events;
use kernel::current;
use kernel::sync::Arc;

/// What a request does when not all that it needs is there at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// It waits.
    Waits,
    /// Nobody waits for what is only read ahead: as much as can be had is read, and the rest fails.
    ReadAhead,
    /// Its submitter wants to be told, before anything has been done.
    NoWait,
}

impl Patience {
    fn of(flags: Flags) -> Self {
        if flags.contains(Flags::NOWAIT) {
            Self::NoWait
        } else if flags.contains(Flags::RAHEAD) {
            Self::ReadAhead
        } else {
            Self::Waits
        }
    }

    /// How a request ends that would have to wait.
    fn refusal(self) -> Status {
        match self {
            Self::NoWait => Status::AGAIN,
            Self::Waits | Self::ReadAhead => Status::IO_ERROR,
        }
    }
}

/// Who runs the spans to which parts are posted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The submitter, whose bios for members are queued then: he may not sleep any more. Where that pays, lanes help.
    Submitter,
    /// Lanes alone.
    Lanes,
}

/// Takes a request. May sleep before the first bio for a member goes out, unless the request says otherwise.
pub(super) fn make_request(
    gate: &Gate<Array>,
    mddev: &Mddev,
    request: Request<'_>,
    may_block: &MayBlock,
) {
    let array: &Array = gate;
    let flags = request.flags();
    let nowait = Patience::of(flags) == Patience::NoWait;
    if nowait && flags.contains(Flags::PREFLUSH) {
        return request.end(Status::AGAIN);
    }
    let mut request = request;
    if flags.contains(Flags::PREFLUSH) {
        array.counters.add(Event::Flushes);
    }
    if request.sectors() == 0 {
        if flags.contains(Flags::PREFLUSH) {
            let entry = array.wait_enter(gate, may_block);
            return array.flush_alone(entry, request, may_block);
        }
        return request.end(Status::OK);
    }
    let op = request.op();
    let write = match op {
        Op::Read => false,
        Op::Write => true,
        // It may take long, and so may what it waits for.
        Op::Discard if nowait => return request.end(Status::AGAIN),
        Op::Discard if array.takes_discards() => true,
        Op::Discard | Op::Other => return request.end(Status::NOT_SUPPORTED),
    };
    if write && mddev.is_read_only() {
        return request.end(Status::IO_ERROR);
    }
    let entry = if nowait {
        if !request.try_write_start() {
            return request.end(Status::AGAIN);
        }
        let Some(entry) = gate.enter() else {
            return request.end(Status::AGAIN);
        };
        entry
    } else {
        request.write_start(may_block);
        array.wait_enter(gate, may_block)
    };
    if is_past_end(mddev, &request) {
        return request.end(Status::IO_ERROR);
    }
    if write && flags.contains(Flags::PREFLUSH) {
        return array.flush_first(entry, request, may_block);
    }
    if op == Op::Discard {
        array.discard(entry, request, may_block);
    } else if write {
        array.submit(entry, request, may_block);
    } else if let Some((entry, request)) = direct::read(array, entry, request, may_block) {
        array.submit(entry, request, may_block);
    }
}

/// Whether the array has been made smaller than the request is long since the block layer looked. Whoever makes it smaller lets
/// nobody in meanwhile.
fn is_past_end(mddev: &Mddev, request: &Request<'_>) -> bool {
    let end = request.sector().saturating_add(request.sectors().into());
    end > mddev.array_sectors()
}

/// Spans that are reserved for one request at once.
const RESERVED: usize = 16;

/// Strips of a span that are worth another CPU's while, if there are more spans for us.
const MUCH: u32 = 4;

/// Such spans with which a lane has enough to do: one that it runs, and the next.
const MUCH_TAKEN: u32 = 2;

/// The same where members end their bios later, and sending is most of the work: a submitter sends several at once, and the lane has run
/// dry by the time that it looks again.
const MUCH_TAKEN_LATER: u32 = 6;

/// Spans in a plug that are worth another CPU's while, however little there is to do for each.
const MANY: usize = 2;

/// Reads of lost blocks that came with one plug and are worth another CPU's while: more than a plug full of reads all over an array
/// is likely to have, for the others cost less than waking a lane.
const MANY_READS: usize = 16;

/// The same where members end them later: then a lane is woken for each in any case, and who gives them away saves more.
const MANY_READS_LATER: usize = 1;

/// Small spans, of writes or of such reads, with which a lane has enough to do.
const MANY_TAKEN: u32 = 24;

/// Milliseconds for which a page of the book of submitters is written.
pub(super) const SUBMITTERS_PERIOD: u32 = 40;

/// Spans and parts that a request will need.
struct Reserved<'a> {
    spans: [Option<(Pinned<'a>, Pooled<Item>)>; RESERVED],
    count: usize,
}

impl<'a> Reserved<'a> {
    fn new() -> Self {
        Self {
            spans: [const { None }; RESERVED],
            count: 0,
        }
    }

    fn has(&self, key: SpanKey) -> bool {
        let mut spans = self.spans.iter().flatten();
        spans.any(|(pinned, _)| pinned.key() == key)
    }

    fn push(&mut self, pinned: Pinned<'a>, item: Pooled<Item>) {
        if let Some(place) = self.spans.get_mut(self.count) {
            *place = Some((pinned, item));
            self.count += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.count == RESERVED
    }

    /// Takes them out, one by one.
    fn take<'r>(&'r mut self) -> impl Iterator<Item = (Pinned<'a>, Pooled<Item>)> + 'r {
        let count = core::mem::take(&mut self.count);
        self.spans.iter_mut().take(count).filter_map(Option::take)
    }
}

impl Array {
    /// Has the members flush their caches, and a write go on when they have: the C module lets both go at once, so that
    /// after a power cut a journal's commit may be there without what it commits. May sleep.
    fn flush_first(&self, entry: Entry<Array>, request: Request<'_>, may_block: &MayBlock) {
        let Ok(mut item) = self.keepers.wait_take(Item::blank(), may_block) else {
            return request.end(Status::IO_ERROR);
        };
        item.entry = Some(entry);
        let slice = request.account(may_block);
        item.origin = Origin::Request(slice.clone());
        self.reserve.flush(&slice, item, may_block);
    }

    /// Has the members flush their caches, for a request that wants nothing else. May sleep.
    fn flush_alone(&self, entry: Entry<Array>, request: Request<'_>, may_block: &MayBlock) {
        let Ok(mut item) = self.keepers.wait_take(Item::blank(), may_block) else {
            return request.end(Status::IO_ERROR);
        };
        item.entry = Some(entry);
        self.reserve.flush_for(request, may_block, |flush| {
            item.origin = Origin::Flush(flush);
            item
        });
    }

    /// Does a request by way of spans.
    fn submit(&self, entry: Entry<Array>, request: Request<'_>, may_block: &MayBlock) {
        let patience = Patience::of(request.flags());
        let accounted = if patience == Patience::NoWait {
            request.try_account()
        } else {
            Ok(request.account(may_block))
        };
        let mut slice = match accounted {
            Ok(slice) => slice,
            Err(request) => return request.end(Status::AGAIN),
        };
        loop {
            let (start, end) = (slice.sector(), slice.end_sector());
            let mut reserved = Reserved::new();
            let wait = (patience == Patience::Waits).then_some(may_block);
            let at = self.reserve(start, end, wait, &mut reserved);
            if at == start || at < end && patience == Patience::NoWait {
                self.release(&mut reserved, &entry);
                return slice.fail(patience.refusal());
            }
            // CAST: no more than the request's sectors.
            let front = at.saturating_sub(start) as u32;
            let Some(first) = slice.split_front(front) else {
                return self.post_slice(slice, &mut reserved, entry, By::Submitter);
            };
            self.counters.add(Event::RequestsCut);
            self.post_slice(first, &mut reserved, entry.clone(), By::Lanes);
        }
    }

    /// Adds what a request from `start` to `end` needs to `reserved`, as far as it is to be had. Returns where it ends.
    /// Sleeps, if it may, until there is something.
    fn reserve<'a>(
        &'a self,
        start: u64,
        end: u64,
        may_block: Option<&MayBlock>,
        reserved: &mut Reserved<'a>,
    ) -> u64 {
        let mut at = start;
        while at < end {
            let (key, next) = self.piece(at);
            if !reserved.has(key) {
                let wait = may_block.filter(|_| reserved.count == 0);
                if reserved.is_full() {
                    break;
                }
                let found = match wait {
                    Some(may_block) => self.wait_reserve_span(key, may_block),
                    None => self.reserve_span(key),
                };
                let Some((pinned, item)) = found else {
                    break;
                };
                reserved.push(pinned, item);
            }
            at = next;
        }
        at.min(end)
    }

    /// The span that an array sector is in, and the sector where that span ends for those who go on from there.
    pub(super) fn piece(&self, sector: u64) -> (SpanKey, u64) {
        let geometry = &self.geometry;
        let member_sector = geometry.locate(sector).member_sector;
        let start = geometry.span_of(member_sector);
        let within = member_sector.saturating_sub(start);
        let left = u64::from(geometry.span_sectors()).saturating_sub(within);
        let key = SpanKey {
            sector: start,
            generation: self.generation,
        };
        (key, sector.saturating_add(left))
    }

    /// Reserves a span and a part for it, if there are. Does not sleep.
    pub(super) fn reserve_span(&self, key: SpanKey) -> Option<(Pinned<'_>, Pooled<Item>)> {
        let item = self.items.take(Item::blank()).ok()?;
        let (pinned, freed) = self.table.lookup(key, &self.geometry)?;
        self.give_kits(freed);
        Some((pinned, item))
    }

    /// Reserves a span and a part for it. Sleeps until there are.
    pub(super) fn wait_reserve_span(
        &self,
        key: SpanKey,
        may_block: &MayBlock,
    ) -> Option<(Pinned<'_>, Pooled<Item>)> {
        self.regrow();
        let item = self.items.wait_take(Item::blank(), may_block).ok()?;
        Some((self.wait_find_span(key, may_block)?, item))
    }

    /// The span at a place. Sleeps until there is an object for it.
    pub(super) fn wait_find_span(&self, key: SpanKey, may_block: &MayBlock) -> Option<Pinned<'_>> {
        let (pinned, freed) = self.table.wait_lookup(key, &self.geometry, may_block)?;
        self.give_kits(freed);
        Some(pinned)
    }

    /// Gives back what was reserved and is not needed.
    fn release(&self, reserved: &mut Reserved<'_>, entry: &Entry<Array>) {
        for (pinned, item) in reserved.take() {
            // A part that asks for nothing: whoever runs the span sees to it that it does not stay active.
            let span = pinned.span();
            if let Some(turn) = pinned.post(item, entry.clone()) {
                run(span, turn);
            }
        }
    }

    /// Posts the parts of a slice to the spans that were reserved for it, and has these run.
    fn post_slice(&self, slice: Slice, reserved: &mut Reserved<'_>, entry: Entry<Array>, by: By) {
        let template = self.template(&slice);
        let stream = (template.kind == PartKind::Write)
            .then(|| self.stream_of(&slice))
            .flatten();
        let mut keep = Some((slice, entry));
        let last = reserved.count.wrapping_sub(1);
        for (index, (pinned, mut item)) in reserved.take().enumerate() {
            // The last one gets what we have; most requests have one.
            let more = index != last;
            let own = if more { keep.clone() } else { keep.take() };
            let Some((slice, entry)) = own else {
                break;
            };
            let span = pinned.span();
            item.part = self.part(&template, pinned.key().sector);
            item.origin = Origin::Request(slice);
            item.part.sequential = stream.is_some();
            // A part that is held must have somebody who lets it go: who watches streams, or the plug.
            let stream = stream.filter(|_| self.leaves_rest(&item.part));
            if let Some(stream) = stream {
                item.stream = stream.place;
                item.came = stream.outlook.came;
                item.part.packs = stream.outlook.packs;
                self.streams.begin(stream.place);
            }
            let waits = stream.is_some_and(|stream| stream.outlook.holds);
            // A plug that is full runs what it has, here, and what these send would not go out while the rest is waited for.
            let plugged = by == By::Submitter
                && self.may_hold(&item.part)
                && plug::hold(span.clone()).is_ok();
            item.part.hold = match (plugged, waits) {
                (true, true) => Hold::PluggedStream,
                (true, false) => Hold::Plug,
                (false, true) => Hold::Stream,
                (false, false) => Hold::No,
            };
            let (kind, strips) = (item.part.kind, item.part.strips().count());
            if let Some(turn) = pinned.post(item, entry) {
                match by {
                    By::Lanes => hand_over(span, turn),
                    By::Submitter => match self.enough(span, kind, strips, more) {
                        Some(enough) => give(span, turn, enough),
                        None => run(span, turn),
                    },
                }
            }
        }
    }

    /// With how many spans a lane has enough to do that may take `span` from its submitter, with a part of `kind` in `strips` strips;
    /// `None` if none does. `more`: there are further ones for the request.
    fn enough(
        &self,
        span: &Arc<SpanObject>,
        kind: PartKind,
        strips: u32,
        more: bool,
    ) -> Option<u32> {
        if strips >= MUCH {
            return if more || plug::active() {
                self.enough_of_much(strips)
            } else {
                None
            };
        }
        // Writes wait until the plug is released, and it is known then how many there are. Reads come here when their block is
        // lost.
        if kind != PartKind::Read {
            return None;
        }
        let many = if self.members_end_later() {
            MANY_READS_LATER
        } else {
            MANY_READS
        };
        let before = plug::pass(span);
        (before >= many && self.helps_with_many()).then_some(MANY_TAKEN)
    }

    /// With how many spans a lane has enough to do that may take one with `strips` strips at work from whoever has more of them; `None`
    /// if none does, or there is too little to do in it.
    pub(super) fn enough_of_much(&self, strips: u32) -> Option<u32> {
        let taken = if self.members_end_later() {
            MUCH_TAKEN_LATER
        } else {
            MUCH_TAKEN
        };
        (strips >= MUCH && self.lanes.may_help(taken)).then_some(taken)
    }

    /// What all parts of a slice have in common. For a write, its bits in the bitmap have been set.
    pub(super) fn template(&self, slice: &Slice) -> Part {
        let flags = slice.flags();
        let kind = match slice.op() {
            Op::Write => PartKind::Write,
            Op::Discard => PartKind::Discard,
            Op::Read | Op::Other => PartKind::Read,
        };
        let write = kind != PartKind::Read;
        let mut part = Part::new(kind, Default::default(), slice.sector(), slice.end_sector());
        part.fua = kind == PartKind::Write && flags.contains(Flags::FUA);
        part.sync = flags.contains(Flags::SYNC);
        if write {
            part.bitmap_seq = self.bitmap_ticket(slice.sector(), slice.end_sector());
        }
        part
    }

    /// The part of a slice, given as a template, in the span at `sector`.
    pub(super) fn part(&self, template: &Part, sector: u64) -> Part {
        let geometry = &self.geometry;
        let stripe = geometry.stripe_of(sector);
        let start = geometry.stripe_start(stripe).unwrap_or(u64::MAX);
        let end = start.saturating_add(geometry.stripe_sectors());
        let start = template.start.max(start);
        let end = template.end.min(end);
        let mut part = Part::new(
            template.kind,
            geometry.touched(sector, start, end),
            start,
            end,
        );
        part.fua = template.fua;
        part.sync = template.sync;
        part.bitmap_seq = template.bitmap_seq;
        part
    }

    /// Whether a lane may take a span off a submitter that has many of them.
    ///
    /// It takes more of all CPUs' time, so unless threads are asked for there must be a CPU that no submitter has.
    fn helps_with_many(&self) -> bool {
        if self.settings.threads() > 0 {
            return self.lanes.may_help(MANY_TAKEN);
        }
        // CAST: a hash.
        let task = current!().pid() as u32;
        let submitters = self.submitters.note(task, context::jiffies());
        let left = context::online_cpus().saturating_sub(submitters);
        self.lanes.may_some_help(left, MANY_TAKEN)
    }

    /// Whether a write may be held for more to come: not if it is the whole of a stripe.
    fn may_hold(&self, part: &Part) -> bool {
        part.kind == PartKind::Write
            && part.end.saturating_sub(part.start) < self.geometry.stripe_sectors()
            && plug::active()
    }
}

impl Flushed for Pooled<Item> {
    fn is_made_up_for(&self, failed: &FailedFlushes) -> bool {
        self.entry
            .as_ref()
            .is_some_and(|array| array.flush_failed(failed))
    }

    fn flushed(self, good: bool) {
        // It was given one before the flush.
        let Some(entry) = self.entry.clone() else {
            return;
        };
        if !good {
            // The request ends with the item; of a write nothing was done.
            return match &self.origin {
                Origin::Flush(flush) => flush.fail(Status::IO_ERROR),
                Origin::Request(slice) => slice.fail(Status::IO_ERROR),
                Origin::Nobody | Origin::Sync(_) => {}
            };
        }
        match self.origin {
            Origin::Flush(_) => entry.flush_done(self),
            _ => entry.post_by_thread(self),
        }
    }
}

/// Whether a lane may take a span off a submitter that releases many.
fn helped(work: &Work) -> bool {
    let entry = work.entry.as_ref();
    entry.is_some_and(|array| array.helps_with_many())
}

impl Plugged for SpanObject {
    fn unplugged(this: Arc<Self>, more: usize, from_schedule: bool) {
        let Some(turn) = this.actor.post(Events::UNPLUG) else {
            return;
        };
        if from_schedule {
            hand_over(&this, turn);
        } else if more >= MANY && helped(&turn) {
            give(&this, turn, MANY_TAKEN);
        } else {
            run(&this, turn);
        }
    }
}
