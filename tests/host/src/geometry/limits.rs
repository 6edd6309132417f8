// SPDX-License-Identifier: GPL-2.0

//! Any arguments, up to the last sector that 64 bits can name, against arithmetic in 128 bits.
//!
//! The seed is fixed; `PROPTEST_RNG_SEED=N PROPTEST_CASES=N cargo test geometry::limits` runs other and more cases.

use super::model::Layout;
use crate::raid::geometry::{Geometry, Role};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.max(20_000),
        failure_persistence: None,
        rng_seed: match default.rng_seed {
            RngSeed::Random => RngSeed::Fixed(456),
            fixed @ RngSeed::Fixed(_) => fixed,
        },
        ..default
    }
}

fn geometries() -> impl Strategy<Value = Geometry> {
    let members = prop_oneof![2u32..=16, 2u32..=255];
    let chunk_shift = prop_oneof![3u32..=8, 3u32..=22];
    let layouts: Vec<_> = Layout::all().collect();
    (0..layouts.len(), members, chunk_shift).prop_map(move |(layout, members, shift)| {
        let layout = layouts[layout];
        layout.geometry(members.max(layout.least_members().into()), 1 << shift)
    })
}

/// Sectors of all sizes, many of them near the ends of the scale and near powers of two.
fn sectors() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..10_000,
        (0u64..10_000).prop_map(|below| u64::MAX - below),
        (0u32..64, 0u64..2000).prop_map(|(bit, above)| (1u64 << bit).saturating_add(above)),
        (0u32..64, 0u64..2000).prop_map(|(bit, below)| (1u64 << bit).saturating_sub(below)),
    ]
}

/// A number that exists in 64 bits.
fn fits(number: u128) -> Option<u64> {
    u64::try_from(number).ok()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_array_sector_has_a_place_and_a_way_back(geometry in geometries(), sector in sectors()) {
        let at = geometry.locate(sector);
        let chunk = u128::from(geometry.chunk_sectors());
        let data = u128::from(geometry.data_disks());
        prop_assert!(at.member < geometry.members());
        prop_assert!(at.index < geometry.data_disks());
        prop_assert_ne!(at.member, geometry.parity_member(at.stripe));
        prop_assert_ne!(Some(at.member), geometry.q_member(at.stripe));
        prop_assert_eq!(geometry.role(at.stripe, at.member), Role::Data(at.index));
        prop_assert_eq!(geometry.member_of(at.stripe, at.index), at.member);
        prop_assert_eq!(u128::from(at.stripe), u128::from(sector) / (chunk * data));
        prop_assert_eq!(u128::from(at.index), u128::from(sector) / chunk % data);
        prop_assert_eq!(
            u128::from(at.member_sector),
            u128::from(at.stripe) * chunk + u128::from(sector) % chunk
        );
        prop_assert_eq!(geometry.array_sector(at.member, at.member_sector), Some(sector));
        prop_assert_eq!(geometry.column_start(at.member_sector, at.index), Some(sector));
    }

    #[test]
    fn every_member_sector_has_a_role_and_a_way_back(
        geometry in geometries(),
        member in 0u16..255,
        sector in sectors(),
    ) {
        let member = member % geometry.members();
        let stripe = geometry.stripe_of(sector);
        let found = geometry.array_sector(member, sector);
        match geometry.role(stripe, member) {
            Role::Data(index) => {
                prop_assert!(index < geometry.data_disks());
                prop_assert_eq!(geometry.member_of(stripe, index), member);
                let chunk = u128::from(geometry.chunk_sectors());
                let number = u128::from(stripe) * u128::from(geometry.data_disks()) + u128::from(index);
                prop_assert_eq!(found, fits(number * chunk + u128::from(sector) % chunk));
                prop_assert_eq!(geometry.column_start(sector, index), found);
            }
            Role::P => {
                prop_assert_eq!(geometry.parity_member(stripe), member);
                prop_assert_eq!(found, None);
            }
            Role::Q => {
                prop_assert_eq!(geometry.q_member(stripe), Some(member));
                prop_assert_eq!(found, None);
            }
        }
        if let Some(array_sector) = found {
            let at = geometry.locate(array_sector);
            prop_assert_eq!((at.member, at.member_sector), (member, sector));
        }
    }

    #[test]
    fn members_and_columns_out_of_range_are_taken_for_the_last(
        geometry in geometries(),
        stripe in sectors(),
        beyond in any::<u16>(),
    ) {
        let last = geometry.members() - 1;
        prop_assert_eq!(
            geometry.role(stripe, last.saturating_add(beyond)),
            geometry.role(stripe, last)
        );
        let column = geometry.data_disks() - 1;
        prop_assert_eq!(
            geometry.member_of(stripe, column.saturating_add(beyond)),
            geometry.member_of(stripe, column)
        );
        prop_assert_eq!(
            geometry.column_start(stripe, column.saturating_add(beyond)),
            geometry.column_start(stripe, column)
        );
    }

    #[test]
    fn lengths_and_ends_are_exact_or_none(geometry in geometries(), sector in sectors()) {
        let chunk = u128::from(geometry.chunk_sectors());
        let stripe_sectors = chunk * u128::from(geometry.data_disks());
        let wide = u128::from(sector);
        prop_assert_eq!(u128::from(geometry.stripe_sectors()), stripe_sectors);
        prop_assert_eq!(
            geometry.array_sectors(sector),
            fits(wide / chunk * stripe_sectors)
        );
        prop_assert_eq!(geometry.stripe_start(sector), fits(wide * stripe_sectors));
        prop_assert_eq!(
            geometry.stripe_end(sector),
            fits((wide / stripe_sectors + 1) * stripe_sectors).unwrap_or(u64::MAX)
        );
        prop_assert_eq!(
            geometry.chunk_end(sector),
            fits((wide / chunk + 1) * chunk).unwrap_or(u64::MAX)
        );
        let span = u128::from(geometry.span_sectors());
        prop_assert_eq!(u128::from(geometry.span_of(sector)), wide / span * span);
    }

    #[test]
    fn the_bitmap_covers_the_range(
        geometry in geometries(),
        offset in sectors(),
        sectors in sectors(),
    ) {
        let chunk = u128::from(geometry.chunk_sectors());
        let stripe = chunk * u128::from(geometry.data_disks());
        let rows = geometry.bitmap_range(offset, sectors);
        let first = u128::from(offset) / stripe * chunk;
        // One sector less than 64 bits can count: where the last row ends is not always a number.
        let end = (u128::from(offset) + u128::from(sectors)).min(u128::from(u64::MAX));
        let past = end.div_ceil(stripe) * chunk;
        prop_assert_eq!(u128::from(rows.start), first);
        if sectors > 0 && offset < u64::MAX {
            let expected = fits(past).unwrap_or(u64::MAX / chunk as u64 * chunk as u64);
            prop_assert_eq!(rows.end, expected);
        }
    }

    #[test]
    fn slices_add_up_to_the_range(
        geometry in geometries(),
        start in sectors(),
        length in prop_oneof![0u64..300, 0u64..100_000, 0u64..10_000_000],
    ) {
        let end = start.saturating_add(length);
        let cut = end.min(geometry.stripe_end(start));
        let mut sum = 0u64;
        let mut before = None;
        let spans: Vec<u64> = geometry.spans(start, end).collect();
        for (number, &span) in spans.iter().enumerate() {
            prop_assert_eq!(geometry.span_of(span), span);
            prop_assert!(before < Some(span), "spans rise: {:?} then {}", before, span);
            before = Some(span);
            let touched = geometry.touched(span, start, cut);
            prop_assert!(!touched.is_empty(), "span {} of {:?}", span, spans);
            prop_assert!(geometry.all_strips().contains(touched));
            // Of many spans, only the columns of the first and last hundred are looked at, for time's sake.
            if spans.len() > 200 && (100..spans.len() - 100).contains(&number) {
                continue;
            }
            for column in 0..geometry.data_disks() {
                let slice = geometry.slice(span, start, cut, column);
                prop_assert!(slice.end <= geometry.span_sectors());
                sum += u64::from(slice.end - slice.start);
            }
        }
        if spans.len() <= 200 {
            prop_assert_eq!(sum, cut - start);
        }
    }

    #[test]
    fn any_arguments_get_an_answer(
        geometry in geometries(),
        span in sectors(),
        start in sectors(),
        end in sectors(),
        index in any::<u16>(),
    ) {
        let slice = geometry.slice(span, start, end, index);
        prop_assert!(slice.start <= slice.end && slice.end <= geometry.span_sectors());
        let touched = geometry.touched(span, start, end);
        prop_assert!(geometry.all_strips().contains(touched));
        prop_assert!(geometry.spans(start, end).take(100).all(|at| geometry.span_of(at) == at));
        prop_assert!(geometry.member_of(start, index) < geometry.members());
        let _ = geometry.role(start, index);
        let roles = geometry.roles(start);
        prop_assert!(roles.p() < geometry.members());
        prop_assert!(roles.q().is_none_or(|q| q < geometry.members() && q != roles.p()));
        prop_assert_eq!(roles.exponent(index).is_some(), index < geometry.members() && !roles.is_parity(index));
        let _ = roles.member_of_slot(index as u8);
        let _ = geometry.array_sector(index, start);
    }
}
