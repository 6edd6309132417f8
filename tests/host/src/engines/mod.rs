// SPDX-License-Identifier: GPL-2.0

//! Parity engines, and what `src/parity` makes of them.
//!
//! [`model`] is parity bit by bit, as the field is defined. The scalar engine is compared with it, and every other engine
//! that this CPU has with the scalar one.

mod field;
mod groups;
mod locate;
mod model;
mod strips;

use crate::parity::scalar::Scalar;
use crate::parity::{Block, Engine, Line, BLOCK_LINES, LINE_BYTES};

/// Every engine that this machine can run.
fn engines() -> Vec<&'static dyn Engine> {
    let mut engines: Vec<&'static dyn Engine> = vec![&Scalar];
    #[cfg(target_arch = "x86_64")]
    engines.extend(crate::parity::x86::engines().filter_map(|(_, engine)| engine));
    engines
}

/// Bytes that look random and are the same in each run: SplitMix64.
struct Noise(u64);

impl Noise {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.word() % end as u64) as usize
    }

    fn lines(&mut self, count: usize) -> Vec<Line> {
        let mut lines = vec![Line::ZERO; count];
        for line in &mut lines {
            line.0.fill_with(|| self.word());
        }
        lines
    }

    fn block(&mut self) -> Block {
        let mut block = [Line::ZERO; BLOCK_LINES];
        block.copy_from_slice(&self.lines(BLOCK_LINES));
        block
    }

    fn blocks(&mut self, count: usize) -> Vec<Block> {
        (0..count).map(|_| self.block()).collect()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.word() as u8).collect()
    }
}

fn bytes(lines: &[Line]) -> Vec<u8> {
    let words = lines.iter().flat_map(|line| line.0);
    words.flat_map(u64::to_ne_bytes).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<Line> {
    let line = |bytes: &[u8]| {
        let mut line = Line::ZERO;
        for (word, bytes) in line.0.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap());
        }
        line
    };
    bytes.chunks_exact(LINE_BYTES).map(line).collect()
}

/// The first byte that differs, for messages.
fn difference(found: &[Line], expected: &[Line]) -> String {
    let (found, expected) = (bytes(found), bytes(expected));
    match found.iter().zip(&expected).position(|(a, b)| a != b) {
        Some(at) => format!(
            "byte {at} of {}: expected {:#04x}, found {:#04x}",
            expected.len(),
            expected[at],
            found[at]
        ),
        None => format!("{} bytes of {}", found.len(), expected.len()),
    }
}

#[track_caller]
fn assert_same(found: &[Line], expected: &[Line], what: impl FnOnce() -> String) {
    assert!(
        found == expected,
        "{}: {}",
        what(),
        difference(found, expected)
    );
}

#[test]
fn lines_are_aligned_and_blocks_are_pages() {
    assert_eq!(size_of::<Line>(), LINE_BYTES);
    assert_eq!(align_of::<Line>(), LINE_BYTES);
    assert_eq!(size_of::<Block>(), 4096);
}

#[test]
fn every_engine_has_a_name_of_its_own() {
    let mut names: Vec<_> = engines().iter().map(|engine| engine.name()).collect();
    println!("engines on this machine: {}", names.join(" "));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), engines().len(), "different names: {names:?}");
}
