// SPDX-License-Identifier: GPL-2.0

//! The mailbox and the completion words.

use super::{explore, explore_within};
use crate::sync::mailbox::{CompletionWord, Events, Mailbox};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

/// Kinds of events, enough to tell one poster from another.
const KINDS: [Events; 3] = [Events::PARTS, Events::IO, Events::FLUSH];

/// A mailbox, real or faulty.
pub(super) trait Post: Default + Send + Sync + 'static {
    fn post(&self, events: Events) -> bool;
    fn take(&self) -> Events;
    fn finish(&self) -> bool;
}

impl Post for Mailbox {
    fn post(&self, events: Events) -> bool {
        self.post(events)
    }
    fn take(&self) -> Events {
        self.take()
    }
    fn finish(&self) -> bool {
        self.finish()
    }
}

/// A completion word, real or faulty.
pub(super) trait Complete: Default + Send + Sync + 'static {
    fn post(&self, strips: u16, ok: bool);
    /// Strips that ended well, and those that did not.
    fn take(&self) -> (u16, u16);
}

impl Complete for CompletionWord {
    fn post(&self, strips: u16, ok: bool) {
        self.post(strips, ok);
    }
    fn take(&self) -> (u16, u16) {
        let ended = self.take();
        (ended.ok, ended.failed)
    }
}

/// What only the span's runner touches. Loom reports a touch that another one does not happen before.
#[derive(Default)]
struct Owned<T>(UnsafeCell<T>);

// SAFETY: Loom checks what the promise is about, and runs one thread at a time.
unsafe impl<T: Send> Sync for Owned<T> {}

impl<T> Owned<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.0.with_mut(|value| {
            // SAFETY: Loom has just checked that nobody else touches the value.
            f(unsafe { &mut *value })
        })
    }
}

/// Starts `count` threads, joins them.
fn together(count: usize, work: impl Fn(usize) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let threads: Vec<_> = (0..count)
        .map(|index| {
            let work = work.clone();
            thread::spawn(move || work(index))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Each poster writes what its event is about, posts, and runs the span if nobody else does.
fn events_reach_one_runner<M: Post>(posters: usize) {
    #[derive(Default)]
    struct Span<M> {
        mailbox: M,
        /// What each event is about, written before it is posted.
        letters: [Owned<u32>; 3],
        /// What the runners have seen of it.
        seen: Owned<[u32; 3]>,
    }
    let span = Arc::new(Span::<M>::default());
    let shared = span.clone();
    together(posters, move |poster| {
        let span = &shared;
        span.letters[poster].with(|letter| *letter = 1);
        if !span.mailbox.post(KINDS[poster]) {
            return;
        }
        // A new owner may look at the span before it takes the events, as it does to queue it.
        span.seen.with(|_| ());
        loop {
            let events = span.mailbox.take();
            span.seen.with(|seen| {
                for (index, &kind) in KINDS.iter().enumerate() {
                    if events.contains(kind) {
                        seen[index] += span.letters[index].with(|letter| *letter);
                    }
                }
            });
            if span.mailbox.finish() {
                break;
            }
        }
    });
    span.seen.with(|seen| {
        assert!(
            seen[..posters].iter().all(|&count| count == 1),
            "each event is taken exactly once, but they were taken {seen:?} times"
        );
    });
    assert!(
        span.mailbox.post(KINDS[0]),
        "nobody owns the span when every runner has finished"
    );
}

/// Members' I/O ends while the span runs for other reasons: each strip is taken once, after its data came.
fn completions_reach_the_runner<M: Post, W: Complete>() {
    #[derive(Default)]
    struct Span<M, W> {
        mailbox: M,
        word: W,
        /// A page of each strip, which member I/O fills.
        pages: [Owned<u32>; 2],
        taken: Owned<Vec<(u16, u16)>>,
    }
    let span = Arc::new(Span::<M, W>::default());
    let shared = span.clone();
    together(2, move |strip| {
        let span = &shared;
        span.pages[strip].with(|page| *page = 1);
        span.word.post(1 << strip, strip == 0);
        if !span.mailbox.post(Events::IO) {
            return;
        }
        loop {
            let _ = span.mailbox.take();
            let (ok, failed) = span.word.take();
            for (index, page) in span.pages.iter().enumerate() {
                if (ok | failed) & (1 << index) != 0 {
                    assert_eq!(page.with(|page| *page), 1, "data of strip {index}");
                }
            }
            span.taken.with(|taken| taken.push((ok, failed)));
            if span.mailbox.finish() {
                break;
            }
        }
    });
    span.taken.with(|taken| {
        let (ok, failed) = taken.iter().fold((0, 0), |sum: (u32, u32), one| {
            (sum.0 + u32::from(one.0), sum.1 + u32::from(one.1))
        });
        assert_eq!(
            (ok, failed),
            (1, 2),
            "each strip is taken exactly once: {taken:?} (strips that ended well, and not)"
        );
    });
}

/// An idle span is claimed for another use while somebody posts to it.
fn claims_exclude_runners() {
    #[derive(Default)]
    struct Span {
        mailbox: Mailbox,
        runs: Owned<u32>,
    }
    let span = Arc::new(Span::default());
    let shared = span.clone();
    together(2, move |thread| {
        let span = &shared;
        let owner = if thread == 0 {
            span.mailbox.claim()
        } else {
            span.mailbox.post(Events::FLUSH)
        };
        if !owner {
            return;
        }
        // A new owner, a claimer too, sees what the last one did before it takes anything.
        span.runs.with(|_| ());
        loop {
            let events = span.mailbox.take();
            span.runs.with(|runs| {
                if events.contains(Events::FLUSH) {
                    *runs += 1;
                }
            });
            if span.mailbox.finish() {
                break;
            }
        }
    });
    span.runs
        .with(|runs| assert_eq!(*runs, 1, "times that the event was taken"));
}

#[test]
fn no_event_is_lost_and_one_runner_runs_at_a_time() {
    explore(|| events_reach_one_runner::<Mailbox>(2));
}

#[test]
fn no_event_of_three_posters_is_lost() {
    explore_within(4, || events_reach_one_runner::<Mailbox>(3));
}

#[test]
fn no_completion_is_lost_or_early() {
    explore(completions_reach_the_runner::<Mailbox, CompletionWord>);
}

#[test]
fn a_claimed_span_is_not_run() {
    explore(claims_exclude_runners);
}

/// Copies of the mailbox and the word with one fault each, all of which the scenarios must find.
mod faults {
    use super::*;
    use loom::sync::atomic::{AtomicU32, Ordering};

    const OWNED: u32 = 1 << 31;

    /// What is wrong.
    mod fault {
        pub(super) const POST_RELAXED: u32 = 1;
        pub(super) const POST_IN_TWO_STEPS: u32 = 2;
        pub(super) const POST_ALWAYS_OWNS: u32 = 3;
        pub(super) const TAKE_RELAXED: u32 = 4;
        pub(super) const TAKE_IN_TWO_STEPS: u32 = 5;
        pub(super) const FINISH_RELAXED: u32 = 6;
        pub(super) const FINISH_IN_TWO_STEPS: u32 = 7;
        pub(super) const FINISH_WITHOUT_LOOKING: u32 = 8;
        pub(super) const NEW_OWNER_RELAXED: u32 = 9;
    }

    #[derive(Default)]
    struct Faulty<const FAULT: u32>(AtomicU32);

    fn word(events: Events) -> u32 {
        let bits = KINDS.iter().enumerate();
        bits.filter(|(_, kind)| events.contains(**kind))
            .fold(0, |word, (index, _)| word | (1 << index))
    }

    fn events(word: u32) -> Events {
        let kinds = KINDS.iter().enumerate();
        kinds
            .filter(|(index, _)| word & (1 << index) != 0)
            .fold(Events::NONE, |events, (_, kind)| events | *kind)
    }

    impl<const FAULT: u32> Post for Faulty<FAULT> {
        fn post(&self, events: Events) -> bool {
            let new = word(events) | OWNED;
            let old = match FAULT {
                fault::POST_RELAXED => self.0.fetch_or(new, Ordering::Relaxed),
                fault::NEW_OWNER_RELAXED => self.0.fetch_or(new, Ordering::Release),
                fault::POST_IN_TWO_STEPS => {
                    let old = self.0.load(Ordering::Acquire);
                    self.0.store(old | new, Ordering::Release);
                    old
                }
                _ => self.0.fetch_or(new, Ordering::AcqRel),
            };
            old & OWNED == 0 || FAULT == fault::POST_ALWAYS_OWNS
        }

        fn take(&self) -> Events {
            events(match FAULT {
                fault::TAKE_RELAXED => self.0.swap(OWNED, Ordering::Relaxed),
                fault::TAKE_IN_TWO_STEPS => {
                    let old = self.0.load(Ordering::Acquire);
                    self.0.store(OWNED, Ordering::Relaxed);
                    old
                }
                _ => self.0.swap(OWNED, Ordering::Acquire),
            })
        }

        fn finish(&self) -> bool {
            match FAULT {
                fault::FINISH_IN_TWO_STEPS => {
                    let idle = self.0.load(Ordering::Acquire) == OWNED;
                    if idle {
                        self.0.store(0, Ordering::Release);
                    }
                    idle
                }
                fault::FINISH_WITHOUT_LOOKING => {
                    self.0.fetch_and(!OWNED, Ordering::Release);
                    true
                }
                _ => {
                    let success = match FAULT {
                        fault::FINISH_RELAXED => Ordering::Relaxed,
                        _ => Ordering::Release,
                    };
                    self.0
                        .compare_exchange(OWNED, 0, success, Ordering::Relaxed)
                        .is_ok()
                }
            }
        }
    }

    #[derive(Default)]
    struct PostRelaxed(AtomicU32);

    impl Complete for PostRelaxed {
        fn post(&self, strips: u16, ok: bool) {
            let shift = if ok { 0 } else { 16 };
            self.0
                .fetch_or(u32::from(strips) << shift, Ordering::Relaxed);
        }
        fn take(&self) -> (u16, u16) {
            let bits = self.0.swap(0, Ordering::Acquire);
            (bits as u16, (bits >> 16) as u16)
        }
    }

    #[derive(Default)]
    struct TakeInTwoSteps(AtomicU32);

    impl Complete for TakeInTwoSteps {
        fn post(&self, strips: u16, ok: bool) {
            let shift = if ok { 0 } else { 16 };
            self.0
                .fetch_or(u32::from(strips) << shift, Ordering::Release);
        }
        fn take(&self) -> (u16, u16) {
            let bits = self.0.load(Ordering::Acquire);
            self.0.store(0, Ordering::Relaxed);
            (bits as u16, (bits >> 16) as u16)
        }
    }

    fn explore_events<const FAULT: u32>() {
        explore(|| events_reach_one_runner::<Faulty<FAULT>>(2));
    }

    #[test]
    fn the_copy_without_a_fault_passes() {
        explore_events::<0>();
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_relaxed_post_is_found() {
        explore_events::<{ fault::POST_RELAXED }>();
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_new_owner_that_does_not_acquire_is_found() {
        explore_events::<{ fault::NEW_OWNER_RELAXED }>();
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_post_in_two_steps_is_found() {
        explore_events::<{ fault::POST_IN_TWO_STEPS }>();
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_second_runner_is_found() {
        explore_events::<{ fault::POST_ALWAYS_OWNS }>();
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_relaxed_take_is_found() {
        explore_events::<{ fault::TAKE_RELAXED }>();
    }

    #[test]
    #[should_panic(expected = "each event is taken exactly once")]
    fn a_take_in_two_steps_is_found() {
        explore_events::<{ fault::TAKE_IN_TWO_STEPS }>();
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_relaxed_finish_is_found() {
        explore_events::<{ fault::FINISH_RELAXED }>();
    }

    #[test]
    #[should_panic(expected = "each event is taken exactly once")]
    fn a_finish_in_two_steps_is_found() {
        explore_events::<{ fault::FINISH_IN_TWO_STEPS }>();
    }

    #[test]
    #[should_panic(expected = "each event is taken exactly once")]
    fn a_finish_that_does_not_look_again_is_found() {
        explore_events::<{ fault::FINISH_WITHOUT_LOOKING }>();
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_relaxed_completion_is_found() {
        explore(completions_reach_the_runner::<Mailbox, PostRelaxed>);
    }

    #[test]
    #[should_panic(expected = "each strip is taken exactly once")]
    fn a_completion_taken_in_two_steps_is_found() {
        explore(completions_reach_the_runner::<Mailbox, TakeInTwoSteps>);
    }
}
