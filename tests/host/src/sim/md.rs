// SPDX-License-Identifier: GPL-2.0

//! The part of md core that a running array leans on: slots, failures, the superblock's flags, the counts that
//! suspending and quiescing wait for.

use super::config::Config;
use super::device::{SuperRecord, ALL};
use super::oracle::row_of;
use super::report::Event;
use super::silent::MismatchMethod;
use super::Sim;
use crate::array::retry::Retry;
use crate::raid::job::{Replacement, RmwLevel};
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, SPAN_STRIPS, STRIP_SECTORS};
use std::cell::{Cell, RefCell};

/// md's view of the array. What a failure changes is in cells: members fail in the middle of anything.
#[derive(Debug)]
pub(crate) struct Md {
    /// The device in each slot.
    pub(crate) slots: Vec<Option<usize>>,
    /// The device that is to replace it.
    pub(crate) replacements: Vec<Option<usize>>,
    /// What that one has lacked when it was to become the member.
    pub(crate) retries: Vec<Retry>,
    pub(crate) events: u64,
    /// The superblocks say, or soon will, that no write is under way.
    pub(crate) clean: bool,
    /// Parity is known to be right below this sector, says md core.
    pub(crate) resync_offset: u32,
    /// The driver knows that it is below this one: a repair that is interrupted makes nothing wrong.
    pub(crate) trusted: u32,
    /// MD_SB_CHANGE_DEVS, _CLEAN and _PENDING.
    pub(crate) change_devs: Cell<bool>,
    pub(crate) change_clean: bool,
    pub(crate) change_pending: Cell<bool>,
    /// MD_BROKEN.
    pub(crate) broken: Cell<bool>,
    /// MD_RECOVERY_INTR.
    pub(crate) interrupt: Cell<bool>,
    /// Failures that the rest of the simulator has not heard of.
    pub(crate) failures: RefCell<Vec<usize>>,
    pub(crate) writes_pending: u32,
    /// Requests between md_handle_request and their end.
    pub(crate) active_io: u32,
    /// Of the clones that are kept for requests, those that some request has.
    pub(crate) clones: u32,
    /// What quiesce waits for: active spans, direct reads, requests that are being submitted.
    pub(crate) inflight: u32,
    pub(crate) quiescing: bool,
    pub(crate) suspended: bool,
    /// reconfig_mutex is held.
    pub(crate) locked: bool,
    pub(crate) rmw_level: RmwLevel,
    pub(crate) mismatch_method: MismatchMethod,
}

impl Md {
    /// Parity is right below this sector.
    pub(crate) fn trusted_below(&self) -> u32 {
        self.resync_offset.max(self.trusted)
    }

    /// An array that is not assembled yet.
    pub(crate) fn new(slots: Vec<Option<usize>>, config: &Config) -> Self {
        Self {
            replacements: vec![None; slots.len()],
            retries: slots.iter().map(|_| Retry::new()).collect(),
            slots,
            events: 1,
            clean: true,
            resync_offset: ALL,
            trusted: ALL,
            change_devs: Cell::new(false),
            change_clean: false,
            change_pending: Cell::new(false),
            broken: Cell::new(false),
            interrupt: Cell::new(false),
            failures: RefCell::new(Vec::new()),
            writes_pending: 0,
            clones: 0,
            active_io: 0,
            inflight: 0,
            quiescing: false,
            suspended: false,
            locked: false,
            rmw_level: config.rmw_level,
            mismatch_method: config.mismatch_method,
        }
    }

    /// Whether the superblocks have to be written.
    pub(crate) fn change(&self) -> bool {
        self.change_devs.get() || self.change_clean || self.change_pending.get()
    }
}

impl Sim {
    /// md_error() and the personality's error handler: the device is Faulty, and until the superblocks say so no write
    /// that it missed may be acknowledged.
    pub(crate) fn md_error(&self, device: usize) {
        let state = &self.devices[device];
        if state.faulty.get() || self.slot_of(device).is_none() {
            return;
        }
        self.rely_on_whole(device);
        state.was_in_sync.set(state.in_sync.get());
        state.faulty.set(true);
        state.in_sync.set(false);
        state.blocked.set(true);
        self.md.change_devs.set(true);
        self.md.change_pending.set(true);
        self.md.interrupt.set(true);
        if self.has_failed() {
            self.md.broken.set(true);
            self.check_broken();
        }
        self.md.failures.borrow_mut().push(device);
    }

    /// A device is about to fail. If more members were lost then than parity makes up for, devices that lack nothing but bad blocks are in
    /// sync from now on.
    fn rely_on_whole(&self, fails: usize) {
        let counts = |d: usize| {
            let device = &self.devices[d];
            d != fails && !device.faulty.get() && device.in_sync.get()
        };
        let slots = 0..self.md.slots.len();
        let lost: Vec<_> = slots
            .filter(|&slot| !self.devices_of(slot).any(counts))
            .collect();
        if lost.len() <= self.parities() {
            return;
        }
        for slot in lost {
            let held_to = |d: usize| self.md.retries[slot].held_to(device_address(d));
            for d in self.devices_of(slot) {
                if d != fails && !self.devices[d].faulty.get() && held_to(d) == u64::MAX {
                    self.note(|| format!("device {d} is in sync but for its bad blocks"));
                    self.devices[d].in_sync.set(true);
                }
            }
        }
    }

    /// The array has failed: of more slots than parity makes up for nobody holds all but some bad blocks.
    fn check_broken(&self) {
        let holds_all = |d: usize| {
            let device = &self.devices[d];
            !device.faulty.get() && (device.in_sync.get() || device.whole)
        };
        let slots = 0..self.md.slots.len();
        let lost = slots.filter(|&slot| !self.devices_of(slot).any(holds_all));
        let lost = lost.count();
        if lost <= self.parities() {
            self.fail(
                "the array to go on with devices that lack nothing but bad blocks",
                format!("it has failed, with {lost} slots that nobody holds all of"),
            );
        }
    }

    /// Fails a device, and tells the oracle.
    pub(crate) fn fail_device(&mut self, device: usize) {
        self.md_error(device);
        self.hear_of_failures();
    }

    /// Tells the oracle of devices that have failed.
    pub(crate) fn hear_of_failures(&mut self) {
        while let Some(device) = self.md.failures.get_mut().pop() {
            self.count(Event::MemberFailed);
            if self.md.broken.get() {
                self.count(Event::Broken);
            }
            self.note(|| format!("device {device} is Faulty"));
            self.device_lost(device);
        }
    }

    /// Members that may be lost.
    pub(crate) fn parities(&self) -> usize {
        usize::from(self.geometry.parity_disks())
    }

    /// Members that are missing, Faulty or not in sync.
    pub(crate) fn degraded(&self) -> usize {
        let whole = |d: usize| {
            let device = &self.devices[d];
            !device.faulty.get() && device.in_sync.get()
        };
        let slots = 0..self.md.slots.len();
        slots
            .filter(|&slot| !self.devices_of(slot).any(whole))
            .count()
    }

    /// Whether more members are lost than parity makes up for.
    pub(crate) fn has_failed(&self) -> bool {
        self.degraded() > self.parities()
    }

    /// The devices in a slot: the member, and the one that is to replace it.
    pub(crate) fn devices_of(&self, slot: usize) -> impl Iterator<Item = usize> {
        let both = [self.md.slots[slot], self.md.replacements[slot]];
        both.into_iter().flatten()
    }

    /// All devices in slots.
    pub(crate) fn all_members(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.md.slots.len()).flat_map(|slot| self.devices_of(slot))
    }

    /// The slot that a device is in.
    pub(crate) fn slot_of(&self, device: usize) -> Option<usize> {
        (0..self.md.slots.len()).find(|&slot| self.devices_of(slot).any(|d| d == device))
    }

    /// The device that is to replace the member in a slot, unless it is Faulty.
    pub(crate) fn replacement(&self, slot: usize) -> Option<usize> {
        self.md.replacements[slot].filter(|&d| !self.devices[d].faulty.get())
    }

    /// The device that a slot's sectors are read from: the replacement, if it holds them, or the member if that does.
    pub(crate) fn reader(&self, slot: usize, sector: u32, count: u32) -> Option<usize> {
        let end = (sector + count).next_multiple_of(STRIP_SECTORS);
        let holds = |d: &usize| {
            let mut rows = sector / STRIP_SECTORS..end / STRIP_SECTORS;
            let synced = self.devices[*d].in_sync.get() || end <= self.synced_to(*d);
            synced && !rows.any(|row| self.devices[*d].knows_bad(row as usize))
        };
        let replacement = self.replacement(slot).filter(holds);
        replacement.or_else(|| self.member(slot).filter(holds))
    }

    /// The device in a slot, unless it is Faulty.
    pub(crate) fn member(&self, slot: usize) -> Option<usize> {
        self.md.slots[slot].filter(|&d| !self.devices[d].faulty.get())
    }

    /// The strips of a span at which a member, or its replacement, is in sync.
    pub(crate) fn readable(&self, slot: usize, key: SpanKey) -> Strips {
        self.held(self.member(slot), key) | self.held(self.replacement(slot), key)
    }

    /// The strips of a span at which a device is in sync.
    fn held(&self, device: Option<usize>, key: SpanKey) -> Strips {
        match device {
            None => Strips::NONE,
            Some(d) if self.devices[d].in_sync.get() => Strips(u16::MAX) - self.bad_strips(d, key),
            Some(d) => strips_below(key, self.synced_to(d)) - self.bad_strips(d, key),
        }
    }

    /// Below which sector a device of a slot that is not in sync holds everything but its bad blocks.
    pub(crate) fn synced_to(&self, device: usize) -> u32 {
        let slot = self.slot_of(device);
        let held_to = |slot: usize| self.md.retries[slot].held_to(device_address(device));
        // The simulated arrays do not grow.
        if slot.map_or(0, held_to) == u64::MAX {
            ALL
        } else {
            self.devices[device].recovery_offset
        }
    }

    /// The strips of a span that a member can be written at.
    pub(crate) fn writable(&self, slot: usize, key: SpanKey) -> Strips {
        self.taken(self.member(slot), key)
    }

    /// What can be read and written of the device that is to replace a member.
    pub(crate) fn replacement_at(&self, slot: usize, key: SpanKey) -> Option<Replacement> {
        self.md.replacements[slot]?;
        let mut holds = self.held(self.replacement(slot), key);
        if let Some(d) = self.replacement(slot) {
            if !self.devices[d].in_sync.get() {
                holds &= strips_below(key, self.devices[d].recovery_offset);
            }
        }
        Some(Replacement {
            takes: self.taken(self.replacement(slot), key),
            holds,
        })
    }

    /// The strips of a span that a device can be written at.
    fn taken(&self, device: Option<usize>, key: SpanKey) -> Strips {
        match device {
            None => Strips::NONE,
            Some(d) if self.devices[d].write_error_seen => {
                Strips(u16::MAX) - self.bad_strips(d, key)
            }
            Some(_) => Strips(u16::MAX),
        }
    }

    /// The strips of a span whose blocks on a device are known to be bad.
    fn bad_strips(&self, device: usize, key: SpanKey) -> Strips {
        let first = row_of(key, 0);
        let rows = self.devices[device].known_bad.iter();
        let strips = rows.filter_map(|row| u32::try_from(row.checked_sub(first)?).ok());
        strips.fold(Strips::NONE, |all, strip| all | Strips::one(strip))
    }

    /// rdev_set_badblocks(): the block of a row is not to be read any more. If that cannot be recorded the device fails.
    /// Returns whether it could.
    pub(crate) fn record_bad(&mut self, device: usize, row: usize) -> bool {
        let limit = self.config.bad_log;
        let state = &mut self.devices[device];
        if state.faulty.get() {
            return true;
        }
        let known = match state.known_bad.binary_search(&row) {
            Ok(_) => true,
            Err(_) if state.known_bad.len() >= limit => {
                self.count(Event::BadLogFull);
                self.fail_device(device);
                return false;
            }
            Err(at) => {
                state.known_bad.insert(at, row);
                false
            }
        };
        self.md.change_clean = true;
        self.md.change_pending.set(true);
        if !known {
            self.count(Event::BadRecorded);
            self.note(|| format!("device {device} knows that its block of row {row} is bad"));
            self.block_gone(device, row);
        }
        true
    }

    /// rdev_clear_badblocks(): the block of a row was written.
    pub(crate) fn clear_bad(&mut self, device: usize, row: usize) {
        let known = &mut self.devices[device].known_bad;
        if let Ok(at) = known.binary_search(&row) {
            known.remove(at);
            self.count(Event::BadHealed);
            self.note(|| format!("device {device} has a good block of row {row} again"));
        }
    }

    /// Whether every failure is recorded.
    pub(crate) fn failures_recorded(&self) -> bool {
        let blocked = |d: usize| self.devices[d].blocked.get();
        !self.md.change_pending.get() && !self.all_members().any(blocked)
    }

    /// What the superblock of `device` has to say now.
    pub(crate) fn super_record(&self, device: usize) -> SuperRecord {
        let mut roles = vec![None; self.devices.len()];
        for slot in 0..self.md.slots.len() {
            for d in self.devices_of(slot) {
                if !self.devices[d].faulty.get() {
                    roles[d] = Some(slot);
                }
            }
        }
        let state = &self.devices[device];
        let rebuilding = roles[device].is_some() && !state.in_sync.get();
        SuperRecord {
            events: self.md.events,
            clean: self.md.clean,
            resync_offset: if self.md.clean {
                self.md.resync_offset
            } else {
                0
            },
            roles,
            recovery_offset: rebuilding.then_some(state.recovery_offset),
            replaces: self.md.replacements.contains(&Some(device)),
            bad: state.known_bad.clone(),
        }
    }

    /// md_write_end().
    pub(crate) fn write_end(&mut self) {
        if self.md.writes_pending == 0 {
            self.fail(
                "md_write_end() once for each md_write_start()",
                "one more".into(),
            );
            return;
        }
        self.md.writes_pending -= 1;
    }

    /// Gives back a reference that quiesce waits for.
    pub(crate) fn put_inflight(&mut self) {
        if self.md.inflight == 0 {
            self.fail("as many references given back as taken", "one more".into());
            return;
        }
        self.md.inflight -= 1;
    }
}

/// What the driver has as a device's address: not 0.
pub(crate) fn device_address(device: usize) -> usize {
    device + 1
}

/// The strips of a span that end at or below `limit`.
pub(crate) fn strips_below(key: SpanKey, limit: u32) -> Strips {
    let Some(room) = u64::from(limit).checked_sub(key.sector) else {
        return Strips::NONE;
    };
    let strips = room / u64::from(STRIP_SECTORS);
    Strips::first_n(u32::try_from(strips).unwrap_or(SPAN_STRIPS))
}
