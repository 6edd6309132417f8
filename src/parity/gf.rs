// SPDX-License-Identifier: GPL-2.0

//! The field of 256 elements that RAID 6 counts in: polynomial 0x11d, generator 2. Its tables are made when this is compiled.

/// What is left of x^8 modulo the polynomial.
pub(crate) const POLYNOMIAL: u8 = 0x1d;

/// Powers of the generator before they repeat.
pub(crate) const ORDER: u8 = 255;

/// An element of the field. Addition is XOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element(pub(crate) u8);

impl Element {
    /// What leaves others as they are.
    pub(crate) const ONE: Self = Self(1);

    /// The generator to the power of `exponent`.
    pub(crate) const fn power(exponent: u8) -> Self {
        Self(POWERS[exponent as usize])
    }

    /// The exponent of the generator's power that this is; `None` for zero, which is none.
    pub(crate) const fn log(self) -> Option<u8> {
        if self.0 == 0 {
            return None;
        }
        Some(LOGS[self.0 as usize])
    }

    /// The sum of two elements, which is their difference too.
    pub(crate) const fn add(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// The product of two elements.
    pub(crate) const fn mul(self, other: Self) -> Self {
        match (self.log(), other.log()) {
            (Some(a), Some(b)) => {
                // Exponents count modulo 255; the sum of two fits easily.
                let sum = a as u16 + b as u16;
                Self(POWERS[(sum % ORDER as u16) as usize])
            }
            _ => Self(0),
        }
    }

    /// What gives one when multiplied with this; `None` for zero.
    pub(crate) const fn inverse(self) -> Option<Self> {
        match self.log() {
            Some(log) => Some(Self(POWERS[(ORDER - log) as usize])),
            None => None,
        }
    }

    /// The products of this and each possible half of a byte: sixteen for the lower half, and sixteen for the upper.
    pub(crate) const fn nibbles(self) -> &'static Nibbles {
        &NIBBLES[self.0 as usize]
    }

    /// Multiplication by this as a matrix of bits, as `vgf2p8affineqb` takes it.
    #[cfg(any(target_arch = "x86_64", not(MODULE)))]
    pub(crate) const fn matrix(self) -> &'static u64 {
        &MATRICES[self.0 as usize]
    }
}

/// Products with half bytes: see [`Element::nibbles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(32))]
pub(crate) struct Nibbles {
    pub(crate) low: [u8; 16],
    pub(crate) high: [u8; 16],
}

/// Twice an element, by the definition of the field.
const fn double(a: u8) -> u8 {
    (a << 1) ^ if a & 0x80 == 0 { 0 } else { POLYNOMIAL }
}

/// The generator's powers; that to 255 is that to 0 again.
static POWERS: [u8; 256] = {
    let mut powers = [1; 256];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = double(powers[exponent - 1]);
        exponent += 1;
    }
    powers
};

/// The exponents of elements other than zero.
static LOGS: [u8; 256] = {
    let mut logs = [0; 256];
    let mut exponent = 0;
    while exponent < ORDER {
        logs[POWERS[exponent as usize] as usize] = exponent;
        exponent += 1;
    }
    logs
};

static NIBBLES: [Nibbles; 256] = {
    let none = Nibbles {
        low: [0; 16],
        high: [0; 16],
    };
    let mut all = [none; 256];
    let mut a = 0;
    while a < all.len() {
        let mut half = 0;
        while half < 16 {
            let element = Element(a as u8);
            all[a].low[half] = element.mul(Element(half as u8)).0;
            all[a].high[half] = element.mul(Element((half as u8) << 4)).0;
            half += 1;
        }
        a += 1;
    }
    all
};

/// Byte 7 - i of a matrix says which bits of the input make bit i of the product.
#[cfg(any(target_arch = "x86_64", not(MODULE)))]
static MATRICES: [u64; 256] = {
    let mut matrices = [0; 256];
    let mut a = 0;
    while a < matrices.len() {
        let mut column = 0;
        while column < 8 {
            let product = Element(a as u8).mul(Element(1 << column)).0;
            let mut row = 0;
            while row < 8 {
                if (product >> row) & 1 != 0 {
                    matrices[a] |= 1 << ((7 - row) * 8 + column);
                }
                row += 1;
            }
            column += 1;
        }
        a += 1;
    }
    matrices
};
