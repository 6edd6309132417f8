// SPDX-License-Identifier: GPL-2.0

//! When a channel is dropped.

use crate::offload::health::{Health, Outcome, Record, CHANNELS, FAILURES, FULL, LATE_FAILURES};

const ONE: usize = 0x1000;
const OTHER: usize = 0x2000;

/// What has no time.
fn note(record: Record<'_>, channel: usize, outcome: Outcome) -> bool {
    record.note(channel, outcome, 0..1)
}

/// A stage that is late ten ticks after it was begun.
fn late(record: Record<'_>, channel: usize, began: i64) -> bool {
    record.note(channel, Outcome::Late, began..began + 10)
}

/// Something that is not taken.
fn refused(record: Record<'_>, now: i64) -> bool {
    record.note(ONE, Outcome::Refused, now..now + 1)
}

#[test]
fn channel_is_dropped_by_failures_without_success_in_between() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    for round in 0..3 {
        for _ in 1..FAILURES {
            assert!(!note(record, ONE, Outcome::Failed), "round {round}");
            assert!(record.is_good(ONE));
        }
        note(record, ONE, Outcome::Well);
    }
    for count in 1..=FAILURES {
        assert_eq!(note(record, ONE, Outcome::Failed), count == FAILURES);
    }
    assert!(!record.is_good(ONE));
    // It is said once, and what is still under way does not bring it back.
    assert!(!note(record, ONE, Outcome::Failed));
    note(record, ONE, Outcome::Well);
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
            assert!(!late(record, ONE, began));
        }
    }
    assert!(record.is_good(ONE), "all of them are one time");
    // What was begun afterwards has done well: the engine stood still only once.
    note(record, ONE, Outcome::Well);
    assert!(!late(record, ONE, 100));
    assert!(record.is_good(ONE));
}

#[test]
fn channel_that_is_late_time_after_time_is_dropped() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    let times = i64::from(FAILURES / LATE_FAILURES);
    for time in 1..=times {
        // The first of many.
        assert_eq!(late(record, ONE, time * 100), time == times);
        assert!(!late(record, ONE, time * 100 + 1));
    }
    assert!(!record.is_good(ONE));
}

#[test]
fn what_was_late_with_one_channel_says_nothing_of_another() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    assert!(!late(record, ONE, 0));
    for time in 0..i64::from(FAILURES / LATE_FAILURES) {
        late(record, OTHER, time * 100);
    }
    assert!(record.is_good(ONE) && !record.is_good(OTHER));
}

#[test]
fn more_channels_than_are_watched_are_used_and_others_are_watched_afterwards() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    for channel in 1..CHANNELS * 2 {
        for _ in 0..FAILURES {
            note(record, channel, Outcome::Failed);
        }
    }
    assert_eq!(record.dropped(), CHANNELS);
    assert!(record.is_good(CHANNELS * 2 - 1));
    // When all is forgotten others are watched than before.
    record.forget();
    for _ in 0..FAILURES {
        note(record, CHANNELS * 2, Outcome::Failed);
    }
    assert!(!record.is_good(CHANNELS * 2));
    assert_eq!(record.dropped(), 1);
}

#[test]
fn channel_that_has_no_room_for_some_time_is_not_dropped() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    // Many at once, as long as something ends in between now and then.
    for now in 0..i64::from(FAILURES) * 4 {
        for more in 0..100 {
            assert!(!refused(record, now * FULL + more));
        }
        if now % i64::from(FAILURES - 1) == 0 {
            note(record, ONE, Outcome::Well);
        }
    }
    assert!(record.is_good(ONE));
}

#[test]
fn channel_that_takes_nothing_is_dropped_after_some_time() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    let last = i64::from(FAILURES) * FULL;
    let mut dropped = None;
    for now in (0..2 * last).step_by(FULL as usize / 10) {
        if refused(record, now) {
            assert_eq!(dropped, None, "it is said once");
            dropped = Some(now);
        }
    }
    assert!(!record.is_good(ONE));
    let range = last - FULL..=last;
    assert!(
        dropped.is_some_and(|time| range.contains(&time)),
        "{dropped:?}"
    );
}

#[test]
fn what_is_not_taken_is_counted_with_other_failures() {
    let all = [const { Health::new() }; CHANNELS];
    let record = Record(&all);
    assert!(!refused(record, 0));
    for count in 2..=FAILURES {
        assert_eq!(note(record, ONE, Outcome::Failed), count == FAILURES);
    }
}
