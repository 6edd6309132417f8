// SPDX-License-Identifier: GPL-2.0

//! The tables of the field, which are made when the code is compiled.

use super::model;
use crate::parity::gf::{Element, ORDER};

fn all() -> impl Iterator<Item = Element> + Clone {
    (0..=255).map(Element)
}

#[test]
fn products_are_those_of_polynomials() {
    for a in all() {
        for b in all() {
            assert_eq!(a.mul(b).0, model::mul(a.0, b.0), "{a:?} times {b:?}");
        }
    }
}

#[test]
fn axioms_hold() {
    let zero = Element(0);
    for a in all() {
        assert_eq!(a.add(zero), a);
        assert_eq!(a.add(a), zero, "{a:?} is its own negative");
        assert_eq!(a.mul(Element::ONE), a);
        assert_eq!(a.mul(zero), zero);
        match a.inverse() {
            Some(inverse) => assert_eq!(a.mul(inverse), Element::ONE, "inverse of {a:?}"),
            None => assert_eq!(a, zero, "only zero has no inverse"),
        }
        for b in all() {
            assert_eq!(a.add(b), b.add(a));
            assert_eq!(a.mul(b), b.mul(a));
            // Enough of the third to tell: the rest follows from the first test.
            for c in [1, 2, 0x1d, 0x53, 0x80, 0xff].map(Element) {
                assert_eq!(a.mul(b).mul(c), a.mul(b.mul(c)), "{a:?} {b:?} {c:?}");
                assert_eq!(a.add(b).mul(c), a.mul(c).add(b.mul(c)), "{a:?} {b:?} {c:?}");
            }
        }
    }
}

#[test]
fn two_generates_every_element_but_zero() {
    let mut seen = [false; 256];
    for exponent in 0..ORDER {
        let power = Element::power(exponent);
        assert_eq!(power.0, model::power(exponent.into()), "2^{exponent}");
        assert_eq!(power.log(), Some(exponent));
        assert!(!seen[usize::from(power.0)], "2^{exponent} came before");
        seen[usize::from(power.0)] = true;
    }
    assert!(!seen[0]);
    assert_eq!(Element::power(ORDER), Element::ONE);
    assert_eq!(Element(0).log(), None);
}

#[test]
fn nibbles_and_matrices_multiply() {
    for a in all() {
        let nibbles = a.nibbles();
        let matrix = a.matrix().to_le_bytes();
        for b in all() {
            let (low, high) = (usize::from(b.0 & 15), usize::from(b.0 >> 4));
            let product = nibbles.low[low] ^ nibbles.high[high];
            assert_eq!(product, model::mul(a.0, b.0), "{a:?} times {b:?}: nibbles");
            // What the instruction is defined to do.
            let bit = |i: usize| ((matrix[7 - i] & b.0).count_ones() as u8 & 1) << i;
            let product = (0..8).map(bit).sum::<u8>();
            assert_eq!(product, model::mul(a.0, b.0), "{a:?} times {b:?}: matrix");
        }
    }
}
