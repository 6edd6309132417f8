// SPDX-License-Identifier: GPL-2.0

//! Parity engines, and what `src/parity/mod.rs` makes of them, against XOR byte by byte.

use crate::parity::scalar::Scalar;
use crate::parity::{accumulate, cancels, generate, Block, Engine, Sector, BLOCK_SECTORS, GROUP};
use std::sync::atomic::{AtomicUsize, Ordering};

const SECTOR_BYTES: usize = 512;

/// Every engine that the host can run.
const ENGINES: [&dyn Engine; 1] = [&Scalar];

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

    fn block(&mut self) -> Block {
        let mut block = [Sector::ZERO; BLOCK_SECTORS];
        for sector in &mut block {
            sector.0.fill_with(|| self.word());
        }
        block
    }

    fn blocks(&mut self, count: usize) -> Vec<Block> {
        (0..count).map(|_| self.block()).collect()
    }
}

fn bytes(sectors: &[Sector]) -> Vec<u8> {
    let words = sectors.iter().flat_map(|sector| sector.0);
    words.flat_map(u64::to_ne_bytes).collect()
}

/// The XOR of some bytes and of those of each source.
fn xor(start: &[u8], sources: &[Vec<u8>]) -> Vec<u8> {
    let mut sum = start.to_vec();
    for source in sources {
        assert_eq!(source.len(), sum.len());
        for at in 0..sum.len() {
            sum[at] ^= source[at];
        }
    }
    sum
}

fn slices(blocks: &[Block]) -> impl Iterator<Item = &[Sector]> {
    blocks.iter().map(<[Sector; BLOCK_SECTORS]>::as_slice)
}

#[test]
fn sectors_are_aligned_and_blocks_are_pages() {
    assert_eq!(size_of::<Sector>(), SECTOR_BYTES);
    assert_eq!(align_of::<Sector>(), 64);
    assert_eq!(size_of::<Block>(), 4096);
}

#[test]
fn every_engine_has_a_name_of_its_own() {
    for (index, engine) in ENGINES.iter().enumerate() {
        assert!(!engine.name().is_empty());
        let twins = ENGINES[..index]
            .iter()
            .filter(|other| other.name() == engine.name());
        assert_eq!(twins.count(), 0, "other engines named {}", engine.name());
    }
}

#[test]
fn engines_xor_any_group_of_any_length() {
    let mut noise = Noise(1);
    for engine in ENGINES {
        for count in 0..=GROUP {
            let blocks = noise.blocks(count);
            for sectors in 0..=BLOCK_SECTORS {
                let what = format!("{}: {count} sources, {sectors} sectors", engine.name());
                let sources: Vec<&[Sector]> = slices(&blocks).map(|b| &b[..sectors]).collect();
                let expected: Vec<Vec<u8>> = sources.iter().map(|s| bytes(s)).collect();

                let before = noise.block();
                let mut dst = before;
                engine.set(&mut dst[..sectors], &sources);
                let zeros = vec![0; sectors * SECTOR_BYTES];
                let made = bytes(&dst[..sectors]);
                assert!(made == xor(&zeros, &expected), "{what}: set");
                assert!(dst[sectors..] == before[sectors..], "{what}: beyond set");

                let mut dst = before;
                engine.add(&mut dst[..sectors], &sources);
                let made = bytes(&dst[..sectors]);
                let sum = xor(&bytes(&before[..sectors]), &expected);
                assert!(made == sum, "{what}: add");
                assert!(dst[sectors..] == before[sectors..], "{what}: beyond add");
            }
        }
    }
}

#[test]
fn parity_of_any_number_of_members() {
    let mut noise = Noise(2);
    for engine in ENGINES {
        for count in (0..=40).chain([128, 253, 254]) {
            let what = format!("{}: {count} data blocks", engine.name());
            let data = noise.blocks(count);
            let data_bytes: Vec<Vec<u8>> = data.iter().map(|block| bytes(block)).collect();

            let mut parity = noise.block();
            generate(engine, &mut parity, slices(&data));
            let expected = xor(&[0; 4096], &data_bytes);
            assert!(bytes(&parity) == expected, "{what}: generate");

            let before = noise.block();
            let mut sum = before;
            accumulate(engine, &mut sum, slices(&data));
            let expected = xor(&bytes(&before), &data_bytes);
            assert!(bytes(&sum) == expected, "{what}: accumulate");
        }
    }
}

#[test]
fn any_lost_block_is_the_xor_of_the_others() {
    let mut noise = Noise(3);
    for engine in ENGINES {
        for members in [2, 3, 5, 9, 17] {
            let mut blocks = noise.blocks(members);
            let (parity, data) = blocks.split_first_mut().unwrap();
            generate(engine, parity, slices(data));
            for lost in 0..members {
                let mut found = noise.block();
                let others = slices(&blocks[..lost]).chain(slices(&blocks[lost + 1..]));
                generate(engine, &mut found, others);
                assert!(
                    found == blocks[lost],
                    "{}: block {lost} of {members}",
                    engine.name()
                );
            }
        }
    }
}

/// RMW: the old data leaves parity and the new data enters it, for the changed sectors alone.
#[test]
fn parity_follows_a_change_of_some_sectors() {
    let mut noise = Noise(4);
    for engine in ENGINES {
        for first in 0..BLOCK_SECTORS {
            for end in first + 1..=BLOCK_SECTORS {
                let mut data = noise.blocks(4);
                let mut parity = noise.block();
                generate(engine, &mut parity, slices(&data));
                let untouched = parity;

                let changed = first..end;
                accumulate(
                    engine,
                    &mut parity[changed.clone()],
                    [&data[2][changed.clone()]],
                );
                data[2][changed.clone()].copy_from_slice(&noise.block()[changed.clone()]);
                accumulate(
                    engine,
                    &mut parity[changed.clone()],
                    [&data[2][changed.clone()]],
                );

                let mut expected = noise.block();
                generate(engine, &mut expected, slices(&data));
                let what = format!("{}: sectors {changed:?}", engine.name());
                assert!(parity == expected, "{what}");
                assert!(parity[..first] == untouched[..first], "{what}: before");
                assert!(parity[end..] == untouched[end..], "{what}: after");
            }
        }
    }
}

#[test]
fn a_strip_cancels_until_one_bit_of_it_is_wrong() {
    let mut noise = Noise(5);
    for engine in ENGINES {
        assert!(cancels(engine, &[]), "{}: no blocks", engine.name());
        for members in [2, 3, 9, 20, 255] {
            let what = format!("{}: {members} members", engine.name());
            let mut blocks = noise.blocks(members);
            let (parity, data) = blocks.split_first_mut().unwrap();
            generate(engine, parity, slices(data));
            assert!(cancels(engine, &blocks), "{what}: right parity");
            // Every bit of a small array, every word of a wide one.
            let step = if members == 3 { 1 } else { 61 };
            for bit in (0..4096 * 8).step_by(step) {
                let (sector, word) = (bit / 4096, bit % 4096 / 64);
                let member = bit % members;
                blocks[member][sector].0[word] ^= 1 << (bit % 64);
                assert!(
                    !cancels(engine, &blocks),
                    "{what}: bit {bit} of member {member} is wrong"
                );
                blocks[member][sector].0[word] ^= 1 << (bit % 64);
            }
            assert!(cancels(engine, &blocks), "{what}: all bits right again");
        }
    }
}

#[test]
fn sources_of_other_lengths_do_no_harm() {
    let mut noise = Noise(6);
    for engine in ENGINES {
        for count in 1..=GROUP {
            let blocks = noise.blocks(count);
            for lengths in 0..3 {
                let sources: Vec<&[Sector]> = slices(&blocks)
                    .enumerate()
                    .map(|(index, block)| &block[..(index + lengths) % (BLOCK_SECTORS + 1)])
                    .collect();
                let before = noise.block();
                let mut dst = before;
                engine.set(&mut dst[2..5], &sources);
                engine.add(&mut dst[2..5], &sources);
                let what = format!("{}: {count} sources", engine.name());
                assert!(dst[..2] == before[..2], "{what}: before");
                assert!(dst[5..] == before[5..], "{what}: after");
            }
        }
    }
}

/// An engine that only looks at what it is asked for.
#[derive(Default)]
struct Witness {
    calls: AtomicUsize,
    sources: AtomicUsize,
}

impl Witness {
    fn note(&self, dst: &[Sector], sources: &[&[Sector]]) {
        assert!(sources.len() <= GROUP, "{} sources at once", sources.len());
        for source in sources {
            assert_eq!(source.len(), dst.len(), "sectors of a source");
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.sources.fetch_add(sources.len(), Ordering::Relaxed);
    }
}

impl Engine for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }
    fn set(&self, dst: &mut [Sector], sources: &[&[Sector]]) {
        self.note(dst, sources);
    }
    fn add(&self, dst: &mut [Sector], sources: &[&[Sector]]) {
        assert!(!sources.is_empty(), "adding nothing is not worth a call");
        self.note(dst, sources);
    }
}

#[test]
fn engines_get_full_groups() {
    let blocks = Noise(7).blocks(254);
    for count in 0..=blocks.len() {
        let engine = Witness::default();
        let mut dst = [Sector::ZERO; BLOCK_SECTORS];
        generate(&engine, &mut dst, slices(&blocks[..count]));
        let calls = engine.calls.into_inner();
        assert_eq!(engine.sources.into_inner(), count, "sources in all");
        assert_eq!(calls, count.div_ceil(GROUP).max(1), "calls for {count}");
    }
}
