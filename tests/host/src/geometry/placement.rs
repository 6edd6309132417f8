// SPDX-License-Identifier: GPL-2.0

//! Where each sector lies, against tables and against the model.

use super::model::{deal, Cell, Layout, Row};
use crate::raid::geometry::{Geometry, Level, Role};

/// What each member holds in the first rows, as md's documentation draws it.
fn drawing(geometry: &Geometry, rows: u64) -> Vec<String> {
    let data = u64::from(geometry.data_disks());
    (0..rows)
        .map(|stripe| {
            let cells = (0..geometry.members()).map(|member| match geometry.role(stripe, member) {
                Role::Data(index) => (stripe * data + u64::from(index)).to_string(),
                Role::P => "P".to_owned(),
                Role::Q => "Q".to_owned(),
            });
            cells.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn four_members_lie_as_drawn() {
    let tables = [
        (
            Layout::LeftAsymmetric,
            ["0 1 2 P", "3 4 P 5", "6 P 7 8", "P 9 10 11", "12 13 14 P"],
        ),
        (
            Layout::RightAsymmetric,
            ["P 0 1 2", "3 P 4 5", "6 7 P 8", "9 10 11 P", "P 12 13 14"],
        ),
        (
            Layout::LeftSymmetric,
            ["0 1 2 P", "4 5 P 3", "8 P 6 7", "P 9 10 11", "12 13 14 P"],
        ),
        (
            Layout::RightSymmetric,
            ["P 0 1 2", "5 P 3 4", "7 8 P 6", "9 10 11 P", "P 12 13 14"],
        ),
        (
            Layout::ParityFirst,
            ["P 0 1 2", "P 3 4 5", "P 6 7 8", "P 9 10 11", "P 12 13 14"],
        ),
        (
            Layout::ParityLast,
            ["0 1 2 P", "3 4 5 P", "6 7 8 P", "9 10 11 P", "12 13 14 P"],
        ),
        (
            Layout::Level4,
            ["0 1 2 P", "3 4 5 P", "6 7 8 P", "9 10 11 P", "12 13 14 P"],
        ),
    ];
    for (layout, table) in tables {
        assert_eq!(drawing(&layout.geometry(4, 8), 5), table, "{layout:?}");
    }
}

#[test]
fn five_members_of_level_6_lie_as_drawn() {
    let tables = [
        (
            0,
            [
                "Q 0 1 2 P",
                "3 4 5 P Q",
                "6 7 P Q 8",
                "9 P Q 10 11",
                "P Q 12 13 14",
            ],
        ),
        (
            1,
            [
                "P Q 0 1 2",
                "3 P Q 4 5",
                "6 7 P Q 8",
                "9 10 11 P Q",
                "Q 12 13 14 P",
            ],
        ),
        (
            2,
            [
                "Q 0 1 2 P",
                "3 4 5 P Q",
                "7 8 P Q 6",
                "11 P Q 9 10",
                "P Q 12 13 14",
            ],
        ),
        (
            3,
            [
                "P Q 0 1 2",
                "5 P Q 3 4",
                "7 8 P Q 6",
                "9 10 11 P Q",
                "Q 12 13 14 P",
            ],
        ),
        (
            4,
            [
                "P Q 0 1 2",
                "P Q 3 4 5",
                "P Q 6 7 8",
                "P Q 9 10 11",
                "P Q 12 13 14",
            ],
        ),
        (
            5,
            [
                "0 1 2 P Q",
                "3 4 5 P Q",
                "6 7 8 P Q",
                "9 10 11 P Q",
                "12 13 14 P Q",
            ],
        ),
        (
            8,
            [
                "P Q 0 1 2",
                "3 P Q 4 5",
                "6 7 P Q 8",
                "9 10 11 P Q",
                "Q 12 13 14 P",
            ],
        ),
        (
            9,
            [
                "0 1 2 P Q",
                "3 4 P Q 5",
                "6 P Q 7 8",
                "P Q 9 10 11",
                "Q 12 13 14 P",
            ],
        ),
        (
            10,
            [
                "0 1 2 Q P",
                "4 5 Q P 3",
                "8 Q P 6 7",
                "Q P 9 10 11",
                "P 12 13 14 Q",
            ],
        ),
        (
            16,
            [
                "0 1 2 P Q",
                "3 4 P 5 Q",
                "6 P 7 8 Q",
                "P 9 10 11 Q",
                "12 13 14 P Q",
            ],
        ),
        (
            17,
            [
                "P 0 1 2 Q",
                "3 P 4 5 Q",
                "6 7 P 8 Q",
                "9 10 11 P Q",
                "P 12 13 14 Q",
            ],
        ),
        (
            18,
            [
                "0 1 2 P Q",
                "4 5 P 3 Q",
                "8 P 6 7 Q",
                "P 9 10 11 Q",
                "12 13 14 P Q",
            ],
        ),
        (
            19,
            [
                "P 0 1 2 Q",
                "5 P 3 4 Q",
                "7 8 P 6 Q",
                "9 10 11 P Q",
                "P 12 13 14 Q",
            ],
        ),
        (
            20,
            [
                "P 0 1 2 Q",
                "P 3 4 5 Q",
                "P 6 7 8 Q",
                "P 9 10 11 Q",
                "P 12 13 14 Q",
            ],
        ),
    ];
    for (layout, table) in tables {
        let geometry = Geometry::new(Level::Raid6, layout, 5, 8).expect("a layout of level 6");
        assert_eq!(drawing(&geometry, 5), table, "layout {layout} of level 6");
    }
}

/// The exponent of each member's coefficient in Q, row by row; parity has none.
fn exponents(geometry: &Geometry, rows: u64) -> Vec<String> {
    let cell = |stripe, member| match geometry.roles(stripe).exponent(member) {
        Some(exponent) => exponent.to_string(),
        None => "-".to_owned(),
    };
    let row = |stripe| -> Vec<_> { (0..geometry.members()).map(|m| cell(stripe, m)).collect() };
    (0..rows).map(|stripe| row(stripe).join(" ")).collect()
}

#[test]
fn five_members_count_in_q_as_drawn() {
    let tables = [
        // From the member after Q on, and round.
        (
            0,
            [
                "- 0 1 2 -",
                "0 1 2 - -",
                "1 2 - - 0",
                "2 - - 0 1",
                "- - 0 1 2",
            ],
        ),
        // DDF: by the member's own number.
        (
            8,
            [
                "- - 2 3 4",
                "0 - - 3 4",
                "0 1 - - 4",
                "0 1 2 - -",
                "- 1 2 3 -",
            ],
        ),
        (
            10,
            [
                "0 1 2 - -",
                "0 1 - - 4",
                "0 - - 3 4",
                "- - 2 3 4",
                "- 1 2 3 -",
            ],
        ),
        // After Q comes the first member, for Q stays last.
        (
            18,
            [
                "0 1 2 - -",
                "0 1 - 2 -",
                "0 - 1 2 -",
                "- 0 1 2 -",
                "0 1 2 - -",
            ],
        ),
    ];
    for (layout, table) in tables {
        let geometry = Geometry::new(Level::Raid6, layout, 5, 8).expect("a layout of level 6");
        assert_eq!(exponents(&geometry, 5), table, "layout {layout} of level 6");
    }
}

#[test]
fn two_and_three_members_lie_as_drawn() {
    assert_eq!(
        drawing(&Layout::LeftSymmetric.geometry(3, 8), 4),
        ["0 1 P", "3 P 2", "P 4 5", "6 7 P"]
    );
    assert_eq!(
        drawing(&Layout::LeftSymmetric.geometry(2, 8), 3),
        ["0 P", "P 1", "2 P"]
    );
    assert_eq!(
        drawing(&Layout::RightAsymmetric.geometry(2, 8), 3),
        ["P 0", "1 P", "P 2"]
    );
}

/// Compares every sector of more than two turns of the layout, both ways.
fn compare_with_model(layout: Layout, members: u16, chunk: u32) {
    let rows = 2 * u64::from(members) + 1;
    let geometry = layout.geometry(u32::from(members), chunk);
    let model = deal(layout, members, chunk, rows);
    let what = format!("{layout:?}, {members} members, chunk {chunk}");

    for (sector, place) in (0u64..).zip(&model.places) {
        let found = geometry.locate(sector);
        assert_eq!(
            (found.stripe, found.index, found.member, found.member_sector),
            (place.row, place.column, place.member, place.member_sector),
            "{what}: array sector {sector} as (stripe, column, member, member sector)"
        );
        assert_eq!(
            geometry.array_sector(found.member, found.member_sector),
            Some(sector),
            "{what}: back from {found:?}"
        );
        assert_eq!(
            geometry.stripe_of_array(sector),
            place.row,
            "{what}: stripe of array sector {sector}"
        );
        assert_eq!(
            geometry.column_start(place.member_sector, place.column),
            Some(sector),
            "{what}: column {} at {}",
            place.column,
            place.member_sector
        );
    }
    for (member, cells) in (0u16..).zip(&model.cells) {
        assert_eq!(cells.len() as u64, rows * u64::from(chunk), "{what}");
        for (sector, &cell) in (0u64..).zip(cells) {
            let stripe = sector / u64::from(chunk);
            assert_eq!(
                geometry.stripe_of(sector),
                stripe,
                "{what}: stripe of {sector}"
            );
            let (role, array) = match cell {
                Cell::P => (Role::P, None),
                Cell::Q => (Role::Q, None),
                Cell::Array(at) => (
                    Role::Data(model.places[usize::try_from(at).unwrap()].column),
                    Some(at),
                ),
            };
            assert_eq!(
                geometry.role(stripe, member),
                role,
                "{what}: role of member {member} in stripe {stripe}"
            );
            assert_eq!(
                geometry.array_sector(member, sector),
                array,
                "{what}: array sector at {sector} of member {member}"
            );
            match role {
                Role::Data(index) => assert_eq!(
                    geometry.member_of(stripe, index),
                    member,
                    "{what}: member of column {index} of stripe {stripe}"
                ),
                Role::P => assert_eq!(
                    geometry.parity_member(stripe),
                    member,
                    "{what}: member with P of stripe {stripe}"
                ),
                Role::Q => assert_eq!(
                    geometry.q_member(stripe),
                    Some(member),
                    "{what}: member with Q of stripe {stripe}"
                ),
            }
        }
    }
    for (stripe, row) in (0u64..).zip(&model.rows) {
        compare_roles(&geometry, stripe, row, &format!("{what}, stripe {stripe}"));
    }
    assert_eq!(
        geometry.array_sectors(rows * u64::from(chunk)),
        Some(model.places.len() as u64),
        "{what}: length of the array"
    );
}

/// Compares what the members of a stripe are to parity.
fn compare_roles(geometry: &Geometry, stripe: u64, row: &Row, what: &str) {
    let roles = geometry.roles(stripe);
    assert_eq!(roles.members(), geometry.members(), "{what}: members");
    assert_eq!((roles.p(), roles.q()), (row.parity, row.q), "{what}: P, Q");
    assert_eq!(geometry.q_member(stripe), row.q, "{what}: Q");
    for member in 0..geometry.members() {
        let is_parity = member == row.parity || Some(member) == row.q;
        assert_eq!(roles.is_parity(member), is_parity, "{what}: {member}");
    }
    if row.q.is_none() {
        return;
    }
    let mut slots: Vec<_> = roles.slots_down().collect();
    slots.reverse();
    assert_eq!(slots, row.slots, "{what}: slots of Q, the lowest first");
    for member in 0..geometry.members() {
        let slot = row.slots.iter().position(|&slot| slot == Some(member));
        let exponent = roles.exponent(member).map(usize::from);
        assert_eq!(exponent, slot, "{what}: exponent of member {member}");
    }
    // Looking up members by their slots is slow: only now and then where there are many.
    if geometry.members() <= 16 || stripe % 64 == 0 {
        for slot in 0..=u8::MAX {
            assert_eq!(
                roles.member_of_slot(slot),
                row.slots.get(usize::from(slot)).copied().flatten(),
                "{what}: member of slot {slot}"
            );
        }
    }
}

#[test]
fn every_sector_lies_where_the_model_dealt_it() {
    for layout in Layout::all() {
        for members in layout.least_members()..=16 {
            for chunk in [8, 16, 64, 128, 256] {
                compare_with_model(layout, members, chunk);
            }
        }
    }
}

#[test]
fn the_widest_arrays_lie_where_the_model_dealt_them() {
    for layout in Layout::all() {
        for members in [17, 128, 254, 255] {
            compare_with_model(layout, members, 8);
        }
    }
}

#[test]
fn no_member_beyond_the_last_holds_data() {
    for layout in Layout::all() {
        let geometry = layout.geometry(5, 8);
        for member in [5, 6, 255, 256, u16::MAX] {
            for sector in 0..80 {
                assert_eq!(
                    geometry.array_sector(member, sector),
                    None,
                    "{layout:?}: member {member} of 5, sector {sector}"
                );
            }
        }
    }
}

#[test]
fn stripes_and_chunks_end_where_the_next_begin() {
    for (members, chunk) in [(2, 8), (3, 8), (4, 16), (5, 128), (16, 8)] {
        let geometry = Layout::LeftSymmetric.geometry(u32::from(members), chunk);
        let model = deal(Layout::LeftSymmetric, members, chunk, 6);
        // The first sector after this one of which `key` differs.
        let next = |sector: usize, key: fn(&super::model::Place) -> (u64, u16)| {
            let own = key(&model.places[sector]);
            let ahead = model.places[sector..].iter();
            ahead.take_while(|place| key(place) == own).count() + sector
        };
        for sector in 0..model.places.len() {
            let what = format!("{members} members, chunk {chunk}, array sector {sector}");
            let at = sector as u64;
            let stripe_end = next(sector, |place| (place.row, 0)) as u64;
            assert_eq!(geometry.stripe_end(at), stripe_end, "{what}");
            let chunk_end = next(sector, |place| (place.row, place.column)) as u64;
            assert_eq!(geometry.chunk_end(at), chunk_end, "{what}");
            let stripe = model.places[sector].row;
            assert_eq!(
                geometry.stripe_start(stripe + 1),
                Some(stripe_end),
                "{what}: start of stripe {}",
                stripe + 1
            );
        }
    }
}
