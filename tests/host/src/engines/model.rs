// SPDX-License-Identifier: GPL-2.0

//! Parity by its definition, byte by byte and bit by bit.

/// The product of two elements: that of two polynomials over the field of two elements, modulo x^8+x^4+x^3+x^2+1.
pub(super) fn mul(a: u8, b: u8) -> u8 {
    let mut product: u16 = 0;
    for bit in 0..8 {
        if b & (1 << bit) != 0 {
            product ^= u16::from(a) << bit;
        }
    }
    for bit in (8..16).rev() {
        if product & (1 << bit) != 0 {
            product ^= 0x11d << (bit - 8);
        }
    }
    u8::try_from(product).unwrap()
}

/// 2 to the power of `exponent`.
pub(super) fn power(exponent: usize) -> u8 {
    (0..exponent).fold(1, |power, _| mul(power, 2))
}

/// The sum of two runs of bytes.
pub(super) fn add(a: &[u8], b: &[u8]) -> Vec<u8> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// Each byte times `factor`.
pub(super) fn scale(factor: u8, bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| mul(factor, *byte)).collect()
}

/// P of the blocks: their sum.
pub(super) fn p(len: usize, slots: &[Option<Vec<u8>>]) -> Vec<u8> {
    let blocks = slots.iter().flatten();
    blocks.fold(vec![0; len], |sum, block| add(&sum, block))
}

/// Q of the blocks, from slot 0 up: the sum of each times 2 to the power of its slot.
pub(super) fn q(len: usize, slots: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut sum = vec![0; len];
    for (slot, block) in slots.iter().enumerate() {
        if let Some(block) = block {
            sum = add(&sum, &scale(power(slot), block));
        }
    }
    sum
}
