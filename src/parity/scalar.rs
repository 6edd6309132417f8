// SPDX-License-Identifier: GPL-2.0

//! The engine that needs nothing: 64-bit words, in any context, on any machine.
//!
//! It works line by line: what a line of parity is, is finished before the next one is looked at.

use super::gf::{Element, POLYNOMIAL};
use super::{Engine, Group, Input, Line, Parity, Source, Start, Sums, Wrong};
use core::ops::Range;

/// Parity by 64-bit words. May run in any context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

impl Engine for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn generate(&self, group: &mut Group<'_>, parity: Parity<'_>, start: Start) {
        let lines = group.lines_with(parity.p.as_deref(), parity.q.as_deref());
        generate_lines(group, parity, start, 0..lines);
    }

    fn check(&self, group: &mut Group<'_>, begun: Sums<'_>, stored: Sums<'_>) -> Wrong {
        let lines = group.lines_with(stored.p, stored.q);
        check_lines(group, begun, stored, 0..lines)
    }

    fn change(&self, data: &mut [Line], new: Source<'_>, parity: Parity<'_>, factor: Element) {
        let Parity { mut p, mut q } = parity;
        for (at, old) in data.iter_mut().enumerate() {
            let Some(new) = new.line(at) else {
                return;
            };
            let delta = core::mem::replace(old, new).plus(&new);
            add_delta(&mut p, &mut q, at, &delta, factor);
        }
    }

    fn delta(&self, old: &[Line], new: &[Line], parity: Parity<'_>, factor: Element) {
        let Parity { mut p, mut q } = parity;
        for (at, (old, new)) in old.iter().zip(new).enumerate() {
            add_delta(&mut p, &mut q, at, &old.plus(new), factor);
        }
    }

    fn recover_one(&self, lost: &mut [Line], q: &[Line], by: Element, mut p: Option<&mut [Line]>) {
        for (at, (lost, q)) in lost.iter_mut().zip(q).enumerate() {
            *lost = lost.plus(q).times(by);
            if let Some(p) = p.as_deref_mut().and_then(|p| p.get_mut(at)) {
                *p = p.plus(lost);
            }
        }
    }

    fn recover_two(
        &self,
        x: &mut [Line],
        y: &mut [Line],
        stored: (&[Line], &[Line]),
        by: (Element, Element),
    ) {
        let (p, q) = stored;
        for (((x, y), p), q) in x.iter_mut().zip(y).zip(p).zip(q) {
            let (sum, weighted) = (x.plus(p), y.plus(q));
            *x = sum.times(by.0).plus(&weighted.times(by.1));
            *y = sum.plus(x);
        }
    }
}

/// Generates some lines, which everything has.
#[inline(never)]
pub(super) fn generate_lines(
    group: &mut Group<'_>,
    parity: Parity<'_>,
    start: Start,
    lines: Range<usize>,
) {
    let Parity { mut p, mut q } = parity;
    for at in lines {
        let p = p.as_deref_mut().and_then(|p| p.get_mut(at));
        let q = q.as_deref_mut().and_then(|q| q.get_mut(at));
        let begun = match start {
            Start::Zero => (Line::ZERO, Line::ZERO),
            Start::Begun => (value(p.as_deref()), value(q.as_deref())),
        };
        let wanted = q.is_some();
        let (new_p, new_q) = sum(group, at, begun, wanted);
        if let Some(p) = p {
            *p = new_p;
        }
        if let Some(q) = q {
            *q = new_q;
        }
    }
}

/// Checks some lines, which everything has.
#[inline(never)]
pub(super) fn check_lines(
    group: &mut Group<'_>,
    begun: Sums<'_>,
    stored: Sums<'_>,
    lines: Range<usize>,
) -> Wrong {
    let mut wrong = Wrong::default();
    for at in lines {
        let line = |lines: Option<&[Line]>| value(lines.and_then(|lines| lines.get(at)));
        let begun = (line(begun.p), line(begun.q));
        let (p, q) = sum(group, at, begun, stored.q.is_some());
        wrong.p |= stored.p.is_some() && line(stored.p) != p;
        wrong.q |= stored.q.is_some() && line(stored.q) != q;
    }
    wrong
}

fn value(line: Option<&Line>) -> Line {
    line.copied().unwrap_or(Line::ZERO)
}

/// A line of P, and of Q if it is wanted, from those that are `begun` on.
fn sum(group: &mut Group<'_>, at: usize, begun: (Line, Line), want_q: bool) -> (Line, Line) {
    let (mut p, mut q) = begun;
    for input in group.inputs() {
        if want_q {
            q = q.doubled();
        }
        let line = match input {
            Input::Zero => continue,
            Input::Block(block) => value(block.get(at)),
            Input::Copy { from, to } => {
                let (Some(line), Some(to)) = (from.line(at), to.get_mut(at)) else {
                    continue;
                };
                *to = line;
                line
            }
        };
        p = p.plus(&line);
        if want_q {
            q = q.plus(&line);
        }
    }
    (p, q)
}

/// Adds what has changed in a block to a line of P, and times `factor` to one of Q.
fn add_delta(
    p: &mut Option<&mut [Line]>,
    q: &mut Option<&mut [Line]>,
    at: usize,
    delta: &Line,
    factor: Element,
) {
    if let Some(p) = p.as_deref_mut().and_then(|p| p.get_mut(at)) {
        *p = p.plus(delta);
    }
    if let Some(q) = q.as_deref_mut().and_then(|q| q.get_mut(at)) {
        *q = q.plus(&delta.times(factor));
    }
}

impl Source<'_> {
    /// A whole line, read once; `None` past the last.
    fn line(&self, at: usize) -> Option<Line> {
        let start = at.checked_mul(super::LINE_BYTES)?;
        let whole = self.get(start..start.checked_add(super::LINE_BYTES)?)?;
        let mut line = Line::ZERO;
        whole.copy_to(0, &mut line, 0);
        Some(line)
    }
}

impl Line {
    /// The sum of two lines.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        for (a, b) in sum.0.iter_mut().zip(&other.0) {
            *a ^= b;
        }
        sum
    }

    /// Each byte times two.
    fn doubled(&self) -> Self {
        const LOW: u64 = 0x0101_0101_0101_0101;
        let mut line = *self;
        for word in &mut line.0 {
            let carries = (*word >> 7) & LOW;
            *word = ((*word << 1) & !LOW) ^ carries.wrapping_mul(u64::from(POLYNOMIAL));
        }
        line
    }

    /// Each byte times `factor`.
    fn times(&self, factor: Element) -> Self {
        let table = factor.nibbles();
        let mut line = *self;
        for word in &mut line.0 {
            *word = u64::from_ne_bytes(word.to_ne_bytes().map(|byte| {
                let low = table.low.get(usize::from(byte & 15)).unwrap_or(&0);
                let high = table.high.get(usize::from(byte >> 4)).unwrap_or(&0);
                low ^ high
            }));
        }
        line
    }
}
