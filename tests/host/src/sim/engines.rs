// SPDX-License-Identifier: GPL-2.0

//! Jobs that go on elsewhere: they end in any order, strip by strip, and fail, or are late, and are done again here.

use super::env::World;
use super::jobs::{Performed, Work};
use super::report::Event;
use super::table::{Events, SimParts};
use super::Sim;
use crate::raid::column::Column;
use crate::raid::strips::{Strips, STRIP_SECTORS};

/// A job that has been handed over and not ended.
#[derive(Debug)]
pub(crate) struct PendingJob {
    pub(crate) entry: usize,
    pub(crate) work: Work,
    /// It is done already, only nobody knows: its outcome.
    pub(crate) result: Option<Performed>,
}

/// A job that has ended, of which its span has not heard.
#[derive(Debug)]
pub(crate) struct EndedJob {
    pub(crate) work: Work,
    pub(crate) done: Performed,
}

impl Work {
    /// Whether another one does the same to a strip: reads, writes and copies the same blocks.
    fn does_as(&self, other: &Self, strip: u32) -> bool {
        let at = strip as usize;
        let copies = |work: &Self| {
            let here = work
                .copies
                .iter()
                .filter(|(copy, _)| copy.at / STRIP_SECTORS == strip);
            here.map(|(copy, value)| (copy.request, copy.sector, copy.member, copy.at, *value))
                .collect::<Vec<_>>()
        };
        self.made[at] == other.made[at]
            && self.absent[at] == other.absent[at]
            && copies(self) == copies(other)
    }
}

impl World<'_> {
    /// Takes in that a job has ended elsewhere, and does it here where it has failed or is late: whoever looks at the span by
    /// then must find the same job there. Returns the strips whose parity does not match.
    pub(crate) fn end_job(
        &mut self,
        ended: EndedJob,
        columns: &mut [Column],
        parts: &SimParts,
    ) -> Strips {
        let EndedJob { work, done } = ended;
        let (job, strips) = (work.job, work.strips);
        let copies = self.copies_of(job, strips, parts);
        let mut now = Work::new(job, strips, &self.code, copies, columns);
        if let Some(strip) = strips.iter().find(|&strip| !now.does_as(&work, strip)) {
            self.sim.fail(
                "a job that has ended to be what it was when it began",
                format!(
                    "strip {strip} of span {}: {work:?}, now {now:?}",
                    self.key.sector
                ),
            );
        }
        done.mark(strips - work.fails, columns);
        let mut mismatch = done.mismatch & (strips - work.fails);
        if !work.fails.is_empty() {
            self.sim.count(Event::JobAgain);
            self.inspect(job, work.fails, columns);
            now.undone = work.undone;
            let done = self.sim.perform_job(&now.only(work.fails), self.kits);
            done.mark(work.fails, columns);
            mismatch |= done.mismatch;
        }
        mismatch
    }
}

impl Sim {
    /// At which strips an engine that does a job fails.
    pub(crate) fn engine_fails(&mut self, strips: Strips) -> Strips {
        if !self.engine_rng.chance(self.config.failing_jobs) {
            return Strips::NONE;
        }
        let some = Strips(self.engine_rng.bits() as u16) & strips;
        if some.is_empty() {
            strips
        } else {
            some
        }
    }

    /// Some pending job ends. Returns false if there is none.
    pub(crate) fn end_some_job(&mut self) -> bool {
        if self.jobs.is_empty() {
            return false;
        }
        let index = self.rng.index(self.jobs.len());
        let job = self.jobs.swap_remove(index);
        let Some(mut actor) = self.table.entries[job.entry].actor.take() else {
            return false;
        };
        let done = match job.result {
            Some(done) => done,
            None => self.perform_job(&job.work, &mut actor.kits),
        };
        // The strips of a job go on each for itself.
        let entry = job.entry;
        let all = job.work.strips;
        let part = Strips(self.rng.bits() as u16) & all;
        let ended = if part.is_empty() { all } else { part };
        self.table.entries[job.entry].actor = Some(actor);
        self.note(|| {
            let of = job.work.job;
            format!("entry {}: {of:?} has ended for {ended:?}", job.entry)
        });
        let piece = EndedJob {
            work: job.work.only(ended),
            done: done.clone(),
        };
        self.table.entries[job.entry].jobs_ended.push(piece);
        if ended != all {
            self.count(Event::JobInPieces);
            let mut rest = job.work;
            rest.strips = all - ended;
            self.jobs.push(PendingJob {
                entry: job.entry,
                work: rest,
                result: Some(done),
            });
        }
        self.post(entry, Events::JOB);
        true
    }
}
