// SPDX-License-Identifier: GPL-2.0

//! Every case of one or two lost blocks of a strip.

use super::gf::Element;
use super::group::ZEROS;
use super::lender::Lender;
use super::strip::{input, optional_mut, take_mut, Blocks, Holder, Lost, Make, Targets, WHOLE};
use super::{Group, Input, Parity, Start, GROUP};

impl<T: Holder> Blocks<'_, T> {
    /// Computes the blocks of `lost`, which are one or two members, data or parity. `unusable` is a parity member whose
    /// block is not valid, and is not to be computed.
    ///
    /// What is lost beyond what there is parity for cannot be computed: the holder complains.
    pub(crate) fn recover(&mut self, lost: &[u16], unusable: Option<u16>) {
        let done = self.solve(lost, unusable);
        self.note(done);
    }

    /// Makes the block that is wrong right, by the others: what [`Self::locate`] has found.
    pub(crate) fn mend(&mut self, member: u16) {
        self.recover(&[member], None);
    }

    fn solve(&mut self, lost: &[u16], unusable: Option<u16>) -> Option<()> {
        let (p, q) = (self.roles.p(), self.roles.q());
        let make = Make {
            p: lost.contains(&p),
            q: q.is_some_and(|q| lost.contains(&q)),
        };
        let usable_p = !make.p && unusable != Some(p);
        let usable_q = q.filter(|q| !make.q && unusable != Some(*q));
        let mut data = lost.iter().filter(|member| !self.roles.is_parity(**member));
        match (data.next(), data.next(), data.next()) {
            (None, ..) => {
                self.generate(make);
                Some(())
            }
            (Some(&x), None, _) if usable_p => self.data_by_p(x, make.q),
            (Some(&x), None, _) => self.data_by_q(x, usable_q?, make.p),
            (Some(&x), Some(&y), None) if usable_p => self.data_by_both(x, y, usable_q?),
            _ => None,
        }
    }

    /// A data block by P; and Q from all data then, if it is to be made.
    fn data_by_p(&mut self, x: u16, make_q: bool) -> Option<()> {
        let p = self.roles.p();
        let q = self.roles.q().filter(|_| make_q);
        if q.is_none() {
            return self.sum_others(x, false, |_| None);
        }
        let others = Targets {
            p: Some(x),
            q,
            begun: Start::Zero,
            past: false,
        };
        let lost = Lost {
            x: Some(x),
            y: None,
        };
        self.pass(others, lost, |_| None)?;
        let factor = self.factor(x)?;
        let mut lender = Lender::new(self.pages);
        let lost = take_mut(&mut lender, x, &WHOLE)?;
        let p = lender.take(p)?.block()?;
        // What P and the P of the other blocks differ by is the block, which has to go into Q.
        let parity = Parity {
            p: None,
            q: optional_mut(&mut lender, q, &WHOLE)?,
        };
        self.engine.delta(lost, p, parity, factor);
        let parity = Parity {
            p: Some(lost),
            q: None,
        };
        let mut block = Group::new();
        block.push(Input::Block(p));
        self.engine.generate(&mut block, parity, Start::Begun);
        Some(())
    }

    /// A data block by Q; and P from all data then, if it is to be made.
    fn data_by_q(&mut self, x: u16, q: u16, make_p: bool) -> Option<()> {
        let by = self.factor(x)?.inverse()?;
        let p = make_p.then(|| self.roles.p());
        let lost = Lost {
            x: Some(x),
            ..Lost::default()
        };
        if let Some(p) = p.filter(|_| self.is_one_group()) {
            // Zeros and nothing of what they differ by: P is the sum of the other blocks and of this.
            return self.group_by_both((x, p), lost, (None, q), (Element(0), by));
        }
        let others = Targets {
            p,
            q: Some(x),
            begun: Start::Zero,
            past: false,
        };
        self.pass(others, lost, |_| None)?;
        let mut lender = Lender::new(self.pages);
        let lost = take_mut(&mut lender, x, &WHOLE)?;
        let q = lender.take(q)?.block()?;
        let p = optional_mut(&mut lender, p, &WHOLE)?;
        self.engine.recover_one(lost, q, by, p);
        Some(())
    }

    /// Two data blocks by P and Q.
    ///
    /// With a for what P lacks and b for what Q lacks: x + y = a, and f·x + g·y = b, so x = (g·a + b) / (f + g).
    fn data_by_both(&mut self, x: u16, y: u16, q: u16) -> Option<()> {
        let p = self.roles.p();
        let (f, g) = (self.factor(x)?, self.factor(y)?);
        // There is none if the two are the same.
        let by_q: Element = f.add(g).inverse()?;
        let by = (g.mul(by_q), by_q);
        let lost = Lost {
            x: Some(x),
            y: Some(y),
        };
        if self.is_one_group() {
            return self.group_by_both((x, y), lost, (Some(p), q), by);
        }
        let others = Targets {
            p: Some(x),
            q: Some(y),
            begun: Start::Zero,
            past: false,
        };
        self.pass(others, lost, |_| None)?;
        let mut lender = Lender::new(self.pages);
        let lost_x = take_mut(&mut lender, x, &WHOLE)?;
        let lost_y = take_mut(&mut lender, y, &WHOLE)?;
        let p = lender.take(p)?.block()?;
        let q = lender.take(q)?.block()?;
        self.engine.recover_two(lost_x, lost_y, (p, q), by);
        Some(())
    }

    /// Two blocks of a strip of one group, in one pass: with zeros for P if there is none.
    #[inline(never)]
    fn group_by_both(
        &mut self,
        targets: (u16, u16),
        lost: Lost,
        parity: (Option<u16>, u16),
        by: (Element, Element),
    ) -> Option<()> {
        let mut lender = Lender::new(self.pages);
        let mut group = Group::new();
        for slot in self.roles.slots_down() {
            group.push(input(&mut lender, slot, &lost, |_| None)?);
        }
        let x = take_mut(&mut lender, targets.0, &WHOLE)?;
        let y = take_mut(&mut lender, targets.1, &WHOLE)?;
        let p = match parity.0 {
            Some(p) => lender.take(p)?.block()?,
            None => &ZEROS,
        };
        let q = lender.take(parity.1)?.block()?;
        self.engine
            .recover_group(&mut group, (x, y), (p, q), by, self.past);
        Some(())
    }

    /// Whether all slots fit into one group.
    fn is_one_group(&self) -> bool {
        self.roles.slots_down().count() <= GROUP
    }
}
