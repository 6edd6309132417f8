// SPDX-License-Identifier: GPL-2.0

//! The array's own thread: superblock updates, bitmap flushes, and waking what waited for them.
//!
//! It does one thing at a time and waits for the members in between, as the real one does inside md_check_recovery and
//! bitmap_ops->unplug. It takes reconfig_mutex for the superblock only if nobody holds it.
//!
//! Where md core leaves a gap that is not this driver's (a member's cache may lose what a bit or a clean superblock on
//! another member vouches for), the model flushes all members first.

use super::device::{BitmapRecord, SuperRecord};
use super::io::{Op, Owner};
use super::report::Event;
use super::table::Events;
use super::Sim;

/// What the daemon waits for.
#[derive(Debug, Default, PartialEq, Eq)]
enum Task {
    #[default]
    Idle,
    /// All caches, before the superblocks say "clean".
    FlushForClean,
    /// The superblocks, of which this many say "clean" or not.
    Super { clean: bool },
    /// The bitmap, for those who wait.
    Bitmap,
    /// All caches, before bits are cleared.
    FlushForBits(Vec<usize>),
    /// The same, by somebody else.
    FlushBeside(Vec<usize>),
    /// The bitmap, at leisure.
    Leisure,
}

/// The array's thread.
#[derive(Debug, Default)]
pub(crate) struct Daemon {
    task: Task,
    /// Bios that it waits for.
    outstanding: u32,
}

impl Daemon {
    /// Whether it waits for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.task == Task::Idle
    }
}

impl Sim {
    /// The daemon looks for something to do. Returns false if there is nothing.
    pub(crate) fn daemon(&mut self) -> bool {
        if !self.daemon.is_idle() {
            return false;
        }
        self.housekeeping();
        match self.rng.below(4) {
            0 => self.flush_bitmap() || self.update_super() || self.clear_bits(),
            1 => self.update_super() || self.flush_bitmap(),
            2 => self.reap_sync() || self.start_sync() || self.mark_clean(),
            _ => self.post_waiting(),
        }
    }

    /// It has housekeeping done, now and then: more often nothing would be known for long enough.
    fn housekeeping(&mut self) {
        let alone = !self.md.locked;
        if let Some(bitmap) = self.bitmap.as_mut().filter(|bitmap| bitmap.distrusted) {
            if self.reboot_rng.chance(20) {
                bitmap.housekeeping(alone);
            }
        }
    }

    /// A bio that the daemon waits for has ended. A member that failed it is Faulty by now.
    pub(crate) fn daemon_io_ended(&mut self, _device: usize, _ok: bool) {
        self.daemon.outstanding -= 1;
        if self.daemon.outstanding == 0 {
            self.daemon_done();
        }
    }

    /// Sends a bio to each member that is not Faulty, and waits.
    fn ask_members(&mut self, task: Task, op: impl Fn(&Self, usize) -> Op) {
        self.daemon.task = task;
        let members: Vec<_> = self
            .all_members()
            .filter(|&d| !self.devices[d].faulty.get())
            .collect();
        self.daemon.outstanding += 1;
        for device in members {
            self.daemon.outstanding += 1;
            let op = op(self, device);
            let io = self.new_io(device, op, Owner::Daemon);
            self.dispatch(io);
        }
        self.daemon.outstanding -= 1;
        if self.daemon.outstanding == 0 {
            self.daemon_done();
        }
    }

    fn daemon_done(&mut self) {
        match std::mem::take(&mut self.daemon.task) {
            Task::Idle => {}
            Task::FlushForClean => self.write_super(),
            Task::Super { clean } => self.super_written(clean),
            Task::Bitmap => self.bitmap_flushed(),
            Task::FlushForBits(quiet) => {
                if self.degraded() == 0 {
                    let alone = !self.md.locked;
                    if let Some(bitmap) = &mut self.bitmap {
                        bitmap.clear(&quiet, alone);
                    }
                    self.count(Event::BitmapClear);
                }
            }
            Task::FlushBeside(quiet) => {
                if self.degraded() == 0 {
                    if let Some(bitmap) = &mut self.bitmap {
                        bitmap.clear_bits(&quiet);
                    }
                    self.count(Event::ClearedBeside);
                    self.write_cleared();
                }
            }
            Task::Leisure => {}
        }
    }

    /// md_check_recovery() with superblock flags set.
    fn update_super(&mut self) -> bool {
        if !self.md.change() || self.md.locked {
            return false;
        }
        self.begin_super();
        true
    }

    /// Quiesce with the lock held writes the superblocks itself, if spans or flushes wait for that.
    pub(crate) fn help_recording(&mut self) -> bool {
        let nobody_waits = self.table.parked_super.is_empty() && self.flush_waiters.is_empty();
        if nobody_waits || !self.md.change() {
            return false;
        }
        self.begin_super();
        true
    }

    /// md_update_sb().
    fn begin_super(&mut self) {
        if self.md.clean {
            self.ask_members(Task::FlushForClean, |_, _| Op::Flush(Vec::new()));
        } else {
            self.write_super();
        }
    }

    fn write_super(&mut self) {
        self.count(Event::SuperWrite);
        self.md.change_devs.set(false);
        self.md.change_clean = false;
        self.md.events += 1;
        self.note_recovery();
        let members: Vec<_> = self.all_members().collect();
        for device in members {
            let device = &mut self.devices[device];
            device.fault_recorded |= device.faulty.get();
        }
        let clean = self.md.clean;
        self.note(|| {
            format!(
                "superblock {}: {}",
                self.md.events,
                if clean { "clean" } else { "active" }
            )
        });
        // They are all made at the same moment.
        let records: Vec<SuperRecord> = (0..self.devices.len())
            .map(|device| self.super_record(device))
            .collect();
        self.ask_members(Task::Super { clean }, |_, device| {
            Op::Super(Box::new(records[device].clone()), Vec::new())
        });
    }

    fn super_written(&mut self, clean: bool) {
        if self.md.clean != clean || self.md.change_devs.get() || self.md.change_clean {
            // Something has changed meanwhile, perhaps because a member failed to take it.
            self.begin_super();
            return;
        }
        self.md.change_pending.set(false);
        for device in &mut self.devices {
            if std::mem::take(&mut device.fault_recorded) {
                device.blocked.set(false);
            }
        }
        for entry in std::mem::take(&mut self.table.parked_super) {
            self.post(entry, Events::SUPERBLOCK);
        }
        self.release_flushes();
    }

    /// The array has been idle for a while: the superblocks may say so.
    fn mark_clean(&mut self) -> bool {
        if self.md.clean || self.md.writes_pending > 0 || self.md.locked || !self.rng.chance(200) {
            return false;
        }
        self.md.clean = true;
        self.md.change_clean = true;
        true
    }

    /// bitmap_ops->unplug(), if a write waits for it.
    fn flush_bitmap(&mut self) -> bool {
        let Some(bitmap) = &mut self.bitmap else {
            return false;
        };
        if !bitmap.wanted {
            return false;
        }
        match bitmap.begin_flush() {
            Some(record) => {
                self.count(Event::BitmapFlush);
                self.write_bitmap(Task::Bitmap, &record);
            }
            None => self.bitmap_flushed(),
        }
        true
    }

    fn write_bitmap(&mut self, task: Task, record: &BitmapRecord) {
        self.ask_members(task, |_, _| {
            Op::Bitmap(Box::new(record.clone()), Vec::new())
        });
    }

    fn bitmap_flushed(&mut self) {
        if let Some(bitmap) = &mut self.bitmap {
            bitmap.end_flush();
        }
        for entry in std::mem::take(&mut self.table.parked_bitmap) {
            self.post(entry, Events::BITMAP);
        }
    }

    /// The daemon's work on the bitmap: bits that nobody needs are cleared, in time.
    fn clear_bits(&mut self) -> bool {
        if self.write_cleared() {
            return true;
        }
        if self.bitmap.is_none() || self.degraded() > 0 || !self.rng.chance(300) {
            return false;
        }
        self.clear_after_flush(Task::FlushForBits)
    }

    /// The same, by somebody else, who says so to nobody.
    pub(crate) fn clear_beside_the_daemon(&mut self) {
        if self.degraded() == 0 {
            self.clear_after_flush(Task::FlushBeside);
        }
    }

    /// Begins to clear bits that nobody needs. Returns false if there is none.
    fn clear_after_flush(&mut self, task: fn(Vec<usize>) -> Task) -> bool {
        let quiet = self.bitmap.as_mut().map(|bitmap| bitmap.quiet_chunks());
        let Some(quiet) = quiet.filter(|quiet| !quiet.is_empty()) else {
            return false;
        };
        self.ask_members(task(quiet), |_, _| Op::Flush(Vec::new()));
        true
    }

    /// Begins to write what was cleared. Returns false if that is nothing.
    fn write_cleared(&mut self) -> bool {
        let record = self.bitmap.as_mut().and_then(|bitmap| bitmap.take_stale());
        let Some(record) = record else {
            return false;
        };
        self.write_bitmap(Task::Leisure, &record);
        true
    }
}
