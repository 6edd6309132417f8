// SPDX-License-Identifier: GPL-2.0

//! The sync thread: resync, rebuild, check and repair, as md_do_sync drives them.

use super::device::ALL;
use super::oracle::row_of;
use super::report::Event;
use super::runner::Runner;
use super::table::{PartOwner, SimPart};
use super::Sim;
use crate::raid::part::{Part, PartKind};
use crate::raid::span::SpanKey;
use crate::raid::strips::{Strips, STRIP_SECTORS};

/// Sectors that may be under way at a time.
const WINDOW: u32 = 256;

/// What the sync thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make parity right from `resync_offset` on.
    Resync,
    /// Rebuild members that are not in sync.
    Recover,
    /// Count strips whose parity is wrong.
    Check,
    /// Make it right there.
    Repair,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Writes that began before a member was added must end.
    Quiesce,
    Loop,
    Checkpoint,
    Finish,
    /// To be reaped by the daemon.
    Done,
}

/// md_do_sync and what it keeps in mddev.
#[derive(Debug)]
pub(crate) struct Sync {
    state: State,
    action: Action,
    /// curr_resync and curr_resync_completed.
    at: u32,
    completed: u32,
    /// recovery_active.
    active: u32,
    /// Sectors handed out, and sectors accounted for.
    issued: u64,
    done: u64,
    /// It has tried to make kits again before it waits for a span.
    regrown: bool,
    /// The bitmap cannot tell what a new member lacks.
    pub(crate) full: bool,
    /// Somebody asked for a check or a repair.
    pub(crate) requested: Option<Action>,
    /// Rebuilds that were given up in a row.
    pub(crate) failures: u32,
}

impl Sync {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Idle,
            action: Action::Resync,
            at: 0,
            completed: 0,
            active: 0,
            issued: 0,
            done: 0,
            regrown: false,
            full: false,
            requested: None,
            failures: 0,
        }
    }

    /// Whether no sync runs (MD_RECOVERY_RUNNING is not set).
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// For reports of what is stuck.
    pub(crate) fn show(&self) -> String {
        format!(
            "{:?} {:?} at {}, {} sectors active",
            self.action, self.state, self.at, self.active
        )
    }
}

impl Sim {
    /// The daemon starts what has to be done, if anything. Returns false if nothing has.
    pub(crate) fn start_sync(&mut self) -> bool {
        if !self.sync.is_idle() || self.md.locked || self.md.broken.get() || self.md.change() {
            return false;
        }
        let spare = self.has_spare();
        let action = if self.md.resync_offset != ALL {
            // Members that are not in sync stay where they are. If the array was frozen a repair may take this one's place.
            match self.sync.requested {
                Some(Action::Repair) if self.rng.chance(300) => Action::Repair,
                _ => Action::Resync,
            }
        } else if spare {
            Action::Recover
        } else if let Some(action) = self.sync.requested {
            action
        } else {
            return false;
        };
        self.md.interrupt.set(false);
        for row in &mut self.rows {
            row.reported = false;
            row.located = None;
            row.unlocated = false;
        }
        let start = match action {
            Action::Resync if self.bitmap.is_none() => self.md.resync_offset,
            Action::Recover => self.recovery_start(),
            _ => 0,
        };
        let full = self.sync.full;
        let failures = self.sync.failures;
        let requested = self.sync.requested;
        self.sync = Sync {
            action,
            at: start,
            completed: start,
            full,
            failures,
            requested,
            ..Sync::new()
        };
        self.sync.state = match (action, &self.bitmap) {
            (Action::Recover, Some(_)) => State::Quiesce,
            _ => State::Loop,
        };
        self.note(|| format!("{action:?} starts at {start}"));
        true
    }

    /// What the sync thread does, or did last.
    pub(crate) fn sync_action(&self) -> Action {
        self.sync.action
    }

    /// Whether the daemon would start a sync.
    pub(crate) fn wants_sync(&self) -> bool {
        !self.md.broken.get()
            && (self.md.resync_offset != ALL || self.has_spare() || self.sync.requested.is_some())
    }

    /// Whether some device lacks what it should hold.
    fn has_spare(&self) -> bool {
        let lacks = |d: usize| !self.devices[d].faulty.get() && !self.devices[d].in_sync.get();
        self.all_members().any(lacks)
    }

    fn recovery_start(&self) -> u32 {
        let offsets = self
            .all_members()
            .map(|d| &self.devices[d])
            .filter(|device| !device.faulty.get() && !device.in_sync.get())
            .map(|device| device.recovery_offset);
        offsets.min().unwrap_or(ALL).min(self.config.dev_sectors)
    }

    /// The sync thread goes on. Returns false if it cannot.
    pub(crate) fn sync(&mut self) -> bool {
        match self.sync.state {
            State::Idle | State::Done => false,
            State::Quiesce => self.sync_quiesce(),
            State::Loop => self.sync_loop(),
            State::Checkpoint => self.sync_checkpoint(),
            State::Finish => self.sync_finish(),
        }
    }

    fn sync_quiesce(&mut self) -> bool {
        if self.quiesced_by_sync {
            if !self.quiesce_done() {
                return false;
            }
            self.quiesce_end();
            self.quiesced_by_sync = false;
            self.sync.state = State::Loop;
            return true;
        }
        if self.md.quiescing {
            return false;
        }
        self.quiesced_by_sync = true;
        self.quiesce_begin();
        true
    }

    fn sync_loop(&mut self) -> bool {
        let max = self.config.dev_sectors;
        if self.md.interrupt.get() || self.sync.at >= max {
            self.sync.state = State::Finish;
            return true;
        }
        let behind = self.sync.at - self.sync.completed;
        if behind > 0 && (behind > max / 4 || self.rng.chance(30)) {
            self.sync.state = State::Checkpoint;
            return true;
        }
        if self.sync.active >= WINDOW {
            return false;
        }
        self.sync_request()
    }

    /// The personality's sync_request: one unit.
    fn sync_request(&mut self) -> bool {
        let max = self.config.dev_sectors;
        let at = self.sync.at;
        let action = self.sync.action;
        if action != Action::Recover
            && self.degraded() >= self.parities()
            && self.lacking_at(at) >= self.parities()
        {
            // Nothing to compare with, from here on.
            if let Some(bitmap) = &mut self.bitmap {
                bitmap.abort_sync(at);
            }
            self.sync.at = max;
            return true;
        }
        if let (0, Some(bitmap)) = (at, &self.bitmap) {
            bitmap.gaps.forget();
        }
        let keeps_bits = self.degraded() > 0 || self.stays_degraded();
        let asked = matches!(action, Action::Check | Action::Repair);
        let full = action == Action::Recover && self.sync.full;
        let mut limit = max;
        if let Some(bitmap) = &mut self.bitmap {
            let (needed, end) = bitmap.start_sync(at, true);
            if !needed && !asked && !full {
                self.sync.at = end.min(max);
                self.count(Event::BitmapSkip);
                return true;
            }
            limit = end.min(max);
        }
        if self.md.quiescing {
            return false;
        }
        let key = SpanKey {
            sector: self.geometry.span_of(u64::from(at)),
            generation: 0,
        };
        if !self.sync.regrown {
            self.sync.regrown = true;
            self.regrow();
        }
        let found = (!self.memory.fails())
            .then(|| self.find_span(key))
            .flatten();
        let Some(entry) = found else {
            self.count(Event::NoSpan);
            return false;
        };
        self.sync.regrown = false;
        if let Some(bitmap) = &mut self.bitmap {
            bitmap.start_sync(at, keeps_bits);
            if bitmap.gaps.are_before(u64::from(at), u64::from(limit)) {
                bitmap.abort_sync(at);
            }
        }
        // CAST: the simulated members are small.
        let within = at - key.sector as u32;
        let room = (limit - at).min(self.geometry.span_sectors() - within) / STRIP_SECTORS;
        let count = if self.rng.chance(700) {
            room
        } else {
            1 + self.rng.below(room)
        };
        let strips = Strips::range(within / STRIP_SECTORS, count);
        let kind = self.sync_kind(action == Action::Check);
        let part = SimPart {
            part: Part::new(kind, strips, 0, 0),
            owner: PartOwner::Sync,
            strips,
            excused: false,
            seen_failed: Strips::NONE,
            at_work: Strips::NONE,
            since: self.clocks(),
        };
        self.sync.active += count * STRIP_SECTORS;
        self.sync.issued += u64::from(count * STRIP_SECTORS);
        self.sync.at += count * STRIP_SECTORS;
        if self.post_part(entry, part) {
            if self.rng.chance(self.config.inline) {
                self.run_span(entry, Runner::Lane);
            } else {
                self.table.lanes.push_back(entry);
            }
        }
        true
    }

    /// Whether some slot is empty or its member has failed.
    fn stays_degraded(&self) -> bool {
        (0..self.md.slots.len()).any(|slot| self.member(slot).is_none())
    }

    /// How many members lack what they should hold at a sector.
    fn lacking_at(&self, sector: u32) -> usize {
        let holds = |d: usize| self.devices[d].in_sync.get() || self.synced_to(d) > sector;
        let lacks = |slot: &usize| {
            !self.member(*slot).is_some_and(holds) && !self.replacement(*slot).is_some_and(holds)
        };
        (0..self.md.slots.len()).filter(lacks).count()
    }

    /// What of a slot's blocks could not be rebuilt is recorded as bad.
    pub(crate) fn rebuild_failed(&mut self, key: SpanKey, slot: usize, failed: Strips) {
        if self.sync.is_idle() || self.sync.action != Action::Recover {
            return;
        }
        for device in self.devices_of(slot) {
            if self.devices[device].faulty.get() || self.devices[device].in_sync.get() {
                continue;
            }
            for strip in failed.iter() {
                // CAST: the simulated members are small.
                let sector = key.sector as u32 + strip * STRIP_SECTORS;
                if self.synced_to(device) > sector {
                    continue;
                }
                self.count(Event::BadRebuild);
                self.check_unmade(slot, device, row_of(key, strip));
                if !self.record_bad(device, row_of(key, strip)) {
                    // md_sync_error()
                    self.md.interrupt.set(true);
                    self.sync.failures += 1;
                }
            }
        }
    }

    /// A unit has ended: md_done_sync(). Strips of `writing` are being written again.
    pub(crate) fn sync_part_done(&mut self, key: SpanKey, part: &SimPart, writing: Strips) {
        let sectors = part.strips.count() * STRIP_SECTORS;
        let failed = part.part.failed() | part.part.unstored();
        self.sync.done += u64::from(sectors);
        match self.sync.active.checked_sub(sectors) {
            Some(left) => self.sync.active = left,
            None => self.fail(
                "no more sectors synced than were handed out",
                format!("{sectors} more, with {} under way", self.sync.active),
            ),
        }
        let check = matches!(part.part.kind, PartKind::Sync { check: true, .. });
        self.check_synced(key, part.strips - failed - writing, check);
        self.check_rebuilt(key, part);
        if !failed.is_empty() {
            self.count(Event::SyncFailed);
            let recorded = |strip| {
                let mut devices = self.all_members();
                devices.any(|d| self.devices[d].knows_bad(row_of(key, strip)))
            };
            let excused = part.excused
                || self.md.interrupt.get()
                || self.md.broken.get()
                || failed.iter().all(recorded);
            if !excused {
                self.fail(
                    "a sync to fail only when a member or a write does, or more blocks of a strip are lost than parity stands for",
                    format!("it failed for strips {failed:?} of span {}", key.sector),
                );
            }
        }
        // With a member missing nothing was compared: should that one come back, its chunk must not be spared.
        if !failed.is_empty() || self.stays_degraded() {
            if let (Some(bitmap), Some(first)) = (&mut self.bitmap, part.strips.iter().next()) {
                // CAST: the simulated members are small.
                let sector = key.sector as u32 + first * STRIP_SECTORS;
                if !failed.is_empty() {
                    bitmap.gaps.note(u64::from(sector));
                }
                bitmap.abort_sync(sector);
            }
        }
    }

    fn sync_checkpoint(&mut self) -> bool {
        if self.sync.active > 0 {
            return false;
        }
        self.count(Event::Checkpoint);
        self.sync.completed = self.sync.at;
        let mends = matches!(self.sync.action, Action::Resync | Action::Repair);
        if mends && self.sync.at > self.md.resync_offset {
            self.md.resync_offset = self.sync.at;
        }
        if let Some(bitmap) = &mut self.bitmap {
            bitmap.end_sync(self.sync.at);
        }
        self.md.change_clean = true;
        self.sync.state = State::Loop;
        true
    }

    /// Superblocks tell how far a rebuild has come.
    pub(crate) fn note_recovery(&mut self) {
        if self.sync.is_idle() || self.sync.action != Action::Recover {
            return;
        }
        let members: Vec<_> = self.all_members().collect();
        for d in members {
            let device = &mut self.devices[d];
            if !device.in_sync.get() && !device.faulty.get() {
                device.recovery_offset = device.recovery_offset.max(self.sync.completed);
            }
        }
    }

    /// A device that has got everything is gone over again from some sector on.
    pub(crate) fn sync_again(&mut self, device: usize, sector: u32) {
        self.devices[device].recovery_offset = sector;
        self.devices[device].whole = true;
        self.sync.completed = 0;
    }

    fn sync_finish(&mut self) -> bool {
        if self.sync.active > 0 {
            return false;
        }
        if self.sync.issued != self.sync.done {
            self.fail(
                &format!("{} sectors accounted for", self.sync.issued),
                format!("{}", self.sync.done),
            );
        }
        let action = self.sync.action;
        let interrupted = self.md.interrupt.get();
        self.sync.completed = self.sync.at;
        if let Some(bitmap) = &mut self.bitmap {
            if self.sync.at < self.config.dev_sectors {
                bitmap.abort_sync(self.sync.at);
            }
            bitmap.close_sync();
        }
        let reached = if interrupted { self.sync.at } else { ALL };
        match action {
            Action::Resync | Action::Repair => {
                self.md.resync_offset = reached;
                if !interrupted {
                    self.md.trusted = ALL;
                    self.check_resynced();
                }
            }
            Action::Recover => {
                let members: Vec<_> = self.all_members().collect();
                for d in members {
                    let device = &mut self.devices[d];
                    let lacks = !device.faulty.get() && !device.in_sync.get();
                    if lacks && device.recovery_offset < reached {
                        device.recovery_offset = reached;
                    }
                }
            }
            Action::Check => {}
        }
        self.note(|| {
            format!(
                "{action:?} {}",
                if interrupted { "interrupted" } else { "done" }
            )
        });
        if action == Action::Resync && !interrupted && self.stays_degraded() {
            self.count(Event::ResyncedDegraded);
        }
        if interrupted {
            self.count(Event::SyncInterrupted);
        } else {
            self.count(match action {
                Action::Resync => Event::Resynced,
                Action::Recover => Event::Rebuilt,
                Action::Check => Event::Checked,
                Action::Repair => Event::Repaired,
            });
        }
        self.md.change_pending.set(true);
        self.md.change_devs.set(true);
        self.sync.state = State::Done;
        true
    }

    /// md_reap_sync_thread(): what was rebuilt is in sync from now on.
    pub(crate) fn reap_sync(&mut self) -> bool {
        if self.sync.state != State::Done || self.md.locked {
            return false;
        }
        let asked = matches!(self.sync.action, Action::Check | Action::Repair);
        if asked {
            self.sync.requested = None;
        }
        if !self.md.interrupt.get() && !asked {
            let was_degraded = self.degraded() > 0;
            let mut rebuilt = 0;
            for slot in 0..self.md.slots.len() {
                rebuilt += u32::from(self.activate_replacement(slot));
                if let Some(d) = self.member(slot) {
                    let device = &self.devices[d];
                    if !device.in_sync.get() && device.recovery_offset == ALL {
                        device.in_sync.set(true);
                        rebuilt += 1;
                        self.sync.failures = 0;
                        self.strike_where_it_hurts(slot);
                    }
                }
            }
            if self.sync.action == Action::Recover && !self.stays_degraded() {
                // With a slot empty some spare that failed half rebuilt may come back. And a resync, which comes first,
                // rebuilds nobody.
                self.sync.full = false;
            }
            if rebuilt > 1 {
                self.count(Event::RebuiltTwo);
            }
            let is_whole = was_degraded && self.degraded() == 0;
            if let (true, Some(bitmap)) = (is_whole, &mut self.bitmap) {
                // What a member missed that was replaced is forgotten. md core thinks of that with the next write only.
                bitmap.events_cleared = bitmap.events_cleared.max(self.md.events);
                if !bitmap.gaps.are_left() {
                    bitmap.all_synced();
                }
            }
        }
        // What the superblocks say then.
        self.note_recovery();
        self.md.change_devs.set(true);
        self.sync.state = State::Idle;
        true
    }
}
