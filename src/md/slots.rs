// SPDX-License-Identifier: GPL-2.0

//! The slots of an array, and members that are kept while they are used.
//!
//! md core may add and remove members while requests are under way (`slot_store` does not suspend the array). So whoever
//! uses a member raises its `nr_pending` first, and looks at the slot again afterwards; whoever removes one empties the
//! slot, waits for a grace period, and puts it back if it is still in use.

use super::mddev::{Handle, Locked};
use super::rdev::{Flag, Rdev};
use crate::bindings;
use crate::mem::{Ask, Setup};
use crate::sync::rcu;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::alloc::AllocError;
use kernel::prelude::*;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

/// A place for a device.
///
/// # Invariants
///
/// `rdev` is null or a device that is valid until a grace period after it was taken out of here, and until its
/// `nr_pending` is zero after that.
pub(crate) struct Seat {
    rdev: AtomicPtr<bindings::md_rdev>,
}

impl Seat {
    /// An empty one.
    fn new() -> Self {
        // INVARIANT: null is allowed.
        Self {
            rdev: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Takes the device, if there is one and it is not faulty, and keeps it from going. Any context.
    pub(crate) fn take(&self) -> Option<Member> {
        // SAFETY: By the invariant, what the function finds in the slot within an RCU read section is valid.
        let rdev = unsafe { bindings::raid456_rdev_get(self.rdev.as_ptr()) };
        // INVARIANT: the function has raised `nr_pending`.
        NonNull::new(rdev).map(Member)
    }

    /// Shows the device, faulty or not, to `look`, which must not sleep: an RCU read section lasts as long. Any context.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&Rdev) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        let rdev = NonNull::new(self.rdev.load(Ordering::Acquire))?;
        // SAFETY: By the invariant the device is valid within the read section, and `look` cannot keep it longer.
        Some(look(unsafe { Rdev::from_raw(rdev.as_ptr()) }))
    }

    /// Whether there is no device.
    pub(crate) fn is_empty(&self) -> bool {
        // Acquire: who finds a replacement gone finds it in the member's place.
        self.rdev.load(Ordering::Acquire).is_null()
    }

    /// Whether `rdev` is the device.
    pub(crate) fn holds(&self, rdev: &Rdev) -> bool {
        core::ptr::eq(self.rdev.load(Ordering::Relaxed), rdev.as_ptr())
    }

    /// Puts a device in, if there is none. Returns whether there was none.
    fn fill(&self, added: Added<'_>) -> bool {
        // INVARIANT: md core keeps a device that is part of the array until the personality has removed it, which is not taken
        // for done while it is in here.
        let filled = self.rdev.compare_exchange(
            core::ptr::null_mut(),
            added.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        filled.is_ok()
    }
}

/// A place for a member, and for a device that is to replace it: see [`Self::replacement`].
pub(crate) struct Slot {
    member: Seat,
    replacement: Seat,
}

impl Slot {
    /// An empty slot.
    fn new() -> Self {
        Self {
            member: Seat::new(),
            replacement: Seat::new(),
        }
    }

    /// The device that is to replace the member.
    pub(crate) fn replacement(&self) -> &Seat {
        &self.replacement
    }

    /// The places for devices: that of the replacement, and the member's. Who looks at one after the other does so in this order, and
    /// does not miss a device that goes from the first to the second.
    pub(crate) fn seats(&self) -> [&Seat; 2] {
        [&self.replacement, &self.member]
    }
}

impl Deref for Slot {
    type Target = Seat;
    fn deref(&self) -> &Seat {
        &self.member
    }
}

/// The slots of an array. They change with its `reconfig_mutex` held.
///
/// Dropping it waits until nobody uses a member any more, for md core may free them next, and the array; not before, as it
/// waits for the handle.
pub(crate) struct Slots {
    slots: KVVec<Slot>,
    mddev: Handle,
}

impl Slots {
    /// As many empty slots for members of an array. May sleep.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(crate) fn new(mddev: Handle, count: u16, setup: &Setup) -> Result<Self, AllocError> {
        let mut slots = KVVec::with_capacity(usize::from(count), setup.flags())?;
        for _ in 0..count {
            slots.push(Slot::new(), setup.flags())?;
        }
        Ok(Self { slots, mddev })
    }

    /// Sees that it is this array's mutex that is held: so nobody else changes a slot.
    fn check(&self, locked: &Locked<'_>) -> Result {
        if locked.is_of(&self.mddev) {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// Whether a device is in one of the slots. For who holds the mutex, which keeps it so.
    pub(super) fn hold(&self, rdev: &Rdev) -> bool {
        let mut seats = self.slots.iter().flat_map(Slot::seats);
        seats.any(|seat| seat.holds(rdev))
    }

    /// Puts a device of the array where the personality wants it.
    ///
    /// # Errors
    ///
    /// As for [`Self::add`], or [`Self::add_replacement`].
    pub(super) fn fill(&self, locked: &Locked<'_>, vacancy: Vacancy, added: Added<'_>) -> Result {
        match vacancy {
            Vacancy::Member(slot) => self.add(locked, slot, added),
            Vacancy::Replacement(slot) => self.add_replacement(locked, slot, added),
        }
    }

    /// Puts a device of the array into an empty slot.
    ///
    /// # Errors
    ///
    /// `EEXIST`: there is no such slot, or it is not empty. `EINVAL`: the mutex is another array's.
    pub(crate) fn add(&self, locked: &Locked<'_>, slot: usize, added: Added<'_>) -> Result {
        self.check(locked)?;
        let slot = self.slots.get(slot).ok_or(EEXIST)?;
        if slot.member.fill(added) {
            Ok(())
        } else {
            Err(EEXIST)
        }
    }

    /// Puts a device of the array into a slot to replace the member.
    ///
    /// # Errors
    ///
    /// `EEXIST`: there is no such slot, or there is one that replaces the member. `EINVAL`: the mutex is another array's.
    pub(crate) fn add_replacement(
        &self,
        locked: &Locked<'_>,
        slot: usize,
        added: Added<'_>,
    ) -> Result {
        self.check(locked)?;
        let slot = self.slots.get(slot).ok_or(EEXIST)?;
        if slot.replacement.fill(added) {
            Ok(())
        } else {
            Err(EEXIST)
        }
    }

    /// Takes a device out of its slot, unless it is in use. It counts as lacking everything then, should it come back.
    ///
    /// If there is one to replace it that is the member from then on; whoever looks meanwhile, at the replacement's place first,
    /// finds it at least in one of its places. Sleeps for a grace period or two.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it is in use; it is still there, or its place is that of the one that replaces it already. `ENOENT`: it is in no slot. `EINVAL`: the mutex is another array's.
    pub(crate) fn remove(&self, locked: &Locked<'_>, rdev: &Rdev) -> Result {
        self.check(locked)?;
        let holds = |seat: &&Seat| seat.holds(rdev);
        let slot = self
            .slots
            .iter()
            .find(|slot| slot.seats().iter().any(holds))
            .ok_or(ENOENT)?;
        let seat = if slot.member.holds(rdev) {
            &slot.member
        } else {
            &slot.replacement
        };
        // Null too if it is the replacement that goes.
        let mut heir = core::ptr::null_mut();
        if slot.member.holds(rdev) {
            heir = slot.replacement.rdev.load(Ordering::Relaxed);
        }
        if !heir.is_null() {
            // Nobody takes a device that has failed from here, but who found before that it had not. By the end of this he has it, or
            // never will.
            rcu::synchronize();
            if rdev.pending() != 0 {
                return Err(EBUSY);
            }
        }
        // INVARIANT: null, or a device of this slot.
        seat.rdev.store(heir, Ordering::Release);
        if !heir.is_null() {
            slot.replacement
                .rdev
                .store(core::ptr::null_mut(), Ordering::Release);
        }
        // Whoever still saw the device there has raised `nr_pending` by the end of this, or seen that it has gone.
        rcu::synchronize();
        slot.member.with(|member| member.clear(Flag::Replacement));
        if rdev.pending() == 0 {
            // What it holds gets out of date from now on; who knows better may say so before it has a slot again.
            rdev.set_recovery_offset(0);
            return Ok(());
        }
        if heir.is_null() {
            // INVARIANT: the device was in the slot before, and has not been removed.
            seat.rdev.store(rdev.as_ptr(), Ordering::Release);
        }
        // Who finds devices in md core's list, to flush their caches or to write the bitmap, may have begun late. But the heir does
        // not go back to its own place: a write that was planned meanwhile would be sent to the other one alone.
        Err(EBUSY)
    }

    /// Makes replacements members where there is no other. For an array that takes no requests yet.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the mutex is another array's.
    pub(crate) fn promote_alone(&self, locked: &Locked<'_>) -> Result {
        self.check(locked)?;
        for slot in self.slots.iter().filter(|slot| slot.member.is_empty()) {
            let rdev = slot.replacement.rdev.load(Ordering::Relaxed);
            // INVARIANT: null, or a device of this slot.
            slot.member.rdev.store(rdev, Ordering::Release);
            slot.replacement
                .rdev
                .store(core::ptr::null_mut(), Ordering::Release);
            slot.member.with(|member| member.clear(Flag::Replacement));
        }
        Ok(())
    }
}

impl Deref for Slots {
    type Target = [Slot];
    fn deref(&self) -> &[Slot] {
        &self.slots
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for seat in self.slots.iter().flat_map(Slot::seats) {
            while seat.with(|rdev| rdev.pending() != 0) == Some(true) {
                // Whoever holds the device does not know this slot, so there is nothing to wait on.
                fsleep(Delta::from_millis(1));
            }
        }
        // Whoever let go last, also of a device that was removed before, may be about to wake the array's thread.
        rcu::synchronize();
    }
}

/// Where a new device is to go: its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vacancy {
    /// As the member, which there is none of.
    Member(usize),
    /// Beside the member, to replace it.
    Replacement(usize),
}

/// A device that md core makes part of the array, or would like to.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a>(&'a Rdev);

impl<'a> Candidate<'a> {
    /// One that may still be refused.
    pub(super) fn new(rdev: &'a Rdev) -> Self {
        Self(rdev)
    }

    /// Gives the device a slot, by which md core knows that it is part of the array.
    pub(crate) fn set_raid_disk(&self, slot: u16) {
        self.0.set_raid_disk(i32::from(slot));
    }

    /// Says that the slot is not the one that the device had before, or that it replaces the member there: it lacks everything.
    pub(crate) fn forget_saved_raid_disk(&self) {
        self.0.forget_saved_raid_disk();
    }

    /// Says up to where the device holds what it should.
    pub(crate) fn set_recovery_offset(&self, sector: u64) {
        self.0.set_recovery_offset(sector);
    }
}

impl Deref for Candidate<'_> {
    type Target = Rdev;
    fn deref(&self) -> &Rdev {
        self.0
    }
}

/// A device that md core has made part of the array.
///
/// # Invariants
///
/// md core keeps the device until the personality has removed it, or has freed the array.
#[derive(Clone, Copy)]
pub(crate) struct Added<'a>(Candidate<'a>);

impl<'a> Added<'a> {
    /// # Safety
    ///
    /// The caller guarantees the invariant of the type.
    pub(super) unsafe fn new(rdev: &'a Rdev) -> Self {
        // INVARIANT: By the requirement of this function.
        Self(Candidate(rdev))
    }
}

impl<'a> Deref for Added<'a> {
    type Target = Candidate<'a>;
    fn deref(&self) -> &Candidate<'a> {
        &self.0
    }
}

/// A member that is kept from going. Any context may drop it.
///
/// # Invariants
///
/// This value has raised the device's `nr_pending`, so the device is valid.
pub(crate) struct Member(NonNull<bindings::md_rdev>);

// SAFETY: A member gives shared access to the device, which may be shared; letting go may be done by any thread.
unsafe impl Send for Member {}

// SAFETY: As above.
unsafe impl Sync for Member {}

impl Member {
    /// Whether it is the same device.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Keeps a device that somebody keeps already.
    ///
    /// # Safety
    ///
    /// `raw` is a device whose `nr_pending` is raised, and stays so during the call.
    pub(crate) unsafe fn hold(raw: *mut bindings::md_rdev) -> Self {
        // SAFETY: By the requirement of this function the device is valid, and its count is not zero.
        unsafe { bindings::raid456_rdev_hold(raw) }
        // INVARIANT: the count was just raised for the new value.
        // SAFETY: A valid pointer is not null.
        Self(unsafe { NonNull::new_unchecked(raw) })
    }

    /// Gives the member as a pointer, which keeps it until [`Self::from_raw`].
    pub(crate) fn into_raw(self) -> *mut bindings::md_rdev {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }

    /// Takes a member back.
    ///
    /// # Safety
    ///
    /// `raw` comes from [`Self::into_raw`] and is taken back once.
    pub(crate) unsafe fn from_raw(raw: *mut bindings::md_rdev) -> Self {
        // INVARIANT: `nr_pending` is still raised.
        // SAFETY: `into_raw` gives no null pointers.
        Self(unsafe { NonNull::new_unchecked(raw) })
    }
}

impl Clone for Member {
    fn clone(&self) -> Self {
        // SAFETY: By the invariant the device is valid, and its count is not zero.
        unsafe { bindings::raid456_rdev_hold(self.0.as_ptr()) }
        // INVARIANT: the count was just raised for the new value.
        Self(self.0)
    }
}

impl Deref for Member {
    type Target = Rdev;
    fn deref(&self) -> &Rdev {
        // SAFETY: By the invariant the device is valid while this value lives.
        unsafe { Rdev::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: By the invariant the count is raised for this value, which is gone after this.
        unsafe { bindings::raid456_rdev_put(self.0.as_ptr()) }
    }
}
