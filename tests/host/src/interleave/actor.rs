// SPDX-License-Identifier: GPL-2.0

//! Turns of an actor: one at a time, also when a turn is left to somebody else.

use super::explore;
use crate::sync::actor::{Actor, Turn};
use crate::sync::mailbox::{Events, Mailbox};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

/// What a runner does with its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Runs until there is nothing new.
    Run,
    /// One round, and leaves the rest to whoever resumes.
    Leave,
}

/// The state that only the owner touches: rounds that were made, and the events that were seen.
type Seen = UnsafeCell<(u32, Events)>;

/// An actor, or a faulty copy of one.
trait Act: Send + Sync + 'static {
    fn new() -> Self;
    /// Posts; returns whether a turn was left to be resumed.
    fn post(&self, events: Events, then: Then) -> bool;
    /// Takes up a turn that was left, and runs.
    fn resume(&self);
    fn seen(&self) -> Option<(u32, Events)>;
}

fn note(seen: &Seen, events: Events) {
    seen.with_mut(|seen| {
        // SAFETY: Only the owner gets here; loom checks it.
        let (rounds, all) = unsafe { &mut *seen };
        *rounds += 1;
        *all |= events;
    });
}

/// The real thing.
struct Real(Actor<Seen>);

// SAFETY: Loom checks that only one thread at a time touches the state.
unsafe impl Send for Real {}
// SAFETY: As above.
unsafe impl Sync for Real {}

fn run(mut turn: Turn<'_, Seen>) {
    loop {
        let events = turn.take();
        note(&turn, events);
        match turn.finish() {
            Ok(()) => return,
            Err(again) => turn = again,
        }
    }
}

impl Act for Real {
    fn new() -> Self {
        Self(Actor::new(UnsafeCell::new((0, Events::NONE))))
    }

    fn post(&self, events: Events, then: Then) -> bool {
        let Some(mut turn) = self.0.post(events) else {
            return false;
        };
        if then == Then::Run {
            run(turn);
            return false;
        }
        let events = turn.take();
        note(&turn, events);
        turn.suspend();
        true
    }

    fn resume(&self) {
        if let Some(turn) = self.0.resume() {
            run(turn);
        }
    }

    fn seen(&self) -> Option<(u32, Events)> {
        let turn = self.0.claim()?;
        // SAFETY: The claim made this thread the owner; loom checks it.
        let seen = turn.with(|seen| unsafe { *seen });
        turn.finish().ok()?;
        Some(seen)
    }
}

/// What a copy does wrong.
mod way {
    pub(super) const LEAVES_WITHOUT_RELEASE: u32 = 1;
    pub(super) const RESUMES_WITHOUT_ACQUIRE: u32 = 2;
    pub(super) const LOOKS_AND_THEN_TAKES: u32 = 3;
    pub(super) const FORGETS_THAT_IT_LEFT: u32 = 4;
}

/// A copy with a fault.
struct Faulty<const WAY: u32> {
    mailbox: Mailbox,
    suspended: AtomicBool,
    seen: Seen,
}

// SAFETY: Loom checks that only one thread at a time touches the state.
unsafe impl<const WAY: u32> Send for Faulty<WAY> {}
// SAFETY: As above.
unsafe impl<const WAY: u32> Sync for Faulty<WAY> {}

impl<const WAY: u32> Faulty<WAY> {
    fn round(&self) {
        note(&self.seen, self.mailbox.take());
    }

    fn run(&self) {
        loop {
            self.round();
            if self.mailbox.finish() {
                return;
            }
        }
    }
}

impl<const WAY: u32> Act for Faulty<WAY> {
    fn new() -> Self {
        Self {
            mailbox: Mailbox::new(),
            suspended: AtomicBool::new(false),
            seen: UnsafeCell::new((0, Events::NONE)),
        }
    }

    fn post(&self, events: Events, then: Then) -> bool {
        if !self.mailbox.post(events) {
            return false;
        }
        if then == Then::Run {
            self.run();
            return false;
        }
        self.round();
        match WAY {
            way::LEAVES_WITHOUT_RELEASE => self.suspended.store(true, Ordering::Relaxed),
            way::FORGETS_THAT_IT_LEFT => {}
            _ => self.suspended.store(true, Ordering::Release),
        }
        true
    }

    fn resume(&self) {
        let taken = match WAY {
            way::RESUMES_WITHOUT_ACQUIRE => self.suspended.swap(false, Ordering::Relaxed),
            way::LOOKS_AND_THEN_TAKES => {
                let set = self.suspended.load(Ordering::Acquire);
                if set {
                    self.suspended.store(false, Ordering::Release);
                }
                set
            }
            _ => self.suspended.swap(false, Ordering::AcqRel),
        };
        if taken {
            self.run();
        }
    }

    fn seen(&self) -> Option<(u32, Events)> {
        if !self.mailbox.claim() {
            return None;
        }
        // SAFETY: The claim made this thread the owner; loom checks it.
        let seen = self.seen.with(|seen| unsafe { *seen });
        self.mailbox.finish().then_some(seen)
    }
}

fn check<A: Act>(actor: &A, expected: Events) {
    let Some((rounds, seen)) = actor.seen() else {
        panic!("the actor is given up in the end");
    };
    assert!(seen == expected, "each event is seen by an owner");
    assert!(rounds > 0, "somebody ran");
}

/// Lanes look whether they were told of a turn that was left. What they are told by orders nothing else.
///
/// (Nobody tries without being told: loom does not order the store that leaves the turn among swaps of others.)
fn lanes<A: Act>(actor: &Arc<A>, told: &Arc<AtomicBool>, count: u32) -> Vec<JoinHandle<()>> {
    let lane = |_| {
        let (actor, told) = (actor.clone(), told.clone());
        thread::spawn(move || {
            if told.load(Ordering::Relaxed) {
                actor.resume();
            }
        })
    };
    (0..count).map(lane).collect()
}

/// Leaves a turn; in the end takes it up itself if no lane has.
fn leave<A: Act>(count: u32, meanwhile: impl FnOnce(&Arc<A>) -> Option<JoinHandle<()>>) {
    let actor = Arc::new(A::new());
    let told = Arc::new(AtomicBool::new(false));
    let lanes = lanes(&actor, &told, count);
    let other = meanwhile(&actor);
    let expected = match other {
        Some(_) => Events::PARTS | Events::IO,
        None => Events::PARTS,
    };
    if actor.post(Events::PARTS, Then::Leave) {
        told.store(true, Ordering::Relaxed);
    }
    for thread in lanes.into_iter().chain(other) {
        thread.join().unwrap();
    }
    if told.load(Ordering::Relaxed) {
        actor.resume();
    }
    check(&*actor, expected);
}

/// Somebody posts while a turn is left and taken up.
fn a_turn_is_left<A: Act>() {
    leave::<A>(1, |actor| {
        let actor = actor.clone();
        Some(thread::spawn(move || {
            actor.post(Events::IO, Then::Run);
        }))
    });
}

/// Two lanes were told of the same turn.
fn two_take_it_up<A: Act>() {
    leave::<A>(2, |_| None);
}

#[test]
fn a_turn_is_left_while_events_come() {
    explore(a_turn_is_left::<Real>);
}

#[test]
fn a_turn_that_is_left_is_taken_up_once() {
    explore(two_take_it_up::<Real>);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn leaving_without_release_is_found() {
    explore(two_take_it_up::<Faulty<{ way::LEAVES_WITHOUT_RELEASE }>>);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn resuming_without_acquire_is_found() {
    explore(two_take_it_up::<Faulty<{ way::RESUMES_WITHOUT_ACQUIRE }>>);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn looking_before_taking_is_found() {
    explore(two_take_it_up::<Faulty<{ way::LOOKS_AND_THEN_TAKES }>>);
}

#[test]
#[should_panic(expected = "the actor is given up in the end")]
fn forgetting_that_a_turn_was_left_is_found() {
    explore(two_take_it_up::<Faulty<{ way::FORGETS_THAT_IT_LEFT }>>);
}
