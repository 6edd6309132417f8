// SPDX-License-Identifier: GPL-2.0

//! Whether an array's jobs go to engines: the mode that an administrator sets, the tickets for that, and which channels have
//! failed too often.
//!
//! Locks: that of the tickets, taken alone, in task context with interrupts on.

use super::run::hand_over;
use super::table::Slab;
use super::ticket::{Size, Ticket};
use crate::md::mddev::{Handle, Locked};
use crate::md::thread::{self, Thread};
use crate::mem::pages::PAGE_SIZE;
use crate::mem::{Ask, NoWait, Setup};
use crate::new_wait_queue;
use crate::offload::channel::{self, Channel, Engines};
use crate::offload::course::Kind;
use crate::offload::health::{Health, Outcome, Record, CHANNELS};
use crate::offload::measure;
use crate::offload::stage;
use crate::raid::job::Job;
use crate::sync::mailbox::Events;
use crate::sync::waitqueue::WaitQueue;
use core::fmt::{self, Write};
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::sync::{new_spinlock, Arc, SetOnce, SpinLock};
use kernel::time::{Instant, Monotonic};

/// Bytes of spare pages that the tickets of an array have, if that is a number of tickets between these.
const SPARE_BYTES: usize = 16 << 20;
const FEWEST_TICKETS: usize = 32;
const MOST_TICKETS: usize = 512;

/// How many bytes each operation of a job has to read and write in the mode auto, before it was measured.
const DEFAULT_LEAST: u32 = 64 << 10;

/// What who wants engines used gets from a kernel that has none.
pub(super) const NO_ENGINES: Error = ENODEV;

/// When a job is late, in milliseconds, if nobody says otherwise.
const DEFAULT_LATE: u32 = 10_000;

/// The most that can be said. Who stops an array, or has its engines used no more, waits so long for one that hangs, with the
/// array's configuration locked: a kernel that looks for tasks that hang complains after 120 seconds.
pub(super) const MOST_LATE: u32 = 60_000;

/// Where jobs are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Mode {
    /// By the CPU that runs the span.
    Cpu,
    /// By engines, where a strip's job is large enough for that to pay.
    Auto,
    /// By engines, if they can do it.
    Dma,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Cpu, Self::Auto, Self::Dma];

    /// As the file in sysfs calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Auto => "auto",
            Self::Dma => "dma",
        }
    }

    /// The mode of this name.
    pub(super) fn from_name(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or(EINVAL)
    }
}

/// What channels are asked for, as the file in sysfs calls it.
const KINDS: [(&str, Kind); 5] = [
    ("copy", Kind::Copy),
    ("xor", Kind::Xor),
    ("pq", Kind::Pq),
    ("xor_check", Kind::XorCheck),
    ("pq_check", Kind::PqCheck),
];

/// What has come of jobs since the array was started, by strips.
#[derive(Default)]
pub(super) struct Counts {
    /// Done by engines.
    pub(super) dma: AtomicU64,
    /// Done by the CPU while the mode was another.
    pub(super) cpu: AtomicU64,
    /// Begun by engines, and done by the CPU in the end.
    pub(super) redone: AtomicU64,
    /// Of these, those that were late.
    pub(super) late: AtomicU64,
    /// Checks that an engine says have failed and the CPU does not.
    pub(super) false_alarms: AtomicU64,
}

/// Finds jobs that are late.
struct Watch {
    slab: Arc<Slab>,
}

impl thread::Work for Watch {
    fn run(&self) {
        let spans = (0..).map_while(|index| self.slab.get(index));
        for span in spans.filter(|span| span.jobs.load(Ordering::Relaxed) != 0) {
            // Its runner knows when they were begun.
            if let Some(turn) = span.actor.post(Events::JOB) {
                hand_over(span, turn);
            }
        }
    }
}

/// The tickets that nobody has, and how many somebody has.
struct Tickets {
    free: KVec<KBox<Ticket>>,
    out: u32,
    /// How many were left to engines, and could not be made anew.
    lost: u32,
    /// What tickets are made for; nothing in the mode cpu.
    engines: Option<Arc<Engines>>,
}

/// See the module.
#[pin_data]
pub(super) struct Offload {
    mode: AtomicU32,
    least: AtomicU32,
    late: AtomicU32,
    members: u16,
    #[pin]
    tickets: SpinLock<Tickets>,
    /// For who waits until no ticket is out.
    #[pin]
    back: WaitQueue,
    health: [Health; CHANNELS],
    /// What times are counted from.
    made: Instant<Monotonic>,
    pub(super) counts: Counts,
    watch: SetOnce<Thread<Watch>>,
}

impl Offload {
    /// Everything by the CPU. `members`: how many the array has.
    pub(super) fn new(members: u16) -> impl PinInit<Self> {
        pin_init!(Self {
            mode: AtomicU32::new(Mode::Cpu as u32),
            least: AtomicU32::new(DEFAULT_LEAST),
            late: AtomicU32::new(DEFAULT_LATE),
            members,
            tickets <- new_spinlock!(Tickets {
                free: KVec::new(),
                out: 0,
                lost: 0,
                engines: None,
            }, "raid456 tickets"),
            back <- new_wait_queue!("raid456 tickets back"),
            health <- pin_init::init_array_from_fn(|_| Health::new()),
            made: Instant::now(),
            counts: Counts::default(),
            watch: SetOnce::new(),
        })
    }

    /// The mode.
    pub(super) fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Relaxed) {
            0 => Mode::Cpu,
            1 => Mode::Auto,
            _ => Mode::Dma,
        }
    }

    /// Whether engines may be asked at all. For each job.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.mode.load(Ordering::Relaxed) != Mode::Cpu as u32
    }

    /// Whether a strip's job is large enough for what it takes to hand it over.
    pub(super) fn pays(&self, size: Size) -> bool {
        let least = (self.least() as usize).saturating_mul(size.operations);
        self.mode() == Mode::Dma || size.blocks.saturating_mul(PAGE_SIZE) >= least
    }

    /// After how many milliseconds a stage is late.
    pub(super) fn late(&self) -> u32 {
        self.late.load(Ordering::Relaxed)
    }

    /// In the mode auto, how many bytes each operation of a job has to read and write, on average, for engines to do it.
    pub(super) fn least(&self) -> u32 {
        self.least.load(Ordering::Relaxed)
    }

    /// Sets that.
    pub(super) fn set_least(&self, bytes: u32) {
        self.least.store(bytes, Ordering::Relaxed);
    }

    /// Sets after how many milliseconds a stage is late. Sleeps.
    pub(super) fn set_late(&self, locked: &Locked<'_>, millis: u32) {
        self.late.store(millis, Ordering::Relaxed);
        self.set_period(locked);
    }

    /// Takes a ticket.
    pub(super) fn take(&self) -> Option<KBox<Ticket>> {
        let mut tickets = self.tickets.lock();
        if !self.is_on() {
            return None;
        }
        if let Some(ticket) = tickets.free.pop() {
            tickets.out = tickets.out.saturating_add(1);
            return Some(ticket);
        }
        if tickets.lost == 0 || !self.may_replace() {
            return None;
        }
        // One that was lost can be made now: engines have ended what they had.
        let engines = tickets.engines.clone()?;
        tickets.lost = tickets.lost.saturating_sub(1);
        tickets.out = tickets.out.saturating_add(1);
        drop(tickets);
        let ticket = Ticket::new(engines, self.members, &NoWait).ok();
        if ticket.is_none() {
            self.lost(&mut self.tickets.lock());
        }
        ticket
    }

    /// Gives a ticket back of which nothing is under way.
    pub(super) fn give(&self, ticket: KBox<Ticket>) {
        let mut tickets = self.tickets.lock();
        // There is room: as many were taken out.
        let _ = tickets.free.push_within_capacity(ticket);
        self.one_back(&mut tickets);
    }

    /// A ticket is left to what is under way for nobody any more, which keeps its pages. There is another one for it now, or
    /// when one is wanted and can be made.
    pub(super) fn lose(&self, ticket: KBox<Ticket>) {
        let engines = ticket.engines().clone();
        drop(ticket);
        let may = self.may_replace();
        // Not kept any longer than a ticket is out: whoever gives them up last sleeps.
        let new = may.then(|| Ticket::new(engines, self.members, &NoWait));
        match new {
            Some(Ok(ticket)) => self.give(ticket),
            _ => self.lost(&mut self.tickets.lock()),
        }
    }

    /// Whether a lost ticket may be replaced: an engine that hangs would take one page after the other if engines could have
    /// more than there are tickets.
    fn may_replace(&self) -> bool {
        stage::abandoned() as usize <= tickets_for(self.members)
    }

    fn lost(&self, tickets: &mut Tickets) {
        tickets.lost = tickets.lost.saturating_add(1);
        self.one_back(tickets);
    }

    fn one_back(&self, tickets: &mut Tickets) {
        tickets.out = tickets.out.saturating_sub(1);
        if tickets.out == 0 && !self.is_on() {
            self.back.wake_all();
        }
    }

    /// The channel for operations of a kind, if there is one that does not fail all the time.
    pub(super) fn channel<'e>(&self, engines: &'e Engines, kind: Kind) -> Option<Channel<'e>> {
        let channel = engines.find(kind)?;
        self.record().is_good(channel.id()).then_some(channel)
    }

    fn record(&self) -> Record<'_> {
        Record(&self.health)
    }

    /// Takes note of how channels have done with a stage that was begun then, and has ended or was given up. Returns whether
    /// some channel is dropped by that.
    pub(super) fn note(
        &self,
        outcomes: impl Iterator<Item = (usize, Outcome)>,
        time: Range<Instant<Monotonic>>,
    ) -> bool {
        let since = |time: Instant<Monotonic>| (time - self.made).as_nanos();
        let time = since(time.start)..since(time.end);
        outcomes.fold(false, |dropped, (channel, outcome)| {
            dropped | self.record().note(channel, outcome, time.clone())
        })
    }

    /// Sets the mode; then the period is to be set. Sleeps.
    ///
    /// Only one caller at a time: `Array::changing` is held, or the array is not running yet.
    ///
    /// # Errors
    ///
    /// [`NO_ENGINES`]: this kernel has no dmaengine. `ENOMEM`.
    pub(super) fn set_mode(
        &self,
        mode: Mode,
        slab: &Arc<Slab>,
        mddev: &Handle,
        setup: &Setup,
    ) -> Result {
        if mode != Mode::Cpu && !channel::is_supported() {
            return Err(NO_ENGINES);
        }
        if mode == Mode::Cpu || !self.is_on() {
            self.stop_all();
        }
        self.record().forget();
        if mode != Mode::Cpu {
            self.prepare(slab, mddev, setup)?;
        }
        if mode == Mode::Auto {
            self.measure(setup);
        }
        self.mode.store(mode as u32, Ordering::Relaxed);
        Ok(())
    }

    /// Has the CPU do all that comes, waits for what engines do, and does not keep them any more. Sleeps.
    fn stop_all(&self) {
        self.mode.store(Mode::Cpu as u32, Ordering::Relaxed);
        // Each ends, or is late: then its ticket comes back, or is lost.
        self.back.wait(|| self.tickets.lock().out == 0);
        let mut tickets = self.tickets.lock();
        tickets.lost = 0;
        let free = core::mem::take(&mut tickets.free);
        let engines = tickets.engines.take();
        drop(tickets);
        // Sleeps.
        drop((free, engines));
        channel::give_up_kept();
    }

    /// Makes the tickets that are missing. Sleeps.
    fn prepare(&self, slab: &Arc<Slab>, mddev: &Handle, setup: &Setup) -> Result {
        if self.watch.as_ref().is_none() {
            let watch = Arc::new(Watch { slab: slab.clone() }, setup.flags())?;
            let thread = Thread::start(mddev.clone(), c"offload", watch)?;
            if !self.watch.populate(thread) {
                return Err(EBUSY);
            }
        }
        if self.is_on() {
            return Ok(());
        }
        let engines = Arc::new(Engines::get(), setup.flags())?;
        let count = tickets_for(self.members);
        let mut free = KVec::with_capacity(count, setup.flags())?;
        for _ in 0..count {
            let ticket = Ticket::new(engines.clone(), self.members, setup)?;
            free.push(ticket, setup.flags())?;
        }
        let mut tickets = self.tickets.lock();
        tickets.free = free;
        tickets.engines = Some(engines);
        Ok(())
    }

    /// Finds out from which size on engines pay. Sleeps.
    fn measure(&self, setup: &Setup) {
        let engines = self.tickets.lock().engines.clone();
        if let Some(bytes) = engines.and_then(|engines| measure::break_even(&engines, setup)) {
            self.set_least(bytes);
        }
    }

    /// Has jobs looked at as often as they may be late.
    pub(super) fn set_period(&self, locked: &Locked<'_>) {
        if let Some(watch) = self.watch.as_ref() {
            let often = self.late().clamp(40, 4000) / 4;
            watch.set_period(locked, self.is_on().then_some(often));
        }
    }

    /// Ends what was begun for the array. No span may be at work any more. Sleeps.
    pub(super) fn stop(&self, locked: &Locked<'_>) {
        self.stop_all();
        if let Some(watch) = self.watch.as_ref() {
            watch.stop(locked);
        }
    }

    /// Writes what has come of jobs.
    pub(super) fn show_counts(&self, text: &mut impl Write) -> fmt::Result {
        let counts = [
            ("dma", &self.counts.dma),
            ("cpu", &self.counts.cpu),
            ("redone", &self.counts.redone),
            ("late", &self.counts.late),
            ("false_alarms", &self.counts.false_alarms),
        ];
        for (name, count) in counts {
            writeln!(text, "{name} {}", count.load(Ordering::Relaxed))?;
        }
        writeln!(text, "dropped {}", self.record().dropped())?;
        writeln!(text, "quarantined {}", stage::abandoned())?;
        let tickets = self.tickets.lock();
        let Some(engines) = &tickets.engines else {
            return Ok(());
        };
        for (name, kind) in KINDS {
            // Of the CPU that reads this.
            if let Some(channel) = self.channel(engines, kind) {
                writeln!(text, "{name} {channel}")?;
            }
        }
        Ok(())
    }
}

/// How many tickets an array has.
fn tickets_for(members: u16) -> usize {
    let of_one = PAGE_SIZE.saturating_mul(usize::from(members).max(1));
    (SPARE_BYTES / of_one).clamp(FEWEST_TICKETS, MOST_TICKETS)
}

/// Whether engines do jobs of this kind: not what writes to memory of requests, which could not be kept from a late engine,
/// and not what is rare.
pub(super) fn is_for_engines(job: Job) -> bool {
    match job {
        Job::Write(_) | Job::Recover | Job::Check | Job::Parity => true,
        Job::Deliver | Job::Locate => false,
    }
}
