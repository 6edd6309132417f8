// SPDX-License-Identifier: GPL-2.0

//! What members hold of what is said to be done: no write is acknowledged whose data is on no member while more blocks are
//! missing than parity stands for, and no rebuild passes over a block without a word. And what must not be kept waiting: writes
//! that somebody waits for.

use super::code::Slots;
use super::oracle::{row_end, row_of};
use super::report::Event;
use super::submit::changes;
use super::sync::Action;
use super::table::{Actor, SimPart};
use super::Sim;
use crate::raid::part::{Hold, Part};
use crate::raid::phase::Phase;
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, STRIP_SECTORS};

impl Sim {
    /// Blocks of `strips` are about to be written to some member.
    pub(crate) fn note_stored(&self, key: SpanKey, strips: Strips, actor: &mut Actor) {
        for strip in (strips - actor.stored).iter() {
            let unheld = &mut actor.unheld[strip as usize];
            *unheld = unheld.and(self.not_held(row_of(key, strip)));
        }
        actor.stored |= strips;
    }

    /// The slots that have no good block of a row, as far as the array can know: a member may be dead, and nobody has
    /// noticed.
    fn not_held(&self, row: usize) -> Slots {
        let holds =
            |d: usize| self.devices[d].covers(row_end(row)) && !self.devices[d].knows_bad(row);
        (0..self.md.slots.len())
            .filter(|&slot| !self.devices_of(slot).any(holds))
            .collect()
    }

    /// Writes have ended for some strips. What is acknowledged can be read again: it is on its member, or no more blocks are
    /// missing than parity stands for. A member that is lost after it has taken its block counts as one that is lost after
    /// the acknowledgement.
    pub(crate) fn check_acknowledged(&mut self, key: SpanKey, actor: &mut Actor) {
        let mut ended = Strips::NONE;
        for entry in actor.parts.list.iter_mut().chain(&mut actor.parts.done) {
            let active = entry.part.active();
            let done = std::mem::replace(&mut entry.at_work, active) - active;
            ended |= done;
            if !changes(entry.part.kind) {
                continue;
            }
            for strip in (done - entry.part.failed()).iter() {
                let row = row_of(key, strip);
                let unheld = actor.unheld[strip as usize];
                let nowhere = !actor.stored.meets(Strips::one(strip));
                let missing: Slots = self
                    .not_held(row)
                    .iter()
                    .filter(|&slot| nowhere || unheld.contains(slot))
                    .collect();
                let own = self.written_slots(key, &entry.part, strip);
                let lost = own.iter().find(|&slot| missing.contains(slot));
                if let (Some(slot), true) = (lost, missing.count() > self.parities()) {
                    self.fail(
                        &format!(
                            "a write of row {row}, member {slot}, to fail if that block and more than {} in all are on no member",
                            self.parities()
                        ),
                        format!("it is acknowledged, and these are: {missing:?}"),
                    );
                }
            }
        }
        actor.stored -= ended;
        for strip in ended.iter() {
            actor.unheld[strip as usize] = Slots::NONE;
        }
    }

    /// The array had failed before a step that began to write these strips. Nothing of that changes what the array holds: a member
    /// that was lost last may be brought back, and is to match the others.
    pub(crate) fn check_refused(&self, key: SpanKey, actor: &Actor, begun: Strips) {
        let parts = actor.parts.list.iter().map(|entry| &entry.part);
        let changed = parts
            .filter(|part| changes(part.kind))
            .fold(Strips::NONE, |all, part| all | part.active());
        if begun.meets(changed) {
            self.fail(
                "no write to go to the members of an array that has failed",
                format!("strips {:?} of span {}", begun & changed, key.sector),
            );
        }
    }

    /// Once its submitter's plug is released, no write that somebody waits for, perhaps to be durable, waits for others, unless he
    /// writes a stream himself; whoever else holds its strips.
    pub(crate) fn check_awaited(&self, key: SpanKey, actor: &Actor) {
        let parts = actor.parts.list.iter().map(|entry| &entry.part);
        let awaited = parts
            .filter(|part| (part.fua || part.sync) && part.hold == Hold::No)
            .fold(Strips::NONE, |all, part| all | part.active());
        let held = awaited & actor.span.phases().of(Phase::Gathering);
        if !held.is_empty() {
            self.fail(
                "no write that somebody waits for to wait for others when its submitter's plug is released",
                format!("strips {held:?} of span {}", key.sector),
            );
        }
    }

    /// A rebuild says that it could not make a device's block of a row: nobody else in the slot has it.
    pub(crate) fn check_unmade(&self, slot: usize, device: usize, row: usize) {
        if self.has_other(slot, device, row) && !self.rows[row].undone {
            self.fail(
                &format!("a rebuild to give device {device} the block of row {row}, which the other one in slot {slot} holds"),
                "it is recorded as bad".into(),
            );
        }
    }

    /// A replacement becomes the member, which goes: it lacks nothing that is there in the member alone.
    pub(crate) fn check_replaced(&self, slot: usize, old: usize, new: usize) {
        let lacks = |row: usize| {
            let known = self.devices[new].knows_bad(row);
            known && self.has_on(old, row) && !self.is_bad_on(old, row) && !self.rows[row].undone
        };
        if let Some(row) = (0..self.rows.len()).find(|&row| lacks(row)) {
            self.fail(
                &format!("device {new} not to become the member in slot {slot} before it has the block of row {row}, which device {old} holds"),
                "it knows that its own is bad".into(),
            );
        }
    }

    /// The slots whose blocks of a strip a part writes.
    fn written_slots(&self, key: SpanKey, part: &Part, strip: u32) -> Slots {
        let geometry = &self.geometry;
        let stripe = geometry.stripe_of(key.sector);
        let sectors = strip * STRIP_SECTORS..(strip + 1) * STRIP_SECTORS;
        (0..geometry.data_disks())
            .filter(|&index| {
                let slice = geometry.slice(key.sector, part.start, part.end, index);
                slice.start.max(sectors.start) < slice.end.min(sectors.end)
            })
            .map(|index| usize::from(geometry.member_of(stripe, index)))
            .collect()
    }

    /// The clocks of all devices: what is written from now on is later.
    pub(crate) fn clocks(&self) -> Vec<u32> {
        self.devices.iter().map(|device| device.clock()).collect()
    }

    /// A unit of a rebuild has ended, well or not: each member that is being rebuilt has got its blocks since the unit was begun, or
    /// knows that they are bad.
    pub(crate) fn check_rebuilt(&mut self, key: SpanKey, part: &SimPart) {
        if self.sync_action() != Action::Recover {
            return;
        }
        for strip in part.strips.iter() {
            let row = row_of(key, strip);
            let sector = row as u32 * STRIP_SECTORS;
            let written = |d: usize| {
                let since = part.since.get(d);
                since.is_some_and(|&since| self.devices[d].written_since(sector, since))
            };
            let mut copied = self.md.replacements.iter().flatten();
            if part.part.failed().meets(Strips::one(strip)) && copied.any(|&d| written(d)) {
                self.count(Event::CopiedAlone);
            }
            let passed_over = (0..self.md.slots.len()).find(|&slot| {
                self.devices_of(slot).any(|d| {
                    let device = &self.devices[d];
                    // One that is whole gets what it lacks alone, and does not become the member before it has.
                    let is_due = !device.in_sync.get()
                        && !device.whole
                        && !device.faulty.get()
                        && device.recovery_offset <= sector
                        && !device.dead
                        && !device.knows_bad(row);
                    is_due && part.since.len() > d && !written(d)
                })
            });
            if let Some(slot) = passed_over {
                self.fail(
                    &format!("a rebuild to write row {row} to the member in slot {slot}, or to say that it did not"),
                    "it did neither".into(),
                );
            }
        }
    }
}
