// SPDX-License-Identifier: GPL-2.0

//! The runner of a span: takes what was posted, lets `raid/` step, and sends what comes out of it to the members.
//!
//! Whoever gets a span's turn calls [`run`], or hands the span to a lane where running is not allowed. A runner holds no
//! lock and never sleeps; it needs task context with interrupts on, for parity may use vector registers.

use super::counters;
use super::deferred::Comes;
use super::engines;
use super::env::RunEnv;
use super::kits::{KitList, Kits};
use super::lanes;
use super::object::{SpanObject, Work};
use super::part::Item;
use super::pump;
use super::queue::Pushed;
use super::table::Reclaimed;
use super::Array;
use crate::md::trace::{self, Reason};
use crate::mem::mempool::Pooled;
use crate::raid::phase::{Phase, Phases};
use crate::sync::actor::Turn;
use crate::sync::gate::Entry;
use crate::sync::mailbox::Events;
use core::sync::atomic::Ordering;
use kernel::sync::Arc;

/// After so many rounds a runner hands the span to a lane, so that nobody who only wanted to submit is kept.
const ROUNDS: u32 = 4;

/// Runs a span until it has nothing to do for now.
///
/// Task context with interrupts on, where bios may be submitted; does not sleep.
pub(super) fn run<'a>(span: &'a Arc<SpanObject>, turn: Turn<'a, Work>) {
    span.counts.add(counters::Work::RunsInline, 1);
    run_rounds(span, turn);
}

/// As [`run`], for who has counted the run.
pub(super) fn run_rounds<'a>(span: &'a Arc<SpanObject>, turn: Turn<'a, Work>) {
    let mut turn = turn;
    for _ in 0..ROUNDS {
        match round(span, turn) {
            Some(again) => turn = again,
            None => return,
        }
    }
    hand_over(span, turn);
}

/// Gives a span to a lane to run. Any context.
pub(super) fn hand_over<'a>(span: &'a Arc<SpanObject>, turn: Turn<'a, Work>) {
    let strips = turn.span.phases().busy().count();
    give(span, turn, lanes::behind(strips));
}

/// As [`hand_over`], if there is one to a lane that has fewer spans than `enough`.
pub(super) fn give<'a>(span: &'a Arc<SpanObject>, turn: Turn<'a, Work>, enough: u32) {
    if let Some(turn) = unless_ended(span, turn) {
        if let Some(entry) = turn.entry.clone() {
            entry.lanes.queue(span, turn, enough);
        }
    }
}

/// Takes in the parts that were posted, and returns the turn: the span keeps its array by then. If there is nothing but a late
/// event to a span that has ended, its turn is given up. Any context.
pub(super) fn unless_ended<'a>(
    span: &'a SpanObject,
    turn: Turn<'a, Work>,
) -> Option<Turn<'a, Work>> {
    let mut turn = turn;
    loop {
        turn.accept(span);
        // A span that does not know its array yet has been posted its first part: that one does. The events are left for the
        // runner to see.
        if turn.entry.is_some() {
            return Some(turn);
        }
        let events = turn.take();
        if span.posted.is_empty() {
            match turn.finish() {
                Ok(()) => return None,
                Err(again) => turn = again,
            }
        } else {
            // One that was posted after the first look, whose event may be among these: another one need not come. As the span
            // is owned, here, nobody else gets its turn.
            let _none = span.actor.post(events);
        }
    }
}

/// One round: from the events to the bios. Returns the turn if there is more to do at once.
fn round<'a>(span: &'a Arc<SpanObject>, mut turn: Turn<'a, Work>) -> Option<Turn<'a, Work>> {
    let events = turn.take();
    turn.accept(span);
    let Some(entry) = turn.entry.take() else {
        // A late event to a span that has ended.
        return turn.finish().err();
    };
    let array: &Array = &entry;
    if step(&entry, span, &mut turn, events) {
        turn.entry = Some(entry);
        return Some(turn);
    }
    if !turn.is_quiet() {
        turn.entry = Some(entry);
        return turn.finish().err();
    }
    // Nothing is left to do. Parts that come bring an entry of their own.
    let sector = turn.span.key().sector;
    match array.table.retire(span, turn) {
        Ok(()) => {
            trace::span_end(&array.mddev, sector);
            array.span_came_free();
            if array.kits.anybody_waits() {
                // Its cached blocks can be forgotten now.
                array.look_for_kits(span);
            }
            None
        }
        Err(mut again) => {
            // A late event. The span is still active, and whoever has its turn is to end that, so it needs the array.
            again.entry = Some(entry);
            Some(again)
        }
    }
}

/// Does what there is to do for a span at once. Returns whether there is more by now.
fn step(entry: &Entry<Array>, span: &Arc<SpanObject>, work: &mut Work, events: Events) -> bool {
    let array: &Array = entry;
    let granted = Kits::is_granted(span);
    let Work {
        span: logic,
        columns,
        ports,
        parts,
        kits,
        tickets,
        stream,
        ..
    } = work;
    let mut env = RunEnv {
        array,
        span,
        sector: logic.key().sector,
        kits,
        tickets,
        entry,
        granted,
        taken: false,
        freed: false,
    };
    if events.contains(Events::IO) {
        pump::collect(logic, columns, ports, &mut env);
    }
    if events.contains(Events::JOB) {
        engines::collect(logic, columns, parts, &mut env);
    }
    if events.contains(Events::FLUSH) {
        logic.release();
    } else if events.contains(Events::UNPLUG) {
        logic.unplug();
    }
    loop {
        logic.step(columns, parts, &mut env);
        if !pump::issue(logic, columns, ports, &mut env) {
            break;
        }
    }
    let sector = env.sector;
    trace::span_step(&array.mddev, || step_of(sector, events, logic.phases()));
    let waits = logic.waits();
    if granted && !waits.memory {
        // Not before: until it had taken its kit others were to wait.
        array.kits.end_grant(span);
    }
    array.watch_held(span, waits.rest.then_some(*stream));
    if array.kits.anybody_waits() {
        let shed = logic.shed(columns);
        env.free_kits(shed);
    }
    let freed = env.freed;
    let ended = parts.take_ended();
    if ended != 0 {
        // Before their owners hear of it, who may look.
        span.count_parts(0, ended);
    }
    parts.complete(array);
    if granted && !waits.memory {
        // It got what it wanted, and may have left some.
        array.look_for_kits(span);
    } else if freed {
        array.grant_kits();
    }

    let mut ready = false;
    if waits.memory {
        debug_assert!(
            env.holds_only(logic.phases().busy()),
            "a span that waits for memory must hold nothing that another one needs"
        );
        let comes = match (granted, env.taken) {
            (false, _) => Comes::Anew,
            (true, true) => Comes::Again,
            (true, false) => Comes::InVain,
        };
        array.wait_for_kits(span, comes);
    }
    if waits.superblock {
        ready |= array.wait_for_superblock(span);
    }
    if let Some(seq) = waits.bitmap {
        ready |= array.wait_for_bitmap(span, seq);
    }
    ready
}

/// What a step has made of a span, for who traces it.
fn step_of(sector: u64, events: Events, phases: &Phases) -> trace::Step {
    let busy =
        phases.of(Phase::Computing) | phases.of(Phase::Checking) | phases.of(Phase::Repairing);
    trace::Step {
        sector,
        events: events.bits(),
        gathering: phases.of(Phase::Gathering).0,
        reading: phases.of(Phase::Reading).0,
        computing: busy.0,
        logging: phases.of(Phase::Logging).0,
        writing: phases.of(Phase::Writing).0,
    }
}

impl Work {
    /// Takes in the parts that were posted.
    fn accept(&mut self, span: &SpanObject) {
        if !span.posted.is_empty() {
            self.take_in(span, span.posted.take_all());
        }
    }

    /// Takes in parts, with their posters' pins.
    pub(super) fn take_in(&mut self, span: &SpanObject, items: impl Iterator<Item = Pooled<Item>>) {
        let sector = self.span.key().sector;
        let Self {
            parts,
            entry,
            stream,
            ..
        } = self;
        parts.append(items.map(|mut item| {
            if let Some(brought) = item.entry.take() {
                entry.get_or_insert_with(|| {
                    trace::span_begin(&brought.mddev, sector);
                    brought
                });
            }
            span.counts.add(counters::Work::Parts, 1);
            span.count_parts(1, 0);
            if item.part.hold.is_stream() {
                *stream = item.stream;
                span.wait.come();
            }
            // The part came with its poster's pin.
            span.pins.fetch_sub(1, Ordering::Release);
            item
        }));
    }
}

impl Array {
    /// Lets the first span that waits for a kit try to take one, if there is one that has not been granted.
    pub(super) fn grant_kits(&self) {
        if !self.kits.anybody_waits() {
            return;
        }
        let Some(index) = self.kits.next_waiting(self.table.slab()) else {
            return;
        };
        self.post_to(index, Events::MEMORY);
    }

    /// Posts events to a span, and gives it to a lane if nobody runs it. Any context.
    pub(super) fn post_to(&self, index: u32, events: Events) {
        self.lanes.post(self.table.slab(), index, events);
    }

    /// Gives kits to whoever needs them. Returns whether somebody can have one. Task context with interrupts on.
    pub(super) fn give_kits(&self, list: KitList) -> bool {
        let some = self.kits.give_all(list);
        if some {
            self.grant_kits();
        }
        some
    }

    /// Puts a span that got no kit into the deferred list. Its runner still owns it.
    fn wait_for_kits(&self, span: &SpanObject, comes: Comes) {
        let deferred = self.kits.defer(self.table.slab(), span.index, comes);
        if deferred != Pushed::Already {
            span.counts.add(counters::Work::ParksMemory, 1);
            trace::span_park(&self.mddev, span.sector(), Reason::Memory);
        }
        // A kit may have come free between the attempt and this; nobody would tell. It is not taken here, for it may be the one
        // that another span was woken for.
        let found = self.look_for_kits(span);
        if !found && (deferred == Pushed::First || comes != Comes::Anew) {
            // Spans that become idle from here on see that somebody waits. What is active by then may have cached blocks,
            // and somebody who sleeps for the memory that the waiting span would write back may keep it so.
            self.shed_active();
        }
    }

    /// Has somebody woken if there is a kit for him, also one of an inactive span. Returns whether there is one.
    fn look_for_kits(&self, span: &SpanObject) -> bool {
        self.tell_of_kits(|kits| self.table.reclaim(span, kits))
    }

    /// As [`Self::look_for_kits`]; `reclaim` has inactive spans forget what they have.
    fn tell_of_kits(&self, reclaim: impl FnOnce(&Kits) -> Reclaimed) -> bool {
        let kits = &self.kits;
        let found = if kits.is_any_left() {
            Reclaimed::Found
        } else if kits.anybody_lacks() {
            reclaim(kits)
        } else {
            Reclaimed::Nothing
        };
        match found {
            Reclaimed::Found => self.grant_kits(),
            Reclaimed::Perhaps => self.have_looked_again(),
            Reclaimed::Nothing => {}
        }
        found == Reclaimed::Found
    }

    /// Has the first span that waits for a kit look for one once more: there may be one soon of which nobody tells.
    fn have_looked_again(&self) {
        if let Some(index) = self.kits.first_waiting() {
            self.post_to(index, Events::MEMORY);
        }
    }

    /// Sees that nobody waits for a kit that the caller has taken away after it was found: he looks for another one.
    pub(super) fn see_to_waiting(&self) {
        if self.kits.anybody_lacks() && !self.tell_of_kits(|kits| self.table.reclaim_any(kits)) {
            self.shed_active();
        }
    }

    /// Forgets what the active spans that nobody runs have cached, until a kit has come free that somebody can have. Who runs one
    /// of the others does it there.
    fn shed_active(&self) {
        for span in self.table.slab().active() {
            let Some(mut turn) = span.actor.claim() else {
                // Its runner may have looked before somebody waited: it is to look again.
                if let Some(turn) = span.actor.post(Events::MEMORY) {
                    hand_over(span, turn);
                }
                continue;
            };
            let freed = turn.shed();
            if let Err(again) = turn.finish() {
                hand_over(span, again);
            }
            if self.give_kits(freed) {
                return;
            }
        }
    }
}
