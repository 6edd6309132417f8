// SPDX-License-Identifier: GPL-2.0

//! A member device: its image, its volatile write cache, its faults, and the metadata on it.
//!
//! A sector's 512 bytes are one number here: what XOR does to numbers it does to sectors, and Q takes a number for eight
//! bytes. The cache is the difference between what a read returns (`now`) and what would be there after a power cut
//! (`durable`).

use super::rng::Rng;
use std::cell::Cell;

/// "Up to the end", as md's MaxSector.
pub(crate) const ALL: u32 = u32::MAX;

/// What a member's superblock says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SuperRecord {
    /// Number of the update that wrote it.
    pub(crate) events: u64,
    /// No write was under way.
    pub(crate) clean: bool,
    /// Parity is right below this sector, if `clean`.
    pub(crate) resync_offset: u32,
    /// The slot of each device that is a member, by the device's number.
    pub(crate) roles: Vec<Option<usize>>,
    /// How far this device is rebuilt, unless it is in sync.
    pub(crate) recovery_offset: Option<u32>,
    /// It is to replace the member that has its slot.
    pub(crate) replaces: bool,
    /// Rows whose blocks on this device are bad, in order.
    pub(crate) bad: Vec<usize>,
}

/// The write-intent bitmap as it lies on a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BitmapRecord {
    pub(crate) bits: Vec<bool>,
    /// A device whose superblock is older than this cannot be brought up to date by the bitmap alone.
    pub(crate) events_cleared: u64,
}

/// What a flush found in the cache when it began: sector, content and version.
pub(crate) type CacheSnapshot = Vec<(u32, u64, u32)>;

/// A device, member of the array or not.
#[derive(Debug)]
pub(crate) struct Device {
    now: Vec<u64>,
    durable: Vec<u64>,
    version: Vec<u32>,
    durable_version: Vec<u32>,
    clock: u32,
    /// Sectors whose content may be in the cache only.
    cached: Vec<u32>,
    /// Sectors that cannot be read until they are written.
    bad: Vec<bool>,
    bad_count: u32,
    volatile: bool,
    /// The bad block log, as it is in memory: rows, in order.
    pub(crate) known_bad: Vec<usize>,
    /// md's WriteErrorSeen: what is known to be bad is not written any more.
    pub(crate) write_error_seen: bool,
    /// It answers nothing any more.
    pub(crate) dead: bool,
    /// md's Faulty.
    pub(crate) faulty: Cell<bool>,
    /// md's Blocked: its failure is not recorded yet.
    pub(crate) blocked: Cell<bool>,
    /// md's In_sync.
    pub(crate) in_sync: Cell<bool>,
    /// It was in sync when it failed.
    pub(crate) was_in_sync: Cell<bool>,
    /// md's FaultRecorded: the superblock update under way tells of the failure.
    pub(crate) fault_recorded: bool,
    /// Rebuilt up to here, if not in sync.
    pub(crate) recovery_offset: u32,
    /// It has got everything since it was put into its slot, and is rebuilt from there on once more: it holds all but its bad blocks. The
    /// metadata does not tell.
    pub(crate) whole: bool,
    /// Member I/O that has not ended.
    pub(crate) pending: u32,
    pub(crate) superblock: SuperRecord,
    pub(crate) bitmap: BitmapRecord,
}

impl Device {
    /// A device with the given content.
    pub(crate) fn new(content: Vec<u64>, volatile: bool) -> Self {
        let len = content.len();
        Self {
            durable: content.clone(),
            now: content,
            version: vec![0; len],
            durable_version: vec![0; len],
            clock: 0,
            cached: Vec::new(),
            bad: vec![false; len],
            bad_count: 0,
            volatile,
            known_bad: Vec::new(),
            write_error_seen: false,
            dead: false,
            faulty: Cell::new(false),
            blocked: Cell::new(false),
            in_sync: Cell::new(false),
            was_in_sync: Cell::new(false),
            fault_recorded: false,
            recovery_offset: 0,
            whole: false,
            pending: 0,
            superblock: SuperRecord::default(),
            bitmap: BitmapRecord::default(),
        }
    }

    /// What a read of `sector` returns.
    pub(crate) fn get(&self, sector: u32) -> u64 {
        self.now[sector as usize]
    }

    /// Changes a sector behind everybody's back.
    pub(crate) fn scribble(&mut self, sector: u32, value: u64) {
        self.now[sector as usize] = value;
        self.durable[sector as usize] = value;
    }

    /// Writes a sector, to the cache or through it.
    pub(crate) fn put(&mut self, sector: u32, value: u64, fua: bool, rng: &mut Rng) {
        let at = sector as usize;
        // The cache may have written the older content back by now.
        if self.version[at] != self.durable_version[at] && rng.chance(500) {
            self.durable[at] = self.now[at];
            self.durable_version[at] = self.version[at];
        }
        self.clock += 1;
        self.now[at] = value;
        self.version[at] = self.clock;
        if fua || !self.volatile {
            self.durable[at] = value;
            self.durable_version[at] = self.clock;
        } else {
            self.cached.push(sector);
        }
        if self.bad[at] {
            self.bad[at] = false;
            self.bad_count -= 1;
        }
    }

    /// A write that the power cut tore: some of it reached the medium.
    pub(crate) fn put_torn(&mut self, sector: u32, value: u64) {
        self.now[sector as usize] = value;
        self.durable[sector as usize] = value;
        self.clock += 1;
        self.version[sector as usize] = self.clock;
        self.durable_version[sector as usize] = self.clock;
    }

    /// What a flush that begins now will have made durable when it ends.
    pub(crate) fn begin_flush(&self) -> CacheSnapshot {
        self.cached
            .iter()
            .filter(|&&s| self.version[s as usize] != self.durable_version[s as usize])
            .map(|&s| (s, self.now[s as usize], self.version[s as usize]))
            .collect()
    }

    /// Ends a flush.
    pub(crate) fn end_flush(&mut self, snapshot: &CacheSnapshot) {
        for &(sector, value, version) in snapshot {
            let at = sector as usize;
            if self.durable_version[at] < version {
                self.durable[at] = value;
                self.durable_version[at] = version;
            }
        }
        let (version, durable) = (&self.version, &self.durable_version);
        self.cached
            .retain(|&s| version[s as usize] != durable[s as usize]);
    }

    /// Sectors whose content would be lost, or might be, in a power cut.
    pub(crate) fn undurable(&self) -> impl Iterator<Item = u32> + '_ {
        self.cached
            .iter()
            .copied()
            .filter(|&s| self.version[s as usize] != self.durable_version[s as usize])
    }

    /// The power fails: of what is cached, some sectors are kept. Returns how many were lost.
    pub(crate) fn power_cut(&mut self, rng: &mut Rng) -> u32 {
        let keep = rng.pick(&[0, 500, 500, 1000]);
        let mut lost = 0;
        for sector in std::mem::take(&mut self.cached) {
            let at = sector as usize;
            if self.version[at] == self.durable_version[at] {
                continue;
            }
            if rng.chance(keep) {
                self.durable[at] = self.now[at];
            } else {
                self.now[at] = self.durable[at];
                lost += 1;
            }
            self.durable_version[at] = self.version[at];
        }
        lost
    }

    /// Makes a sector unreadable until it is written.
    pub(crate) fn spoil(&mut self, sector: u32) {
        if !self.bad[sector as usize] {
            self.bad[sector as usize] = true;
            self.bad_count += 1;
        }
    }

    /// Whether reading `count` sectors from `sector` on hits an unreadable one.
    pub(crate) fn is_bad(&self, sector: u32, count: u32) -> bool {
        self.bad_count > 0
            && self.bad[sector as usize..(sector + count) as usize]
                .iter()
                .any(|&bad| bad)
    }

    /// Whether any sector is unreadable, or known to be bad.
    pub(crate) fn has_bad(&self) -> bool {
        self.bad_count > 0 || !self.known_bad.is_empty()
    }

    /// Whether the block of a row is known to be bad.
    pub(crate) fn knows_bad(&self, row: usize) -> bool {
        self.known_bad.binary_search(&row).is_ok()
    }

    /// How many sectors were written so far.
    pub(crate) fn clock(&self) -> u32 {
        self.clock
    }

    /// Whether a sector was written after the clock said `since`.
    pub(crate) fn written_since(&self, sector: u32, since: u32) -> bool {
        self.version[sector as usize] > since
    }

    /// Whether the device holds what the array holds up to `end`, as far as the array knows.
    pub(crate) fn covers(&self, end: u32) -> bool {
        !self.faulty.get() && (self.whole || self.is_synced_to(end))
    }

    /// Whether its superblock says so, or soon will.
    fn is_synced_to(&self, end: u32) -> bool {
        self.in_sync.get() || end <= self.recovery_offset
    }

    /// Whether an assembly after a power cut now would take the block of a row, which ends at `end`, for good.
    pub(crate) fn would_count(&self, row: usize, end: u32) -> bool {
        let holds = if self.faulty.get() {
            self.blocked.get() && self.was_in_sync.get()
        } else {
            self.is_synced_to(end)
        };
        holds && self.superblock.bad.binary_search(&row).is_err()
    }
}
