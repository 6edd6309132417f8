// SPDX-License-Identifier: GPL-2.0

//! The blocks of one strip: what jobs do with them, cut into groups of inputs for an engine.

use super::gf::Element;
use super::lender::Lender;
use super::{
    Block, Engine, Group, Input, Line, Parity, Source, Start, Sums, Wrong, BLOCK_LINES, GROUP,
    LINE_BYTES,
};
use crate::raid::roles::{Roles, SlotsDown};
use core::ops::Range;

/// What holds a block: a page that bios may use, so that it cannot always be had.
pub(crate) trait Holder {
    /// The block; `None` while something else changes it.
    fn block(&self) -> Option<&Block>;

    /// The block, to change it; `None` while something else uses it.
    fn block_mut(&mut self) -> Option<&mut Block>;

    /// Says that a block could not be had, which is a fault of the caller: what was to be made is not.
    fn complain();
}

impl Holder for Block {
    fn block(&self) -> Option<&Block> {
        Some(self)
    }

    fn block_mut(&mut self) -> Option<&mut Block> {
        Some(self)
    }

    fn complain() {}
}

/// Which parity to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Make {
    pub(crate) p: bool,
    pub(crate) q: bool,
}

/// The blocks of one strip while a job works on them: one for each member.
///
/// No job works on strips of which a bio of a member uses blocks meanwhile. If one does all the same, or names members that
/// do not exist, then the holder complains, what the job was to make is left undone, or half done, and [`Self::failed`]
/// says so.
pub(crate) struct Blocks<'a, T> {
    pub(super) pages: &'a mut [T],
    pub(super) engine: &'a dyn Engine,
    pub(super) roles: Roles,
    pub(super) past: bool,
    failed: bool,
}

/// Lines of a block.
pub(super) const WHOLE: Range<usize> = 0..BLOCK_LINES;

/// Lines that are looked at at once where intermediate parity lies on the stack, of which there is little: 256 bytes of it,
/// twice.
pub(super) const PIECE: usize = 4;

impl<'a, T: Holder> Blocks<'a, T> {
    /// The blocks that `pages` hold, one for each member, in the roles that they have, and the engine that works on them.
    pub(crate) fn over(pages: &'a mut [T], engine: &'a dyn Engine, roles: Roles) -> Self {
        Self {
            pages,
            engine,
            roles,
            past: false,
            failed: false,
        }
    }

    /// Whether something could not be done. Nobody may use what is in the blocks then.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// Has [`Self::generate`], [`Self::generate_copying`], and [`Self::recover`] of two blocks store past the caches: for blocks that no CPU reads soon, such
    /// as those that devices fetch themselves.
    pub(crate) fn past_caches(mut self, past: bool) -> Self {
        self.past = past;
        self
    }

    /// What each member's block is to parity.
    pub(crate) fn roles(&self) -> Roles {
        self.roles
    }

    /// Makes parity from the data blocks. Q is not made where the level has none.
    pub(crate) fn generate(&mut self, make: Make) {
        self.generate_copying(make, |_| None);
    }

    /// As [`Self::generate`]; where `inputs` has 4096 bytes for a data member, these become its block first, in the same
    /// pass. They are copied also if no parity is to be made.
    pub(crate) fn generate_copying<'s>(
        &mut self,
        make: Make,
        inputs: impl Fn(u16) -> Option<Source<'s>>,
    ) where
        'a: 's,
    {
        let q = self.roles.q().filter(|_| make.q);
        let done = if make.p && q.is_none() {
            self.sum_others(self.roles.p(), self.past, inputs)
        } else {
            let targets = Targets {
                p: make.p.then(|| self.roles.p()),
                q,
                begun: Start::Zero,
                past: self.past,
            };
            self.pass(targets, Lost::default(), inputs)
        };
        self.note(done);
    }

    /// Makes a part of a data block what `source` is, from byte `at` on, and has parity follow. P and Q change by the
    /// difference, so they, and the old block, must be right before. What would lie beyond the block's end is left out.
    pub(crate) fn change(&mut self, member: u16, at: usize, source: Source<'_>, make: Make) {
        let end = at
            .saturating_add(source.len())
            .min(BLOCK_LINES * LINE_BYTES);
        let (first, behind) = (at.div_ceil(LINE_BYTES), end / LINE_BYTES);
        let done = if first <= behind {
            let whole = first.saturating_mul(LINE_BYTES);
            // Bytes that make up no whole line, before and behind those that do.
            self.change_edge(member, at..whole, source, 0, make)
                .and_then(|()| {
                    let middle = behind.saturating_mul(LINE_BYTES);
                    let lines = source.get(whole.wrapping_sub(at)..middle.wrapping_sub(at))?;
                    self.change_lines(member, first..behind, lines, make)?;
                    self.change_edge(member, middle..end, source, middle.wrapping_sub(at), make)
                })
        } else {
            self.change_edge(member, at..end, source, 0, make)
        };
        self.note(done);
    }

    /// Which parity does not match the data. What is not to be looked at is not wrong.
    pub(crate) fn check(&self, which: Make) -> Wrong {
        self.compare(which).unwrap_or_else(|| {
            T::complain();
            Wrong {
                p: which.p,
                q: which.q,
            }
        })
    }

    /// Changes lines of a data block, and parity with them.
    fn change_lines(
        &mut self,
        member: u16,
        lines: Range<usize>,
        source: Source<'_>,
        make: Make,
    ) -> Option<()> {
        if lines.is_empty() {
            return Some(());
        }
        let factor = self.factor(member)?;
        let mut lender = Lender::new(self.pages);
        let data = take_mut(&mut lender, member, &lines)?;
        let parity = Parity {
            p: optional_mut(&mut lender, make.p.then(|| self.roles.p()), &lines)?,
            q: optional_mut(&mut lender, self.roles.q().filter(|_| make.q), &lines)?,
        };
        self.engine.change(data, source, parity, factor);
        Some(())
    }

    /// Changes less than a line: the bytes `bytes` of a block become those of `source` from `from` on.
    ///
    /// They are copied into a line that holds what the block has, and that line becomes the block's.
    fn change_edge(
        &mut self,
        member: u16,
        bytes: Range<usize>,
        source: Source<'_>,
        from: usize,
        make: Make,
    ) -> Option<()> {
        let (index, at) = (bytes.start / LINE_BYTES, bytes.start % LINE_BYTES);
        if bytes.is_empty() {
            return Some(());
        }
        let page = self.pages.get(usize::from(member))?;
        let mut line = *page.block()?.get(index)?;
        let part = source.get(from..from.checked_add(bytes.len())?)?;
        part.copy_to(0, &mut line, at);
        let lines = index..index.wrapping_add(1);
        self.change_lines(member, lines, Source::of_line(&line), make)
    }

    /// What a data member's block counts with in Q; one where there is no Q.
    pub(super) fn factor(&self, member: u16) -> Option<Element> {
        if self.roles.q().is_none() {
            return Some(Element::ONE);
        }
        self.roles.exponent(member).map(Element::power)
    }

    /// Makes P and Q, both if they are there, of all data blocks but those that are lost.
    ///
    /// Returns `None` if a block cannot be had; the targets are half done then.
    // Its own frame: what it needs must not lie below what its callers do next.
    #[inline(never)]
    pub(super) fn pass<'s>(
        &mut self,
        targets: Targets,
        lost: Lost,
        inputs: impl Fn(u16) -> Option<Source<'s>>,
    ) -> Option<()>
    where
        'a: 's,
    {
        let mut slots = self.roles.slots_down();
        let mut next = slots.next();
        let mut start = targets.begun;
        while next.is_some() || start == Start::Zero {
            let mut lender = Lender::new(self.pages);
            let mut group = Group::new();
            while let Some(slot) = next.filter(|_| group.len() < GROUP) {
                group.push(input(&mut lender, slot, &lost, &inputs)?);
                next = slots.next();
            }
            let parity = Parity {
                p: optional_mut(&mut lender, targets.p, &WHOLE)?,
                q: optional_mut(&mut lender, targets.q, &WHOLE)?,
            };
            if targets.past {
                let last = next.is_none();
                self.engine.generate_past(&mut group, parity, start, last);
            } else {
                self.engine.generate(&mut group, parity, start);
            }
            start = Start::Begun;
        }
        Some(())
    }

    /// Makes a block what the others but Q add up to: P, or a data block by P. As [`Self::pass`], which goes by slots; but a
    /// sum has no order, and to look for each slot's member takes up to a tenth of its time.
    #[inline(never)]
    pub(super) fn sum_others<'s>(
        &mut self,
        member: u16,
        past: bool,
        inputs: impl Fn(u16) -> Option<Source<'s>>,
    ) -> Option<()>
    where
        'a: 's,
    {
        let engine = self.engine;
        let pages = self.pages.get_mut(..usize::from(self.roles.members()))?;
        let (before, rest) = pages.split_at_mut_checked(usize::from(member))?;
        let (target, after) = rest.split_first_mut()?;
        let target: &mut [Line] = target.block_mut()?;
        let mut make = |group: &mut Group<'_>, start, last| {
            let p = Some(&mut *target);
            let parity = Parity { p, q: None };
            if past {
                engine.generate_past(group, parity, start, last);
            } else {
                engine.generate(group, parity, start);
            }
        };
        let (mut group, mut start) = (Group::new(), Start::Zero);
        for (half, first) in [(before, 0), (after, member.wrapping_add(1))] {
            for (page, member) in half.iter_mut().zip(first..) {
                if self.roles.q() == Some(member) {
                    continue;
                }
                if group.len() == GROUP {
                    make(&mut group, start, false);
                    (group, start) = (Group::new(), Start::Begun);
                }
                group.push(match inputs(member) {
                    Some(from) => Input::Copy {
                        from,
                        to: page.block_mut()?,
                    },
                    None => Input::Block(page.block()?),
                });
            }
        }
        make(&mut group, start, true);
        Some(())
    }

    /// As [`Self::check`]; `None` if a block cannot be had.
    fn compare(&self, which: Make) -> Option<Wrong> {
        let stored = Sums {
            p: self.stored(which.p.then(|| self.roles.p()))?,
            q: self.stored(self.roles.q().filter(|_| which.q))?,
        };
        let groups = self.roles.slots_down().count().div_ceil(GROUP);
        match groups.checked_sub(1) {
            None | Some(0) => self.compare_group(stored),
            Some(before) => self.compare_groups(before, stored),
        }
    }

    /// What one group makes need not be written anywhere.
    // A frame for each: a stack is small.
    #[inline(never)]
    fn compare_group(&self, stored: Sums<'_>) -> Option<Wrong> {
        let mut group = Group::new();
        if stored.q.is_some() {
            self.fill(&mut group, &WHOLE, &mut self.roles.slots_down())?;
        } else {
            // As in `sum_others`.
            let pages = self.pages.get(..usize::from(self.roles.members()))?;
            for (member, page) in pages.iter().enumerate() {
                if self.roles.is_data(member) {
                    group.push(Input::Block(page.block()?));
                }
            }
        }
        Some(self.engine.check(&mut group, Sums::default(), stored))
    }

    /// The last group goes on from what those `before` it make.
    #[inline(never)]
    fn compare_groups(&self, before: usize, stored: Sums<'_>) -> Option<Wrong> {
        let mut wrong = Wrong::default();
        let mut sums = [[Line::ZERO; PIECE]; 2];
        let [p, q] = &mut sums;
        for first in WHOLE.step_by(PIECE) {
            let lines = first..first.wrapping_add(PIECE);
            let mut slots = self.roles.slots_down();
            self.sum(&lines, &mut slots, before, p, q)?;
            let found = self.compare_last(
                &lines,
                &mut slots,
                Sums {
                    p: Some(p),
                    q: Some(q),
                },
                stored,
            )?;
            wrong.p |= found.p;
            wrong.q |= found.q;
        }
        Some(wrong)
    }

    #[inline(never)]
    fn compare_last(
        &self,
        lines: &Range<usize>,
        slots: &mut SlotsDown,
        begun: Sums<'_>,
        stored: Sums<'_>,
    ) -> Option<Wrong> {
        let mut group = Group::new();
        self.fill(&mut group, lines, slots)?;
        let stored = Sums {
            p: stored.p.and_then(|block| block.get(lines.clone())),
            q: stored.q.and_then(|block| block.get(lines.clone())),
        };
        Some(self.engine.check(&mut group, begun, stored))
    }

    /// Makes P and Q of some lines of the blocks of the next slots, outside of the strip: of as many groups, and only if
    /// there is one.
    #[inline(never)]
    pub(super) fn sum(
        &self,
        lines: &Range<usize>,
        slots: &mut SlotsDown,
        groups: usize,
        p: &mut [Line],
        q: &mut [Line],
    ) -> Option<()> {
        let mut start = Start::Zero;
        for _ in 0..groups {
            let mut group = Group::new();
            self.fill(&mut group, lines, slots)?;
            let parity = Parity {
                p: Some(&mut *p),
                q: Some(&mut *q),
            };
            self.engine.generate(&mut group, parity, start);
            start = Start::Begun;
        }
        Some(())
    }

    /// Fills a group with some lines of the blocks of the next slots.
    fn fill<'s>(
        &'s self,
        group: &mut Group<'s>,
        lines: &Range<usize>,
        slots: &mut SlotsDown,
    ) -> Option<()> {
        for slot in slots.take(GROUP) {
            group.push(match slot {
                None => Input::Zero,
                Some(member) => {
                    let page = self.pages.get(usize::from(member))?;
                    Input::Block(page.block()?.get(lines.clone())?)
                }
            });
        }
        Some(())
    }

    /// The block of a member, if there is a member.
    pub(super) fn stored(&self, member: Option<u16>) -> Option<Option<&[Line]>> {
        let Some(member) = member else {
            return Some(None);
        };
        Some(Some(self.pages.get(usize::from(member))?.block()?))
    }

    /// Complains of what could not be done.
    pub(super) fn note(&mut self, done: Option<()>) {
        if done.is_none() {
            self.failed = true;
            T::complain();
        }
    }
}

/// What a pass makes: the members whose blocks become P and Q, and what is in them before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets {
    pub(super) p: Option<u16>,
    pub(super) q: Option<u16>,
    pub(super) begun: Start,
    /// Whether copies and parity are stored past the caches.
    pub(super) past: bool,
}

/// Data members whose blocks do not count in a pass: their places count as zeros.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    pub(super) x: Option<u16>,
    pub(super) y: Option<u16>,
}

impl Lost {
    fn has(&self, member: u16) -> bool {
        self.x == Some(member) || self.y == Some(member)
    }
}

/// What a slot has for a pass; `None` if a block cannot be had.
#[inline]
pub(super) fn input<'a, 's: 'a, T: Holder>(
    lender: &mut Lender<'a, T>,
    slot: Option<u16>,
    lost: &Lost,
    inputs: impl Fn(u16) -> Option<Source<'s>>,
) -> Option<Input<'a>> {
    let Some(member) = slot else {
        return Some(Input::Zero);
    };
    if lost.has(member) {
        return Some(Input::Zero);
    }
    if let Some(from) = inputs(member) {
        let to = take_mut(lender, member, &WHOLE)?;
        return Some(Input::Copy { from, to });
    }
    Some(Input::Block(lender.take(member)?.block()?))
}

/// Lines of a block that a lender has.
pub(super) fn take_mut<'a, T: Holder>(
    lender: &mut Lender<'a, T>,
    member: u16,
    lines: &Range<usize>,
) -> Option<&'a mut [Line]> {
    lender.take(member)?.block_mut()?.get_mut(lines.clone())
}

/// As [`take_mut`], if a block is wanted.
pub(super) fn optional_mut<'a, T: Holder>(
    lender: &mut Lender<'a, T>,
    member: Option<u16>,
    lines: &Range<usize>,
) -> Option<Option<&'a mut [Line]>> {
    let Some(member) = member else {
        return Some(None);
    };
    take_mut(lender, member, lines).map(Some)
}
