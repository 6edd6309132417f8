// SPDX-License-Identifier: GPL-2.0

//! Every case of one or two lost blocks of a strip.

use super::gf::Element;
use super::lender::Lender;
use super::strip::{optional_mut, take_mut, Blocks, Holder, Lost, Make, Targets, WHOLE};
use super::{Group, Input, Parity, Start};

impl<T: Holder> Blocks<'_, T> {
    /// Computes the blocks of `lost`, which are one or two members, data or parity. `unusable` is a parity member whose
    /// block is not valid, and is not to be computed.
    ///
    /// What is lost beyond what there is parity for cannot be computed: the holder complains.
    pub(crate) fn recover(&mut self, lost: &[u16], unusable: Option<u16>) {
        let done = self.solve(lost, unusable);
        Self::expect(done);
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
        let others = Targets {
            p: Some(x),
            q,
            begun: Start::Zero,
            past: false,
        };
        let lost = Lost {
            x: Some(x),
            y: None,
            // Without Q the order of blocks does not matter, and P is one of them.
            instead: q.is_none().then_some(p),
        };
        self.pass(others, lost, |_| None)?;
        if q.is_none() {
            return Some(());
        }
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
        let p = make_p.then(|| self.roles.p());
        let others = Targets {
            p,
            q: Some(x),
            begun: Start::Zero,
            past: false,
        };
        let lost = Lost {
            x: Some(x),
            ..Lost::default()
        };
        self.pass(others, lost, |_| None)?;
        let by = self.factor(x)?.inverse()?;
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
        let others = Targets {
            p: Some(x),
            q: Some(y),
            begun: Start::Zero,
            past: false,
        };
        let lost = Lost {
            x: Some(x),
            y: Some(y),
            instead: None,
        };
        self.pass(others, lost, |_| None)?;
        let (f, g) = (self.factor(x)?, self.factor(y)?);
        // There is none if the two are the same.
        let by_q: Element = f.add(g).inverse()?;
        let mut lender = Lender::new(self.pages);
        let lost_x = take_mut(&mut lender, x, &WHOLE)?;
        let lost_y = take_mut(&mut lender, y, &WHOLE)?;
        let p = lender.take(p)?.block()?;
        let q = lender.take(q)?.block()?;
        self.engine
            .recover_two(lost_x, lost_y, (p, q), (g.mul(by_q), by_q));
        Some(())
    }
}
