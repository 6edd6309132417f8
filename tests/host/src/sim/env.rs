// SPDX-License-Identifier: GPL-2.0

//! The world as a span sees it during a step: the simulator's [`Env`].

use super::code::Code;
use super::engines::PendingJob;
use super::jobs::Work;
use super::oracle::row_of;
use super::report::Event;
use super::rng::mix;
use super::table::{Kits, Owed, SimParts};
use super::Sim;
use crate::raid::column::Column;
use crate::raid::count::Count;
use crate::raid::geometry::Geometry;
use crate::raid::job::{Env, Job, Outcome, Replacement, RmwLevel};
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, STRIP_SECTORS};
use std::cell::Cell;

/// The simulator's [`Env`] for one step of one span.
pub(crate) struct World<'a> {
    pub(crate) sim: &'a mut Sim,
    pub(crate) entry: usize,
    pub(crate) key: SpanKey,
    pub(crate) code: Code,
    pub(crate) kits: &'a mut Kits,
    /// Strips that members were written at since the oracle looked at them.
    pub(crate) unchecked: &'a mut Strips,
    pub(crate) owed: &'a mut Vec<Owed>,
    /// A kit came free for this span: it may take one although others wait.
    pub(crate) granted: bool,
    /// It has taken one.
    pub(crate) taken: bool,
    /// Kits were given back.
    pub(crate) freed: bool,
    /// Members that fail in the middle of this step, and after how many questions.
    pub(crate) victims: Vec<(Cell<u32>, usize)>,
}

impl World<'_> {
    /// A member's blocks have been written to the device that is to replace it. Where it could not be read before it is read now: it
    /// fails if it still cannot be. Returns the strips for which that is so.
    pub(crate) fn copied(&mut self, member: usize, device: usize, strips: Strips) -> Strips {
        let mut unreadable = Strips::NONE;
        for strip in strips.iter() {
            let row = row_of(self.key, strip);
            if self.sim.devices[device].knows_bad(row) && self.sim.is_bad_on(device, row) {
                unreadable |= Strips::one(strip);
            } else {
                self.sim.clear_bad(device, row);
            }
        }
        if !unreadable.is_empty() {
            self.sim.count(Event::CopyUnreadable);
            self.sim.fail_device(device);
        }
        let strips = strips - unreadable;
        let owed = (self.owed.iter_mut()).filter(|owed| owed.is_copy && owed.member == member);
        for owed in owed.filter(|owed| owed.device == Some(device)) {
            if owed.strips.meets(strips) {
                self.sim.count(Event::CopiedBack);
            }
            owed.strips -= strips;
        }
        unreadable
    }

    /// Time passes with each question: a member may fail between any two of them.
    fn tick(&self) {
        for (fuse, victim) in &self.victims {
            let left = fuse.get();
            fuse.set(left.saturating_sub(1));
            if left == 1 {
                self.sim.md_error(*victim);
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

    fn replacement(&self, member: usize) -> Option<Replacement> {
        self.tick();
        self.sim.replacement_at(member, self.key)
    }

    fn parity_known(&self) -> Strips {
        super::md::strips_below(self.key, self.sim.md.resync_offset)
    }

    fn parity_trusted(&self) -> Strips {
        super::md::strips_below(self.key, self.sim.md.trusted_below())
    }

    fn rmw_level(&self) -> RmwLevel {
        self.sim.md.rmw_level
    }

    fn failures_recorded(&self) -> bool {
        self.tick();
        self.sim.failures_recorded()
    }

    fn array_failed(&self) -> bool {
        // No time passes: seeds that are kept do what they did before this was asked.
        self.sim.has_failed()
    }

    fn bitmap_flushed(&self, seq: u32) -> bool {
        self.sim
            .bitmap
            .as_ref()
            .is_none_or(|bitmap| bitmap.is_flushed(seq))
    }

    fn take_kits(&mut self, strips: Strips) -> Strips {
        if !self.granted && self.sim.table.anybody_starves() {
            return Strips::NONE;
        }
        let mut taken = Strips::NONE;
        for strip in strips.iter() {
            let found = (!self.sim.memory.fails())
                .then(|| self.sim.table.take_kit())
                .flatten();
            let Some((mut kit, evicted)) = found else {
                self.sim.count(Event::NoKit);
                break;
            };
            if evicted {
                self.sim.count(Event::Evicted);
                // There may be more than one.
                self.freed = true;
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
            self.taken = true;
        }
        taken
    }

    fn give_kits(&mut self, strips: Strips) {
        self.freed |= !strips.is_empty();
        for strip in strips.iter() {
            match self.kits[strip as usize].take() {
                Some(kit) => {
                    self.sim.table.give(kit);
                }
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
        self.inspect_sync(job, strips, columns, parts);
        // What was written before has come to rest, and the next write is still to come.
        self.sim.check_rows(self.key, *self.unchecked & strips);
        *self.unchecked -= strips;
        let copies = self.copies_of(job, strips, parts);
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
                        is_copy: false,
                    });
                }
            }
        }
        let mut work = Work::new(job, strips, &self.code, copies, columns);
        self.fail_some_job(&mut work);
        self.count_job(strips, columns, &work);
        self.sim.about_to(self.key, &work);
        self.sim
            .note(|| format!("span {}: {job:?} {strips:?}", self.key.sector));

        // An engine takes memory; the CPU needs none.
        let by_engine =
            self.sim.rng.chance(self.sim.config.pending_jobs) && !self.sim.memory.fails();
        if !by_engine {
            let done = self.sim.perform_job(&work, self.kits);
            done.mark(strips, columns);
            return Outcome::Done {
                mismatch: done.mismatch,
                undone: work.undone,
            };
        }
        self.sim.count(Event::JobPending);
        work.fails = self.sim.engine_fails(strips);
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

    fn count(&mut self, _what: Count, _n: u32) {
        // Statistics are checked where there are real requests: tests/guest/counters.py.
    }

    fn mismatch(&mut self, strips: Strips) {
        self.sim.mismatch_found(self.key, strips);
    }

    fn located(&mut self, member: usize, strips: Strips) {
        self.sim.block_located(self.key, member, strips);
    }

    fn unlocated(&mut self, strips: Strips) {
        self.sim.not_located(self.key, strips);
    }

    fn not_synced(&mut self, member: usize, strips: Strips) {
        self.sim.rebuild_failed(self.key, member, strips);
    }

    fn corrected(&mut self, member: usize, strips: Strips) {
        self.sim.count(Event::Corrected);
        for owed in self.owed.iter_mut() {
            if owed.member == member && !owed.is_copy {
                owed.strips -= strips;
            }
        }
        if let Some(device) = self.sim.member(member) {
            for strip in strips.iter() {
                // CAST: the simulated members are small.
                let sector = self.key.sector as u32 + strip * STRIP_SECTORS;
                let row = &mut self.sim.rows[row_of(self.key, strip)];
                let late = row.spoiled_late.contains(member);
                row.spoiled_late.remove(member);
                if !late && self.sim.devices[device].is_bad(sector, STRIP_SECTORS) {
                    self.sim.fail(
                        "a corrected block to be readable again",
                        format!("member {member} still cannot read sector {sector}"),
                    );
                }
            }
        }
    }
}
