// SPDX-License-Identifier: GPL-2.0

//! Ends of member I/O that are not told: the runner finds them in time, and never waits for one that told nobody.

use super::explore_within;
use crate::sync::flights::Flights;
use crate::sync::mailbox::{CompletionWord, Events, Mailbox};
use loom::sync::atomic::{fence, AtomicBool, AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;

/// The flights, or a faulty copy of them, for strip 0 alone.
trait Tells: Send + Sync + 'static {
    fn new() -> Self;
    fn start(&self);
    fn end(&self) -> bool;
    fn want_all(&self, want: bool);
}

impl Tells for Flights {
    fn new() -> Self {
        Self::new()
    }
    fn start(&self) {
        self.start(1);
    }
    fn end(&self) -> bool {
        self.end(1)
    }
    fn want_all(&self, want: bool) {
        self.want_all(want);
    }
}

/// What a copy does wrong.
mod way {
    pub(super) const FORGETS_WHAT_THE_OTHERS_DID: u32 = 1;
    pub(super) const NO_FENCE_BEFORE_THE_LOOK: u32 = 2;
    pub(super) const COUNTS_IN_TWO_STEPS: u32 = 3;
}

/// A copy with a fault.
struct Faulty<const WAY: u32> {
    count: AtomicU32,
    want_all: AtomicBool,
}

impl<const WAY: u32> Tells for Faulty<WAY> {
    fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            want_all: AtomicBool::new(false),
        }
    }

    fn start(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) -> bool {
        let before = match WAY {
            way::FORGETS_WHAT_THE_OTHERS_DID => self.count.fetch_sub(1, Ordering::Relaxed),
            way::COUNTS_IN_TWO_STEPS => {
                let before = self.count.load(Ordering::Acquire);
                self.count.store(before.wrapping_sub(1), Ordering::Release);
                before
            }
            _ => self.count.fetch_sub(1, Ordering::AcqRel),
        };
        if WAY == way::COUNTS_IN_TWO_STEPS {
            fence(Ordering::SeqCst);
        }
        before == 1 || self.want_all.load(Ordering::Relaxed)
    }

    fn want_all(&self, want: bool) {
        self.want_all.store(want, Ordering::Relaxed);
        if want && WAY != way::NO_FENCE_BEFORE_THE_LOOK {
            fence(Ordering::SeqCst);
        }
    }
}

/// A span of one strip with two members.
struct World<T> {
    flights: T,
    mailbox: Mailbox,
    ended: [CompletionWord; 2],
    busy: [AtomicBool; 2],
}

impl<T: Tells> World<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flights: T::new(),
            mailbox: Mailbox::new(),
            ended: [CompletionWord::new(), CompletionWord::new()],
            busy: [AtomicBool::new(true), AtomicBool::new(true)],
        })
    }

    /// A member's bio ends; returns whether who ended it is the runner now.
    fn end(&self, member: usize) -> bool {
        self.busy[member].store(false, Ordering::Release);
        self.ended[member].post(1, true);
        self.flights.end() && self.mailbox.post(Events::IO)
    }

    fn all_ended(&self) -> bool {
        self.ended.iter().all(|word| word.take().ok == 1)
    }
}

fn the_last_of_two<T: Tells>() {
    let world = World::<T>::new();
    world.flights.start();
    world.flights.start();
    let other = world.clone();
    let found = Arc::new(AtomicU32::new(0));
    let other_found = found.clone();
    let run = |world: &World<T>, found: &AtomicU32| {
        let _events = world.mailbox.take();
        assert!(
            world.all_ended(),
            "who hears of the last one finds what all did"
        );
        found.fetch_add(1, Ordering::AcqRel);
        assert!(world.mailbox.finish());
    };
    let second = thread::spawn(move || {
        if other.end(1) {
            run(&other, &other_found);
        }
    });
    if world.end(0) {
        run(&world, &found);
    }
    second.join().unwrap();
    assert_eq!(
        found.load(Ordering::Acquire),
        1,
        "the strip goes on, and once"
    );
}

/// The runner has more for a member whose bio is under way, while another one is for the same strip.
fn more_than_a_bio_takes<T: Tells>() {
    let world = World::<T>::new();
    world.flights.start();
    world.flights.start();
    let other = world.clone();
    // It owns the span, as a runner does.
    assert!(world.mailbox.claim());
    let told = thread::spawn(move || other.end(0));
    let mut submitted = false;
    if world.busy[0].load(Ordering::Acquire) {
        world.flights.want_all(true);
        if !world.busy[0].load(Ordering::Acquire) {
            submitted = true;
        }
    } else {
        submitted = true;
    }
    let finished = world.mailbox.finish();
    let is_runner = told.join().unwrap();
    assert!(
        submitted || !finished || is_runner,
        "who has more to submit hears that the bio has ended"
    );
}

/// Of two bios for a strip one is not submitted, while the other one ends.
fn a_start_is_taken_back<T: Tells>(is_told: bool) {
    let world = World::<T>::new();
    // As a runner does.
    assert!(world.mailbox.claim());
    world.flights.start();
    let other = world.clone();
    let ended = thread::spawn(move || other.end(0));
    world.flights.start();
    if world.flights.end() && is_told {
        let turn = world.mailbox.post(Events::IO);
        assert!(!turn, "the runner owns the span");
    }
    let finished = world.mailbox.finish();
    let is_runner = ended.join().unwrap();
    assert!(
        is_runner || !finished,
        "the strip goes on when the bio has ended that was submitted"
    );
}

const PREEMPTIONS: usize = 3;

#[test]
fn the_last_end_is_told_and_the_bio_that_is_needed() {
    explore_within(PREEMPTIONS, the_last_of_two::<Flights>);
    explore_within(PREEMPTIONS, more_than_a_bio_takes::<Flights>);
}

#[test]
fn an_end_is_told_beside_a_bio_that_is_not_submitted() {
    explore_within(PREEMPTIONS, || a_start_is_taken_back::<Flights>(true));
}

#[test]
#[should_panic(expected = "the strip goes on when the bio has ended that was submitted")]
fn keeping_from_oneself_that_it_was_the_last_is_found() {
    explore_within(PREEMPTIONS, || a_start_is_taken_back::<Flights>(false));
}

#[test]
#[should_panic(expected = "who hears of the last one finds what all did")]
fn forgetting_what_the_others_did_is_found() {
    explore_within(
        PREEMPTIONS,
        the_last_of_two::<Faulty<{ way::FORGETS_WHAT_THE_OTHERS_DID }>>,
    );
}

#[test]
#[should_panic(expected = "the strip goes on, and once")]
fn counting_in_two_steps_is_found() {
    explore_within(
        PREEMPTIONS,
        the_last_of_two::<Faulty<{ way::COUNTS_IN_TWO_STEPS }>>,
    );
}

#[test]
#[should_panic(expected = "who has more to submit hears that the bio has ended")]
fn looking_without_a_fence_is_found() {
    explore_within(
        PREEMPTIONS,
        more_than_a_bio_takes::<Faulty<{ way::NO_FENCE_BEFORE_THE_LOOK }>>,
    );
}
