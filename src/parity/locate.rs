// SPDX-License-Identifier: GPL-2.0

//! Finding the one wrong block of a strip whose parity does not match.
//!
//! The *syndromes* of a byte are what P and Q differ by from what the data gives. One wrong block shows in them: wrong P
//! in that of P alone, wrong Q in that of Q alone, and a wrong data block in both, whose ratio is then the power of two
//! that the block counts with in Q. So each byte that does not match says who it was, and all have to say the same.

use super::gf::Element;
use super::strip::{Blocks, Holder, PIECE, WHOLE};
use super::{Line, GROUP, LINE_BYTES};

/// What is wrong with a strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// Nothing: parity matches.
    Nothing,
    /// One block, and its member.
    Member(u16),
    /// More than one block, or what one wrong block cannot explain. Nobody can tell which are right.
    Several,
}

/// What bytes have said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    P,
    Q,
    /// The data block of this slot.
    Slot(u8),
    Several,
}

impl Verdict {
    /// What one byte says, by its syndromes.
    fn of_byte(p: u8, q: u8) -> Self {
        match (Element(p).log(), Element(q).log()) {
            (None, None) => Self::Nothing,
            (Some(_), None) => Self::P,
            (None, Some(_)) => Self::Q,
            (Some(p), Some(q)) => Self::Slot(match q.checked_sub(p) {
                Some(slot) => slot,
                // Exponents count modulo 255, which in eight bits is one more than the negative number wraps to.
                None => q.wrapping_sub(p).wrapping_sub(1),
            }),
        }
    }

    /// What lines of P and Q say, those that the data gives and those that are stored.
    #[inline(never)]
    fn of_lines(made: (&Line, &Line), stored: (&Line, &Line)) -> Self {
        let bytes = stored.0.difference(made.0).zip(stored.1.difference(made.1));
        bytes.fold(Self::Nothing, |so_far, (p, q)| {
            so_far.with(Self::of_byte(p, q))
        })
    }

    /// What two together say.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, verdict) | (verdict, Self::Nothing) => verdict,
            (a, b) if a == b => a,
            _ => Self::Several,
        }
    }
}

impl<T: Holder> Blocks<'_, T> {
    /// Finds the wrong block of a strip all of whose blocks are there. Only where there is P and Q: else whatever does not
    /// match is [`Located::Several`].
    pub(crate) fn locate(&self) -> Located {
        let verdict = self.verdict();
        if verdict.is_none() {
            T::complain();
        }
        match verdict {
            Some(Verdict::Nothing) => Located::Nothing,
            Some(Verdict::P) => Located::Member(self.roles.p()),
            Some(Verdict::Q) => self.roles.q().map_or(Located::Several, Located::Member),
            Some(Verdict::Slot(slot)) => self
                .roles
                .member_of_slot(slot)
                .map_or(Located::Several, Located::Member),
            Some(Verdict::Several) | None => Located::Several,
        }
    }

    // Its own frame, as for a pass.
    #[inline(never)]
    fn verdict(&self) -> Option<Verdict> {
        let stored_p = self.stored(Some(self.roles.p()))?;
        let stored_q = self.stored(self.roles.q())?;
        let groups = self.roles.slots_down().count().div_ceil(GROUP);
        let mut verdict = Verdict::Nothing;
        let mut sums = [[Line::ZERO; PIECE]; 2];
        let [p, q] = &mut sums;
        for first in WHOLE.step_by(PIECE) {
            let lines = first..first.wrapping_add(PIECE);
            let mut slots = self.roles.slots_down();
            self.sum(&lines, &mut slots, groups, p, q)?;
            let stored_p = stored_p.and_then(|block| block.get(lines.clone()))?;
            let Some(stored_q) = stored_q.and_then(|block| block.get(lines)) else {
                if stored_p != p {
                    return Some(Verdict::Several);
                }
                continue;
            };
            if stored_p == p && stored_q == q {
                continue;
            }
            for ((p, q), stored) in p.iter().zip(&*q).zip(stored_p.iter().zip(stored_q)) {
                verdict = verdict.with(Verdict::of_lines((p, q), stored));
            }
            if verdict == Verdict::Several {
                break;
            }
        }
        Some(verdict)
    }
}

impl Line {
    /// The bytes of what two lines differ by.
    fn difference<'l>(&'l self, other: &'l Self) -> impl Iterator<Item = u8> + 'l {
        let words = self.0.iter().zip(&other.0);
        words.flat_map(|(a, b)| (a ^ b).to_ne_bytes())
    }
}

const _: () = assert!(LINE_BYTES % size_of::<u64>() == 0);
