// SPDX-License-Identifier: GPL-2.0

//! Sets of strips: one bit for each of the up to sixteen strips of a span.

use core::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not, Sub, SubAssign};

/// Bytes of one strip on one member.
pub(crate) const STRIP_BYTES: usize = 4096;

/// Sectors (512 bytes) of one strip on one member.
pub(crate) const STRIP_SECTORS: u32 = 8;

/// The most strips that a span has.
pub(crate) const SPAN_STRIPS: u32 = 16;

/// A set of strips of one span; bit `i` stands for the strip at `i * STRIP_SECTORS` in it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Strips(pub(crate) u16);

impl Strips {
    /// No strip.
    pub(crate) const NONE: Self = Self(0);

    /// The first `count` strips; all sixteen if `count` is sixteen or more.
    pub(crate) const fn first_n(count: u32) -> Self {
        if count >= SPAN_STRIPS {
            Self(u16::MAX)
        } else {
            Self((1 << count) - 1)
        }
    }

    /// The strip `index` alone; empty if there is no such strip.
    pub(crate) const fn one(index: u32) -> Self {
        if index >= SPAN_STRIPS {
            Self::NONE
        } else {
            Self(1 << index)
        }
    }

    /// `count` strips from `first` on; what lies past the sixteenth is left out.
    pub(crate) const fn range(first: u32, count: u32) -> Self {
        if first >= SPAN_STRIPS {
            Self::NONE
        } else {
            Self(Self::first_n(count).0 << first)
        }
    }

    /// Whether no strip is in the set.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any strip is in both sets.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every strip of `other` is in this set.
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// How many strips are in the set.
    pub(crate) const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The neighbouring strips that begin with the lowest one in the set, or `None` if it is empty.
    pub(crate) const fn first_run(self) -> Option<Run> {
        if self.is_empty() {
            return None;
        }
        let first = self.0.trailing_zeros();
        let count = (self.0 >> first).trailing_ones();
        Some(Run { first, count })
    }

    /// The strips in the set, lowest first.
    pub(crate) fn iter(self) -> impl Iterator<Item = u32> {
        let mut rest = self;
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let index = rest.0.trailing_zeros();
            rest -= Self::one(index);
            Some(index)
        })
    }

    /// The maximal runs of neighbouring strips in the set, lowest first.
    pub(crate) fn runs(self) -> impl Iterator<Item = Run> {
        let mut rest = self;
        core::iter::from_fn(move || {
            let run = rest.first_run()?;
            rest -= run.strips();
            Some(run)
        })
    }
}

impl core::fmt::Debug for Strips {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl BitAnd for Strips {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Strips {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Sub for Strips {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Not for Strips {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl BitAndAssign for Strips {
    fn bitand_assign(&mut self, other: Self) {
        self.0 &= other.0;
    }
}

impl BitOrAssign for Strips {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl SubAssign for Strips {
    fn sub_assign(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

/// Neighbouring strips: what one member bio, or one parity job, covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Index of the first strip in its span.
    pub(crate) first: u32,
    /// Number of strips, at least one.
    pub(crate) count: u32,
}

impl Run {
    /// The run as a set.
    pub(crate) const fn strips(self) -> Strips {
        Strips::range(self.first, self.count)
    }
}
