// SPDX-License-Identifier: GPL-2.0

//! The engine that needs nothing: 64-bit words, in any context, on any machine.
//!
//! Up to four sources are XORed in one pass, so that `dst` is loaded and stored once for the four of them.

use super::{Engine, Sector};

/// XOR by 64-bit words. May run in any context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

impl Engine for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn set(&self, dst: &mut [Sector], sources: &[&[Sector]]) {
        let rest = match *sources {
            [a, b, ref rest @ ..] => {
                for ((dst, a), b) in dst.iter_mut().zip(a).zip(b) {
                    for ((dst, a), b) in dst.0.iter_mut().zip(&a.0).zip(&b.0) {
                        *dst = a ^ b;
                    }
                }
                rest
            }
            [a] => {
                for (dst, a) in dst.iter_mut().zip(a) {
                    *dst = *a;
                }
                return;
            }
            [] => {
                dst.fill(Sector::ZERO);
                return;
            }
        };
        self.add(dst, rest);
    }

    fn add(&self, dst: &mut [Sector], sources: &[&[Sector]]) {
        let mut rest = sources;
        loop {
            rest = match *rest {
                [a, b, c, d, ref rest @ ..] => {
                    for ((((dst, a), b), c), d) in dst.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                        add_four(dst, a, b, c, d);
                    }
                    rest
                }
                [a, b, ref rest @ ..] => {
                    for ((dst, a), b) in dst.iter_mut().zip(a).zip(b) {
                        for ((dst, a), b) in dst.0.iter_mut().zip(&a.0).zip(&b.0) {
                            *dst ^= a ^ b;
                        }
                    }
                    rest
                }
                [a] => {
                    for (dst, a) in dst.iter_mut().zip(a) {
                        for (dst, a) in dst.0.iter_mut().zip(&a.0) {
                            *dst ^= a;
                        }
                    }
                    return;
                }
                [] => return,
            };
        }
    }
}

/// Changes one sector by the XOR of four.
fn add_four(dst: &mut Sector, a: &Sector, b: &Sector, c: &Sector, d: &Sector) {
    let sources = a.0.iter().zip(&b.0).zip(&c.0).zip(&d.0);
    for (dst, (((a, b), c), d)) in dst.0.iter_mut().zip(sources) {
        *dst ^= a ^ b ^ c ^ d;
    }
}
