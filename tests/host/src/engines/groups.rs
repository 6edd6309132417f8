// SPDX-License-Identifier: GPL-2.0

//! What engines do with one group of inputs.

use super::{assert_same, bytes, engines, from_bytes, model, Noise};
use crate::parity::gf::Element;
use crate::parity::scalar::Scalar;
use crate::parity::{
    Engine, Group, Input, Line, Parity, Source, Start, Sums, Wrong, BLOCK_LINES, GROUP, LINE_BYTES,
};
use core::ops::Range;

/// Lines that are tried: 512 bytes and less, whole and odd blocks, up to 64 KiB, of which a group is given a block at a time.
const LENGTHS: [usize; 19] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 31, 63, 64, 65, 128, 200, 1024,
];

/// Lines before and behind what an engine is given, that must stay as they are.
const MARGIN: usize = 4;

/// What an input is, and what it is made of.
#[derive(Clone)]
enum Slot {
    Zero,
    Block(Vec<Line>),
    /// The bytes, that many bytes behind a boundary of alignment, and what is in the block before.
    Copy(Vec<u8>, usize, Vec<Line>),
}

impl Slot {
    /// Zeros, a block, or, if there are to be `copies`, in half of the cases something to be copied.
    fn random(noise: &mut Noise, lines: usize, copies: bool) -> Self {
        match noise.below(if copies { 8 } else { 4 }) {
            0 => Self::Zero,
            1..=3 => Self::Block(noise.lines(lines)),
            _ => {
                let shift = [0, 0, 64, 8, 4, 1, 63, 100][noise.below(8)];
                let bytes = noise.bytes(shift + lines * LINE_BYTES);
                Self::Copy(bytes, shift, noise.lines(lines + 2 * MARGIN))
            }
        }
    }

    fn input(&mut self, lines: Range<usize>) -> Input<'_> {
        match self {
            Self::Zero => Input::Zero,
            Self::Block(block) => Input::Block(&block[lines]),
            Self::Copy(bytes, shift, to) => Input::Copy {
                from: Source::new(
                    &bytes[*shift + lines.start * LINE_BYTES..*shift + lines.end * LINE_BYTES],
                ),
                to: &mut to[MARGIN + lines.start..MARGIN + lines.end],
            },
        }
    }

    /// The bytes that count.
    fn content(&self) -> Option<Vec<u8>> {
        match self {
            Self::Zero => None,
            Self::Block(lines) => Some(bytes(lines)),
            Self::Copy(bytes, shift, _) => Some(bytes[*shift..].to_vec()),
        }
    }

    /// What the block has to be afterwards, with its margins.
    fn copied(&self) -> Option<Vec<Line>> {
        let Self::Copy(bytes, shift, before) = self else {
            return None;
        };
        let mut after = before.clone();
        let end = after.len() - MARGIN;
        after[MARGIN..end].copy_from_slice(&from_bytes(&bytes[*shift..]));
        Some(after)
    }
}

/// Some lines of the slots as a group.
fn group(slots: &mut [Slot], lines: Range<usize>) -> Group<'_> {
    let mut group = Group::new();
    group.extend(slots.iter_mut().map(|slot| slot.input(lines.clone())));
    group
}

/// Blocks of runs of lines, of which a group has one at most: the last one may be shorter. One of nothing where there is
/// nothing.
fn blocks(lines: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..lines.max(1)).step_by(BLOCK_LINES);
    starts.map(move |start| start..(start + BLOCK_LINES).min(lines))
}

fn part<'a>(parity: &'a mut Parity<'_>, lines: &Range<usize>) -> Parity<'a> {
    Parity {
        p: parity.p.as_deref_mut().map(|p| &mut p[lines.clone()]),
        q: parity.q.as_deref_mut().map(|q| &mut q[lines.clone()]),
    }
}

/// P and Q with margins.
#[derive(Clone, PartialEq)]
struct Framed(Vec<Line>);

impl Framed {
    fn new(noise: &mut Noise, lines: usize) -> Self {
        Self(noise.lines(lines + 2 * MARGIN))
    }
    fn inner(&self) -> &[Line] {
        &self.0[MARGIN..self.0.len() - MARGIN]
    }
    fn inner_mut(&mut self) -> &mut [Line] {
        let end = self.0.len() - MARGIN;
        &mut self.0[MARGIN..end]
    }
    fn with(&self, content: &[Line]) -> Vec<Line> {
        let mut framed = self.clone();
        framed.inner_mut().copy_from_slice(content);
        framed.0
    }
}

/// Which of P and Q there are.
const PARITIES: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

fn parity<'a>(p: &'a mut Framed, q: &'a mut Framed, which: (bool, bool)) -> Parity<'a> {
    Parity {
        p: which.0.then(|| p.inner_mut()),
        q: which.1.then(|| q.inner_mut()),
    }
}

/// What generating has to make, by the model: the slots come from the highest down.
fn expected(slots: &[Slot], before: Option<(&[Line], &[Line])>, lines: usize) -> [Vec<Line>; 2] {
    let up: Vec<_> = slots.iter().rev().map(Slot::content).collect();
    let len = lines * LINE_BYTES;
    let (mut p, mut q) = (model::p(len, &up), model::q(len, &up));
    if let Some((p_before, q_before)) = before {
        p = model::add(&p, &bytes(p_before));
        let factor = model::power(slots.len());
        q = model::add(&q, &model::scale(factor, &bytes(q_before)));
    }
    [from_bytes(&p), from_bytes(&q)]
}

#[test]
fn any_group_of_any_length_is_generated() {
    let mut noise = Noise(1);
    for lines in LENGTHS {
        for count in 0..=GROUP {
            // The model takes its time: not every count with the longest ones.
            if lines > 128 && count % 5 != 1 {
                continue;
            }
            let slots: Vec<_> = (0..count)
                .map(|_| Slot::random(&mut noise, lines, true))
                .collect();
            generate(&mut noise, &slots, lines);
        }
    }
}

/// Of many inputs there are always some to be copied above; engines have other code for those of which there are none.
#[test]
fn any_group_of_which_nothing_is_copied_is_generated() {
    let mut noise = Noise(6);
    for lines in [1, 2, 3, 5, 9, 63, 64, 65] {
        for count in [1, 2, 7, 8, 9, 15, GROUP] {
            let slots: Vec<_> = (0..count)
                .map(|_| Slot::random(&mut noise, lines, false))
                .collect();
            generate(&mut noise, &slots, lines);
        }
    }
}

/// Every engine generates what is wanted of the slots, past the caches and not.
fn generate(noise: &mut Noise, slots: &[Slot], lines: usize) {
    let count = slots.len();
    let (p, q) = (Framed::new(noise, lines), Framed::new(noise, lines));
    for start in [Start::Zero, Start::Begun] {
        let begun = (start == Start::Begun).then_some((p.inner(), q.inner()));
        let [new_p, new_q] = expected(slots, begun, lines);
        for engine in engines() {
            for which in PARITIES {
                // Past the caches or not, the outcome is the same.
                for past in [None, Some(false), Some(true)] {
                    let what = || {
                        format!(
                            "{}: {count} inputs of {lines} lines, {start:?}, (P, Q) {which:?}, past the caches {past:?}",
                            engine.name()
                        )
                    };
                    let (mut p, mut q) = (p.clone(), q.clone());
                    let expected_p = if which.0 { p.with(&new_p) } else { p.0.clone() };
                    let expected_q = if which.1 { q.with(&new_q) } else { q.0.clone() };
                    let mut done = slots.to_vec();
                    let mut parity = parity(&mut p, &mut q, which);
                    for block in blocks(lines) {
                        let parity = part(&mut parity, &block);
                        let mut group = group(&mut done, block);
                        match past {
                            None => engine.generate(&mut group, parity, start),
                            Some(last) => engine.generate_past(&mut group, parity, start, last),
                        }
                    }
                    assert_same(&p.0, &expected_p, || format!("{}: P", what()));
                    assert_same(&q.0, &expected_q, || format!("{}: Q", what()));
                    for (index, (done, slot)) in done.iter().zip(slots).enumerate() {
                        if let (Slot::Copy(_, _, to), Some(copied)) = (done, slot.copied()) {
                            assert_same(to, &copied, || format!("{}: copy {index}", what()));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn engines_see_each_wrong_bit_and_no_other() {
    let mut noise = Noise(2);
    for lines in LENGTHS {
        for count in [0, 1, 2, 3, 5, 8, 15, GROUP] {
            let mut slots: Vec<_> = (0..count)
                .map(|index| match index {
                    2 => Slot::Zero,
                    _ => Slot::Block(noise.lines(lines)),
                })
                .collect();
            let begun_p = noise.lines(lines);
            let begun_q = noise.lines(lines);
            for start in [Start::Zero, Start::Begun] {
                let (mut p, mut q) = (begun_p.clone(), begun_q.clone());
                let mut parity = Parity {
                    p: Some(&mut p),
                    q: Some(&mut q),
                };
                for block in blocks(lines) {
                    let parity = part(&mut parity, &block);
                    Scalar.generate(&mut group(&mut slots, block), parity, start);
                }
                for engine in engines() {
                    for which in PARITIES {
                        let mut check = |p: &[Line], q: &[Line]| {
                            let mut wrong = Wrong::default();
                            for block in blocks(lines) {
                                let begun = match start {
                                    Start::Zero => Sums::default(),
                                    Start::Begun => Sums {
                                        p: Some(&begun_p[block.clone()]),
                                        q: Some(&begun_q[block.clone()]),
                                    },
                                };
                                let stored = Sums {
                                    p: which.0.then_some(&p[block.clone()]),
                                    q: which.1.then_some(&q[block.clone()]),
                                };
                                let found =
                                    engine.check(&mut group(&mut slots, block), begun, stored);
                                wrong.p |= found.p;
                                wrong.q |= found.q;
                            }
                            wrong
                        };
                        let what = format!(
                            "{}: {count} inputs of {lines} lines, {start:?}, (P, Q) {which:?}",
                            engine.name()
                        );
                        assert_eq!(check(&p, &q), Wrong::default(), "{what}: all is right");
                        for _ in 0..if lines == 0 { 0 } else { 6 } {
                            let (line, word) = (noise.below(lines), noise.below(8));
                            let bit = 1 << noise.below(64);
                            let what = format!("{what}: word {word} of line {line} is wrong");
                            p[line].0[word] ^= bit;
                            let wrong = Wrong {
                                p: which.0,
                                q: false,
                            };
                            assert_eq!(check(&p, &q), wrong, "{what} in P");
                            p[line].0[word] ^= bit;
                            q[line].0[word] ^= bit;
                            let wrong = Wrong {
                                p: false,
                                q: which.1,
                            };
                            assert_eq!(check(&p, &q), wrong, "{what} in Q");
                            q[line].0[word] ^= bit;
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn parity_follows_a_change() {
    let mut noise = Noise(3);
    for lines in LENGTHS {
        // Every factor once for a short run.
        let factors: Vec<u8> = match lines {
            3 | 8 => (0..=255).collect(),
            _ => vec![0, 1, 2, 0x1d, 0x8e, 0xff],
        };
        for factor in factors {
            let old = Framed::new(&mut noise, lines);
            let shift = [0, 0, 64, 8, 1, 63][noise.below(6)];
            let new = noise.bytes(shift + lines * LINE_BYTES);
            let new = &new[shift..];
            let (p, q) = (
                Framed::new(&mut noise, lines),
                Framed::new(&mut noise, lines),
            );
            let delta = model::add(&bytes(old.inner()), new);
            let new_p = from_bytes(&model::add(&bytes(p.inner()), &delta));
            let delta = model::scale(factor, &delta);
            let new_q = from_bytes(&model::add(&bytes(q.inner()), &delta));
            let new_lines = from_bytes(new);
            for engine in engines() {
                for which in PARITIES {
                    let expected_p = if which.0 { p.with(&new_p) } else { p.0.clone() };
                    let expected_q = if which.1 { q.with(&new_q) } else { q.0.clone() };
                    let what = format!(
                        "{}: {lines} lines times {factor:#04x}, (P, Q) {which:?}",
                        engine.name()
                    );

                    let (mut data, mut p_done, mut q_done) = (old.clone(), p.clone(), q.clone());
                    engine.change(
                        data.inner_mut(),
                        Source::new(new),
                        parity(&mut p_done, &mut q_done, which),
                        Element(factor),
                    );
                    assert_same(&data.0, &old.with(&new_lines), || format!("{what}: data"));
                    assert_same(&p_done.0, &expected_p, || format!("{what}: change P"));
                    assert_same(&q_done.0, &expected_q, || format!("{what}: change Q"));

                    let (mut p_done, mut q_done) = (p.clone(), q.clone());
                    engine.delta(
                        old.inner(),
                        &new_lines,
                        parity(&mut p_done, &mut q_done, which),
                        Element(factor),
                    );
                    assert_same(&p_done.0, &expected_p, || format!("{what}: delta P"));
                    assert_same(&q_done.0, &expected_q, || format!("{what}: delta Q"));
                }
            }
        }
    }
}

#[test]
fn what_is_left_of_recovering_is_computed() {
    let mut noise = Noise(4);
    for lines in LENGTHS {
        let factors: Vec<u8> = match lines {
            3 | 8 => (0..=255).collect(),
            _ => vec![0, 1, 2, 0x1d, 0x8e, 0xff],
        };
        for factor in factors {
            let other = noise.word() as u8;
            let (x, y) = (
                Framed::new(&mut noise, lines),
                Framed::new(&mut noise, lines),
            );
            let (p, q) = (
                Framed::new(&mut noise, lines),
                Framed::new(&mut noise, lines),
            );
            let [a, b, c, d] = [&x, &y, &p, &q].map(|framed| bytes(framed.inner()));

            // x by q, and p.
            let one = model::scale(factor, &model::add(&a, &d));
            let one_p = from_bytes(&model::add(&c, &one));
            let one = from_bytes(&one);
            // x and y by p and q.
            let (sum, weighted) = (model::add(&a, &c), model::add(&b, &d));
            let two_x = model::add(&model::scale(factor, &sum), &model::scale(other, &weighted));
            let two_y = from_bytes(&model::add(&sum, &two_x));
            let two_x = from_bytes(&two_x);

            for engine in engines() {
                let what = format!(
                    "{}: {lines} lines times {factor:#04x} and {other:#04x}",
                    engine.name()
                );
                let by = Element(factor);
                let (mut lost, mut p_done) = (x.clone(), p.clone());
                engine.recover_one(lost.inner_mut(), q.inner(), by, None);
                assert_same(&lost.0, &x.with(&one), || format!("{what}: one"));
                let mut lost = x.clone();
                engine.recover_one(lost.inner_mut(), q.inner(), by, Some(p_done.inner_mut()));
                assert_same(&lost.0, &x.with(&one), || format!("{what}: one with P"));
                assert_same(&p_done.0, &p.with(&one_p), || format!("{what}: P of one"));

                let (mut x_done, mut y_done) = (x.clone(), y.clone());
                let stored = (p.inner(), q.inner());
                engine.recover_two(
                    x_done.inner_mut(),
                    y_done.inner_mut(),
                    stored,
                    (by, Element(other)),
                );
                assert_same(&x_done.0, &x.with(&two_x), || {
                    format!("{what}: first of two")
                });
                assert_same(&y_done.0, &y.with(&two_y), || {
                    format!("{what}: second of two")
                });
            }
        }
    }
}

/// Two lost blocks from a group in one go, which some engines do without putting sums into them first.
#[test]
fn two_blocks_are_recovered_from_any_group_of_any_length() {
    let mut noise = Noise(6);
    for lines in LENGTHS {
        for count in [0, 1, 2, 3, 5, 8, 15, GROUP] {
            // The model takes its time: not every count with the longest ones.
            if lines > 128 && count % 5 != 1 {
                continue;
            }
            let mut slots: Vec<_> = (0..count)
                .map(|_| match noise.below(4) {
                    0 => Slot::Zero,
                    _ => Slot::Block(noise.lines(lines)),
                })
                .collect();
            let [x, y, p, q] = core::array::from_fn(|_| Framed::new(&mut noise, lines));
            let by = [(); 2].map(|()| noise.word() as u8);
            let [sum, weighted] = expected(&slots, None, lines);
            let a = model::add(&bytes(&sum), &bytes(p.inner()));
            let b = model::add(&bytes(&weighted), &bytes(q.inner()));
            let first = model::add(&model::scale(by[0], &a), &model::scale(by[1], &b));
            let second = from_bytes(&model::add(&a, &first));
            let first = from_bytes(&first);
            for engine in engines() {
                for past in [false, true] {
                    let what = format!(
                        "{}: {count} inputs of {lines} lines, times {by:?}, past the caches {past}",
                        engine.name()
                    );
                    let (mut x_done, mut y_done) = (x.clone(), y.clone());
                    for block in blocks(lines) {
                        engine.recover_group(
                            &mut group(&mut slots, block.clone()),
                            (
                                &mut x_done.inner_mut()[block.clone()],
                                &mut y_done.inner_mut()[block.clone()],
                            ),
                            (&p.inner()[block.clone()], &q.inner()[block]),
                            (Element(by[0]), Element(by[1])),
                            past,
                        );
                    }
                    assert_same(&x_done.0, &x.with(&first), || format!("{what}: first"));
                    assert_same(&y_done.0, &y.with(&second), || format!("{what}: second"));
                }
            }
        }
    }
}

#[test]
fn runs_of_other_lengths_do_no_harm() {
    let mut noise = Noise(5);
    for round in 0..200 {
        let lines: [usize; 6] = core::array::from_fn(|_| noise.below(12));
        let mut runs = lines.map(|lines| Framed::new(&mut noise, lines));
        let margins = |runs: &[Framed; 6]| {
            runs.clone().map(|run| {
                let (first, last) = (
                    run.0[..MARGIN].to_vec(),
                    run.0[run.0.len() - MARGIN..].to_vec(),
                );
                (first, last)
            })
        };
        let before = margins(&runs);
        for engine in engines() {
            let [a, b, c, d, e, f] = &mut runs;
            let source = bytes(e.inner());
            let mut group = Group::new();
            group.push(Input::Block(a.inner()));
            group.push(Input::Copy {
                from: Source::new(&source),
                to: b.inner_mut(),
            });
            let parity = Parity {
                p: Some(c.inner_mut()),
                q: Some(d.inner_mut()),
            };
            engine.generate(&mut group, parity, Start::Begun);
            let sums = Sums {
                p: Some(c.inner()),
                q: Some(d.inner()),
            };
            let mut group = Group::new();
            group.push(Input::Block(a.inner()));
            engine.check(&mut group, sums, sums);
            let parity = Parity {
                p: Some(c.inner_mut()),
                q: Some(d.inner_mut()),
            };
            engine.change(f.inner_mut(), Source::new(&source), parity, Element(3));
            let parity = Parity {
                p: Some(c.inner_mut()),
                q: Some(d.inner_mut()),
            };
            engine.delta(a.inner(), b.inner(), parity, Element(7));
            engine.recover_one(c.inner_mut(), d.inner(), Element(9), Some(e.inner_mut()));
            engine.recover_two(
                c.inner_mut(),
                d.inner_mut(),
                (a.inner(), b.inner()),
                (Element(5), Element(6)),
            );
            let unharmed = margins(&runs) == before;
            assert!(
                unharmed,
                "{}: round {round}, {lines:?} lines",
                engine.name()
            );
        }
    }
}
