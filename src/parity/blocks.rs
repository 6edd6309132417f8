// SPDX-License-Identifier: GPL-2.0

//! Parity over the pages of a strip's kit, P alone.

use super::strip::Holder;
use super::{Block, Engine, Input, Line, Parity, Start, Sums, GROUP};
use crate::mem::kit::Kit;
use crate::mem::pages::Page;
use kernel::warn_on;

/// The blocks of one strip while a job works on them.
///
/// No job works on strips of which a bio of a member uses blocks meanwhile. If one does all the same it changes nothing, and
/// the kernel warns, for what is in memory is wrong then.
pub(crate) struct Blocks<'a> {
    kit: &'a mut Kit,
    engine: &'a dyn Engine,
}

impl<'a> Blocks<'a> {
    /// The blocks of `kit`, and the engine that works on them.
    pub(crate) fn new(kit: &'a mut Kit, engine: &'a dyn Engine) -> Self {
        Self { kit, engine }
    }

    /// Makes the block of `target` the XOR of those that `source` names; the target is none of them.
    pub(crate) fn generate(&mut self, target: u16, source: impl Fn(u16) -> bool) {
        self.change(target, source, Start::Zero);
    }

    /// Changes the block of `target` by the XOR of those that `source` names; the target is none of them.
    pub(crate) fn accumulate(&mut self, target: u16, source: impl Fn(u16) -> bool) {
        self.change(target, source, Start::Begun);
    }

    /// Whether the XOR of all blocks is zero: parity matches data.
    pub(crate) fn match_parity(&self) -> bool {
        let pages = self.kit.pages();
        let Some((first, rest)) = pages.split_first() else {
            return true;
        };
        let Some(stored) = first.block() else {
            return false;
        };
        (0..stored.len()).step_by(8).all(|at| {
            let lines = at..at + 8;
            let mut sum = [Line::ZERO; 8];
            let blocks = rest.iter().map(|page| page.block()?.get(lines.clone()));
            xor(self.engine, &mut sum, blocks, Start::Zero);
            let stored = Sums {
                p: stored.get(lines.clone()),
                q: None,
            };
            let begun = Sums {
                p: Some(&sum),
                q: None,
            };
            !self.engine.check(&mut [], begun, stored).p
        })
    }

    fn change(&mut self, target: u16, source: impl Fn(u16) -> bool, start: Start) {
        let Some((before, rest)) = self.kit.pages_mut().split_at_mut_checked(target.into()) else {
            return;
        };
        let Some((target_page, after)) = rest.split_first_mut() else {
            return;
        };
        let before = (0..).zip(before.iter());
        let after = (target.saturating_add(1)..).zip(after.iter());
        let sources = before.chain(after).filter(|(member, _)| source(*member));
        let sources = sources.map(|(_, page): (u16, &Page)| page.view::<Block>());
        let usable = sources.clone().all(|block| block.is_some());
        let Some(block) = target_page.view_mut::<Block>().filter(|_| usable) else {
            warn_on!(true);
            return;
        };
        let sources = sources.map(|block| Some(block?.as_slice()));
        xor(self.engine, block, sources, start);
    }
}

fn xor<'a>(
    engine: &dyn Engine,
    target: &mut [Line],
    mut blocks: impl Iterator<Item = Option<&'a [Line]>>,
    mut start: Start,
) {
    loop {
        let mut group = [const { Input::Zero }; GROUP];
        let mut count = 0_usize;
        for (place, block) in group.iter_mut().zip(blocks.by_ref().flatten()) {
            *place = Input::Block(block);
            count = count.saturating_add(1);
        }
        let parity = Parity {
            p: Some(&mut *target),
            q: None,
        };
        engine.generate(group.get_mut(..count).unwrap_or(&mut []), parity, start);
        start = Start::Begun;
        if count < GROUP {
            return;
        }
    }
}
