// SPDX-License-Identifier: GPL-2.0

//! From which size on engines are worth it, by times that are made up.

use super::recipes::noise;
use crate::offload::worth::{break_even, Timed, BYTES};

/// Nanoseconds of one measurement after the other.
struct Fake<H, C> {
    hand_over: H,
    copy: C,
}

impl<H: FnMut() -> Option<i64>, C: FnMut() -> Option<i64>> Timed for Fake<H, C> {
    fn hand_over(&mut self) -> Option<i64> {
        (self.hand_over)()
    }

    fn copy(&mut self) -> Option<i64> {
        (self.copy)()
    }
}

fn measured(
    hand_over: impl FnMut() -> Option<i64>,
    copy: impl FnMut() -> Option<i64>,
) -> Option<i64> {
    let bytes = break_even(&mut Fake { hand_over, copy });
    bytes.map(i64::from)
}

fn steady(hand_over: i64, copy: i64) -> Option<i64> {
    measured(|| Some(hand_over), || Some(copy))
}

#[test]
fn handing_over_and_being_told_is_compared_with_reading_and_writing_a_page() {
    // There and back takes as long as two copies: four pages are read and written meanwhile.
    assert_eq!(steady(500, 500), Some(16 << 10));
    assert_eq!(steady(1000, 500), Some(32 << 10));
    assert_eq!(steady(10_000, 400), Some(400 << 10));
}

#[test]
fn engine_that_costs_next_to_nothing_is_worth_it_for_a_block() {
    assert_eq!(steady(1, 5000), Some(BYTES.0));
    assert_eq!(steady(0, 5000), Some(BYTES.0));
}

#[test]
fn engine_that_costs_much_is_worth_it_for_nothing() {
    assert_eq!(steady(3_000_000, 100), Some(BYTES.1));
    assert_eq!(steady(i64::MAX, 1), Some(BYTES.1));
}

#[test]
fn clock_that_stands_still_or_goes_back_does_no_harm() {
    assert_eq!(steady(1000, 0), Some(BYTES.1));
    assert_eq!(steady(-5, -5), Some(16 << 10));
    assert_eq!(steady(i64::MIN, 1), Some(16 << 10));
}

#[test]
fn what_disturbs_less_than_half_of_the_measurements_changes_nothing() {
    let quiet = steady(1000, 500);
    for seed in 0..200 {
        let mut state = seed;
        // Two of five are lengthened by up to a hundred times, or were not noticed.
        let mut disturb = move |turn: i64, time: i64| match (turn % 5, noise(&mut state) % 2) {
            (0 | 3, 0) => time * (noise(&mut state) % 100) as i64,
            (0 | 3, _) => 0,
            _ => time,
        };
        let mut turn = 0;
        let mut next = move |time| {
            turn += 1;
            Some(disturb(turn, time))
        };
        let mut both = next;
        assert_eq!(
            measured(move || next(1000), move || both(500)),
            quiet,
            "seed {seed}"
        );
    }
}

#[test]
fn times_that_spread_give_what_the_middle_gives() {
    for seed in 0..200 {
        let mut state = seed;
        let mut spread =
            move |time: i64| Some(time + (noise(&mut state) % (time as u64 / 5)) as i64);
        let mut other = spread;
        let bytes = measured(move || spread(1000), move || other(500));
        // A fifth more at most, of either.
        let range = 26 << 10..=40 << 10;
        assert!(
            bytes.is_some_and(|b| range.contains(&b)),
            "seed {seed}: {bytes:?}"
        );
    }
}

#[test]
fn engine_that_does_not_answer_once_is_not_judged() {
    let mut left = 7;
    let hand_over = || {
        left -= 1;
        (left > 0).then_some(100)
    };
    assert_eq!(measured(hand_over, || Some(100)), None);
    assert_eq!(measured(|| Some(100), || None), None);
}
