// SPDX-License-Identifier: GPL-2.0

//! The course of a job: by which operations, one after the other, a channel makes what a recipe names.
//!
//! An operation that has ended is gone on with by the next one, so that what reads more blocks than a channel can at once is
//! made of several.

use super::recipe::Target;
use crate::raid::job::Job;
use core::ops::Range;

/// What an engine can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Copy bytes.
    Copy,
    /// Make the sum of blocks.
    Xor,
    /// Make that, and the sum of blocks each times a factor; or one of them.
    Pq,
    /// Compare as [`Self::Xor`]: whether the sum is zero.
    XorCheck,
    /// Compare as [`Self::Pq`].
    PqCheck,
}

/// Which blocks an operation makes or compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) p: bool,
    pub(crate) q: bool,
    /// It goes on with what is there.
    pub(crate) more: bool,
}

/// What a channel can do at once.
pub(crate) trait Limits {
    /// How many blocks an operation reads at most; what it goes on with is not counted. 0: there are none of this kind.
    fn most_sources(&self, kind: Kind, sums: Sums) -> usize;

    /// Whether operations can read and write whole pages.
    fn takes_pages(&self, kind: Kind) -> bool;
}

/// The next operation for a sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) sums: Sums,
    /// Which of the terms it reads.
    pub(crate) terms: Range<usize>,
}

/// Blocks that are made of the same terms, or compared with these, and how far that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    target: Target,
    is_check: bool,
    terms: usize,
    /// How many of the terms are in it, or are being added.
    done: usize,
}

impl Sum {
    /// Nothing of it is there.
    pub(crate) fn new(job: Job, target: Target, terms: usize) -> Self {
        Self {
            target,
            is_check: job == Job::Check,
            terms,
            done: 0,
        }
    }

    /// What is made, or compared.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// Whether all terms are in it, or on their way.
    pub(crate) fn is_done(&self) -> bool {
        self.done >= self.terms
    }

    /// By which operations it is made.
    pub(crate) fn kind(&self) -> Kind {
        match (self.is_check, self.target.q.is_none()) {
            (true, true) => Kind::XorCheck,
            (true, false) => Kind::PqCheck,
            // There is no sum of one block.
            (false, true) if self.terms == 1 => Kind::Copy,
            (false, true) => Kind::Xor,
            (false, false) => Kind::Pq,
        }
    }

    /// The next operation on a channel; `None` if the channel cannot go on with it. Of a sum that is not done.
    pub(crate) fn next(&self, limits: &impl Limits) -> Option<Step> {
        let kind = self.kind();
        let sums = |more| Sums {
            p: self.target.p.is_some(),
            q: self.target.q.is_some(),
            more,
        };
        let most = |more| limits.most_sources(kind, sums(more));
        // What is compared is compared at once.
        let more = if self.is_check { 0 } else { most(true) };
        let left = self.terms.saturating_sub(self.done);
        let count = next_chunk(left, self.done != 0, most(false), more)?;
        limits.takes_pages(kind).then(|| Step {
            kind,
            sums: sums(self.done != 0),
            terms: self.done..self.done.saturating_add(count),
        })
    }

    /// Takes note that an operation is under way.
    pub(crate) fn begin(&mut self, step: &Step) {
        self.done = step.terms.end;
    }

    /// How many operations there are left on a channel; `None` if it cannot do all of them.
    pub(crate) fn operations(&self, limits: &impl Limits) -> Option<usize> {
        let mut rest = *self;
        let mut count = 0_usize;
        while !rest.is_done() {
            rest.begin(&rest.next(limits)?);
            count = count.saturating_add(1);
        }
        Some(count)
    }
}

/// How many of `left` blocks the next operation reads, where one reads at most `first` to begin with and `more` to go on with
/// what is made already; `None` if it cannot be done.
pub(crate) fn next_chunk(left: usize, begun: bool, first: usize, more: usize) -> Option<usize> {
    let most = if begun { more } else { first };
    // What cannot be gone on with has to be done at once.
    let stuck = !begun && left > first && more == 0;
    (most > 0 && left > 0 && !stuck).then(|| left.min(most))
}
