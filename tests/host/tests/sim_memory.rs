// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there, wherever the driver's code asks for some without waiting: in small scenarios each point once
//! and each pair of points once, in large ones by chance.

use raid456_host::sim::{run_many, run_scenario, Failure, Outcome, Scenario, Shortage};
use std::sync::atomic::{AtomicU64, Ordering};

/// Small scenarios of which all points and pairs are tried. RAID456_SMALL says another number.
const SMALL: u64 = 24;

/// Large ones, for each chance. RAID456_LARGE says another number.
const LARGE: u64 = 200;

/// How many of a thousand who ask get nothing.
const CHANCES: [u32; 4] = [10, 100, 500, 900];

fn number(name: &str, usual: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Runs a small scenario with these points failing.
fn small(seed: u64, points: &[u64]) -> Outcome {
    let scenario = Scenario {
        seed,
        small: true,
        shortage: Shortage::At(points.into()),
    };
    let outcome = run_scenario(&scenario, false);
    if let Some(failure) = &outcome.failure {
        panic!("{failure}");
    }
    outcome
}

/// Everything that can fail in a small scenario. Returns how many points there are, and how many pairs were tried.
fn each_point_and_pair(seed: u64) -> (u64, u64) {
    let (mut first, mut pairs) = (0, 0);
    loop {
        let alone = small(seed, &[first]);
        if alone.failed == 0 {
            return (first, pairs);
        }
        // What comes after a failure is another story, with points of its own.
        for second in first + 1..alone.asked {
            let both = small(seed, &[first, second]);
            assert_eq!(both.failed, 2, "seed {seed}: points {first} and {second}");
            pairs += 1;
        }
        first += 1;
    }
}

#[test]
fn memory_fails_at_each_point_and_pair() {
    let begun = std::time::Instant::now();
    let (points, pairs) = (AtomicU64::new(0), AtomicU64::new(0));
    let next = AtomicU64::new(0);
    let last = number("RAID456_SMALL", SMALL);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= last {
                    break;
                }
                let (own, two) = each_point_and_pair(seed);
                points.fetch_add(own, Ordering::Relaxed);
                pairs.fetch_add(two, Ordering::Relaxed);
            });
        }
    });
    let (points, pairs) = (points.into_inner(), pairs.into_inner());
    let seconds = begun.elapsed().as_secs_f64();
    println!("{last} scenarios, {points} points, {pairs} pairs, in {seconds:.1} s");
    assert!(
        points > last * 4 && pairs > points,
        "so few points: who asks for memory is not asked whether he gets it"
    );
}

#[test]
fn memory_fails_by_chance() {
    std::panic::set_hook(Box::new(|_| {}));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let told = |failure: &Failure| eprintln!("{failure}\n");
    let begun = std::time::Instant::now();
    let mut failures = 0;
    for (turn, chance) in (0..).zip(CHANCES) {
        let scenario = |seed| Scenario {
            seed,
            small: false,
            shortage: Shortage::Chance(chance),
        };
        let seeds = turn * 1_000_000..turn * 1_000_000 + number("RAID456_LARGE", LARGE);
        let (failed, summary) = run_many(seeds, scenario, threads, false, told);
        failures += failed;
        println!("{} seeds, {chance} of 1000 fail", summary.seeds);
    }
    let _ = std::panic::take_hook();
    println!("in {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(failures, 0, "a seed has failed: see above");
}
