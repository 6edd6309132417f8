// SPDX-License-Identifier: GPL-2.0

//! Power cuts, and what the members tell when the array is assembled again.

use super::bitmap::Bitmap;
use super::code::Slots;
use super::daemon::Daemon;
use super::device::{SuperRecord, ALL};
use super::md::Md;
use super::oracle::{row_end, Excuse};
use super::report::Event;
use super::submit::Submitter;
use super::sync::Sync;
use super::table::Table;
use super::{admin::Admin, Sim};
use crate::raid::phase::Phase;
use crate::raid::strips::STRIP_SECTORS;

impl Sim {
    /// The power fails, if it may still do so in this run. Returns whether it did.
    pub(crate) fn power_may_fail(&mut self) -> bool {
        let all_dead = self.devices.iter().all(|device| device.dead);
        if self.config.power_cuts == 0 || self.md.broken.get() || all_dead {
            return false;
        }
        self.config.power_cuts -= 1;
        self.power_cut();
        true
    }

    fn power_cut(&mut self) {
        self.note(|| "the power fails".into());
        self.count(Event::PowerCut);
        let at_risk = self.rows_at_risk();
        // A superblock that gets there has flushed the cache before.
        let mut ios = std::mem::take(&mut self.ios);
        for index in (1..ios.len()).rev() {
            ios.swap(index, self.rng.index(index + 1));
        }
        for io in ios {
            self.tear(io);
        }
        for device in 0..self.devices.len() {
            if self.devices[device].power_cut(&mut self.rng) > 0 {
                self.count(Event::CacheLost);
            }
        }
        self.forget_everything();
        self.history.power_cut();
        if self.assemble() {
            self.lose_track_in_power_cut(|sim, row| !at_risk[row] && sim.missing(row).is_empty());
            self.check_assembled(&at_risk);
            self.remember_scribbles();
        }
    }

    /// Rows of which some blocks may be newer than others on the media.
    fn rows_at_risk(&self) -> Vec<bool> {
        let mut at_risk = vec![false; self.rows.len()];
        for device in self.all_members() {
            for sector in self.devices[device].undurable() {
                at_risk[(sector / STRIP_SECTORS) as usize] = true;
            }
        }
        for entry in &self.table.entries {
            let (Some(key), Some(actor)) = (entry.key, &entry.actor) else {
                continue;
            };
            for strip in actor.span.phases().of(Phase::Writing).iter() {
                at_risk[super::oracle::row_of(key, strip)] = true;
            }
        }
        at_risk
    }

    /// All that was in memory is gone.
    fn forget_everything(&mut self) {
        self.table = Table::new(self.config.spans, self.config.kits, self.md.slots.len());
        self.jobs.clear();
        self.requests.clear();
        self.submitters = (0..self.config.submitters)
            .map(|_| Submitter::default())
            .collect();
        self.unposted.clear();
        self.flush_waiters.clear();
        self.daemon = Daemon::default();
        self.admin = Admin::Idle;
        self.sync = Sync::new();
        self.quiesced_by_sync = false;
        for device in &mut self.devices {
            device.pending = 0;
            device.fault_recorded = false;
        }
    }

    /// The array is assembled from what its members say. Returns false if there is none.
    fn assemble(&mut self) -> bool {
        self.draw_lost_devices();
        let newest = (0..self.devices.len())
            .filter(|&d| !self.devices[d].dead)
            .max_by_key(|&d| self.devices[d].superblock.events);
        let Some(newest) = newest else {
            return false;
        };
        let record = self.devices[newest].superblock.clone();
        // A member whose bitmap write failed and that nobody could be told of yet is not asked for the bitmap.
        let suspect: Vec<bool> = self.devices.iter().map(|d| d.faulty.get()).collect();
        let mut slots = vec![None; self.md.slots.len()];
        let mut replacements = slots.clone();
        for d in 0..self.devices.len() {
            let usable = self.accept(d, &record) && !self.devices[d].dead;
            let role = record.roles.get(d).copied().flatten();
            let device = &mut self.devices[d];
            device.faulty.set(false);
            device.blocked.set(false);
            device.in_sync.set(false);
            device.was_in_sync.set(false);
            device.recovery_offset = 0;
            device.whole = false;
            device.known_bad = device.superblock.bad.clone();
            device.write_error_seen = false;
            if let (true, Some(slot)) = (usable, role) {
                match device.superblock.recovery_offset {
                    None => device.in_sync.set(true),
                    Some(offset) => device.recovery_offset = offset,
                }
                if device.superblock.replaces {
                    replacements[slot] = Some(d);
                    if !record.clean {
                        // It may lack writes that the member has got, and the other way round.
                        device.recovery_offset = 0;
                    }
                } else {
                    slots[slot] = Some(d);
                }
            } else if role.is_some() {
                self.count(Event::StaleMember);
            }
        }
        for (slot, replacement) in slots.iter_mut().zip(&mut replacements) {
            // It is all there is.
            if slot.is_none() {
                *slot = replacement.take();
            }
        }
        let in_sync = |slot: &Option<usize>| slot.is_some_and(|d| self.devices[d].in_sync.get());
        let whole = slots.iter().filter(|slot| in_sync(slot)).count();
        let bitmap_from = slots
            .iter()
            .flatten()
            .copied()
            .find(|&d| self.devices[d].in_sync.get() && !suspect[d])
            .or(slots.iter().flatten().copied().next());
        self.md = Md::new(slots, &self.config);
        self.md.replacements = replacements;
        self.md.events = record.events;
        self.md.clean = record.clean;
        self.md.resync_offset = if record.clean {
            record.resync_offset
        } else {
            0
        };
        self.md.trusted = self.md.resync_offset;
        if !record.clean {
            self.count(Event::UncleanStart);
            if whole < self.md.slots.len() {
                self.count(Event::DegradedStart);
            }
        }
        if let (Some(chunk), Some(from)) = (self.config.bitmap_chunk, bitmap_from) {
            let sequence = u32::MAX - self.rng.below(40);
            let mut bitmap = Bitmap::load(&self.devices[from].bitmap, chunk, sequence);
            // The power may have failed before each member had what this one has. md core leaves it at that.
            bitmap.write_all();
            self.bitmap = Some(bitmap);
        }
        // What the bitmap has no record of, the sync must not skip: a rebuild that was interrupted starts anew there.
        self.sync.full = true;
        self.note(|| {
            format!(
                "assembled from events {}, {}, members {:?}",
                record.events,
                if record.clean { "clean" } else { "unclean" },
                self.md.slots
            )
        });
        if whole + self.parities() < self.md.slots.len() {
            self.md.broken.set(true);
            self.count(Event::Broken);
        }
        true
    }

    /// Some member may not come back, or several of as many as parity stands for.
    fn draw_lost_devices(&mut self) {
        if !self.troubles() || !self.rng.chance(150) {
            return;
        }
        self.lose_some_device();
        if self.parities() > 1 && self.rng.chance(300) {
            self.lose_some_device();
        }
    }

    fn lose_some_device(&mut self) {
        let slot = self.rng.index(self.md.slots.len());
        let Some(device) = self.md.slots[slot] else {
            return;
        };
        let is_fine = |d: usize| {
            let device = &self.devices[d];
            device.in_sync.get() && !device.dead && !device.has_bad()
        };
        let others = self.md.slots.iter().enumerate();
        let impaired = others.filter(|(other, d)| *other != slot && !d.is_some_and(is_fine));
        if impaired.count() < self.parities() {
            self.note(|| format!("device {device} does not come back"));
            self.devices[device].dead = true;
        }
    }

    /// Whether a device's superblock is new enough.
    fn accept(&self, device: usize, newest: &SuperRecord) -> bool {
        self.devices[device].superblock.events + 1 >= newest.events
    }

    /// What was durable is there; parity is right but where the power cut interrupted a write.
    fn check_assembled(&mut self, at_risk: &[bool]) {
        for (row, &at_risk) in at_risk.iter().enumerate() {
            let lost = self.missing(row);
            self.rows[row].reported = false;
            self.rows[row].located = None;
            self.rows[row].unlocated = false;
            if lost.count() > self.parities() {
                self.row_lossy(row);
            } else {
                self.check_row(row, lost, at_risk);
            }
            for slot in 0..self.md.slots.len() {
                self.check_block(slot, row, lost);
            }
        }
        let is_wrong = |row: usize| {
            let whole = self.missing(row).is_empty();
            whole && self.rows[row].excuse == Excuse::Hole && !self.row_matches(row, Slots::NONE)
        };
        let wrong = (0..self.rows.len()).find(|&row| is_wrong(row));
        if let (ALL, Some(row)) = (self.md.resync_offset, wrong) {
            self.fail(
                "an array with wrong parity to be unclean",
                format!("row {row} is wrong, and the array is clean"),
            );
        }
    }

    /// A row of which no more blocks are `lost` than parity stands for.
    fn check_row(&mut self, row: usize, lost: Slots, at_risk: bool) {
        let slots = 0..self.md.slots.len();
        let bad: Slots = slots
            .filter(|&slot| !lost.contains(slot) && self.is_bad_block(slot, row))
            .collect();
        if lost.count() < self.parities() {
            self.check_parity_after_cut(row, lost, bad, at_risk);
        }
        if lost.is_empty() {
            return;
        }
        let too_many = lost.count() + bad.count() > self.parities();
        if too_many {
            self.row_lossy(row);
        }
        if too_many || at_risk || self.rows[row].excuse != Excuse::None {
            for slot in lost.iter() {
                self.fell_into_hole(slot, row);
            }
        }
    }

    /// Parity is right in a row, or there is a reason.
    fn check_parity_after_cut(&mut self, row: usize, lost: Slots, bad: Slots, at_risk: bool) {
        let state = self.rows[row];
        if self.row_matches(row, lost) {
            if state.excuse == Excuse::Scribbled {
                self.rows[row].excuse = Excuse::None;
            }
            return;
        }
        if state.excuse == Excuse::None && !at_risk && !state.lossy {
            self.fail(
                &format!("parity of row {row} to survive: no write of it was under way"),
                "it does not match".into(),
            );
        }
        if state.excuse == Excuse::None {
            self.count(Event::HoleRow);
            self.rows[row].excuse = if state.was_scribbled {
                Excuse::Scribbled
            } else {
                Excuse::Hole
            };
        }
        for slot in bad.iter() {
            self.fell_into_hole(slot, row);
        }
    }

    fn fell_into_hole(&mut self, slot: usize, row: usize) {
        self.count(Event::HoleBlock);
        for at in 0..STRIP_SECTORS {
            if let Some(sector) = self.array_sector(slot, row, at) {
                self.history.fell_into_hole(sector);
            }
        }
    }

    /// A member's block after a power cut is one that may be there.
    fn check_block(&mut self, slot: usize, row: usize, lost: Slots) {
        let hopeless = lost.count() > self.parities();
        if lost.contains(slot) && hopeless {
            return;
        }
        let lost = if hopeless { Slots::NONE } else { lost };
        for at in 0..STRIP_SECTORS {
            let Some(sector) = self.array_sector(slot, row, at) else {
                return;
            };
            let value = self.restored_words(row, at, lost)[slot];
            if let Err(expected) = self.history.after_power_cut(sector, value) {
                self.fail(
                    &format!(
                        "array sector {sector} (row {row}, member {slot}, below {}) to hold {expected} after the power cut",
                        row_end(row)
                    ),
                    format!("{value:016x}"),
                );
                return;
            }
        }
    }
}
