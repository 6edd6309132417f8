// SPDX-License-Identifier: GPL-2.0

//! One member's blocks of a span: which are valid in memory, which are changed, which are on their way.

use super::strips::{Run, Strips, SPAN_STRIPS, STRIP_SECTORS};
use core::ops::Range;

/// The state of one member's blocks in a span; one bit for each strip.
///
/// Only the runner of the span touches it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Column {
    /// The block in memory is what the array holds at this place (the member itself may have lost it).
    pub(crate) uptodate: Strips,
    /// Accepted reads want the block.
    pub(crate) wanted: Strips,
    /// Accepted writes change some sectors of the block that are not yet copied in.
    pub(crate) dirty: Strips,
    /// Accepted writes change every sector of the block.
    pub(crate) full: Strips,
    /// The block in memory differs from the member's and has to be written.
    pub(crate) modified: Strips,
    /// A job makes the block from the other members' blocks: it is lost, or parity, or was found to be wrong.
    pub(crate) rebuild: Strips,
    /// The member cannot give the block: it is missing, not in sync there, or a read of it failed.
    pub(crate) lost: Strips,
    /// The member should have been able to give the block, but reading it failed.
    pub(crate) read_error: Strips,
    /// The member could take a write when the strip was last planned. Only of use for parity, and for all in a sync.
    pub(super) storable: Strips,
    /// The block should have been written and is not on the member: the write failed, or there was no member.
    pub(crate) failed: Strips,
    /// To be read, and not yet handed to the member.
    pub(crate) read: Strips,
    /// To be written, and not yet handed to the member.
    pub(crate) write: Strips,
    /// Handed to the member, and not yet ended.
    pub(super) reading: Strips,
    /// Handed to the member, and not yet ended.
    pub(super) writing: Strips,
    /// The member's replacement lacks the block, and gets it: from a sync, or as it could not be read there.
    pub(super) outdated: Strips,
    /// To be written to the member's replacement as well, once the member has ended, and not yet handed to it.
    pub(super) copy: Strips,
    /// Handed to the member's replacement, and not yet ended.
    pub(super) copying: Strips,
    /// Either the member or its replacement has not taken a block that should have been written; if neither holds it, it is
    /// in [`Self::failed`] too.
    pub(super) missed: Strips,
    /// The sectors that accepted writes change; eight bits for each strip.
    pub(super) covered: u128,
    /// Here for its place: a step decides nothing by it.
    pub(crate) tries: Tries,
}

// A line of the cache.
const _: () = assert!(size_of::<Column>() <= 64);

/// What is asked of a member once more: of whoever sends blocks to it, and hears of their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Strips that could not be read: each is to be read once more, alone.
    pub(crate) reread: Strips,
    /// Strips that could not be written as part of a run: each is to be written once more, alone.
    pub(crate) rewrite: Strips,
    /// Strips that will not be tried again if they fail now.
    pub(crate) last_try: Strips,
    /// Strips that could not be read and have been written again: each is to be read once more.
    pub(crate) proof: Strips,
    /// Those of which that is under way.
    pub(crate) proving: Strips,
    /// Strips that are being read from the member's replacement.
    pub(crate) from_replacement: Strips,
}

impl Column {
    /// Notes that a write changes `sectors` (counted from the span's start) of the strips in `strips`.
    pub(crate) fn cover(&mut self, sectors: Range<u32>, strips: Strips) {
        for index in strips.iter() {
            let start = index.wrapping_mul(STRIP_SECTORS);
            let end = start.wrapping_add(STRIP_SECTORS);
            let first = sectors.start.max(start);
            let last = sectors.end.min(end);
            if first >= last {
                continue;
            }
            self.covered |= sector_mask(first, last);
            let strip = sector_mask(start, end);
            self.dirty |= Strips::one(index);
            if self.covered & strip == strip {
                self.full |= Strips::one(index);
            }
        }
    }

    /// Forgets what accepted writes change in `strips`: it is copied in, or has failed.
    pub(crate) fn uncover(&mut self, strips: Strips) {
        // Most columns of most spans have none.
        let strips = strips & self.dirty;
        self.dirty -= strips;
        self.full -= strips;
        for run in strips.runs() {
            let start = run.first.wrapping_mul(STRIP_SECTORS);
            let len = run.count.wrapping_mul(STRIP_SECTORS);
            self.covered &= !sector_mask(start, start.wrapping_add(len));
        }
    }

    /// Strips of which a read is wanted or under way.
    pub(crate) fn reads_pending(&self) -> Strips {
        self.read | self.reading
    }

    /// Strips of which a write is wanted or under way, to the member or its replacement.
    pub(crate) fn writes_pending(&self) -> Strips {
        self.write | self.writing | self.copy | self.copying
    }

    /// Strips that are being read: handed to the member, and not yet ended.
    pub(crate) fn reading(&self) -> Strips {
        self.reading
    }

    /// Strips that are being written: handed to the member, and not yet ended.
    pub(crate) fn writing(&self) -> Strips {
        self.writing
    }

    /// Strips that are being written to the member's replacement: handed to it, and not yet ended. None of them is being read
    /// or written at the same time.
    pub(crate) fn copying(&self) -> Strips {
        self.copying
    }

    /// Strips of which a write to the member's replacement is wanted or under way.
    pub(crate) fn copies_pending(&self) -> Strips {
        self.copy | self.copying
    }

    /// Strips to be handed to the member's replacement now: the member has ended.
    pub(crate) fn copies_ready(&self) -> Strips {
        self.copy - self.write - self.writing
    }

    /// Takes the next run of blocks to read; from here on it is in flight until [`Self::io_done`].
    pub(crate) fn next_read(&mut self) -> Option<Run> {
        let run = self.read.first_run()?;
        self.read -= run.strips();
        self.reading |= run.strips();
        Some(run)
    }

    /// Takes the next run of blocks to write; from here on it is in flight until [`Self::io_done`].
    ///
    /// The strips of a run are either all in `fua` or all not, because a bio has one flag for all of it; and all in `discards`
    /// or all not.
    pub(crate) fn next_write(&mut self, fua: Strips, discards: Strips) -> Option<Run> {
        let run = alike(self.write, fua, discards)?;
        self.write -= run.strips();
        self.writing |= run.strips();
        Some(run)
    }

    /// As [`Self::next_write`], for the member's replacement, among the strips `of`.
    pub(crate) fn next_copy(&mut self, of: Strips, fua: Strips, discards: Strips) -> Option<Run> {
        let run = alike(self.copies_ready() & of, fua, discards)?;
        self.copy -= run.strips();
        self.copying |= run.strips();
        Some(run)
    }

    /// Takes strips back that were taken to be read or written, and are not handed to anybody now: they come again.
    pub(crate) fn put_back(&mut self, strips: Strips) {
        let reads = strips & self.reading;
        let writes = strips & self.writing;
        let copies = strips & self.copying;
        self.reading -= reads;
        self.read |= reads;
        self.writing -= writes;
        self.write |= writes;
        self.copying -= copies;
        self.copy |= copies;
    }

    /// Takes in that reads or writes of `strips` have ended, well or not.
    ///
    /// Returns the strips whose earlier read error a successful rewrite has mended.
    pub(crate) fn io_done(&mut self, strips: Strips, ok: bool) -> Strips {
        let read = strips & self.reading;
        let written = strips & self.writing;
        self.reading -= read;
        self.writing -= written;
        if !ok {
            self.lost |= read;
            self.read_error |= read;
            self.failed |= written;
            return Strips::NONE;
        }
        self.uptodate |= read;
        let mended = written & self.read_error;
        self.read_error -= mended;
        self.lost -= mended;
        mended
    }

    /// Takes in that writes of `strips` to the member's replacement have ended, well or not: all of them are
    /// [`Self::copying`]. `held`: the strips that count as the member's where the replacement has taken them.
    pub(super) fn copied(&mut self, strips: Strips, ok: bool, held: Strips) {
        self.copying -= strips;
        if !ok {
            self.missed |= strips;
            return;
        }
        // The member has not taken them, which is to be recorded all the same.
        let instead = strips & self.failed & held;
        self.failed -= instead;
        self.missed |= instead;
        let mended = strips & self.read_error & held;
        self.read_error -= mended;
        self.lost -= mended;
    }

    /// Ends the work on `strips`: only what is cached stays.
    pub(super) fn reset(&mut self, strips: Strips) {
        self.uncover(strips);
        self.wanted -= strips;
        self.modified -= strips;
        self.rebuild -= strips;
        self.storable -= strips;
        self.lost -= strips;
        self.read_error -= strips;
        self.failed -= strips;
        self.outdated -= strips;
        self.missed -= strips;
    }
}

/// The first neighbouring strips that are either all in `fua` or all not, and the same for `discards`.
fn alike(strips: Strips, fua: Strips, discards: Strips) -> Option<Run> {
    let first = strips.first_run()?;
    let begin = Strips::one(first.first);
    let like = |set: Strips| if set.meets(begin) { set } else { !set };
    (first.strips() & like(fua) & like(discards)).first_run()
}

/// The bits of sectors `start..end` of a span.
fn sector_mask(start: u32, end: u32) -> u128 {
    let below = |n: u32| {
        if n >= SPAN_STRIPS * STRIP_SECTORS {
            u128::MAX
        } else {
            (1u128 << n) - 1
        }
    };
    below(end) & !below(start)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NONE: Strips = Strips::NONE;

    /// Takes a run and puts all of it back but its first two strips, as who has no memory for a long bio does.
    fn take_two(column: &mut Column, next: impl Fn(&mut Column) -> Option<Run>) -> Option<Run> {
        let run = next(column)?;
        let now = Run {
            first: run.first,
            count: run.count.min(2),
        };
        column.put_back(run.strips() - now.strips());
        Some(now)
    }

    #[test]
    fn what_is_put_back_comes_again_and_is_under_way_once() {
        let all = Strips::range(3, 5);
        let (read, write, copy) = (
            Column {
                read: all,
                ..Column::default()
            },
            Column {
                write: all,
                ..Column::default()
            },
            Column {
                copy: all,
                ..Column::default()
            },
        );
        type Next = fn(&mut Column) -> Option<Run>;
        let kinds: [(&str, Column, Next); 3] = [
            ("read", read, Column::next_read),
            ("write", write, |column| column.next_write(NONE, NONE)),
            ("copy", copy, |column| column.next_copy(!NONE, NONE, NONE)),
        ];
        for (kind, mut column, next) in kinds {
            for (first, count) in [(3, 2), (5, 2), (7, 1)] {
                let run = take_two(&mut column, next);
                assert_eq!(run, Some(Run { first, count }), "{kind}");
                let now = Strips::range(first, count);
                let pending = column.reads_pending() | column.writes_pending();
                let under_way = column.reading() | column.writing() | column.copying();
                assert_eq!((under_way, pending & now), (now, now), "{kind}");
                if kind == "copy" {
                    column.copied(now, true, NONE);
                } else {
                    column.io_done(now, true);
                }
            }
            assert_eq!(take_two(&mut column, next), None, "{kind}");
            let pending = column.reads_pending() | column.writes_pending();
            assert!(pending.is_empty(), "{kind}: {pending:?} were forgotten");
            let read = if kind == "read" { all } else { NONE };
            assert_eq!(column.uptodate, read, "{kind}: what has been read");
        }
    }
}
