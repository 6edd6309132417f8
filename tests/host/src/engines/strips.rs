// SPDX-License-Identifier: GPL-2.0

//! Whole strips: what `src/parity/strip.rs` and `recover.rs` cut into groups.

use super::{assert_same, bytes, engines, from_bytes, model, Noise};
use crate::parity::strip::{Blocks, Make};
use crate::parity::{Block, Engine, Source, Wrong};
use crate::raid::roles::{Roles, Slots};

const BOTH: Make = Make { p: true, q: true };

/// Roles of `members` members with Q behind P, both orders of slots, and P at any of some places; and without Q.
fn roles(members: u16, places: &[u16]) -> Vec<Roles> {
    let mut all = Vec::new();
    for place in places {
        let p = place % members;
        let q = (p + 1) % members;
        if members >= 4 {
            all.push(Roles::new(members, p, Some(q), Slots::AfterQ));
            all.push(Roles::new(members, p, Some(q), Slots::EveryMember));
        }
        all.push(Roles::new(members, p, None, Slots::AfterQ));
    }
    all
}

/// A strip with right parity, by the model.
fn strip(noise: &mut Noise, roles: Roles) -> Vec<Block> {
    let mut blocks = noise.blocks(roles.members().into());
    set_parity(&mut blocks, roles);
    blocks
}

fn set_parity(blocks: &mut [Block], roles: Roles) {
    let mut slots: Vec<_> = roles.slots_down().collect();
    slots.reverse();
    if roles.q().is_none() {
        // Where there is no Q, slots are of no concern: all data blocks.
        let data = (0..roles.members()).filter(|member| *member != roles.p());
        slots = data.map(Some).collect();
    }
    let content: Vec<_> = slots
        .iter()
        .map(|slot| slot.map(|member| bytes(&blocks[usize::from(member)])))
        .collect();
    let p = from_bytes(&model::p(4096, &content));
    blocks[usize::from(roles.p())].copy_from_slice(&p);
    if let Some(member) = roles.q() {
        let q = from_bytes(&model::q(4096, &content));
        blocks[usize::from(member)].copy_from_slice(&q);
    }
}

fn assert_strip(found: &[Block], expected: &[Block], what: impl Fn() -> String) {
    for (member, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_same(found, expected, || format!("{}: member {member}", what()));
    }
}

/// Numbers of members that are tried: all small ones, and those around the ends of groups up to the most.
fn widths() -> impl Iterator<Item = u16> {
    (3..=21).chain([33, 34, 35, 36, 49, 50, 51, 52, 100, 128, 129, 253, 254, 255])
}

#[test]
fn parity_of_any_number_of_members() {
    let mut noise = Noise(11);
    for members in widths() {
        for roles in roles(members, &[0, members / 2, members - 1]) {
            let right = strip(&mut noise, roles);
            for engine in engines() {
                for (p, q) in [(false, false), (true, false), (false, true), (true, true)] {
                    let mut blocks = right.clone();
                    let mut expected = right.clone();
                    for (wanted, member) in [(p, Some(roles.p())), (q, roles.q())] {
                        let Some(member) = member else { continue };
                        let noise = noise.block();
                        blocks[usize::from(member)] = noise;
                        if !wanted {
                            expected[usize::from(member)] = noise;
                        }
                    }
                    // Past the caches or not, the outcome is the same: here nothing is copied.
                    for past in [false, true] {
                        let what = || {
                            let name = engine.name();
                            format!("{name}: {roles:?}, P {p}, Q {q}, past {past}")
                        };
                        let mut made = blocks.clone();
                        let mut work = Blocks::over(&mut made, engine, roles).past_caches(past);
                        work.generate(Make { p, q });
                        assert_strip(&made, &expected, what);
                    }
                }
            }
        }
    }
}

#[test]
fn copies_become_blocks_and_count_in_parity() {
    let mut noise = Noise(12);
    for members in widths() {
        for roles in roles(members, &[1, members - 2]) {
            let right = strip(&mut noise, roles);
            // Where the new bytes of some members come from, each aligned in another way.
            let source: Vec<Option<(usize, Vec<u8>)>> = right
                .iter()
                .map(|block| {
                    let shift = [0, 1, 8, 63][noise.below(4)];
                    let bytes = [vec![0x55; shift], bytes(block)].concat();
                    (noise.below(3) != 0).then_some((shift, bytes))
                })
                .collect();
            for engine in engines() {
                let ways = [(BOTH, false), (BOTH, true), (Make::default(), false)];
                for (make, past) in ways {
                    let what = || format!("{}: {roles:?}, {make:?}, past {past}", engine.name());
                    let mut blocks = right.clone();
                    let mut expected = right.clone();
                    for (member, block) in (0..members).zip(&mut blocks) {
                        let copied = source[usize::from(member)].is_some();
                        if roles.is_parity(member) || copied {
                            *block = noise.block();
                        }
                        if roles.is_parity(member) && make != BOTH {
                            expected[usize::from(member)] = *block;
                        }
                    }
                    let mut work = Blocks::over(&mut blocks, engine, roles).past_caches(past);
                    work.generate_copying(make, |member| {
                        let (shift, bytes) = source[usize::from(member)].as_ref()?;
                        Some(Source::new(&bytes[*shift..]))
                    });
                    assert_strip(&blocks, &expected, what);
                }
            }
        }
    }
}

#[test]
fn any_bytes_of_a_block_change_and_parity_follows() {
    let mut noise = Noise(13);
    let edges = [0, 1, 63, 64, 65, 127, 128, 500, 512, 4000, 4032, 4095, 4096];
    for roles in roles(7, &[2, 6]) {
        let right = strip(&mut noise, roles);
        let data: Vec<u16> = (0..7).filter(|member| !roles.is_parity(*member)).collect();
        for (round, &at) in edges.iter().enumerate() {
            for &end in edges.iter().filter(|end| **end >= at) {
                let member = data[(round + end) % data.len()];
                let new = noise.bytes(1 + end - at);
                let new = &new[1..];
                let mut expected = right.clone();
                let mut content = bytes(&right[usize::from(member)]);
                content[at..end].copy_from_slice(new);
                expected[usize::from(member)].copy_from_slice(&from_bytes(&content));
                set_parity(&mut expected, roles);
                for engine in engines() {
                    let what = || format!("{}: {roles:?}, {member}: {at}..{end}", engine.name());
                    let mut blocks = right.clone();
                    let mut strip = Blocks::over(&mut blocks, engine, roles);
                    strip.change(member, at, Source::new(new), BOTH);
                    assert_strip(&blocks, &expected, what);
                }
            }
        }
    }
}

#[test]
fn what_lies_beyond_a_block_does_not_change_it() {
    let mut noise = Noise(14);
    let roles = Roles::new(5, 4, Some(0), Slots::AfterQ);
    let right = strip(&mut noise, roles);
    for engine in engines() {
        for (at, len) in [
            (4096, 10),
            (5000, 10),
            (usize::MAX, 10),
            (4000, 200),
            (4090, 8),
        ] {
            let new = noise.bytes(len);
            let mut blocks = right.clone();
            let mut expected = right.clone();
            let mut content = bytes(&right[2]);
            for (place, byte) in content.iter_mut().skip(at).zip(&new) {
                *place = *byte;
            }
            expected[2].copy_from_slice(&from_bytes(&content));
            set_parity(&mut expected, roles);
            Blocks::over(&mut blocks, engine, roles).change(2, at, Source::new(&new), BOTH);
            assert_strip(&blocks, &expected, || {
                format!("{}: {at} {len}", engine.name())
            });
        }
    }
}

/// Loses blocks and gets them back. A parity block that is lost and not to be computed holds anything.
fn lose(
    noise: &mut Noise,
    engine: &dyn Engine,
    roles: Roles,
    right: &[Block],
    lost: &[u16],
    unusable: Option<u16>,
) {
    let what = || format!("{}: {roles:?}, lost {lost:?}, {unusable:?}", engine.name());
    let mut blocks = right.to_vec();
    let mut expected = right.to_vec();
    for member in lost {
        blocks[usize::from(*member)] = noise.block();
    }
    if let Some(member) = unusable {
        let noise = noise.block();
        blocks[usize::from(member)] = noise;
        expected[usize::from(member)] = noise;
    }
    // Past the caches or not, the outcome is the same.
    for past in [false, true] {
        let mut done = blocks.clone();
        Blocks::over(&mut done, engine, roles)
            .past_caches(past)
            .recover(lost, unusable);
        assert_strip(&done, &expected, || format!("{}, past {past}", what()));
    }
}

#[test]
fn every_pair_of_lost_blocks_is_recovered() {
    let mut noise = Noise(15);
    for members in 4..=20 {
        // One place of parity after the other, with the number of members.
        for roles in roles(members, &[members * 7 % 11, members - 1]) {
            let right = strip(&mut noise, roles);
            for engine in engines() {
                for x in 0..members {
                    lose(&mut noise, engine, roles, &right, &[x], None);
                    let parity = [Some(roles.p()), roles.q()];
                    for other in parity.into_iter().flatten().filter(|p| *p != x) {
                        if roles.q().is_some() {
                            lose(&mut noise, engine, roles, &right, &[x], Some(other));
                        }
                    }
                    for y in (0..members).filter(|y| *y != x && roles.q().is_some()) {
                        lose(&mut noise, engine, roles, &right, &[x, y], None);
                    }
                }
            }
        }
    }
}

#[test]
fn random_pairs_of_wide_arrays_are_recovered() {
    let mut noise = Noise(16);
    for members in widths().filter(|members| *members > 20) {
        for roles in roles(members, &[0, members / 3]) {
            let right = strip(&mut noise, roles);
            let q = roles.q().unwrap_or(roles.p());
            for engine in engines() {
                for round in 0..6 {
                    let x = noise.below(members.into()) as u16;
                    let y = noise.below(members.into()) as u16;
                    let lost = match round {
                        _ if x == y || roles.q().is_none() => vec![x],
                        0 if x != roles.p() => vec![x, roles.p()],
                        1 if x != q => vec![q, x],
                        _ => vec![x, y],
                    };
                    lose(&mut noise, engine, roles, &right, &lost, None);
                }
            }
        }
    }
}

#[test]
fn check_says_which_parity_is_wrong() {
    let mut noise = Noise(17);
    for members in widths() {
        for roles in roles(members, &[0, members / 2]) {
            let mut blocks = strip(&mut noise, roles);
            for engine in engines() {
                let what = format!("{}: {roles:?}", engine.name());
                let check =
                    |blocks: &mut Vec<Block>, make| Blocks::over(blocks, engine, roles).check(make);
                assert_eq!(check(&mut blocks, BOTH), Wrong::default(), "{what}");
                for round in 0..4 {
                    let member = match round {
                        0 => roles.p(),
                        1 => roles.q().unwrap_or(0),
                        _ => noise.below(members.into()) as u16,
                    };
                    let (line, word) = (noise.below(64), noise.below(8));
                    let bit = 1 << noise.below(64);
                    blocks[usize::from(member)][line].0[word] ^= bit;
                    let what = format!("{what}: member {member}, word {word} of line {line}");
                    for (p, q) in [(true, true), (true, false), (false, true), (false, false)] {
                        let expected = Wrong {
                            p: p && Some(member) != roles.q(),
                            q: q && roles.q().is_some() && member != roles.p(),
                        };
                        assert_eq!(check(&mut blocks, Make { p, q }), expected, "{what}");
                    }
                    blocks[usize::from(member)][line].0[word] ^= bit;
                }
            }
        }
    }
}
