// SPDX-License-Identifier: GPL-2.0

//! The deferred list and a pool of kits: nobody waits while a kit lies there, nobody is overtaken, and each wait is ended by
//! one wake-up.
//!
//! The model follows `take` and `give` of `src/array/kits.rs`, `step`, `grant_kits`, `wait_for_kits` and `look_for_kits` of
//! `src/array/run.rs`, the shrinker of `src/array/memory.rs`, and `reclaim` and `retire` of `src/array/table.rs`. What it stands on
//! is the real thing: the list, and the mailboxes of the spans.

use super::explore_within;
use crate::array::deferred::{Comes, Deferred, Ends, Place};
use crate::array::queue::Pushed;
use crate::sync::mailbox::{Events, Mailbox};
use loom::sync::atomic::{fence, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

/// The list, or a faulty copy of it.
trait Line: Send + Sync + 'static {
    fn new() -> Self;
    fn is_any(&self) -> bool;
    fn push(
        &self,
        ends: MutexGuard<'_, Ends>,
        index: u32,
        comes: Comes,
        places: &[Place],
    ) -> Pushed;
    fn pop(&self, ends: MutexGuard<'_, Ends>, kits: u32, places: &[Place]) -> Option<u32>;
    fn granted(&self) -> u32;
    fn end_grant(&self, own: &Place);
}

fn at<'a>(places: &'a [Place]) -> impl Fn(u32) -> Option<&'a Place> {
    |index| places.get(index as usize)
}

impl Line for Deferred {
    fn new() -> Self {
        Self::new()
    }
    fn is_any(&self) -> bool {
        self.is_any()
    }
    fn push(
        &self,
        ends: MutexGuard<'_, Ends>,
        index: u32,
        comes: Comes,
        places: &[Place],
    ) -> Pushed {
        self.push(ends, index, comes, at(places))
    }
    fn pop(&self, ends: MutexGuard<'_, Ends>, kits: u32, places: &[Place]) -> Option<u32> {
        self.pop(ends, || kits, at(places))
    }
    fn granted(&self) -> u32 {
        self.granted()
    }
    fn end_grant(&self, own: &Place) {
        self.end_grant(own);
    }
}

/// What is wrong with a copy of the list, or with those who use it.
mod way {
    pub(super) const RIGHT: u32 = 0;
    pub(super) const LOOKS_BEFORE_IT_WAITS: u32 = 1;
    pub(super) const DOES_NOT_PASS_ON: u32 = 2;
    pub(super) const SHRINKS_IN_SILENCE: u32 = 3;
    pub(super) const NO_FENCE: u32 = 4;
    pub(super) const WAITS_NO_MORE_WHEN_WOKEN: u32 = 5;
    pub(super) const WAITS_NO_MORE_BEFORE_IT_TAKES: u32 = 6;
    pub(super) const WAKES_ALL: u32 = 7;
    pub(super) const PASSES_OVER_IN_SILENCE: u32 = 8;
}

/// The list without what keeps it right; how many wait is all that it has beside.
struct Faulty<const WAY: u32> {
    line: Deferred,
    waiting: AtomicU32,
}

impl<const WAY: u32> Line for Faulty<WAY> {
    fn new() -> Self {
        Self {
            line: Deferred::new(),
            waiting: AtomicU32::new(0),
        }
    }

    fn is_any(&self) -> bool {
        if WAY != way::NO_FENCE {
            fence(Ordering::SeqCst);
        }
        self.waiting.load(Ordering::Relaxed) != 0
    }

    fn push(
        &self,
        ends: MutexGuard<'_, Ends>,
        index: u32,
        comes: Comes,
        places: &[Place],
    ) -> Pushed {
        let pushed = self.line.push(ends, index, comes, at(places));
        if pushed != Pushed::Already
            && (comes == Comes::Anew || WAY == way::WAITS_NO_MORE_WHEN_WOKEN)
        {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        if WAY != way::NO_FENCE {
            fence(Ordering::SeqCst);
        }
        pushed
    }

    fn pop(&self, ends: MutexGuard<'_, Ends>, kits: u32, places: &[Place]) -> Option<u32> {
        let kits = if WAY == way::WAKES_ALL { SPANS } else { kits };
        let index = self.line.pop(ends, || kits, at(places))?;
        if WAY == way::WAITS_NO_MORE_WHEN_WOKEN {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        Some(index)
    }

    fn granted(&self) -> u32 {
        if WAY == way::WAKES_ALL {
            return 0;
        }
        self.line.granted()
    }

    fn end_grant(&self, own: &Place) {
        self.line.end_grant(own);
        if WAY != way::WAITS_NO_MORE_WHEN_WOKEN {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

const SPANS: u32 = 3;

/// A span with a kit that it has no work for, or soon has none.
struct Idle {
    mailbox: Mailbox,
    /// Whether it is inactive: who gets its turn may take the kit.
    listed: Mutex<bool>,
    kits: AtomicU32,
}

impl Idle {
    fn new(listed: bool) -> Self {
        let mailbox = Mailbox::new();
        assert!(listed || mailbox.claim(), "nobody has had its turn");
        Self {
            mailbox,
            listed: Mutex::new(listed),
            kits: AtomicU32::new(1),
        }
    }

    /// An event comes that is about nothing any more. Who gets the turn by that knows no array.
    fn come_late(&self) {
        if self.mailbox.post(Events::UNPLUG) {
            self.finish_quiet();
        }
    }

    fn finish_quiet(&self) {
        while !self.mailbox.finish() {
            let _ = self.mailbox.take();
        }
    }
}

/// What a search of the inactive span for a kit came to.
enum Reclaimed {
    Found,
    Perhaps,
    Nothing,
}

/// An array's kits, of which there are few, and its spans, each of which wants one.
struct Array<L, const WAY: u32> {
    line: L,
    ends: Mutex<Ends>,
    places: [Place; SPANS as usize],
    spans: [Mailbox; SPANS as usize],
    /// The pool, with the count that is looked at without the lock.
    count: AtomicU32,
    free: Mutex<u32>,
    /// One more kit.
    idle: Option<Idle>,
    /// Spans that have had a kit, in order; wake-ups; and how often one has begun to wait.
    had: Mutex<Vec<u32>>,
    woken: AtomicU32,
    waits: AtomicU32,
}

impl<L: Line, const WAY: u32> Array<L, WAY> {
    fn new(kits: u32) -> Arc<Self> {
        Self::with(kits, None)
    }

    fn with(kits: u32, idle: Option<Idle>) -> Arc<Self> {
        Arc::new(Self {
            line: L::new(),
            ends: Mutex::new(Ends::new()),
            places: std::array::from_fn(|_| Place::new()),
            spans: std::array::from_fn(|_| Mailbox::new()),
            count: AtomicU32::new(kits),
            free: Mutex::new(kits),
            idle,
            had: Mutex::new(Vec::new()),
            woken: AtomicU32::new(0),
            waits: AtomicU32::new(0),
        })
    }

    fn take(&self) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut free = self.free.lock().unwrap();
        if *free == 0 {
            return false;
        }
        *free -= 1;
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    fn give(&self) {
        let mut free = self.free.lock().unwrap();
        *free += 1;
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Lets the first span that waits try.
    fn grant(&self) {
        if !self.line.is_any() {
            return;
        }
        let ends = self.ends.lock().unwrap();
        let kits = self.count.load(Ordering::Relaxed);
        let next = self.line.pop(ends, kits, &self.places);
        if let Some(index) = next {
            self.woken.fetch_add(1, Ordering::Relaxed);
            self.post(index, Events::MEMORY);
        }
    }

    /// Takes the kit that the inactive span has.
    fn reclaim(&self) -> Reclaimed {
        let Some(idle) = &self.idle else {
            return Reclaimed::Nothing;
        };
        let mut listed = idle.listed.lock().unwrap();
        if !*listed {
            return Reclaimed::Nothing;
        }
        if !idle.mailbox.claim() {
            return Reclaimed::Perhaps;
        }
        *listed = false;
        drop(listed);
        idle.kits.store(0, Ordering::Relaxed);
        idle.finish_quiet();
        self.give();
        Reclaimed::Found
    }

    /// The span that has work still has none any more.
    fn retire(&self) {
        let Some(idle) = &self.idle else {
            return;
        };
        loop {
            let _ = idle.mailbox.take();
            let mut listed = idle.listed.lock().unwrap();
            if idle.mailbox.finish() {
                *listed = true;
                break;
            }
        }
        if self.line.is_any() {
            self.look();
        }
    }

    /// An event comes late to the span with the kit.
    fn come_late(&self) {
        if let Some(idle) = &self.idle {
            idle.come_late();
        }
    }

    /// Whether there are more kits than have been granted.
    fn lies_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) > self.line.granted()
    }

    /// Has somebody woken if there is a kit for him.
    fn look(&self) {
        if self.lies_there() {
            return self.grant();
        }
        match self.reclaim() {
            Reclaimed::Found => self.grant(),
            Reclaimed::Perhaps if WAY != way::PASSES_OVER_IN_SILENCE => {
                let first = self.ends.lock().unwrap().first();
                if let Some(index) = first {
                    self.post(index, Events::MEMORY);
                }
                // Who has the turn goes on.
                thread::yield_now();
            }
            Reclaimed::Perhaps | Reclaimed::Nothing => {}
        }
    }

    /// Posts to a span, and runs it if nobody does.
    fn post(&self, index: u32, events: Events) {
        let span = &self.spans[index as usize];
        if span.post(events) {
            loop {
                let events = span.take();
                self.step(index, events);
                if span.finish() {
                    break;
                }
            }
        }
    }

    /// A part comes for a span.
    fn submit(&self, index: u32) {
        self.post(index, Events::PARTS);
    }

    fn step(&self, index: u32, _events: Events) {
        let own = &self.places[index as usize];
        let granted = Deferred::is_granted(own);
        let had = self.had.lock().unwrap().contains(&index);
        if granted && WAY == way::WAITS_NO_MORE_BEFORE_IT_TAKES {
            self.line.end_grant(own);
        }
        if !had && (granted || !self.line.is_any()) && self.take() {
            self.had.lock().unwrap().push(index);
            if granted && WAY != way::WAITS_NO_MORE_BEFORE_IT_TAKES {
                self.line.end_grant(own);
            }
            // It has all that it needs, so it ends.
            self.give();
            if WAY != way::DOES_NOT_PASS_ON {
                self.grant();
            }
            return;
        }
        if had {
            if granted {
                self.line.end_grant(own);
                self.grant();
            }
            return;
        }
        let comes = match WAY {
            way::WAITS_NO_MORE_BEFORE_IT_TAKES => Comes::Anew,
            _ if granted => Comes::InVain,
            _ => Comes::Anew,
        };
        let early = WAY == way::LOOKS_BEFORE_IT_WAITS && self.lies_there();
        let ends = self.ends.lock().unwrap();
        if self.line.push(ends, index, comes, &self.places) != Pushed::Already {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        if early {
            self.grant();
        } else if WAY != way::LOOKS_BEFORE_IT_WAITS {
            self.look();
        }
    }

    /// The kernel asks for memory, and the kit is not to go.
    fn shrink(&self) {
        if self.take() {
            self.give();
        }
        if WAY != way::SHRINKS_IN_SILENCE {
            self.grant();
        }
    }

    /// Looks whether everything has come to its end, after the threads have.
    fn check(&self, spans: u32, kits: u32) {
        let mut had = self.had.lock().unwrap().clone();
        had.sort_unstable();
        let idle = self.idle.as_ref();
        let idle = idle.map_or(0, |idle| idle.kits.load(Ordering::Relaxed));
        let free = *self.free.lock().unwrap() + idle;
        let (woken, waits) = (
            self.woken.load(Ordering::Relaxed),
            self.waits.load(Ordering::Relaxed),
        );
        assert_eq!(free, kits, "every kit comes back");
        assert!(
            had.iter().copied().eq(0..spans),
            "nobody waits while a kit lies there"
        );
        assert_eq!(woken, waits, "each wait is ended by one wake-up");
        assert!(!self.line.is_any(), "nobody is counted who does not wait");
    }
}

/// Spans want the one kit at the same time.
fn all_want_one<L: Line, const WAY: u32>() {
    let array = Array::<L, WAY>::new(1);
    let other = array.clone();
    let submitter = thread::spawn(move || other.submit(1));
    array.submit(0);
    submitter.join().unwrap();
    array.check(2, 1);
}

/// One span has the kit while two others come; they get it one after the other.
fn one_after_the_other<L: Line, const WAY: u32>() {
    let array = Array::<L, WAY>::new(1);
    assert!(array.take(), "there is a kit");
    array.submit(0);
    array.submit(1);
    let other = array.clone();
    let owner = thread::spawn(move || {
        other.give();
        other.grant();
    });
    // It came when the others waited.
    array.submit(2);
    owner.join().unwrap();
    let had = array.had.lock().unwrap().clone();
    assert_eq!(had, [0, 1, 2], "first come, first served");
    array.check(3, 1);
}

/// Memory is asked for, and the kit is not to go, while a span wants it.
fn one_wants_what_is_shrunk<L: Line, const WAY: u32>() {
    let array = Array::<L, WAY>::new(1);
    let other = array.clone();
    let shrinker = thread::spawn(move || other.shrink());
    array.submit(0);
    shrinker.join().unwrap();
    array.check(1, 1);
}

/// The one kit lies in an inactive span, to which a late event comes, while another span wants it.
fn one_wants_what_lies_idle<L: Line, const WAY: u32>() {
    let array = Array::<L, WAY>::with(0, Some(Idle::new(true)));
    let other = array.clone();
    let late = thread::spawn(move || other.come_late());
    array.submit(0);
    late.join().unwrap();
    array.check(1, 1);
}

/// The same, and the span with the kit has only just nothing left to do.
fn one_wants_what_comes_to_lie_idle<L: Line, const WAY: u32>() {
    let array = Array::<L, WAY>::with(0, Some(Idle::new(false)));
    let other = array.clone();
    let late = thread::spawn(move || other.come_late());
    let other = array.clone();
    let runner = thread::spawn(move || other.retire());
    array.submit(0);
    late.join().unwrap();
    runner.join().unwrap();
    array.check(1, 1);
}

const PREEMPTIONS: usize = 3;

fn explore_line(scenario: impl Fn() + Sync + Send + 'static) {
    explore_within(PREEMPTIONS, scenario);
}

#[test]
fn nobody_waits_while_a_kit_lies_there() {
    explore_line(all_want_one::<Deferred, { way::RIGHT }>);
}

#[test]
fn nobody_is_overtaken() {
    explore_line(one_after_the_other::<Deferred, { way::RIGHT }>);
}

#[test]
fn the_shrinker_takes_nobodys_turn() {
    explore_line(one_wants_what_is_shrunk::<Deferred, { way::RIGHT }>);
}

#[test]
fn a_late_event_hides_no_kit() {
    explore_line(one_wants_what_lies_idle::<Deferred, { way::RIGHT }>);
}

#[test]
fn a_late_event_hides_no_kit_that_comes_to_lie_idle() {
    explore_line(one_wants_what_comes_to_lie_idle::<Deferred, { way::RIGHT }>);
}

#[test]
#[should_panic(expected = "nobody waits while a kit lies there")]
fn passing_over_in_silence_is_found() {
    explore_line(one_wants_what_lies_idle::<Deferred, { way::PASSES_OVER_IN_SILENCE }>);
}

#[test]
#[should_panic(expected = "nobody waits while a kit lies there")]
fn passing_over_for_another_in_silence_is_found() {
    explore_line(one_wants_what_comes_to_lie_idle::<Deferred, { way::PASSES_OVER_IN_SILENCE }>);
}

#[test]
#[should_panic(expected = "nobody waits while a kit lies there")]
fn looking_before_it_waits_is_found() {
    explore_line(all_want_one::<Deferred, { way::LOOKS_BEFORE_IT_WAITS }>);
}

#[test]
#[should_panic(expected = "first come, first served")]
fn not_passing_on_is_found() {
    explore_line(one_after_the_other::<Deferred, { way::DOES_NOT_PASS_ON }>);
}

#[test]
#[should_panic(expected = "nobody waits while a kit lies there")]
fn shrinking_in_silence_is_found() {
    explore_line(one_wants_what_is_shrunk::<Deferred, { way::SHRINKS_IN_SILENCE }>);
}

#[test]
#[should_panic(expected = "nobody waits while a kit lies there")]
fn no_fence_is_found() {
    explore_line(all_want_one::<Faulty<{ way::NO_FENCE }>, { way::RIGHT }>);
}

#[test]
#[should_panic(expected = "first come, first served")]
fn overtaking_who_was_woken_is_found() {
    explore_line(one_after_the_other::<Faulty<{ way::WAITS_NO_MORE_WHEN_WOKEN }>, { way::RIGHT }>);
}

#[test]
#[should_panic(expected = "first come, first served")]
fn overtaking_who_is_about_to_take_is_found() {
    explore_line(one_after_the_other::<Deferred, { way::WAITS_NO_MORE_BEFORE_IT_TAKES }>);
}

#[test]
#[should_panic(expected = "first come, first served")]
fn waking_more_than_there_are_kits_for_is_found() {
    explore_line(one_after_the_other::<Faulty<{ way::WAKES_ALL }>, { way::RIGHT }>);
}
