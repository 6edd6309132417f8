// SPDX-License-Identifier: GPL-2.0

//! The administrator, the shrinker, and bad luck: everything that comes from outside.

use super::device::{Device, ALL};
use super::io::Owner;
use super::md::device_address;
use super::oracle::{row_end, row_of, Excuse};
use super::reboot::Reboot;
use super::report::Event;
use super::silent::MismatchMethod;
use super::sync::Action;
use super::table::Events;
use super::Sim;
use crate::array::retry::{Lacking, Verdict};
use crate::raid::job::RmwLevel;
use crate::raid::phase::Phase;
use crate::raid::strips::STRIP_SECTORS;
use std::cell::Cell;

/// What is being done to the array as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Admin {
    #[default]
    Idle,
    /// mddev_suspend(): waits for the last request, then does what follows.
    Suspending(Next),
    /// Waits for quiesce to end.
    Quiescing { suspended: bool },
    /// Enjoys the silence.
    Silent { suspended: bool, left: u32 },
    /// Goes down.
    Rebooting(Reboot),
}

/// What an array is suspended for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Quiescing it with reconfig_mutex held.
    Quiesce,
    /// Taking out failed members and adding spares.
    Change,
}

/// Picks after which nobody else is taken to be able to go on.
const PATIENCE: u32 = 100;

impl Sim {
    /// Something happens from outside, or goes on. Returns false if nothing does.
    pub(crate) fn admin(&mut self) -> bool {
        match self.admin {
            Admin::Idle if self.draining => self.mend(),
            // Requests that can go on only when something happens from outside do not go on.
            Admin::Idle if self.stalled > PATIENCE && self.requests.len() > 0 => false,
            Admin::Idle if self.cache_rng.chance(self.config.resizes) => self.resize_cache(),
            Admin::Idle if self.trust_rng.chance(self.config.distrusts) => self.distrust(),
            Admin::Idle if self.give_rng.chance(self.config.gives_back) => self.give_back(),
            Admin::Idle if self.reboot_rng.chance(self.config.reboots) => self.reboot(),
            Admin::Idle => self.rng.chance(self.config.trouble) && self.something_happens(),
            Admin::Suspending(next) => self.suspended(next),
            Admin::Rebooting(reboot) => self.rebooting(reboot),
            Admin::Quiescing { suspended } => {
                if !self.quiesce_done() {
                    // The daemon cannot, for want of the lock.
                    return suspended && self.daemon.is_idle() && self.help_recording();
                }
                let left = self.rng.below(20);
                self.admin = Admin::Silent { suspended, left };
                true
            }
            Admin::Silent { suspended, left: 0 } => {
                self.expect_silence();
                self.quiesce_end();
                if suspended {
                    self.md.locked = false;
                    self.md.suspended = false;
                }
                self.admin = Admin::Idle;
                true
            }
            Admin::Silent { suspended, left } => {
                self.expect_silence();
                self.admin = Admin::Silent {
                    suspended,
                    left: left - 1,
                };
                true
            }
        }
    }

    fn something_happens(&mut self) -> bool {
        match self.rng.below(16) {
            0 => self.suspend(Next::Quiesce),
            1 => {
                if self.md.quiescing {
                    return false;
                }
                self.admin = Admin::Quiescing { suspended: false };
                self.quiesce_begin();
                true
            }
            2..=3 => self.suspend(Next::Change),
            4 => self.change_members(),
            5 => self.once_or_twice(Self::fail_some_member),
            6..=8 => self.spoil_some_sector(),
            9 => self.once_or_twice(Self::kill_some_member),
            10..=11 => self.scribble(),
            12 => {
                let action = self
                    .rng
                    .pick(&[Action::Check, Action::Repair, Action::Repair]);
                self.sync.requested = Some(action);
                true
            }
            13 => {
                // sync_action=idle.
                self.md.interrupt.set(true);
                true
            }
            14 => {
                self.md.rmw_level =
                    self.rng
                        .pick(&[RmwLevel::Disable, RmwLevel::Enable, RmwLevel::Prefer]);
                if self.parities() > 1 {
                    self.md.mismatch_method = self.rng.pick(&MismatchMethod::ALL);
                }
                true
            }
            _ => self.power_may_fail() || self.shrink(),
        }
    }

    /// stripe_cache_size is changed.
    fn resize_cache(&mut self) -> bool {
        let (few, many) = (self.config.kits / 8 + 1, self.config.kits);
        let kits = if self.table.total_kits() > few as usize {
            self.cache_rng.within(1..few + 1)
        } else {
            self.cache_rng.within(many..2 * many)
        };
        self.count(Event::CacheResized);
        self.note(|| format!("stripe_cache_size {kits}"));
        let mut room = self.room_for(kits);
        let there = || {
            room = room.saturating_sub(1);
            room > 0
        };
        if !self.table.resize(kits, self.md.slots.len(), there) {
            self.count(Event::CacheRefused);
        }
        self.wake_starved();
        true
    }

    /// md is told that parity is not known from some row on (resync_start), and it is wrong there where nobody works. Returns false
    /// if that cannot be.
    fn distrust(&mut self) -> bool {
        let simple = self.bitmap.is_none() && self.parities() == 1 && self.config.power_cuts == 0;
        if !simple || !self.sync.is_idle() || self.md.locked {
            return false;
        }
        let from = self.trust_rng.index(self.rows.len());
        // CAST: the simulated members are small.
        let sector = from as u32 * STRIP_SECTORS;
        self.count(Event::Distrusted);
        self.note(|| format!("resync_start {sector}"));
        self.md.resync_offset = self.md.resync_offset.min(sector);
        for row in from..self.rows.len() {
            let device = self.member(self.code(row).p());
            let Some(device) = device.filter(|_| self.may_scribble(row)) else {
                continue;
            };
            for at in 0..STRIP_SECTORS {
                let value = self.trust_rng.bits();
                self.devices[device].scribble(row as u32 * STRIP_SECTORS + at, value);
            }
            self.rows[row].excuse = Excuse::Hole;
        }
        true
    }

    /// At the end of a run: what can be mended is mended, so that everything can be looked at.
    fn mend(&mut self) -> bool {
        let lacking = (0..self.md.slots.len()).any(|slot| self.member(slot).is_none());
        (lacking || self.has_failed_replacement()) && self.may_mend() && self.change_members()
    }

    /// Whether a device that was to replace a member has failed, and is still there.
    pub(crate) fn has_failed_replacement(&self) -> bool {
        let mut replacements = self.md.replacements.iter().flatten();
        replacements.any(|&d| self.devices[d].faulty.get())
    }

    /// The member in a slot, or sometimes the device that is to replace it.
    fn some_device(&mut self, slot: usize) -> Option<usize> {
        let replacement = self.replacement(slot);
        if replacement.is_some() && self.replace_rng.chance(400) {
            return replacement;
        }
        self.member(slot)
    }

    /// Whether spares are still added at the end of a run.
    pub(crate) fn may_mend(&self) -> bool {
        self.sync.failures <= 3 && !self.md.broken.get()
    }

    /// Whether failures are still drawn.
    pub(crate) fn troubles(&self) -> bool {
        !self.draining
    }

    /// Whether this device may fail now: parity can make up for it, or another device can, or nobody cares.
    pub(crate) fn may_fail(&mut self, device: usize) -> bool {
        self.may_fail_beside(device, 0)
    }

    /// Whether it may, when as many `others` fail too.
    fn may_fail_beside(&mut self, device: usize, others: usize) -> bool {
        if self.config.reckless && self.rng.chance(300) {
            return true;
        }
        let own = self.slot_of(device);
        // It has got everything once, and gets what it lacks of that again.
        let stands_in = |d: usize| {
            let other = &self.devices[d];
            d != device && other.whole && !other.dead && !other.faulty.get()
        };
        if others == 0 && own.is_some_and(|slot| self.devices_of(slot).any(stands_in)) {
            return true;
        }
        let impaired = (0..self.md.slots.len()).filter(|&slot| {
            Some(slot) != own
                && !self.md.slots[slot].is_some_and(|d| {
                    let other = &self.devices[d];
                    other.in_sync.get() && !other.dead && !other.has_bad()
                })
        });
        impaired.count() + others < self.parities()
    }

    /// Members that will fail in the middle of the coming step, and after how many of its questions.
    pub(crate) fn draw_victims(&mut self) -> Vec<(Cell<u32>, usize)> {
        let mut victims = Vec::new();
        if self.config.mid_step == 0 || !self.troubles() || !self.rng.chance(self.config.mid_step) {
            return victims;
        }
        for others in 0..self.parities() {
            if others > 0 && self.rng.chance(500) {
                break;
            }
            let slot = self.rng.index(self.md.slots.len());
            let chosen = |d: &usize| victims.iter().any(|(_, victim)| victim == d);
            let victim = self
                .some_device(slot)
                .filter(|d| !chosen(d))
                .filter(|&d| self.may_fail_beside(d, victims.len()));
            let fuse = 1 + self.rng.below(24);
            if let Some(victim) = victim {
                self.count(Event::MidStep);
                victims.push((Cell::new(fuse), victim));
            }
        }
        if victims.len() > 1 {
            self.count(Event::FailedTogether);
        }
        victims
    }

    /// Lets something happen and, of level 6, sometimes at the same moment once more.
    fn once_or_twice(&mut self, what: fn(&mut Self) -> bool) -> bool {
        let happened = what(self);
        if happened && self.parities() > 1 && self.rng.chance(300) && what(self) {
            self.count(Event::FailedTogether);
        }
        happened
    }

    fn some_member(&mut self) -> Option<usize> {
        let slot = self.rng.index(self.md.slots.len());
        let device = self.some_device(slot)?;
        self.may_fail(device).then_some(device)
    }

    /// mdadm --fail.
    fn fail_some_member(&mut self) -> bool {
        let Some(device) = self.some_member() else {
            return false;
        };
        self.note(|| format!("device {device} is failed by the administrator"));
        self.fail_device(device);
        true
    }

    /// A device stops answering.
    fn kill_some_member(&mut self) -> bool {
        let slot = self.rng.index(self.md.slots.len());
        self.kill_member(slot)
    }

    fn kill_member(&mut self, slot: usize) -> bool {
        let Some(device) = self.some_device(slot) else {
            return false;
        };
        if !self.may_fail(device) {
            return false;
        }
        self.note(|| format!("device {device} dies"));
        self.count(Event::Died);
        self.device_lost(device);
        self.devices[device].dead = true;
        true
    }

    /// Some sector cannot be read any more.
    fn spoil_some_sector(&mut self) -> bool {
        let slot = self.rng.index(self.md.slots.len());
        let row = self.rng.index(self.rows.len());
        let spoiled = self.spoil(slot, row);
        if spoiled && self.parities() > 1 && self.rng.chance(300) {
            let other = self.rng.index(self.md.slots.len());
            self.spoil(other, row);
        }
        spoiled
    }

    /// The member in `slot` has just come in sync. Strips that were accepted before still count it as lost: now some other
    /// member cannot be read at one of them, or takes no writes any more.
    pub(crate) fn strike_where_it_hurts(&mut self, slot: usize) {
        if self.config.trouble == 0 || !self.troubles() {
            return;
        }
        let (mut read, mut written) = (None, false);
        for entry in &self.table.entries {
            if let (Some(key), Some(actor)) = (entry.key, &entry.actor) {
                let (phases, lost) = (actor.span.phases(), actor.columns[slot].lost);
                let reading = phases.of(Phase::Reading) & lost;
                read = reading.iter().next().map(|s| row_of(key, s)).or(read);
                written |= (phases.of(Phase::Logging) | phases.of(Phase::Writing)).meets(lost);
            }
        }
        let other = self.rng.index(self.md.slots.len());
        if other == slot {
            return;
        }
        match read {
            Some(row) => {
                self.spoil(other, row);
            }
            None if written => {
                self.kill_member(other);
            }
            None => {}
        }
    }

    /// A sector of a member's block of a row cannot be read any more. Returns false if that must not be.
    fn spoil(&mut self, slot: usize, row: usize) -> bool {
        let device = self.some_device(slot).filter(|&d| self.has_on(d, row));
        let Some(device) = device else {
            return false;
        };
        let others_lost = (0..self.md.slots.len())
            .filter(|&other| other != slot)
            .filter(|&other| !self.has_block(other, row) || self.is_bad_block(other, row));
        let sound = others_lost.count() < self.parities() && self.rows[row].excuse == Excuse::None;
        let allowed = sound || (self.config.reckless && self.rng.chance(300));
        if !allowed {
            return false;
        }
        if self.is_being_stored(row) {
            self.rows[row].spoiled_late.insert(slot);
        } else {
            self.rows[row].spoiled_late.remove(slot);
        }
        let at = self.rng.below(STRIP_SECTORS);
        self.note(|| {
            format!(
                "device {device} cannot read sector {} any more",
                row as u32 * 8 + at
            )
        });
        self.devices[device].spoil(row as u32 * STRIP_SECTORS + at);
        if !sound {
            self.row_lossy(row);
        }
        true
    }

    /// Whether members are being written at a row, or its span has not yet heard of the end.
    pub(crate) fn is_being_stored(&self, row: usize) -> bool {
        self.table.entries.iter().any(|entry| {
            let (Some(key), Some(actor)) = (entry.key, &entry.actor) else {
                return false;
            };
            let writing = actor.span.phases().of(Phase::Writing);
            writing.iter().any(|strip| row_of(key, strip) == row)
        })
    }

    pub(crate) fn trusted(&self, row: usize) -> bool {
        row_end(row) <= self.md.trusted_below()
    }

    /// The shrinker takes the kits of a span that is not used.
    fn shrink(&mut self) -> bool {
        let Some(entry) = self.table.oldest(|actor| !actor.span.kits().is_empty()) else {
            return false;
        };
        self.table.evict(entry);
        self.wake_starved();
        true
    }

    fn suspend(&mut self, next: Next) -> bool {
        self.md.suspended = true;
        self.admin = Admin::Suspending(next);
        true
    }

    /// Requests are kept out; when the last one has ended, the lock is taken.
    fn suspended(&mut self, next: Next) -> bool {
        if self.md.active_io > 0 || !self.daemon.is_idle() {
            return false;
        }
        match next {
            Next::Change => {
                self.change_members();
                self.md.suspended = false;
                self.admin = Admin::Idle;
            }
            Next::Quiesce if self.md.quiescing => {
                self.md.suspended = false;
                self.admin = Admin::Idle;
            }
            Next::Quiesce => {
                self.count(Event::QuiescedLocked);
                self.md.locked = true;
                self.admin = Admin::Quiescing { suspended: true };
                self.quiesce_begin();
            }
        }
        true
    }

    /// Failed members are taken out, and spares put in their place. Returns false if nothing changes.
    fn change_members(&mut self) -> bool {
        if !self.sync.is_idle() || self.md.locked {
            return false;
        }
        let mut changed = false;
        for slot in 0..self.md.slots.len() {
            match self.md.slots[slot] {
                Some(d) => {
                    let device = &self.devices[d];
                    if device.faulty.get() && !device.blocked.get() && device.pending == 0 {
                        self.note(|| format!("device {d} is taken out of slot {slot}"));
                        self.md.slots[slot] = None;
                        changed = true;
                        self.inherit(slot);
                    }
                }
                None => changed |= self.add_spare(slot),
            }
        }
        for slot in 0..self.md.slots.len() {
            changed |= self.change_replacement(slot);
        }
        if changed {
            self.md.change_devs.set(true);
        }
        changed
    }

    /// The member of a slot has gone: the device that was to replace it has its place.
    fn inherit(&mut self, slot: usize) {
        let Some(heir) = self.md.replacements[slot].take() else {
            return;
        };
        self.note(|| format!("device {heir} is the member in slot {slot}"));
        self.md.slots[slot] = Some(heir);
        self.count(Event::Replaced);
        if !self.devices[heir].in_sync.get() {
            self.count(Event::Inherited);
        }
    }

    /// A replacement that has failed is taken out; a member may get one. Returns false if nothing changes.
    fn change_replacement(&mut self, slot: usize) -> bool {
        if let Some(d) = self.md.replacements[slot] {
            let device = &self.devices[d];
            let goes = device.faulty.get() && !device.blocked.get() && device.pending == 0;
            if goes {
                self.note(|| format!("device {d}, a replacement, is taken out of slot {slot}"));
                self.count(Event::ReplacementFailed);
                self.md.replacements[slot] = None;
            }
            return goes;
        }
        let wanted = self.config.replaces > 0
            && !self.draining
            && self.member(slot).is_some()
            && self.replace_rng.chance(self.config.replaces);
        if !wanted {
            return false;
        }
        let content = (0..self.config.dev_sectors)
            .map(|_| self.replace_rng.bits())
            .collect();
        let d = self.devices.len();
        self.devices
            .push(Device::new(content, self.config.volatile));
        self.md.replacements[slot] = Some(d);
        self.md.retries[slot].forget();
        self.sync.full = true;
        if let Some(bitmap) = &mut self.bitmap {
            bitmap.write_all();
        }
        self.count(Event::ReplacementAdded);
        self.note(|| format!("device {d}, a new one, is to replace the member in slot {slot}"));
        true
    }

    /// A replacement that has got everything is the member from now on, and the member fails: until the superblocks say so no
    /// write that it misses may be acknowledged. Returns whether one more slot is in sync.
    pub(crate) fn activate_replacement(&mut self, slot: usize) -> bool {
        let Some(new) = self.replacement(slot) else {
            return false;
        };
        let device = &self.devices[new];
        if device.in_sync.get() || device.recovery_offset != ALL || !self.has_all(slot, new) {
            return false;
        }
        self.devices[new].in_sync.set(true);
        self.sync.failures = 0;
        let Some(d) = self.md.slots[slot] else {
            return true;
        };
        self.check_replaced(slot, d, new);
        let member = &self.devices[d];
        let is_more = !member.in_sync.get();
        if !member.faulty.get() {
            member.was_in_sync.set(member.in_sync.get());
            member.faulty.set(true);
            member.in_sync.set(false);
            member.blocked.set(true);
            // What the other one cannot read, and does not know of, is gone with it.
            self.device_lost(d);
        }
        self.md.change_devs.set(true);
        self.md.change_pending.set(true);
        is_more
    }

    /// Whether a replacement can be read wherever its member can, as far as they know. If it cannot, a sync goes over it once more.
    fn has_all(&mut self, slot: usize, new: usize) -> bool {
        let Some(old) = self.member(slot) else {
            return true;
        };
        let mut lacking = Lacking::default();
        for &row in &self.devices[new].known_bad {
            let old = &self.devices[old];
            if old.covers(row_end(row)) && !old.knows_bad(row) {
                lacking.add(u64::from(row_end(row) - STRIP_SECTORS));
            }
        }
        match self.md.retries[slot].judge(&lacking) {
            Verdict::Ready => return true,
            Verdict::Again(sector) => {
                self.count(Event::CopiedAgain);
                self.note(|| {
                    format!(
                        "device {new} lacks {} blocks: again from {sector}",
                        lacking.count()
                    )
                });
                self.sync.full = true;
                self.md.retries[slot].keep_whole(device_address(new));
                // CAST: the simulated members are small.
                self.sync_again(new, sector as u32);
            }
            Verdict::Unfit => self.fail_device(new),
        }
        false
    }

    /// Puts a device into an empty slot: one that was there before, if the bitmap knows what it lacks, or a new one.
    fn add_spare(&mut self, slot: usize) -> bool {
        let was_there = |d: &usize| {
            let device = &self.devices[*d];
            device.superblock.roles.get(*d) == Some(&Some(slot)) && !device.dead
        };
        let old = (0..self.devices.len())
            .filter(|d| self.slot_of(*d).is_none())
            .rfind(was_there);
        if let (Some(d), Some(bitmap), true) = (old, &mut self.bitmap, self.rng.chance(700)) {
            let device = &mut self.devices[d];
            if device.superblock.events >= bitmap.events_cleared
                && device.superblock.recovery_offset.is_none()
                && device.pending == 0
            {
                bitmap.write_all();
                device.faulty.set(false);
                device.was_in_sync.set(false);
                device.recovery_offset = 0;
                device.whole = false;
                self.md.retries[slot].comes(device_address(d));
                device.known_bad = device.superblock.bad.clone();
                device.write_error_seen = false;
                self.md.slots[slot] = Some(d);
                self.count(Event::ReAdded);
                self.note(|| format!("device {d} is re-added to slot {slot}"));
                return true;
            }
        }
        let content = (0..self.config.dev_sectors)
            .map(|_| self.rng.bits())
            .collect();
        let d = self.devices.len();
        self.devices
            .push(Device::new(content, self.config.volatile));
        self.md.slots[slot] = Some(d);
        self.sync.full = true;
        if let Some(bitmap) = &mut self.bitmap {
            bitmap.write_all();
        }
        self.count(Event::SpareAdded);
        self.note(|| format!("device {d}, a new one, is added to slot {slot}"));
        true
    }

    /// quiesce(1), as far as it does not wait.
    pub(crate) fn quiesce_begin(&mut self) {
        self.note(|| "quiesce".into());
        self.md.quiescing = true;
        for entry in 0..self.table.entries.len() {
            if self.table.entries[entry].active {
                self.post(entry, Events::FLUSH);
            }
        }
    }

    /// Whether quiesce(1) may return.
    pub(crate) fn quiesce_done(&mut self) -> bool {
        if self.md.inflight > 0 {
            return false;
        }
        self.count(Event::Quiesced);
        self.expect_silence();
        true
    }

    /// quiesce(0).
    pub(crate) fn quiesce_end(&mut self) {
        self.note(|| "end of quiesce".into());
        self.md.quiescing = false;
    }

    /// Nothing is under way in a quiesced array.
    fn expect_silence(&mut self) {
        let ios = self
            .ios
            .iter()
            .find(|io| matches!(io.owner, Owner::Span { .. } | Owner::Direct { .. }));
        let span = self.table.entries.iter().find(|entry| entry.active);
        let came = match (ios, span) {
            (Some(io), _) => format!("{io:?}"),
            (_, Some(entry)) => format!("span {:?} is active", entry.key),
            _ if !self.jobs.is_empty() => "a job".into(),
            _ => return,
        };
        self.fail("nothing under way in a quiesced array", came);
    }
}
