// SPDX-License-Identifier: GPL-2.0

//! The jobs on pages: what each may use, and what it does.

use super::code::{Code, Slots, Words};
use super::env::World;
use super::md::strips_below;
use super::oracle::row_of;
use super::report::Event;
use super::request;
use super::table::{Kit, Kits, PartOwner, SimParts};
use super::Sim;
use crate::raid::column::Column;
use crate::raid::job::{Job, Method};
use crate::raid::part::{Part, PartKind};
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, SPAN_STRIPS, STRIP_SECTORS};

/// One sector copied between a request and a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(crate) request: usize,
    /// The array's sector.
    pub(crate) sector: u32,
    pub(crate) member: usize,
    /// Counted from the span's start.
    pub(crate) at: u32,
}

/// A job with all that it needs, so that it can be done later.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) job: Job,
    pub(crate) strips: Strips,
    code: Code,
    /// What is copied, in order, with the value for writes.
    pub(super) copies: Vec<(Copy, u64)>,
    /// The members whose blocks it makes, for each strip.
    pub(super) made: [Slots; SPAN_STRIPS as usize],
    /// Those whose blocks are not in memory.
    pub(super) absent: [Slots; SPAN_STRIPS as usize],
    /// The strips for which it is not done, by a fault of whoever runs jobs.
    pub(crate) undone: Strips,
    /// The strips at which an engine fails, or takes too long: they stay as they are, and it is done again.
    pub(crate) fails: Strips,
}

/// What has come of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Performed {
    /// The strips whose parity does not match.
    pub(crate) mismatch: Strips,
    /// The blocks that were found to be wrong.
    found: Vec<(usize, Strips)>,
}

impl Performed {
    /// Tells the span which blocks of `strips` were found to be wrong.
    pub(crate) fn mark(&self, strips: Strips, columns: &mut [Column]) {
        for &(member, found) in &self.found {
            columns[member].rebuild |= found & strips;
        }
    }
}

impl Work {
    pub(crate) fn new(
        job: Job,
        strips: Strips,
        code: &Code,
        copies: Vec<(Copy, u64)>,
        columns: &[Column],
    ) -> Self {
        let of = |strip: u32, set: fn(&Column) -> Strips| -> Slots {
            let has = |slot: &usize| set(&columns[*slot]).meets(Strips::one(strip));
            (0..columns.len()).filter(has).collect()
        };
        let mut made = [Slots::NONE; SPAN_STRIPS as usize];
        let mut absent = made;
        for strip in strips.iter() {
            made[strip as usize] = of(strip, |column| column.rebuild);
            absent[strip as usize] = of(strip, |column| !column.uptodate);
        }
        Self {
            job,
            strips,
            code: code.clone(),
            copies,
            made,
            absent,
            undone: Strips::NONE,
            fails: Strips::NONE,
        }
    }

    /// The part of it on `strips`.
    pub(crate) fn only(&self, strips: Strips) -> Self {
        let mut part = self.clone();
        part.strips &= strips;
        part.undone &= strips;
        part.fails &= strips;
        let here = |(copy, _): &(Copy, u64)| strips.meets(Strips::one(copy.at / STRIP_SECTORS));
        part.copies.retain(here);
        part
    }
}

impl World<'_> {
    /// What a job copies.
    pub(crate) fn copies_of(&self, job: Job, strips: Strips, parts: &SimParts) -> Vec<(Copy, u64)> {
        match job {
            Job::Write(_) => self.copies(PartKind::Write, strips, parts),
            Job::Deliver => self.copies(PartKind::Read, strips, parts),
            _ => Vec::new(),
        }
    }

    /// What the parts of `kind` at work on `strips` copy, in order.
    pub(crate) fn copies(
        &self,
        kind: PartKind,
        strips: Strips,
        parts: &SimParts,
    ) -> Vec<(Copy, u64)> {
        let geometry = self.sim.geometry;
        let stripe = geometry.stripe_of(self.key.sector);
        let mut copies = Vec::new();
        for part in &parts.list {
            let (part, PartOwner::User(request)) = (&part.part, part.owner) else {
                continue;
            };
            let at_work = part.active() & (strips - part.failed());
            if part.kind != kind || at_work.is_empty() {
                continue;
            }
            let id = self.sim.requests.id(request);
            for index in 0..geometry.data_disks() {
                let slice = geometry.slice(self.key.sector, part.start, part.end, index);
                let member = usize::from(geometry.member_of(stripe, index));
                let Some(column) = geometry.column_start(self.key.sector, index) else {
                    continue;
                };
                for at in slice {
                    if at_work.meets(Strips::one(at / STRIP_SECTORS)) {
                        // CAST: the simulated array is small.
                        let sector = (column + u64::from(at)) as u32;
                        let copy = Copy {
                            request,
                            sector,
                            member,
                            at,
                        };
                        copies.push((copy, request::value(id, sector)));
                    }
                }
            }
        }
        copies
    }

    /// Fails the run unless `member`'s block of each of `strips` is valid in memory.
    pub(crate) fn expect_uptodate(
        &mut self,
        job: Job,
        member: usize,
        strips: Strips,
        column: &Column,
    ) {
        let stale = strips - column.uptodate;
        if !stale.is_empty() {
            self.sim.fail(
                &format!("{job:?} to use only blocks that are in memory"),
                format!(
                    "it uses strips {stale:?} of member {member} in span {}",
                    self.key.sector
                ),
            );
        }
    }

    /// Whether the job finds everything as it must be.
    pub(crate) fn inspect(&mut self, job: Job, strips: Strips, columns: &[Column]) {
        for strip in strips.iter() {
            if self.kits[strip as usize].is_none() {
                self.sim.fail(
                    "a kit for each strip at work",
                    format!("{job:?} on strip {strip}: none"),
                );
            }
        }
        for (member, column) in columns.iter().enumerate() {
            let busy = (column.reads_pending() | column.writes_pending()) & strips;
            if !busy.is_empty() {
                self.sim.fail(
                    &format!("no member I/O in flight while {job:?} runs"),
                    format!("strips {busy:?} of member {member} are"),
                );
            }
            let is_parity = self.code.is_parity(member);
            let used = match job {
                Job::Write(Method::Rmw) if is_parity => strips & column.rebuild,
                Job::Write(Method::Rmw) => strips & column.dirty,
                Job::Write(Method::Rcw) if !is_parity => strips - column.full,
                Job::Write(Method::NoParity) => strips & (column.dirty - column.full),
                Job::Recover if !is_parity => strips - column.rebuild,
                // Parity that is lost cannot be compared.
                Job::Check if is_parity => strips - column.lost,
                Job::Parity | Job::Check if !is_parity => strips,
                Job::Locate => strips,
                _ => Strips::NONE,
            };
            self.expect_uptodate(job, member, used, column);
            self.inspect_made(job, strips, member, column);
        }
        for strip in strips.iter() {
            self.inspect_counts(job, strip, columns);
        }
    }

    /// Whether a member's blocks that the job is to make are such as it may make.
    fn inspect_made(&mut self, job: Job, strips: Strips, member: usize, column: &Column) {
        let made = strips & column.rebuild;
        let is_parity = self.code.is_parity(member);
        let (what, wrong) = match job {
            // Parity without a member to hold it is left out; other parity would be left behind.
            Job::Write(_) if is_parity => (
                "parity that is not lost to be made",
                strips - made - column.lost,
            ),
            Job::Recover => (
                "only blocks that are not in memory to be recovered",
                made & column.uptodate,
            ),
            Job::Parity if is_parity => {
                let wrong = self.mismatching(strips & column.uptodate, member);
                (
                    "the parity in memory that does not match, and no other, to be made",
                    (wrong - made) | (made - wrong),
                )
            }
            _ => ("no such block to be made", made),
        };
        if !wrong.is_empty() {
            self.sim.fail(
                &format!("{what} by {job:?}"),
                format!("strips {wrong:?} of member {member}: {column:?}"),
            );
        }
    }

    /// Where a parity block in memory does not match the data there.
    fn mismatching(&self, strips: Strips, parity: usize) -> Strips {
        let is_wrong = |strip: &u32| {
            let kit = self.kits[*strip as usize].as_ref();
            kit.is_some_and(|kit| self.code.is_wrong(kit, parity))
        };
        strips
            .iter()
            .filter(is_wrong)
            .fold(Strips::NONE, |all, strip| all | Strips::one(strip))
    }

    /// Where anything may go wrong, jobs fail now and then, and leave anything in memory.
    pub(crate) fn fail_some_job(&mut self, work: &mut Work) {
        // With parity left to compare a sync may have made lost blocks before that.
        let chance = if work.job == Job::Check { 60 } else { 2 };
        if !self.sim.config.reckless || !self.sim.troubles() || !self.sim.rng.chance(chance) {
            return;
        }
        let strips: Vec<_> = work.strips.iter().collect();
        let strip = strips[self.sim.rng.index(strips.len())];
        self.sim.count(Event::JobUndone);
        self.sim
            .note(|| format!("span {}: but not for strip {strip}", self.key.sector));
        let row = row_of(self.key, strip);
        self.sim.row_lossy(row);
        self.sim.rows[row].undone = true;
        work.undone = Strips::one(strip);
    }

    /// Whether the job is the one that the sync parts at work ask for.
    pub(crate) fn inspect_sync(
        &mut self,
        job: Job,
        strips: Strips,
        columns: &[Column],
        parts: &SimParts,
    ) {
        if !matches!(job, Job::Check | Job::Parity | Job::Locate) {
            return;
        }
        let asks = |part: &Part| match part.kind {
            PartKind::Sync { locate: true, .. } => part.active(),
            _ => Strips::NONE,
        };
        let asked = parts.list.iter().map(|entry| asks(&entry.part));
        let asked = asked.fold(Strips::NONE, |all, part| all | part);
        let lost = columns.iter().fold(Strips::NONE, |all, c| all | c.lost);
        // What a crash has left says nothing of which block is wrong.
        let trusted = strips_below(self.key, self.sim.md.trusted_below());
        let locatable = if self.code.parities() > 1 {
            strips & trusted & (asked - lost)
        } else {
            Strips::NONE
        };
        let (expected, wrong) = match job {
            Job::Check => {
                for strip in strips.iter() {
                    let row = row_of(self.key, strip);
                    self.sim.rows[row].to_locate = locatable.meets(Strips::one(strip));
                }
                return;
            }
            Job::Parity => (
                "the wrong block to be looked for before parity is made anew",
                locatable,
            ),
            _ => (
                "a wrong block to be looked for only if that is asked for, and no block is lost",
                strips - locatable,
            ),
        };
        if !wrong.is_empty() {
            self.sim.fail(
                expected,
                format!("{job:?} on strips {wrong:?} of span {}", self.key.sector),
            );
        }
    }

    /// Whether a strip has enough of what the job works with.
    fn inspect_counts(&mut self, job: Job, strip: u32, columns: &[Column]) {
        let one = Strips::one(strip);
        let of = |set: fn(&Column) -> Strips| -> Slots {
            let has = |slot: &usize| set(&columns[*slot]).meets(one);
            (0..columns.len()).filter(has).collect()
        };
        let parity = self.code.parity_slots();
        let (made, absent) = (of(|c| c.rebuild), of(|c| !c.uptodate));
        let absent_parity = parity.iter().filter(|&slot| absent.contains(slot)).count();
        let expected = match job {
            Job::Recover if made.is_empty() => "a lost block to recover",
            Job::Recover if made.and(absent).count() > self.code.parities() => {
                "no more blocks to be lost than parity can make up for"
            }
            Job::Check if absent_parity == self.code.parities() => "some parity to compare",
            Job::Parity if made.is_empty() => "some parity to make",
            Job::Locate if self.code.parities() < 2 => "two parities to locate with",
            _ => return,
        };
        self.sim.fail(
            expected,
            format!(
                "{job:?} on strip {strip} of span {}: makes {made:?}, not in memory {absent:?}",
                self.key.sector
            ),
        );
    }

    pub(crate) fn count_job(&mut self, strips: Strips, columns: &[Column], work: &Work) {
        let event = match work.job {
            Job::Write(Method::Rmw) => Event::Rmw,
            Job::Write(Method::Rcw) => {
                let data = columns
                    .iter()
                    .enumerate()
                    .filter(|(m, _)| !self.code.is_parity(*m));
                let full = data.fold(strips, |full, (_, column)| full & column.full);
                if !full.is_empty() {
                    self.sim.count(Event::FullStrip);
                }
                Event::Rcw
            }
            Job::Write(Method::NoParity) => Event::NoParity,
            Job::Recover => Event::Recover,
            Job::Deliver => Event::Deliver,
            Job::Check => Event::Check,
            Job::Parity => Event::Parity,
            Job::Locate => Event::Locate,
        };
        self.sim.count(event);
        self.count_parities(work);
        if matches!(work.job, Job::Write(_)) {
            let shared = |a: &(Copy, u64), b: &(Copy, u64)| {
                a.0.request != b.0.request && a.0.at / STRIP_SECTORS == b.0.at / STRIP_SECTORS
            };
            if work
                .copies
                .windows(2)
                .any(|pair| shared(&pair[0], &pair[1]))
            {
                self.sim.count(Event::Joined);
            }
        }
    }

    /// Counts what only happens with two parities.
    fn count_parities(&mut self, work: &Work) {
        let (p, Some(q)) = (self.code.p(), self.code.q()) else {
            return;
        };
        for strip in work.strips.iter() {
            let (made, absent) = (work.made[strip as usize], work.absent[strip as usize]);
            let event = match work.job {
                Job::Write(Method::Rmw | Method::Rcw) if !made.contains(p) => Event::WriteWithoutP,
                Job::Write(Method::Rmw | Method::Rcw) if !made.contains(q) => Event::WriteWithoutQ,
                Job::Check if absent.contains(p) => Event::CheckQ,
                Job::Check if absent.contains(q) => Event::CheckP,
                Job::Recover => match (made.count(), made.contains(p), made.contains(q)) {
                    (1, false, false) if absent.contains(p) => Event::RecoverByQ,
                    (2, false, false) => Event::RecoverTwoData,
                    (2, true, false) => Event::RecoverDataP,
                    (2, false, true) => Event::RecoverDataQ,
                    (2, true, true) => Event::RecoverPQ,
                    _ => continue,
                },
                _ => continue,
            };
            self.sim.count(event);
        }
    }
}

impl Sim {
    /// Whatever a job does to rows that were scribbled on.
    pub(crate) fn about_to(&mut self, key: SpanKey, work: &Work) {
        if self.silent.is_empty() {
            return;
        }
        for strip in work.strips.iter() {
            let row = row_of(key, strip);
            match work.job {
                Job::Write(Method::Rmw) => {
                    let copies = work.copies.iter().map(|(copy, _)| copy);
                    let here = copies.filter(|copy| copy.at / STRIP_SECTORS == strip);
                    let written: Vec<_> = here
                        .map(|copy| (copy.member, copy.at % STRIP_SECTORS))
                        .collect();
                    self.wrote_difference(row, &written);
                }
                Job::Write(_) | Job::Parity => self.lose_track(row),
                _ => {}
            }
        }
    }

    /// Does the work of a job.
    pub(crate) fn perform_job(&mut self, work: &Work, kits: &mut Kits) -> Performed {
        let mut performed = Performed::default();
        if work.job == Job::Deliver {
            for &(copy, _) in &work.copies {
                if (work.undone | work.fails).meets(Strips::one(copy.at / STRIP_SECTORS)) {
                    continue;
                }
                if let Some(kit) = kits[(copy.at / STRIP_SECTORS) as usize].as_ref() {
                    let value = kit[copy.member][(copy.at % STRIP_SECTORS) as usize];
                    self.requests.deliver(copy.request, copy.sector, value);
                }
            }
            return performed;
        }
        for &(copy, value) in &work.copies {
            if work.fails.meets(Strips::one(copy.at / STRIP_SECTORS)) {
                continue;
            }
            let strip = (copy.at / STRIP_SECTORS) as usize;
            let Some(kit) = kits[strip].as_mut() else {
                continue;
            };
            let at = (copy.at % STRIP_SECTORS) as usize;
            let old = std::mem::replace(&mut kit[copy.member][at], value);
            if work.job == Job::Write(Method::Rmw) {
                for parity in work.made[strip].iter() {
                    kit[parity][at] ^= work.code.effect(old ^ value, copy.member, parity);
                }
            }
        }
        for strip in (work.strips - work.fails).iter() {
            let Some(kit) = kits[strip as usize].as_mut() else {
                continue;
            };
            let (made, absent) = (work.made[strip as usize], work.absent[strip as usize]);
            let one = Strips::one(strip);
            if work.undone.meets(one) {
                kit.iter_mut().for_each(|block| block.fill(u64::MAX / 3));
                continue;
            }
            match work.job {
                Job::Write(Method::Rcw) | Job::Parity => work.code.remake(kit, made, made),
                Job::Recover => work.code.remake(kit, made, absent),
                Job::Check if !sectors(kit).all(|words| work.code.agree(&words, absent)) => {
                    performed.mismatch |= one;
                    let parities = work.code.parity_slots().iter();
                    let wrong = parities
                        .filter(|&slot| !absent.contains(slot) && work.code.is_wrong(kit, slot));
                    performed.found.extend(wrong.map(|slot| (slot, one)));
                }
                Job::Locate => {
                    let all: Vec<Words> = sectors(kit).collect();
                    if let Some(slot) = work.code.odd_one_out(&all) {
                        work.code.remake(kit, Slots::one(slot), Slots::one(slot));
                        performed.found.push((slot, one));
                    }
                }
                _ => {}
            }
        }
        performed
    }
}

impl Code {
    /// Whether a parity block of a strip does not match its data.
    fn is_wrong(&self, kit: &Kit, parity: usize) -> bool {
        sectors(kit).any(|mut words| {
            let is = words[parity];
            self.restore(&mut words, Slots::one(parity));
            words[parity] != is
        })
    }

    /// Makes the blocks `made` of a strip, which are among those that are `absent`, from the others.
    fn remake(&self, kit: &mut Kit, made: Slots, absent: Slots) {
        for at in 0..STRIP_SECTORS as usize {
            let mut words = sector(kit, at);
            self.restore(&mut words, absent);
            for slot in made.iter() {
                kit[slot][at] = words[slot];
            }
        }
    }
}

/// One sector of a strip.
fn sector(kit: &Kit, at: usize) -> Words {
    let mut words = Words::default();
    for (word, block) in words.iter_mut().zip(kit) {
        *word = block[at];
    }
    words
}

/// All sectors of a strip.
fn sectors(kit: &Kit) -> impl Iterator<Item = Words> + '_ {
    (0..STRIP_SECTORS as usize).map(|at| sector(kit, at))
}
