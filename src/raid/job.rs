// SPDX-License-Identifier: GPL-2.0

//! What a span asks of the world around it: facts about the array, strip kits, and jobs on pages.

use super::column::Column;
use super::count::Count;
use super::geometry::Geometry;
use super::part::Parts;
use super::strips::Strips;

/// How a write makes the new parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Read-modify-write: the old parity changed by the difference of old and new data.
    Rmw,
    /// Reconstruct-write: from all data blocks.
    Rcw,
    /// There is no member to hold parity: data alone is written.
    NoParity,
}

/// Work on the pages of some strips, done by the CPU or an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Copy the sectors of the active write parts, in the order of the parts, into the blocks that are dirty, and make the
    /// parity marked in [`Column::rebuild`].
    Write(Method),
    /// Compute the blocks marked in [`Column::rebuild`] from the other blocks of their strip: as many as there are parities
    /// at most. All data is marked or in memory. Parity that is neither is lost too, or was not read, and is not used.
    Recover,
    /// Copy blocks to the active read parts, except strips in [`super::part::Part::failed`].
    Deliver,
    /// Compare the parity that is in memory with data, and mark in [`Column::rebuild`] that which does not match.
    Check,
    /// Make the parity marked in [`Column::rebuild`] from the data blocks in memory.
    Parity,
    /// Find the one block of each strip by which both parities do not match, make it right in memory, and mark it in
    /// [`Column::rebuild`]. Where there is no such block nothing is changed. All blocks are in memory.
    Locate,
}

/// What a device can do that is to replace a member: one that still works, as a rule. Both have the member's slot, writes go to
/// both, and the member can be read where either can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    /// The strips that it can be written at: none if it has failed.
    pub(crate) takes: Strips,
    /// The strips that a sync does not give it: it can be read there, and would count as holding them after an assembly too.
    pub(crate) holds: Strips,
}

/// How far a job has come when it has been handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has ended.
    Done {
        /// The strips whose parity does not match ([`Job::Check`] only).
        mismatch: Strips,
        /// The strips for which it could not be done: a fault of whoever runs jobs. Nothing in memory of them may be used.
        undone: Strips,
    },
    /// It goes on elsewhere; [`super::span::Span::job_done`] is called later.
    Pending,
}

/// The world around a span, as its runner sees it during one step.
///
/// Nothing here sleeps.
pub(crate) trait Env {
    /// The accepted parts, with whatever of their requests jobs need.
    type Parts: Parts;

    /// Where blocks and parity are.
    fn geometry(&self) -> &Geometry;

    /// The strips that `member` can be read at: it, or its replacement, is in sync there and knows of no bad block.
    fn readable(&self, member: usize) -> Strips;

    /// The strips that `member` can be written at: it is present and has not failed. That its replacement can is not meant.
    fn writable(&self, member: usize) -> Strips;

    /// What the device can do that is to replace `member`, if there is one, failed or not. It may become the member at any time: who
    /// asks for both asks for this first.
    fn replacement(&self, member: usize) -> Option<Replacement>;

    /// The strips where parity is known to match data: they lie below the resync offset. Elsewhere no write may go by it.
    fn parity_known(&self) -> Strips;

    /// The strips where a mismatch means that something has changed a block, so that the wrong one may be looked for: those where
    /// parity is known, and those that a sync of known parity has not come to. A sync that is interrupted leaves the latter above
    /// the resync offset.
    fn parity_trusted(&self) -> Strips;

    /// Which of RMW and RCW is preferred.
    fn rmw_level(&self) -> RmwLevel;

    /// Which of `strips`, that have accepted writes and have not started, more writes may still join.
    ///
    /// A log may have rules of its own; without one, all of them.
    fn may_join(&self, strips: Strips) -> Strips {
        strips
    }

    /// Whether every failure of a member known so far is recorded in the metadata.
    ///
    /// No write may be acknowledged that a failed member did not take before this holds: after a crash the array would be
    /// assembled with that member and its old blocks. Asked only for strips with a lost block, or one that could not be
    /// written; whoever has seen that a member failed must not get `true` before the metadata says so too, so the error
    /// handler has to raise this flag before it fails the member.
    fn failures_recorded(&self) -> bool;

    /// Whether more members are lost than parity makes up for. Nothing that changes what the array holds is written then: those that
    /// were lost last may be brought back, and are to match the others.
    ///
    /// Whoever has seen that a member failed, and asked [`Self::failures_recorded`] after that, is told the truth.
    fn array_failed(&self) -> bool;

    /// Whether flush number `seq` of the write-intent bitmap has ended.
    fn bitmap_flushed(&self, seq: u32) -> bool;

    /// Takes kits (the pages of a strip on all members) for some strips and returns those that got one. All or nothing for
    /// each strip.
    fn take_kits(&mut self, strips: Strips) -> Strips;

    /// Gives back the kits of `strips`.
    fn give_kits(&mut self, strips: Strips);

    /// Runs a job on `strips`, whose blocks have no I/O in flight.
    fn run(
        &mut self,
        job: Job,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut Self::Parts,
    ) -> Outcome;

    /// Parity of `strips` was found not to match data.
    fn mismatch(&mut self, strips: Strips);

    /// The block of `member` was found to be the one that is wrong in `strips`, and is mended.
    fn located(&mut self, member: usize, strips: Strips);

    /// Parity of `strips` does not match, and it cannot be told which block is wrong: they stay as they are.
    fn unlocated(&mut self, strips: Strips);

    /// A sync of `strips` has failed, and had no block for `member`: whoever is being brought in sync in its place lacks it.
    fn not_synced(&mut self, member: usize, strips: Strips);

    /// Blocks of `member` that could not be read have been written again.
    fn corrected(&mut self, member: usize, strips: Strips);

    /// Counts `n` of something, for statistics.
    fn count(&mut self, what: Count, n: u32);
}

/// The sysfs file rmw_level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RmwLevel {
    /// 0: always reconstruct-write, where it is possible.
    Disable,
    /// 1: read-modify-write where it reads fewer blocks, or as many and computes with fewer; of what is written in sequence, where it
    /// reads less than half as many.
    #[default]
    Enable,
    /// 2: read-modify-write where it reads no more blocks.
    Prefer,
}
