// SPDX-License-Identifier: GPL-2.0

//! What parity says of a row: which blocks follow from which.
//!
//! The jobs of the simulator and its oracle both ask here, sector by sector; a sector is a word for each slot.

use super::field::{inverse, power_of_two, times};
use crate::raid::roles::Roles;

/// The most members of a simulated array.
pub(crate) const MAX_MEMBERS: usize = 8;

/// What the members hold of one sector of a row, by slot.
pub(crate) type Words = [u64; MAX_MEMBERS];

/// A set of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots(u16);

impl Slots {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn one(slot: usize) -> Self {
        Self(1 << slot)
    }

    pub(crate) fn contains(self, slot: usize) -> bool {
        self.0 & (1 << slot) != 0
    }

    pub(crate) fn insert(&mut self, slot: usize) {
        self.0 |= 1 << slot;
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        self.0 &= !(1 << slot);
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..16).filter(move |&slot| self.contains(slot))
    }
}

impl FromIterator<usize> for Slots {
    fn from_iter<I: IntoIterator<Item = usize>>(slots: I) -> Self {
        slots.into_iter().fold(Self::NONE, |mut all, slot| {
            all.insert(slot);
            all
        })
    }
}

/// The code of a stripe.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    members: usize,
    p: usize,
    q: Option<usize>,
    /// By what each member's block counts in Q.
    factors: [u8; MAX_MEMBERS],
}

impl Code {
    pub(crate) fn new(roles: Roles) -> Self {
        let mut factors = [0; MAX_MEMBERS];
        for (factor, member) in factors.iter_mut().zip(0..roles.members()) {
            *factor = roles.exponent(member).map_or(0, power_of_two);
        }
        Self {
            members: usize::from(roles.members()),
            p: usize::from(roles.p()),
            q: roles.q().map(usize::from),
            factors,
        }
    }

    /// How many blocks of a strip may be lost.
    pub(crate) fn parities(&self) -> usize {
        1 + usize::from(self.q.is_some())
    }

    pub(crate) fn p(&self) -> usize {
        self.p
    }

    pub(crate) fn q(&self) -> Option<usize> {
        self.q
    }

    /// The slots with parity.
    pub(crate) fn parity_slots(&self) -> Slots {
        [self.p].into_iter().chain(self.q).collect()
    }

    pub(crate) fn is_parity(&self, slot: usize) -> bool {
        slot == self.p || Some(slot) == self.q
    }

    fn data(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.members).filter(|&slot| !self.is_parity(slot))
    }

    /// What `change` of a slot's data does to parity in `slot`.
    pub(crate) fn effect(&self, change: u64, data: usize, parity: usize) -> u64 {
        if parity == self.p {
            change
        } else {
            times(change, self.factors[data])
        }
    }

    /// P and Q as data makes them.
    fn sums(&self, words: &Words) -> (u64, u64) {
        let p = self.data().fold(0, |sum, slot| sum ^ words[slot]);
        let q = match self.q {
            None => 0,
            Some(_) => self
                .data()
                .fold(0, |sum, slot| sum ^ times(words[slot], self.factors[slot])),
        };
        (p, q)
    }

    /// Puts what it must be into each slot of `lost`, which are no more than there are parities, going by the others.
    pub(crate) fn restore(&self, words: &mut Words, lost: Slots) {
        assert!(
            lost.count() <= self.parities(),
            "{lost:?} of {self:?} cannot be restored"
        );
        for slot in lost.iter() {
            words[slot] = 0;
        }
        let (p, q) = self.sums(words);
        // What the lost data, alone and as it counts in Q, adds up to.
        let missing_p = p ^ words[self.p];
        let missing_q = q ^ self.q.map_or(0, |q| words[q]);
        let mut data = lost.iter().filter(|&slot| !self.is_parity(slot));
        match (data.next(), data.next()) {
            (None, _) => {}
            (Some(x), None) if !lost.contains(self.p) => words[x] = missing_p,
            (Some(x), None) => words[x] = times(missing_q, inverse(self.factors[x])),
            (Some(x), Some(y)) => {
                let (fx, fy) = (self.factors[x], self.factors[y]);
                words[x] = times(missing_q ^ times(missing_p, fy), inverse(fx ^ fy));
                words[y] = missing_p ^ words[x];
            }
        }
        let (p, q) = self.sums(words);
        if lost.contains(self.p) {
            words[self.p] = p;
        }
        if let Some(slot) = self.q.filter(|&slot| lost.contains(slot)) {
            words[slot] = q;
        }
    }

    /// Whether the slots that are not `lost` agree. If as many are lost as there are parities there is nothing to agree.
    pub(crate) fn agree(&self, words: &Words, lost: Slots) -> bool {
        if lost.count() >= self.parities() {
            return true;
        }
        let mut words = *words;
        if !lost.is_empty() {
            self.restore(&mut words, lost);
        }
        let (p, q) = self.sums(&words);
        p == words[self.p] && self.q.is_none_or(|slot| q == words[slot])
    }

    /// The one slot whose block is wrong if all others' are right: there is one such slot, or `None`.
    pub(crate) fn odd_one_out(&self, sectors: &[Words]) -> Option<usize> {
        let explains = |&slot: &usize| {
            let without = Slots::one(slot);
            sectors.iter().all(|words| self.agree(words, without))
        };
        let mut slots = (0..self.members).filter(explains);
        slots.next().filter(|_| slots.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng::Rng;
    use super::*;
    use crate::raid::geometry::{Geometry, Level};

    const LAYOUTS: [i32; 14] = [0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 18, 19, 20];

    /// Calls `f` with every code of level 6 and 4 to 8 members, and random words of a right row.
    fn each_code(mut f: impl FnMut(&Code, Words, &mut Rng)) {
        let mut rng = Rng::new(6);
        for layout in LAYOUTS {
            for members in 4..=8 {
                let geometry = Geometry::new(Level::Raid6, layout, members, 8).unwrap();
                for stripe in 0..u64::from(members) {
                    let code = Code::new(geometry.roles(stripe));
                    let mut words = Words::default();
                    for slot in code.data() {
                        words[slot] = rng.bits();
                    }
                    code.restore(&mut words, code.parity_slots());
                    f(&code, words, &mut rng);
                }
            }
        }
    }

    #[test]
    fn any_two_blocks_can_be_restored() {
        each_code(|code, right, rng| {
            for x in 0..code.members {
                for y in 0..code.members {
                    let lost: Slots = [x, y].into_iter().collect();
                    let mut words = right;
                    for slot in lost.iter() {
                        words[slot] = rng.bits();
                    }
                    code.restore(&mut words, lost);
                    assert_eq!(words, right, "{code:?} without {lost:?}");
                }
            }
        });
    }

    #[test]
    fn one_wrong_block_is_told_and_two_are_not_guessed_at() {
        each_code(|code, right, rng| {
            for x in 0..code.members {
                let mut words = right;
                words[x] ^= rng.bits() | 1;
                assert!(!code.agree(&words, Slots::NONE), "{code:?}: {x} is wrong");
                assert!(code.agree(&words, Slots::one(x)), "{code:?}: others agree");
                assert_eq!(code.odd_one_out(&[words, right]), Some(x), "{code:?}");
                for y in (0..code.members).filter(|&y| y != x) {
                    let mut other = right;
                    other[y] ^= rng.bits() | 1;
                    assert_eq!(code.odd_one_out(&[words, other]), None, "{code:?}");
                    words[y] ^= rng.bits() | 1;
                    assert_eq!(code.odd_one_out(&[words]), None, "{code:?}: {x}, {y}");
                }
            }
        });
    }
}
