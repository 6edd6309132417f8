// SPDX-License-Identifier: GPL-2.0

//! Parity over the pages of a strip's kit.

use super::{accumulate, cancels, generate, Block, Engine, Sector};
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
        self.change(target, source, |engine, block, sources| {
            generate(engine, block, sources);
        });
    }

    /// Changes the block of `target` by the XOR of those that `source` names; the target is none of them.
    pub(crate) fn accumulate(&mut self, target: u16, source: impl Fn(u16) -> bool) {
        self.change(target, source, |engine, block, sources| {
            accumulate(engine, block, sources);
        });
    }

    /// Whether the XOR of all blocks is zero: parity matches data.
    pub(crate) fn match_parity(&self) -> bool {
        let pages = self.kit.pages();
        pages.iter().all(|page| page.view::<Block>().is_some())
            && cancels(self.engine, pages.iter().filter_map(Page::view::<Block>))
    }

    /// Calls `work` with the block of `target` and its sources.
    fn change(
        &mut self,
        target: u16,
        source: impl Fn(u16) -> bool,
        work: impl FnOnce(&dyn Engine, &mut [Sector], &mut dyn Iterator<Item = &[Sector]>),
    ) {
        let Some((before, rest)) = self.kit.pages_mut().split_at_mut_checked(target.into()) else {
            return;
        };
        let Some((target_page, after)) = rest.split_first_mut() else {
            return;
        };
        let before = (0..).zip(before.iter());
        let after = (target.saturating_add(1)..).zip(after.iter());
        let sources = before.chain(after).filter(|(member, _)| source(*member));
        let sources = sources.map(|(_, page)| page.view::<Block>());
        let usable = sources.clone().all(|block| block.is_some());
        let Some(block) = target_page.view_mut::<Block>().filter(|_| usable) else {
            warn_on!(true);
            return;
        };
        let mut sources = sources.flatten().map(|block| block.as_slice());
        work(self.engine, block, &mut sources);
    }
}
