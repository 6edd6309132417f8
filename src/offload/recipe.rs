// SPDX-License-Identifier: GPL-2.0

//! What each block that a job makes is made of: a sum of blocks of the same strip, each times an element of the field.
//!
//! Whatever is asked of parity is such a sum: new parity of all data or by what changed, and a lost block, of which there may
//! be two. So an engine makes each block by operations of one kind, and none needs what another makes. Nothing that is
//! made takes the place of what it is made of: new data and parity are made in spare pages, and until all is there the strip
//! is as it was, and the CPU can do the job instead.

use crate::parity::gf::Element;
use crate::raid::column::Column;
use crate::raid::job::{Job, Method};
use crate::raid::roles::Roles;
use crate::raid::strips::Strips;

/// A block and what it counts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// Whose block.
    pub(crate) member: u16,
    /// The one that the job has copied in, not the one that was there.
    pub(crate) new: bool,
    pub(crate) factor: Element,
}

/// Blocks that are made of the same blocks: `p` is the sum of them as they are, `q` that with the factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The member whose block is made.
    pub(crate) p: Option<u16>,
    /// As `p`.
    pub(crate) q: Option<u16>,
}

/// The most targets of a job.
pub(crate) const TARGETS: usize = 2;

/// One strip as a job finds it.
#[derive(Clone, Copy)]
pub(crate) struct Recipe<'a> {
    pub(crate) job: Job,
    pub(crate) roles: Roles,
    pub(crate) columns: &'a [Column],
    /// The strip: a set of one.
    pub(crate) strip: Strips,
}

/// The data blocks that are lost, and the parity that a lost block is recovered by.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    /// What they count with in Q.
    x: Option<(u16, Element)>,
    y: Option<(u16, Element)>,
    /// Whether P is there.
    p: bool,
}

impl Recipe<'_> {
    /// What is to be made; nothing of that is needed for the rest.
    pub(crate) fn targets(&self) -> [Option<Target>; TARGETS] {
        let (p, q) = (self.roles.p(), self.roles.q());
        let p = Some(p).filter(|member| self.is(*member, |c| c.rebuild));
        let q = q.filter(|member| self.is(*member, |c| c.rebuild));
        let together = |p: Option<u16>, q: Option<u16>| {
            let target = Target { p, q };
            [(p.or(q).is_some()).then_some(target), None]
        };
        let apart = |a: Option<u16>, b: Option<u16>, plain: bool| {
            let of = |member: u16| Target {
                p: plain.then_some(member),
                q: (!plain).then_some(member),
            };
            [a.map(of), b.map(of)]
        };
        match self.job {
            Job::Write(Method::Rmw) => {
                let plain = |p| Target {
                    p: Some(p),
                    q: None,
                };
                let [_, q] = apart(None, q, false);
                [p.map(plain), q]
            }
            Job::Write(Method::Rcw) | Job::Parity => together(p, q),
            Job::Recover => {
                let loss = self.loss();
                match (loss.x, loss.y) {
                    (None, _) => together(p, q),
                    (Some((x, _)), None) => {
                        let [x, _] = apart(Some(x), None, loss.p);
                        let [_, other] = apart(None, p.or(q), false);
                        [x, other]
                    }
                    (Some((x, _)), Some((y, _))) => apart(Some(x), Some(y), false),
                }
            }
            Job::Write(Method::NoParity) | Job::Deliver | Job::Check | Job::Locate => [None; 2],
        }
    }

    /// Calls `f` with all that a target is made of.
    pub(crate) fn each_term(&self, target: Target, mut f: impl FnMut(Term)) {
        match self.job {
            Job::Write(Method::Rmw) => self.change(target, f),
            Job::Recover if self.loss().x.is_some() => self.recover(target, f),
            _ => {
                for member in self.data() {
                    f(Term {
                        member,
                        // What is copied in by a write; before that lost blocks may have to be recovered.
                        new: matches!(self.job, Job::Write(_)) && self.is(member, |c| c.dirty),
                        factor: self.factor(member),
                    });
                }
            }
        }
    }

    /// Parity changes by the difference of old and new data.
    fn change(&self, target: Target, mut f: impl FnMut(Term)) {
        let Some(parity) = target.p.or(target.q) else {
            return;
        };
        f(Term {
            member: parity,
            new: false,
            factor: Element::ONE,
        });
        for member in self.data().filter(|m| self.is(*m, |c| c.dirty)) {
            for new in [false, true] {
                let factor = self.factor(member);
                f(Term {
                    member,
                    new,
                    factor,
                });
            }
        }
    }

    /// A lost block is made of the others, by the equations for P and Q.
    fn recover(&self, target: Target, mut f: impl FnMut(Term)) {
        let loss = self.loss();
        let Some((x, gx)) = loss.x else {
            return;
        };
        let Some(made) = target.p.or(target.q) else {
            return;
        };
        // What P, Q and the data block of this coefficient count with in it.
        let none = Element(0);
        let of_x = gx.inverse().unwrap_or(none);
        let (p, q, data): (Element, Element, [Element; 2]) = match loss.y {
            // Two are lost: gy (P + its data) + (Q + its data) is (gx + gy) times x, and the other way round.
            Some((y, gy)) => {
                let other = if made == y { gx } else { gy };
                let both = gx.add(gy).inverse().unwrap_or(none);
                (other.mul(both), both, [other.mul(both), both])
            }
            // P and the other data; for Q that times gx, and the other data in their own right.
            None if made == x && loss.p => (Element::ONE, none, [Element::ONE, none]),
            None if self.roles.q() == Some(made) => (gx, none, [gx, Element::ONE]),
            // Q and the other data, through gx; for P these in their own right too.
            None if made == x => (none, of_x, [none, of_x]),
            None => (none, of_x, [Element::ONE, of_x]),
        };
        let parities = [(Some(self.roles.p()), p), (self.roles.q(), q)];
        for (member, factor) in parities {
            if let Some(member) = member.filter(|_| factor != none) {
                f(Term {
                    member,
                    new: false,
                    factor,
                });
            }
        }
        let lost = |member: u16| member == x || loss.y.is_some_and(|(y, _)| y == member);
        for member in self.data().filter(|member| !lost(*member)) {
            let factor = data[0].add(data[1].mul(self.factor(member)));
            if factor != none {
                f(Term {
                    member,
                    new: false,
                    factor,
                });
            }
        }
    }

    /// Which parity is in memory, for a check.
    pub(crate) fn compared(&self) -> Target {
        let has = |member: &u16| self.is(*member, |c| c.uptodate);
        Target {
            p: Some(self.roles.p()).filter(has),
            q: self.roles.q().filter(has),
        }
    }

    /// The data members.
    fn data(&self) -> impl Iterator<Item = u16> + '_ {
        let members = (0..).zip(self.columns).map(|(member, _)| member);
        members.filter(|member| !self.roles.is_parity(*member))
    }

    /// What a data block counts with in Q.
    fn factor(&self, member: u16) -> Element {
        let exponent = self.roles.q().and_then(|_| self.roles.exponent(member));
        exponent.map_or(Element::ONE, Element::power)
    }

    fn is(&self, member: u16, says: impl Fn(&Column) -> Strips) -> bool {
        let column = self.columns.get(usize::from(member));
        column.is_some_and(|column| says(column).meets(self.strip))
    }

    fn loss(&self) -> Loss {
        let mut lost = self.data().filter(|member| self.is(*member, |c| c.rebuild));
        let mut next = || lost.next().map(|member| (member, self.factor(member)));
        Loss {
            x: next(),
            y: next(),
            p: self.is(self.roles.p(), |c| c.uptodate),
        }
    }
}
