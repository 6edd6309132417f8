// SPDX-License-Identifier: GPL-2.0

//! Times what engines cost: see [`worth`].

use super::channel::{Engines, Inputs, Lists, Targets};
use super::course::Kind;
use super::stage::{Owner, Stage};
use super::worth::{self, Timed};
use crate::mem::pages::{Page, PAGE_SIZE};
use crate::mem::{Ask, Setup};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::delay::fsleep;
use kernel::time::{Delta, Instant, Monotonic};

/// How many pairs of pages are copied in turn: more than the fastest cache has, for what is written has seldom just been read.
const PAIRS: usize = 32;

/// For how many milliseconds an engine's answer is waited for.
const PATIENCE: u32 = 2000;

/// Nobody waits to be told.
struct Nobody;

impl Owner for Nobody {
    fn ended(self) {}
}

/// How many bytes an operation reads and writes at least for engines to be worth it; `None` if there is no engine that copies,
/// or it does not answer. Sleeps.
pub(crate) fn break_even(engines: &Engines, setup: &Setup) -> Option<u32> {
    let mut pages = KVec::with_capacity(PAIRS, setup.flags()).ok()?;
    for _ in 0..PAIRS {
        let pair = [Page::new(setup).ok()?, Page::new(setup).ok()?];
        pages.push(pair, setup.flags()).ok()?;
    }
    worth::break_even(&mut Probe {
        engines,
        pages,
        turn: 0,
        lists: Lists::new(1, setup).ok()?,
    })
}

struct Probe<'e> {
    engines: &'e Engines,
    pages: KVec<[Page; 2]>,
    turn: usize,
    lists: Lists,
}

impl Probe<'_> {
    /// The next pair of pages, to copy from one to the other, and room for a list.
    fn next(&mut self) -> Option<(&Page, &mut Page, &mut Lists)> {
        self.turn = self.turn.wrapping_add(1);
        let [from, to] = self.pages.get_mut(self.turn % PAIRS)?;
        Some((from, to, &mut self.lists))
    }
}

impl Timed for Probe<'_> {
    fn hand_over(&mut self) -> Option<i64> {
        let engines = self.engines;
        let (from, to, lists) = self.next()?;
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

    fn copy(&mut self) -> Option<i64> {
        let (from, to, _) = self.next()?;
        let began = Instant::<Monotonic>::now();
        to.view_mut::<[u64; PAGE_SIZE / 8]>()?
            .copy_from_slice(from.view::<[u64; PAGE_SIZE / 8]>()?);
        Some(began.elapsed().as_nanos())
    }
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
    let to = Targets::bytes(to, 0, PAGE_SIZE);
    let taken = channel.submit(Kind::Copy, &inputs, to, stage, false);
    channel.issue();
    taken
}
