// SPDX-License-Identifier: GPL-2.0

//! The course of a job: by which operations, one after the other, a channel makes what a recipe names.
//!
//! An operation that has ended is gone on with by the next one, so that what reads more blocks than a channel can at once is
//! made of several. What is under way of a job at a time is a stage; how that stands tells what becomes of the job ([`go_on`]).

use super::recipe::{Target, TARGETS};
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

/// What of an operation a channel's driver takes as it comes, and does not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    /// For which sums there are pages.
    pub(crate) sums: Sums,
    /// Whether these pages may be changed.
    pub(crate) changes: bool,
    /// How many blocks it reads.
    pub(crate) sources: usize,
}

impl Asked {
    /// Whether a channel may be asked for it: it writes to nothing but pages that are there and that may be changed, and reads no more
    /// blocks than the channel has room for.
    pub(crate) fn is_sound(&self, limits: &impl Limits) -> bool {
        let Sums { p, q, more } = self.sums;
        let has_its_pages = match self.kind {
            Kind::Copy => self.changes && p && !q && !more,
            Kind::Xor => self.changes && p && !q,
            Kind::Pq => self.changes && (p || q),
            // P is one of the blocks that are read.
            Kind::XorCheck => !self.changes && !p && !q && !more,
            Kind::PqCheck => !self.changes && (p || q) && !more,
        };
        let most = limits.most_sources(self.kind, self.sums);
        has_its_pages && (1..=most).contains(&self.sources)
    }
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

/// The sums of a job, and how far they have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    sums: [Option<Sum>; TARGETS],
}

impl Course {
    /// Nothing is to be made.
    pub(crate) const fn new() -> Self {
        Self {
            sums: [None; TARGETS],
        }
    }

    /// Adds a sum, which has a number of its own.
    pub(crate) fn set(&mut self, number: usize, sum: Sum) {
        if let Some(place) = self.sums.get_mut(number) {
            *place = Some(sum);
        }
    }

    /// Whether all of it is made when what is under way has ended well.
    pub(crate) fn is_done(&self) -> bool {
        self.sums.iter().flatten().all(Sum::is_done)
    }

    /// Whether the block of a member is made.
    pub(crate) fn makes(&self, member: u16) -> bool {
        let mut targets = self.sums.iter().flatten().map(Sum::target);
        targets.any(|target| [target.p, target.q].contains(&Some(member)))
    }

    /// Begins the next stage: of each sum that is not done the next operation. `submit` gets the sum and its number, and says by
    /// which step it goes on; `None` if it cannot. Returns whether all can.
    #[must_use = "what was not begun is not made"]
    pub(crate) fn begin(&mut self, mut submit: impl FnMut(usize, &Sum) -> Option<Step>) -> bool {
        let mut all = true;
        for (number, sum) in self.sums.iter_mut().enumerate() {
            let Some(sum) = sum.as_mut().filter(|sum| !sum.is_done()) else {
                continue;
            };
            match submit(number, sum) {
                Some(step) => sum.begin(&step),
                None => all = false,
            }
        }
        all
    }
}

/// How a stage stands, for whoever goes on with the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Something is under way.
    Pending,
    /// All has ended well: the next stage may begin.
    Well,
    /// The job is to be done again: something has failed.
    Failed,
    /// An engine says that parity is wrong.
    Differs,
    /// The job is to be done again, in other pages: what is under way is for nobody any more.
    Late,
}

/// What has come of beginning the next stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Something is under way.
    Pending,
    /// There was none: the job has ended, and what it has made is the strip's.
    Done,
    /// It cannot go on. The strip is as it was.
    Failed,
}

/// What becomes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as it was, or its next stage has begun.
    Pending,
    Done,
    /// This CPU does it, from the beginning.
    Again(Why),
}

/// Why a CPU does what engines have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Failed,
    /// What the engine still does with the job's pages is for nobody.
    Late,
    /// An engine is not believed that parity is wrong.
    Differs,
}

/// Goes on with a job whose stage stands so: what comes next is begun by `advance`, after a stage that has ended well alone.
pub(crate) fn go_on(standing: Standing, advance: impl FnOnce() -> Progress) -> Verdict {
    match standing {
        Standing::Pending => Verdict::Pending,
        Standing::Late => Verdict::Again(Why::Late),
        Standing::Failed => Verdict::Again(Why::Failed),
        Standing::Differs => Verdict::Again(Why::Differs),
        Standing::Well => match advance() {
            Progress::Pending => Verdict::Pending,
            Progress::Done => Verdict::Done,
            Progress::Failed => Verdict::Again(Why::Failed),
        },
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
