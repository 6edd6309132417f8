// SPDX-License-Identifier: GPL-2.0

//! Rounds in which every contender has a turn, so that whatever disturbs the machine disturbs all of them.

use crate::contenders::Contender;
use crate::operation::Operation;
use crate::strip::Strip;
use std::hint::black_box;
use std::time::Duration;

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds.
    pub(crate) rounds: usize,
    /// About the time that a contender has in a round.
    pub(crate) sample: Duration,
    /// Run once over the strips before the clock starts: they are meant to be in the cache.
    pub(crate) warm: bool,
}

/// Nanoseconds of one operation, for each contender and each round.
pub(crate) fn run(
    op: Operation,
    contenders: &[Box<dyn Contender>],
    strips: &mut [Strip<'_>],
    plan: Plan,
) -> Vec<Vec<f64>> {
    let mut turn = 0;
    let mut times = vec![Vec::with_capacity(plan.rounds); contenders.len()];
    let counts: Vec<usize> = contenders
        .iter()
        .map(|contender| {
            // The first time is that of cold code.
            let try_strips = strips.len().min(16);
            sample(op, contender.as_ref(), strips, &mut turn, try_strips);
            let one = sample(op, contender.as_ref(), strips, &mut turn, try_strips);
            let fit = (plan.sample.as_nanos() as f64 / one) as usize;
            if plan.warm {
                // Whole passes.
                fit.div_ceil(strips.len()).max(1) * strips.len()
            } else {
                fit.clamp(1, strips.len() / 2)
            }
        })
        .collect();
    for round in 0..plan.rounds {
        for at in 0..contenders.len() {
            // Another order in each round: nobody always comes after the same.
            let at = if round % 2 == 0 {
                (at + round) % contenders.len()
            } else {
                (contenders.len() * 2 - 1 - at + round) % contenders.len()
            };
            let contender = contenders[at].as_ref();
            if plan.warm {
                sample(op, contender, strips, &mut turn, strips.len());
            }
            times[at].push(sample(op, contender, strips, &mut turn, counts[at]));
        }
    }
    times
}

/// Nanoseconds of one operation, of `count` on the strips that come next.
fn sample(
    op: Operation,
    contender: &dyn Contender,
    strips: &mut [Strip<'_>],
    turn: &mut usize,
    count: usize,
) -> f64 {
    let began = own_time();
    for _ in 0..count {
        let at = *turn % strips.len();
        black_box(contender.run(op, &mut strips[at], *turn));
        *turn += 1;
    }
    (own_time() - began) / count as f64
}

/// Nanoseconds of each of `count` operations, timed one by one, on the strips that come next; the shortest first.
pub(crate) fn singles(
    op: Operation,
    contender: &dyn Contender,
    strips: &mut [Strip<'_>],
    plan: Plan,
    count: usize,
) -> Vec<f64> {
    let mut turn = 0;
    // The first time is that of cold code.
    let first = if plan.warm { strips.len() } else { 1 };
    sample(op, contender, strips, &mut turn, first);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        times.push(sample(op, contender, strips, &mut turn, 1));
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Nanoseconds that this thread has run: what others do on its CPU meanwhile does not count.
pub(crate) fn own_time() -> f64 {
    let mut time = [0_i64; 2];
    // SAFETY: The call writes seconds and nanoseconds there.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    time[0] as f64 * 1e9 + time[1] as f64
}

const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

extern "C" {
    fn clock_gettime(clock: i32, time: *mut i64) -> i32;
}
