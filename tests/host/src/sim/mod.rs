// SPDX-License-Identifier: GPL-2.0

//! The simulator: one array, run in memory by the very code that the kernel runs, with everything going wrong around it.
//!
//! A seed says what the array looks like and what happens: which requests are made, in which order everything ends, which
//! members fail and when the power does. The code under test is `src/raid`: the simulator calls [`Span::step`] as the
//! driver does, and is its [`Env`]. What is a model here is the driver and what lies around it:
//!
//! | module      | models                                                                                    |
//! |-------------|-------------------------------------------------------------------------------------------|
//! | `device`    | members: images, volatile caches, unreadable sectors, the metadata on them                |
//! | `io`        | member bios: when they take effect, how they fail, how a power cut tears them             |
//! | `table`     | span objects and strip kits, both scarce                                                  |
//! | `runner`    | the mailbox rules, lanes, member bios from columns                                        |
//! | `env`       | the world as a span sees it                                                               |
//! | `engines`   | jobs that go on elsewhere, end late and in any order, and fail                            |
//! | `jobs`      | the jobs on pages, with `code`, which knows what parity says, and `field`, its arithmetic |
//! | `request`   | requests and the counts that must come out even                                           |
//! | `submit`    | make_request, current->bio_list, plugs, direct reads                                      |
//! | `md`        | md core's flags and counts: failures, superblock changes, suspending                      |
//! | `daemon`    | the array's thread: superblock updates, bitmap flushes                                    |
//! | `bitmap`    | the write-intent bitmap                                                                   |
//! | `sync`      | resync, rebuild, check, repair                                                            |
//! | `admin`     | failures, spares, quiesce, the shrinker                                                   |
//! | `reboot`    | what md core does to an array when the machine goes down                                  |
//! | `silent`    | corruption behind the array's back, and which blocks are to be located                    |
//! | `power`     | power cuts and assembly                                                                   |
//! | `shortage`  | memory that is not there when somebody asks for it, and kits that the kernel has back     |
//!
//! and what judges it: `history` (what each sector may hold, going by the writes that were made), `oracle` (parity, the
//! cache, refusals) and `held` (what members hold of what is said to be done). All is done in small steps, one actor at a time, chosen by the dice.
//!
//! [`Span::step`]: crate::raid::span::Span::step
//! [`Env`]: crate::raid::job::Env

mod admin;
mod bitmap;
mod code;
mod config;
mod daemon;
mod device;
mod engines;
mod env;
mod field;
mod held;
mod history;
mod io;
mod jobs;
mod many;
mod md;
mod oracle;
mod power;
mod reboot;
mod report;
mod request;
mod rng;
mod runner;
mod shortage;
mod silent;
mod start;
mod submit;
mod sync;
mod table;

pub use many::run_many;
pub use report::{Failure, Outcome, Summary};
pub use shortage::{Scenario, Shortage};

use crate::raid::geometry::Geometry;
use admin::Admin;
use bitmap::Bitmap;
use code::Code;
use config::Config;
use daemon::Daemon;
use device::Device;
use engines::PendingJob;
use history::History;
use io::Io;
use md::Md;
use oracle::{Excuse, Row};
use report::Event;
use request::Requests;
use rng::Rng;
use shortage::Memory;
use silent::Scribble;
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{catch_unwind, AssertUnwindSafe};
use submit::{Submitter, Unposted};
use sync::Sync;
use table::{Table, KEPT};

/// Scheduler steps in a row in which nobody could go on.
const STUCK: u32 = 20_000;

/// Scheduler steps after which a run should long have ended.
const ENDLESS: u64 = 2_000_000;

/// One small step of some actor; false if it could not go on.
type Act = fn(&mut Sim) -> bool;

/// One run.
struct Sim {
    seed: u64,
    /// What this run is beside its seed, for who runs it again.
    words: String,
    memory: Memory,
    config: Config,
    geometry: Geometry,
    /// What parity says in each stripe.
    codes: Vec<Code>,
    rng: Rng,
    /// For all that has to do with replacements.
    replace_rng: Rng,
    /// For engines that fail.
    engine_rng: Rng,
    cache_rng: Rng,
    give_rng: Rng,
    room_rng: Rng,
    trust_rng: Rng,
    reboot_rng: Rng,
    step: u64,
    /// All devices that ever were, by number.
    devices: Vec<Device>,
    md: Md,
    bitmap: Option<Bitmap>,
    table: Table,
    requests: Requests,
    submitters: Vec<Submitter>,
    /// Parts that wait for a span object, off their submitter's hands.
    unposted: VecDeque<Unposted>,
    /// Requests whose end waits until failures are recorded.
    flush_waiters: Vec<usize>,
    /// In flight.
    ios: Vec<Io>,
    jobs: Vec<PendingJob>,
    daemon: Daemon,
    sync: Sync,
    /// The sync thread, not the administrator, has the array quiesced.
    quiesced_by_sync: bool,
    admin: Admin,
    /// Picks in a row in which nobody but the administrator could go on.
    stalled: u32,
    /// Requests still to be made.
    budget: u32,
    /// Steps between the last request and the end of all troubles.
    linger: u32,
    /// No more requests, no more troubles.
    draining: bool,
    rows: Vec<Row>,
    /// What was changed behind the array's back, by row, as long as that is all that is wrong there.
    silent: BTreeMap<usize, Vec<Scribble>>,
    history: History,
    summary: RefCell<Summary>,
    failure: RefCell<Option<Failure>>,
    trace: Option<RefCell<Vec<String>>>,
}

/// Runs one seed.
///
/// With `trace`, the outcome tells everything that happened, in order.
pub fn run(seed: u64, trace: bool) -> Outcome {
    let scenario = Scenario {
        seed,
        ..Scenario::default()
    };
    run_scenario(&scenario, trace)
}

/// Runs a seed, or a small array of it, with memory that may fail. `trace` as for [`run`].
pub fn run_scenario(scenario: &Scenario, trace: bool) -> Outcome {
    let mut sim = Sim::new(scenario, trace);
    // The logic may find fault with itself (debug assertions); that is a failure like any other.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sim.run())) {
        sim.fail("no panic", panic_text(&*panic));
    }
    sim.summary.get_mut().seeds = 1;
    sim.summary.get_mut().steps = sim.step;
    let (asked, failed) = sim.memory.counts();
    Outcome {
        failure: sim.failure.into_inner(),
        summary: sim.summary.into_inner(),
        trace: sim.trace.map(RefCell::into_inner).unwrap_or_default(),
        asked,
        failed,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of an unknown kind"))
}

impl Sim {
    fn run(&mut self) {
        let mut idle = 0;
        while !self.failed() {
            self.step += 1;
            if self.schedule() {
                idle = 0;
            } else {
                idle += 1;
            }
            if self.budget == 0 && !self.draining && self.requests.len() == 0 {
                self.linger = self.linger.saturating_sub(1);
                self.draining = self.linger == 0;
            }
            if self.draining && self.is_at_rest() {
                self.check_end();
                return;
            }
            if idle > STUCK || self.step > ENDLESS {
                self.fail(
                    "everything to end",
                    format!("it is stuck: {}", self.show_stuck()),
                );
            }
        }
    }

    /// Lets some actor go on. Returns false if it could not.
    fn schedule(&mut self) -> bool {
        let pace = self.config.pace;
        // Each with whether it is one of those on whom requests may depend.
        let actors: [(u32, Act, bool); 8] = [
            (pace.io, Self::end_some_io, true),
            (pace.lane, Self::run_lane, true),
            (pace.job, Self::end_some_job, true),
            (pace.submit, Self::submit, true),
            (pace.daemon, Self::daemon, true),
            (pace.sync, Self::sync, true),
            (pace.admin, Self::admin, false),
            (pace.streams, Self::look_at_streams, true),
        ];
        let total = actors.iter().map(|(weight, _, _)| weight).sum();
        let mut dice = self.rng.below(total);
        for (weight, act, counts) in actors {
            match dice.checked_sub(weight) {
                Some(rest) => dice = rest,
                None => {
                    let acted = act(self);
                    self.stalled = if acted && counts { 0 } else { self.stalled + 1 };
                    return acted;
                }
            }
        }
        false
    }

    /// Whether nothing is left to be done.
    fn is_at_rest(&self) -> bool {
        let lacking = (0..self.md.slots.len()).any(|slot| self.member(slot).is_none());
        let mendable = (lacking || self.has_failed_replacement()) && self.may_mend();
        self.submitters.iter().all(Submitter::is_idle)
            && self.requests.len() == 0
            && self.ios.is_empty()
            && self.jobs.is_empty()
            && self.unposted.is_empty()
            && self.table.lanes.is_empty()
            && !self.table.entries.iter().any(|entry| entry.active)
            && self.daemon.is_idle()
            && !self.md.change()
            && !self.bitmap.as_ref().is_some_and(|bitmap| bitmap.wanted)
            && self.admin == Admin::Idle
            && self.sync.is_idle()
            && !self.wants_sync()
            && !mendable
    }

    /// At the end: everything was given back, and the members hold what they should.
    fn check_end(&mut self) {
        let (kits, total) = (self.table.count_kits(), self.table.total_kits());
        if kits != total {
            self.fail(&format!("{total} kits"), format!("{kits}"));
        }
        if kits < KEPT as usize {
            self.fail("the kits that are kept", format!("{kits}"));
        }
        let counts = [
            ("references that quiesce waits for", self.md.inflight),
            ("md_write_start() without an end", self.md.writes_pending),
            ("requests under way", self.md.active_io),
            ("spans parked for kits", self.table.starving()),
        ];
        for (what, count) in counts {
            if count != 0 {
                self.fail(&format!("no {what} at the end"), format!("{count}"));
            }
        }
        if self
            .bitmap
            .as_ref()
            .is_some_and(|bitmap| !bitmap.is_quiet())
        {
            self.fail("no writes counted in the bitmap at the end", "some".into());
        }
        let broken = self.md.broken.get();
        for row in 0..self.rows.len() {
            self.check_data(row);
            let state = self.rows[row];
            let excused = state.lossy || state.excuse == Excuse::Scribbled || broken;
            if !excused && !self.row_matches(row, self.missing(row)) {
                self.fail(
                    &format!("parity of row {row} to be right at the end"),
                    "it is wrong".into(),
                );
            }
        }
    }

    /// Records what went wrong, if it is the first thing.
    fn fail(&self, expected: &str, came: String) {
        let mut failure = self.failure.borrow_mut();
        if failure.is_none() {
            self.note(|| format!("expected {expected}; came {came}"));
            *failure = Some(Failure {
                seed: self.seed,
                step: self.step,
                words: self.words.clone(),
                array: format!("{:?}", self.config),
                expected: expected.into(),
                came,
            });
        }
    }

    fn failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    fn count(&self, event: Event) {
        self.summary.borrow_mut().count(event);
    }

    /// Adds to the trace, if there is one.
    fn note(&self, text: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace
                .borrow_mut()
                .push(format!("{:>7} {}", self.step, text()));
        }
    }

    /// Who waits for what.
    fn show_stuck(&self) -> String {
        let mut text = String::new();
        for (_, request) in self.requests.iter() {
            text += &format!(
                "\n    request {} ({:?} {}+{}) since step {}",
                request.id, request.kind, request.start, request.len, request.since
            );
        }
        for (index, submitter) in self.submitters.iter().enumerate() {
            text += &format!("\n    submitter {index}: {}", submitter.show());
        }
        for (index, entry) in self.table.entries.iter().enumerate() {
            if let (true, Some(key), Some(actor)) = (entry.active, entry.key, &entry.actor) {
                text += &format!(
                    "\n    entry {index}, span {}: owned {}, {:?}, waits {:?}, kits {:?}, parts {:?}",
                    key.sector,
                    entry.owned,
                    actor.span.phases(),
                    actor.span.waits(),
                    actor.span.kits(),
                    actor.parts.list
                );
            }
        }
        text += &format!(
            "\n    free kits {}, starved {}, parked {:?} {:?}, lanes {:?}, unposted {}, in flight {}, jobs {}",
            self.table.free_kits.len(),
            self.table.starving(),
            self.table.parked_bitmap,
            self.table.parked_super,
            self.table.lanes,
            self.unposted.len(),
            self.ios.len(),
            self.jobs.len()
        );
        text += &format!(
            "\n    daemon {:?}, sync {}, admin {:?}",
            self.daemon,
            self.sync.show(),
            self.admin
        );
        text += &format!("\n    {:?}", self.md);
        text
    }
}
