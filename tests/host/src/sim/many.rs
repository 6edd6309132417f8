// SPDX-License-Identifier: GPL-2.0

//! Many seeds on several threads.

use super::report::{Failure, Summary};
use super::shortage::Scenario;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;

/// Runs what `scenario` makes of each seed of a range, on `threads` threads, and calls `told` for each that fails. Unless
/// it is told to keep going, it ends after the first.
///
/// Returns how many failed, and how often each thing happened.
pub fn run_many(
    seeds: Range<u64>,
    scenario: impl Fn(u64) -> Scenario + Sync,
    threads: usize,
    keep_going: bool,
    told: impl Fn(&Failure) + Sync,
) -> (u64, Summary) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let failures = AtomicU64::new(0);
    let total = Mutex::new(Summary::default());
    let work = || {
        let mut summary = Summary::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = super::run_scenario(&scenario(seed), false);
            summary.add(&outcome.summary);
            if let Some(failure) = outcome.failure {
                failures.fetch_add(1, Ordering::Relaxed);
                told(&failure);
                if !keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        if let Ok(mut total) = total.lock() {
            total.add(&summary);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let summary = total.into_inner().unwrap_or_default();
    (failures.into_inner(), summary)
}
