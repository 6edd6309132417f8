// SPDX-License-Identifier: GPL-2.0

//! The mailbox and the completion words.

use crate::sync::mailbox::{CompletionWord, Ended, Events, Mailbox};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ALL: [Events; 7] = [
    Events::PARTS,
    Events::IO,
    Events::JOB,
    Events::MEMORY,
    Events::BITMAP,
    Events::SUPERBLOCK,
    Events::FLUSH,
];

#[test]
fn every_kind_of_event_is_told_from_every_other() {
    for (index, one) in ALL.iter().enumerate() {
        assert!(!one.is_empty(), "{one:?}");
        for (other_index, other) in ALL.iter().enumerate() {
            assert_eq!(
                one.contains(*other),
                index == other_index,
                "{one:?} contains {other:?}"
            );
        }
        let mailbox = Mailbox::new();
        assert!(mailbox.post(*one), "the first poster becomes the owner");
        assert_eq!(mailbox.take(), *one);
        assert!(mailbox.finish(), "nothing came after {one:?}");
    }
    assert!(Events::NONE.is_empty());
}

#[test]
fn the_first_poster_owns_until_nothing_is_left() {
    let mailbox = Mailbox::new();
    assert!(mailbox.post(Events::PARTS), "an idle mailbox gets an owner");
    assert!(!mailbox.post(Events::IO), "an owned one does not");
    assert_eq!(mailbox.take(), Events::PARTS | Events::IO);
    assert_eq!(mailbox.take(), Events::NONE, "events are taken once");
    assert!(!mailbox.post(Events::JOB), "still owned after a take");
    assert!(!mailbox.finish(), "not with an event left");
    assert!(!mailbox.post(Events::FLUSH), "still owned after that");
    assert_eq!(mailbox.take(), Events::JOB | Events::FLUSH);
    assert!(mailbox.finish(), "nothing is left");
    assert!(mailbox.post(Events::NONE), "so the next poster owns it");
    assert_eq!(mailbox.take(), Events::NONE);
}

#[test]
fn only_an_idle_mailbox_can_be_claimed() {
    let mailbox = Mailbox::new();
    assert!(mailbox.claim(), "idle");
    assert!(!mailbox.claim(), "claimed before");
    assert!(!mailbox.post(Events::FLUSH), "claimed, so it has an owner");
    assert!(!mailbox.finish(), "the claimer has to see the event");
    assert_eq!(mailbox.take(), Events::FLUSH);
    assert!(mailbox.finish());
    assert!(mailbox.post(Events::IO));
    assert!(!mailbox.claim(), "it has an owner");
}

#[test]
fn completions_are_taken_once_each_as_they_ended() {
    let word = CompletionWord::new();
    assert_eq!(word.take(), Ended::default());
    word.post(0x8001, true);
    word.post(0x4002, false);
    word.post(0x0100, true);
    let expected = Ended {
        ok: 0x8101,
        failed: 0x4002,
    };
    assert_eq!(word.take(), expected);
    assert_eq!(word.take(), Ended::default());
    word.post(0xffff, false);
    let expected = Ended {
        ok: 0,
        failed: 0xffff,
    };
    assert_eq!(word.take(), expected);
}

/// Threads end I/O of 16 strips of a member over and over; each waits until its own is taken.
#[test]
fn threads_lose_no_completion() {
    const ROUNDS: u32 = 20_000;
    #[derive(Default)]
    struct Span {
        mailbox: Mailbox,
        word: CompletionWord,
        running: AtomicBool,
        taken: [AtomicU32; 4],
    }
    let span = Span::default();
    let end_io = |strip: usize| {
        span.word.post(1 << strip, strip % 2 == 0);
        if !span.mailbox.post(Events::IO) {
            return;
        }
        loop {
            let already = span.running.swap(true, Ordering::Relaxed);
            assert!(!already, "one runner at a time");
            let _ = span.mailbox.take();
            let ended = span.word.take();
            assert_eq!((ended.ok & 0b1010, ended.failed & 0b0101), (0, 0));
            for (index, taken) in span.taken.iter().enumerate() {
                if (ended.ok | ended.failed) & (1 << index) != 0 {
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            }
            span.running.store(false, Ordering::Relaxed);
            if span.mailbox.finish() {
                break;
            }
        }
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    thread::scope(|scope| {
        for strip in 0..span.taken.len() {
            let (span, end_io) = (&span, &end_io);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    end_io(strip);
                    while span.taken[strip].load(Ordering::Relaxed) < round {
                        assert!(
                            Instant::now() < deadline,
                            "completion {round} of strip {strip} was not taken in time"
                        );
                        thread::yield_now();
                    }
                }
            });
        }
    });
    for (strip, taken) in span.taken.iter().enumerate() {
        let taken = taken.load(Ordering::Relaxed);
        assert_eq!(taken, ROUNDS, "completions of strip {strip}");
    }
}
