// SPDX-License-Identifier: GPL-2.0

//! Which spans, strips and sectors a range of the array covers, against counting sector by sector.

use super::model::{deal, Layout, Model, Turn};
use crate::raid::geometry::Geometry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a range covers, counted sector by sector: by span, the sectors of each column, from the start of the span.
type Covered = BTreeMap<u64, BTreeMap<u16, BTreeSet<u32>>>;

fn count(model: &Model, span_sectors: u64, range: Range<usize>) -> Covered {
    let mut covered = Covered::new();
    for place in &model.places[range] {
        let within = place.member_sector % span_sectors;
        covered
            .entry(place.member_sector - within)
            .or_default()
            .entry(place.column)
            .or_default()
            .insert(u32::try_from(within).unwrap());
    }
    covered
}

/// Compares all answers about `range`, in the rows around it too.
fn compare(geometry: &Geometry, model: &Model, range: Range<usize>) {
    let chunk = u64::from(geometry.chunk_sectors());
    let span_sectors = u64::from(geometry.span_sectors());
    let (start, end) = (range.start as u64, range.end as u64);
    let what = format!(
        "{} members, chunk {chunk}, array sectors {range:?}",
        geometry.members()
    );
    let covered = count(model, span_sectors, range.clone());

    let spans: Vec<u64> = geometry.spans(start, end).collect();
    let expected: Vec<u64> = covered.keys().copied().collect();
    assert_eq!(spans, expected, "{what}: spans");

    let row = geometry.stripe_of_array(start);
    let from = row.saturating_sub(1) * chunk;
    for span in (from..(row + 2) * chunk).step_by(usize::try_from(span_sectors).unwrap()) {
        let mut strips = 0u16;
        for column in 0..geometry.data_disks() {
            let slice = geometry.slice(span, start, end, column);
            let sectors: BTreeSet<u32> = slice.clone().collect();
            let expected = covered
                .get(&span)
                .and_then(|columns| columns.get(&column))
                .cloned()
                .unwrap_or_default();
            assert_eq!(sectors, expected, "{what}: span {span}, column {column}");
            if sectors.is_empty() {
                assert_eq!(slice, 0..0, "{what}: span {span}, column {column}");
            }
            for sector in expected {
                strips |= 1 << (sector / 8);
            }
        }
        assert_eq!(
            geometry.touched(span, start, end).0,
            strips,
            "{what}: strips of span {span}"
        );
    }
}

/// Compares every range of sectors of the second row that begins and ends at some of `points`.
fn compare_between(layout: Layout, members: u16, chunk: u32, points: &BTreeSet<usize>) {
    let geometry = layout.geometry(u32::from(members), chunk);
    let model = deal(layout, members, chunk, 4);
    let stripe = usize::from(members - layout.parities()) * chunk as usize;
    for &start in points {
        for &end in points.range(start..) {
            if start < stripe {
                compare(&geometry, &model, stripe + start..stripe + end);
            }
        }
    }
}

#[test]
fn every_range_of_a_small_stripe() {
    for (members, chunk) in [
        (2, 8),
        (3, 8),
        (4, 8),
        (5, 8),
        (2, 16),
        (3, 16),
        (4, 16),
        (3, 32),
    ] {
        let stripe = usize::from(members - 1u16) * chunk as usize;
        compare_between(
            Layout::LeftSymmetric,
            members,
            chunk,
            &(0..=stripe).collect(),
        );
    }
    for layout in [
        Layout::Level6(Turn::LeftSymmetric),
        Layout::DdfNContinue,
        Layout::QLast(Turn::RightAsymmetric),
    ] {
        compare_between(layout, 5, 16, &(0..=48).collect());
    }
}

#[test]
fn ranges_around_the_edges_of_strips_spans_and_chunks() {
    for (members, chunk) in [(3, 128), (3, 256), (4, 256), (3, 512), (6, 64)] {
        let stripe = usize::from(members - 1u16) * chunk as usize;
        let step = if chunk > 128 { 64 } else { 32 };
        let mut points = BTreeSet::new();
        for edge in (0..=stripe).step_by(step) {
            for distance in [0, 1, 7, 8, 9] {
                points.insert((edge + distance).min(stripe));
                points.insert(edge.saturating_sub(distance));
            }
        }
        compare_between(Layout::LeftSymmetric, members, chunk, &points);
    }
}

#[test]
fn a_range_is_cut_at_the_end_of_its_stripe() {
    let geometry = Layout::LeftSymmetric.geometry(4, 256);
    let stripe = geometry.stripe_sectors();
    let ranges = [
        (0, stripe + 1),
        (stripe - 10, stripe + 10),
        (stripe - 1, 3 * stripe),
        (stripe - 200, 5 * stripe),
    ];
    for (start, end) in ranges {
        let whole: Vec<u64> = geometry.spans(start, end).collect();
        let cut: Vec<u64> = geometry.spans(start, stripe).collect();
        assert_eq!(whole, cut, "array sectors {start}..{end}");
    }
}

#[test]
fn nothing_lies_in_a_range_that_ends_before_it_begins() {
    let geometry = Layout::LeftSymmetric.geometry(4, 256);
    for (start, end) in [(0, 0), (5, 5), (9, 8), (700, 3), (u64::MAX, 0)] {
        let what = format!("array sectors {start}..{end}");
        assert_eq!(geometry.spans(start, end).count(), 0, "{what}");
        for span in [0, 128, 256] {
            assert!(geometry.touched(span, start, end).is_empty(), "{what}");
            for column in 0..3 {
                assert_eq!(geometry.slice(span, start, end, column), 0..0, "{what}");
            }
        }
    }
}

#[test]
fn sectors_belong_to_the_span_that_begins_before_them() {
    for (chunk, span_sectors) in [(8, 8u64), (16, 16), (64, 64), (128, 128), (1024, 128)] {
        let geometry = Layout::LeftSymmetric.geometry(4, chunk);
        let mut span = 0;
        for sector in 0..3000 {
            if sector == span + span_sectors {
                span = sector;
            }
            assert_eq!(geometry.span_of(sector), span, "chunk {chunk}: {sector}");
        }
    }
}

#[test]
fn the_bitmap_marks_whole_rows() {
    for (members, chunk) in [(2u16, 8u32), (3, 8), (4, 16), (5, 8)] {
        let geometry = Layout::LeftSymmetric.geometry(u32::from(members), chunk);
        let model = deal(Layout::LeftSymmetric, members, chunk, 5);
        let row_sectors = u64::from(chunk);
        for start in 0..model.places.len() {
            for end in start + 1..=model.places.len() {
                let rows: BTreeSet<u64> = model.places[start..end].iter().map(|p| p.row).collect();
                let first = rows.first().unwrap() * row_sectors;
                let last = (rows.last().unwrap() + 1) * row_sectors;
                assert_eq!(
                    geometry.bitmap_range(start as u64, (end - start) as u64),
                    first..last,
                    "{members} members, chunk {chunk}, array sectors {start}..{end}"
                );
            }
            assert!(
                geometry.bitmap_range(start as u64, 0).is_empty(),
                "{members} members, chunk {chunk}, nothing at {start}"
            );
        }
    }
}
