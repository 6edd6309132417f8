// SPDX-License-Identifier: GPL-2.0

//! make_request, one small step at a time, so that everybody else gets in between.
//!
//! Bios that a submitter's runs of spans produce wait on its list until the call returns, as on current->bio_list. So it
//! may wait for anything only before the first of them.

use super::io::{Io, Op, Owner};
use super::report::Event;
use super::request::{Account, Kind};
use super::runner::Runner;
use super::table::{Events, PartOwner, SimPart};
use super::Sim;
use crate::raid::part::{Hold, Part, PartKind};
use crate::raid::span::SpanKey;
use crate::raid::strips::Strips;
use std::collections::VecDeque;

/// Spans that a call takes hold of at a time.
const RESERVED: usize = 16;

/// Spans that a plug holds.
const PLUGGED: usize = 3;

/// Clones of requests that md core keeps for when there is no memory.
const CLONES: u32 = 2;

/// Where a call of make_request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    WriteStart,
    SuperWait,
    Enter,
    /// Takes the clone that md core accounts with.
    Account,
    Direct,
    /// Takes hold of the spans that it needs, as far as they are to be had.
    Reserve,
    /// Posts to those that it has got; goes on with the rest, if there is some.
    Post,
    /// It is responsible for running the span in this table entry.
    Run(usize),
    Return,
}

/// One call of make_request.
#[derive(Debug)]
struct Call {
    request: usize,
    /// Array sectors: what has not been posted, up to where spans are reserved, and the end.
    start: u32,
    at: u32,
    end: u32,
    step: Step,
    /// Spans that are active on its behalf: their places and table entries.
    reserved: Vec<(SpanKey, usize)>,
    /// Parts to be posted to them.
    parts: VecDeque<(usize, Part)>,
    /// It holds a reference that quiesce waits for.
    inside: bool,
    /// md_write_start() was called.
    write_started: bool,
    /// The flush of the bitmap that a write waits for.
    sequence: Option<u32>,
    /// It has tried to make kits again before it waits for a span.
    regrown: bool,
}

/// A task that makes requests.
#[derive(Debug, Default)]
pub(crate) struct Submitter {
    call: Option<Call>,
    /// What waits on current->bio_list.
    bios: VecDeque<Io>,
    /// Spans to release when the plug goes, and how many requests it is held for.
    plug: Option<(Vec<usize>, u32)>,
    waits_for: Option<usize>,
}

/// A part that is to be posted as soon as there is a span for it.
#[derive(Debug)]
pub(crate) struct Unposted {
    key: SpanKey,
    part: SimPart,
}

impl Submitter {
    /// Puts a bio on the list.
    pub(crate) fn queue_io(&mut self, io: Io) {
        self.bios.push_back(io);
    }

    /// A request has ended.
    pub(crate) fn ended(&mut self, request: usize) {
        if self.waits_for == Some(request) {
            self.waits_for = None;
        }
    }

    /// Whether it has nothing under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.call.is_none() && self.bios.is_empty() && self.plug.is_none()
    }

    /// The bios that no member has seen yet.
    pub(crate) fn into_ios(self) -> Vec<Io> {
        self.bios.into()
    }

    /// For reports of what is stuck.
    pub(crate) fn show(&self) -> String {
        let step = self.call.as_ref().map(|call| (call.request, call.step));
        format!(
            "call {step:?}, {} bios, waits for {:?}",
            self.bios.len(),
            self.waits_for
        )
    }

    /// Whether bios of spans wait on the list: from now on it must not sleep.
    fn has_member_bios(&self) -> bool {
        self.bios
            .iter()
            .any(|io| !matches!(io.owner, Owner::UserFlush { .. }))
    }
}

impl Sim {
    /// Some submitter goes on. Returns false if it cannot.
    pub(crate) fn submit(&mut self) -> bool {
        let index = self.rng.index(self.submitters.len());
        if let Some(call) = self.submitters[index].call.take() {
            return self.go_on(index, call);
        }
        if !self.submitters[index].bios.is_empty() {
            self.submit_queued(index);
            return true;
        }
        if self.submitters[index].waits_for.is_some() {
            return self.unplug(index, true);
        }
        let held = self.submitters[index].plug.as_ref().map(|plug| plug.1);
        if held == Some(0) || self.budget == 0 {
            return self.unplug(index, false);
        }
        if self.requests.len() >= self.config.depth {
            // It waits for a tag; what is plugged goes out.
            return self.unplug(index, true);
        }
        self.budget -= 1;
        match &mut self.submitters[index].plug {
            Some(plug) => plug.1 -= 1,
            None if self.rng.chance(self.config.plugs) => {
                let count = self.rng.within(1..6);
                self.submitters[index].plug = Some((Vec::new(), count));
            }
            None => {}
        }
        let request = self.new_request();
        let (start, len, sync) = {
            let request = self.requests.get(request);
            (request.start, request.len, request.sync)
        };
        if sync {
            self.submitters[index].waits_for = Some(request);
        }
        self.submitters[index].call = Some(Call::new(request, start, start + len));
        true
    }

    /// make_request has returned: the first bio on the list is submitted.
    fn submit_queued(&mut self, index: usize) {
        let Some(io) = self.submitters[index].bios.pop_front() else {
            return;
        };
        let lanes = self.table.lanes.len();
        self.dispatch(io);
        // A synchronous member ends the bio here, where the span may run.
        if self.table.lanes.len() > lanes && self.rng.chance(self.config.inline) {
            if let Some(entry) = self.table.lanes.pop_back() {
                self.count(Event::RunInline);
                self.run_span(entry, Runner::Submitter(index));
            }
        }
    }

    /// Releases a submitter's plug. Returns false if there is none.
    fn unplug(&mut self, index: usize, from_schedule: bool) -> bool {
        let Some((spans, _)) = self.submitters[index].plug.take() else {
            return false;
        };
        if !spans.is_empty() {
            self.count(Event::Unplugged);
        }
        for entry in spans {
            if from_schedule || !self.rng.chance(self.config.inline) {
                self.post(entry, Events::UNPLUG);
            } else if self.table.post(entry, Events::UNPLUG) {
                self.run_span(entry, Runner::Lane);
            }
        }
        true
    }

    /// The next small step of a call. Returns false if it waits.
    fn go_on(&mut self, index: usize, mut call: Call) -> bool {
        let progress = self.go_on_from(index, &mut call);
        let waits = progress.is_none();
        match progress {
            Some(Step::Return) => self.leave(&call),
            next => {
                call.step = next.unwrap_or(call.step);
                self.submitters[index].call = Some(call);
            }
        }
        if waits {
            if self.submitters[index].has_member_bios() {
                self.fail(
                    "no bio for a member to be queued while its submitter sleeps",
                    format!("some of submitter {index}'s are"),
                );
            }
            // It sleeps: schedule() releases the plug.
            return self.unplug(index, true);
        }
        true
    }

    /// Does one step of a call and tells the next, or `None` if it has to wait.
    fn go_on_from(&mut self, index: usize, call: &mut Call) -> Option<Step> {
        let request = self.requests.get(call.request);
        let (kind, nowait, preflush) = (request.kind, request.nowait, request.preflush);
        match call.step {
            Step::Begin => {
                if self.md.suspended {
                    return self.or_again(call, nowait);
                }
                self.md.active_io += 1;
                if preflush {
                    self.flush_members(index, call.request);
                }
                Some(match kind {
                    Kind::Flush => Step::Return,
                    Kind::Write | Kind::Discard => Step::WriteStart,
                    Kind::Read => Step::Enter,
                })
            }
            Step::WriteStart => {
                if self.md.broken.get() {
                    self.requests.refuse(call.request);
                    self.requests.get_mut(call.request).may_fail = true;
                    return Some(Step::Return);
                }
                if nowait && (self.md.clean || self.md.change_pending.get()) {
                    return self.or_again(call, true);
                }
                self.md.writes_pending += 1;
                call.write_started = true;
                if self.md.clean {
                    self.md.clean = false;
                    self.md.change_clean = true;
                    self.md.change_pending.set(true);
                }
                Some(Step::SuperWait)
            }
            Step::SuperWait if self.md.change_pending.get() => None,
            Step::SuperWait => Some(Step::Enter),
            Step::Enter => {
                if self.md.quiescing {
                    return self.or_again(call, nowait);
                }
                self.md.inflight += 1;
                call.inside = true;
                Some(Step::Account)
            }
            Step::Account => self.account(call, nowait),
            Step::Direct => Some(self.direct(index, call, kind)),
            Step::Reserve => self.reserve(call, nowait),
            Step::Post => Some(self.post_next(index, call)),
            Step::Run(entry) => {
                self.count(Event::RunInline);
                self.run_span(entry, Runner::Submitter(index));
                Some(Step::Post)
            }
            Step::Return => Some(Step::Return),
        }
    }

    /// A request that must not wait ends here; others wait.
    fn or_again(&mut self, call: &Call, nowait: bool) -> Option<Step> {
        if !nowait {
            return None;
        }
        self.requests.would_block(call.request);
        if call.step == Step::Begin {
            self.md.active_io += 1;
        }
        Some(Step::Return)
    }

    /// md_flush_request(): each member's cache is flushed, beside the data.
    fn flush_members(&mut self, index: usize, request: usize) {
        let members: Vec<_> = self.all_members().collect();
        for device in members {
            if !self.devices[device].faulty.get() {
                self.requests.hold(request);
                let io = self.new_io(device, Op::Flush(Vec::new()), Owner::UserFlush { request });
                self.submitters[index].queue_io(io);
            }
        }
    }

    /// A read goes straight to its member if it may.
    fn direct(&mut self, index: usize, call: &mut Call, kind: Kind) -> Step {
        if kind != Kind::Read || !self.rng.chance(self.config.direct) {
            return Step::Reserve;
        }
        let (at, end) = (u64::from(call.start), u64::from(call.end));
        let place = self.geometry.locate(at);
        // CAST: the simulated members are small.
        let sector = place.member_sector as u32;
        let count = call.end - call.start;
        let device = self.reader(usize::from(place.member), sector, count);
        let (true, Some(device)) = (self.geometry.chunk_end(at) >= end, device) else {
            return Step::Reserve;
        };
        self.count(Event::DirectRead);
        self.requests.hold(call.request);
        self.md.inflight += 1;
        let owner = Owner::Direct {
            request: call.request,
            start: call.start,
        };
        let io = self.new_io(device, Op::Read { sector, count }, owner);
        self.submitters[index].queue_io(io);
        Step::Return
    }

    /// Takes hold of the next span that the request needs. It may wait for the first one only; what lies behind the last
    /// one comes when these have their parts.
    fn reserve(&mut self, call: &mut Call, nowait: bool) -> Option<Step> {
        if call.at < call.end {
            let place = self.geometry.locate(u64::from(call.at));
            let sector = self.geometry.span_of(place.member_sector);
            let key = SpanKey {
                sector,
                generation: 0,
            };
            if !call.reserved.iter().any(|(reserved, _)| *reserved == key) {
                if call.reserved.is_empty() && !nowait && !call.regrown {
                    call.regrown = true;
                    self.regrow();
                }
                let none = call.reserved.len() == RESERVED || self.memory.fails();
                let entry = self.find_span(key).filter(|_| !none);
                let Some(entry) = entry else {
                    self.count(Event::NoSpan);
                    if nowait {
                        self.release_reserved(call);
                    }
                    if call.reserved.is_empty() {
                        return self.or_again(call, nowait);
                    }
                    self.count(Event::Pieces);
                    return Some(self.take_parts(call));
                };
                self.hold_entry(entry);
                call.reserved.push((key, entry));
            }
            // CAST: the simulated array is small.
            let within = (place.member_sector - sector) as u32;
            call.at = (call.at + self.geometry.span_sectors() - within).min(call.end);
            return Some(Step::Reserve);
        }
        Some(self.take_parts(call))
    }

    /// Gives back the spans that were taken hold of.
    fn release_reserved(&mut self, call: &mut Call) {
        for (_, entry) in std::mem::take(&mut call.reserved) {
            self.count(Event::Released);
            let part = SimPart {
                part: Part::new(PartKind::Read, Strips::NONE, 0, 0),
                owner: PartOwner::Nobody,
                strips: Strips::NONE,
                excused: false,
                seen_failed: Strips::NONE,
                at_work: Strips::NONE,
                since: Vec::new(),
            };
            let responsible = self.post_part(entry, part);
            self.release_entry(entry);
            if responsible {
                self.table.lanes.push_back(entry);
            }
        }
    }

    /// md_account_bio(): the bitmap takes note of a write. Waits for one of the clones that are kept if there is no memory; who
    /// has one may wait for spans, so this comes before those.
    fn account(&mut self, call: &mut Call, nowait: bool) -> Option<Step> {
        let request = self.requests.get(call.request);
        let writes = matches!(request.kind, Kind::Write | Kind::Discard);
        let flushes_first = request.preflush;
        if nowait && writes && self.bitmap.is_some() {
            return self.or_again(call, true);
        }
        if self.config.scarce_clones || self.memory.fails() {
            if self.md.clones == CLONES {
                self.count(Event::NoClone);
                return self.or_again(call, nowait);
            }
            self.md.clones += 1;
            self.requests.get_mut(call.request).clone = true;
        }
        if writes {
            self.note_in_bitmap(call);
        }
        if writes && flushes_first {
            // When the members have flushed, the array's thread posts it.
            self.count(Event::FlushedFirst);
            let parts = self.parts_of(call.request, call.start, call.end, call.sequence);
            self.post_later(call.request, parts);
            return Some(Step::Return);
        }
        Some(Step::Direct)
    }

    fn note_in_bitmap(&mut self, call: &mut Call) {
        let (start, sectors) = (u64::from(call.start), u64::from(call.end - call.start));
        let whole = self.degraded() == 0;
        let Some(bitmap) = &mut self.bitmap else {
            return;
        };
        let rows = self.geometry.bitmap_range(start, sectors);
        call.sequence = bitmap.start_write(&rows, whole);
        self.requests.get_mut(call.request).account = Some(Account {
            rows,
            parts: 1,
            sequence: call.sequence,
        });
        if call.sequence.is_none() {
            self.count(Event::BitmapKnown);
        }
    }

    /// The parts for as much as has spans.
    fn take_parts(&mut self, call: &mut Call) -> Step {
        for (key, part) in self.parts_of(call.request, call.start, call.at, call.sequence) {
            self.requests.account_more(call.request);
            match call.reserved.iter().find(|(reserved, _)| *reserved == key) {
                Some(&(_, entry)) => call.parts.push_back((entry, part)),
                None => self.fail("a span for each part", format!("none at {}", key.sector)),
            }
        }
        call.reserved.clear();
        call.regrown = false;
        call.start = call.at;
        Step::Post
    }

    /// Posts the next part. While there is a rest, lanes run the spans: bios on the list would not go out while it waits.
    fn post_next(&mut self, index: usize, call: &mut Call) -> Step {
        let Some((entry, mut part)) = call.parts.pop_front() else {
            return match call.at < call.end {
                true => Step::Reserve,
                false => Step::Return,
            };
        };
        // A plug that is full runs what it has, here, and what these send would not go out while the rest is waited for.
        let is_last = call.at == call.end;
        if let (PartKind::Write, true, Some(plug)) =
            (part.kind, is_last, &mut self.submitters[index].plug)
        {
            if part.end - part.start < self.geometry.stripe_sectors() {
                part.hold = Hold::Plug;
                let mut full = Vec::new();
                if plug.0.len() >= PLUGGED && !plug.0.contains(&entry) {
                    full = std::mem::take(&mut plug.0);
                }
                plug.0.push(entry);
                for held in full {
                    self.count(Event::PlugFull);
                    if self.table.post(held, Events::UNPLUG) {
                        self.run_span(held, Runner::Submitter(index));
                    }
                }
            }
        }
        if self.config.streams > 0 && part.kind == PartKind::Write {
            part.sequential = self.rng.chance(500);
        }
        if self.config.streams > 0 && part.kind == PartKind::Write && !part.fua {
            let whole = part.end % self.geometry.stripe_sectors() == 0;
            if !whole && self.rng.chance(self.config.streams) {
                part.hold = match part.hold {
                    Hold::Plug => Hold::PluggedStream,
                    _ => Hold::Stream,
                };
                part.packs = self.rng.chance(500);
            }
        }
        let part = SimPart::of_user(call.request, part);
        let responsible = self.post_part(entry, part);
        self.release_entry(entry);
        if !responsible {
            return Step::Post;
        }
        if call.at == call.end && self.rng.chance(self.config.inline) {
            return Step::Run(entry);
        }
        self.table.lanes.push_back(entry);
        Step::Post
    }

    /// The parts of a range, stripe by stripe, span by span.
    fn parts_of(
        &self,
        request: usize,
        start: u32,
        end: u32,
        sequence: Option<u32>,
    ) -> Vec<(SpanKey, Part)> {
        let request = self.requests.get(request);
        let kind = match request.kind {
            Kind::Read => PartKind::Read,
            Kind::Write | Kind::Flush => PartKind::Write,
            Kind::Discard => PartKind::Discard,
        };
        let mut parts = Vec::new();
        let (mut at, end) = (u64::from(start), u64::from(end));
        while at < end {
            let stripe_end = self.geometry.stripe_end(at).min(end);
            for sector in self.geometry.spans(at, stripe_end) {
                let strips = self.geometry.touched(sector, at, stripe_end);
                let mut part = Part::new(kind, strips, at, stripe_end);
                part.fua = request.fua;
                part.sync = request.sync;
                part.bitmap_seq = sequence;
                parts.push((
                    SpanKey {
                        sector,
                        generation: 0,
                    },
                    part,
                ));
            }
            at = stripe_end;
        }
        parts
    }

    /// Makes a span active on somebody's behalf.
    fn hold_entry(&mut self, entry: usize) {
        if self.table.activate(entry) {
            self.md.inflight += 1;
        }
        self.table.entries[entry].pins += 1;
    }

    /// Undoes [`Self::hold_entry`].
    fn release_entry(&mut self, entry: usize) {
        self.table.entries[entry].pins -= 1;
    }

    /// Posts a part, with all that it has to hold. Returns whether the caller is to run the span.
    pub(crate) fn post_part(&mut self, entry: usize, part: SimPart) -> bool {
        if let PartOwner::User(request) = part.owner {
            self.requests.hold(request);
            if changes(part.part.kind) {
                self.md.writes_pending += 1;
            }
        }
        if self.table.activate(entry) {
            self.md.inflight += 1;
        }
        self.table.entries[entry].posted.push(part);
        self.table.post(entry, Events::PARTS)
    }

    /// Leaves parts to a lane, which posts them when there are spans.
    fn post_later(&mut self, request: usize, parts: Vec<(SpanKey, Part)>) {
        for (key, part) in parts {
            self.requests.hold(request);
            self.requests.account_more(request);
            self.md.inflight += 1;
            if changes(part.kind) {
                self.md.writes_pending += 1;
            }
            self.unposted.push_back(Unposted {
                key,
                part: SimPart::of_user(request, part),
            });
        }
    }

    /// A lane posts some part that had to wait for a span. Returns false if it cannot.
    pub(crate) fn post_waiting(&mut self) -> bool {
        let Some(Unposted { key, part }) = self.unposted.pop_front() else {
            return false;
        };
        let found = (!self.memory.fails())
            .then(|| self.find_span(key))
            .flatten();
        let Some(entry) = found else {
            self.unposted.push_front(Unposted { key, part });
            return false;
        };
        let (owner, kind) = (part.owner, part.part.kind);
        if self.post_part(entry, part) {
            self.table.lanes.push_back(entry);
        }
        self.put_inflight();
        if changes(kind) {
            self.write_end();
        }
        if let PartOwner::User(request) = owner {
            self.put_request(request);
        }
        true
    }

    /// A read that went straight to its member has ended.
    pub(crate) fn end_direct(
        &mut self,
        request: usize,
        start: u32,
        data: Option<Vec<u64>>,
        op: Op,
    ) {
        if let Some(data) = data {
            for (sector, value) in (start..).zip(data) {
                self.requests.deliver(request, sector, value);
            }
        } else if let Op::Read { count, .. } = op {
            // The spans reconstruct it, answer, and write it again.
            self.count(Event::DirectFailed);
            let parts = self.parts_of(request, start, start + count, None);
            self.post_later(request, parts);
        }
        self.put_inflight();
        self.put_request(request);
    }

    /// The end of make_request.
    fn leave(&mut self, call: &Call) {
        self.account_part(call.request);
        if call.write_started {
            self.write_end();
        }
        if call.inside {
            self.put_inflight();
        }
        self.put_request(call.request);
    }
}

/// Whether a part of a request changes what the array holds.
pub(crate) fn changes(kind: PartKind) -> bool {
    matches!(kind, PartKind::Write | PartKind::Discard)
}

impl Call {
    fn new(request: usize, at: u32, end: u32) -> Self {
        Self {
            request,
            start: at,
            at,
            end,
            step: Step::Begin,
            reserved: Vec::new(),
            parts: VecDeque::new(),
            inside: false,
            write_started: false,
            sequence: None,
            regrown: false,
        }
    }
}

impl SimPart {
    fn of_user(request: usize, part: Part) -> Self {
        Self {
            strips: Strips::NONE,
            excused: false,
            seen_failed: Strips::NONE,
            at_work: Strips::NONE,
            since: Vec::new(),
            part,
            owner: PartOwner::User(request),
        }
    }
}
