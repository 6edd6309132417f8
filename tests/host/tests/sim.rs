// SPDX-License-Identifier: GPL-2.0

//! Seeds of the simulator: none fails, and together they reach everything that they should.

use raid456_host::sim::{self, Failure};

/// Seeds of the normal run.
const SEEDS: u64 = 10_000;

#[test]
fn no_seed_fails_and_all_is_reached() {
    // A panic is a failure of its seed, and is told as such.
    std::panic::set_hook(Box::new(|_| {}));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let told = |failure: &Failure| eprintln!("{failure}\n");
    let (failures, summary) = sim::run_many(0..SEEDS, threads, false, told);
    let _ = std::panic::take_hook();

    println!("{summary}");
    assert_eq!(failures, 0, "a seed has failed: see above");
    assert_eq!(summary.seeds, SEEDS);
    let missing = summary.missing();
    assert!(
        missing.is_empty(),
        "in {SEEDS} seeds these never happened: {missing:#?}"
    );
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in [3, 14, 159] {
        let first = sim::run(seed, true);
        let second = sim::run(seed, true);
        assert!(!first.trace.is_empty(), "seed {seed} has no trace");
        assert_eq!(first.trace, second.trace, "seed {seed} went two ways");
    }
}
