// SPDX-License-Identifier: GPL-2.0

//! The work on accepted strips, phase by phase, from the first read to the last write.

use super::accept::strips_of;
use super::column::Column;
use super::count::Count;
use super::job::{Env, Job, Method, Outcome};
use super::part::{PartKind, Parts};
use super::phase::Phase;
use super::plan::{Need, Plan, Strip, WriteRules};
use super::span::Span;
use super::strips::Strips;

/// Blocks that a strip needs, when it is first planned.
#[derive(Default)]
struct Cached {
    hits: u32,
    misses: u32,
}

/// Strips that came out of planning alike.
#[derive(Default)]
struct Groups {
    recover: Strips,
    rmw: Strips,
    rcw: Strips,
    no_parity: Strips,
    deliver: Strips,
    check: Strips,
    store: Strips,
    impossible: Strips,
}

impl Span {
    /// Freezes gathering strips that are not held, and those that are full, unless those beside them are about to be: no more
    /// writes join them.
    pub(super) fn start(&mut self, columns: &[Column]) {
        let gathering = self.phases.of(Phase::Gathering);
        if gathering.is_empty() {
            return;
        }
        let mut full = gathering;
        for (member, column) in columns.iter().enumerate() {
            if self.roles.is_data(member) {
                full &= column.full;
            }
            if full.is_empty() {
                break;
            }
        }
        // A member has one bio in a span: if the first full strip went alone, all others would wait until that has ended.
        let rest = self.held - full;
        let packed = if rest.is_empty() {
            Strips::NONE
        } else {
            self.held & self.packing
        };
        let start = (gathering - self.held) | (full - packed);
        self.held -= start;
        self.whole |= full & start;
        self.phases.advance(start, Phase::Gathering, Phase::Reading);
    }

    /// Plans the strips whose reads have ended, and runs what can be run.
    pub(super) fn plan<E: Env>(
        &mut self,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        let reading = self.phases.of(Phase::Reading);
        if reading.is_empty() {
            return;
        }
        let pending = columns
            .iter()
            .fold(Strips::NONE, |all, column| all | column.reads_pending());
        let mut ready = reading - pending;
        if ready.meets(self.discards) {
            ready -= self.discard(ready & self.discards, columns);
        }
        if ready.is_empty() {
            return;
        }
        for (member, column) in columns.iter_mut().enumerate() {
            // A member that was being rebuilt may be in sync by now. No sync went over these strips since they were
            // accepted, so its blocks of them had been rebuilt before.
            let lost = column.lost & ready;
            if !lost.is_empty() {
                column.lost -= (lost & env.readable(member)) - column.read_error;
            }
        }
        let planned = ready & (self.writes | self.syncs);
        if !planned.is_empty() {
            // Asked once, so that planning and what follows from it agree.
            for (member, column) in columns.iter_mut().enumerate() {
                if !self.roles.is_data(member) || planned.meets(self.syncs) {
                    column.storable =
                        (column.storable - planned) | (storable(env, member) & planned);
                }
            }
            let replace = planned & self.replace;
            if !replace.is_empty() {
                for (member, column) in columns.iter_mut().enumerate() {
                    let lacks = env.replacement(member).map(|r| r.takes - r.holds);
                    column.outdated =
                        (column.outdated - replace) | (lacks.unwrap_or(Strips::NONE) & replace);
                }
            }
        }
        let mut groups = Groups::default();
        for index in ready.iter() {
            self.plan_strip(Strips::one(index), columns, env, &mut groups);
        }
        self.planned |= ready;
        self.run_recover(groups.recover, columns, parts, env);
        self.run_write(Method::Rmw, groups.rmw, columns, parts, env);
        self.run_write(Method::Rcw, groups.rcw, columns, parts, env);
        self.run_write(Method::NoParity, groups.no_parity, columns, parts, env);
        self.run_deliver(groups.deliver, columns, parts, env);
        self.run_check(groups.check, columns, parts, env);

        let store = groups.store & any_modified(columns);
        self.phases.advance(store, Phase::Reading, Phase::Logging);
        self.phases
            .advance(groups.store - store, Phase::Reading, Phase::Done);
        let impossible = groups.impossible;
        self.failed |= impossible;
        // What is in memory for members all the same, and for their replacements, is not lost with the rest.
        let some = impossible & any_to_store(columns);
        self.phases.advance(some, Phase::Reading, Phase::Logging);
        self.phases
            .advance(impossible - some, Phase::Reading, Phase::Done);
    }

    /// Has every member forget its blocks of `strips`, and returns these. Parity of zeroes is zeroes, so nothing is read.
    fn discard(&mut self, strips: Strips, columns: &mut [Column]) -> Strips {
        for column in columns {
            column.modified |= strips;
        }
        self.phases.advance(strips, Phase::Reading, Phase::Logging);
        strips
    }

    /// Plans one strip: asks for reads, or puts it into the group that it goes on with.
    fn plan_strip<E: Env>(
        &self,
        strip: Strips,
        columns: &mut [Column],
        env: &mut E,
        groups: &mut Groups,
    ) {
        let view = Strip {
            columns: &*columns,
            roles: self.roles,
            strip,
        };
        let plan = if self.writes.meets(strip) {
            view.plan_write(WriteRules {
                parity_known: env.parity_known().meets(strip),
                rmw_level: env.rmw_level(),
                sequential: self.sequential.meets(strip),
            })
        } else if self.syncs.meets(strip) {
            view.plan_sync()
        } else {
            view.plan_read()
        };
        let mut cached = Cached::default();
        match plan {
            Plan::Read(need) => cached = self.ask_for(need, strip, columns),
            Plan::Recover => groups.recover |= strip,
            Plan::Write(Method::Rmw) => groups.rmw |= strip,
            Plan::Write(Method::Rcw) => groups.rcw |= strip,
            Plan::Write(Method::NoParity) => groups.no_parity |= strip,
            Plan::Deliver => groups.deliver |= strip,
            Plan::Check => groups.check |= strip,
            Plan::Store => groups.store |= strip,
            Plan::Impossible => groups.impossible |= strip,
        }
        if (self.planned | self.syncs | self.whole).meets(strip) {
            return;
        }
        if cached.misses == 0 {
            cached.hits = self.cached(plan, strip, columns);
        }
        env.count(Count::CacheHits, cached.hits);
        env.count(Count::CacheMisses, cached.misses);
    }

    /// Has the needed blocks of `strip` read that are not in memory and can be read. Returns how many are in memory and how
    /// many are not.
    fn ask_for(&self, need: Need, strip: Strips, columns: &mut [Column]) -> Cached {
        let mut cached = Cached::default();
        for (member, column) in columns.iter_mut().enumerate() {
            if need.includes(column, self.roles, member, strip) {
                let missing = strip - column.uptodate - column.lost;
                column.read |= missing;
                cached.misses += u32::from(!missing.is_empty());
                cached.hits += u32::from(column.uptodate.meets(strip));
            }
        }
        cached
    }

    /// How many blocks in memory save a strip a read, whose plan is to read none.
    fn cached(&self, plan: Plan, strip: Strips, columns: &[Column]) -> u32 {
        let saves = |(member, column): &(usize, &Column)| {
            let needed = match plan {
                Plan::Write(Method::Rmw) => {
                    column.dirty.meets(strip) || !self.roles.is_data(*member)
                }
                Plan::Write(Method::Rcw) => {
                    self.roles.is_data(*member) && !column.full.meets(strip)
                }
                Plan::Write(Method::NoParity) => (column.dirty - column.full).meets(strip),
                Plan::Deliver => column.wanted.meets(strip),
                _ => true,
            };
            needed && column.uptodate.meets(strip)
        };
        let found = columns.iter().enumerate().filter(saves).count();
        // CAST: there are no more members than a u16 counts.
        found as u32
    }

    /// Computes the lost blocks of each of `strips`: those of data, and those of parity that are to be written: in a sync
    /// all that can be, for readers what could not be read.
    fn run_recover<E: Env>(
        &mut self,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        if strips.is_empty() {
            return;
        }
        for (member, column) in columns.iter_mut().enumerate() {
            let mut made = strips & (column.lost - column.uptodate);
            if !self.roles.is_data(member) {
                made &= (self.syncs & column.storable) | (column.read_error - self.writes);
            }
            column.rebuild |= made;
        }
        self.recovering |= strips;
        self.phases
            .advance(strips, Phase::Reading, Phase::Computing);
        if let Outcome::Done { undone, .. } = env.run(Job::Recover, strips, columns, parts) {
            let strips = self.without(undone, strips, columns);
            self.recovered(strips, columns, env);
        }
    }

    /// The lost blocks of `strips` are in memory; what comes next is planned anew.
    pub(super) fn recovered<E: Env>(&mut self, strips: Strips, columns: &mut [Column], env: &E) {
        self.recovering -= strips;
        for (member, column) in columns.iter_mut().enumerate() {
            let rebuilt = column.rebuild & strips;
            column.rebuild -= rebuilt;
            column.uptodate |= rebuilt;
            // A block whose read failed is mended by writing it; a member being rebuilt gets it from a sync alone.
            column.modified |= rebuilt & (column.read_error | (self.syncs & storable(env, member)));
        }
        self.phases
            .advance(strips, Phase::Computing, Phase::Reading);
    }

    /// Copies in the written data of `strips` and makes parity.
    fn run_write<E: Env>(
        &mut self,
        method: Method,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        if strips.is_empty() {
            return;
        }
        let what = match method {
            Method::Rmw => Count::StripsRmw,
            Method::Rcw => Count::StripsRcw,
            Method::NoParity => Count::StripsDataOnly,
        };
        let whole = strips & self.whole;
        if !whole.is_empty() {
            env.count(Count::StripsFull, whole.count());
        }
        if strips != whole {
            env.count(what, (strips - whole).count());
        }
        if method != Method::NoParity {
            for (member, column) in columns.iter_mut().enumerate() {
                if !self.roles.is_data(member) {
                    // Parity that nobody can hold is not made.
                    column.rebuild |= strips - (column.lost - column.storable);
                }
            }
        }
        self.phases
            .advance(strips, Phase::Reading, Phase::Computing);
        if let Outcome::Done { undone, .. } = env.run(Job::Write(method), strips, columns, parts) {
            let strips = self.without(undone, strips, columns);
            self.written(strips, columns);
        }
    }

    /// New data and parity of `strips` are in memory.
    pub(super) fn written(&mut self, strips: Strips, columns: &mut [Column]) {
        for (member, column) in columns.iter_mut().enumerate() {
            if !self.roles.is_data(member) {
                let made = strips & column.rebuild;
                column.rebuild -= made;
                column.uptodate = (column.uptodate - strips) | made;
                column.modified = (column.modified - strips) | made;
            } else {
                let changed = column.dirty & strips;
                column.uptodate |= changed;
                column.modified |= changed;
                column.uncover(strips);
            }
        }
        self.phases
            .advance(strips, Phase::Computing, Phase::Logging);
    }

    /// Copies blocks of `strips` to their readers.
    fn run_deliver<E: Env>(
        &mut self,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        if strips.is_empty() {
            return;
        }
        // Some other reader's block may be lost for good; that is not this reader's failure.
        parts.retain(&mut |part| {
            if part.kind == PartKind::Read {
                let mut unreadable = Strips::NONE;
                self.each_slice(part, env, |member, sectors| {
                    if let Some(column) = columns.get(member) {
                        unreadable |= strips_of(&sectors) - column.uptodate;
                    }
                });
                part.failed |= unreadable & part.active & strips;
            }
            true
        });
        self.phases
            .advance(strips, Phase::Reading, Phase::Computing);
        if let Outcome::Done { undone, .. } = env.run(Job::Deliver, strips, columns, parts) {
            let strips = self.without(undone, strips, columns);
            self.delivered(strips, columns, parts);
        }
    }

    /// The readers of `strips` have their data; blocks that could not be read before are written again.
    pub(super) fn delivered(
        &mut self,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut impl Parts,
    ) {
        parts.retain(&mut |part| {
            if part.kind == PartKind::Read {
                part.active -= strips;
            }
            !part.is_complete()
        });
        let store = strips & any_modified(columns);
        self.phases.advance(store, Phase::Computing, Phase::Logging);
        self.phases
            .advance(strips - store, Phase::Computing, Phase::Done);
    }

    /// Compares parity of `strips` with their data.
    fn run_check<E: Env>(
        &mut self,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        if strips.is_empty() {
            return;
        }
        self.phases.advance(strips, Phase::Reading, Phase::Checking);
        if let Outcome::Done { mismatch, undone } = env.run(Job::Check, strips, columns, parts) {
            let strips = self.without(undone, strips, columns);
            self.checked(strips, mismatch, columns, parts, env);
        }
    }

    /// Parity of `strips` has been compared; it is wrong in `mismatch`.
    pub(super) fn checked<E: Env>(
        &mut self,
        strips: Strips,
        mismatch: Strips,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        let wrong = strips & mismatch;
        if !wrong.is_empty() {
            env.mismatch(wrong);
        }
        let lost = columns
            .iter()
            .fold(Strips::NONE, |all, column| all | column.lost);
        let locate = (wrong & self.locate) - lost;
        let repair = wrong - locate - self.check_only;
        let rest = strips - locate - repair;
        let store = rest & any_modified(columns);
        self.phases.advance(store, Phase::Checking, Phase::Logging);
        self.phases
            .advance(rest - store, Phase::Checking, Phase::Done);
        self.phases
            .advance(repair | locate, Phase::Checking, Phase::Repairing);
        for column in columns.iter_mut() {
            // Only the parity that does not match is made anew.
            column.rebuild -= strips - repair;
        }
        if !repair.is_empty() {
            if let Outcome::Done { undone, .. } = env.run(Job::Parity, repair, columns, parts) {
                let repair = self.without(undone, repair, columns);
                self.repaired(repair, columns);
            }
        }
        if !locate.is_empty() {
            self.locating |= locate;
            if let Outcome::Done { undone, .. } = env.run(Job::Locate, locate, columns, parts) {
                let locate = self.without(undone, locate, columns);
                self.located(locate, columns, env);
            }
        }
    }

    /// Parity of `strips` has been made anew.
    pub(super) fn repaired(&mut self, strips: Strips, columns: &mut [Column]) {
        for column in columns {
            let made = column.rebuild & strips;
            column.rebuild -= made;
            column.modified |= made;
        }
        self.phases
            .advance(strips, Phase::Repairing, Phase::Logging);
    }

    /// The wrong blocks of `strips` have been looked for, and mended where they were found.
    pub(super) fn located<E: Env>(&mut self, strips: Strips, columns: &mut [Column], env: &mut E) {
        self.locating -= strips;
        let mut located = Strips::NONE;
        for (member, column) in columns.iter_mut().enumerate() {
            let found = column.rebuild & strips;
            if found.is_empty() {
                continue;
            }
            column.rebuild -= found;
            column.modified |= found;
            located |= found;
            env.located(member, found);
        }
        if located != strips {
            env.unlocated(strips - located);
        }
        self.phases
            .advance(located, Phase::Repairing, Phase::Logging);
        self.phases
            .advance(strips - located, Phase::Repairing, Phase::Done);
    }

    /// Gives up those of `strips` for which a job could not be done, so that nobody gets what is in memory of them. Returns
    /// the others.
    pub(super) fn without(
        &mut self,
        undone: Strips,
        strips: Strips,
        columns: &mut [Column],
    ) -> Strips {
        let undone = undone & strips;
        if !undone.is_empty() {
            for column in columns {
                column.rebuild -= undone;
                column.modified -= undone;
                column.uptodate -= undone;
            }
            self.recovering -= undone;
            self.locating -= undone;
            self.failed |= undone;
            for phase in [Phase::Computing, Phase::Checking, Phase::Repairing] {
                let here = undone & self.phases.of(phase);
                self.phases.advance(here, phase, Phase::Done);
            }
        }
        strips - undone
    }

    /// Hands to the members what differs there, once everything that must be durable first is.
    pub(super) fn store<E: Env>(&mut self, columns: &mut [Column], env: &mut E) {
        let mut ready = self.phases.of(Phase::Logging);
        if ready.is_empty() {
            return;
        }
        for index in (ready & self.bitmap).iter() {
            let Some(&seq) = self.bitmap_seq.get(index as usize) else {
                continue;
            };
            if env.bitmap_flushed(seq) {
                self.bitmap -= Strips::one(index);
            } else {
                ready -= Strips::one(index);
                let later = |earlier: u32| (seq.wrapping_sub(earlier) as i32) > 0;
                if self.waits.bitmap.is_none_or(later) {
                    self.waits.bitmap = Some(seq);
                }
            }
        }
        // Who reads has been answered: what is mended then is acknowledged to nobody.
        let degraded = columns
            .iter()
            .fold(Strips::NONE, |all, column| all | column.lost)
            - self.reads;
        if ready.meets(degraded) && !env.failures_recorded() {
            self.waits.superblock = true;
            ready -= degraded;
        }
        // Nothing of these is on any member yet. With parity not written, or one of two, what was lost before could not be computed
        // any more once the member that was lost last is brought back. After the look above: who has planned around that member
        // sees now that the array has failed.
        let refused = ready & (self.writes | self.discards);
        if !refused.is_empty() && env.array_failed() {
            self.failed |= refused;
            self.phases.advance(refused, Phase::Logging, Phase::Done);
            ready -= refused;
        }
        for (member, column) in columns.iter_mut().enumerate() {
            let modified = column.modified & ready;
            let outdated = column.outdated & ready;
            if (modified | outdated).is_empty() {
                continue;
            }
            // Before the member: the replacement may be about to take its place, and is to be seen in one of the two.
            let replacement = env.replacement(member);
            let writable = env.writable(member);
            column.modified -= modified;
            column.write |= modified & writable;
            column.failed |= modified - writable;
            if let Some(replacement) = replacement {
                column.outdated -= outdated;
                column.copy |= (modified | (outdated & column.uptodate)) & replacement.takes;
                column.missed |= modified - replacement.takes;
            }
        }
        self.phases.advance(ready, Phase::Logging, Phase::Writing);
    }

    /// Ends strips whose member writes have ended, once failures among them are recorded.
    pub(super) fn end_writes<E: Env>(&mut self, columns: &mut [Column], env: &mut E) {
        let writing = self.phases.of(Phase::Writing);
        if writing.is_empty() {
            return;
        }
        let pending = columns
            .iter()
            .fold(Strips::NONE, |all, column| all | column.writes_pending());
        let failed = columns.iter().fold(Strips::NONE, |all, column| {
            all | column.failed | column.missed
        }) - self.reads;
        let mut ended = writing - pending;
        if ended.meets(failed) && !env.failures_recorded() {
            self.waits.superblock = true;
            ended -= failed;
        }
        let parity = usize::from(env.geometry().parity_disks());
        for index in (ended & failed).iter() {
            let strip = Strips::one(index);
            // What counts is which members hold their blocks now. One that was being rebuilt may be in sync; the strip was
            // rebuilt before this write then, and the write went there too. And one that the write has nothing for may
            // have failed since it was accepted, so that parity makes up for another block in vain.
            let is_bad = |(member, column): &(usize, &Column)| {
                let lost = !env.readable(*member);
                (column.failed | column.read_error | lost).meets(strip)
            };
            let bad = columns.iter().enumerate().filter(is_bad).count();
            // As many blocks may be missing on the members as parity stands for. What a sync could not write is missing on
            // that member alone, who knows it: others may have taken theirs.
            if self.syncs.meets(strip) {
                let unstored = columns.iter().any(|column| column.failed.meets(strip));
                self.unstored |= if unstored { strip } else { Strips::NONE };
            } else if bad > parity {
                self.failed |= strip;
            }
        }
        self.phases.advance(ended, Phase::Writing, Phase::Done);
    }

    /// Completes the parts of strips that are done, and makes these idle again.
    pub(super) fn finish<E: Env>(
        &mut self,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        let done = self.phases.of(Phase::Done);
        if done.is_empty() {
            return;
        }
        let failed = self.failed & done;
        let unmade = failed & self.syncs;
        if !unmade.is_empty() {
            for (member, column) in columns.iter().enumerate() {
                let lacks = unmade & ((column.lost - column.uptodate) | column.outdated);
                if !lacks.is_empty() {
                    env.not_synced(member, lacks);
                }
            }
        }
        parts.retain(&mut |part| {
            part.failed |= part.active & failed;
            part.unstored |= part.active & ((self.unstored & done) - failed);
            part.active -= done;
            !part.is_complete()
        });
        // A sync goes over the whole array once, and a stream of full strips seldom comes back: their blocks would only drive
        // out others, and the pages that the next one takes are not in the CPU's cache.
        let passing = done & (self.syncs | self.whole | self.discards);
        let forget = failed | passing;
        for column in columns.iter_mut() {
            column.reset(done);
            column.uptodate -= forget;
        }
        self.reads -= done;
        self.writes -= done;
        self.discards -= done;
        self.syncs -= done;
        self.check_only -= done;
        self.locate -= done;
        self.replace -= done;
        self.bitmap -= done;
        self.failed -= done;
        self.whole -= done;
        self.planned -= done;
        self.unstored -= done;
        self.fua -= done;
        self.sync -= done;
        self.sequential -= done;
        self.phases.advance(done, Phase::Done, Phase::Idle);
        self.drop_kits(passing, columns, env);
    }
}

/// The strips that a member or its replacement can be written at.
fn storable<E: Env>(env: &E, member: usize) -> Strips {
    let replacement = env.replacement(member);
    env.writable(member) | replacement.map_or(Strips::NONE, |r| r.takes)
}

/// Strips of which some block in memory differs from the member's, or is to be given to its replacement.
fn any_modified(columns: &[Column]) -> Strips {
    columns.iter().fold(Strips::NONE, |all, column| {
        all | column.modified | column.outdated
    })
}

/// Of those, the strips of which such a block is in memory.
fn any_to_store(columns: &[Column]) -> Strips {
    columns.iter().fold(Strips::NONE, |all, column| {
        all | ((column.modified | column.outdated) & column.uptodate)
    })
}
