// SPDX-License-Identifier: GPL-2.0

//! A ticket: what one strip's job needs to run on an engine, and how far it has come.
//!
//! New data and parity are made in the ticket's spare pages, and take the place of the strip's own when all of them are
//! there. Until then the strip is as it was, so that the job can be done again by the CPU at any time. Tickets are made when
//! an administrator wants engines used; who gets none has the CPU do its job.

use super::object::SpanObject;
use super::offload::Offload;
use super::run::hand_over;
use super::Array;
use crate::mem::kit::Kit;
use crate::mem::pages::{Page, PAGE_SIZE};
use crate::mem::Wait;
use crate::offload::channel::{Channel, Engines, Inputs, Kept, Kind, Lists, Sums, Targets};
use crate::offload::recipe::{next_chunk, Recipe, Target, Term, TARGETS};
use crate::offload::stage::{Owner, Stage};
use crate::parity::lender::Lender;
use crate::parity::Source;
use crate::raid::column::Column;
use crate::raid::job::Job;
use crate::raid::strips::{Strips, STRIP_SECTORS};
use crate::sync::gate::Entry;
use crate::sync::mailbox::Events;
use kernel::alloc::flags::{GFP_NOWAIT, __GFP_NOWARN};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::{Delta, Instant, Monotonic};

/// The span that a stage is for. It has work as long as it has, and so does the array.
pub(super) struct Waiter {
    span: Arc<SpanObject>,
    entry: Entry<Array>,
}

impl Owner for Waiter {
    fn ended(self) {
        if let Some(turn) = self.span.actor.post(Events::JOB) {
            // An engine tells us where vector registers may not be used, and perhaps softirqs wait.
            hand_over(&self.span, turn);
        }
        // Whoever frees the array waits until nobody has an entry, so this is not the span's end.
        drop(self.span);
        drop(self.entry);
    }
}

/// What is left to be made of a target.
struct Work {
    target: Option<Target>,
    terms: KVec<Term>,
    /// How many of the terms are in it, or are being added.
    done: usize,
}

/// How a job goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Something is under way.
    Pending,
    /// It has ended, and what it has made is the strip's.
    Done,
    /// It cannot go on. The strip is as it was.
    Failed,
}

/// See the module.
pub(super) struct Ticket {
    engines: Arc<Engines>,
    spare: Kit,
    lists: Lists,
    works: [Work; TARGETS],
    /// For each member the sectors that are copied in, a bit for each.
    covered: KVec<u8>,
    /// The channel that copies.
    copier: Option<Kept>,
    job: Job,
    stage: Option<Arc<Stage<Waiter>>>,
    /// When the stage was begun.
    began: Instant<Monotonic>,
}

impl Ticket {
    /// A ticket for any strip of an array with `members` members.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(super) fn new(engines: Arc<Engines>, members: u16, wait: Wait) -> Result<KBox<Self>> {
        let flags = match wait {
            Wait::NoWait => GFP_NOWAIT | __GFP_NOWARN,
            Wait::Setup => GFP_KERNEL,
        };
        // Old and new of each, and parity.
        let terms = usize::from(members).saturating_mul(2).saturating_add(1);
        let work = || -> Result<Work> {
            Ok(Work {
                target: None,
                terms: KVec::with_capacity(terms, flags)?,
                done: 0,
            })
        };
        let ticket = Self {
            engines,
            spare: Kit::new(members, wait)?,
            lists: Lists::new(terms, flags)?,
            works: [work()?, work()?],
            covered: KVec::from_elem(0, usize::from(members), flags)?,
            copier: None,
            job: Job::Deliver,
            stage: None,
            began: Instant::now(),
        };
        Ok(KBox::new(ticket, flags)?)
    }

    /// The engines that it may use.
    pub(super) fn engines(&self) -> &Arc<Engines> {
        &self.engines
    }

    /// The job that it is for.
    pub(super) fn job(&self) -> Job {
        self.job
    }

    /// The stage that is under way, or was last.
    pub(super) fn stage(&self) -> Option<&Arc<Stage<Waiter>>> {
        self.stage.as_ref()
    }

    /// For how long the stage has been under way.
    pub(super) fn age(&self) -> Delta {
        self.began.elapsed()
    }

    /// Takes up a job on one strip. Returns how many blocks it reads and writes; `None` if channels cannot do it.
    pub(super) fn plan(&mut self, recipe: &Recipe<'_>, offload: &Offload) -> Option<usize> {
        self.job = recipe.job;
        self.stage = None;
        self.covered.iter_mut().for_each(|sectors| *sectors = 0);
        for work in &mut self.works {
            work.target = None;
            work.terms.clear();
            work.done = 0;
        }
        let targets = match recipe.job {
            Job::Deliver | Job::Locate => return None,
            Job::Check => [Some(recipe.compared()), None],
            _ => recipe.targets(),
        };
        let mut blocks = 0_usize;
        for (work, target) in self.works.iter_mut().zip(targets) {
            let Some(target) = target else { continue };
            work.target = Some(target);
            let mut room = true;
            let mut add = |term| room &= work.terms.push_within_capacity(term).is_ok();
            if recipe.job == Job::Check && target.q.is_none() {
                // One sum, which is zero.
                add(Term {
                    member: target.p?,
                    new: false,
                    factor: crate::parity::gf::Element::ONE,
                });
            }
            recipe.each_term(target, add);
            if !room {
                return None;
            }
            let channel = offload.channel(&self.engines, work.kind(recipe.job))?;
            work.next(&channel, recipe.job)?;
            blocks = blocks.saturating_add(work.terms.len()).saturating_add(1);
        }
        if matches!(recipe.job, Job::Write(_)) {
            let copier = Kept::new(&self.engines, |engines| {
                offload.channel(engines, Kind::Copy)
            });
            self.copier = Some(copier?);
            let dirty = |column: &&Column| column.dirty.meets(recipe.strip);
            let copied = recipe.columns.iter().filter(dirty).count();
            blocks = blocks.saturating_add(copied.saturating_mul(2));
        }
        Some(blocks)
    }

    /// Notes that bytes of a block will be copied in. Returns false if the channel cannot do that, or something else is
    /// copied to the same place.
    #[must_use = "such a job is the CPU's"]
    pub(super) fn cover(&mut self, member: u16, at: usize, source: Source<'_>) -> bool {
        let Some(covered) = self.covered.get_mut(usize::from(member)) else {
            return false;
        };
        if at % 512 != 0 || source.len() % 512 != 0 || at.saturating_add(source.len()) > PAGE_SIZE {
            return false;
        }
        let Some(channel) = self.copier.as_ref().map(Kept::get) else {
            return false;
        };
        let fits = each_page(at, source, |at, source| {
            let from = source.as_ptr() as usize % PAGE_SIZE;
            channel.is_aligned(Kind::Copy, from, at, source.len())
        });
        let sectors = (at / 512..at.saturating_add(source.len()) / 512)
            .fold(0_u8, |all, sector| all | 1 << sector);
        let free = *covered & sectors == 0;
        *covered |= sectors;
        fits && free
    }

    /// Begins a stage, which is to be closed. Returns false if there is no memory.
    fn open(&mut self, span: &Arc<SpanObject>, entry: &Entry<Array>) -> bool {
        let waiter = Waiter {
            span: span.clone(),
            entry: entry.clone(),
        };
        self.stage = Stage::new(waiter).ok();
        self.began = Instant::now();
        self.stage.is_some()
    }

    /// Begins to copy in; follow with [`Self::copy`] and [`Self::end_copies`]. What of a block is not written is copied from
    /// the one in `pages`.
    pub(super) fn begin_copies(
        &mut self,
        span: &Arc<SpanObject>,
        entry: &Entry<Array>,
        pages: &[Page],
    ) -> bool {
        if !self.open(span, entry) {
            return false;
        }
        let Some(stage) = &self.stage else {
            return false;
        };
        let Some(channel) = self.copier.as_ref().map(Kept::get) else {
            stage.fail();
            return true;
        };
        for ((covered, old), member) in self.covered.iter().zip(pages).zip(0..) {
            if *covered == 0 {
                continue;
            }
            // The sectors of a block as strips of a span: neighbours go together.
            let rest = Strips::first_n(STRIP_SECTORS) - Strips(u16::from(*covered));
            for run in rest.runs() {
                // CAST: a byte of a page.
                let (at, len) = (run.first as usize * 512, run.count as usize * 512);
                let Some(to) = self.spare.page_mut(member) else {
                    continue;
                };
                let inputs = Inputs::end_of(&mut self.lists, old, at);
                if !channel.submit(Kind::Copy, &inputs, Targets::bytes(to, at, len), stage) {
                    stage.fail();
                }
            }
        }
        true
    }

    /// Copies in.
    pub(super) fn copy(&mut self, member: u16, at: usize, source: Source<'_>) {
        let Some(stage) = &self.stage else {
            return;
        };
        let channel = self.copier.as_ref().map(Kept::get);
        let (lists, spare) = (&mut self.lists, &mut self.spare);
        let done = each_page(at, source, |at, source| {
            let (Some(channel), Some(to)) = (channel, spare.page_mut(member)) else {
                return false;
            };
            let to = Targets::bytes(to, at, source.len());
            let inputs = Inputs::copied(lists, source);
            channel.submit(Kind::Copy, &inputs, to, stage)
        });
        if !done {
            stage.fail();
        }
    }

    /// Everything that is to be copied in is under way.
    pub(super) fn end_copies(&self) {
        if let Some(channel) = self.copier.as_ref().map(Kept::get) {
            channel.issue();
        }
        if let Some(stage) = &self.stage {
            stage.close();
        }
    }

    /// Begins what comes next, once everything before has ended well. `pages` are the strip's.
    pub(super) fn advance(
        &mut self,
        span: &Arc<SpanObject>,
        entry: &Entry<Array>,
        pages: &mut [Page],
        offload: &Offload,
    ) -> Progress {
        if self.works.iter().all(|work| work.is_done()) {
            return self.hand_in(pages);
        }
        if !self.open(span, entry) {
            return Progress::Failed;
        }
        let Some(stage) = self.stage.clone() else {
            return Progress::Failed;
        };
        let engines = self.engines.clone();
        for work in &mut self.works {
            if work.is_done() {
                continue;
            }
            let channel = offload.channel(&engines, work.kind(self.job));
            let begun = channel.and_then(|channel| {
                let done = work.submit(
                    &channel,
                    self.job,
                    &mut self.spare,
                    pages,
                    &mut self.lists,
                    &stage,
                );
                channel.issue();
                done
            });
            if begun.is_none() {
                stage.fail();
            }
        }
        stage.close();
        Progress::Pending
    }

    /// Has what was made take the place of the strip's own pages.
    fn hand_in(&mut self, pages: &mut [Page]) -> Progress {
        if self.job == Job::Check {
            return Progress::Done;
        }
        let makes = |member: u16| {
            let targets = self.works.iter().filter_map(|work| work.target);
            targets
                .clone()
                .any(|target| target.p == Some(member) || target.q == Some(member))
        };
        for ((member, page), covered) in (0..).zip(pages).zip(&self.covered) {
            if *covered == 0 && !makes(member) {
                continue;
            }
            if let Some(spare) = self.spare.page_mut(member) {
                core::mem::swap(page, spare);
            }
        }
        Progress::Done
    }
}

impl Work {
    fn is_done(&self) -> bool {
        self.target.is_none() || self.done >= self.terms.len()
    }

    /// By which operations the target is made.
    fn kind(&self, job: Job) -> Kind {
        let plain = self.target.is_none_or(|target| target.q.is_none());
        match (job, plain) {
            (Job::Check, true) => Kind::XorCheck,
            (Job::Check, false) => Kind::PqCheck,
            // There is no sum of one block.
            (_, true) if self.terms.len() == 1 => Kind::Copy,
            (_, true) => Kind::Xor,
            (_, false) => Kind::Pq,
        }
    }

    /// How many terms the next operation takes; `None` if the channel cannot do it.
    fn next(&self, channel: &Channel<'_>, job: Job) -> Option<usize> {
        let target = self.target?;
        let kind = self.kind(job);
        if !channel.is_aligned(kind, 0, 0, PAGE_SIZE) {
            return None;
        }
        let most = |more| {
            let sums = Sums {
                p: target.p.is_some(),
                q: target.q.is_some(),
                more,
            };
            channel.most_sources(kind, sums)
        };
        // What is compared is compared at once.
        let more = if job == Job::Check { 0 } else { most(true) };
        let left = self.terms.len().saturating_sub(self.done);
        next_chunk(left, self.done != 0, most(false), more)
    }

    /// Submits the next operation.
    fn submit(
        &mut self,
        channel: &Channel<'_>,
        job: Job,
        spare: &mut Kit,
        pages: &[Page],
        lists: &mut Lists,
        stage: &Arc<Stage<Waiter>>,
    ) -> Option<()> {
        let kind = self.kind(job);
        let target = self.target?;
        let count = self.next(channel, job)?;
        let behind = self.done.checked_add(count)?;
        let mut lender = Lender::new(spare.pages_mut());
        let targets = if job == Job::Check {
            let page = |member: u16| pages.get(usize::from(member));
            // By XOR, P is one of the terms.
            let p = target.p.filter(|_| kind == Kind::PqCheck);
            Targets::compared(p.and_then(page), target.q.and_then(page))
        } else {
            let mut page = |member: Option<u16>| member.and_then(|member| lender.take(member));
            Targets::made(page(target.p), page(target.q), self.done != 0)
        };
        let mut inputs = Inputs::new(lists);
        for term in self.terms.get(self.done..behind)? {
            let page = if term.new {
                lender.take(term.member).map(|page| &*page)
            } else {
                pages.get(usize::from(term.member))
            };
            if !inputs.push(page?, term.factor) {
                return None;
            }
        }
        self.done = behind;
        channel.submit(kind, &inputs, targets, stage).then_some(())
    }
}

/// Calls `f` with each part of bytes that lies in one page, and where in the block it goes, until that is false. Returns
/// whether it never was.
fn each_page<'s>(
    at: usize,
    source: Source<'s>,
    mut f: impl FnMut(usize, Source<'s>) -> bool,
) -> bool {
    let (mut at, mut rest) = (at, source);
    while rest.len() > 0 {
        let left = PAGE_SIZE.wrapping_sub(rest.as_ptr() as usize % PAGE_SIZE);
        let len = left.min(rest.len());
        let (Some(front), Some(behind)) = (rest.get(0..len), rest.get(len..rest.len())) else {
            return false;
        };
        if !f(at, front) {
            return false;
        }
        at = at.wrapping_add(len);
        rest = behind;
    }
    true
}
