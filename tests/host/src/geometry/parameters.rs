// SPDX-License-Identifier: GPL-2.0

//! Which parameters make a geometry, and the figures that follow from them.

use super::model::Layout;
use crate::raid::geometry::{
    Geometry, InvalidGeometry, Level, MAX_CHUNK_SECTORS, MAX_MEMBERS, MIN_CHUNK_SECTORS,
};

fn try_new(level: Level, layout: i32, members: u32, chunk: u32) -> Result<(), InvalidGeometry> {
    Geometry::new(level, layout, members, chunk).map(drop)
}

#[test]
fn levels_have_their_numbers() {
    for number in -10..20 {
        let level = Level::from_number(number);
        assert_eq!(
            level.map(Level::number),
            (4..=6).contains(&number).then_some(number),
            "level number {number}"
        );
    }
}

#[test]
fn level_6_has_layouts_0_to_5_8_to_10_and_16_to_20() {
    let known = [0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 18, 19, 20];
    for layout in (-300..=300).chain([i32::MIN, 1 << 8, 1 << 16, 1 << 24, i32::MAX]) {
        let expected = if known.contains(&layout) {
            Ok(())
        } else {
            Err(InvalidGeometry::Layout(Level::Raid6, layout))
        };
        for members in [4, 6, 255] {
            assert_eq!(
                try_new(Level::Raid6, layout, members, 128),
                expected,
                "layout {layout}, {members} members"
            );
        }
    }
}

#[test]
fn level_5_has_layouts_0_to_5() {
    for layout in [
        i32::MIN,
        -1,
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        10,
        16,
        20,
        i32::MAX,
    ] {
        let expected = if (0..=5).contains(&layout) {
            Ok(())
        } else {
            Err(InvalidGeometry::Layout(Level::Raid5, layout))
        };
        assert_eq!(
            try_new(Level::Raid5, layout, 5, 128),
            expected,
            "layout {layout}"
        );
    }
}

#[test]
fn level_4_ignores_the_layout() {
    let parity_last = Geometry::new(Level::Raid4, 5, 5, 128);
    assert!(parity_last.is_ok(), "level 4 on 5 members: {parity_last:?}");
    for layout in [i32::MIN, -1, 0, 2, 4, 6, 99, i32::MAX] {
        assert_eq!(
            Geometry::new(Level::Raid4, layout, 5, 128),
            parity_last,
            "layout {layout}"
        );
    }
}

#[test]
fn members_are_2_to_255_and_4_at_least_for_level_6() {
    assert_eq!(MAX_MEMBERS, 255);
    for layout in Layout::all() {
        let (level, number) = layout.numbers();
        let least = if level == Level::Raid6 { 4 } else { 2 };
        for members in (0..=300).chain([65535, 65536, 65538, u32::MAX]) {
            let expected = if (least..=255).contains(&members) {
                Ok(())
            } else {
                Err(InvalidGeometry::Members(level, members))
            };
            assert_eq!(
                try_new(level, number, members, 128),
                expected,
                "{layout:?}, {members} members"
            );
        }
    }
}

#[test]
fn chunks_are_powers_of_two_from_4_kib_to_2_gib() {
    assert_eq!((MIN_CHUNK_SECTORS, MAX_CHUNK_SECTORS), (8, 4 << 20));
    let legal: Vec<u32> = (3..=22).map(|bit| 1 << bit).collect();
    let around = (0..32).flat_map(|bit: u32| {
        let power = 1 << bit;
        [power - 1, power, power + 1, power | (power >> 1)]
    });
    for chunk in around.chain([0, 24, 1000, u32::MAX]) {
        let expected = if legal.contains(&chunk) {
            Ok(())
        } else {
            Err(InvalidGeometry::Chunk(chunk))
        };
        assert_eq!(
            try_new(Level::Raid5, 2, 5, chunk),
            expected,
            "chunk of {chunk} sectors"
        );
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let text = |error: InvalidGeometry| error.to_string();
    assert_eq!(
        text(InvalidGeometry::Layout(Level::Raid5, 7)),
        "layout 7 is not known for level 5"
    );
    assert_eq!(
        text(InvalidGeometry::Members(Level::Raid5, 1)),
        "not enough configured devices (1, minimum 2)"
    );
    assert_eq!(
        text(InvalidGeometry::Members(Level::Raid6, 256)),
        "256 members are too many for level 6: at most 255"
    );
    assert_eq!(
        text(InvalidGeometry::Layout(Level::Raid6, 7)),
        "layout 7 is not known for level 6"
    );
    assert_eq!(
        text(InvalidGeometry::Chunk(24)),
        "a chunk of 24 sectors is not a power of two from 8 to 4194304"
    );
}

#[test]
fn figures_follow_from_the_parameters() {
    for layout in Layout::all() {
        let (level, _) = layout.numbers();
        let parities = layout.parities();
        let least = u32::from(layout.least_members());
        for members in [least, least + 1, 16, 255] {
            for shift in 3..=22 {
                let chunk = 1u32 << shift;
                let what = format!("{layout:?}, {members} members, chunk {chunk}");
                let geometry = layout.geometry(members, chunk);
                assert_eq!(u32::from(geometry.members()), members, "{what}");
                assert_eq!(geometry.parity_disks(), parities, "{what}");
                let data = members - u32::from(parities);
                assert_eq!(u32::from(geometry.data_disks()), data, "{what}");
                assert_eq!(geometry.chunk_sectors(), chunk, "{what}");
                let stripe = u64::from(chunk) * u64::from(data);
                assert_eq!(geometry.stripe_sectors(), stripe, "{what}");
                assert!(u32::try_from(stripe).is_ok(), "{what}: {stripe} > 32 bits");
                let strips = (chunk / 8).min(16);
                assert_eq!(geometry.span_strips(), strips, "{what}");
                assert_eq!(geometry.span_sectors(), strips * 8, "{what}");
                assert_eq!(geometry.all_strips().count(), strips, "{what}");
                assert_eq!(geometry.level(), level, "{what}");
            }
        }
    }
}

#[test]
fn the_array_is_as_long_as_its_whole_chunks() {
    let arrays = [2u32, 3, 4, 16].map(|members| (Layout::LeftSymmetric, members));
    let level_6 = [4, 5, 16].map(|members| (Layout::DdfNContinue, members));
    for (layout, members) in arrays.into_iter().chain(level_6) {
        for chunk in [8u32, 16, 128, 1024] {
            let geometry = layout.geometry(members, chunk);
            let data = u64::from(members) - u64::from(layout.parities());
            let mut whole_chunks = 0u64;
            for dev_sectors in 0..=u64::from(chunk) * 5 {
                if dev_sectors == (whole_chunks + 1) * u64::from(chunk) {
                    whole_chunks += 1;
                }
                let expected = whole_chunks * u64::from(chunk) * data;
                assert_eq!(
                    geometry.array_sectors(dev_sectors),
                    Some(expected),
                    "{layout:?}, {members} members of {dev_sectors} sectors, chunk {chunk}"
                );
            }
        }
    }
}
