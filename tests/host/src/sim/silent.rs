// SPDX-License-Identifier: GPL-2.0

//! Silent corruption: blocks that members change behind the array's back, and what may become of them.
//!
//! Of level 4 and 5 only parity is changed, for nothing could tell wrong data from right. Of level 6 any block is, and
//! sometimes more than one of a row. While it is known exactly what such a row holds and should hold, the oracle says which
//! block is the one to be located. A write that counts on the wrong block, a member that goes, parity that is made anew:
//! from then on the block may hold anything.

use super::code::{Slots, Words};
use super::oracle::{row_of, Excuse};
use super::report::Event;
use super::sync::Action;
use super::Sim;
use crate::raid::part::PartKind;
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, STRIP_SECTORS};

/// What a check or repair does where parity does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MismatchMethod {
    /// It makes parity anew.
    Parity,
    /// A repair mends the wrong block.
    Locate,
    /// So does a check.
    LocateOnCheck,
}

impl MismatchMethod {
    pub(crate) const ALL: [Self; 3] = [Self::Parity, Self::Locate, Self::LocateOnCheck];

    /// Whether it locates in a check, or else in a repair.
    pub(crate) fn locates(self, check: bool) -> bool {
        match self {
            Self::Parity => false,
            Self::Locate => !check,
            Self::LocateOnCheck => true,
        }
    }
}

/// A sector of a member that holds something else than was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scribble {
    slot: usize,
    /// Within the row.
    at: u32,
    was: u64,
    is: u64,
}

impl Sim {
    /// Some block of a quiet row is changed behind the array's back; of level 6, in more rows than one. Returns false if
    /// none may be.
    pub(crate) fn scribble(&mut self) -> bool {
        let tries = if self.parities() > 1 { 4 } else { 1 };
        (0..tries).fold(false, |any, _| self.scribble_row() || any)
    }

    fn scribble_row(&mut self) -> bool {
        let row = self.rng.index(self.rows.len());
        if !self.may_scribble(row) {
            return false;
        }
        let code = self.code(row);
        let (parities, p) = (code.parities(), code.p());
        let mut slots = Slots::one(p);
        if parities > 1 {
            slots = Slots::NONE;
            for _ in 0..self.rng.pick(&[1, 1, 1, 1, 2, 2, 3]) {
                slots.insert(self.rng.index(self.md.slots.len()));
            }
        }
        for slot in slots.iter() {
            self.scribble_on(slot, row, parities > 1, slots.count() == 1);
        }
        if parities > 1 && self.rng.chance(600) {
            // Before a write comes in between.
            let actions = [Action::Check, Action::Repair, Action::Repair];
            self.sync.requested = Some(self.rng.pick(&actions));
        }
        self.count(match slots.count() {
            1 => Event::Scribbled,
            _ => Event::ScribbledTwice,
        });
        let state = &mut self.rows[row];
        state.excuse = Excuse::Scribbled;
        state.was_scribbled = true;
        state.located = None;
        state.unlocated = false;
        true
    }

    /// Changes a block: one sector of it or, if it may be `several`, up to three.
    fn scribble_on(&mut self, slot: usize, row: usize, several: bool, alone: bool) {
        let Some(device) = self.member(slot) else {
            return;
        };
        let first = row as u32 * STRIP_SECTORS;
        let count = if several { 1 + self.rng.below(3) } else { 1 };
        for _ in 0..count {
            let at = self.rng.below(STRIP_SECTORS);
            let value = self.rng.bits();
            let was = self.devices[device].get(first + at);
            // Some bytes of it stay as they are; but then two such blocks might look like one.
            let masks = [u64::MAX, 0xff, 0xff00_0000_0000_0000, 0x00ff_ff00_0000_00ff];
            let mask = if several && alone {
                self.rng.pick(&masks)
            } else {
                u64::MAX
            };
            let is = was ^ ((value ^ was) & mask);
            let known = self.silent.get(&row).into_iter().flatten();
            if is == was || known.clone().any(|s| (s.slot, s.at) == (slot, at)) {
                continue;
            }
            self.note(|| format!("sector {at} of row {row} of member {slot} is scribbled on"));
            self.devices[device].scribble(first + at, is);
            if let Some(sector) = self.array_sector(slot, row, at) {
                self.history.scribbled(sector, is);
            }
            let scribble = Scribble { slot, at, was, is };
            self.silent.entry(row).or_default().push(scribble);
        }
    }

    /// Whether a row is whole, right, known to be, and nothing is under way there.
    pub(crate) fn may_scribble(&self, row: usize) -> bool {
        let sector = row as u32 * STRIP_SECTORS;
        let quiet = !self.table.entries.iter().any(|entry| {
            entry.active
                && entry
                    .key
                    .is_some_and(|key| key.sector == self.geometry.span_of(u64::from(sector)))
        });
        let sound = (0..self.md.slots.len()).all(|slot| {
            // What is on one of two devices alone is more than parity knows of.
            self.md.replacements[slot].is_none()
                && self
                    .member(slot)
                    .is_some_and(|d| self.devices[d].in_sync.get())
                && self.has_block(slot, row)
                && !self.is_bad_block(slot, row)
        });
        // A request may have written here and wait for the rest of it.
        let written = (0..self.md.slots.len()).any(|slot| {
            let mut sectors = (0..STRIP_SECTORS).filter_map(|at| self.array_sector(slot, row, at));
            sectors.any(|sector| self.history.is_being_written(sector))
        });
        let state = self.rows[row];
        quiet
            && sound
            && !written
            && state.excuse == Excuse::None
            && !state.lossy
            && self.trusted(row)
    }

    /// What the members of a row would hold if nobody had scribbled on it.
    fn true_words(&self, row: usize, at: u32) -> Words {
        let code = self.code(row);
        let mut words = self.words(row, at);
        for scribble in self.silent.get(&row).into_iter().flatten() {
            if scribble.at == at && !code.is_parity(scribble.slot) {
                words[scribble.slot] = scribble.was;
            }
        }
        code.restore(&mut words, code.parity_slots());
        words
    }

    /// The members whose blocks of a row are wrong; `None` if that is not known.
    fn wrong_slots(&self, row: usize) -> Option<Slots> {
        self.silent.get(&row)?;
        let mut wrong = Slots::NONE;
        for at in 0..STRIP_SECTORS {
            let (is, should) = (self.words(row, at), self.true_words(row, at));
            for slot in (0..is.len()).filter(|&slot| is[slot] != should[slot]) {
                wrong.insert(slot);
            }
        }
        Some(wrong)
    }

    /// It is not known any more what a row that was scribbled on should hold: its data may be anything there.
    pub(crate) fn lose_track(&mut self, row: usize) {
        for scribble in self.silent.remove(&row).unwrap_or_default() {
            if let Some(sector) = self.array_sector(scribble.slot, row, scribble.at) {
                self.history.unscribbled(sector, scribble.is);
                self.history.lost(sector, false);
            }
        }
    }

    /// A write makes parity by the difference, for these sectors of slots. It takes on what is wrong in parity or in another
    /// block; but a sector that is wrong itself is taken for what parity was made of.
    pub(crate) fn wrote_difference(&mut self, row: usize, written: &[(usize, u32)]) {
        let known = self.silent.get(&row).into_iter().flatten();
        if known.clone().any(|s| written.contains(&(s.slot, s.at))) {
            self.lose_track(row);
        }
    }

    /// Parity of a row is right. If that is because the wrong blocks were mended, data holds again what it did.
    pub(crate) fn row_was_set_right(&mut self, row: usize) {
        let Some(known) = self.silent.get(&row) else {
            return;
        };
        let holds = |s: &Scribble| self.words(row, s.at)[s.slot] == s.was;
        let code = self.code(row);
        let mut data = known.iter().filter(|s| !code.is_parity(s.slot));
        let mended = data.all(holds);
        if !mended {
            if self.rows[row].located.is_some() {
                self.fail(
                    &format!(
                        "the block that was located to hold again what was written (row {row})"
                    ),
                    self.show_row(row),
                );
            }
            self.lose_track(row);
            return;
        }
        for scribble in self.silent.remove(&row).unwrap_or_default() {
            if let Some(sector) = self.array_sector(scribble.slot, row, scribble.at) {
                self.history.unscribbled(sector, scribble.is);
                self.history.mended(sector, scribble.is, scribble.was);
            }
        }
    }

    /// The power has failed: of rows that are not `sure` to hold what they did, nothing is known any more.
    pub(crate) fn lose_track_in_power_cut(&mut self, sure: impl Fn(&Self, usize) -> bool) {
        let rows: Vec<usize> = self.silent.keys().copied().collect();
        for row in rows
            .into_iter()
            .filter(|&row| !sure(self, row))
            .collect::<Vec<_>>()
        {
            for scribble in self.silent.remove(&row).unwrap_or_default() {
                if let Some(sector) = self.array_sector(scribble.slot, row, scribble.at) {
                    self.history.fell_into_hole(sector);
                }
            }
        }
    }

    /// The array is assembled after a power cut: it knows nothing of what was scribbled on, and that is still there.
    pub(crate) fn remember_scribbles(&mut self) {
        for (&row, scribbles) in &self.silent {
            for scribble in scribbles {
                if let Some(sector) = self.array_sector(scribble.slot, row, scribble.at) {
                    self.history.remember(sector, scribble.was, scribble.is);
                }
            }
        }
    }

    /// A span says that the block of `member` was the wrong one in these strips, and will be mended.
    pub(crate) fn block_located(&mut self, key: SpanKey, member: usize, strips: Strips) {
        for strip in strips.iter() {
            let row = row_of(key, strip);
            self.check_may_locate(row);
            self.rows[row].located = Some(member);
            let code = self.code(row);
            self.count(match member {
                slot if slot == code.p() => Event::LocatedP,
                slot if Some(slot) == code.q() => Event::LocatedQ,
                _ => Event::LocatedData,
            });
            match self.wrong_slots(row) {
                // Parity took a wrong block for right, or was itself left behind: what is mended then may be anything.
                None => self.block_lost(member, row, true),
                Some(wrong) if wrong == Slots::one(member) => {}
                Some(wrong) => self.fail(
                    &format!(
                        "the wrong block of row {row} to be located, of those of members {:?}, if it is the only one",
                        wrong.iter().collect::<Vec<_>>()
                    ),
                    format!("that of member {member} was{}", self.show_row(row)),
                ),
            }
        }
    }

    /// A span says that it cannot tell which block is wrong in these strips.
    pub(crate) fn not_located(&mut self, key: SpanKey, strips: Strips) {
        self.count(Event::Unlocated);
        for strip in strips.iter() {
            let row = row_of(key, strip);
            self.check_may_locate(row);
            self.rows[row].unlocated = true;
            if let Some(wrong) = self.wrong_slots(row).filter(|wrong| wrong.count() == 1) {
                self.fail(
                    &format!("the one wrong block of row {row} to be located, that of {wrong:?}"),
                    format!("it was not{}", self.show_row(row)),
                );
            }
        }
    }

    fn check_may_locate(&mut self, row: usize) {
        if !self.rows[row].reported {
            self.fail(
                "a block to be looked for where parity was found not to match",
                format!("row {row} was not"),
            );
        }
    }

    /// The wrong block alone is written, and nothing where it is not known which one is wrong.
    pub(crate) fn check_locating_write(
        &mut self,
        key: SpanKey,
        member: usize,
        strips: Strips,
        lost: Strips,
    ) {
        for strip in (strips - lost).iter() {
            let row = row_of(key, strip);
            let state = self.rows[row];
            let other = state.located.is_some_and(|slot| slot != member);
            if other || state.unlocated {
                self.fail(
                    "only the block that was located to be written",
                    format!(
                        "that of member {member} in row {row} is, with {:?} located",
                        state.located
                    ),
                );
            }
        }
    }

    /// What a sync asks of the logic. md core's resync may be a repair that goes on.
    pub(crate) fn sync_kind(&self, check: bool) -> PartKind {
        let locate = self.md.mismatch_method.locates(check);
        let replace = self.sync_action() == Action::Recover;
        PartKind::Sync {
            check,
            locate,
            replace,
        }
    }
}
