// SPDX-License-Identifier: GPL-2.0

//! md's layout numbers, and what they stand for.

use super::geometry::Level;
use super::roles::Slots;

/// On which member a stripe's P lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParityPlace {
    /// On the same member in every stripe.
    Fixed(u16),
    /// On this member in stripe 0, then one lower with each stripe.
    Down(u16),
    /// On the first member in stripe 0, then one higher with each stripe.
    Up,
}

/// On which member a stripe's Q lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QPlace {
    /// Nowhere: not level 6.
    None,
    /// On the one after P, going round.
    AfterP,
    /// On the one before P, going round.
    BeforeP,
    /// On the last one in every stripe; P and data go round on the others, as in level 5.
    Last,
}

/// Which members a stripe's data chunks take, in array order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataOrder {
    /// From the first member up, passing over parity.
    FromFirst,
    /// From the member after parity up, and on from the first member after the last.
    FromParity,
}

/// What a layout number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where P is.
    pub(super) parity: ParityPlace,
    /// Where Q is.
    pub(super) q: QPlace,
    /// Where the data is.
    pub(super) order: DataOrder,
    /// In which order Q counts the data.
    pub(super) slots: Slots,
}

impl Layout {
    /// The layout that md knows by `number` (`ALGORITHM_*` in the kernel's raid5.h) for `members` members, at least two.
    pub(super) fn new(level: Level, number: i32, members: u16) -> Option<Self> {
        use DataOrder::{FromFirst, FromParity};
        use ParityPlace::{Down, Fixed, Up};

        let last = members.saturating_sub(1);
        // Level 6 has the layouts of level 5 with Q behind P, those of DDF, and those of level 5 with Q on one more member.
        let (number, q, slots) = match (level, number) {
            (Level::Raid4, _) => (5, QPlace::None, Slots::AfterQ),
            (Level::Raid5, 0..=5) => (number, QPlace::None, Slots::AfterQ),
            (Level::Raid6, 0..=5) => (number, QPlace::AfterP, Slots::AfterQ),
            (Level::Raid6, 8) => (1, QPlace::AfterP, Slots::EveryMember),
            (Level::Raid6, 9) => (0, QPlace::AfterP, Slots::EveryMember),
            (Level::Raid6, 10) => (2, QPlace::BeforeP, Slots::EveryMember),
            (Level::Raid6, 16..=20) => (number.saturating_sub(16), QPlace::Last, Slots::AfterQ),
            _ => return None,
        };
        // The last member that P is on.
        let high = match (level, q) {
            (Level::Raid6, QPlace::Last) => last.saturating_sub(1),
            (Level::Raid6, QPlace::AfterP) if number == 5 => last.saturating_sub(1),
            // DDF's "N restart" begins one stripe later than left asymmetric.
            (Level::Raid6, QPlace::AfterP) if number == 0 && slots == Slots::EveryMember => {
                last.saturating_sub(1)
            }
            _ => last,
        };
        let (parity, order) = match number {
            0 => (Down(high), FromFirst),
            1 => (Up, FromFirst),
            2 => (Down(high), FromParity),
            3 => (Up, FromParity),
            4 => (Fixed(0), FromFirst),
            _ => (Fixed(high), FromFirst),
        };
        Some(Self {
            parity,
            q,
            order,
            slots,
        })
    }
}
