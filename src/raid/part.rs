// SPDX-License-Identifier: GPL-2.0

//! Parts: what one request wants of one span.

use super::strips::Strips;

/// What a part asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    /// Copy blocks to the request.
    Read,
    /// Change blocks, and parity with them.
    Write,
    /// Have the members forget the blocks of whole strips, parity too: all are zeroes after that.
    Discard,
    /// Make the blocks and parity of all members agree, rebuilding members that are not in sync.
    Sync {
        /// Only count strips whose parity does not match, and leave it so.
        check: bool,
        /// In a strip whose parity does not match, and of which no block is lost, look for the one wrong block and mend
        /// that; leave the strip alone if it is not one. Needs two parities.
        locate: bool,
        /// Give their blocks to replacements of members that lack them.
        replace: bool,
    },
}

/// Whether strips that a write does not fill may wait for more writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// They start at once.
    No,
    /// More may come at once: the submitter holds a plug, and tells the span when he lets go.
    Plug,
    /// The submitter writes in sequence. Who runs the span has it looked after, and released in time: see
    /// [`Waits::rest`](super::span::Waits::rest).
    Stream,
    /// He does, and holds a plug: it is to be looked after when he has let go.
    PluggedStream,
}

impl Hold {
    /// Whether the submitter writes in sequence.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::PluggedStream)
    }

    /// What is left of it when the submitter's plug is released.
    pub(super) fn unplugged(self) -> Self {
        match self {
            Self::No | Self::Plug => Self::No,
            Self::Stream | Self::PluggedStream => Self::Stream,
        }
    }
}

/// What one request wants of one span, strip by strip.
///
/// A part belongs to exactly one of its strips' queues at a time: a strip of it is first `todo`, then `active`, then in
/// neither. The part is complete when both are empty.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it asks for.
    pub(crate) kind: PartKind,
    /// First array sector of the request within this stripe. Not used by sync parts.
    pub(crate) start: u64,
    /// Array sector behind the request's last one within this stripe. Not used by sync parts.
    pub(crate) end: u64,
    /// The written blocks, parity included, must be durable before the part completes.
    pub(crate) fua: bool,
    /// The submitter waits for it: member writes are marked synchronous.
    pub(crate) sync: bool,
    /// Its submitter writes in sequence: he is likely to write the rest of the stripe before long.
    pub(crate) sequential: bool,
    /// More writes may follow: strips that are not full need not start yet.
    pub(crate) hold: Hold,
    /// Of a stream: strips that are full wait as well, for as long as one beside them is waited for. Members take so long that two
    /// bios after each other are worse.
    pub(crate) packs: bool,
    /// The flush of the write-intent bitmap that must have ended before its blocks are written.
    pub(crate) bitmap_seq: Option<u32>,
    /// It was counted among those that waited for others.
    pub(super) waited: bool,
    /// Strips that wait to be accepted.
    pub(super) todo: Strips,
    /// Strips that are being worked on.
    pub(super) active: Strips,
    /// Strips that could not be served.
    pub(super) failed: Strips,
    /// Strips of a sync that were made right in memory, and of which some block could not be written.
    pub(super) unstored: Strips,
}

impl Part {
    /// A part that wants `strips`; `start..end` are the array sectors of the request within the stripe.
    pub(crate) fn new(kind: PartKind, strips: Strips, start: u64, end: u64) -> Self {
        Self {
            kind,
            start,
            end,
            fua: false,
            sync: false,
            sequential: false,
            hold: Hold::No,
            packs: false,
            bitmap_seq: None,
            waited: false,
            todo: strips,
            active: Strips::NONE,
            failed: Strips::NONE,
            unstored: Strips::NONE,
        }
    }

    /// The strips that it wants and that have not ended.
    pub(crate) fn strips(&self) -> Strips {
        self.todo | self.active
    }

    /// The strips that are being worked on.
    pub(crate) fn active(&self) -> Strips {
        self.active
    }

    /// The strips that could not be served.
    pub(crate) fn failed(&self) -> Strips {
        self.failed
    }

    /// The strips of a sync of which some block could not be written; that it was not is recorded for its own member. None of
    /// [`Self::failed`].
    pub(crate) fn unstored(&self) -> Strips {
        self.unstored
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_complete(&self) -> bool {
        (self.todo | self.active).is_empty()
    }
}

/// The accepted parts of a span, in the order in which they came.
pub(crate) trait Parts {
    /// Calls `keep` for each part in order, and removes and completes those for which it returns false.
    ///
    /// A removed part is complete; it failed if [`Part::failed`] is not empty.
    fn retain(&mut self, keep: &mut dyn FnMut(&mut Part) -> bool);
}
