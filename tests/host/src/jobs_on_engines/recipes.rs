// SPDX-License-Identifier: GPL-2.0

//! What blocks are made of on DMA engines: every sum that a recipe names, worked out, against parity as it is defined.

use crate::offload::recipe::{Recipe, Target, Term};
use crate::parity::gf::Element;
use crate::raid::column::Column;
use crate::raid::job::{Job, Method};
use crate::raid::roles::{Roles, Slots};
use crate::raid::strips::Strips;

pub(super) const STRIP: Strips = Strips::one(3);

/// One byte of each block of a strip.
#[derive(Clone, Debug)]
pub(super) struct Strip {
    pub(super) roles: Roles,
    pub(super) bytes: Vec<Element>,
}

/// Numbers that look random and are the same in each run.
pub(super) fn noise(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    *state >> 33
}

impl Strip {
    pub(super) fn random(roles: Roles, seed: &mut u64) -> Self {
        let bytes = (0..roles.members()).map(|_| Element(noise(seed) as u8));
        let mut strip = Self {
            roles,
            bytes: bytes.collect(),
        };
        strip.make_parity();
        strip
    }

    pub(super) fn make_parity(&mut self) {
        let data = (0..self.roles.members()).filter(|member| !self.roles.is_parity(*member));
        let (mut p, mut q) = (Element(0), Element(0));
        for member in data {
            let byte = self.bytes[usize::from(member)];
            p = p.add(byte);
            if let Some(exponent) = self.roles.exponent(member) {
                q = q.add((0..exponent).fold(byte, |sum, _| sum.mul(Element(2))));
            }
        }
        self.bytes[usize::from(self.roles.p())] = p;
        if let Some(member) = self.roles.q() {
            self.bytes[usize::from(member)] = q;
        }
    }

    /// What an engine makes of a target: P and Q of it.
    fn made(&self, new: &Self, recipe: &Recipe<'_>, target: Target) -> (Element, Element) {
        let (mut p, mut q) = (Element(0), Element(0));
        recipe.each_term(
            target,
            |Term {
                 member,
                 new: is_new,
                 factor,
             }| {
                let column = &recipe.columns[usize::from(member)];
                let known = is_new || column.uptodate.meets(STRIP);
                assert!(
                    known,
                    "{:?} uses the block of member {member}, which is not in memory",
                    recipe.job
                );
                let from = if is_new { new } else { self };
                let byte = from.bytes[usize::from(member)];
                p = p.add(byte);
                q = q.add(byte.mul(factor));
            },
        );
        (p, q)
    }

    /// Expects that a job makes the blocks marked in the columns as they are in `new`, and no others.
    fn expect(&self, new: &Self, job: Job, columns: &[Column]) {
        let recipe = Recipe {
            job,
            roles: self.roles,
            columns,
            strip: STRIP,
        };
        let marked = |member: &u16| columns[usize::from(*member)].rebuild.meets(STRIP);
        let mut left: Vec<u16> = (0..self.roles.members()).filter(marked).collect();
        for target in recipe.targets().into_iter().flatten() {
            let (p, q) = self.made(new, &recipe, target);
            for (member, byte) in [(target.p, p), (target.q, q)] {
                let Some(member) = member else { continue };
                let expected = new.bytes[usize::from(member)];
                assert_eq!(
                    byte, expected,
                    "{job:?}: block of member {member}, {:?}, {columns:?}",
                    self.roles
                );
                left.retain(|other| *other != member);
            }
        }
        assert_eq!(
            left,
            [] as [u16; 0],
            "{job:?}: blocks that nothing makes, {:?}",
            self.roles
        );
    }
}

/// Some strips of all kinds.
pub(super) fn strips() -> Vec<Strip> {
    let mut seed = 4711;
    let mut all = Vec::new();
    for members in [3, 4, 5, 6, 9, 17, 255] {
        for p in [0, 1, members / 2, members - 1] {
            all.push(Roles::new(members, p, None, Slots::AfterQ));
            if members < 4 {
                continue;
            }
            for slots in [Slots::AfterQ, Slots::EveryMember] {
                for q in [(p + 1) % members, (p + members - 1) % members] {
                    all.push(Roles::new(members, p, Some(q), slots));
                }
            }
        }
    }
    all.into_iter()
        .map(|roles| Strip::random(roles, &mut seed))
        .collect()
}

/// A block that is in memory, and perhaps is to be overwritten.
fn column(dirty: bool) -> Column {
    let mut column = Column::default();
    column.uptodate = STRIP;
    if dirty {
        column.dirty = STRIP;
    }
    column
}

pub(super) fn parities(roles: Roles) -> Vec<u16> {
    Some(roles.p()).into_iter().chain(roles.q()).collect()
}

#[test]
fn writes_make_the_parity_of_what_is_written() {
    let mut seed = 815;
    for old in strips() {
        for turn in 0..8 {
            let mut new = old.clone();
            let mut columns = vec![Column::default(); old.bytes.len()];
            for (member, column) in columns.iter_mut().enumerate() {
                column.uptodate = STRIP;
                if old.roles.is_data(member) && noise(&mut seed) % 2 == 0 {
                    column.dirty = STRIP;
                    new.bytes[member] = Element(noise(&mut seed) as u8);
                }
            }
            new.make_parity();
            for (number, parity) in (0..).zip(parities(old.roles)) {
                if turn & (1 << number) != 0 {
                    columns[usize::from(parity)].rebuild = STRIP;
                }
            }
            old.expect(&new, Job::Write(Method::Rmw), &columns);
            for column in &mut columns {
                // What is overwritten need not be there, nor parity.
                column.uptodate -= column.dirty | column.rebuild;
            }
            old.expect(&new, Job::Write(Method::Rcw), &columns);
        }
    }
}

#[test]
fn lost_blocks_are_what_they_were() {
    for strip in strips() {
        let members = strip.roles.members();
        let few: Vec<u16> = (0..members)
            .filter(|m| members < 20 || m % 23 == 0 || strip.roles.is_parity(*m))
            .collect();
        let parity = parities(strip.roles);
        for &x in &few {
            for &y in &few {
                if x != y && parity.len() < 2 {
                    continue;
                }
                // What is written at the same time is not copied in yet.
                let mut columns = vec![column(true); strip.bytes.len()];
                for lost in [x, y] {
                    let column = &mut columns[usize::from(lost)];
                    (column.uptodate, column.rebuild) = (Strips::NONE, STRIP);
                }
                strip.expect(&strip, Job::Recover, &columns);
                // The other one of the two is lost for good, or was not read.
                if x != y && (!parity.contains(&x) && parity.contains(&y)) {
                    columns[usize::from(y)].rebuild = Strips::NONE;
                    strip.expect(&strip, Job::Recover, &columns);
                }
            }
        }
    }
}

#[test]
fn repair_makes_the_parity_that_is_wrong_of_data_alone() {
    for strip in strips() {
        for wrong in parities(strip.roles) {
            let mut columns = vec![column(false); strip.bytes.len()];
            for parity in parities(strip.roles) {
                columns[usize::from(parity)].uptodate = Strips::NONE;
            }
            columns[usize::from(wrong)].rebuild = STRIP;
            strip.expect(&strip, Job::Parity, &columns);
        }
    }
}
