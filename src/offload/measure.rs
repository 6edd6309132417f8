// SPDX-License-Identifier: GPL-2.0

//! From which size on it pays to hand work to an engine.

use super::channel::{Engines, Inputs, Kind, Lists, Targets};
use super::stage::{Owner, Stage};
use crate::mem::pages::{Page, PAGE_SIZE};
use crate::mem::Wait;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::delay::fsleep;
use kernel::time::{Delta, Instant, Monotonic};

/// How often each is timed; the fastest counts.
const ROUNDS: u32 = 16;

/// Operations of a small write: it copies in, changes P, and changes Q.
const OPERATIONS: i64 = 3;

/// What comes back costs about as much as what is handed over: an interrupt, and a thread's turn.
const WAYS: i64 = 2;

/// Limits of what can be right.
const BYTES: (i64, i64) = (4 << 10, 1 << 20);

/// For how many milliseconds an engine's answer is waited for.
const PATIENCE: u32 = 2000;

/// Nobody waits to be told.
struct Nobody;

impl Owner for Nobody {
    fn ended(self) {}
}

/// How many bytes a strip's job reads and writes that takes this CPU as long as it takes it to have an engine do it; `None` if
/// there is no engine that copies, or it does not answer. Sleeps.
pub(crate) fn break_even(engines: &Engines) -> Option<u32> {
    let mut to = Page::new(Wait::Setup).ok()?;
    let from = Page::new(Wait::Setup).ok()?;
    let mut lists = Lists::new(1, GFP_KERNEL).ok()?;
    let (mut handed, mut copied) = (i64::MAX, i64::MAX);
    for _ in 0..ROUNDS {
        handed = handed.min(hand_over(engines, &from, &mut to, &mut lists)?);
        copied = copied.min(copy(&from, &mut to)?);
    }
    let pages = handed.saturating_mul(OPERATIONS * WAYS) / copied.max(1);
    let bytes = pages.saturating_add(1).saturating_mul(PAGE_SIZE as i64);
    u32::try_from(bytes.clamp(BYTES.0, BYTES.1)).ok()
}

/// How many nanoseconds it takes to hand over a copy of a page; waits for its end.
fn hand_over(engines: &Engines, from: &Page, to: &mut Page, lists: &mut Lists) -> Option<i64> {
    let stage = Stage::new(Nobody).ok()?;
    let began = Instant::<Monotonic>::now();
    let taken = submit(engines, from, to, lists, &stage);
    stage.close();
    let nanos = began.elapsed().as_nanos();
    if !taken {
        return None;
    }
    for _ in 0..PATIENCE {
        if stage.has_ended() {
            return (!stage.has_failed()).then_some(nanos);
        }
        fsleep(Delta::from_millis(1));
    }
    let _was_pending = stage.abandon();
    None
}

fn submit(
    engines: &Engines,
    from: &Page,
    to: &mut Page,
    lists: &mut Lists,
    stage: &Arc<Stage<Nobody>>,
) -> bool {
    let Some(channel) = engines.find(Kind::Copy) else {
        return false;
    };
    let inputs = Inputs::end_of(lists, from, 0);
    let taken = channel.submit(Kind::Copy, &inputs, Targets::bytes(to, 0, PAGE_SIZE), stage);
    channel.issue();
    taken
}

/// How many nanoseconds it takes this CPU to copy a page.
fn copy(from: &Page, to: &mut Page) -> Option<i64> {
    let began = Instant::<Monotonic>::now();
    to.view_mut::<[u64; PAGE_SIZE / 8]>()?
        .copy_from_slice(from.view::<[u64; PAGE_SIZE / 8]>()?);
    Some(began.elapsed().as_nanos())
}
