// SPDX-License-Identifier: GPL-2.0

//! Jobs of a span on DMA engines: handed over, gone on with, taken in, and done again by this CPU where that failed.

use super::copies::each_written;
use super::counters;
use super::env::RunEnv;
use super::jobs::{self, Cpu};
use super::object::SpanKits;
use super::offload::is_for_engines;
use super::part::PartList;
use super::ticket::{Ticket, Wave};
use crate::md_warn;
use crate::mem::pages::Page;
use crate::mem::{boxed, NoWait};
use crate::offload::backend::Backend;
use crate::offload::batch::Batch;
use crate::offload::course::{go_on, Progress, Standing, Verdict, Why};
use crate::offload::recipe::Recipe;
use crate::raid::column::Column;
use crate::raid::job::{self as raid, Job};
use crate::raid::span::Span;
use crate::raid::strips::{Strips, SPAN_STRIPS};
use crate::ratelimited;
use core::sync::atomic::Ordering;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::{Delta, Instant, Monotonic};

/// What a span's jobs on engines have.
pub(super) struct OnEngines {
    pub(super) tickets: [Option<KBox<Ticket>>; SPAN_STRIPS as usize],
    /// What is being submitted, and what channels had no room to tell of when that was.
    batch: Batch,
}

/// As above; nothing before the span's first job on engines.
pub(super) type SpanTickets = Option<KBox<OnEngines>>;

/// Engines; what they cannot do is this CPU's.
pub(super) struct Dma;

impl Backend<RunEnv<'_>> for Dma {
    fn submit(
        &self,
        env: &mut RunEnv<'_>,
        job: Job,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut PartList,
    ) -> raid::Outcome {
        if !is_for_engines(job) {
            return Cpu.submit(env, job, strips, columns, parts);
        }
        if hand_over(env, job, strips, columns, parts) {
            env.span.counts.add(counters::Work::JobsDma, 1);
            return raid::Outcome::Pending;
        }
        let count = u64::from(strips.count());
        let counts = &env.array.offload.counts;
        counts.cpu.fetch_add(count, Ordering::Relaxed);
        Cpu.submit(env, job, strips, columns, parts)
    }
}

/// Hands a job over, if engines can do all of it. Returns false, and has done nothing, if not.
// Its own frame: what an engine's job needs must not lie below what this CPU's needs.
#[inline(never)]
fn hand_over(
    env: &mut RunEnv<'_>,
    job: Job,
    strips: Strips,
    columns: &[Column],
    parts: &PartList,
) -> bool {
    let ready = prepare(env, job, strips, columns) && cover(env, job, strips, parts);
    let wave = ready.then(|| Wave::new(env.span, env.entry));
    let Some(Ok(wave)) = wave else {
        for strip in strips.iter() {
            give(env, strip);
        }
        return false;
    };
    begin(env, job, strips, parts, &wave);
    let jobs = &env.span.jobs;
    jobs.store(
        jobs.load(Ordering::Relaxed).wrapping_add(strips.count()),
        Ordering::Relaxed,
    );
    true
}

/// Takes a ticket for each strip and plans what it does. Returns false if there are too few, or it cannot be done so.
// Its own frame: what is made for the first ticket of a span must not lie below what begins the jobs.
#[inline(never)]
fn prepare(env: &mut RunEnv<'_>, job: Job, strips: Strips, columns: &[Column]) -> bool {
    let offload = &env.array.offload;
    let roles = jobs::roles(env);
    if env.tickets.is_none() {
        let nothing = OnEngines {
            tickets: [const { None }; _],
            batch: Batch::new(),
        };
        *env.tickets = boxed(nothing, &NoWait).ok();
    }
    for index in strips.iter() {
        let Some(slot) = slot(env.tickets, index) else {
            return false;
        };
        let Some(ticket) = offload.take() else {
            return false;
        };
        let recipe = Recipe {
            job,
            roles,
            columns,
            strip: Strips::one(index),
        };
        let size = slot.insert(ticket).plan(&recipe, offload);
        if !size.is_some_and(|size| offload.pays(size)) {
            return false;
        }
    }
    true
}

/// Notes what a write copies in. Returns false if a channel cannot do that.
fn cover(env: &mut RunEnv<'_>, job: Job, strips: Strips, parts: &PartList) -> bool {
    if !matches!(job, Job::Write(_)) {
        return true;
    }
    let array = env.array;
    let tickets = &mut *env.tickets;
    let mut fits = true;
    each_written(&array.geometry, env.sector, strips, parts, |new| {
        let ticket = slot(tickets, new.strip).and_then(Option::as_mut);
        fits &= ticket.is_some_and(|ticket| ticket.cover(new.member, new.at, new.source));
    });
    fits
}

/// Begins what the tickets have planned. What cannot be begun has ended, and failed, when the span runs next, which it does when
/// the wave is over.
fn begin(env: &mut RunEnv<'_>, job: Job, strips: Strips, parts: &PartList, wave: &Arc<Wave>) {
    let array = env.array;
    let copies = matches!(job, Job::Write(_));
    if let Some(engaged) = env.tickets.as_mut() {
        engaged.batch.expect_many(strips.count() > 1);
    }
    for index in strips.iter() {
        let Some((ticket, batch, pages)) = strip(env.tickets, env.kits, index) else {
            continue;
        };
        // If not, it has no stage.
        let _begun = if copies {
            ticket.begin_copies(wave, pages, batch)
        } else {
            let wave = || Some(wave.clone());
            ticket.advance(wave, pages, &array.offload, batch) == Progress::Pending
        };
    }
    let Some(OnEngines { tickets, batch }) = env.tickets.as_deref_mut() else {
        return;
    };
    if copies {
        each_written(&array.geometry, env.sector, strips, parts, |new| {
            if let Some(Some(ticket)) = tickets.get_mut(new.strip as usize) {
                ticket.copy(new.member, new.at, new.source, batch);
            }
        });
        for index in strips.iter() {
            if let Some(Some(ticket)) = tickets.get(index as usize) {
                ticket.end_copies();
            }
        }
    }
    batch.end();
}

/// Takes in what has ended, begins what comes then, and has this CPU do what has failed or is late.
#[inline(never)]
pub(super) fn collect(
    span: &mut Span,
    columns: &mut [Column],
    parts: &mut PartList,
    env: &mut RunEnv<'_>,
) {
    let mut verdicts = [Verdict::Pending; SPAN_STRIPS as usize];
    if let Some(engaged) = env.tickets.as_mut() {
        let many = env.span.jobs.load(Ordering::Relaxed) > 1;
        engaged.batch.expect_many(many);
    }
    let mut wave = None;
    for (verdict, index) in verdicts.iter_mut().zip(0..) {
        *verdict = look(env, index, &mut wave).unwrap_or(Verdict::Pending);
    }
    // What is begun comes before what this CPU does.
    if let Some(engaged) = env.tickets.as_mut() {
        engaged.batch.end();
    }
    let is_pending = |verdict: &Verdict| *verdict == Verdict::Pending;
    let ended = verdicts.iter().filter(|verdict| !is_pending(verdict));
    let over = ended.count() == env.span.jobs.load(Ordering::Relaxed) as usize;
    if let Some(engaged) = env.tickets.as_mut().filter(|_| over) {
        // While it has a ticket: who gives engines up last sleeps.
        engaged.batch.forget();
    }
    let mut done = Strips::NONE;
    for (verdict, index) in verdicts.into_iter().zip(0..) {
        match verdict {
            Verdict::Pending => {}
            Verdict::Done => {
                done |= Strips::one(index);
                give(env, index);
                one_less(env);
            }
            Verdict::Again(why) => again(span, columns, parts, env, index, why),
        }
    }
    if !done.is_empty() {
        let count = u64::from(done.count());
        let counts = &env.array.offload.counts;
        counts.dma.fetch_add(count, Ordering::Relaxed);
        span.job_done(done, Strips::NONE, Strips::NONE, columns, parts, env);
    }
}

/// Looks how the job of a strip stands, and begins what comes next, in the wave.
fn look(env: &mut RunEnv<'_>, index: u32, wave: &mut Option<Arc<Wave>>) -> Option<Verdict> {
    let offload = &env.array.offload;
    let (ticket, batch, pages) = strip(env.tickets, env.kits, index)?;
    let Some(stage) = ticket.stage() else {
        return Some(Verdict::Again(Why::Failed));
    };
    let (began, now) = (ticket.began(), Instant::<Monotonic>::now());
    let standing = stage.stand(now - began > Delta::from_millis(offload.late().into()));
    if standing != Standing::Pending && offload.note(stage.outcomes(), began..now) {
        md_warn!(
            "md/raid:{}: offload: a channel has failed time after time and is not used any more; write to md/offload to try it again\n",
            env.array.mddev.name()
        );
    }
    Some(go_on(standing, || {
        let wave = || {
            *wave = wave.take().or_else(|| Wave::new(env.span, env.entry).ok());
            wave.clone()
        };
        ticket.advance(wave, pages, offload, batch)
    }))
}

/// Has this CPU do the job of a strip from the beginning.
fn again(
    span: &mut Span,
    columns: &mut [Column],
    parts: &mut PartList,
    env: &mut RunEnv<'_>,
    index: u32,
    why: Why,
) {
    let slot = slot(env.tickets, index);
    let Some(ticket) = slot.and_then(Option::take) else {
        return;
    };
    let offload = &env.array.offload;
    let job = ticket.job();
    if why == Why::Late {
        offload.lose(ticket);
        offload.counts.late.fetch_add(1, Ordering::Relaxed);
    } else {
        offload.give(ticket);
    }
    one_less(env);
    let strip = Strips::one(index);
    env.span.counts.add(counters::Work::JobsCpu, 1);
    let (mismatch, undone) = jobs::run(env, job, strip, columns, parts);
    let counts = &offload.counts;
    let count = match why {
        Why::Failed | Why::Late => &counts.redone,
        Why::Differs if mismatch.is_empty() => &counts.false_alarms,
        Why::Differs => &counts.dma,
    };
    count.fetch_add(1, Ordering::Relaxed);
    if why != Why::Differs || mismatch.is_empty() {
        warn(env, job, why);
    }
    span.job_done(strip, mismatch, undone, columns, parts, env);
}

/// Logs that this CPU has done an engine's job. Each reason has a place of its own: many of one do not hide another.
// Its own frame: what a message needs must not lie below what this CPU's job needs.
#[inline(never)]
fn warn(env: &RunEnv<'_>, job: Job, why: Why) {
    let name = env.array.mddev.name();
    match why {
        Why::Failed => ratelimited!(md_warn!(
            "md/raid:{name}: offload: an engine's {job:?} job has failed, and was done by the CPU\n"
        )),
        Why::Late => ratelimited!(md_warn!(
            "md/raid:{name}: offload: an engine's {job:?} job is late, and was done by the CPU\n"
        )),
        Why::Differs => ratelimited!(md_warn!(
            "md/raid:{name}: offload: an engine's {job:?} job says that parity is wrong, which it is not, and was done by the CPU\n"
        )),
    }
}

/// Gives back the ticket of a strip, if it has one, of which nothing is under way.
fn give(env: &mut RunEnv<'_>, index: u32) {
    let slot = slot(env.tickets, index);
    if let Some(ticket) = slot.and_then(Option::take) {
        env.array.offload.give(ticket);
    }
}

/// One job of the span less is under way.
fn one_less(env: &RunEnv<'_>) {
    let jobs = &env.span.jobs;
    jobs.store(
        jobs.load(Ordering::Relaxed).wrapping_sub(1),
        Ordering::Relaxed,
    );
}

/// The place of a strip's ticket.
fn slot(tickets: &mut SpanTickets, index: u32) -> Option<&mut Option<KBox<Ticket>>> {
    tickets.as_mut()?.tickets.get_mut(index as usize)
}

/// The ticket of a strip, if it has one, where to submit what it does, and its pages.
fn strip<'a>(
    tickets: &'a mut SpanTickets,
    kits: &'a mut SpanKits,
    index: u32,
) -> Option<(&'a mut Ticket, &'a mut Batch, &'a mut [Page])> {
    let OnEngines { tickets, batch } = tickets.as_deref_mut()?;
    let ticket = tickets.get_mut(index as usize)?.as_mut()?;
    let node = kits.get_mut(index as usize)?.as_mut()?;
    Some((ticket, batch, node.kit.pages_mut()))
}
