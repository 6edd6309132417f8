// SPDX-License-Identifier: GPL-2.0

//! Finding the one wrong block.

use super::{engines, Noise};
use crate::parity::locate::Located;
use crate::parity::strip::{Blocks, Make};
use crate::parity::Block;
use crate::raid::roles::{Roles, Slots};

fn all_roles(members: u16) -> [Roles; 4] {
    [
        Roles::new(members, 0, Some(1), Slots::AfterQ),
        Roles::new(members, members - 1, Some(0), Slots::AfterQ),
        Roles::new(members, 1, Some(2), Slots::EveryMember),
        Roles::new(members, members - 2, Some(members - 1), Slots::EveryMember),
    ]
}

fn strip(noise: &mut Noise, roles: Roles) -> Vec<Block> {
    let mut blocks = noise.blocks(roles.members().into());
    let both = Make { p: true, q: true };
    Blocks::over(&mut blocks, engines()[0], roles).generate(both);
    blocks
}

fn flip(noise: &mut Noise, block: &mut Block, bytes: usize) {
    for _ in 0..bytes {
        let (line, byte) = (noise.below(64), noise.below(64));
        let other = 1 + noise.word() % 255;
        block[line].0[byte / 8] ^= other << (byte % 8 * 8);
    }
}

#[test]
fn one_wrong_block_is_found_and_mended() {
    let mut noise = Noise(21);
    for members in (4..=21).chain([64, 130, 254, 255]) {
        for roles in all_roles(members) {
            let right = strip(&mut noise, roles);
            for engine in engines() {
                let mut blocks = right.clone();
                let strip = Blocks::over(&mut blocks, engine, roles);
                assert_eq!(
                    strip.locate(),
                    Located::Nothing,
                    "{}: {roles:?}",
                    engine.name()
                );
                let step = if members > 21 { 17 } else { 1 };
                for member in (0..members).step_by(step) {
                    for bytes in [1, 2, 50, 4096] {
                        let what =
                            format!("{}: {roles:?}, {bytes} bytes of {member}", engine.name());
                        let mut blocks = right.clone();
                        flip(&mut noise, &mut blocks[usize::from(member)], bytes);
                        if blocks == right {
                            continue;
                        }
                        let mut strip = Blocks::over(&mut blocks, engine, roles);
                        assert_eq!(strip.locate(), Located::Member(member), "{what}");
                        strip.mend(member);
                        assert!(blocks == right, "{what}: not mended");
                    }
                }
            }
        }
    }
}

/// Two wrong blocks with some wrong bytes each never look like one: 40 bytes each, so that chance has no part in it.
#[test]
fn two_wrong_blocks_are_several() {
    let mut noise = Noise(22);
    for members in [4, 5, 6, 7, 12, 255] {
        for roles in all_roles(members) {
            let right = strip(&mut noise, roles);
            for x in 0..members.min(8) {
                for y in 0..x {
                    for engine in engines() {
                        let mut blocks = right.clone();
                        flip(&mut noise, &mut blocks[usize::from(x)], 40);
                        flip(&mut noise, &mut blocks[usize::from(y)], 40);
                        let located = Blocks::over(&mut blocks, engine, roles).locate();
                        let what = format!("{}: {roles:?}, {x} and {y}", engine.name());
                        assert_eq!(located, Located::Several, "{what}");
                    }
                }
            }
        }
    }
}

/// A ratio that belongs to no member: a slot that there is not, or that of P or Q where these have slots.
#[test]
fn what_no_member_explains_is_several() {
    let mut noise = Noise(23);
    let roles = Roles::new(6, 1, Some(4), Slots::EveryMember);
    for (slot, member) in [
        (0, Some(0)),
        (1, None),
        (4, None),
        (5, Some(5)),
        (6, None),
        (254, None),
    ] {
        let mut blocks = strip(&mut noise, roles);
        let power = (0..slot).fold(1_u64, |power, _| {
            let twice = power << 1;
            twice ^ if twice & 0x100 != 0 { 0x11d } else { 0 }
        });
        blocks[1][7].0[3] ^= 1;
        blocks[4][7].0[3] ^= power;
        for engine in engines() {
            let located = Blocks::over(&mut blocks, engine, roles).locate();
            let expected = member.map_or(Located::Several, Located::Member);
            assert_eq!(located, expected, "{}: slot {slot}", engine.name());
        }
    }
}

#[test]
fn without_q_nothing_is_located() {
    let mut noise = Noise(24);
    let roles = Roles::new(5, 2, None, Slots::AfterQ);
    let mut blocks = strip(&mut noise, roles);
    for engine in engines() {
        let located = Blocks::over(&mut blocks, engine, roles).locate();
        assert_eq!(located, Located::Nothing, "{}", engine.name());
    }
    flip(&mut noise, &mut blocks[4], 1);
    for engine in engines() {
        let located = Blocks::over(&mut blocks, engine, roles).locate();
        assert_eq!(located, Located::Several, "{}", engine.name());
    }
}
