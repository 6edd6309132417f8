// SPDX-License-Identifier: GPL-2.0

//! The field that Q is made in: 256 elements, polynomial 0x11d, in which 2 generates all but 0.
//!
//! A sector's number stands for eight bytes, each an element. All is done bit by bit, with nothing of `src/parity`: no
//! tables, and multiplication by doubling and adding.

/// Each byte of `word` times 2.
pub(crate) fn double(word: u64) -> u64 {
    let carries = (word >> 7) & 0x0101_0101_0101_0101;
    ((word & 0x7f7f_7f7f_7f7f_7f7f) << 1) ^ (carries * 0x1d)
}

/// Each byte of `word` times `factor`.
pub(crate) fn times(word: u64, factor: u8) -> u64 {
    let (mut sum, mut power) = (0, word);
    for bit in 0..8 {
        if factor & (1 << bit) != 0 {
            sum ^= power;
        }
        power = double(power);
    }
    sum
}

/// 2 to the power of `exponent`.
pub(crate) fn power_of_two(exponent: u8) -> u8 {
    // CAST: the other bytes are zero and stay so.
    (0..exponent).fold(1, |power, _| double(power)) as u8
}

/// What `factor`, which is not 0, has to be multiplied by to give 1: its power of 254.
pub(crate) fn inverse(factor: u8) -> u8 {
    let (mut product, mut square) = (1, factor);
    for _ in 1..8 {
        // CAST: as above.
        square = times(square.into(), square) as u8;
        product = times(product, square);
    }
    product as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polynomials multiplied as on paper, then divided by 0x11d.
    fn on_paper(a: u8, b: u8) -> u8 {
        let mut product = 0u32;
        for bit in 0..8 {
            if b & (1 << bit) != 0 {
                product ^= u32::from(a) << bit;
            }
        }
        for bit in (8..16).rev() {
            if product & (1 << bit) != 0 {
                product ^= 0x11d << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    }

    #[test]
    fn products_are_those_done_on_paper() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let word = u64::from_le_bytes([a, 0, a, 255, 1, a, 128, a]);
                let product = times(word, b).to_le_bytes();
                let expected = word.to_le_bytes().map(|byte| on_paper(byte, b));
                assert_eq!(product, expected, "{word:016x} times {b:02x}");
            }
        }
    }

    #[test]
    fn two_goes_through_all_elements_but_zero() {
        let mut powers: Vec<u8> = (0..255).map(power_of_two).collect();
        powers.sort_unstable();
        assert_eq!(powers, (1..=255).collect::<Vec<u8>>());
        assert_eq!(power_of_two(255), 1);
    }

    #[test]
    fn an_element_times_its_inverse_is_one() {
        for factor in 1..=255 {
            assert_eq!(on_paper(factor, inverse(factor)), 1, "{factor:02x}");
        }
    }
}
