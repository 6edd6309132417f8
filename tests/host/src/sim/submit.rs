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

/// Where a call of make_request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    WriteStart,
    SuperWait,
    Enter,
    Direct,
    /// Takes hold of the spans that it needs, as far as they are to be had.
    Reserve,
    /// Posts to those that it has got.
    Post,
    /// It is responsible for running the span in this table entry.
    Run(usize),
    Return,
}

/// One call of make_request.
#[derive(Debug)]
struct Call {
    request: usize,
    /// The rest of a request that was cut.
    is_rest: bool,
    /// Array sectors: all of it, up to where spans are reserved, and the end.
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
}

/// What waits on current->bio_list.
#[derive(Debug)]
enum Queued {
    Io(Io),
    /// The rest of a request: start and end.
    Rest {
        request: usize,
        at: u32,
        end: u32,
    },
}

/// A task that makes requests.
#[derive(Debug, Default)]
pub(crate) struct Submitter {
    call: Option<Call>,
    bios: VecDeque<Queued>,
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
        self.bios.push_back(Queued::Io(io));
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
        let io = |queued| match queued {
            Queued::Io(io) => Some(io),
            Queued::Rest { .. } => None,
        };
        self.bios.into_iter().filter_map(io).collect()
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
            .any(|queued| matches!(queued, Queued::Io(io) if !matches!(io.owner, Owner::UserFlush { .. })))
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
        self.submitters[index].call = Some(Call::new(request, start, start + len, false));
        true
    }

    /// make_request has returned: the first bio on the list is submitted, member bios before rests.
    fn submit_queued(&mut self, index: usize) {
        let bios = &mut self.submitters[index].bios;
        let first = bios
            .iter()
            .position(|queued| matches!(queued, Queued::Io(_)))
            .unwrap_or(0);
        match bios.remove(first) {
            Some(Queued::Io(io)) => {
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
            Some(Queued::Rest { request, at, end }) => {
                self.submitters[index].call = Some(Call::new(request, at, end, true));
            }
            None => {}
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
                if !call.is_rest {
                    if self.md.suspended {
                        return self.or_again(call, nowait);
                    }
                    self.md.active_io += 1;
                    if preflush {
                        self.flush_members(index, call.request);
                    }
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
                if nowait && (self.md.clean || self.md.change_pending.get()) && !call.is_rest {
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
                    return self.or_again(call, nowait && !call.is_rest);
                }
                self.md.inflight += 1;
                call.inside = true;
                Some(Step::Direct)
            }
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
    /// one is cut off.
    fn reserve(&mut self, call: &mut Call, nowait: bool) -> Option<Step> {
        if call.at < call.end {
            let place = self.geometry.locate(u64::from(call.at));
            let sector = self.geometry.span_of(place.member_sector);
            let key = SpanKey {
                sector,
                generation: 0,
            };
            if !call.reserved.iter().any(|(reserved, _)| *reserved == key) {
                let none = call.reserved.len() == RESERVED || self.memory.fails();
                let entry = self
                    .table
                    .find_or_place(key, &self.geometry)
                    .filter(|_| !none);
                let Some(entry) = entry else {
                    self.count(Event::NoSpan);
                    let nowait = nowait && !call.is_rest;
                    if nowait {
                        self.release_reserved(call);
                    }
                    if call.reserved.is_empty() {
                        return self.or_again(call, nowait);
                    }
                    return Some(self.account(call));
                };
                self.hold_entry(entry);
                call.reserved.push((key, entry));
            }
            // CAST: the simulated array is small.
            let within = (place.member_sector - sector) as u32;
            call.at = (call.at + self.geometry.span_sectors() - within).min(call.end);
            return Some(Step::Reserve);
        }
        if nowait && !call.is_rest && self.memory.fails() {
            // What md core accounts with is a clone, too.
            self.release_reserved(call);
            return self.or_again(call, true);
        }
        Some(self.account(call))
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

    /// md_account_bio() for as much as has spans; the parts for them. The rest becomes a request of its own, or is left
    /// to a lane.
    fn account(&mut self, call: &mut Call) -> Step {
        let (start, at) = (u64::from(call.start), u64::from(call.at));
        let left = call.end - call.at;
        let split = left > 0 && !self.config.keep_whole;
        let end = if split { at } else { u64::from(call.end) };
        let mut sequence = None;
        if matches!(
            self.requests.get(call.request).kind,
            Kind::Write | Kind::Discard
        ) {
            let whole = self.degraded() == 0;
            if let Some(bitmap) = &mut self.bitmap {
                let rows = self.geometry.bitmap_range(start, end - start);
                sequence = bitmap.start_write(&rows, whole);
                let own = self.parts_of(call.request, call.start, call.at, None);
                let later = match split {
                    true => Vec::new(),
                    false => self.parts_of(call.request, call.at, call.end, None),
                };
                let account = Account {
                    array: start..end,
                    rows,
                    parts: own.len() + later.len(),
                    sequence,
                };
                self.requests.get_mut(call.request).accounts.push(account);
                if sequence.is_none() {
                    self.count(Event::BitmapKnown);
                }
            }
        }
        for (key, part) in self.parts_of(call.request, call.start, call.at, sequence) {
            match call.reserved.iter().find(|(reserved, _)| *reserved == key) {
                Some(&(_, entry)) => call.parts.push_back((entry, part)),
                None => self.fail("a span for each part", format!("none at {}", key.sector)),
            }
        }
        if left > 0 && !split {
            self.count(Event::HandedToLane);
            let parts = self.parts_of(call.request, call.at, call.end, sequence);
            self.post_later(call.request, parts);
        }
        if split {
            // bio_submit_split_bioset(), after this one's member bios.
            self.count(Event::Split);
            self.requests.hold(call.request);
        }
        Step::Post
    }

    /// Posts the next part.
    fn post_next(&mut self, index: usize, call: &mut Call) -> Step {
        let Some((entry, mut part)) = call.parts.pop_front() else {
            if call.at < call.end && !self.config.keep_whole {
                let rest = Queued::Rest {
                    request: call.request,
                    at: call.at,
                    end: call.end,
                };
                self.submitters[index].bios.push_back(rest);
            }
            return Step::Return;
        };
        if let (PartKind::Write, Some(plug)) = (part.kind, &mut self.submitters[index].plug) {
            if part.end - part.start < self.geometry.stripe_sectors() {
                part.hold = Hold::Plug;
                plug.0.push(entry);
            }
        }
        if self.config.streams > 0 && part.kind == PartKind::Write && !part.fua {
            let whole = part.end % self.geometry.stripe_sectors() == 0;
            if !whole && self.rng.chance(self.config.streams) {
                part.hold = match part.hold {
                    Hold::Plug => Hold::PluggedStream,
                    _ => Hold::Stream,
                };
            }
        }
        let part = SimPart::of_user(call.request, part);
        let responsible = self.post_part(entry, part);
        self.release_entry(entry);
        if !responsible {
            return Step::Post;
        }
        if self.rng.chance(self.config.inline) {
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
            .then(|| self.table.find_or_place(key, &self.geometry))
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
    fn new(request: usize, at: u32, end: u32, is_rest: bool) -> Self {
        Self {
            request,
            is_rest,
            start: at,
            at,
            end,
            step: Step::Begin,
            reserved: Vec::new(),
            parts: VecDeque::new(),
            inside: false,
            write_started: false,
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
