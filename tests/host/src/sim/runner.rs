// SPDX-License-Identifier: GPL-2.0

//! Running a span: take what has happened, step, hand out member I/O, give the span up.

use super::env::World;
use super::io::{Io, Op, Owner};
use super::oracle::row_of;
use super::report::Event;
use super::submit::changes;
use super::table::{Actor, Events, PartOwner, SimPart};
use super::Sim;
use crate::array::deferred::Comes;
use crate::array::queue::Pushed;
use crate::raid::job::Env;
use crate::raid::part::PartKind;
use crate::raid::phase::Phase;
use crate::raid::span::{SpanKey, Waits};
use crate::raid::strips::{Run, Strips};

/// Rounds after which a runner hands the span to a lane.
const ROUNDS: u32 = 4;

/// Who runs a span, and so where its member bios go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// A submitter inside make_request: bios wait on current->bio_list until that returns.
    Submitter(usize),
    /// Anybody else: bios go to the members at once.
    Lane,
}

impl Sim {
    /// Posts events to a span and, if nobody owns it, has it run by a lane.
    pub(crate) fn post(&mut self, entry: usize, events: Events) {
        if self.table.post(entry, events) {
            self.table.lanes.push_back(entry);
        }
    }

    /// A lane runs some span that was handed over. Returns false if there is none.
    pub(crate) fn run_lane(&mut self) -> bool {
        if self.table.lanes.is_empty() {
            return false;
        }
        // There are several lanes, so the order is not kept.
        let index = self.rng.index(self.table.lanes.len());
        let Some(entry) = self.table.lanes.remove(index) else {
            return false;
        };
        self.run_span(entry, Runner::Lane);
        true
    }

    /// Runs a span that the caller owns until nothing is new, or hands it to a lane.
    pub(crate) fn run_span(&mut self, entry: usize, runner: Runner) {
        for _ in 0..ROUNDS {
            self.round(entry, runner);
            if self.failed() || self.finish(entry) {
                return;
            }
        }
        self.count(Event::HandedOver);
        self.table.lanes.push_back(entry);
    }

    /// One round: everything that was posted, one step, and the member I/O that comes of it.
    fn round(&mut self, entry: usize, runner: Runner) {
        let slot = &mut self.table.entries[entry];
        let Some(mut actor) = slot.actor.take() else {
            self.fail(
                "one runner for a span at a time",
                format!("a second one for entry {entry}"),
            );
            return;
        };
        let events = std::mem::take(&mut slot.events);
        let posted = std::mem::take(&mut slot.posted);
        let jobs = std::mem::take(&mut slot.jobs_ended);
        let ended: Vec<_> = slot.ended.iter_mut().map(std::mem::take).collect();
        let elsewhere: Vec<_> = slot.elsewhere.iter_mut().map(std::mem::take).collect();
        let Some(key) = slot.key else {
            self.fail("a span with a place", format!("entry {entry} has none"));
            return;
        };
        actor.parts.list.extend(posted);
        if events.has(Events::FLUSH) {
            actor.span.release();
        } else if events.has(Events::UNPLUG) {
            actor.span.unplug();
        }
        for (member, strips) in elsewhere.into_iter().enumerate() {
            actor.span.owe_copy(&mut actor.columns, member, strips);
            self.note_owed(&mut actor, member, strips);
        }
        let victims = self.draw_victims();
        let code = self.code(row_of(key, 0)).clone();
        let Actor {
            span,
            columns,
            parts,
            kits,
            unchecked,
            owed,
            unheld,
            ..
        } = &mut *actor;
        let granted = self.table.is_granted(entry);
        let mut world = World {
            sim: self,
            entry,
            key,
            code,
            kits,
            unchecked,
            owed,
            granted,
            taken: false,
            freed: false,
            victims,
        };
        for (member, (good, bad)) in ended.into_iter().enumerate() {
            let copied = good & columns[member].copying();
            let mut unreadable = Strips::NONE;
            for (device, own) in world.sim.table.entries[entry].heirs[member].clone() {
                unreadable |= world.copied(member, device, copied & own);
                for strip in (copied & own).iter() {
                    let row = row_of(key, strip);
                    if world.sim.has_on(device, row) {
                        unheld[strip as usize].remove(member);
                    }
                }
            }
            // The block in memory is what was read.
            columns[member].uptodate -= unreadable;
            let (good, bad) = (good - unreadable, bad | unreadable);
            let written = good & columns[member].writing();
            if let (false, Some(device)) = (written.is_empty(), world.sim.member(member)) {
                for strip in written.iter() {
                    world.sim.clear_bad(device, row_of(key, strip));
                }
            }
            // A member that is being rebuilt has its block, though it does not count yet.
            for strip in written.iter() {
                unheld[strip as usize].remove(member);
            }
            for strip in (bad & columns[member].writing()).iter() {
                unheld[strip as usize].insert(member);
            }
            for (strips, ok) in [(good, true), (bad, false)] {
                if !strips.is_empty() {
                    span.io_done(columns, member, strips, ok, &mut world);
                }
            }
        }
        for ended in jobs {
            let (strips, undone) = (ended.work.strips, ended.work.undone);
            let mismatch = world.end_job(ended, columns, parts);
            span.job_done(strips, mismatch, undone, columns, parts, &mut world);
        }
        for (member, column) in columns.iter().enumerate() {
            world
                .sim
                .update_heirs(entry, member, column.copies_pending());
        }
        let had_failed = world.sim.has_failed();
        let before = span.phases().of(Phase::Writing);
        span.step(columns, parts, &mut world);
        if granted && !span.waits().memory {
            world.sim.table.end_grant(entry);
        }
        if world.sim.table.anybody_starves() {
            let shed = span.shed(columns);
            world.give_kits(shed);
        }
        let comes = match (granted, world.taken) {
            (false, _) => Comes::Anew,
            (true, true) => Comes::Again,
            (true, false) => Comes::InVain,
        };
        let (freed, has_all) = (world.freed, granted && !span.waits().memory);
        self.hear_of_failures();
        self.note(|| {
            format!(
                "span {}: {events:?} {}{}{} kits {:?} parts {}",
                key.sector,
                actor.show_phases(),
                actor.show_losses(),
                show_waits(actor.span.waits()),
                actor.span.kits(),
                actor.parts.list.len()
            )
        });
        self.inspect_actor(entry, &actor);
        self.check_awaited(key, &actor);
        if had_failed {
            let begun = actor.span.phases().of(Phase::Writing) - before;
            self.check_refused(key, &actor, begun);
        }
        self.check_owed(key, &mut actor);
        self.check_forgotten(&mut actor);
        self.check_acknowledged(key, &mut actor);
        self.excuse_failures(key, &mut actor.parts);
        self.check_settled(key, &mut actor);
        let writing = actor.span.phases().of(Phase::Writing);
        for part in std::mem::take(&mut actor.parts.done) {
            self.complete_part(key, &part, writing);
        }
        if has_all {
            self.look_for_kits();
        } else if freed {
            self.wake_starved();
        }
        self.pump(entry, &mut actor, runner);
        let starves = self.park(entry, &actor, comes);
        self.table.entries[entry].actor = Some(actor);
        let Some(pushed) = starves else {
            return;
        };
        // Some may have come free between the attempt and this; nobody would tell.
        let found = self.look_for_kits();
        if !found && (pushed == Pushed::First || comes != Comes::Anew) && self.table.shed_active() {
            self.wake_starved();
        }
    }

    /// Takes note of which device gets which copies: the one that is to replace the member when they are planned. If it has
    /// become the member since, it is found there; if it has failed, they are missed.
    fn update_heirs(&mut self, entry: usize, member: usize, pending: Strips) {
        let device = match self.md.replacements[member] {
            Some(_) => self.replacement(member),
            None => self.member(member),
        };
        let heirs = &mut self.table.entries[entry].heirs[member];
        let mut new = pending;
        for (_, strips) in heirs.iter_mut() {
            *strips &= pending;
            new -= *strips;
        }
        heirs.retain(|(_, strips)| !strips.is_empty());
        let Some(device) = device.filter(|_| !new.is_empty()) else {
            return;
        };
        match heirs.iter_mut().find(|(known, _)| *known == device) {
            Some((_, strips)) => *strips |= new,
            None => heirs.push((device, new)),
        }
    }

    /// Turns what the step wants read and written into member bios, as far as embedded bios are free and there is memory for
    /// long ones.
    fn pump(&mut self, entry: usize, actor: &mut Actor, runner: Runner) {
        let sector = actor.span.key().sector;
        for member in 0..actor.columns.len() {
            self.update_heirs(entry, member, actor.columns[member].copies_pending());
            while !self.table.entries[entry].bio_busy[member] {
                let (fua, discards) = (actor.span.fua(), actor.span.discards());
                let column = &mut actor.columns[member];
                let retry = &mut self.table.entries[entry].retry[member];
                let again = retry.iter().next().map(|first| Run { first, count: 1 });
                if let Some(run) = again {
                    *retry -= run.strips();
                }
                let (run, is_write) = match again.or_else(|| column.next_read()) {
                    Some(run) => (run, false),
                    None => {
                        let ready = column.copies_ready();
                        let mut heirs = self.table.entries[entry].heirs[member].iter();
                        let own = heirs.find(|(_, strips)| strips.meets(ready));
                        let of = own.map_or(ready, |(_, strips)| *strips);
                        let own = column.next_write(fua, discards);
                        match own.or_else(|| column.next_copy(of, fua, discards)) {
                            Some(run) => (run, true),
                            None => break,
                        }
                    }
                };
                // What is to be forgotten has no pages.
                let run = if is_write && discards.meets(run.strips()) {
                    run
                } else {
                    self.fit(run, column)
                };
                let is_copy = column.copying().meets(run.strips());
                // The member may have gone since the step looked.
                let strips = run.strips();
                let device = if is_copy {
                    self.count(Event::Copied);
                    let mut heirs = self.table.entries[entry].heirs[member].iter();
                    let device = heirs.find(|(_, own)| own.contains(strips)).map(|&(d, _)| d);
                    device.filter(|&d| !self.devices[d].faulty.get())
                } else if is_write {
                    self.member(member)
                } else {
                    let (at, count) = Self::run_sectors(sector, run);
                    self.reader(member, at, count)
                };
                let Some(device) = device else {
                    self.count(Event::NotIssued);
                    let slot = &mut self.table.entries[entry];
                    if !is_write && run.count > 1 {
                        // Perhaps not all of it is lost.
                        slot.retry[member] |= strips;
                        slot.again[member] |= strips;
                        continue;
                    }
                    slot.again[member] -= strips;
                    slot.ended[member].1 |= strips;
                    slot.events |= Events::IO;
                    continue;
                };
                let (at, count) = Self::run_sectors(sector, run);
                let op = if is_write {
                    let fua = fua.meets(strips);
                    if fua {
                        self.count(Event::Fua);
                    }
                    if discards.meets(strips) {
                        // What a member forgets it has as zeroes; if it fails to, zeroes are written.
                        self.count(Event::Discarded);
                        let key = actor.span.key();
                        for strip in strips.iter() {
                            // What was wrong before does not matter now.
                            self.lose_track(row_of(key, strip));
                            if let Some(kit) = &mut actor.kits[strip as usize] {
                                kit[member] = [0; 8];
                            }
                        }
                    }
                    let data = blocks(actor, member, run);
                    Op::Write {
                        sector: at,
                        data,
                        fua,
                    }
                } else {
                    Op::Read { sector: at, count }
                };
                if is_write {
                    self.check_write(member, strips, actor);
                    self.note_stored(actor.span.key(), strips, actor);
                    actor.unchecked |= strips;
                }
                if !is_write && self.md.replacements[member] == Some(device) {
                    self.count(Event::ReadReplacement);
                }
                self.table.entries[entry].bio_busy[member] = true;
                let io = self.new_io(device, op, Owner::Span { entry, member, run });
                self.issue(io, runner, entry, actor);
            }
        }
    }

    /// Hands a bio of the span that is being run to its device, or to the submitter's list.
    fn issue(&mut self, io: Io, runner: Runner, entry: usize, actor: &mut Actor) {
        match runner {
            Runner::Submitter(index) => self.submitters[index].queue_io(io),
            Runner::Lane if self.config.synchronous => {
                // It ends inside the submission, and the end needs the span's pages.
                let own = std::mem::replace(actor, Actor::empty());
                self.table.entries[entry].actor = Some(Box::new(own));
                self.dispatch(io);
                if let Some(own) = self.table.entries[entry].actor.take() {
                    *actor = *own;
                }
            }
            Runner::Lane => self.dispatch(io),
        }
    }

    /// A member's bio of a span has ended. Nothing may be done here but to tell the span.
    pub(crate) fn end_span_io(&mut self, entry: usize, member: usize, run: Run, io: Io, ok: bool) {
        let is_write = matches!(io.op, Op::Write { .. });
        let device = io.device;
        let words = Self::io_words(io);
        let slot = &mut self.table.entries[entry];
        slot.bio_busy[member] = false;
        let ended = &mut slot.ended[member];
        let first = run.strips() - slot.again[member];
        slot.again[member] -= run.strips();
        let mut failed_again = false;
        if ok {
            ended.0 |= run.strips();
        } else if is_write {
            ended.1 |= run.strips();
        } else {
            // Each is read once more, alone: others of the same bio are not to be taken for lost with it.
            ended.1 |= run.strips() - first;
            slot.again[member] |= first;
            slot.retry[member] |= first;
            failed_again = first.is_empty();
        }
        let mut changed = None;
        if let Some(actor) = slot.actor.as_deref_mut() {
            for (strip, words) in (run.first..).zip(words.chunks_exact(8)) {
                match &mut actor.kits[strip as usize] {
                    Some(kit) if is_write && kit[member][..] != *words => {
                        changed = Some(format!("strip {strip} of member {member} has changed"));
                    }
                    Some(kit) if !is_write => kit[member].copy_from_slice(words),
                    Some(_) => {}
                    None => changed = Some(format!("strip {strip} has no kit any more")),
                }
            }
        }
        if let Some(came) = changed {
            self.fail(
                "pages to stay as they are while a member works on them",
                came,
            );
        }
        if failed_again && self.md.replacements[member] == Some(device) {
            self.replacement_unreadable(entry, member, device, run);
        } else if failed_again {
            self.read_failed(entry, device, run);
        }
        self.post(entry, Events::IO);
    }

    /// A block cannot be read. If nothing can make up for it, that is recorded.
    fn read_failed(&mut self, entry: usize, device: usize, run: Run) {
        let in_sync = self.devices[device].in_sync.get();
        let hopeless = self.degraded() >= self.parities();
        let (true, true, Some(key)) = (hopeless, in_sync, self.table.entries[entry].key) else {
            return;
        };
        for strip in run.strips().iter() {
            self.record_bad(device, row_of(key, strip));
        }
    }

    /// A block cannot be read from a replacement, which is recorded. Perhaps the member has it.
    fn replacement_unreadable(&mut self, entry: usize, member: usize, device: usize, run: Run) {
        let Some(key) = self.table.entries[entry].key else {
            return;
        };
        for strip in run.strips().iter() {
            self.record_bad(device, row_of(key, strip));
        }
        if self.readable(member, key).contains(run.strips()) {
            self.count(Event::ReadInstead);
            let slot = &mut self.table.entries[entry];
            slot.ended[member].1 -= run.strips();
            slot.retry[member] |= run.strips();
            slot.elsewhere[member] |= run.strips();
        }
    }

    /// Gives a span up after a round. Returns false if something new has arrived: the caller still owns it.
    fn finish(&mut self, entry: usize) -> bool {
        let slot = &mut self.table.entries[entry];
        if slot.events != Events::NONE {
            return false;
        }
        slot.owned = false;
        let Some(actor) = slot.actor.as_deref() else {
            return true;
        };
        if slot.active && slot.pins == 0 && actor.span.is_idle() && actor.parts.list.is_empty() {
            let key = actor.span.key();
            let busy = slot.bio_busy.iter().any(|&busy| busy);
            if busy {
                self.fail(
                    "no member I/O of an idle span",
                    format!("some of span {}", key.sector),
                );
            }
            self.check_idle(entry);
            self.table.deactivate(entry);
            self.put_inflight();
            if self.table.anybody_starves() {
                // Its kits can be had now.
                self.look_for_kits();
            }
        }
        true
    }

    /// Puts a span on the lists of what it waits for. If it waits for kits, tells whether it is the only one there.
    fn park(&mut self, entry: usize, actor: &Actor, comes: Comes) -> Option<Pushed> {
        let waits = actor.span.waits();
        let starves = waits.memory.then(|| self.table.starve(entry, comes));
        if starves.is_some_and(|pushed| pushed != Pushed::Already) {
            self.count(Event::Starved);
        }
        if waits.superblock && !self.table.parked_super.contains(&entry) {
            self.count(Event::WaitsSuperblock);
            self.table.parked_super.push(entry);
        }
        if waits.bitmap.is_some() && !self.table.parked_bitmap.contains(&entry) {
            self.count(Event::WaitsBitmap);
            self.table.parked_bitmap.push(entry);
        }
        if waits.rest && !self.table.watched.contains(&entry) {
            self.count(Event::WaitsRest);
            self.table.watched.push(entry);
        }
        starves
    }

    /// Some of the spans that wait for the rest of a stream have waited for long enough. Returns false if there are none.
    pub(crate) fn look_at_streams(&mut self) -> bool {
        let watched = std::mem::take(&mut self.table.watched);
        let any = !watched.is_empty();
        for entry in watched {
            if self.rng.chance(300) {
                self.post(entry, Events::FLUSH);
            } else {
                self.table.watched.push(entry);
            }
        }
        any
    }

    /// An object for the span at `key`, if there is one. The kits that come free by that are for those who wait.
    pub(crate) fn find_span(&mut self, key: SpanKey) -> Option<usize> {
        let found = self.table.find_or_place(key, &self.geometry);
        self.wake_starved();
        found
    }

    /// Somebody who waits is told if there is a kit for him, also one of an inactive span. Returns whether there is one.
    fn look_for_kits(&mut self) -> bool {
        let found = self.table.is_any_left() || self.table.anybody_lacks() && self.table.reclaim();
        if found {
            self.wake_starved();
        }
        found
    }

    /// The first span that waits for kits is told to try.
    pub(crate) fn wake_starved(&mut self) {
        let (first, expected) = self.table.next_starved();
        if first != expected {
            self.fail(
                &format!("span object {expected:?} to be told first, of those that wait for kits"),
                format!("{first:?} is"),
            );
        }
        if let Some(entry) = first {
            self.post(entry, Events::MEMORY);
        }
    }

    /// A part is complete; other work on strips of `writing` has begun since.
    fn complete_part(&mut self, key: SpanKey, part: &SimPart, writing: Strips) {
        let failed = part.part.failed();
        if !part.part.is_complete() {
            self.fail(
                "a part to be completed when all of its strips are done",
                format!("{:?} in span {} is not", part.part, key.sector),
            );
        }
        match part.owner {
            PartOwner::User(request) => {
                if !failed.is_empty() {
                    self.note(|| {
                        format!(
                            "span {}: strips {failed:?} of a part have failed",
                            key.sector
                        )
                    });
                    self.requests.refuse(request);
                    let knows = |d: usize, strip| self.devices[d].knows_bad(row_of(key, strip));
                    let known = self
                        .all_members()
                        .any(|d| failed.iter().any(|strip| knows(d, strip)));
                    if part.part.kind == PartKind::Read && known {
                        self.count(Event::BadRefused);
                    }
                    if part.excused || self.md.broken.get() {
                        self.requests.get_mut(request).may_fail = true;
                    }
                }
                if changes(part.part.kind) {
                    self.account_part(request);
                    self.write_end();
                }
                self.put_request(request);
            }
            PartOwner::Sync => self.sync_part_done(key, part, writing),
            PartOwner::Nobody => {}
        }
    }

    /// What must hold after every step.
    fn inspect_actor(&mut self, entry: usize, actor: &Actor) {
        let span = &actor.span;
        let held = (0..).zip(&actor.kits).filter(|(_, kit)| kit.is_some());
        let held = held.fold(Strips::NONE, |all, (strip, _)| all | Strips::one(strip));
        if held != span.kits() {
            let came = format!(
                "entry {entry} holds {held:?}, its span says {:?}",
                span.kits()
            );
            self.fail("a span to know its kits", came);
        }
        let busy = span.phases().busy();
        let idle = span.held_while_parked();
        if !idle.is_empty() {
            let came = format!("span {} holds {idle:?}", span.key().sector);
            self.fail(
                "a starved span to hold nothing that another one needs",
                came,
            );
        }
        for (member, column) in actor.columns.iter().enumerate() {
            let at_work = column.wanted
                | column.dirty
                | column.full
                | column.modified
                | column.rebuild
                | column.lost
                | column.read_error
                | column.failed
                | column.copies_pending()
                | column.reads_pending()
                | column.writes_pending();
            let left = (at_work - busy) | (column.uptodate - span.kits());
            if !left.is_empty() {
                let came = format!("strips {left:?} of member {member}: {column:?}");
                self.fail("nothing left of the work on an idle strip", came);
            }
        }
        if !span.kits().contains(busy) {
            self.fail(
                "a kit for each strip at work",
                format!(
                    "span {}: {busy:?} work, {:?} have kits",
                    span.key().sector,
                    span.kits()
                ),
            );
        }
    }
}

impl Actor {
    fn empty() -> Self {
        Self {
            span: crate::raid::span::Span::new(),
            columns: Vec::new(),
            parts: super::table::SimParts::default(),
            kits: super::table::Kits::default(),
            unchecked: Strips::NONE,
            owed: Vec::new(),
            stored: Strips::NONE,
            unheld: Default::default(),
        }
    }

    /// The blocks that are not on their members.
    fn show_losses(&self) -> String {
        let mut text = String::new();
        for (member, column) in self.columns.iter().enumerate() {
            for (what, strips) in [
                ("lost", column.lost),
                ("read error", column.read_error),
                ("failed", column.failed),
            ] {
                if !strips.is_empty() {
                    text += &format!("[{what} {member}: {strips:?}] ");
                }
            }
        }
        text
    }

    /// The strips of each phase that has any.
    fn show_phases(&self) -> String {
        let mut text = String::new();
        for phase in Phase::ALL {
            let strips = self.span.phases().of(phase);
            if phase != Phase::Idle && !strips.is_empty() {
                text += &format!("{phase:?} {strips:?} ");
            }
        }
        text
    }
}

fn show_waits(waits: Waits) -> String {
    let mut text = String::new();
    if waits.memory {
        text += "waits for kits ";
    }
    if waits.superblock {
        text += "waits for the superblock ";
    }
    if let Some(flush) = waits.bitmap {
        text += &format!("waits for flush {flush} ");
    }
    text
}

/// The blocks of `run` in memory.
fn blocks(actor: &Actor, member: usize, run: Run) -> Vec<u64> {
    let mut words = Vec::with_capacity(run.count as usize * 8);
    for strip in run.strips().iter() {
        match &actor.kits[strip as usize] {
            Some(kit) => words.extend(kit[member]),
            None => words.extend([0; 8]),
        }
    }
    words
}
