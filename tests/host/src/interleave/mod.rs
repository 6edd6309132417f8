// SPDX-License-Identifier: GPL-2.0

//! The lock-free parts of `src/sync` and `src/array` under loom, which runs each test in every order that its threads can take.
//!
//! Run by `tests/host/loom`, not by a plain `cargo test`. Each scenario is generic: it runs once on the real thing,
//! and must pass, and once on each faulty copy of it in the `faults` modules, and must find the fault.

mod actor;
mod blocked;
mod deferred;
mod durable;
mod flights;
mod flushes;
mod gaps;
mod mailbox;
mod run_queue;
mod stack;
mod table;
mod tally;

/// Explores every order that the threads of `scenario` can take.
fn explore(scenario: impl Fn() + Sync + Send + 'static) {
    loom::model::Builder::new().check(scenario);
}

/// Explores the orders in which threads are interrupted at most `preemptions` times while they could go on: for what
/// has too many orders. `LOOM_MAX_PREEMPTIONS` asks for more, or fewer.
fn explore_within(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    model.check(scenario);
}
