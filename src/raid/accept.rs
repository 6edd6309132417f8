// SPDX-License-Identifier: GPL-2.0

//! Accepting parts: which strips of which part may be worked on now.
//!
//! A strip works for one kind of request at a time. Reads join a strip that still reads, writes join one that gathers;
//! everything else waits in the span, in order of arrival, so that neither writes nor a resync can starve the other.

use super::column::Column;
use super::count::Count;
use super::job::Env;
use super::part::{Hold, Part, PartKind, Parts};
use super::phase::Phase;
use super::span::Span;
use super::strips::{Strips, STRIP_SECTORS};
use core::ops::Range;

impl Span {
    /// Accepts what can be accepted.
    pub(super) fn accept<E: Env>(
        &mut self,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        let mut blocked = Strips::NONE;
        let mut starved = false;
        let released = core::mem::take(&mut self.released);
        let unplugged = core::mem::take(&mut self.unplugged);
        parts.retain(&mut |part| {
            if released {
                part.hold = Hold::No;
            } else if unplugged {
                part.hold = part.hold.unplugged();
            }
            if part.todo.is_empty() {
                return !part.is_complete();
            }
            let free = self.width & self.phases.of(Phase::Idle);
            let open = match part.kind {
                PartKind::Read => free | (self.reads & self.phases.of(Phase::Reading)),
                PartKind::Write => free | env.may_join(self.phases.of(Phase::Gathering)),
                PartKind::Discard | PartKind::Sync { .. } => free,
            };
            let take = part.todo & (open - blocked);
            let granted = self.take_kits(take, columns, env);
            starved |= granted != take;
            self.accept_strips(part, granted, columns, env);
            if !(granted - free).is_empty() {
                env.count(Count::PartsJoined, 1);
            }
            if !part.waited && granted == take && !part.todo.is_empty() {
                part.waited = true;
                env.count(Count::PartsWaited, 1);
            }
            blocked |= part.todo;
            // What waits behind a gathering strip ends the gathering.
            self.held -= part.todo;
            true
        });
        self.waits.memory = starved;
        if starved {
            self.release();
        }
    }

    /// Sees that `strips` have kits and returns those that do.
    fn take_kits<E: Env>(&mut self, strips: Strips, columns: &mut [Column], env: &mut E) -> Strips {
        let lacking = strips - self.kits;
        if lacking.is_empty() {
            return strips;
        }
        self.kits |= env.take_kits(lacking) & lacking;
        let lacking = strips - self.kits;
        if !lacking.is_empty() {
            // Its own cached strips are the first to go: another span may wait for them too.
            let cached = (self.kits & self.phases.of(Phase::Idle)) - strips;
            if !cached.is_empty() {
                self.drop_kits(cached, columns, env);
                self.kits |= env.take_kits(lacking) & lacking;
            }
        }
        strips & self.kits
    }

    /// Forgets the blocks of idle `strips` and gives back their kits.
    pub(super) fn drop_kits<E: Env>(
        &mut self,
        strips: Strips,
        columns: &mut [Column],
        env: &mut E,
    ) {
        if strips.is_empty() {
            return;
        }
        for column in columns {
            column.uptodate -= strips;
        }
        self.kits -= strips;
        env.give_kits(strips);
    }

    /// Puts `strips`, which are idle or may be joined, to work for `part`.
    fn accept_strips<E: Env>(
        &mut self,
        part: &mut Part,
        strips: Strips,
        columns: &mut [Column],
        env: &mut E,
    ) {
        if strips.is_empty() {
            return;
        }
        part.todo -= strips;
        part.active |= strips;

        let fresh = strips & self.phases.of(Phase::Idle);
        if !fresh.is_empty() {
            for (member, column) in columns.iter_mut().enumerate() {
                column.lost |= fresh - env.readable(member);
            }
        }
        match part.kind {
            PartKind::Read => {
                self.phases.advance(fresh, Phase::Idle, Phase::Reading);
                self.reads |= fresh;
                self.each_slice(part, env, |member, sectors| {
                    if let Some(column) = columns.get_mut(member) {
                        column.wanted |= strips_of(&sectors) & strips;
                    }
                });
            }
            PartKind::Write => {
                self.phases.advance(fresh, Phase::Idle, Phase::Gathering);
                self.writes |= fresh;
                self.each_slice(part, env, |member, sectors| {
                    if let Some(column) = columns.get_mut(member) {
                        column.cover(sectors, strips);
                    }
                });
                match part.hold {
                    Hold::No => self.held -= strips,
                    Hold::Plug => {
                        self.held |= fresh;
                        self.packing |= strips;
                        if part.sync {
                            self.urgent |= strips;
                        }
                    }
                    Hold::Stream => {
                        self.held |= fresh;
                        self.watched |= strips;
                    }
                    Hold::PluggedStream => {
                        self.held |= fresh;
                        self.packing |= strips;
                        self.to_watch |= strips;
                    }
                }
                if part.packs {
                    self.packing |= strips;
                    self.to_pack |= strips;
                }
            }
            PartKind::Discard => {
                self.phases.advance(fresh, Phase::Idle, Phase::Reading);
                self.discards |= fresh;
            }
            PartKind::Sync {
                check,
                locate,
                replace,
            } => {
                self.phases.advance(fresh, Phase::Idle, Phase::Reading);
                self.syncs |= fresh;
                if check {
                    self.check_only |= fresh;
                }
                if replace {
                    self.replace |= fresh;
                }
                if locate && self.roles.q().is_some() {
                    // What a crash has left says nothing of which block is wrong.
                    self.locate |= fresh & env.parity_trusted();
                }
                // The point is what the members hold, not what we remember.
                for column in columns.iter_mut() {
                    column.uptodate -= fresh;
                }
            }
        }
        self.note_bitmap(part, strips);
        if part.fua {
            self.fua |= strips;
        }
        if part.sync {
            self.sync |= strips;
        }
        if part.sequential {
            self.sequential |= strips;
        }
    }

    /// Notes which flush of the bitmap the writes of `strips` wait for: the latest that any of their parts needs.
    fn note_bitmap(&mut self, part: &Part, strips: Strips) {
        let Some(seq) = part.bitmap_seq else {
            return;
        };
        for index in strips.iter() {
            let waiting = self.bitmap.meets(Strips::one(index));
            if let Some(own) = self.bitmap_seq.get_mut(index as usize) {
                // Numbers wrap: the later one is ahead by less than half of the range.
                if !waiting || (seq.wrapping_sub(*own) as i32) > 0 {
                    *own = seq;
                }
            }
        }
        self.bitmap |= strips;
    }

    /// Calls `f` with each member that holds data of `part` in this span, and the sectors of it there, counted from the
    /// span's start.
    pub(super) fn each_slice<E: Env>(
        &self,
        part: &Part,
        env: &E,
        mut f: impl FnMut(usize, Range<u32>),
    ) {
        let geometry = env.geometry();
        let stripe = geometry.stripe_of(self.key.sector);
        for (index, sectors) in geometry.slices(self.key.sector, part.start, part.end) {
            f(usize::from(geometry.member_of(stripe, index)), sectors);
        }
    }
}

/// The strips that `sectors` of a span touch.
pub(super) fn strips_of(sectors: &Range<u32>) -> Strips {
    if sectors.is_empty() {
        return Strips::NONE;
    }
    let first = sectors.start / STRIP_SECTORS;
    let behind = sectors.end.div_ceil(STRIP_SECTORS);
    Strips::range(first, behind.saturating_sub(first))
}
