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
use crate::mem::{boxed, Ask, NoWait};
use crate::offload::batch::Batch;
use crate::offload::channel::{self, Engines, Inputs, Kept, Lists, Targets};
use crate::offload::course::{Course, Kind, Progress, Step, Sum};
use crate::offload::recipe::{Recipe, Term, TARGETS};
use crate::offload::stage::{Owner, Stage};
use crate::parity::lender::Lender;
use crate::parity::Source;
use crate::raid::column::Column;
use crate::raid::job::Job;
use crate::raid::strips::{Strips, STRIP_SECTORS};
use crate::sync::gate::Entry;
use crate::sync::mailbox::Events;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::{Instant, Monotonic};

/// Stages of a span that were begun together: when all have ended, the span hears of it. It has work as long as there is one,
/// and so does the array.
pub(super) struct Wave {
    span: Arc<SpanObject>,
    // Behind the span: whoever frees the array waits until nobody has an entry, so the former is not the span's end.
    _entry: Entry<Array>,
}

impl Wave {
    /// For a span's next stages. Does not sleep.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(super) fn new(span: &Arc<SpanObject>, entry: &Entry<Array>) -> Result<Arc<Self>> {
        let wave = Self {
            span: span.clone(),
            _entry: entry.clone(),
        };
        Ok(Arc::new(wave, NoWait.flags())?)
    }
}

impl Drop for Wave {
    /// All of its stages have ended, or were given up. Any context.
    fn drop(&mut self) {
        if let Some(turn) = self.span.actor.post(Events::JOB) {
            // An engine tells us where vector registers may not be used, and perhaps softirqs wait.
            hand_over(&self.span, turn);
        }
    }
}

/// Keeps the wave for as long as a stage is under way.
pub(super) struct Waiter(#[expect(dead_code, reason = "it is held")] Arc<Wave>);

impl Owner for Waiter {
    fn ended(self) {}
}

/// How large a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// How many blocks it reads and writes.
    pub(super) blocks: usize,
    /// How many operations that takes.
    pub(super) operations: usize,
}

/// See the module.
pub(super) struct Ticket {
    engines: Arc<Engines>,
    spare: Kit,
    lists: Lists,
    course: Course,
    /// What each sum of the course is made of.
    terms: [KVec<Term>; TARGETS],
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
    pub(super) fn new(engines: Arc<Engines>, members: u16, by: &impl Ask) -> Result<KBox<Self>> {
        let flags = by.flags();
        // Old and new of each, and parity.
        let most = usize::from(members).saturating_mul(2).saturating_add(1);
        let terms = || KVec::<Term>::with_capacity(most, flags);
        let ticket = Self {
            engines,
            spare: Kit::new(members, by)?,
            lists: Lists::new(most, by)?,
            course: Course::new(),
            terms: [terms()?, terms()?],
            covered: KVec::from_elem(0, usize::from(members), flags)?,
            copier: None,
            job: Job::Deliver,
            stage: None,
            began: Instant::now(),
        };
        Ok(boxed(ticket, by)?)
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

    /// When that was begun.
    pub(super) fn began(&self) -> Instant<Monotonic> {
        self.began
    }

    /// Takes up a job on one strip. Returns how large it is; `None` if channels cannot do it.
    pub(super) fn plan(&mut self, recipe: &Recipe<'_>, offload: &Offload) -> Option<Size> {
        self.job = recipe.job;
        self.stage = None;
        self.covered.iter_mut().for_each(|sectors| *sectors = 0);
        self.course = Course::new();
        for terms in &mut self.terms {
            terms.clear();
        }
        let targets = match recipe.job {
            Job::Deliver | Job::Locate => return None,
            Job::Check => [Some(recipe.compared()), None],
            _ => recipe.targets(),
        };
        let mut size = Size::default();
        for ((number, terms), target) in self.terms.iter_mut().enumerate().zip(targets) {
            let Some(target) = target else { continue };
            let mut room = true;
            let mut add = |term| room &= terms.push_within_capacity(term).is_ok();
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
            let sum = Sum::new(recipe.job, target, terms.len());
            self.course.set(number, sum);
            let channel = offload.channel(&self.engines, sum.kind())?;
            let operations = sum.operations(&channel)?;
            size.operations = size.operations.saturating_add(operations);
            size.blocks = size.blocks.saturating_add(terms.len() + 1);
        }
        if matches!(recipe.job, Job::Write(_)) {
            let copier = Kept::new(&self.engines, |engines| {
                offload.channel(engines, Kind::Copy)
            });
            self.copier = Some(copier?);
            let dirty = |column: &&Column| column.dirty.meets(recipe.strip);
            let copied = recipe.columns.iter().filter(dirty).count();
            size.operations = size.operations.saturating_add(copied);
            size.blocks = size.blocks.saturating_add(copied.saturating_mul(2));
        }
        Some(size)
    }

    /// Notes that bytes of a block will be copied in. Returns false if the channel cannot do that, the memory cannot be kept, or
    /// something else is copied to the same place.
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
            channel.is_aligned(Kind::Copy, from, at, source.len()) && channel::may_keep(source)
        });
        let sectors = (at / 512..at.saturating_add(source.len()) / 512)
            .fold(0_u8, |all, sector| all | 1 << sector);
        let free = *covered & sectors == 0;
        *covered |= sectors;
        fits && free
    }

    /// Begins a stage, which is to be closed. Returns false if there is no memory.
    fn open(&mut self, wave: &Arc<Wave>) -> bool {
        self.stage = Stage::new(Waiter(wave.clone())).ok();
        self.began = Instant::now();
        self.stage.is_some()
    }

    /// Begins to copy in; follow with [`Self::copy`], [`Self::end_copies`] and the batch's end. What of a block is not
    /// written is copied from the one in `pages`.
    pub(super) fn begin_copies(
        &mut self,
        wave: &Arc<Wave>,
        pages: &[Page],
        batch: &mut Batch,
    ) -> bool {
        if !self.open(wave) {
            return false;
        }
        let Some(stage) = &self.stage else {
            return false;
        };
        let Some(channel) = &self.copier else {
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
                let to = Targets::bytes(to, at, len);
                if !batch.submit(channel, Kind::Copy, &inputs, to, stage) {
                    stage.fail();
                }
            }
        }
        true
    }

    /// Copies in.
    pub(super) fn copy(&mut self, member: u16, at: usize, source: Source<'_>, batch: &mut Batch) {
        let Some(stage) = &self.stage else {
            return;
        };
        let channel = self.copier.as_ref();
        let (lists, spare) = (&mut self.lists, &mut self.spare);
        let done = each_page(at, source, |at, source| {
            let (Some(channel), Some(to)) = (channel, spare.page_mut(member)) else {
                return false;
            };
            let to = Targets::bytes(to, at, source.len());
            let inputs = Inputs::copied(lists, source);
            batch.submit(channel, Kind::Copy, &inputs, to, stage)
        });
        if !done {
            stage.fail();
        }
    }

    /// Everything that is to be copied in is under way.
    pub(super) fn end_copies(&self) {
        if let Some(stage) = &self.stage {
            stage.close();
        }
    }

    /// Begins what comes next, in a wave if there is something, once everything before has ended well; follow with the batch's
    /// end. `pages` are the strip's.
    pub(super) fn advance(
        &mut self,
        wave: impl FnOnce() -> Option<Arc<Wave>>,
        pages: &mut [Page],
        offload: &Offload,
        batch: &mut Batch,
    ) -> Progress {
        if self.course.is_done() {
            return self.hand_in(pages);
        }
        if !wave().is_some_and(|wave| self.open(&wave)) {
            return Progress::Failed;
        }
        let Self {
            engines,
            spare,
            lists,
            course,
            terms,
            stage,
            ..
        } = self;
        let Some(stage) = stage.as_ref() else {
            return Progress::Failed;
        };
        let (engines, terms, pages) = (&*engines, &*terms, &*pages);
        stage.begin_next(course, |number, sum| {
            let channel = Kept::new(engines, |engines| offload.channel(engines, sum.kind()))?;
            let step = sum.next(&channel.get())?;
            let terms = terms.get(number)?;
            submit(&step, sum, terms, spare, pages, lists, |inputs, to| {
                batch.submit(&channel, step.kind, inputs, to, stage)
            })?;
            Some(step)
        });
        Progress::Pending
    }

    /// Has what was made take the place of the strip's own pages.
    fn hand_in(&mut self, pages: &mut [Page]) -> Progress {
        if self.job == Job::Check {
            return Progress::Done;
        }
        for ((member, page), covered) in (0..).zip(pages).zip(&self.covered) {
            if *covered == 0 && !self.course.makes(member) {
                continue;
            }
            if let Some(spare) = self.spare.page_mut(member) {
                core::mem::swap(page, spare);
            }
        }
        Progress::Done
    }
}

/// Has `f` submit an operation for a sum. Returns `None` if it is not taken.
fn submit(
    step: &Step,
    sum: &Sum,
    terms: &[Term],
    spare: &mut Kit,
    pages: &[Page],
    lists: &mut Lists,
    f: impl FnOnce(&Inputs<'_, '_>, Targets<'_>) -> bool,
) -> Option<()> {
    let target = sum.target();
    let mut lender = Lender::new(spare.pages_mut());
    let to = match step.kind {
        // P is one of the terms.
        Kind::XorCheck => Targets::compared(None, None),
        Kind::PqCheck => {
            let page = |member: u16| pages.get(usize::from(member));
            Targets::compared(target.p.and_then(page), target.q.and_then(page))
        }
        Kind::Copy | Kind::Xor | Kind::Pq => {
            let mut page = |member: Option<u16>| member.and_then(|member| lender.take(member));
            Targets::made(page(target.p), page(target.q), step.sums.more)
        }
    };
    let mut inputs = Inputs::new(lists);
    for term in terms.get(step.terms.clone())? {
        let page = if term.new {
            lender.take(term.member).map(|page| &*page)
        } else {
            pages.get(usize::from(term.member))
        };
        if !inputs.push(page?, term.factor) {
            return None;
        }
    }
    f(&inputs, to).then_some(())
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
