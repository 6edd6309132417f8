// SPDX-License-Identifier: GPL-2.0

//! The phases of a strip, which of them may follow which, and the phase of every strip of a span.
//!
//! State belongs to the strip, not to one member's block of it: parity ties the blocks of a strip together, so they
//! move together. A span keeps one [`Strips`] set for each phase and moves many strips with a few word operations.

use super::strips::Strips;

/// What a strip is doing. Each strip is in exactly one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing to do; its blocks may be cached.
    Idle,
    /// It has accepted writes and waits for more of them to join.
    Gathering,
    /// It waits for blocks to be read from members.
    Reading,
    /// A job copies data, makes parity or recovers a lost block.
    Computing,
    /// A job compares parity with data (resync, check, repair).
    Checking,
    /// A job makes parity that did not match, or finds the block that is wrong (resync, repair).
    Repairing,
    /// Its blocks are ready to be written and wait until what must be durable first is: the write-intent bitmap, the
    /// superblock that records a failed member; later the journal or the partial parity log.
    Logging,
    /// It waits for member writes, then for failures of them to be recorded.
    Writing,
    /// Its work has ended and its parts are being completed.
    Done,
}

impl Phase {
    /// Every phase, in the order of the work.
    #[cfg_attr(MODULE, expect(dead_code, reason = "for tests"))]
    pub(crate) const ALL: [Self; 9] = [
        Self::Idle,
        Self::Gathering,
        Self::Reading,
        Self::Computing,
        Self::Checking,
        Self::Repairing,
        Self::Logging,
        Self::Writing,
        Self::Done,
    ];

    /// The phases that may follow this one. This table is the whole truth; Documentation/architecture.md shows it.
    pub(crate) const fn next(self) -> &'static [Self] {
        match self {
            Self::Idle => &[Self::Gathering, Self::Reading],
            Self::Gathering => &[Self::Reading],
            Self::Reading => &[Self::Computing, Self::Checking, Self::Logging, Self::Done],
            Self::Computing => &[Self::Reading, Self::Logging, Self::Done],
            Self::Checking => &[Self::Repairing, Self::Logging, Self::Done],
            Self::Repairing => &[Self::Logging, Self::Done],
            Self::Logging => &[Self::Writing, Self::Done],
            Self::Writing => &[Self::Done],
            Self::Done => &[Self::Idle],
        }
    }

    /// Whether a strip may go from this phase to `to`.
    pub(crate) fn may_become(self, to: Self) -> bool {
        self.next().contains(&to)
    }
}

/// The phase of each strip of a span.
///
/// # Invariants
///
/// The sets are disjoint; a strip in none of them is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phases {
    gathering: Strips,
    reading: Strips,
    computing: Strips,
    checking: Strips,
    repairing: Strips,
    logging: Strips,
    writing: Strips,
    done: Strips,
    /// How often strips have changed phase.
    moves: u32,
}

impl Phases {
    /// The strips in `phase`. For [`Phase::Idle`] this includes strips that the span does not have.
    pub(crate) fn of(&self, phase: Phase) -> Strips {
        match phase {
            Phase::Idle => !self.busy(),
            Phase::Gathering => self.gathering,
            Phase::Reading => self.reading,
            Phase::Computing => self.computing,
            Phase::Checking => self.checking,
            Phase::Repairing => self.repairing,
            Phase::Logging => self.logging,
            Phase::Writing => self.writing,
            Phase::Done => self.done,
        }
    }

    /// The strips that are not idle.
    pub(crate) fn busy(&self) -> Strips {
        self.gathering
            | self.reading
            | self.computing
            | self.checking
            | self.repairing
            | self.logging
            | self.writing
            | self.done
    }

    /// Moves the strips of `strips` from one phase to another: the one way in which phases change.
    ///
    /// Strips that are not in `from` stay where they are; debug builds assert that there are none and that the table
    /// of [`Phase::next`] allows the change.
    pub(crate) fn advance(&mut self, strips: Strips, from: Phase, to: Phase) {
        debug_assert!(
            from.may_become(to),
            "strips {strips:?} may not go from {from:?} to {to:?}"
        );
        debug_assert!(
            self.of(from).contains(strips),
            "strips {strips:?} are not all in {from:?}"
        );
        let moved = strips & self.of(from);
        if moved.is_empty() {
            return;
        }
        self.moves = self.moves.wrapping_add(1);
        if let Some(set) = self.set(from) {
            *set -= moved;
        }
        if let Some(set) = self.set(to) {
            *set |= moved;
        }
    }

    /// How often strips have changed phase: by this a step sees that something moved, even in a circle. It wraps.
    pub(crate) fn moves(&self) -> u32 {
        self.moves
    }

    /// The set that holds the strips of `phase`; idle strips are in none.
    fn set(&mut self, phase: Phase) -> Option<&mut Strips> {
        match phase {
            Phase::Idle => None,
            Phase::Gathering => Some(&mut self.gathering),
            Phase::Reading => Some(&mut self.reading),
            Phase::Computing => Some(&mut self.computing),
            Phase::Checking => Some(&mut self.checking),
            Phase::Repairing => Some(&mut self.repairing),
            Phase::Logging => Some(&mut self.logging),
            Phase::Writing => Some(&mut self.writing),
            Phase::Done => Some(&mut self.done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_can_be_reached_and_left() {
        for phase in Phase::ALL {
            assert!(!phase.next().is_empty(), "{phase:?} is a dead end");
            let reached = Phase::ALL.iter().any(|from| from.may_become(phase));
            assert!(reached, "no phase leads to {phase:?}");
        }
    }

    #[test]
    fn a_strip_is_in_one_phase_whatever_happens() {
        let mut phases = Phases::default();
        let path = [
            Phase::Idle,
            Phase::Gathering,
            Phase::Reading,
            Phase::Computing,
            Phase::Logging,
            Phase::Writing,
            Phase::Done,
            Phase::Idle,
        ];
        let strips = Strips::range(3, 5);
        for pair in path.windows(2) {
            phases.advance(strips, pair[0], pair[1]);
            for phase in Phase::ALL {
                let expected = if phase == pair[1] {
                    strips
                } else {
                    Strips::NONE
                };
                assert_eq!(
                    phases.of(phase) & strips,
                    expected,
                    "after {pair:?}, in {phase:?}"
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "may not go from")]
    fn an_illegal_change_is_caught_in_debug_builds() {
        Phases::default().advance(Strips::one(0), Phase::Idle, Phase::Writing);
    }
}
