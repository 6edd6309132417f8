// SPDX-License-Identifier: GPL-2.0

//! An array dealt out like a pack of cards, row by row: what the geometry is compared with.
//!
//! No formula: the model keeps the member that parity is on and moves it along from row to row, lines the data members
//! up for each row, and lays one chunk after the other, sector by sector.

use std::collections::VecDeque;

/// A sector of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Parity.
    P,
    /// This sector of the array.
    Array(u64),
}

/// Where a sector of the array was laid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) row: u64,
    /// How many chunks of the row were laid before.
    pub(crate) column: u16,
    pub(crate) member: u16,
    pub(crate) member_sector: u64,
}

/// An array of a few rows.
#[derive(Debug)]
pub(crate) struct Model {
    /// By array sector.
    pub(crate) places: Vec<Place>,
    /// By member, then by member sector.
    pub(crate) cells: Vec<Vec<Cell>>,
}

/// What md calls the layouts of level 5, by number, and level 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    LeftAsymmetric,
    RightAsymmetric,
    LeftSymmetric,
    RightSymmetric,
    ParityFirst,
    ParityLast,
    Level4,
}

impl Layout {
    pub(crate) const ALL: [Self; 7] = [
        Self::LeftAsymmetric,
        Self::RightAsymmetric,
        Self::LeftSymmetric,
        Self::RightSymmetric,
        Self::ParityFirst,
        Self::ParityLast,
        Self::Level4,
    ];

    /// The geometry of this layout.
    pub(crate) fn geometry(self, members: u32, chunk: u32) -> crate::raid::geometry::Geometry {
        use crate::raid::geometry::{Geometry, Level};
        let (level, layout) = match self {
            Self::LeftAsymmetric => (Level::Raid5, 0),
            Self::RightAsymmetric => (Level::Raid5, 1),
            Self::LeftSymmetric => (Level::Raid5, 2),
            Self::RightSymmetric => (Level::Raid5, 3),
            Self::ParityFirst => (Level::Raid5, 4),
            Self::ParityLast => (Level::Raid5, 5),
            Self::Level4 => (Level::Raid4, 0),
        };
        Geometry::new(level, layout, members, chunk)
            .unwrap_or_else(|error| panic!("{self:?}, {members} members, chunk {chunk}: {error}"))
    }

    /// The members of a row in the order of its data chunks, when `parity` is the member with parity.
    fn line_up(self, members: u16, parity: u16) -> VecDeque<u16> {
        let mut line: VecDeque<u16> = (0..members).collect();
        if matches!(self, Self::LeftSymmetric | Self::RightSymmetric) {
            // Who stands before parity goes to the end of the line.
            while line.front() != Some(&parity) {
                line.rotate_left(1);
            }
        }
        line.retain(|&member| member != parity);
        line
    }
}

/// Lays out `rows` rows.
pub(crate) fn deal(layout: Layout, members: u16, chunk: u32, rows: u64) -> Model {
    use Layout::*;
    let mut model = Model {
        places: Vec::new(),
        cells: vec![Vec::new(); usize::from(members)],
    };
    let mut parity = match layout {
        LeftAsymmetric | LeftSymmetric | ParityLast | Level4 => members - 1,
        RightAsymmetric | RightSymmetric | ParityFirst => 0,
    };
    for row in 0..rows {
        for (column, member) in layout.line_up(members, parity).into_iter().enumerate() {
            for _ in 0..chunk {
                let cells = &mut model.cells[usize::from(member)];
                model.places.push(Place {
                    row,
                    column: u16::try_from(column).unwrap(),
                    member,
                    member_sector: cells.len() as u64,
                });
                cells.push(Cell::Array(model.places.len() as u64 - 1));
            }
        }
        for _ in 0..chunk {
            model.cells[usize::from(parity)].push(Cell::P);
        }
        match layout {
            LeftAsymmetric | LeftSymmetric if parity == 0 => parity = members - 1,
            LeftAsymmetric | LeftSymmetric => parity -= 1,
            RightAsymmetric | RightSymmetric if parity == members - 1 => parity = 0,
            RightAsymmetric | RightSymmetric => parity += 1,
            ParityFirst | ParityLast | Level4 => {}
        }
    }
    model
}
