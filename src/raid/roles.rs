// SPDX-License-Identifier: GPL-2.0

//! What each member of a stripe is to parity: P, Q, or data with a coefficient.
//!
//! Q is the sum of the data blocks, each times a power of two in the field of 256 elements with polynomial 0x11d. The
//! powers are those of *slots*: slot 0 has 2^0. Linux counts slots from the first data member after Q, going round, and
//! passes over P and Q; the layouts that follow the DDF standard count all members from the first, so that P's and Q's
//! own slots are there too, with zeros in them (`raid6_d0` and `set_syndrome_sources` in the C driver).

/// The roles of the members in one stripe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    members: u16,
    p: u16,
    q: Option<u16>,
    slots: Slots,
}

/// Which members have slots, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Slots {
    /// Data members alone, from the one after Q on, going round.
    #[default]
    AfterQ,
    /// All members, from the first on.
    EveryMember,
}

impl Roles {
    /// The roles in a stripe of `members` members with P, and perhaps Q, on these. Members past the last are taken for
    /// the last.
    pub(crate) fn new(members: u16, p: u16, q: Option<u16>, slots: Slots) -> Self {
        let last = members.saturating_sub(1);
        Self {
            members,
            p: p.min(last),
            q: q.map(|q| q.min(last)),
            slots,
        }
    }

    /// The last member.
    fn last(&self) -> u16 {
        self.members.saturating_sub(1)
    }

    /// Number of members.
    pub(crate) const fn members(&self) -> u16 {
        self.members
    }

    /// The member that holds P.
    pub(crate) const fn p(&self) -> u16 {
        self.p
    }

    /// The member that holds Q; `None` below level 6.
    pub(crate) const fn q(&self) -> Option<u16> {
        self.q
    }

    /// How many members hold parity: as many may be lost.
    pub(crate) fn parity_count(&self) -> u32 {
        if self.q.is_some() {
            2
        } else {
            1
        }
    }

    /// Whether `member` holds P or Q.
    pub(crate) fn is_parity(&self, member: u16) -> bool {
        member == self.p || Some(member) == self.q
    }

    /// Whether `member`, as an index, holds P.
    pub(crate) fn is_p(&self, member: usize) -> bool {
        member == usize::from(self.p)
    }

    /// Whether `member`, as an index, holds Q.
    pub(crate) fn is_q(&self, member: usize) -> bool {
        self.q.is_some_and(|q| member == usize::from(q))
    }

    /// Whether `member`, as an index, holds data.
    pub(crate) fn is_data(&self, member: usize) -> bool {
        !self.is_p(member) && !self.is_q(member)
    }

    /// The members of all slots, from the highest slot down to slot 0; `None` for a slot that holds zeros.
    pub(crate) fn slots_down(&self) -> SlotsDown {
        SlotsDown {
            roles: *self,
            behind: self.first(),
            left: self.members,
        }
    }

    /// The slot of a data member: its block counts in Q with 2 to the power of it. `None` for parity, and past the last
    /// member.
    pub(crate) fn exponent(&self, member: u16) -> Option<u8> {
        if member >= self.members || self.is_parity(member) {
            return None;
        }
        let slot = match self.slots {
            Slots::EveryMember => member,
            Slots::AfterQ => {
                let steps = self.steps(member);
                let passed = |parity: u16| u16::from(self.steps(parity) < steps);
                steps
                    .saturating_sub(passed(self.p))
                    .saturating_sub(self.q.map_or(0, passed))
            }
        };
        u8::try_from(slot).ok()
    }

    /// The data member of a slot; `None` if there is none.
    pub(crate) fn member_of_slot(&self, slot: u8) -> Option<u16> {
        (0..self.members).find(|member| self.exponent(*member) == Some(slot))
    }

    /// The member from which slots are counted.
    fn first(&self) -> u16 {
        match self.slots {
            Slots::EveryMember => 0,
            Slots::AfterQ => {
                let next = self.q.unwrap_or(self.p).saturating_add(1);
                if next < self.members {
                    next
                } else {
                    0
                }
            }
        }
    }

    /// How far `member` lies behind the first, going round.
    fn steps(&self, member: u16) -> u16 {
        let first = self.first();
        if member >= first {
            member.saturating_sub(first)
        } else {
            member.saturating_add(self.members).saturating_sub(first)
        }
    }
}

/// The slots of a stripe: see [`Roles::slots_down`].
#[derive(Clone, Debug)]
pub(crate) struct SlotsDown {
    roles: Roles,
    /// The member behind the next one.
    behind: u16,
    left: u16,
}

impl Iterator for SlotsDown {
    type Item = Option<u16>;

    // For each block of each strip: a plain loop, which the compiler makes part of its caller.
    #[inline]
    fn next(&mut self) -> Option<Option<u16>> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let member = self.behind.checked_sub(1).unwrap_or(self.roles.last());
            self.behind = member;
            if !self.roles.is_parity(member) {
                return Some(Some(member));
            }
            if self.roles.slots == Slots::EveryMember {
                return Some(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(roles: Roles) -> Vec<Option<u16>> {
        let mut down: Vec<_> = roles.slots_down().collect();
        down.reverse();
        down
    }

    #[test]
    fn slots_begin_after_q_and_pass_over_parity() {
        let roles = Roles::new(6, 2, Some(3), Slots::AfterQ);
        assert_eq!(slots(roles), [Some(4), Some(5), Some(0), Some(1)]);
        let roles = Roles::new(6, 5, Some(0), Slots::AfterQ);
        assert_eq!(slots(roles), [Some(1), Some(2), Some(3), Some(4)]);
        let last = Roles::new(6, 1, Some(5), Slots::AfterQ);
        assert_eq!(slots(last), [Some(0), Some(2), Some(3), Some(4)]);
    }

    #[test]
    fn ddf_counts_every_member() {
        let roles = Roles::new(5, 3, Some(4), Slots::EveryMember);
        assert_eq!(slots(roles), [Some(0), Some(1), Some(2), None, None]);
        let roles = Roles::new(5, 0, Some(4), Slots::EveryMember);
        assert_eq!(slots(roles), [None, Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn exponents_are_the_places_in_the_order() {
        for members in 4..=255 {
            for p in [0, 1, members / 2, members - 2, members - 1] {
                for q in [(p + 1) % members, (p + members - 1) % members, members - 1] {
                    for order in [Slots::AfterQ, Slots::EveryMember] {
                        if p == q {
                            continue;
                        }
                        let roles = Roles::new(members, p, Some(q), order);
                        let mut data = 0;
                        for (slot, member) in slots(roles).into_iter().enumerate() {
                            let Some(member) = member else { continue };
                            data += 1;
                            let exponent = roles.exponent(member);
                            assert_eq!(exponent.map(usize::from), Some(slot), "{roles:?}");
                            assert_eq!(roles.member_of_slot(slot as u8), Some(member));
                        }
                        assert_eq!(data, members - 2);
                        assert_eq!(roles.exponent(p).or(roles.exponent(q)), None);
                    }
                }
            }
        }
    }
}
