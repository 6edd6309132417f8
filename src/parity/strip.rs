// SPDX-License-Identifier: GPL-2.0

//! The blocks of one strip: what jobs do with them, cut into groups of inputs for an engine.

use super::few::Few;
use super::gf::Element;
use super::lender::Lender;
use super::{
    Block, Engine, Input, Line, Parity, Source, Start, Sums, Wrong, BLOCK_LINES, GROUP, LINE_BYTES,
};
use crate::raid::roles::Roles;
use core::ops::{ControlFlow, Range};

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
/// do not exist, then the holder complains, and what the job was to make is left undone, or half done.
pub(crate) struct Blocks<'a, T> {
    pub(super) pages: &'a mut [T],
    pub(super) engine: &'a dyn Engine,
    pub(super) roles: Roles,
    past: bool,
}

/// Lines of a block.
pub(super) const WHOLE: Range<usize> = 0..BLOCK_LINES;

/// Lines that are looked at at once where intermediate parity lies on the stack: 512 bytes of it, twice.
pub(super) const PIECE: usize = 8;

impl<'a, T: Holder> Blocks<'a, T> {
    /// The blocks that `pages` hold, one for each member, in the roles that they have, and the engine that works on them.
    pub(crate) fn over(pages: &'a mut [T], engine: &'a dyn Engine, roles: Roles) -> Self {
        Self {
            pages,
            engine,
            roles,
            past: false,
        }
    }

    /// Has [`Self::generate`] and [`Self::generate_copying`] store past the caches: for blocks that no CPU reads soon, such
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
        let targets = Targets {
            p: make.p.then(|| self.roles.p()),
            q: self.roles.q().filter(|_| make.q),
            begun: Start::Zero,
            past: self.past,
        };
        let done = self.pass(targets, Lost::default(), inputs);
        Self::expect(done);
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
        Self::expect(done);
    }

    /// Which parity does not match the data. What is not to be looked at is not wrong.
    pub(crate) fn check(&self, which: Make) -> Wrong {
        let wrong = self.compare(which);
        Self::expect(wrong.map(|_| ()));
        wrong.unwrap_or(Wrong {
            p: which.p,
            q: which.q,
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
    pub(super) fn pass<'s>(
        &mut self,
        targets: Targets,
        lost: Lost,
        inputs: impl Fn(u16) -> Option<Source<'s>>,
    ) -> Option<()>
    where
        'a: 's,
    {
        let mut slots = self.slots();
        let mut start = targets.begun;
        loop {
            let mut filling = Filling {
                lender: Lender::new(self.pages),
                group: Few::new(),
                lost,
                inputs: &inputs,
            };
            // In one go, which is faster than slot by slot; it ends where the group is full.
            let stopped = slots.try_for_each(|slot| filling.add(slot));
            if let ControlFlow::Break(full) = stopped {
                full?;
            }
            let Filling { lender, group, .. } = &mut filling;
            if group.is_empty() && start == Start::Begun {
                return Some(());
            }
            let parity = Parity {
                p: optional_mut(lender, targets.p, &WHOLE)?,
                q: optional_mut(lender, targets.q, &WHOLE)?,
            };
            if targets.past {
                let last = slots.clone().next().is_none();
                self.engine.generate_past(group, parity, start, last);
            } else {
                self.engine.generate(group, parity, start);
            }
            start = Start::Begun;
        }
    }

    /// The members of the slots, from the highest to the lowest; without Q every data member, in any order.
    fn slots(&self) -> impl Iterator<Item = Option<u16>> + Clone {
        self.roles.slots_down()
    }

    /// As [`Self::check`]; `None` if a block cannot be had.
    fn compare(&self, which: Make) -> Option<Wrong> {
        let stored_p = self.stored(which.p.then(|| self.roles.p()))?;
        let stored_q = self.stored(self.roles.q().filter(|_| which.q))?;
        let count = self.slots().count();
        // What one group makes need not be written anywhere.
        let piece = if count <= GROUP { BLOCK_LINES } else { PIECE };
        let mut wrong = Wrong::default();
        for first in WHOLE.step_by(piece) {
            let lines = first..first.wrapping_add(piece);
            let mut sums = [[Line::ZERO; PIECE]; 2];
            let [p, q] = &mut sums;
            let before = count.saturating_sub(1) / GROUP * GROUP;
            self.sum(&lines, 0..before, p, q)?;
            let mut group = self.group(&lines, before..count)?;
            let begun = match before {
                0 => Sums::default(),
                _ => Sums {
                    p: Some(p),
                    q: Some(q),
                },
            };
            let stored = Sums {
                p: stored_p.and_then(|block| block.get(lines.clone())),
                q: stored_q.and_then(|block| block.get(lines.clone())),
            };
            let found = self.engine.check(&mut group, begun, stored);
            wrong.p |= found.p;
            wrong.q |= found.q;
        }
        Some(wrong)
    }

    /// Makes P and Q of some lines of the blocks of some slots, counted from the highest, outside of the strip. Nothing if
    /// there are no such slots.
    pub(super) fn sum(
        &self,
        lines: &Range<usize>,
        slots: Range<usize>,
        p: &mut [Line],
        q: &mut [Line],
    ) -> Option<()> {
        let mut start = Start::Zero;
        for first in slots.clone().step_by(GROUP) {
            let behind = first.saturating_add(GROUP).min(slots.end);
            let mut group = self.group(lines, first..behind)?;
            let parity = Parity {
                p: Some(&mut *p),
                q: Some(&mut *q),
            };
            self.engine.generate(&mut group, parity, start);
            start = Start::Begun;
        }
        Some(())
    }

    /// Some lines of the blocks of at most [`GROUP`] slots, counted from the highest.
    fn group(&self, lines: &Range<usize>, slots: Range<usize>) -> Option<Few<Input<'_>>> {
        let mut group = Few::new();
        for slot in self.slots().skip(slots.start).take(slots.len()) {
            group.push(match slot {
                None => Input::Zero,
                Some(member) => {
                    let page = self.pages.get(usize::from(member))?;
                    Input::Block(page.block()?.get(lines.clone())?)
                }
            });
        }
        Some(group)
    }

    /// The block of a member, if there is a member.
    pub(super) fn stored(&self, member: Option<u16>) -> Option<Option<&Block>> {
        let Some(member) = member else {
            return Some(None);
        };
        Some(Some(self.pages.get(usize::from(member))?.block()?))
    }

    /// Complains of what could not be done.
    pub(super) fn expect(done: Option<()>) {
        if done.is_none() {
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

/// Data members whose blocks do not count in a pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    pub(super) x: Option<u16>,
    pub(super) y: Option<u16>,
    /// The member whose block counts in the place of the one that is lost; else that place counts as zeros.
    pub(super) instead: Option<u16>,
}

impl Lost {
    fn has(&self, member: u16) -> bool {
        self.x == Some(member) || self.y == Some(member)
    }
}

/// A group that a pass fills.
struct Filling<'a, 'f, T, F> {
    lender: Lender<'a, T>,
    group: Few<Input<'a>>,
    lost: Lost,
    inputs: &'f F,
}

impl<'a, T: Holder, F> Filling<'a, '_, T, F> {
    /// Adds what a slot has. Stops when the group is full, or with `None` when a block cannot be had.
    fn add<'s: 'a>(&mut self, slot: Option<u16>) -> ControlFlow<Option<()>>
    where
        F: Fn(u16) -> Option<Source<'s>>,
    {
        let input = match slot {
            Some(member) if self.lost.has(member) => match self.lost.instead {
                Some(other) => self.block(other),
                None => Some(Input::Zero),
            },
            Some(member) => match (self.inputs)(member) {
                Some(from) => {
                    take_mut(&mut self.lender, member, &WHOLE).map(|to| Input::Copy { from, to })
                }
                None => self.block(member),
            },
            None => Some(Input::Zero),
        };
        let Some(input) = input else {
            return ControlFlow::Break(None);
        };
        self.group.push(input);
        if self.group.len() < GROUP {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(Some(()))
        }
    }

    /// The block of a member, which is only read.
    fn block(&mut self, member: u16) -> Option<Input<'a>> {
        Some(Input::Block(self.lender.take(member)?.block()?))
    }
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
