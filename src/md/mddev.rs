// SPDX-License-Identifier: GPL-2.0

//! An array as md core knows it: `struct mddev`.
//!
//! Locks of md core, outermost first: `reconfig_mutex` (a [`Locked`] is the proof of holding it), `mddev->lock`. md core
//! calls quiesce with the first one held, so nothing that quiesce waits for may take it.

use super::rdev::Rdev;
use super::slots::Added;
use crate::bindings;
use crate::mem::{Ask, Setup};
use core::marker::PhantomData;
use core::ops::{Deref, Range};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use kernel::error::to_result;
use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::Opaque;

use crate::new_wait_queue;
use crate::sync::waitqueue::WaitQueue;

/// A sector number that is past every other: no resync is needed, no reshape is going on, a member is in sync.
pub(crate) const MAX_SECTOR: u64 = u64::MAX;

/// How far a sync is that has begun and has not got anywhere yet, as md core has it.
pub(crate) const SYNC_BEGUN: u64 = bindings::MD_RESYNC_ACTIVE as u64;

/// What md core sets as the number of read errors that are allowed (`MD_DEFAULT_MAX_CORRECTED_READ_ERRORS` in md.c).
const DEFAULT_MAX_READ_ERRORS: i32 = 20;

/// Properties of an array that md core knows by a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Flag {
    /// The superblock says that the array has a journal.
    HasJournal = bindings::mddev_flags_MD_HAS_JOURNAL,
    /// The array has a partial parity log.
    HasPpl = bindings::mddev_flags_MD_HAS_PPL,
    /// The array has partial parity logs with several entries.
    HasMultiplePpls = bindings::mddev_flags_MD_HAS_MULTIPLE_PPLS,
    /// More members are lost than parity makes up for: md core fails writes.
    Broken = bindings::mddev_flags_MD_BROKEN,
}

/// What of the superblock has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum SbFlag {
    /// The state of a member.
    Devs = bindings::mddev_sb_flags_MD_SB_CHANGE_DEVS,
    /// Somebody waits until it is written: no write may be acknowledged before.
    Pending = bindings::mddev_sb_flags_MD_SB_CHANGE_PENDING,
}

/// What md core does, or is about to do, to bring members in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Recovery {
    /// Something may have to be started: the array's thread looks.
    Needed = bindings::recovery_flags_MD_RECOVERY_NEEDED,
    /// The sync thread has to stop.
    Interrupted = bindings::recovery_flags_MD_RECOVERY_INTR,
    /// It is a resync, a check or a repair.
    Sync = bindings::recovery_flags_MD_RECOVERY_SYNC,
    /// A user asked for it: a check or a repair.
    Requested = bindings::recovery_flags_MD_RECOVERY_REQUESTED,
    /// It is a check: count what does not match, mend nothing.
    Check = bindings::recovery_flags_MD_RECOVERY_CHECK,
    /// Members are rebuilt.
    Recover = bindings::recovery_flags_MD_RECOVERY_RECOVER,
}

/// An array. References live for the time of a call from md core, or as long as a [`Handle`].
///
/// Fields are read and written as single words, without a lock unless a method says so: md core does the same.
#[repr(transparent)]
pub(crate) struct Mddev(Opaque<bindings::mddev>);

// SAFETY: md core uses an array from many threads; every method here does what md core itself does in any of them.
unsafe impl Send for Mddev {}

// SAFETY: As above.
unsafe impl Sync for Mddev {}

/// Methods that read one field.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $field:ident;)*) => {
        impl Mddev {
            $($(#[$doc])*
            pub(crate) fn $name(&self) -> $type {
                load!(self, $field)
            })*
        }
    };
}

/// Methods that write one field.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $field:ident;)*) => {
        impl Mddev {
            $($(#[$doc])*
            pub(crate) fn $name(&self, value: $type) {
                store!(self, $field, value);
            })*
        }
    };
}

fields! {
    /// RAID level.
    level: i32 = level;
    /// Number of the layout.
    layout: i32 = layout;
    /// Number of members, missing ones included.
    raid_disks: i32 = raid_disks;
    /// Sectors of a chunk.
    chunk_sectors: i32 = chunk_sectors;
    /// Level after the reshape that is going on or asked for; else the level.
    new_level: i32 = new_level;
    /// Layout after the reshape that is going on or asked for; else the layout.
    new_layout: i32 = new_layout;
    /// Sectors of a chunk after the reshape that is going on or asked for; else those of now.
    new_chunk_sectors: i32 = new_chunk_sectors;
    /// Members that the reshape that is going on or asked for adds.
    delta_disks: i32 = delta_disks;
    /// How far a reshape is; [`MAX_SECTOR`] if there is none.
    reshape_position: u64 = reshape_position;
    /// Sectors that the array uses of each member.
    dev_sectors: u64 = dev_sectors;
    /// Size of the array in sectors.
    array_sectors: u64 = array_sectors;
    /// Whether the array's size is set by somebody else, and so is not to be changed.
    external_size: i32 = external_size;
    /// Whether the metadata is kept outside of the kernel: not 0.
    external: i32 = external;
    /// Parity is right below this sector of the members; [`MAX_SECTOR`] if it is right everywhere.
    resync_offset: u64 = resync_offset;
    /// Where a sync pauses.
    resync_max: u64 = resync_max;
    /// How far the sync has been scheduled; below [`SYNC_BEGUN`] it is a state.
    curr_resync: u64 = curr_resync;
    /// Number of members that are lost.
    degraded: i32 = degraded;
    /// Whether the administrator said to start an array that is dirty and degraded.
    ok_start_degraded: i32 = ok_start_degraded;
    /// Bytes of a logical block, 0 if the superblock does not say.
    logical_block_size: u32 = logical_block_size;
}

setters! {
    /// Sets the number of members that are lost.
    set_degraded: i32 = degraded;
    /// Sets how far parity is right.
    set_resync_offset: u64 = resync_offset;
    /// Sets up to where the sync has ended. For the sync thread.
    set_curr_resync_completed: u64 = curr_resync_completed;
    /// Sets the sectors of a member that a resync goes through.
    set_resync_max_sectors: u64 = resync_max_sectors;
}

impl Mddev {
    /// Names an array that C knows.
    ///
    /// # Safety
    ///
    /// `ptr` is an array that stays valid for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::mddev) -> &'a Self {
        // SAFETY: By the requirement of this function; the types have one layout.
        unsafe { &*ptr.cast() }
    }

    /// The array as C knows it.
    pub(crate) fn as_ptr(&self) -> *mut bindings::mddev {
        self.0.get()
    }

    /// Whether the array belongs to dm-raid: it has no disk of its own, so no queue limits and no sysfs.
    pub(crate) fn is_dm(&self) -> bool {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_is_dm(self.as_ptr()) }
    }

    /// How many read errors of a member the administrator allows (the file max_read_errors); `None` if nobody has said other
    /// than what md core starts with.
    pub(crate) fn max_read_errors(&self) -> Option<i32> {
        let most = load!(self, max_corr_read_errors.counter);
        (most != DEFAULT_MAX_READ_ERRORS).then_some(most)
    }

    /// Whether somebody outside of the kernel keeps the metadata.
    pub(crate) fn is_external(&self) -> bool {
        self.external() != 0
    }

    /// Whether it is recorded which members have failed: dm-raid without devices for metadata says that somebody outside of the
    /// kernel does so, and there is nobody.
    pub(crate) fn has_metadata(&self) -> bool {
        !(self.is_external() && self.is_dm())
    }

    /// Whether the array may be written to.
    pub(crate) fn is_rdwr(&self) -> bool {
        // CAST: a small constant.
        load!(self, ro) == bindings::md_ro_state_MD_RDWR as i32
    }

    /// Whether the array must not be written to, and does not become writable by a first write either.
    pub(crate) fn is_read_only(&self) -> bool {
        // CAST: a small constant.
        load!(self, ro) == bindings::md_ro_state_MD_RDONLY as i32
    }

    /// The name for messages: "md0", or "mdX" for dm-raid.
    pub(crate) fn name(&self) -> Name<'_> {
        Name(self)
    }

    /// Whether a write-intent bitmap is configured, on the members or in a file; it may not be loaded yet.
    pub(crate) fn has_bitmap(&self) -> bool {
        load!(self, bitmap_info.offset) != 0 || !load!(self, bitmap_info.file).is_null()
    }

    /// Whether a flag is set.
    pub(crate) fn test(&self, flag: Flag) -> bool {
        is_set(load!(self, flags), flag as u32)
    }

    /// Sets a flag.
    pub(crate) fn set(&self, flag: Flag) {
        let word = field!(self, flags);
        // SAFETY: A flag word of an array that is valid.
        unsafe { bindings::raid456_set_bit(flag as u32, word) }
    }

    /// Whether a part of the superblock has to be written.
    pub(crate) fn test_sb(&self, flag: SbFlag) -> bool {
        is_set(load!(self, sb_flags), flag as u32)
    }

    /// Whether anything of the superblock has to be written for another reason than that somebody waits for it.
    pub(crate) fn sb_needs_more_than_pending(&self) -> bool {
        load!(self, sb_flags) & !(1 << SbFlag::Pending as u32) != 0
    }

    /// Says that parts of the superblock have to be written, all at once.
    pub(crate) fn set_sb(&self, flags: &[SbFlag]) {
        let mask = flags.iter().fold(0, |mask, flag| mask | 1 << *flag as u32);
        let word = field!(self, sb_flags);
        // SAFETY: A flag word of an array that is valid.
        unsafe { bindings::raid456_set_mask(word, mask) }
    }

    /// Whether a recovery flag is set.
    pub(crate) fn test_recovery(&self, flag: Recovery) -> bool {
        is_set(load!(self, recovery), flag as u32)
    }

    /// Sets a recovery flag.
    pub(crate) fn set_recovery(&self, flag: Recovery) {
        let word = field!(self, recovery);
        // SAFETY: A flag word of an array that is valid.
        unsafe { bindings::raid456_set_bit(flag as u32, word) }
    }

    /// Has a resync be no rebuild as well, which md core says of it once a device is added meanwhile and members are lost:
    /// then it takes how far the resync is for how far members are rebuilt, and records that. A check or repair that somebody has asked
    /// for is a resync as well: of an array that is not in sync it is what md core makes of that.
    ///
    /// For the sync thread, or while there is one that cannot end: what it does was chosen before, and what comes next is chosen when
    /// it has ended.
    pub(crate) fn keep_to_resync(&self) {
        if self.test_recovery(Recovery::Sync) && self.test_recovery(Recovery::Recover) {
            let word = field!(self, recovery);
            // SAFETY: A flag word of an array that is valid.
            unsafe { bindings::raid456_test_and_clear_bit(Recovery::Recover as u32, word) };
        }
    }

    /// The same, for who is about to have the superblock written: the array's thread, without which no sync thread ends, or who
    /// holds the mutex, without which none ends or begins.
    fn keep_running_to_resync(&self) {
        if !load!(self, sync_thread).is_null() {
            self.keep_to_resync();
        }
    }

    /// Wakes the array's thread, if it has one. Any context.
    pub(crate) fn wake_thread(&self) {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_wake_thread(self.as_ptr()) }
    }

    /// Does md core's housekeeping: superblock, sync thread, spares. Sleeps. For the array's thread only.
    pub(crate) fn check_recovery(&self) {
        self.keep_running_to_resync();
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_check_recovery(self.as_ptr()) }
    }

    /// Whether the caller is the array's sync thread.
    pub(crate) fn is_sync_thread(&self) -> bool {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_is_sync_thread(self.as_ptr()) }
    }

    /// Whether somebody holds `reconfig_mutex`. If not, it is seen what was done by who held it before. Any context.
    pub(crate) fn is_locked(&self) -> bool {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_is_locked(self.as_ptr()) }
    }

    /// Whether md core lets no request in. Unless the caller keeps it so, the answer may be out of date at once.
    pub(super) fn is_suspended(&self) -> bool {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_is_suspended(self.as_ptr()) }
    }

    /// Fails a member: md core calls the personality's error handler and takes note. Any context.
    pub(crate) fn error(&self, rdev: &Rdev) {
        // SAFETY: Both references say that what they refer to is valid.
        unsafe { bindings::md_error(self.as_ptr(), rdev.as_ptr()) }
    }

    /// Says that `sectors` of what `sync_request` returned are done. Any context.
    pub(crate) fn done_sync(&self, sectors: u32) {
        let sectors = i32::try_from(sectors).unwrap_or(i32::MAX);
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::md_done_sync(self.as_ptr(), sectors) }
    }

    /// Stops the sync because of an error. Any context.
    pub(crate) fn sync_error(&self) {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::md_sync_error(self.as_ptr()) }
    }

    /// Counts sectors that a check found not to match. Any context.
    pub(crate) fn add_mismatches(&self, sectors: u32) {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_add_mismatches(self.as_ptr(), i64::from(sectors)) }
    }

    /// Whether writes are recorded in a bitmap.
    pub(crate) fn bitmap_enabled(&self) -> bool {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_bitmap_enabled(self.as_ptr()) }
    }

    /// Whether the bitmap is, or would be, the lockless one. It takes note of what is discarded.
    pub(crate) fn bitmap_is_lockless(&self) -> bool {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_bitmap_is_lockless(self.as_ptr()) }
    }

    /// Sectors of a member that each state of a lockless bitmap is about, a power of two; 0 if there is none. Whoever asks
    /// keeps the bitmap: a request that is under way, a sync, or the mutex.
    pub(crate) fn lockless_chunk(&self) -> u64 {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_lockless_chunk(self.as_ptr()) }
    }

    /// What bitmap there is. It changes only while no request is under way, or one's array does not answer.
    pub(crate) fn bitmap_kind(&self) -> BitmapKind {
        let mut shift = 0;
        // SAFETY: The reference says that the array is valid; `shift` is ours.
        let bitmap = unsafe { bindings::raid456_classic_bitmap(self.as_ptr(), &mut shift) };
        match bitmap.addr() {
            0 => BitmapKind::Other,
            identity => BitmapKind::Classic { identity, shift },
        }
    }

    /// Writes the bitmap's dirty bits and waits for them; nothing if no request is under way. Sleeps.
    ///
    /// One caller at a time: the bits are tested and cleared, so a second one would return before the first one's write is
    /// durable.
    pub(crate) fn bitmap_unplug(&self) {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_bitmap_unplug(self.as_ptr()) }
    }

    /// Begins to sync the bitmap's chunk at member sector `offset`: whether it needs it, and for how many sectors from
    /// `offset` on the answer holds. `degraded`: the bits have to stay, because a member does not get the writes.
    ///
    /// May sleep. Without a bitmap, everything needs it.
    pub(crate) fn bitmap_start_sync(&self, offset: u64, degraded: bool) -> (bool, u64) {
        let mut sectors = 0;
        // SAFETY: The reference says that the array is valid; `sectors` is ours.
        let needed = unsafe {
            bindings::raid456_bitmap_start_sync(self.as_ptr(), offset, &mut sectors, degraded)
        };
        (needed, sectors)
    }

    /// Says that the sync of the bitmap's chunk at `offset` was given up. May sleep.
    pub(crate) fn bitmap_end_sync(&self, offset: u64) {
        let mut sectors = 0;
        // SAFETY: The reference says that the array is valid; `sectors` is ours.
        unsafe { bindings::raid456_bitmap_end_sync(self.as_ptr(), offset, &mut sectors) }
    }

    /// Lets the bitmap take note, now and then, of how far the sync is. May sleep.
    ///
    /// A lockless one takes all for synced up to the end of the chunk that `sector` is in.
    pub(crate) fn bitmap_cond_end_sync(&self, sector: u64, force: bool) {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_bitmap_cond_end_sync(self.as_ptr(), sector, force) }
    }

    /// Says that the sync is over. May sleep.
    pub(crate) fn bitmap_close_sync(&self) {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_bitmap_close_sync(self.as_ptr()) }
    }

    /// Whether the bitmap says that parity at member sector `offset` is right. True unless the bitmap is lockless.
    pub(crate) fn bitmap_synced(&self, offset: u64) -> bool {
        // SAFETY: The reference says that the array is valid.
        unsafe { bindings::raid456_bitmap_synced(self.as_ptr(), offset) }
    }
}

/// A write-intent bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BitmapKind {
    /// The classic one, whose bits [`Mddev::check_recovery`] clears, and otherwise only who has stopped writes, with `reconfig_mutex`
    /// held since before that. (He may have let them in again: md core does when a machine goes down.)
    Classic {
        /// Tells it from the array's other bitmaps, if these are there at the same time.
        identity: usize,
        /// Sector numbers of members are shifted right by this for the number of a chunk.
        shift: u32,
    },
    /// None, or another one.
    Other,
}

/// Whether bit `nr` of a flag word of md core is set.
pub(super) fn is_set(word: kernel::ffi::c_ulong, nr: u32) -> bool {
    word & (1 << nr) != 0
}

/// An array's name for messages.
pub(crate) struct Name<'a>(&'a Mddev);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: The reference says that the array is valid.
        let name = unsafe { bindings::raid456_mdname(self.0.as_ptr()) };
        // SAFETY: The name is a C string that lives as long as the array's disk.
        let name = unsafe { CStr::from_char_ptr(name) };
        fmt::Display::fmt(name, f)
    }
}

/// The proof that the caller holds an array's `reconfig_mutex`. It stays with the task that does.
///
/// # Invariants
///
/// The mutex is held while this value lives, by the task that has it.
pub(crate) struct Locked<'a>(&'a Mddev, PhantomData<*mut ()>);

impl Deref for Locked<'_> {
    type Target = Mddev;
    fn deref(&self) -> &Mddev {
        self.0
    }
}

impl<'a> Locked<'a> {
    /// Takes note that the mutex is held.
    ///
    /// # Safety
    ///
    /// The caller holds `reconfig_mutex` for `'a`.
    pub(super) unsafe fn new(mddev: &'a Mddev) -> Self {
        // INVARIANT: By the requirement of this function; the type is neither sent nor shared.
        Self(mddev, PhantomData)
    }

    /// Whether it is this array's mutex.
    pub(super) fn is_of(&self, mddev: &Mddev) -> bool {
        core::ptr::eq(self.0, mddev)
    }

    /// Every device of the array, spares and a journal included.
    pub(crate) fn rdevs(&self) -> Rdevs<'_> {
        Rdevs {
            mddev: self,
            last: core::ptr::null_mut(),
        }
    }

    /// Sets the sectors that the array uses of each member.
    pub(crate) fn set_dev_sectors(&self, sectors: u64) {
        store!(self, dev_sectors, sectors);
    }

    /// Sets the array's size, unless somebody else does.
    pub(crate) fn set_array_sectors(&self, sectors: u64) {
        // SAFETY: The array is valid, and the mutex is held as the function requires.
        unsafe { bindings::md_set_array_sectors(self.as_ptr(), sectors) }
    }

    /// That memory may be waited for: requests to the array go on meanwhile, and nothing that frees memory takes the mutex.
    pub(crate) fn setup(&self) -> Setup {
        // SAFETY: The mutex is held; a driver gets no `Locked` while a file of its own has stopped requests, and md core calls with them
        // stopped only where nothing is asked for by this.
        unsafe { Setup::assume() }
    }

    /// Makes the array active, so that allocations may write to it without waiting for the superblock. Sleeps.
    ///
    /// Who writes waits for the superblock, too, if a member failed or a resync ended just now, and only who holds the mutex can have
    /// it written; so it is, until nobody waits. `md_allow_write` would wait for that with the mutex held, for ever.
    pub(crate) fn allow_write(&self) {
        // SAFETY: The array is valid, and the mutex is held as the function requires.
        while unsafe { bindings::raid456_mark_active(self.as_ptr()) } {
            self.update_sb();
        }
    }

    /// Writes the superblock. Sleeps.
    pub(crate) fn update_sb(&self) {
        self.keep_running_to_resync();
        // SAFETY: The array is valid, and the mutex is held as the function requires.
        unsafe { bindings::md_update_sb(self.as_ptr(), 0) }
    }

    /// Makes the bitmap cover members of `sectors` sectors; nothing to do without one. Sleeps.
    ///
    /// # Errors
    ///
    /// The bitmap cannot be made larger, or there is no memory.
    pub(crate) fn bitmap_resize(&self, sectors: u64) -> Result {
        // SAFETY: The array is valid, and the mutex is held as the function requires.
        to_result(unsafe { bindings::raid456_bitmap_resize(self.as_ptr(), sectors) })
    }

    /// Says in the bitmap, which is to be large enough, that these sectors of members are to be synced: all of its chunks that they
    /// are in, also in parts. What a lockless one says was never written stays so. [`Self::bitmap_flush`] makes that durable.
    ///
    /// A classic one may lower the resync offset, to where the first of these chunks begins. Sleeps, and may wait for memory. With
    /// a lockless one no request may be under way.
    pub(crate) fn bitmap_mark(&self, sectors: Range<u64>) {
        // SAFETY: The array is valid, and the mutex is held as the function requires.
        unsafe { bindings::raid456_bitmap_mark(self.as_ptr(), sectors.start, sectors.end) }
    }

    /// Has a classic bitmap take note that no member is missing. Those that were away before, and lack what its bits are cleared
    /// for, are turned away by md core when they would come back by it: also after the array was stopped, from the next time
    /// that the superblock is written. Returns whether it knows; then [`Self::bitmap_flush`] is to follow. Sleeps.
    pub(crate) fn bitmap_is_whole(&self) -> bool {
        // SAFETY: The array is valid, and the mutex is held as the function requires.
        unsafe { bindings::raid456_bitmap_is_whole(self.as_ptr()) }
    }

    /// Has a classic bitmap that knows that no member is missing clear the bits of what was to be synced for those that were. Should
    /// a member fail meanwhile they stay. No sync may be under way. Sleeps.
    pub(crate) fn bitmap_all_synced(&self) {
        // SAFETY: The array is valid, and the mutex is held as the function requires.
        unsafe { bindings::raid456_bitmap_all_synced(self.as_ptr()) }
    }

    /// As [`Mddev::bitmap_unplug`], whether the array takes requests or not. Sleeps.
    pub(crate) fn bitmap_flush(&self) {
        // SAFETY: The array is valid, and the mutex is held as the function requires.
        unsafe { bindings::raid456_bitmap_flush(self.as_ptr()) }
    }
}

/// The proof that an array is being started, by the task that holds its `reconfig_mutex`.
///
/// # Invariants
///
/// md core calls the personality's `run` while this value lives.
pub(crate) struct Starting<'a>(Locked<'a>);

impl<'a> Deref for Starting<'a> {
    type Target = Locked<'a>;
    fn deref(&self) -> &Locked<'a> {
        &self.0
    }
}

impl<'a> Starting<'a> {
    /// Takes note that an array is being started.
    ///
    /// # Safety
    ///
    /// The caller holds `reconfig_mutex` for `'a`, and is called to start the array.
    pub(super) unsafe fn new(mddev: &'a Mddev) -> Self {
        // INVARIANT: By the requirement of this function.
        // SAFETY: As above.
        Self(unsafe { Locked::new(mddev) })
    }

    /// A device that the array has from the start; `None` if it has no slot, or is another array's.
    pub(crate) fn added<'b>(&'b self, rdev: &'b Rdev) -> Option<Added<'b>> {
        if rdev.raid_disk() < 0 || !rdev.is_of(self) {
            return None;
        }
        // SAFETY: Meanwhile md core takes out none. Then it lets one with a slot go when the personality has removed it; or when
        // the array is freed, also if it could not be started, and that waits for who uses its devices.
        Some(unsafe { Added::new(rdev) })
    }
}

/// An iterator over the devices of an array.
pub(crate) struct Rdevs<'a> {
    mddev: &'a Locked<'a>,
    last: *mut bindings::md_rdev,
}

impl<'a> Iterator for Rdevs<'a> {
    type Item = &'a Rdev;

    fn next(&mut self) -> Option<&'a Rdev> {
        // SAFETY: The mutex is held, so the list does not change; `last` is null or on it.
        self.last = unsafe { bindings::raid456_rdev_next(self.mddev.as_ptr(), self.last) };
        // SAFETY: A device that is on the list stays valid while the mutex is held.
        (!self.last.is_null()).then(|| unsafe { Rdev::from_raw(self.last) })
    }
}

/// What counts the handles of an array's private data.
#[pin_data]
pub(super) struct Handles {
    count: AtomicUsize,
    #[pin]
    gone: WaitQueue,
}

impl Handles {
    /// A counter at zero. May sleep.
    pub(super) fn new(setup: &Setup) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                count: AtomicUsize::new(0),
                gone <- new_wait_queue!("Handles::gone"),
            }),
            setup.flags(),
        )
    }

    /// Makes a handle of the array.
    ///
    /// # Safety
    ///
    /// The array stays valid until [`Self::wait_gone`] has returned.
    pub(super) unsafe fn handle(this: &Arc<Self>, mddev: &Mddev) -> Handle {
        this.count.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: By the requirement of this function; the handle was just counted.
        Handle {
            mddev: NonNull::from(mddev),
            handles: this.clone(),
        }
    }

    /// Waits until the last handle is gone. Sleeps.
    pub(super) fn wait_gone(&self) {
        self.gone.wait(|| self.count.load(Ordering::Acquire) == 0);
    }
}

/// An array that is kept by its private data.
///
/// md core frees an array only after the personality's `free`, which waits until the last handle is dropped. So a handle
/// belongs into what `free` takes apart; one that is leaked makes `free` wait for ever.
///
/// # Invariants
///
/// `mddev` is valid until `handles` has counted this handle down.
pub(crate) struct Handle {
    mddev: NonNull<Mddev>,
    handles: Arc<Handles>,
}

// SAFETY: A handle gives shared access to the array, which may be shared.
unsafe impl Send for Handle {}

// SAFETY: As above.
unsafe impl Sync for Handle {}

impl Deref for Handle {
    type Target = Mddev;
    fn deref(&self) -> &Mddev {
        // SAFETY: By the invariant the array is valid.
        unsafe { self.mddev.as_ref() }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.handles.count.fetch_add(1, Ordering::Relaxed);
        // INVARIANT: the new handle was just counted, and the array is valid as long as this one is.
        Self {
            mddev: self.mddev,
            handles: self.handles.clone(),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Release: what was done with the array comes before it goes.
        if self.handles.count.fetch_sub(1, Ordering::Release) == 1 {
            self.handles.gone.wake_all();
        }
    }
}
