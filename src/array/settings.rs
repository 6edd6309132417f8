// SPDX-License-Identifier: GPL-2.0

//! What an administrator may set while the array runs, and the files in sysfs for it.

use super::counters::CountersFile;
use super::memory::MemoryFile;
use super::offload::{Mode, MOST_LATE};
use super::table::{Reclaimed, MAX_SPANS};
use super::Array;
use crate::md::limits;
use crate::md::sysfs::{Attribute, Store, Suspended, Text};
use crate::md_attributes;
use crate::mem::Setup;
use crate::raid::job::RmwLevel;
use crate::raid::strips::STRIP_BYTES;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::prelude::*;

/// The number of strips in the cache of a new array.
pub(super) const DEFAULT_STRIPS: u32 = 256;

/// The fewest strips that a cache may have.
const MIN_STRIPS: u32 = 17;

/// The most threads that may be asked for.
const MAX_THREADS: u32 = 8192;

/// Settings that are read on I/O paths, or only shown.
pub(super) struct Settings {
    rmw_level: AtomicU32,
    bypass_threshold: AtomicU32,
    threads: AtomicU32,
    skip_copy: AtomicBool,
    discards: AtomicBool,
    mismatch_method: AtomicU32,
    /// Blocks that were found to be wrong, and mended.
    pub(super) located: AtomicU32,
    /// Strips of which it could not be told which block is wrong.
    pub(super) unlocated: AtomicU32,
}

/// What check and repair do where parity does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MismatchMethod {
    /// Repair makes parity anew, check only counts: as the C driver.
    Parity,
    /// Repair mends the one block that is wrong, by what both parities say; of level 6 alone.
    Locate,
    /// So does check.
    LocateOnCheck,
}

impl MismatchMethod {
    const ALL: [Self; 3] = [Self::Parity, Self::Locate, Self::LocateOnCheck];

    /// As the file in sysfs calls it.
    const fn name(self) -> &'static str {
        match self {
            Self::Parity => "parity",
            Self::Locate => "locate",
            Self::LocateOnCheck => "locate-check",
        }
    }

    /// The method of this name.
    fn from_name(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|method| method.name() == text);
        found.ok_or(EINVAL)
    }

    /// Whether a repair, or else a check, looks for the wrong block.
    pub(super) fn locates(self, check: bool) -> bool {
        match self {
            Self::Parity => false,
            Self::Locate => !check,
            Self::LocateOnCheck => true,
        }
    }
}

impl Settings {
    /// The settings of a new array.
    pub(super) fn new() -> Self {
        Self {
            rmw_level: AtomicU32::new(1),
            bypass_threshold: AtomicU32::new(1),
            threads: AtomicU32::new(0),
            skip_copy: AtomicBool::new(false),
            discards: AtomicBool::new(false),
            mismatch_method: AtomicU32::new(0),
            located: AtomicU32::new(0),
            unlocated: AtomicU32::new(0),
        }
    }

    /// Says whether the members are to discard what the array is asked to.
    pub(super) fn let_discard(&self, discards: bool) {
        self.discards.store(discards, Ordering::Relaxed);
    }

    /// Whether the members are to discard what the array is asked to.
    pub(super) fn discards(&self) -> bool {
        self.discards.load(Ordering::Relaxed)
    }

    /// How many threads were asked for: 0 for as few as need be.
    pub(super) fn threads(&self) -> u32 {
        self.threads.load(Ordering::Relaxed)
    }

    /// Which of RMW and RCW is preferred.
    pub(super) fn rmw_level(&self) -> RmwLevel {
        match self.rmw_level.load(Ordering::Relaxed) {
            0 => RmwLevel::Disable,
            1 => RmwLevel::Enable,
            _ => RmwLevel::Prefer,
        }
    }

    /// What check and repair do where parity does not match.
    pub(super) fn mismatch_method(&self) -> MismatchMethod {
        match self.mismatch_method.load(Ordering::Relaxed) {
            0 => MismatchMethod::Parity,
            1 => MismatchMethod::Locate,
            _ => MismatchMethod::LocateOnCheck,
        }
    }
}

md_attributes! {
    /// The attributes of an array in sysfs.
    pub(super) static ATTRIBUTES: Array = [
        StripeCacheSize,
        StripeCacheActive,
        PrereadBypassThreshold,
        GroupThreadCnt,
        SkipCopy,
        RmwLevelFile,
        MismatchMethodFile,
        MismatchLocated,
        MismatchUnlocated,
        OffloadMode,
        OffloadLeast,
        OffloadLate,
        OffloadStats,
        StripeSize,
        JournalMode,
        PplWriteHint,
        CountersFile,
        MemoryFile,
    ];
}

/// A decimal number; as in C, a text that is none is invalid.
fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| EINVAL)
}

/// A decimal number that fits in 32 bits.
fn small_number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| EINVAL)
}

/// stripe_cache_size: how many strips may have their blocks in memory.
struct StripeCacheSize;

impl Attribute for StripeCacheSize {
    type Of = Array;
    const NAME: &'static CStr = c"stripe_cache_size";
    const STORE: Store<Array> = Store::Unlocked(
        |array, setup, text| {
            let size = u32::try_from(number(text)?).map_err(|_| EINVAL)?;
            array.resize_cache(size, setup)
        },
        |_, _| {},
    );

    fn check(text: &str) -> Result {
        number(text).map(drop)
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.kits.target())
    }
}

/// stripe_cache_active: how many spans are being worked on.
struct StripeCacheActive;

impl Attribute for StripeCacheActive {
    type Of = Array;
    const NAME: &'static CStr = c"stripe_cache_active";

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.table.active())
    }
}

/// preread_bypass_threshold: kept for those who set it. Strips that need reads are not held behind others here.
struct PrereadBypassThreshold;

impl Attribute for PrereadBypassThreshold {
    type Of = Array;
    const NAME: &'static CStr = c"preread_bypass_threshold";
    const STORE: Store<Array> = Store::Locked(|array, _, text| {
        let threshold = u32::try_from(number(text)?).map_err(|_| EINVAL)?;
        if threshold > array.kits.target() {
            return Err(EINVAL);
        }
        let setting = &array.settings.bypass_threshold;
        setting.store(threshold, Ordering::Relaxed);
        Ok(())
    });

    fn check(text: &str) -> Result {
        number(text).map(drop)
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(
            text,
            "{}",
            array.settings.bypass_threshold.load(Ordering::Relaxed)
        )
    }
}

/// group_thread_cnt: how many lanes run spans, and no more than there are CPUs; for 0 up to eight of them. Submitters give them
/// what is much work, and about half of what they have much of: with 0 only while there are fewer submitters than CPUs.
struct GroupThreadCnt;

impl Attribute for GroupThreadCnt {
    type Of = Array;
    const NAME: &'static CStr = c"group_thread_cnt";
    const STORE: Store<Array> = Store::Unlocked(
        |array, setup, text| {
            let count = small_number(text)?;
            array.change(|| {
                let slab = array.table.slab();
                array.lanes.set_count(count, slab, &array.mddev, setup)?;
                array.settings.threads.store(count, Ordering::Relaxed);
                Ok(())
            })
        },
        |_, _| {},
    );

    fn check(text: &str) -> Result {
        if small_number(text)? > MAX_THREADS {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.settings.threads())
    }
}

/// skip_copy: asks those who write not to change pages meanwhile. Data is copied all the same for now.
struct SkipCopy;

impl Attribute for SkipCopy {
    type Of = Array;
    const NAME: &'static CStr = c"skip_copy";
    const STORE: Store<Array> = Store::Suspended(|array, suspended: &Suspended<'_>, text| {
        let skip = number(text)? != 0;
        if skip != array.settings.skip_copy.load(Ordering::Relaxed) {
            limits::set_stable_writes(suspended, skip)?;
            array.settings.skip_copy.store(skip, Ordering::Relaxed);
        }
        Ok(())
    });

    fn check(text: &str) -> Result {
        number(text).map(drop)
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        let skip = array.settings.skip_copy.load(Ordering::Relaxed);
        writeln!(text, "{}", u8::from(skip))
    }
}

/// rmw_level: whether partial writes read parity and what they change, or all the rest.
struct RmwLevelFile;

impl Attribute for RmwLevelFile {
    type Of = Array;
    const NAME: &'static CStr = c"rmw_level";
    const STORE: Store<Array> = Store::Locked(|array, _, text| {
        let level = small_number(text)?;
        array.settings.rmw_level.store(level, Ordering::Relaxed);
        Ok(())
    });

    fn check(text: &str) -> Result {
        match number(text)? {
            0..=2 => Ok(()),
            _ => Err(EINVAL),
        }
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.settings.rmw_level.load(Ordering::Relaxed))
    }
}

/// mismatch_method: what check and repair of level 6 do where parity does not match; other levels have one parity and can
/// only make it anew.
struct MismatchMethodFile;

impl Attribute for MismatchMethodFile {
    type Of = Array;
    const NAME: &'static CStr = c"mismatch_method";
    const STORE: Store<Array> = Store::Locked(|array, _, text| {
        let method = MismatchMethod::from_name(text)?;
        if method != MismatchMethod::Parity && array.geometry.parity_disks() < 2 {
            return Err(EINVAL);
        }
        // CAST: the number of a variant, which has no other meaning.
        let number = method as u32;
        array
            .settings
            .mismatch_method
            .store(number, Ordering::Relaxed);
        Ok(())
    });

    fn check(text: &str) -> Result {
        MismatchMethod::from_name(text).map(drop)
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.settings.mismatch_method().name())
    }
}

/// mismatch_located: how many wrong blocks were located and mended since the array was started.
struct MismatchLocated;

impl Attribute for MismatchLocated {
    type Of = Array;
    const NAME: &'static CStr = c"mismatch_located";

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.settings.located.load(Ordering::Relaxed))
    }
}

/// mismatch_unlocated: how many strips had more than one wrong block since the array was started.
struct MismatchUnlocated;

impl Attribute for MismatchUnlocated {
    type Of = Array;
    const NAME: &'static CStr = c"mismatch_unlocated";

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.settings.unlocated.load(Ordering::Relaxed))
    }
}

/// offload: where copies and parity are made: cpu, dma, or auto.
struct OffloadMode;

impl Attribute for OffloadMode {
    type Of = Array;
    const NAME: &'static CStr = c"offload";
    const STORE: Store<Array> = Store::Unlocked(
        |array, setup, text| {
            let (mode, slab) = (Mode::from_name(text)?, array.table.slab());
            array.change(|| array.offload.set_mode(mode, slab, &array.mddev, setup))
        },
        |array, locked| array.offload.set_period(locked),
    );

    fn check(text: &str) -> Result {
        Mode::from_name(text).map(drop)
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.offload.mode().name())
    }
}

/// offload_min_bytes: how much a strip's job has to read and write to go to an engine with auto.
struct OffloadLeast;

impl Attribute for OffloadLeast {
    type Of = Array;
    const NAME: &'static CStr = c"offload_min_bytes";
    const STORE: Store<Array> = Store::Locked(|array, _, text| {
        array.offload.set_least(small_number(text)?);
        Ok(())
    });

    fn check(text: &str) -> Result {
        small_number(text).map(drop)
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.offload.least())
    }
}

/// offload_late_ms: after how long the CPU does again what an engine has not ended.
struct OffloadLate;

impl Attribute for OffloadLate {
    type Of = Array;
    const NAME: &'static CStr = c"offload_late_ms";
    const STORE: Store<Array> = Store::Locked(|array, locked, text| {
        array.offload.set_late(locked, small_number(text)?);
        Ok(())
    });

    fn check(text: &str) -> Result {
        match small_number(text)? {
            1..=MOST_LATE => Ok(()),
            _ => Err(EINVAL),
        }
    }

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{}", array.offload.late())
    }
}

/// offload_stats: what has come of jobs, in strips, since the array was started.
struct OffloadStats;

impl Attribute for OffloadStats {
    type Of = Array;
    const NAME: &'static CStr = c"offload_stats";

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        array.offload.show_counts(text)
    }
}

/// stripe_size: bytes of a strip, which is a page.
struct StripeSize;

impl Attribute for StripeSize {
    type Of = Array;
    const NAME: &'static CStr = c"stripe_size";

    fn show(_array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "{STRIP_BYTES}")
    }
}

/// journal_mode: empty, for there is no journal.
struct JournalMode;

impl Attribute for JournalMode {
    type Of = Array;
    const NAME: &'static CStr = c"journal_mode";
    const STORE: Store<Array> = Store::Suspended(|_, _, text| match text {
        "write-through" | "write-back" => Err(ENODEV),
        _ => Err(EINVAL),
    });

    fn show(_array: &Array, _text: &mut Text<'_>) -> fmt::Result {
        Ok(())
    }
}

/// ppl_write_hint: always 0, and not to be set without a partial parity log.
struct PplWriteHint;

impl Attribute for PplWriteHint {
    type Of = Array;
    const NAME: &'static CStr = c"ppl_write_hint";
    const STORE: Store<Array> = Store::Locked(|_, _, _| Err(EINVAL));

    fn show(_array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "0")
    }
}

impl Array {
    /// Calls `act`, which gets or gives back what takes memory, while nobody else does, and the array is not stopped. Sleeps.
    ///
    /// Lock order: `reconfig_mutex`, then `changing`. Who waits for memory holds only the latter.
    ///
    /// # Errors
    ///
    /// `ENODEV`: the array has been stopped. What `act` says.
    fn change(&self, act: impl FnOnce() -> Result) -> Result {
        let stopped = self.changing.lock();
        if *stopped {
            return Err(ENODEV);
        }
        act()
    }

    /// Changes how many strips may have their blocks in memory. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL`: too few or too many. `ENOMEM`: there is no memory; the size stays what it was, or what it could be made. As for
    /// [`Self::change`].
    pub(super) fn resize_cache(&self, size: u32, setup: &Setup) -> Result {
        if !(MIN_STRIPS..=MAX_SPANS).contains(&size) {
            return Err(EINVAL);
        }
        self.change(|| {
            let result = self.allot_cache(size, setup);
            // Kits that are there now may be waited for, and some that were there have gone.
            self.see_to_waiting();
            result
        })
    }

    /// Sees that there are span objects and kits for `size` strips. Sleeps.
    ///
    /// # Errors
    ///
    /// As for [`Self::resize_cache`].
    pub(super) fn allot_cache(&self, size: u32, setup: &Setup) -> Result {
        self.table
            .grow(size, self.geometry.members(), &self.faults, setup)?;
        while self.kits.is_above(size) && self.table.reclaim_any(&self.kits) == Reclaimed::Found {}
        let result = self.kits.resize(size, setup);
        self.faults.forgive(self.kits.target());
        result
    }
}
