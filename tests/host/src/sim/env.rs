// SPDX-License-Identifier: GPL-2.0

//! The world as a span sees it during a step: the simulator's [`Env`], and the jobs on pages.

use super::report::Event;
use super::request;
use super::rng::mix;
use super::table::{Kit, Kits, Owed, PartOwner, SimParts};
use super::Sim;
use crate::raid::column::Column;
use crate::raid::geometry::Geometry;
use crate::raid::job::{Env, Job, Method, Outcome, RmwLevel};
use crate::raid::part::PartKind;
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, SPAN_STRIPS, STRIP_SECTORS};
use std::cell::Cell;

/// One sector copied between a request and a page.
#[derive(Clone, Copy, Debug)]
struct Copy {
    request: usize,
    /// The array's sector.
    sector: u32,
    member: usize,
    /// Counted from the span's start.
    at: u32,
}

/// A job with all that it needs, so that it can be done later.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) job: Job,
    pub(crate) strips: Strips,
    parity: usize,
    /// What is copied, in order, with the value for writes.
    copies: Vec<(Copy, u64)>,
    /// The member whose block is recovered, for each strip.
    targets: [usize; SPAN_STRIPS as usize],
}

/// A job that has been handed over and not ended.
#[derive(Debug)]
pub(crate) struct PendingJob {
    pub(crate) entry: usize,
    pub(crate) work: Work,
    /// It is done already, only nobody knows: its outcome.
    pub(crate) result: Option<Strips>,
}

/// The simulator's [`Env`] for one step of one span.
pub(crate) struct World<'a> {
    pub(crate) sim: &'a mut Sim,
    pub(crate) entry: usize,
    pub(crate) key: SpanKey,
    pub(crate) parity: usize,
    pub(crate) kits: &'a mut Kits,
    /// Strips that members were written at since the oracle looked at them.
    pub(crate) unchecked: &'a mut Strips,
    pub(crate) owed: &'a mut Vec<Owed>,
    /// A kit came free for this span: it may take one although others wait.
    pub(crate) granted: bool,
    /// Kits were given back.
    pub(crate) freed: bool,
    /// Questions until `victim` fails.
    pub(crate) fuse: Cell<u32>,
    pub(crate) victim: Option<usize>,
}

impl World<'_> {
    /// Time passes with each question: a member may fail between any two of them.
    fn tick(&self) {
        if let (Some(victim), fuse) = (self.victim, self.fuse.get()) {
            self.fuse.set(fuse.saturating_sub(1));
            if fuse == 1 {
                self.sim.md_error(victim);
            }
        }
    }

    /// What the parts of `kind` at work on `strips` copy, in order.
    fn copies(&self, kind: PartKind, strips: Strips, parts: &SimParts) -> Vec<(Copy, u64)> {
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
    fn expect_uptodate(&mut self, job: Job, member: usize, strips: Strips, column: &Column) {
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
    fn inspect(&mut self, job: Job, strips: Strips, columns: &[Column]) {
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
            let is_parity = member == self.parity;
            let used = match job {
                Job::Write(Method::Rmw) if is_parity => strips,
                Job::Write(Method::Rmw) => strips & column.dirty,
                Job::Write(Method::Rcw) if !is_parity => strips - column.full,
                Job::Write(Method::NoParity) => strips & (column.dirty - column.full),
                Job::Recover => strips - column.rebuild,
                Job::Check => strips,
                Job::Parity if !is_parity => strips,
                _ => Strips::NONE,
            };
            self.expect_uptodate(job, member, used, column);
        }
        let targets = columns
            .iter()
            .fold(0, |n, c| n + (c.rebuild & strips).count());
        if job == Job::Recover && targets != strips.count() {
            self.sim.fail(
                "one block of each strip to recover",
                format!("{targets} blocks of {} strips", strips.count()),
            );
        }
    }

    fn count_job(&mut self, job: Job, strips: Strips, columns: &[Column], work: &Work) {
        let event = match job {
            Job::Write(Method::Rmw) => Event::Rmw,
            Job::Write(Method::Rcw) => {
                let data = columns
                    .iter()
                    .enumerate()
                    .filter(|(m, _)| *m != self.parity);
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
            Job::Parity | Job::Locate => Event::Parity,
        };
        self.sim.count(event);
        if matches!(job, Job::Write(_)) {
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
}

impl Env for World<'_> {
    type Parts = SimParts;

    fn geometry(&self) -> &Geometry {
        &self.sim.geometry
    }

    fn readable(&self, member: usize) -> Strips {
        self.tick();
        self.sim.readable(member, self.key)
    }

    fn writable(&self, member: usize) -> Strips {
        self.tick();
        self.sim.writable(member, self.key)
    }

    fn parity_trusted(&self) -> Strips {
        super::md::strips_below(self.key, self.sim.md.resync_offset)
    }

    fn rmw_level(&self) -> RmwLevel {
        self.sim.md.rmw_level
    }

    fn failures_recorded(&self) -> bool {
        self.tick();
        self.sim.failures_recorded()
    }

    fn bitmap_flushed(&self, seq: u32) -> bool {
        self.sim
            .bitmap
            .as_ref()
            .is_none_or(|bitmap| bitmap.is_flushed(seq))
    }

    fn take_kits(&mut self, strips: Strips) -> Strips {
        if !self.granted && !self.sim.table.starved.is_empty() {
            return Strips::NONE;
        }
        let mut taken = Strips::NONE;
        for strip in strips.iter() {
            let Some((mut kit, evicted)) = self.sim.table.take_kit() else {
                self.sim.count(Event::NoKit);
                break;
            };
            if evicted {
                self.sim.count(Event::Evicted);
            }
            // What was in the pages before must not matter.
            let poison = self.sim.rng.bits();
            for (index, page) in (0..).zip(&mut kit) {
                *page = [mix(poison, index); 8];
            }
            if self.kits[strip as usize].replace(kit).is_some() {
                self.sim.fail(
                    "one kit for a strip",
                    format!("a second one for strip {strip}"),
                );
            }
            taken |= Strips::one(strip);
        }
        taken
    }

    fn give_kits(&mut self, strips: Strips) {
        self.freed |= !strips.is_empty();
        for strip in strips.iter() {
            match self.kits[strip as usize].take() {
                Some(kit) => self.sim.table.free_kits.push(kit),
                None => self
                    .sim
                    .fail("a kit to give back", format!("none of strip {strip}")),
            }
        }
    }

    fn run(
        &mut self,
        job: Job,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut SimParts,
    ) -> Outcome {
        self.inspect(job, strips, columns);
        // What was written before has come to rest, and the next write is still to come.
        self.sim.check_rows(self.key, *self.unchecked & strips);
        *self.unchecked -= strips;
        let copies = match job {
            Job::Write(_) => self.copies(PartKind::Write, strips, parts),
            Job::Deliver => self.copies(PartKind::Read, strips, parts),
            _ => Vec::new(),
        };
        for &(copy, _) in &copies {
            let column = &columns[copy.member];
            let strip = Strips::one(copy.at / STRIP_SECTORS);
            if job == Job::Deliver {
                self.expect_uptodate(job, copy.member, strip, column);
            } else if !column.dirty.meets(strip) {
                self.sim.fail(
                    "each written block to be marked dirty",
                    format!("strip {strip:?} of member {} is not", copy.member),
                );
            }
        }
        if job == Job::Recover {
            for (member, column) in columns.iter().enumerate() {
                let strips = strips & column.rebuild & column.read_error;
                let device = self.sim.member(member);
                if !strips.is_empty() {
                    self.owed.push(Owed {
                        member,
                        device,
                        strips,
                    });
                }
            }
        }
        let mut targets = [0; SPAN_STRIPS as usize];
        for strip in strips.iter() {
            let target = columns
                .iter()
                .position(|c| c.rebuild.meets(Strips::one(strip)));
            targets[strip as usize] = target.unwrap_or(0);
        }
        let work = Work {
            job,
            strips,
            parity: self.parity,
            copies,
            targets,
        };
        self.count_job(job, strips, columns, &work);
        self.sim
            .note(|| format!("span {}: {job:?} {strips:?}", self.key.sector));

        if !self.sim.rng.chance(self.sim.config.pending_jobs) {
            return Outcome::Done {
                mismatch: self.sim.perform_job(&work, self.kits),
            };
        }
        self.sim.count(Event::JobPending);
        // An engine may do the work at any time until it says so.
        let early = self.sim.rng.chance(500);
        let result = early.then(|| self.sim.perform_job(&work, self.kits));
        self.sim.jobs.push(PendingJob {
            entry: self.entry,
            work,
            result,
        });
        Outcome::Pending
    }

    fn mismatch(&mut self, strips: Strips) {
        self.sim.mismatch_found(self.key, strips);
    }

    fn located(&mut self, member: usize, strips: Strips) {
        self.sim.fail(
            "no wrong block to be looked for",
            format!("strips {strips:?} of member {member} were found wrong"),
        );
    }

    fn unlocated(&mut self, strips: Strips) {
        self.sim.fail(
            "no wrong block to be looked for",
            format!("none was found in strips {strips:?}"),
        );
    }

    fn corrected(&mut self, member: usize, strips: Strips) {
        self.sim.count(Event::Corrected);
        for owed in self.owed.iter_mut().filter(|owed| owed.member == member) {
            owed.strips -= strips;
        }
        if let Some(device) = self.sim.member(member) {
            for strip in strips.iter() {
                // CAST: the simulated members are small.
                let sector = self.key.sector as u32 + strip * STRIP_SECTORS;
                if self.sim.devices[device].is_bad(sector, STRIP_SECTORS) {
                    self.sim.fail(
                        "a corrected block to be readable again",
                        format!("member {member} still cannot read sector {sector}"),
                    );
                }
            }
        }
    }
}

impl Sim {
    /// Does the work of a job. Returns the strips that do not match, for a check.
    pub(crate) fn perform_job(&mut self, work: &Work, kits: &mut Kits) -> Strips {
        if work.job == Job::Deliver {
            for &(copy, _) in &work.copies {
                if let Some(kit) = kits[(copy.at / STRIP_SECTORS) as usize].as_ref() {
                    let value = kit[copy.member][(copy.at % STRIP_SECTORS) as usize];
                    self.requests.deliver(copy.request, copy.sector, value);
                }
            }
            return Strips::NONE;
        }
        for &(copy, value) in &work.copies {
            let Some(kit) = kits[(copy.at / STRIP_SECTORS) as usize].as_mut() else {
                continue;
            };
            let at = (copy.at % STRIP_SECTORS) as usize;
            let old = std::mem::replace(&mut kit[copy.member][at], value);
            if work.job == Job::Write(Method::Rmw) {
                kit[work.parity][at] ^= old ^ value;
            }
        }
        let mut mismatch = Strips::NONE;
        for strip in work.strips.iter() {
            let Some(kit) = kits[strip as usize].as_mut() else {
                continue;
            };
            match work.job {
                Job::Write(Method::Rcw) | Job::Parity => {
                    kit[work.parity] = xor_without(kit, work.parity)
                }
                Job::Recover => {
                    let target = work.targets[strip as usize];
                    kit[target] = xor_without(kit, target);
                }
                Job::Check if xor_without(kit, work.parity) != kit[work.parity] => {
                    mismatch |= Strips::one(strip);
                }
                _ => {}
            }
        }
        mismatch
    }
}

/// The XOR of all blocks of a strip but one.
fn xor_without(kit: &Kit, member: usize) -> [u64; 8] {
    let mut sum = [0; 8];
    for (index, block) in kit.iter().enumerate() {
        if index != member {
            for (sum, value) in sum.iter_mut().zip(block) {
                *sum ^= value;
            }
        }
    }
    sum
}
