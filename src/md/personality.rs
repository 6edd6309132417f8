// SPDX-License-Identifier: GPL-2.0

//! Personalities: how md core calls the driver.
//!
//! The trait [`Personality`] is what a driver implements; [`Driver`] registers it for RAID levels 4 and 5 when the module
//! is loaded. Between them stands one C function for each operation of `struct md_personality`.

use super::mddev::{Handle, Handles, Locked, Mddev, Starting};
use super::private::Private;
use super::rdev::Rdev;
use super::slots::{Added, Candidate, Slots, Vacancy};
use super::sysfs::{self, Group, Suspended};
use super::thread;
use crate::bindings;
use crate::block::request::Request;
use crate::md_warn;
use crate::mem::{pages, Ask, MayBlock, Setup};
use crate::sync::gate::Gate;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::error::{from_result, to_result};
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::{Arc, ArcBorrow};

/// An array as the operations get it.
pub(crate) type Running<'a, P> = ArcBorrow<'a, Gate<P>>;

/// What one call of `sync_request` has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// The sync of as many sectors was started; each gets its `done_sync`.
    Started(u32),
    /// As many sectors need none.
    Skipped(u64),
    /// The sync cannot go on.
    Aborted,
}

/// A driver of arrays. The type's values are running arrays.
///
/// Unless an operation says otherwise it is called in process context and may sleep. "Locked" means that
/// `reconfig_mutex` is held, as the argument proves.
pub(crate) trait Personality: Send + Sync + Sized + 'static {
    /// The attributes of its arrays in sysfs.
    const ATTRIBUTES: &'static Group<Self>;

    /// Prepares what all arrays use, before the first of them. When the module is loaded; may sleep.
    ///
    /// # Errors
    ///
    /// What the one who loads the module gets.
    fn load(setup: &Setup) -> Result;

    /// Gives up what was prepared, after the last array. When the module goes; may sleep.
    fn unload();

    /// Starts an array: checks what the superblocks say, sets it up, and tells md core its sizes and how many members are
    /// lost. Requests come once this has returned.
    ///
    /// # Errors
    ///
    /// What the one who starts the array gets.
    fn run(mddev: Handle, starting: &Starting<'_>) -> Result<Arc<Gate<Self>>>;

    /// Stops what runs for the array. No request is under way, and its thread has ended; afterwards only who stores an attribute
    /// without a lock may have another reference. Locked.
    fn free(array: Arc<Gate<Self>>, locked: &Locked<'_>);

    /// The work of the array's own thread, which is woken by `Mddev::wake_thread`.
    fn control(array: Running<'_, Self>);

    /// Takes a request. It is still accounted for as the submitter's: what may sleep does so before the first bio for a
    /// member goes out.
    fn make_request(
        array: Running<'_, Self>,
        mddev: &Mddev,
        request: Request<'_>,
        may_block: &MayBlock,
    );

    /// Writes the array's part of its line in /proc/mdstat. Must not sleep: `mddev->lock` is held.
    fn status(array: Running<'_, Self>, mddev: &Mddev, text: &SeqFile);

    /// A member has failed, or is to be taken for failed. Any context.
    fn error(array: Running<'_, Self>, mddev: &Mddev, rdev: &Rdev);

    /// The array's slots: the same ones whenever this is called.
    fn slots(&self) -> &Slots;

    /// Finds a slot for a device, which is put there if nobody has objections. Locked.
    ///
    /// # Errors
    ///
    /// `EEXIST`: there is none for it. Others as they are.
    fn hot_add(
        array: Running<'_, Self>,
        locked: &Locked<'_>,
        rdev: Candidate<'_>,
    ) -> Result<Vacancy>;

    /// Takes a device out of its slot; of one that is in none it need not do anything. Locked.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it is in use or needed.
    fn hot_remove(array: Running<'_, Self>, locked: &Locked<'_>, rdev: &Rdev) -> Result;

    /// Takes note that the rebuild of members has ended, and returns how many are in sync now that were not. Locked.
    fn spare_active(array: Running<'_, Self>, locked: &Locked<'_>) -> u32;

    /// Starts the sync of some sectors of the members, from `sector` on and not past `max`; called once more with
    /// `sector` at the end when it is over. In the sync thread.
    fn sync_request(
        array: Running<'_, Self>,
        mddev: &Mddev,
        sector: u64,
        max: u64,
        may_block: &MayBlock,
    ) -> Synced;

    /// Makes the array use `sectors` sectors of each member. Locked.
    ///
    /// # Errors
    ///
    /// What the one who asked gets.
    fn resize(array: Running<'_, Self>, locked: &Locked<'_>, sectors: u64) -> Result;

    /// The size of the array, in sectors, if it had so many sectors of each of so many members; 0 for those it has.
    fn size(array: Running<'_, Self>, mddev: &Mddev, sectors: u64, raid_disks: u32) -> u64;

    /// Whether the array can be brought into the shape that md core's `new_…` fields and `delta_disks` say. Locked.
    ///
    /// # Errors
    ///
    /// What the one who asked gets.
    fn check_reshape(array: Running<'_, Self>, locked: &Locked<'_>) -> Result;

    /// Starts the reshape that was checked. Locked.
    ///
    /// # Errors
    ///
    /// What the one who asked gets.
    fn start_reshape(_array: Running<'_, Self>, _locked: &Locked<'_>) -> Result {
        Err(EINVAL)
    }

    /// With `on`, lets no request and no sync in any more and waits until none is inside; without, lets them in again.
    ///
    /// Called with `reconfig_mutex` held, as `locked` proves, but by the sync thread, and maybe by dm-raid for an array that
    /// takes no requests: so nothing that is waited for may need that.
    fn quiesce(array: Running<'_, Self>, locked: Option<&Locked<'_>>, on: bool);

    /// Changes the way in which parity survives a crash to `policy`: "resync" or "ppl". Locked, and the array takes no
    /// requests.
    ///
    /// # Errors
    ///
    /// `EINVAL`: not this one, or not for this array.
    fn set_consistency_policy(
        _array: Running<'_, Self>,
        _suspended: &Suspended<'_>,
        _policy: &CStr,
    ) -> Result {
        Err(EINVAL)
    }

    /// Where a write-intent bitmap marks a write of `sectors` array sectors from `sector` on: a start and a length, in
    /// member sectors. Must not sleep.
    fn bitmap_range(array: Running<'_, Self>, sector: u64, sectors: u64) -> (u64, u64);

    /// Changes the number of strips in the cache. Locked.
    ///
    /// # Errors
    ///
    /// `EINVAL`: not in the range. `ENOMEM`.
    fn set_cache_size(&self, locked: &Locked<'_>, size: i32) -> Result;

    /// The number of strips that the cache should have, and that it has.
    fn cache_strips(&self) -> (i32, i32);

    /// Changes the journal's mode. Locked.
    ///
    /// # Errors
    ///
    /// `ENODEV`: the array has no journal.
    fn set_journal_mode(&self, _locked: &Locked<'_>, _mode: i32) -> Result {
        Err(ENODEV)
    }
}

/// The levels and the names by which md core calls their personalities.
const LEVELS: [(bindings::md_submodule_id, &CStr); 3] = [
    (bindings::md_submodule_id_ID_RAID6, c"raid6"),
    (bindings::md_submodule_id_ID_RAID5, c"raid5"),
    (bindings::md_submodule_id_ID_RAID4, c"raid4"),
];

/// The module: while it lives, `P` is registered.
pub(crate) struct Driver<P: Personality> {
    registered: KVec<Pin<KBox<bindings::md_personality>>>,
    _personality: PhantomData<fn(P)>,
}

// SAFETY: The personalities are only read, by md core; registering has its own lock.
unsafe impl<P: Personality> Send for Driver<P> {}

// SAFETY: As above.
unsafe impl<P: Personality> Sync for Driver<P> {}

/// Whether there is a driver: there is one for each module.
static LOADED: AtomicBool = AtomicBool::new(false);

impl<P: Personality> kernel::Module for Driver<P> {
    fn init(module: &'static ThisModule) -> Result<Self> {
        if LOADED.swap(true, Ordering::Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: Whoever loads a module may block.
        let setup = unsafe { Setup::assume() };
        P::load(&setup).inspect_err(|_| LOADED.store(false, Ordering::Relaxed))?;
        let mut this = Self {
            registered: KVec::with_capacity(LEVELS.len(), setup.flags())?,
            _personality: PhantomData,
        };
        for (id, name) in LEVELS {
            let mut personality = KBox::pin(Self::personality(module, id, name), setup.flags())?;
            // SAFETY: The personality stays where it is until it is unregistered when the module goes, which md core does
            // not let happen while an array runs.
            to_result(unsafe { bindings::register_md_submodule(&mut personality.head) })
                .inspect_err(|err| {
                    pr_err!("cannot register {}: {:?}\n", name, err);
                })?;
            this.registered.push(personality, setup.flags())?;
        }
        Ok(this)
    }
}

impl<P: Personality> Drop for Driver<P> {
    fn drop(&mut self) {
        for personality in &mut self.registered {
            // SAFETY: It is registered, and no array uses it: the module is going, or has never come.
            unsafe { bindings::unregister_md_submodule(&mut personality.head) };
        }
        P::unload();
        pages::expect_all_back();
        LOADED.store(false, Ordering::Relaxed);
    }
}

impl<P: Personality> Driver<P> {
    /// The operations of a level. What is not there is not supported, and md core says so.
    fn personality(
        module: &'static ThisModule,
        id: bindings::md_submodule_id,
        name: &'static CStr,
    ) -> bindings::md_personality {
        bindings::md_personality {
            head: bindings::md_submodule_head {
                type_: bindings::md_submodule_type_MD_PERSONALITY,
                id,
                name: name.as_char_ptr(),
                owner: module.as_ptr(),
            },
            make_request: Some(Self::make_request),
            run: Some(Self::run),
            free: Some(Self::free),
            status: Some(Self::status),
            error_handler: Some(Self::error_handler),
            hot_add_disk: Some(Self::hot_add_disk),
            hot_remove_disk: Some(Self::hot_remove_disk),
            spare_active: Some(Self::spare_active),
            sync_request: Some(Self::sync_request),
            resize: Some(Self::resize),
            size: Some(Self::size),
            check_reshape: Some(Self::check_reshape),
            start_reshape: Some(Self::start_reshape),
            quiesce: Some(Self::quiesce),
            change_consistency_policy: Some(Self::change_consistency_policy),
            bitmap_sector: Some(Self::bitmap_sector),
            // A journal is not supported yet, so nothing is replayed.
            start: None,
            // Nor is a reshape: nobody waits for one, and none ends.
            finish_reshape: None,
            update_reshape_pos: None,
            prepare_suspend: None,
            // Nor a change of level.
            takeover: None,
        }
    }

    /// The array that md core means.
    ///
    /// # Safety
    ///
    /// Called in an operation of a personality of `P`, other than `run` and `free`, on an array that runs.
    unsafe fn array<'a>(mddev: &'a Mddev) -> Running<'a, P> {
        let private = load!(mddev, private);
        // SAFETY: While the personality is `P`'s and the array runs, the private data is from `run`.
        unsafe { Private::<P>::array(private.cast()) }
    }

    /// # Safety
    ///
    /// Called by md core. (So are those that follow: their arguments are valid, and what the trait says of the context
    /// is so.)
    unsafe extern "C" fn make_request(
        mddev: *mut bindings::mddev,
        bio: *mut bindings::bio,
    ) -> bool {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: As above; the bio is ours now.
        let request = unsafe { Request::from_raw(mddev, bio) };
        // SAFETY: md core has just called for a request; this returns after it was dropped.
        let may_block = unsafe { MayBlock::enter() };
        // SAFETY: By the requirement of this function.
        P::make_request(unsafe { Self::array(mddev) }, mddev, request, &may_block);
        true
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn run(mddev: *mut bindings::mddev) -> kernel::ffi::c_int {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core holds the mutex, and starts the array.
        let starting = unsafe { Starting::new(mddev) };
        from_result(|| Self::start(&starting).map(|()| 0))
    }

    /// Starts an array and gives it to md core.
    fn start(mddev: &Starting<'_>) -> Result {
        if !load!(mddev, private).is_null() {
            // Only a takeover presets it, and there is none.
            md_warn!(
                "md/raid:{}: the array has private data already\n",
                mddev.name()
            );
            return Err(EINVAL);
        }
        let handles = Handles::new(&mddev.setup())?;
        // SAFETY: The array stays until `free` has returned, or this function if it fails: both wait for the handles.
        let handle = unsafe { Handles::handle(&handles, mddev) };
        let array = P::run(handle, mddev).inspect_err(|_| handles.wait_gone())?;
        let private = match Private::new(array, handles) {
            Ok(private) => private,
            Err((array, handles)) => return Err(Self::undo(array, &handles, mddev, ENOMEM)),
        };

        // The first steps are undone if a later one fails; nothing can after the last.
        let thread = match Self::register_thread(mddev, &private) {
            Ok(thread) => thread,
            Err(err) => {
                let (array, handles) = private.into_parts();
                return Err(Self::undo(array, &handles, mddev, err));
            }
        };
        if let Err(err) = P::ATTRIBUTES.add(mddev) {
            md_warn!(
                "md/raid:{}: failed to create sysfs attributes: {:?}\n",
                mddev.name(),
                err
            );
        }

        let private = private.into_raw();
        // SAFETY: The private data was just given up, and is of this type.
        unsafe { Private::<P>::note_stripes(private) };
        store!(mddev, private, private.cast());
        // SAFETY: The array is valid, and the thread is registered; md core unregisters it.
        unsafe { bindings::raid456_set_thread(mddev.as_ptr(), thread.as_ptr()) };
        mddev.wake_thread();
        Ok(())
    }

    /// Takes apart an array that could not be started. Returns `err`.
    fn undo(array: Arc<Gate<P>>, handles: &Handles, mddev: &Locked<'_>, err: Error) -> Error {
        P::free(array, mddev);
        handles.wait_gone();
        err
    }

    /// Registers the array's own thread, which is called "raid5" after the level.
    fn register_thread(
        mddev: &Locked<'_>,
        private: &Private<P>,
    ) -> Result<core::ptr::NonNull<bindings::md_thread>> {
        let name = kernel::str::CString::try_from_fmt(fmt!("raid{}", mddev.new_level()))?;
        // SAFETY: The array is valid. The private data is freed only after md core has unregistered the thread.
        unsafe {
            thread::register(
                mddev.as_ptr(),
                &name,
                Self::control,
                private.as_ptr().cast(),
            )
        }
    }

    /// # Safety
    ///
    /// Called by md core for the thread that [`Self::register_thread`] registered.
    unsafe extern "C" fn control(thread: *mut bindings::md_thread) {
        thread::has_woken();
        // SAFETY: By the requirement of this function.
        let Some(private) = (unsafe { thread::private(thread) }) else {
            return;
        };
        // SAFETY: The thread's private data is the array's, which is freed only after the thread has ended.
        P::control(unsafe { Private::<P>::array(private.as_ptr().cast()) });
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn free(mddev: *mut bindings::mddev, private: *mut kernel::ffi::c_void) {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core holds the mutex.
        let locked = unsafe { Locked::new(mddev) };
        // Nobody finds the private data any more: the personality was taken away before this, so sysfs does not look.
        // SAFETY: md core gives what `start` gave it, once.
        let (array, handles) = unsafe { Private::<P>::from_raw(private) }.into_parts();
        P::free(array, &locked);
        handles.wait_gone();
        P::ATTRIBUTES.remove_later(&locked);
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn status(seq: *mut bindings::seq_file, mddev: *mut bindings::mddev) {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: As above.
        let seq = unsafe { SeqFile::from_raw(seq) };
        // SAFETY: As above.
        P::status(unsafe { Self::array(mddev) }, mddev, seq);
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn error_handler(mddev: *mut bindings::mddev, rdev: *mut bindings::md_rdev) {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: As above.
        let rdev = unsafe { Rdev::from_raw(rdev) };
        // SAFETY: As above.
        P::error(unsafe { Self::array(mddev) }, mddev, rdev);
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn hot_add_disk(
        mddev: *mut bindings::mddev,
        rdev: *mut bindings::md_rdev,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core holds the mutex.
        let locked = unsafe { Locked::new(mddev) };
        // SAFETY: By the requirement of this function.
        let rdev = unsafe { Rdev::from_raw(rdev) };
        from_result(|| {
            // SAFETY: By the requirement of this function.
            let array = unsafe { Self::array(mddev) };
            let vacancy = P::hot_add(array, &locked, Candidate::new(rdev))?;
            // SAFETY: If it gets there this returns 0; then md core keeps it until it has been removed.
            let added = unsafe { Added::new(rdev) };
            array.slots().fill(&locked, vacancy, added).map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn hot_remove_disk(
        mddev: *mut bindings::mddev,
        rdev: *mut bindings::md_rdev,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core holds the mutex.
        let locked = unsafe { Locked::new(mddev) };
        // SAFETY: By the requirement of this function.
        let rdev = unsafe { Rdev::from_raw(rdev) };
        from_result(|| {
            // SAFETY: By the requirement of this function.
            let array = unsafe { Self::array(mddev) };
            P::hot_remove(array, &locked, rdev)?;
            if array.slots().hold(rdev) {
                // md core would free it.
                return Err(EBUSY);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn spare_active(mddev: *mut bindings::mddev) -> kernel::ffi::c_int {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core holds the mutex.
        let locked = unsafe { Locked::new(mddev) };
        // SAFETY: By the requirement of this function.
        let active = P::spare_active(unsafe { Self::array(mddev) }, &locked);
        i32::try_from(active).unwrap_or(i32::MAX)
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn sync_request(
        mddev: *mut bindings::mddev,
        sector: bindings::sector_t,
        max: bindings::sector_t,
        skipped: *mut kernel::ffi::c_int,
    ) -> bindings::sector_t {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core has just called for sync; this returns after it was dropped.
        let may_block = unsafe { MayBlock::enter() };
        // SAFETY: By the requirement of this function.
        let array = unsafe { Self::array(mddev) };
        match P::sync_request(array, mddev, sector, max, &may_block) {
            Synced::Started(sectors) => sectors.into(),
            Synced::Skipped(sectors) => {
                // SAFETY: The pointer is valid, and ours to write.
                unsafe { *skipped = 1 };
                sectors
            }
            Synced::Aborted => 0,
        }
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn resize(
        mddev: *mut bindings::mddev,
        sectors: bindings::sector_t,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core holds the mutex.
        let locked = unsafe { Locked::new(mddev) };
        from_result(|| {
            // SAFETY: By the requirement of this function.
            P::resize(unsafe { Self::array(mddev) }, &locked, sectors).map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn size(
        mddev: *mut bindings::mddev,
        sectors: bindings::sector_t,
        raid_disks: kernel::ffi::c_int,
    ) -> bindings::sector_t {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        let raid_disks = u32::try_from(raid_disks).unwrap_or(0);
        // SAFETY: By the requirement of this function.
        P::size(unsafe { Self::array(mddev) }, mddev, sectors, raid_disks)
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn check_reshape(mddev: *mut bindings::mddev) -> kernel::ffi::c_int {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core holds the mutex.
        let locked = unsafe { Locked::new(mddev) };
        // SAFETY: By the requirement of this function.
        from_result(|| P::check_reshape(unsafe { Self::array(mddev) }, &locked).map(|()| 0))
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn start_reshape(mddev: *mut bindings::mddev) -> kernel::ffi::c_int {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: md core holds the mutex.
        let locked = unsafe { Locked::new(mddev) };
        // SAFETY: By the requirement of this function.
        from_result(|| P::start_reshape(unsafe { Self::array(mddev) }, &locked).map(|()| 0))
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn quiesce(mddev: *mut bindings::mddev, quiesce: kernel::ffi::c_int) {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // dm-raid resizes the bitmap of a suspended array without the mutex; then nothing waits for the superblock.
        let unlocked = mddev.is_sync_thread() || mddev.is_dm() && mddev.is_suspended();
        // SAFETY: Whoever else calls this holds the mutex: those who stop an array, change it, or resize its bitmap.
        let locked = (!unlocked).then(|| unsafe { Locked::new(mddev) });
        // SAFETY: By the requirement of this function.
        P::quiesce(unsafe { Self::array(mddev) }, locked.as_ref(), quiesce != 0);
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn change_consistency_policy(
        mddev: *mut bindings::mddev,
        policy: *const kernel::ffi::c_char,
    ) -> kernel::ffi::c_int {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: As above.
        let policy = unsafe { CStr::from_char_ptr(policy) };
        // md core holds no lock here, so the array may be about to go.
        from_result(|| {
            sysfs::suspended(mddev, |suspended| {
                sysfs::with_locked::<P, _>(suspended.locked(), |array| {
                    P::set_consistency_policy(array, suspended, policy)
                })
            })
            .map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// See [`Self::make_request`].
    unsafe extern "C" fn bitmap_sector(
        mddev: *mut bindings::mddev,
        offset: *mut bindings::sector_t,
        sectors: *mut kernel::ffi::c_ulong,
    ) {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        // SAFETY: The pointer is valid, and ours to read and write.
        let offset = unsafe { &mut *offset };
        // SAFETY: As above.
        let sectors = unsafe { &mut *sectors };
        let length = u64::try_from(*sectors).unwrap_or(u64::MAX);
        // SAFETY: By the requirement of this function.
        let (start, length) = P::bitmap_range(unsafe { Self::array(mddev) }, *offset, length);
        *offset = start;
        *sectors = usize::try_from(length).unwrap_or(usize::MAX);
    }
}
