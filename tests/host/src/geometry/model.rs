// SPDX-License-Identifier: GPL-2.0

//! An array dealt out like a pack of cards, row by row: what the geometry is compared with.
//!
//! No formula: the model keeps the member that P is on and moves it along from row to row, puts Q beside it, lines the data
//! members up for each row, and lays one chunk after the other, sector by sector. Q counts the data members in an order of
//! its own, for which they are lined up once more.

use crate::raid::geometry::{Geometry, Level};
use std::collections::VecDeque;

/// A sector of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// The first parity.
    P,
    /// The second parity of level 6.
    Q,
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
    pub(crate) rows: Vec<Row>,
}

/// What a row's members are to parity.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) parity: u16,
    pub(crate) q: Option<u16>,
    /// The members in the order in which Q counts them; `None` where zeros count.
    pub(crate) slots: Vec<Option<u16>>,
}

/// What md calls the layouts of level 5, by number, and level 4; then those of level 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    LeftAsymmetric,
    RightAsymmetric,
    LeftSymmetric,
    RightSymmetric,
    ParityFirst,
    ParityLast,
    Level4,
    /// Level 6, with Q behind P.
    Level6(Turn),
    /// Level 6 as DDF has it, number 8: "rotating zero restart".
    DdfZeroRestart,
    /// Number 9: "rotating N restart".
    DdfNRestart,
    /// Number 10: "rotating N continue".
    DdfNContinue,
    /// A layout of level 5 on all members but the last, and Q on that: what level 5 is reshaped to.
    QLast(Turn),
}

/// How P moves along, and where data begins: the layouts of level 5 without their level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    LeftAsymmetric,
    RightAsymmetric,
    LeftSymmetric,
    RightSymmetric,
    ParityFirst,
    ParityLast,
}

impl Layout {
    pub(crate) const ONE_PARITY: [Self; 7] = [
        Self::LeftAsymmetric,
        Self::RightAsymmetric,
        Self::LeftSymmetric,
        Self::RightSymmetric,
        Self::ParityFirst,
        Self::ParityLast,
        Self::Level4,
    ];

    pub(crate) const LEVEL_6: [Self; 14] = [
        Self::Level6(Turn::LeftAsymmetric),
        Self::Level6(Turn::RightAsymmetric),
        Self::Level6(Turn::LeftSymmetric),
        Self::Level6(Turn::RightSymmetric),
        Self::Level6(Turn::ParityFirst),
        Self::Level6(Turn::ParityLast),
        Self::DdfZeroRestart,
        Self::DdfNRestart,
        Self::DdfNContinue,
        Self::QLast(Turn::LeftAsymmetric),
        Self::QLast(Turn::RightAsymmetric),
        Self::QLast(Turn::LeftSymmetric),
        Self::QLast(Turn::RightSymmetric),
        Self::QLast(Turn::ParityFirst),
    ];

    /// Every layout of every level.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::ONE_PARITY.into_iter().chain(Self::LEVEL_6)
    }

    /// The level, and the number of the layout there.
    pub(crate) fn numbers(self) -> (Level, i32) {
        match self {
            Self::Level4 => (Level::Raid4, 0),
            Self::LeftAsymmetric
            | Self::RightAsymmetric
            | Self::LeftSymmetric
            | Self::RightSymmetric
            | Self::ParityFirst
            | Self::ParityLast => (Level::Raid5, self.turn().number()),
            Self::Level6(turn) => (Level::Raid6, turn.number()),
            Self::DdfZeroRestart => (Level::Raid6, 8),
            Self::DdfNRestart => (Level::Raid6, 9),
            Self::DdfNContinue => (Level::Raid6, 10),
            Self::QLast(turn) => (Level::Raid6, 16 + turn.number()),
        }
    }

    /// How many members of a row hold parity.
    pub(crate) fn parities(self) -> u16 {
        if self.numbers().0 == Level::Raid6 {
            2
        } else {
            1
        }
    }

    /// The fewest members that it works with.
    pub(crate) fn least_members(self) -> u16 {
        2 * self.parities()
    }

    /// The geometry of this layout.
    pub(crate) fn geometry(self, members: u32, chunk: u32) -> Geometry {
        let (level, layout) = self.numbers();
        Geometry::new(level, layout, members, chunk)
            .unwrap_or_else(|error| panic!("{self:?}, {members} members, chunk {chunk}: {error}"))
    }

    fn turn(self) -> Turn {
        match self {
            Self::LeftAsymmetric | Self::DdfNRestart => Turn::LeftAsymmetric,
            Self::RightAsymmetric | Self::DdfZeroRestart => Turn::RightAsymmetric,
            Self::LeftSymmetric | Self::DdfNContinue => Turn::LeftSymmetric,
            Self::RightSymmetric => Turn::RightSymmetric,
            Self::ParityFirst => Turn::ParityFirst,
            Self::ParityLast | Self::Level4 => Turn::ParityLast,
            Self::Level6(turn) | Self::QLast(turn) => turn,
        }
    }

    /// The members that P and data go round on.
    fn ring(self, members: u16) -> VecDeque<u16> {
        let mut ring: VecDeque<u16> = (0..members).collect();
        if matches!(self, Self::QLast(_)) {
            ring.pop_back();
        }
        ring
    }

    /// The member that Q is on while P is on `parity`, if there is a Q.
    fn q_beside(self, members: u16, parity: u16) -> Option<u16> {
        let mut ring: VecDeque<u16> = (0..members).collect();
        while ring.front() != Some(&parity) {
            ring.rotate_left(1);
        }
        match self {
            Self::Level6(_) | Self::DdfZeroRestart | Self::DdfNRestart => ring.get(1).copied(),
            Self::DdfNContinue => ring.back().copied(),
            Self::QLast(_) => Some(members - 1),
            _ => None,
        }
    }

    /// The members of a row in the order of its data chunks, when P is on member `parity`.
    fn line_up(self, members: u16, parity: u16) -> VecDeque<u16> {
        let mut line = self.ring(members);
        if matches!(self.turn(), Turn::LeftSymmetric | Turn::RightSymmetric) {
            // Who stands before parity goes to the end of the line.
            while line.front() != Some(&parity) {
                line.rotate_left(1);
            }
        }
        let q = self.q_beside(members, parity);
        line.retain(|&member| member != parity && Some(member) != q);
        line
    }

    /// The members of a row in the order in which Q counts them: the first with 2^0. `None` counts for nothing.
    fn count_for_q(self, members: u16, parity: u16) -> Vec<Option<u16>> {
        let Some(q) = self.q_beside(members, parity) else {
            return Vec::new();
        };
        let mut line: VecDeque<u16> = (0..members).collect();
        let ddf = [Self::DdfZeroRestart, Self::DdfNRestart, Self::DdfNContinue];
        if ddf.contains(&self) {
            let data = |member| (member != parity && member != q).then_some(member);
            return line.into_iter().map(data).collect();
        }
        while line.back() != Some(&q) {
            line.rotate_left(1);
        }
        line.retain(|&member| member != parity && member != q);
        line.into_iter().map(Some).collect()
    }
}

impl Turn {
    fn number(self) -> i32 {
        match self {
            Self::LeftAsymmetric => 0,
            Self::RightAsymmetric => 1,
            Self::LeftSymmetric => 2,
            Self::RightSymmetric => 3,
            Self::ParityFirst => 4,
            Self::ParityLast => 5,
        }
    }
}

/// Lays out `rows` rows.
pub(crate) fn deal(layout: Layout, members: u16, chunk: u32, rows: u64) -> Model {
    let mut model = Model {
        places: Vec::new(),
        cells: vec![Vec::new(); usize::from(members)],
        rows: Vec::new(),
    };
    // Who has P stands in front.
    let mut ring = layout.ring(members);
    match layout.turn() {
        Turn::LeftAsymmetric | Turn::LeftSymmetric | Turn::ParityLast => ring.rotate_right(1),
        Turn::RightAsymmetric | Turn::RightSymmetric | Turn::ParityFirst => {}
    }
    if layout == Layout::DdfNRestart || layout == Layout::Level6(Turn::ParityLast) {
        // Q begins on the last member, and P before it.
        ring.rotate_right(1);
    }
    for row in 0..rows {
        let parity = ring[0];
        let q = layout.q_beside(members, parity);
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
            if let Some(q) = q {
                model.cells[usize::from(q)].push(Cell::Q);
            }
        }
        model.rows.push(Row {
            parity,
            q,
            slots: layout.count_for_q(members, parity),
        });
        match layout.turn() {
            Turn::LeftAsymmetric | Turn::LeftSymmetric => ring.rotate_right(1),
            Turn::RightAsymmetric | Turn::RightSymmetric => ring.rotate_left(1),
            Turn::ParityFirst | Turn::ParityLast => {}
        }
    }
    model
}
