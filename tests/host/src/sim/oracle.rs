// SPDX-License-Identifier: GPL-2.0

//! What must be true of the members, going by everything that the simulator knows and the array does not.

use super::code::{Code, Slots, Words};
use super::device::ALL;
use super::report::Event;
use super::sync::Action;
use super::table::{Actor, Owed, SimPart, SimParts};
use super::Sim;
use crate::raid::geometry::Role;
use crate::raid::part::PartKind;
use crate::raid::phase::Phase;
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, STRIP_SECTORS};

/// Why parity of a row may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// There is none.
    None,
    /// It was never made, or the power failed between data and parity. A resync makes it right, and so does any write.
    Hole,
    /// Somebody changed it behind the array's back. Only a repair makes it right.
    Scribbled,
}

/// What is known of a row: the strip at one place of all members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) excuse: Excuse,
    /// More of its blocks were lost at a time than parity stands for: requests may be refused.
    pub(crate) lossy: bool,
    /// A job of its could not be done once, so that nothing in memory of it was used.
    pub(crate) undone: bool,
    /// The check or repair under way has found it wrong.
    pub(crate) reported: bool,
    /// It looks for the wrong block, if there is one, and no block was lost when it compared them.
    pub(crate) to_locate: bool,
    /// It has found this member's block to be the wrong one.
    pub(crate) located: Option<usize>,
    /// It could not tell which block is wrong.
    pub(crate) unlocated: bool,
    /// It was scribbled on at some time: a power cut may undo the repair.
    pub(crate) was_scribbled: bool,
    /// Members of whose block a sector became unreadable after it was written, perhaps, and before its span knew of that.
    pub(crate) spoiled_late: Slots,
    /// What is being written are blocks that could not be read, recovered for a reader: that makes no parity.
    pub(crate) rewritten: bool,
}

impl Row {
    pub(crate) const NEW: Self = Self {
        excuse: Excuse::None,
        lossy: false,
        undone: false,
        reported: false,
        to_locate: false,
        located: None,
        unlocated: false,
        was_scribbled: false,
        spoiled_late: Slots::NONE,
        rewritten: false,
    };
}

/// First member sector behind a row.
pub(crate) fn row_end(row: usize) -> u32 {
    (row as u32 + 1) * STRIP_SECTORS
}

/// The row of a strip.
pub(crate) fn row_of(key: SpanKey, strip: u32) -> usize {
    (key.sector / u64::from(STRIP_SECTORS)) as usize + strip as usize
}

impl Sim {
    /// What parity says of a row.
    pub(crate) fn code(&self, row: usize) -> &Code {
        &self.codes[(row as u32 * STRIP_SECTORS / self.config.chunk) as usize]
    }

    /// What the members hold of a row, `at` sectors into it; 0 where there is none.
    pub(crate) fn words(&self, row: usize, at: u32) -> Words {
        let sector = row as u32 * STRIP_SECTORS + at;
        let mut words = Words::default();
        for (slot, word) in words.iter_mut().enumerate().take(self.md.slots.len()) {
            *word = self
                .device_with(slot, row)
                .map_or(0, |d| self.devices[d].get(sector));
        }
        words
    }

    /// The device of a slot to look at for its block of a row: one that has it and can be read there, if there is one.
    fn device_with(&self, slot: usize, row: usize) -> Option<usize> {
        let member = self.md.slots[slot];
        let Some(replacement) = self.md.replacements[slot] else {
            return member;
        };
        let good = |d: usize| self.has_on(d, row) && !self.is_bad_on(d, row);
        match member {
            Some(d) if good(d) => member,
            _ if good(replacement) => Some(replacement),
            Some(d) if self.has_on(d, row) => member,
            _ if self.has_on(replacement, row) => Some(replacement),
            // Dead, and nobody has noticed.
            Some(d) if self.devices[d].would_count(row, row_end(row)) => member,
            _ if self.devices[replacement].would_count(row, row_end(row)) => Some(replacement),
            _ => member,
        }
    }

    /// Whether a device has its block of a row, bad sectors aside.
    pub(crate) fn has_on(&self, d: usize, row: usize) -> bool {
        let device = &self.devices[d];
        !device.dead && device.covers(row_end(row)) && !device.knows_bad(row)
    }

    /// Whether some sector of a device's block of a row cannot be read.
    pub(crate) fn is_bad_on(&self, d: usize, row: usize) -> bool {
        self.devices[d].is_bad(row as u32 * STRIP_SECTORS, STRIP_SECTORS)
    }

    /// Where a member and its replacement both have their block of a row, or would after a power cut now, it is the same.
    fn check_twins(&mut self, row: usize) {
        for slot in 0..self.md.slots.len() {
            let (Some(member), Some(other)) = (self.md.slots[slot], self.md.replacements[slot])
            else {
                continue;
            };
            let would = |d: usize| {
                let device = &self.devices[d];
                let covered = device.was_in_sync.get() || device.recovery_offset >= row_end(row);
                device.faulty.get()
                    && device.blocked.get()
                    && covered
                    && !device.knows_bad(row)
                    && !device.superblock.bad.contains(&row)
            };
            let counts = |d: usize| (self.has_on(d, row) || would(d)) && !self.is_bad_on(d, row);
            if !counts(member) || !counts(other) {
                continue;
            }
            for sector in row as u32 * STRIP_SECTORS..row_end(row) {
                let (expected, came) = (
                    self.devices[member].get(sector),
                    self.devices[other].get(sector),
                );
                if expected != came {
                    self.fail(
                        &format!("device {other} to hold what the member does that it is to replace, {expected:016x} at sector {sector} (row {row}, slot {slot})"),
                        format!("{came:016x}"),
                    );
                    return;
                }
            }
        }
    }

    /// The same, with what the others make up for those that are `lost`: no more than there are parities.
    pub(crate) fn restored_words(&self, row: usize, at: u32, lost: Slots) -> Words {
        let mut words = self.words(row, at);
        if !lost.is_empty() {
            self.code(row).restore(&mut words, lost);
        }
        words
    }

    /// Whether parity of a row matches data, going by the members that are not `lost`. If that leaves nothing to compare it
    /// does.
    pub(crate) fn row_matches(&self, row: usize, lost: Slots) -> bool {
        let code = self.code(row);
        (0..STRIP_SECTORS).all(|at| code.agree(&self.words(row, at), lost))
    }

    /// The members whose blocks of a row are not there for the array to read, bad sectors aside.
    pub(crate) fn missing(&self, row: usize) -> Slots {
        (0..self.md.slots.len())
            .filter(|&slot| !self.has_block(slot, row))
            .collect()
    }

    /// The array's sector at `at` sectors into a member's block of a row; `None` if that is parity.
    pub(crate) fn array_sector(&self, slot: usize, row: usize, at: u32) -> Option<u32> {
        let sector = u64::from(row as u32 * STRIP_SECTORS + at);
        // CAST: the simulated array is small.
        Some(self.geometry.array_sector(slot as u16, sector)? as u32)
    }

    /// Whether some sector of a member's block of a row cannot be read.
    pub(crate) fn is_bad_block(&self, slot: usize, row: usize) -> bool {
        self.device_with(slot, row)
            .is_some_and(|d| self.is_bad_on(d, row))
    }

    /// Whether a member's block of a row is there for the array to read, bad sectors aside.
    pub(crate) fn has_block(&self, slot: usize, row: usize) -> bool {
        self.devices_of(slot).any(|d| self.has_on(d, row))
    }

    /// A device is gone, or as good as gone: what parity cannot make up for may hold anything from now on.
    pub(crate) fn device_lost(&mut self, device: usize) {
        let Some(slot) = self.slot_of(device) else {
            return;
        };
        let rebuilt = {
            let state = &self.devices[device];
            if state.in_sync.get() || state.was_in_sync.get() || state.whole {
                ALL
            } else {
                state.recovery_offset
            }
        };
        for row in 0..self.rows.len() {
            if row_end(row) <= rebuilt && !self.has_other(slot, device, row) {
                self.slot_block_gone(slot, row);
            }
        }
    }

    /// A device's block of a row is gone.
    pub(crate) fn block_gone(&mut self, device: usize, row: usize) {
        let covered = self.devices[device].covers(row_end(row));
        if let (Some(slot), true) = (self.slot_of(device), covered) {
            if !self.has_other(slot, device, row) {
                self.slot_block_gone(slot, row);
            }
        }
    }

    /// Whether another device of the slot has the block that this one has lost.
    pub(crate) fn has_other(&self, slot: usize, device: usize, row: usize) -> bool {
        let good = |d: usize| d != device && self.has_on(d, row) && !self.is_bad_on(d, row);
        self.devices_of(slot).any(good)
    }

    fn slot_block_gone(&mut self, slot: usize, row: usize) {
        let others = 0..self.md.slots.len();
        let others_lost = others
            .filter(|&other| other != slot)
            .filter(|&other| !self.has_block(other, row) || self.is_bad_block(other, row))
            .count();
        let too_many = others_lost >= self.parities();
        if too_many {
            self.row_lossy(row);
        }
        self.lose_track(row);
        let excuse = self.rows[row].excuse;
        if too_many || excuse != Excuse::None {
            // A write under way may have made its parity of what was wrong: it makes parity anew only if it has all data.
            let is_followed = excuse == Excuse::Hole && others_lost > 0;
            self.block_lost(slot, row, excuse == Excuse::Scribbled || is_followed);
        }
    }

    /// More blocks of a row are lost at the same time than parity stands for.
    pub(crate) fn row_lossy(&mut self, row: usize) {
        self.count(Event::LossyRow);
        self.lose_track(row);
        self.rows[row].lossy = true;
        for slot in 0..self.md.slots.len() {
            if !self.has_block(slot, row) || self.is_bad_block(slot, row) {
                self.block_lost(slot, row, false);
            }
        }
    }

    /// Nobody can tell any more what a member's block of a row held.
    pub(crate) fn block_lost(&mut self, slot: usize, row: usize, hopeless: bool) {
        self.note(|| format!("row {row}: what member {slot} held is lost"));
        for at in 0..STRIP_SECTORS {
            if let Some(sector) = self.array_sector(slot, row, at) {
                self.history.lost(sector, hopeless);
            }
        }
    }

    /// Looks at the rows that were written since the last time and have come to rest.
    pub(crate) fn check_settled(&mut self, key: SpanKey, actor: &mut Actor) {
        let settled = actor.unchecked - actor.span.phases().of(Phase::Writing);
        actor.unchecked -= settled;
        self.check_rows(key, settled);
    }

    /// Looks at rows to which nothing is under way.
    pub(crate) fn check_rows(&mut self, key: SpanKey, strips: Strips) {
        for strip in strips.iter() {
            let row = row_of(key, strip);
            if row >= self.rows.len() {
                self.fail(
                    "strips within the members",
                    format!("row {row} was written"),
                );
                return;
            }
            self.check_parity(row);
            self.check_data(row);
        }
    }

    /// A row was written and has come to rest.
    fn check_parity(&mut self, row: usize) {
        let rewritten = std::mem::take(&mut self.rows[row].rewritten);
        let counts = |slot: usize| {
            let would = |d: usize| self.devices[d].would_count(row, row_end(row));
            self.has_block(slot, row) || self.devices_of(slot).any(would)
        };
        let lost: Slots = (0..self.md.slots.len())
            .filter(|&slot| !counts(slot))
            .collect();
        if lost.count() >= self.parities() {
            return;
        }
        if self.row_matches(row, lost) {
            self.row_is_right(row, lost);
            return;
        }
        let state = self.rows[row];
        let slots = 0..self.md.slots.len();
        let one_lost = slots
            .into_iter()
            .any(|slot| !self.has_block(slot, row) || self.is_bad_block(slot, row));
        // A write makes parity anew only where it is not known, and only if it can read all data.
        let untrusted = row_end(row) > self.md.resync_offset && !one_lost && !rewritten;
        let excused = state.excuse == Excuse::Scribbled
            || (state.excuse == Excuse::Hole && !untrusted)
            || state.lossy;
        if !excused {
            let unrecorded = self.all_members().find(|&d| self.devices[d].faulty.get());
            let expected = match unrecorded {
                Some(d) => format!(
                    "no write to end that device {d} missed before its failure is recorded (row {row})"
                ),
                None => format!("parity of row {row} to match data after a write"),
            };
            self.fail(&expected, self.show_row(row));
        }
    }

    /// Parity of a row matches data, and not only for want of parity to compare.
    ///
    /// A member that is `lost` may come back with what it held, which does not match what was made without it; and the wrong
    /// block may have been read before its member went.
    fn row_is_right(&mut self, row: usize, lost: Slots) {
        self.row_was_set_right(row);
        let slots = 0..self.md.slots.len();
        let bad = slots
            .into_iter()
            .any(|slot| self.is_bad_block(slot, row) || !self.has_block(slot, row));
        let state = &mut self.rows[row];
        if state.excuse != Excuse::Scribbled || lost.is_empty() {
            state.excuse = Excuse::None;
        }
        state.lossy &= bad;
    }

    /// The members hold what was written to a row, or as much as makes it up.
    pub(crate) fn check_data(&mut self, row: usize) {
        self.check_twins(row);
        let missing = self.missing(row);
        let hopeless = missing.count() > self.parities();
        let lost = if hopeless { Slots::NONE } else { missing };
        for slot in 0..self.md.slots.len() {
            let recovered = missing.contains(slot);
            if (recovered && hopeless) || self.is_bad_block(slot, row) {
                continue;
            }
            if recovered && self.rows[row].excuse != Excuse::None {
                // What was written to it was made up for on top of wrong parity.
                self.block_lost(slot, row, true);
                continue;
            }
            for at in 0..STRIP_SECTORS {
                let Some(sector) = self.array_sector(slot, row, at) else {
                    break;
                };
                let value = self.restored_words(row, at, lost)[slot];
                if let Err(expected) = self.history.settled(sector, value) {
                    let how = if recovered { "make up for" } else { "hold" };
                    self.fail(
                        &format!("the members to {how} {expected} at array sector {sector} (row {row}, member {slot})"),
                        format!("{value:016x}"),
                    );
                    return;
                }
            }
        }
    }

    /// A span becomes inactive: what it keeps in memory is what the members hold.
    pub(crate) fn check_idle(&mut self, entry: usize) {
        let Some(actor) = self.table.entries[entry].actor.as_deref() else {
            return;
        };
        let key = actor.span.key();
        let mut wrong = None;
        for strip in actor.span.kits().iter() {
            let row = row_of(key, strip);
            let Some(state) = self.rows.get(row) else {
                continue;
            };
            let Some(kit) = &actor.kits[strip as usize] else {
                continue;
            };
            let missing = self.missing(row);
            let hopeless = missing.count() > self.parities();
            if state.excuse != Excuse::None || state.lossy || hopeless {
                continue;
            }
            let expected: Vec<Words> = (0..STRIP_SECTORS)
                .map(|at| self.restored_words(row, at, missing))
                .collect();
            for (slot, column) in actor.columns.iter().enumerate() {
                if !column.uptodate.meets(Strips::one(strip)) || self.is_bad_block(slot, row) {
                    continue;
                }
                for (at, (words, &came)) in expected.iter().zip(&kit[slot]).enumerate() {
                    if came != words[slot] {
                        wrong = Some((row, slot, at, words[slot], came));
                    }
                }
            }
        }
        if let Some((row, slot, at, expected, came)) = wrong {
            self.fail(
                &format!("a cached block to be what the member holds (row {row}, member {slot}, sector {at} of it): {expected:016x}"),
                format!("{came:016x}"),
            );
        }
    }

    /// A member's replacement could not be read for these strips, and knows that. If it is the member next, nobody else has what the
    /// member has.
    pub(crate) fn note_owed(&self, actor: &mut Actor, member: usize, strips: Strips) {
        let is_synced = |part: &&SimPart| matches!(part.part.kind, PartKind::Sync { .. });
        let synced = (actor.parts.list.iter().filter(is_synced))
            .fold(Strips::NONE, |all, part| all | part.part.active());
        if !(strips - synced).is_empty() {
            actor.owed.push(Owed {
                member,
                device: self.md.replacements[member],
                strips: strips - synced,
                is_copy: true,
            });
        }
    }

    /// Whether a replacement still lacks its block of a row, which the member holds.
    fn is_still_owed(&self, owed: &Owed, row: usize) -> bool {
        let (Some(old), Some(new)) = (self.member(owed.member), self.replacement(owed.member))
        else {
            return false;
        };
        owed.device == Some(new)
            && self.devices[new].knows_bad(row)
            && self.has_on(old, row)
            && !self.is_bad_on(old, row)
            && !self.rows[row].undone
            // It was read for a write, perhaps, which was refused.
            && !self.has_failed()
    }

    /// Blocks of strips that have become idle were written again if they could not be read and were recovered, or read elsewhere.
    pub(crate) fn check_owed(&mut self, key: SpanKey, actor: &mut Actor) {
        let busy = actor.span.phases().busy();
        for owed in &mut actor.owed {
            let ended = owed.strips - busy;
            owed.strips -= ended;
            for strip in ended.iter() {
                let row = row_of(key, strip);
                if owed.is_copy {
                    if self.is_still_owed(owed, row) {
                        self.fail(
                            "what a replacement could not be read at, and its member could, to be written to it",
                            format!("row {row}, member {}, was not", owed.member),
                        );
                    }
                    continue;
                }
                let there = self.member(owed.member);
                // A replacement may have got it instead.
                let alone = self.md.replacements[owed.member].is_none();
                if there == owed.device
                    && alone
                    && self.has_block(owed.member, row)
                    && !self.rows[row].lossy
                    // It was recovered for a write, perhaps, which was refused.
                    && !self.has_failed()
                {
                    self.fail(
                        "a block that could not be read and was recovered to be written again",
                        format!("that of row {row}, member {}, was not", owed.member),
                    );
                }
            }
        }
        actor.owed.retain(|owed| !owed.strips.is_empty());
    }

    /// What a write or a sync that failed has left in memory may be on no member.
    pub(crate) fn check_forgotten(&mut self, actor: &mut Actor) {
        let idle = !actor.span.phases().busy();
        for entry in actor.parts.list.iter_mut().chain(&mut actor.parts.done) {
            let failed = entry.part.failed() - entry.seen_failed;
            entry.seen_failed |= failed;
            if entry.part.kind == PartKind::Read {
                continue;
            }
            for (member, column) in actor.columns.iter().enumerate() {
                let kept = failed & idle & column.uptodate;
                if !kept.is_empty() {
                    self.fail(
                        "nothing in memory of a strip whose work has failed",
                        format!("strips {kept:?} of member {member}"),
                    );
                }
            }
        }
    }

    /// Blocks of a span are about to be written to a member.
    pub(crate) fn check_write(&mut self, member: usize, strips: Strips, actor: &Actor) {
        let key = actor.span.key();
        let (mut written, mut checked) = (Strips::NONE, Strips::NONE);
        let mut synced = Strips::NONE;
        for SimPart { part, .. } in &actor.parts.list {
            let active = part.active() & strips;
            match part.kind {
                PartKind::Write | PartKind::Discard => written |= active,
                PartKind::Sync { check, .. } => {
                    synced |= active;
                    checked |= if check { active } else { Strips::NONE };
                }
                PartKind::Read => {}
            }
        }
        for strip in (strips - written - synced).iter() {
            self.rows[row_of(key, strip)].rewritten = true;
        }
        self.check_locating_write(key, member, synced, actor.columns[member].lost);
        checked -= actor.columns[member].lost;
        for strip in checked.iter() {
            if self.rows[row_of(key, strip)].located == Some(member) {
                checked -= Strips::one(strip);
            }
        }
        if !checked.is_empty() {
            self.fail(
                "a check to write only what could not be read, or was located",
                format!("strips {checked:?} of span {}, member {member}", key.sector),
            );
        }
        let Some(bitmap) = &self.bitmap else {
            return;
        };
        let mut unrecorded = None;
        for strip in written.iter() {
            // CAST: the simulated members are small.
            let chunk = bitmap.chunk_of(key.sector as u32 + strip * STRIP_SECTORS);
            let knows = |d: &usize| {
                let device = &self.devices[*d];
                !device.in_sync.get() || device.faulty.get() || device.bitmap.bits[chunk]
            };
            if !self.md.slots.iter().flatten().all(knows) {
                unrecorded = Some(row_of(key, strip));
            }
        }
        if let Some(row) = unrecorded {
            self.fail(
                "the bitmap on all members to tell of a write before one gets it",
                format!("row {row} is written to member {member}"),
            );
        }
    }

    /// A span says that parity of these strips does not match.
    pub(crate) fn mismatch_found(&mut self, key: SpanKey, strips: Strips) {
        self.count(Event::Mismatch);
        for strip in strips.iter() {
            let row = row_of(key, strip);
            self.rows[row].reported = true;
            // A member may have gone since they were compared.
            let slots = 0..self.md.slots.len();
            let empty: Slots = slots
                .filter(|&slot| self.md.slots[slot].is_none())
                .collect();
            let missing = self.missing(row);
            let comparable = missing.count() < self.parities();
            if comparable && self.row_matches(row, missing) && self.row_matches(row, empty) {
                self.fail(
                    "only wrong parity to be reported",
                    format!("row {row} is right"),
                );
            }
        }
    }

    /// A sync part has ended well for these strips, which have not been written since. With `check`, nothing was to be
    /// written.
    pub(crate) fn check_synced(&mut self, key: SpanKey, strips: Strips, check: bool) {
        for strip in strips.iter() {
            let row = row_of(key, strip);
            let is_there = |slot: usize| {
                let device = self.member(slot).map(|d| &self.devices[d]);
                device.is_some_and(|device| !device.dead && !device.knows_bad(row))
                    || self.replacement(slot).is_some_and(|d| self.has_on(d, row))
            };
            let lost: Slots = (0..self.md.slots.len())
                .filter(|&slot| !is_there(slot))
                .collect();
            if lost.count() >= self.parities() {
                continue;
            }
            let matches = self.row_matches(row, lost);
            let state = self.rows[row];
            let replaces = self.config.replaces > 0 && self.sync_action() == Action::Recover;
            if replaces && state.excuse != Excuse::None {
                // To copy a member to its replacement takes no parity.
                continue;
            }
            if state.reported && state.to_locate && state.located.is_none() && !state.unlocated {
                self.fail(
                    &format!("the wrong block of row {row} to be looked for"),
                    "nobody did".into(),
                );
            }
            if check && state.located.is_none() {
                if !matches && !state.reported {
                    self.fail(
                        &format!("a check to find that parity of row {row} is wrong"),
                        "it found it right".into(),
                    );
                }
            } else if matches {
                self.row_is_right(row, lost);
            } else if !state.unlocated {
                self.fail(
                    &format!("row {row} to be right once it is synced"),
                    self.show_row(row),
                );
            }
        }
    }

    /// A resync of the whole array has ended well. A member that is not in sync everywhere is left to the rebuild.
    pub(crate) fn check_resynced(&mut self) {
        for row in 0..self.rows.len() {
            let missing = self.missing(row);
            // What is being written again was right before that.
            let busy = self.is_being_stored(row);
            if missing.count() >= self.parities() || self.rows[row].lossy || busy {
                continue;
            }
            if self.rows[row].excuse == Excuse::Hole && !self.row_matches(row, missing) {
                self.fail(
                    &format!("parity of row {row} to be right after the resync"),
                    self.show_row(row),
                );
                return;
            }
            if self.rows[row].excuse == Excuse::Hole {
                self.row_is_right(row, missing);
            }
        }
    }

    /// Notes which of the parts that have failed so far had reason to: later the reason may be gone.
    pub(crate) fn excuse_failures(&self, key: SpanKey, parts: &mut SimParts) {
        for part in parts.list.iter_mut().chain(&mut parts.done) {
            let mut failed = part.part.failed().iter();
            part.excused |= failed.any(|strip| self.rows[row_of(key, strip)].lossy);
        }
    }

    /// What the members of a row hold, for reports.
    pub(crate) fn show_row(&self, row: usize) -> String {
        let mut text = String::from("\n");
        for (slot, device) in self.md.slots.iter().enumerate() {
            let role = match self.geometry.role(
                self.geometry
                    .stripe_of(u64::from(row as u32 * STRIP_SECTORS)),
                slot as u16,
            ) {
                Role::Data(index) => format!("D{index}"),
                Role::P => "P".into(),
                Role::Q => "Q".into(),
            };
            text += &format!("    member {slot} {role}:");
            match device {
                None => text += " missing",
                Some(d) => {
                    for at in 0..STRIP_SECTORS {
                        let sector = row as u32 * STRIP_SECTORS + at;
                        text += &format!(" {:016x}", self.devices[*d].get(sector));
                    }
                    if let Some(d) = self.md.replacements[slot] {
                        text += &format!(" (is to be replaced by {d})");
                    }
                }
            }
            text += "\n";
        }
        for slot in self.code(row).parity_slots().iter() {
            text += &format!("    {slot} off by:");
            for at in 0..STRIP_SECTORS {
                let is = self.words(row, at)[slot];
                let should = self.restored_words(row, at, self.code(row).parity_slots())[slot];
                text += &format!(" {:016x}", is ^ should);
            }
            text += "\n";
        }
        text
    }
}
