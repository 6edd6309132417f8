// SPDX-License-Identifier: GPL-2.0

//! The array as a span sees it during one step.

use super::engines::{Dma, SpanTickets};
use super::jobs::Cpu;
use super::kits::KitNode;
use super::object::{take_out, SpanKits, SpanObject};
use super::part::PartList;
use super::table::Reclaimed;
use super::Array;
use crate::md::mddev::Recovery;
use crate::md::trace::{self, JobKind};
use crate::mem::pages::Page;
use crate::offload::backend::Backend;
use crate::raid::column::Column;
use crate::raid::count::Count;
use crate::raid::geometry::Geometry;
use crate::raid::job::{Env, Job, Method, Outcome, Replacement, RmwLevel};
use crate::raid::strips::{Run, Strips, SPAN_STRIPS, STRIP_SECTORS};
use crate::ratelimited;
use crate::sync::gate::Entry;
use crate::{md_info, md_warn};
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;

/// How many wrong blocks are logged one by one since the array was started: a member that came back with old content has
/// more of them than anybody reads.
const LOGGED: u32 = 2000;

/// What a span's runner shows it of the array.
pub(super) struct RunEnv<'a> {
    pub(super) array: &'a Array,
    pub(super) span: &'a Arc<SpanObject>,
    /// First member sector of the span.
    pub(super) sector: u64,
    pub(super) kits: &'a mut SpanKits,
    /// What its jobs on engines have.
    pub(super) tickets: &'a mut SpanTickets,
    /// Keeps the array; jobs on engines keep it too.
    pub(super) entry: &'a Entry<Array>,
    /// A kit came free for this span: it may take one although others wait.
    pub(super) granted: bool,
    /// It has taken one.
    pub(super) taken: bool,
    /// Kits were given back; somebody may wait for them.
    pub(super) freed: bool,
}

impl RunEnv<'_> {
    /// Takes one kit from wherever there is one.
    fn take_kit(&mut self) -> Option<KBox<KitNode>> {
        let kits = &self.array.kits;
        kits.take().or_else(|| {
            // There may be more than one.
            self.freed |= self.array.table.reclaim(self.span, kits) == Reclaimed::Found;
            kits.take()
        })
    }

    /// Gives the kits of strips that are forgotten to whoever needs them.
    pub(super) fn free_kits(&mut self, strips: Strips) {
        let list = take_out(self.kits, strips);
        if !list.is_empty() {
            self.freed |= self.array.kits.give_all(list);
        }
    }

    /// Whether no strips but these have a kit, or a ticket for an engine.
    pub(super) fn holds_only(&self, strips: Strips) -> bool {
        let holds = |strip: u32| {
            let tickets = self.tickets.iter().flat_map(|on| on.tickets.iter());
            let kit = self.kits.get(strip as usize).is_some_and(Option::is_some);
            kit || tickets.skip(strip as usize).take(1).any(Option::is_some)
        };
        (0..SPAN_STRIPS).all(|strip| strips.contains(Strips::one(strip)) || !holds(strip))
    }

    /// The pages of a run of strips on one member; `None` for a strip without a kit.
    pub(super) fn pages(&self, run: Run, member: u16) -> impl Iterator<Item = Option<&Page>> {
        let kits = self.kits.iter().skip(run.first as usize);
        kits.take(run.count as usize)
            .map(move |node| node.as_ref()?.kit.page(member))
    }

    /// As [`Self::pages`], to change them.
    pub(super) fn pages_mut(
        &mut self,
        run: Run,
        member: u16,
    ) -> impl Iterator<Item = Option<&mut Page>> {
        let kits = self.kits.iter_mut().skip(run.first as usize);
        kits.take(run.count as usize)
            .map(move |node| node.as_mut()?.kit.page_mut(member))
    }

    /// The strips that lie below a sector of the members as a whole, where the bitmap knows of no sync that is to be done.
    fn synced_below(&self, sector: u64) -> Strips {
        if !self.array.mddev.bitmap_synced(self.sector) {
            return Strips::NONE;
        }
        self.array.strips_below(self.sector, sector)
    }

    /// The first sector of a strip on its members.
    pub(super) fn strip_sector(&self, strip: u32) -> u64 {
        self.sector
            .wrapping_add(u64::from(strip.wrapping_mul(STRIP_SECTORS)))
    }
}

/// A job's kind, for who traces it.
fn kind_of(job: Job) -> JobKind {
    match job {
        Job::Write(Method::Rmw) => JobKind::Rmw,
        Job::Write(Method::Rcw) => JobKind::Rcw,
        Job::Write(Method::NoParity) => JobKind::Data,
        Job::Recover => JobKind::Recover,
        Job::Deliver => JobKind::Deliver,
        Job::Check => JobKind::Check,
        Job::Parity => JobKind::Parity,
        Job::Locate => JobKind::Locate,
    }
}

impl Env for RunEnv<'_> {
    type Parts = PartList;

    fn geometry(&self) -> &Geometry {
        &self.array.geometry
    }

    fn readable(&self, member: usize) -> Strips {
        self.array.readable(member, self.sector)
    }

    fn writable(&self, member: usize) -> Strips {
        self.array.writable(member, self.sector)
    }

    fn replacement(&self, member: usize) -> Option<Replacement> {
        self.array.replacement(member, self.sector)
    }

    fn parity_known(&self) -> Strips {
        self.synced_below(self.array.mddev.resync_offset())
    }

    fn parity_trusted(&self) -> Strips {
        let trusted = self.array.trusted.load(Ordering::Relaxed);
        self.synced_below(trusted.max(self.array.mddev.resync_offset()))
    }

    fn rmw_level(&self) -> RmwLevel {
        self.array.settings.rmw_level()
    }

    fn failures_recorded(&self) -> bool {
        self.array.failures_recorded()
    }

    fn array_failed(&self) -> bool {
        self.array.lacks_too_many()
    }

    fn bitmap_flushed(&self, seq: u32) -> bool {
        self.array.bitmap.is_flushed(seq)
    }

    fn take_kits(&mut self, strips: Strips) -> Strips {
        if !self.granted && self.array.kits.anybody_waits() {
            return Strips::NONE;
        }
        let mut taken = Strips::NONE;
        for strip in strips.iter() {
            let Some(node) = self.take_kit() else {
                break;
            };
            if let Some(slot) = self.kits.get_mut(strip as usize) {
                *slot = Some(node);
                taken |= Strips::one(strip);
                self.taken = true;
            }
        }
        taken
    }

    fn give_kits(&mut self, strips: Strips) {
        self.free_kits(strips);
    }

    fn run(
        &mut self,
        job: Job,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut PartList,
    ) -> Outcome {
        trace::span_job(&self.array.mddev, self.sector, || kind_of(job), strips.0);
        if self.array.offload.is_on() {
            return Dma.submit(self, job, strips, columns, parts);
        }
        Cpu.submit(self, job, strips, columns, parts)
    }

    fn count(&mut self, what: Count, n: u32) {
        self.span.counts.add(what.into(), n);
    }

    fn mismatch(&mut self, strips: Strips) {
        let mddev = &*self.array.mddev;
        if mddev.test_recovery(Recovery::Recover) && mddev.bitmap_is_lockless() {
            // With such a bitmap parity is made late, which is called a rebuild: nothing is wrong.
            return;
        }
        mddev.add_mismatches(strips.count().wrapping_mul(STRIP_SECTORS));
        if !mddev.test_recovery(Recovery::Check) {
            return;
        }
        for run in strips.runs() {
            let first = self.strip_sector(run.first);
            let behind = self.strip_sector(run.first.wrapping_add(run.count));
            ratelimited!(md_warn!(
                "{}: mismatch sector in range {first}-{behind}\n",
                mddev.name()
            ));
        }
    }

    fn located(&mut self, member: usize, strips: Strips) {
        let located = &self.array.settings.located;
        let before = located.fetch_add(strips.count(), Ordering::Relaxed);
        let name = self.array.mddev.name();
        if before >= LOGGED {
            ratelimited!(md_warn!(
                "md/raid:{name}: more wrong blocks located: mismatch_located counts them\n"
            ));
            return;
        }
        let Some(slot) = self.array.slots.get(member) else {
            return;
        };
        slot.with(|rdev| {
            for run in strips.runs() {
                let first = self.strip_sector(run.first);
                let behind = self.strip_sector(run.first.wrapping_add(run.count));
                // Each of them: the administrator has asked, and wants to know which device lies.
                md_warn!(
                    "md/raid:{name}: wrong block located: member {rdev} (slot {member}), sectors {first}-{behind}\n"
                );
            }
        });
    }

    fn unlocated(&mut self, strips: Strips) {
        self.array
            .settings
            .unlocated
            .fetch_add(strips.count(), Ordering::Relaxed);
        let name = self.array.mddev.name();
        for run in strips.runs() {
            let first = self.strip_sector(run.first);
            let behind = self.strip_sector(run.first.wrapping_add(run.count));
            ratelimited!(md_warn!(
                "md/raid:{name}: wrong blocks cannot be located: more than one in sectors {first}-{behind}, left as they are; restore the data, then repair with mismatch_method parity\n"
            ));
        }
    }

    fn not_synced(&mut self, member: usize, strips: Strips) {
        // What resync, check or repair could not do stays as it is.
        if self.array.mddev.test_recovery(Recovery::Recover) {
            self.array.rebuild_failed(member, self.sector, strips);
        }
    }

    fn corrected(&mut self, member: usize, strips: Strips) {
        let Some(slot) = self.array.slots.get(member) else {
            return;
        };
        let name = self.array.mddev.name();
        slot.with(|rdev| {
            for run in strips.runs() {
                let sectors = run.count.wrapping_mul(STRIP_SECTORS);
                let at = self
                    .strip_sector(run.first)
                    .wrapping_add(rdev.data_offset());
                rdev.add_corrected(sectors);
                ratelimited!(md_info!(
                    "md/raid:{name}: read error corrected ({sectors} sectors at {at} on {rdev})\n"
                ));
            }
        });
    }
}
