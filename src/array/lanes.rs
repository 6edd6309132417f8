// SPDX-License-Identifier: GPL-2.0

//! Lanes: threads that run spans whose turn was won where they may not run, and that take a share of what is much work.
//!
//! Work goes to the first lane that has little, not to all in turn: spans that one thread runs one after the other share a
//! plug, its cache and a wake-up. A further lane is woken only for what those before it are behind with.

use super::counters;
use super::object::{SpanObject, Work};
use super::queue::{IndexStack, Pushed};
use super::run::run_rounds;
use super::table::Slab;
use crate::block::{context, plug};
use crate::md::mddev::{Handle, Locked};
use crate::md::thread::{self, Thread};
use crate::mem::{Ask, Setup};
use crate::sync::actor::Turn;
use crate::sync::mailbox::Events;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::str::CString;
use kernel::sync::{Arc, SetOnce};

/// A lane with fewer spans than this gets those that must have one; if all have more, the one with the fewest.
pub(super) const BEHIND: u32 = 32;

/// As [`BEHIND`], for a span in which so many strips are at work. Many take long, and of spans that have many few come at once: with one
/// bound for all, large writes that end by interrupt were all the first lane's.
pub(super) fn behind(strips: u32) -> u32 {
    const FEWEST: u32 = 4;
    (2 * BEHIND / strips.max(2)).max(FEWEST)
}

/// The most lanes that an array uses if nobody has asked for a number.
const UNASKED: u32 = 8;

/// A lane: its queue, and where the spans in it are.
pub(super) struct Lane {
    slab: Arc<Slab>,
    queue: IndexStack,
    /// Spans that were given to it and that it has not run.
    depth: AtomicU32,
    /// How often the thread was woken.
    wakeups: AtomicU64,
}

impl thread::Work for Lane {
    fn run(&self) {
        // Whoever pushes after this look wakes the thread again.
        while !self.queue.is_empty() {
            // What these spans send to the members goes out together.
            plug::with(|| self.run_queued());
            context::cond_resched();
        }
    }
}

impl Lane {
    /// Runs the spans that are in the queue now.
    fn run_queued(&self) {
        let link = |index| self.slab.get(index).map(|span: &Arc<SpanObject>| &span.run);
        for index in self.queue.take_all(link) {
            let Some(span) = self.slab.get(index) else {
                continue;
            };
            if let Some(turn) = span.actor.resume() {
                span.counts.add(counters::Work::RunsLane, 1);
                run_rounds(span, turn);
            }
            self.depth.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct Running {
    lane: Arc<Lane>,
    thread: Thread<Lane>,
}

/// The lanes of an array: at least one.
pub(super) struct Lanes {
    lanes: KVec<SetOnce<Running>>,
    /// How many are in use. Those that were started stay; what is not in use is asleep.
    count: AtomicU32,
}

impl Lanes {
    /// Room for a lane on each of `cpus` CPUs, and no lane. May sleep.
    pub(super) fn new(cpus: u32, setup: &Setup) -> Result<Self> {
        let cpus = cpus.max(1);
        let mut lanes = KVec::with_capacity(cpus as usize, setup.flags())?;
        for _ in 0..cpus {
            lanes.push(SetOnce::new(), setup.flags())?;
        }
        Ok(Self {
            lanes,
            count: AtomicU32::new(0),
        })
    }

    /// Sees that `count` lanes are in use, at most one for each CPU; for 0 as many, up to eight. Sleeps.
    ///
    /// Only one caller at a time: `Array::changing` is held, or the array is not running yet.
    ///
    /// # Errors
    ///
    /// There is no memory for a thread; what was in use stays so.
    pub(super) fn set_count(
        &self,
        count: u32,
        slab: &Arc<Slab>,
        mddev: &Handle,
        setup: &Setup,
    ) -> Result {
        let most = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        let count = if count == 0 { UNASKED } else { count };
        let count = count.clamp(1, most);
        for (number, slot) in (0..count).zip(&self.lanes) {
            if slot.as_ref().is_some() {
                continue;
            }
            let lane = Arc::new(
                Lane {
                    slab: slab.clone(),
                    queue: IndexStack::new(),
                    depth: AtomicU32::new(0),
                    wakeups: AtomicU64::new(0),
                },
                setup.flags(),
            )?;
            let name = CString::try_from_fmt(fmt!("lane{number}"))?;
            let thread = Thread::start(mddev.clone(), &name, lane.clone())?;
            if !slot.populate(Running { lane, thread }) {
                return Err(EBUSY);
            }
        }
        self.count.store(count, Ordering::Release);
        Ok(())
    }

    /// Gives a span to a lane, if there is one to one that has fewer than `enough`. Any context.
    pub(super) fn queue<'a>(&self, span: &'a SpanObject, turn: Turn<'a, Work>, enough: u32) {
        let depth = |running: &&Running| running.lane.depth.load(Ordering::Relaxed);
        let found = self.in_use().find(|running| depth(running) < enough);
        let Some(running) = found.or_else(|| self.in_use().min_by_key(depth)) else {
            // There is always one: it is started before the first request comes.
            return;
        };
        running.lane.depth.fetch_add(1, Ordering::Relaxed);
        turn.suspend();
        if running.lane.queue.push(span.index, &span.run) == Pushed::First {
            running.lane.wakeups.fetch_add(1, Ordering::Relaxed);
            running.thread.wake();
        }
    }

    /// Posts events to a span, and gives it to a lane if nobody runs it. Any context.
    pub(super) fn post(&self, slab: &Slab, index: u32, events: Events) {
        if let Some(span) = slab.get(index) {
            if let Some(turn) = span.actor.post(events) {
                self.queue(span, turn, BEHIND);
            }
        }
    }

    /// Whether a lane has fewer spans than `enough`, and so may take one off a submitter who has more. One CPU is left to
    /// the submitter. Any context.
    pub(super) fn may_help(&self, enough: u32) -> bool {
        let others = self.count.load(Ordering::Acquire).saturating_sub(1).max(1);
        self.may_some_help(others, enough)
    }

    /// The same of the first `some` lanes.
    pub(super) fn may_some_help(&self, some: u32, enough: u32) -> bool {
        self.in_use()
            .take(some as usize)
            .any(|running| running.lane.depth.load(Ordering::Relaxed) < enough)
    }

    /// How often lanes were woken.
    pub(super) fn wakeups(&self) -> u64 {
        let running = self.lanes.iter().filter_map(SetOnce::as_ref);
        running
            .map(|running| running.lane.wakeups.load(Ordering::Relaxed))
            .sum()
    }

    fn in_use(&self) -> impl Iterator<Item = &Running> {
        let count = self.count.load(Ordering::Acquire).max(1) as usize;
        self.lanes.iter().take(count).filter_map(SetOnce::as_ref)
    }

    /// Ends the threads. No span may be at work any more. Sleeps.
    pub(super) fn stop(&self, locked: &Locked<'_>) {
        for running in self.lanes.iter().filter_map(SetOnce::as_ref) {
            running.thread.stop(locked);
        }
    }
}
