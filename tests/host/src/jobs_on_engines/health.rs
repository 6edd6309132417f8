// SPDX-License-Identifier: GPL-2.0

//! When a channel is dropped.

use crate::offload::health::{Health, Outcome, Record, CHANNELS, FAILURES, LATE_FAILURES};

const ONE: usize = 0x1000;
const OTHER: usize = 0x2000;

/// A job that is late ten ticks after it was begun.
fn late(began: i64) -> Outcome {
    Outcome::Late {
        began,
        now: began + 10,
    }
}

#[test]
fn channel_is_dropped_by_failures_without_success_in_between() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    for round in 0..3 {
        for _ in 1..FAILURES {
            assert!(!record.note(ONE, Outcome::Failed), "round {round}");
            assert!(record.is_good(ONE));
        }
        record.note(ONE, Outcome::Well);
    }
    for count in 1..=FAILURES {
        assert_eq!(record.note(ONE, Outcome::Failed), count == FAILURES);
    }
    assert!(!record.is_good(ONE));
    // It is said once, and what is still under way does not bring it back.
    assert!(!record.note(ONE, Outcome::Failed));
    record.note(ONE, Outcome::Well);
    assert!(!record.is_good(ONE));
    assert!(record.is_good(OTHER));
    assert_eq!(record.dropped(), 1);
    record.forget();
    assert!(record.is_good(ONE));
    assert_eq!(record.dropped(), 0);
}

#[test]
fn jobs_that_are_late_together_count_once() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    // As many as there may be under way, begun one after the other while nothing ended.
    for began in 0..10 {
        for _ in 0..100 {
            assert!(!record.note(ONE, late(began)));
        }
    }
    assert!(record.is_good(ONE), "all of them are one time");
    // What was begun afterwards has done well: the engine stood still only once.
    record.note(ONE, Outcome::Well);
    assert!(!record.note(ONE, late(100)));
    assert!(record.is_good(ONE));
}

#[test]
fn channel_that_is_late_time_after_time_is_dropped() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    let times = i64::from(FAILURES / LATE_FAILURES);
    for time in 1..=times {
        // The first of many.
        assert_eq!(record.note(ONE, late(time * 100)), time == times);
        assert!(!record.note(ONE, late(time * 100 + 1)));
    }
    assert!(!record.is_good(ONE));
}

#[test]
fn what_was_late_with_one_channel_says_nothing_of_another() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    assert!(!record.note(ONE, late(0)));
    for time in 0..i64::from(FAILURES / LATE_FAILURES) {
        record.note(OTHER, late(time * 100));
    }
    assert!(record.is_good(ONE) && !record.is_good(OTHER));
}

#[test]
fn what_used_no_channel_is_not_counted_and_more_than_are_watched_are_used() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    for channel in 0..CHANNELS * 2 {
        for _ in 0..FAILURES {
            record.note(channel, Outcome::Failed);
        }
    }
    assert!(record.is_good(0));
    assert_eq!(record.dropped(), CHANNELS);
    assert!(record.is_good(CHANNELS * 2 - 1));
}
