// SPDX-License-Identifier: GPL-2.0

//! How the span table and the runners use an actor: a span that has nothing to do is put away, and may be given another
//! place, while somebody looks it up and posts to it, and while late events come for work that has ended.
//!
//! The model follows `lookup`, `Pinned::post`, `retire` and `forget_all` of `src/array/table.rs` and `round`, `accept`, `hand_over` and
//! `unless_ended` of `src/array/run.rs`, step by step, for a shard with one span. What it stands on is the real thing: the actor, and
//! the stack of parts.

use super::explore_within;
use super::stack::Owner;
use crate::sync::actor::{Actor, Turn};
use crate::sync::mailbox::Events;
use crate::sync::stack::Stack;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// How a table works; the real one as `RIGHT`, with one fault otherwise.
mod way {
    pub(super) const RIGHT: u32 = 0;
    pub(super) const GIVES_UP_BEFORE_THE_LOCK: u32 = 1;
    pub(super) const RETIRES_WHAT_IS_PINNED: u32 = 2;
    pub(super) const EVICTS_WITHOUT_CLAIM: u32 = 3;
    pub(super) const PUTS_AWAY_IN_ANY_CASE: u32 = 4;
    /// The pin goes before the event comes, not with the part.
    pub(super) const UNPINS_AND_POSTS: u32 = 5;
    pub(super) const RUNS_ON_WITHOUT_ENTRY: u32 = 6;
    /// Parts are looked for before the events are taken, and not afterwards.
    pub(super) const HANDS_OVER_AND_TAKES: u32 = 7;
    pub(super) const HANDS_OVER_WITHOUT_THE_EVENTS: u32 = 8;
    pub(super) const FORGETS_NOT_WHAT_SOMEBODY_HAS: u32 = 9;
    /// The events are dropped with which a part comes between the two looks.
    pub(super) const DROPS_THE_EVENTS_OF_A_PART: u32 = 10;
    /// The part has the only entry that the poster had.
    pub(super) const GIVES_THE_ENTRY_AWAY: u32 = 11;
    /// The poster keeps its entry until the event has come, and not while it looks what the turn is for that it got.
    pub(super) const LEAVES_WITH_THE_TURN: u32 = 12;
}

/// A part is a number: its place times ten, and its own. It gathers, until a flush, if its own is this or more.
const GATHERS: u32 = 5;

/// What the shard's lock protects, of its one span.
struct Shard {
    /// The span's place; none while it is out of the lists.
    key: Option<u32>,
    /// Whether the span is in use: not to be evicted.
    active: bool,
}

/// What only the span's owner touches.
struct Work {
    /// The place as the runner knows it.
    key: u32,
    /// Whether the span knows its array.
    entry: bool,
    /// Parts that were accepted, and are not done.
    parts: Vec<u32>,
    done: Vec<u32>,
    /// It has blocks that were read or written before.
    cached: bool,
}

/// A shard with one span.
struct Table<const WAY: u32> {
    shard: Mutex<Shard>,
    pins: AtomicU32,
    /// How many spans are active.
    active: AtomicU32,
    posted: Stack<Owner>,
    actor: Actor<()>,
    /// Beside the actor: a faulty copy gets at it without a turn.
    work: UnsafeCell<Work>,
    /// A lane has been told of a turn that was left.
    told: AtomicBool,
    /// Those who keep the array: submitters, parts that were not accepted, and the span.
    entries: AtomicU32,
    /// Whether these are counted, so that the array may go when there are none.
    counts: bool,
    /// The array's memory.
    memory: UnsafeCell<()>,
}

// SAFETY: Loom checks that only the span's owner touches `work`.
unsafe impl<const WAY: u32> Send for Table<WAY> {}
// SAFETY: As above.
unsafe impl<const WAY: u32> Sync for Table<WAY> {}

impl<const WAY: u32> Table<WAY> {
    fn new(key: u32) -> Arc<Self> {
        Arc::new(Self::with(key, None))
    }

    /// A table of an array that may go, with as many submitters who have entered.
    fn entered(key: u32, submitters: u32) -> Arc<Self> {
        Arc::new(Self::with(key, Some(submitters)))
    }

    fn with(key: u32, entries: Option<u32>) -> Self {
        Self {
            shard: Mutex::new(Shard {
                key: Some(key),
                active: false,
            }),
            pins: AtomicU32::new(0),
            active: AtomicU32::new(0),
            posted: Stack::new(),
            actor: Actor::new(()),
            work: UnsafeCell::new(Work {
                key,
                entry: false,
                parts: Vec::new(),
                done: Vec::new(),
                cached: true,
            }),
            told: AtomicBool::new(false),
            entries: AtomicU32::new(entries.unwrap_or(0)),
            counts: entries.is_some(),
            memory: UnsafeCell::new(()),
        }
    }

    /// One entry more, for who has one.
    fn enter(&self) {
        if self.counts {
            self.entries.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn leave(&self) {
        if self.counts {
            self.entries.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Something of the array is used.
    fn is_used(&self) {
        if self.counts {
            self.memory.with(|_| ());
        }
    }

    /// The array goes, if nobody is inside; nobody comes in any more.
    fn stop(&self) {
        if self.entries.load(Ordering::SeqCst) == 0 {
            self.memory.with_mut(|_| ());
        }
    }

    /// What the span's owner does.
    fn work<R>(&self, act: impl FnOnce(&mut Work) -> R) -> R {
        // SAFETY: Only the owner gets here; loom checks it.
        self.work.with_mut(|work| act(unsafe { &mut *work }))
    }

    /// Pins the span for `key`, for a post; false if it is at another place, and in use there.
    fn lookup(&self, key: u32) -> bool {
        let mut shard = self.shard.lock().unwrap();
        if shard.key == Some(key) {
            self.pin(&mut shard);
            return true;
        }
        if shard.active || shard.key.is_none() {
            return false;
        }
        let turn = self.actor.claim();
        if turn.is_none() && WAY != way::EVICTS_WITHOUT_CLAIM {
            return false;
        }
        shard.key = None;
        drop(shard);
        self.work(|work| {
            assert!(
                work.parts.is_empty(),
                "only a span without work gets another place"
            );
            work.key = key;
        });
        if let Some(turn) = turn {
            finish_quiet(turn);
        }
        let mut shard = self.shard.lock().unwrap();
        shard.key = Some(key);
        self.pin(&mut shard);
        true
    }

    fn pin(&self, shard: &mut Shard) {
        if !shard.active {
            shard.active = true;
            self.active.fetch_add(1, Ordering::Relaxed);
        }
        self.pins.fetch_add(1, Ordering::Relaxed);
    }

    fn unpin(&self) {
        self.pins.fetch_sub(1, Ordering::Release);
    }

    /// Posts a part for a place, for who has an entry. What gathers is flushed afterwards. Whether there was a span for it.
    fn submit(&self, part: u32) -> bool {
        if !self.lookup(part / 10) {
            self.leave();
            return false;
        }
        if let Some(turn) = self.post_part(part) {
            self.run(turn);
        }
        if part % 10 >= GATHERS {
            self.post(Events::FLUSH);
        }
        true
    }

    /// Posts a part to the span, which is pinned.
    fn post_part(&self, part: u32) -> Option<Turn<'_, ()>> {
        self.is_used();
        if let Some(turn) = self.actor.claim() {
            self.take_in(part);
            if WAY == way::UNPINS_AND_POSTS {
                self.unpin();
            }
            let none = self.actor.post(Events::PARTS);
            assert!(none.is_none(), "who has claimed a span owns it");
            return Some(turn);
        }
        if WAY != way::GIVES_THE_ENTRY_AWAY {
            self.enter();
        }
        self.is_used();
        self.posted.push(Owner::new(part));
        if WAY == way::UNPINS_AND_POSTS {
            self.unpin();
        }
        self.is_used();
        let turn = self.actor.post(Events::PARTS);
        if WAY == way::LEAVES_WITH_THE_TURN {
            self.leave();
        }
        let turn = turn.and_then(|turn| self.unless_ended(turn));
        if ![way::GIVES_THE_ENTRY_AWAY, way::LEAVES_WITH_THE_TURN].contains(&WAY) {
            self.leave();
        }
        turn
    }

    /// Posts events, and runs the span if nobody else does.
    fn post(&self, events: Events) {
        if let Some(turn) = self.actor.post(events) {
            self.run(turn);
        }
    }

    /// Posts events where the span may not be run.
    fn post_in_passing(&self, events: Events) {
        if let Some(turn) = self.actor.post(events) {
            self.hand_over(turn);
        }
    }

    /// Looks at a span that nobody runs, for what it has cached.
    fn shed(&self) {
        if let Some(turn) = self.actor.claim() {
            if let Err(again) = turn.finish() {
                self.hand_over(again);
            }
        }
    }

    /// Has the span forget what it has cached: as `forget_all`, when no request is under way.
    fn forget_all(&self) {
        loop {
            let mut shard = self.shard.lock().unwrap();
            if shard.active {
                return;
            }
            let Some(turn) = self.actor.claim() else {
                drop(shard);
                if WAY == way::FORGETS_NOT_WHAT_SOMEBODY_HAS {
                    return;
                }
                thread::yield_now();
                continue;
            };
            shard.key = None;
            drop(shard);
            self.work(|work| work.cached = false);
            finish_quiet(turn);
            return;
        }
    }

    fn run(&self, turn: Turn<'_, ()>) {
        let mut next = Some(turn);
        while let Some(turn) = next {
            next = self.round(turn);
        }
    }

    fn round<'a>(&'a self, mut turn: Turn<'a, ()>) -> Option<Turn<'a, ()>> {
        let events = turn.take();
        if !self.accept() {
            return turn.finish().err();
        }
        let quiet = self.work(|work| work.step(events.contains(Events::FLUSH)));
        if !quiet {
            return turn.finish().err();
        }
        self.work(|work| work.entry = false);
        let Err(again) = self.retire(turn) else {
            self.is_used();
            self.leave();
            return None;
        };
        self.work(|work| work.entry = WAY != way::RUNS_ON_WITHOUT_ENTRY);
        Some(again)
    }

    /// Takes in the parts that were posted. Whether the span knows its array.
    fn accept(&self) -> bool {
        if !self.posted.is_empty() {
            for part in self.posted.take_all() {
                self.take_in(part.value());
            }
        }
        self.work(|work| work.entry)
    }

    /// Takes in a part, with its poster's pin, and with an entry.
    fn take_in(&self, part: u32) {
        let one_more = self.work(|work| {
            work.parts.push(part);
            std::mem::replace(&mut work.entry, true)
        });
        if one_more {
            self.leave();
        }
        if WAY != way::UNPINS_AND_POSTS {
            self.unpin();
        }
    }

    /// Ends the turn at a span without work: it becomes inactive, unless somebody is about to post.
    fn retire<'a>(&'a self, turn: Turn<'a, ()>) -> Result<(), Turn<'a, ()>> {
        let mut turn = Some(turn);
        let mut finish = || turn.take().map_or(Ok(()), Turn::finish);
        if WAY == way::GIVES_UP_BEFORE_THE_LOCK {
            finish()?;
        }
        let mut shard = self.shard.lock().unwrap();
        let pinned = self.pins.load(Ordering::Acquire) != 0;
        if pinned && WAY != way::RETIRES_WHAT_IS_PINNED {
            drop(shard);
            return finish();
        }
        let given_up = finish();
        if WAY != way::PUTS_AWAY_IN_ANY_CASE {
            given_up?;
        }
        if !shard.active {
            return Ok(());
        }
        shard.active = false;
        drop(shard);
        self.active.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Leaves the span to a lane.
    fn hand_over(&self, turn: Turn<'_, ()>) {
        if let Some(turn) = self.unless_ended(turn) {
            turn.suspend();
            // Loom does not order a store among swaps of others.
            self.told.swap(true, Ordering::AcqRel);
        }
    }

    /// Takes in the parts that were posted, or gives up the turn of a span that has ended.
    fn unless_ended<'a>(&'a self, mut turn: Turn<'a, ()>) -> Option<Turn<'a, ()>> {
        loop {
            self.is_used();
            if WAY == way::HANDS_OVER_WITHOUT_THE_EVENTS {
                turn.take();
            }
            if self.accept() {
                return Some(turn);
            }
            let events = turn.take();
            if WAY == way::HANDS_OVER_AND_TAKES || self.posted.is_empty() {
                match turn.finish() {
                    Ok(()) => return None,
                    Err(again) => turn = again,
                }
            } else if WAY != way::DROPS_THE_EVENTS_OF_A_PART {
                let none = self.actor.post(events);
                assert!(none.is_none(), "who hands a span over owns it");
            }
        }
    }

    /// Runs what was left to the lane.
    fn lane(&self) {
        while self.told.swap(false, Ordering::AcqRel) {
            if let Some(turn) = self.actor.resume() {
                self.run(turn);
            }
        }
    }

    /// Looks whether everything has come to its end, after the threads have.
    fn check(&self, expected: &[u32]) {
        self.lane();
        // Loom wants nothing to be dropped while the test fails.
        let left = self.posted.take_all().count();
        let owned = self.actor.claim().is_none();
        let (mut done, entry) = self.work(|work| (work.done.clone(), work.entry));
        let active = self.shard.lock().unwrap().active;
        done.sort_unstable();
        assert_eq!(done, expected, "each part that was posted is run");
        assert_eq!(left, 0, "each part is accepted");
        assert!(!owned, "the turn is given up in the end");
        assert!(!active, "no span stays active for ever");
        assert!(!entry, "a span without work does not keep the array");
        let pins = self.pins.load(Ordering::Acquire);
        assert_eq!(pins, 0, "pins of parts that have ended");
        let active = self.active.load(Ordering::Acquire);
        assert_eq!(active, 0, "spans that are counted as active");
    }
}

impl Work {
    /// Does what can be done. Whether nothing is left.
    fn step(&mut self, flush: bool) -> bool {
        let key = self.key;
        let (left, done): (Vec<u32>, Vec<u32>) = self
            .parts
            .iter()
            .partition(|part| **part % 10 >= GATHERS && !flush);
        for part in &done {
            assert_eq!(part / 10, key, "a part runs at its own place");
        }
        self.done.extend(done);
        self.parts = left;
        self.parts.is_empty()
    }
}

/// Drops late events to a span that is in no list, and the turn.
fn finish_quiet(turn: Turn<'_, ()>) {
    let mut turn = turn;
    while let Err(mut again) = turn.finish() {
        let _ = again.take();
        turn = again;
    }
}

/// Two submitters post to one place.
fn two_post<const WAY: u32>() {
    let table = Table::<WAY>::new(1);
    let other = table.clone();
    let submitter = thread::spawn(move || assert!(other.submit(11), "nobody moves the span here"));
    assert!(table.submit(10), "nobody moves the span here");
    submitter.join().unwrap();
    table.check(&[10, 11]);
}

/// A submitter posts to a place, and another to the same one and then to one for which the span is taken away.
fn posts_race_with_eviction<const WAY: u32>(part: u32) {
    let table = Table::<WAY>::new(1);
    let other = table.clone();
    let submitter = thread::spawn(move || other.submit(part));
    let mut expected = Vec::new();
    expected.extend(table.submit(10).then_some(10));
    expected.extend(table.submit(20).then_some(20));
    expected.extend(submitter.join().unwrap().then_some(part));
    expected.sort_unstable();
    table.check(&expected);
}

/// A late event comes to a span that is given another place.
fn a_late_event_races_with_eviction<const WAY: u32>() {
    let table = Table::<WAY>::new(1);
    let other = table.clone();
    let late = thread::spawn(move || other.post(Events::FLUSH));
    let found = table.submit(20);
    late.join().unwrap();
    table.check(if found { &[20] } else { &[] });
}

/// A late event comes to a span that is to forget what it has.
fn a_late_event_races_with_forgetting<const WAY: u32>() {
    let table = Table::<WAY>::new(1);
    let other = table.clone();
    let late = thread::spawn(move || other.post(Events::FLUSH));
    table.forget_all();
    late.join().unwrap();
    table.check(&[]);
    assert!(
        !table.work(|work| work.cached),
        "what is cached is forgotten"
    );
}

/// A part is posted, gathers and is flushed, while a span is handed to a lane by who has other business with it.
fn a_span_is_handed_over<const WAY: u32>(business: fn(&Table<WAY>)) {
    let table = Table::<WAY>::new(1);
    let other = table.clone();
    let passer = thread::spawn(move || business(&other));
    let other = table.clone();
    let lane = thread::spawn(move || other.lane());
    assert!(table.submit(10 + GATHERS), "nobody moves the span here");
    passer.join().unwrap();
    lane.join().unwrap();
    table.check(&[10 + GATHERS]);
}

/// A late flush: a task that sleeps had the span in its plug.
fn a_late_flush<const WAY: u32>(table: &Table<WAY>) {
    table.post_in_passing(Events::FLUSH);
}

/// Memory is short.
fn shedding<const WAY: u32>(table: &Table<WAY>) {
    table.shed();
}

/// Two submitters post to one place while the array is stopped, which waits for those inside and for nobody else.
fn the_array_goes<const WAY: u32>() {
    let table = Table::<WAY>::entered(1, 2);
    let other = table.clone();
    let submitter = thread::spawn(move || assert!(other.submit(11), "nobody moves the span here"));
    let other = table.clone();
    let stopper = thread::spawn(move || other.stop());
    assert!(table.submit(10), "nobody moves the span here");
    submitter.join().unwrap();
    stopper.join().unwrap();
    table.check(&[10, 11]);
    let entries = table.entries.load(Ordering::Acquire);
    assert_eq!(entries, 0, "entries when all has ended");
}

const PREEMPTIONS: usize = 5;

/// For what has three threads.
const FEWER_PREEMPTIONS: usize = 3;

fn explore_table(scenario: impl Fn() + Sync + Send + 'static) {
    explore_within(PREEMPTIONS, scenario);
}

#[test]
fn no_part_is_lost_when_the_span_is_put_away() {
    explore_table(two_post::<{ way::RIGHT }>);
}

#[test]
fn no_part_runs_at_another_place() {
    explore_table(|| posts_race_with_eviction::<{ way::RIGHT }>(11));
}

#[test]
fn no_part_that_gathers_is_taken_to_another_place() {
    explore_table(|| posts_race_with_eviction::<{ way::RIGHT }>(10 + GATHERS));
}

#[test]
fn a_late_event_is_harmless() {
    explore_table(a_late_event_races_with_eviction::<{ way::RIGHT }>);
}

#[test]
fn everything_is_forgotten() {
    explore_table(a_late_event_races_with_forgetting::<{ way::RIGHT }>);
}

#[test]
fn nothing_is_lost_in_handing_over_for_a_late_flush() {
    explore_table(|| a_span_is_handed_over::<{ way::RIGHT }>(a_late_flush));
}

#[test]
fn nothing_is_lost_in_handing_over_when_memory_is_short() {
    explore_table(|| a_span_is_handed_over::<{ way::RIGHT }>(shedding));
}

#[test]
fn nobody_uses_an_array_that_has_gone() {
    explore_within(FEWER_PREEMPTIONS, the_array_goes::<{ way::RIGHT }>);
}

#[test]
#[should_panic(expected = "only a span without work gets another place")]
fn giving_up_before_the_lock_is_found() {
    explore_table(|| {
        posts_race_with_eviction::<{ way::GIVES_UP_BEFORE_THE_LOCK }>(10 + GATHERS);
    });
}

#[test]
#[should_panic(expected = "a part runs at its own place")]
fn retiring_what_is_pinned_is_found() {
    explore_table(|| posts_race_with_eviction::<{ way::RETIRES_WHAT_IS_PINNED }>(11));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn eviction_without_a_claim_is_found() {
    explore_table(a_late_event_races_with_eviction::<{ way::EVICTS_WITHOUT_CLAIM }>);
}

#[test]
#[should_panic(expected = "what is cached is forgotten")]
fn forgetting_only_what_nobody_has_is_found() {
    explore_table(a_late_event_races_with_forgetting::<{ way::FORGETS_NOT_WHAT_SOMEBODY_HAS }>);
}

#[test]
#[should_panic(expected = "the turn is given up in the end")]
fn putting_away_in_any_case_is_found() {
    explore_table(two_post::<{ way::PUTS_AWAY_IN_ANY_CASE }>);
}

#[test]
#[should_panic(expected = "span stays active for ever")]
fn unpinning_before_the_event_is_found() {
    explore_table(two_post::<{ way::UNPINS_AND_POSTS }>);
}

#[test]
#[should_panic(expected = "span stays active for ever")]
fn running_on_without_the_entry_is_found() {
    explore_table(two_post::<{ way::RUNS_ON_WITHOUT_ENTRY }>);
}

#[test]
#[should_panic(expected = "each part that was posted is run")]
fn looking_for_parts_before_the_events_is_found() {
    explore_table(|| a_span_is_handed_over::<{ way::HANDS_OVER_AND_TAKES }>(a_late_flush));
}

#[test]
#[should_panic(expected = "each part that was posted is run")]
fn handing_over_without_the_events_for_a_late_flush_is_found() {
    explore_table(|| {
        a_span_is_handed_over::<{ way::HANDS_OVER_WITHOUT_THE_EVENTS }>(a_late_flush);
    });
}

#[test]
#[should_panic(expected = "each part that was posted is run")]
fn handing_over_without_the_events_when_memory_is_short_is_found() {
    explore_table(|| {
        a_span_is_handed_over::<{ way::HANDS_OVER_WITHOUT_THE_EVENTS }>(shedding);
    });
}

#[test]
#[should_panic(expected = "each part that was posted is run")]
fn dropping_the_events_of_a_part_that_comes_between_is_found() {
    explore_table(|| {
        a_span_is_handed_over::<{ way::DROPS_THE_EVENTS_OF_A_PART }>(a_late_flush);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn giving_the_only_entry_away_is_found() {
    explore_within(FEWER_PREEMPTIONS, || {
        the_array_goes::<{ way::GIVES_THE_ENTRY_AWAY }>();
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn leaving_before_the_turn_is_looked_at_is_found() {
    explore_within(FEWER_PREEMPTIONS, || {
        the_array_goes::<{ way::LEAVES_WITH_THE_TURN }>();
    });
}
