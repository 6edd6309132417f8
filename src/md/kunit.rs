// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel of what stands for md core's structures.

/// An array and a device that md core does not know.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod fake {
    use crate::bindings;
    use crate::md::mddev::{Handle, Handles, Locked, Mddev};
    use crate::md::rdev::Rdev;
    use crate::md::slots::Added;
    use crate::mem::kunit::setup;
    use kernel::prelude::*;
    use kernel::sync::Arc;

    /// An array without anything but one device, at sector 1000 of a disk that is not there.
    pub(crate) struct Array {
        mddev: KBox<bindings::mddev>,
        rdev: KBox<bindings::md_rdev>,
        handles: Arc<Handles>,
    }

    impl Array {
        /// Makes one.
        pub(crate) fn new() -> Result<Self> {
            let mut this = Self {
                mddev: KBox::new(bindings::mddev::default(), GFP_KERNEL)?,
                rdev: KBox::new(bindings::md_rdev::default(), GFP_KERNEL)?,
                handles: Handles::new(&setup())?,
            };
            let key = kernel::static_lock_class!();
            // SAFETY: The mutex is not in use, and the name and the key live for ever.
            unsafe {
                bindings::__mutex_init(
                    &mut this.mddev.reconfig_mutex,
                    c"kunit".as_char_ptr(),
                    key.as_ptr(),
                )
            };
            let key = kernel::static_lock_class!();
            // SAFETY: The spinlock is not in use, and the name and the key live for ever.
            unsafe {
                bindings::__spin_lock_init(
                    &mut this.mddev.lock,
                    c"kunit state".as_char_ptr(),
                    key.as_ptr(),
                )
            };
            this.rdev.mddev = &mut *this.mddev;
            this.rdev.data_offset = 1000;
            // SAFETY: The bad blocks are not in use.
            let err = unsafe { bindings::badblocks_init(&mut this.rdev.badblocks, 1) };
            kernel::error::to_result(err)?;
            Ok(this)
        }

        /// The array.
        pub(crate) fn mddev(&self) -> &Mddev {
            let ptr = core::ptr::from_ref(&*self.mddev).cast_mut();
            // SAFETY: The structure is valid as long as this value; nobody uses it but the wrappers.
            unsafe { Mddev::from_raw(ptr) }
        }

        /// The proof that its mutex is held.
        pub(crate) fn locked(&self) -> Locked<'_> {
            // SAFETY: Nobody knows the array but the test's one task, and md core does not: that is as good.
            unsafe { Locked::new(self.mddev()) }
        }

        /// The device.
        pub(crate) fn rdev(&self) -> &Rdev {
            let ptr = core::ptr::from_ref(&*self.rdev).cast_mut();
            // SAFETY: As above.
            unsafe { Rdev::from_raw(ptr) }
        }

        /// A handle of the array.
        pub(crate) fn handle(&self) -> Handle {
            // SAFETY: Dropping the array waits until the handles are gone.
            unsafe { Handles::handle(&self.handles, self.mddev()) }
        }

        /// The device as a part of the array, which must not go before who uses it.
        pub(crate) fn added(&self) -> Added<'_> {
            // SAFETY: The tests drop what uses the device first.
            unsafe { Added::new(self.rdev()) }
        }
    }

    impl Drop for Array {
        fn drop(&mut self) {
            self.handles.wait_gone();
            // SAFETY: `new` initialised them, and nobody uses them any more.
            unsafe { bindings::badblocks_exit(&mut self.rdev.badblocks) }
        }
    }
}

#[kernel::macros::kunit_tests(raid456_md)]
mod tests {
    use super::fake;
    use crate::bindings;
    use crate::md::mddev::{
        Flag as ArrayFlag, Handles, Locked, Recovery, SbFlag, Starting, MAX_SECTOR,
    };
    use crate::md::rdev::{BadBlocks, Flag};
    use crate::md::slots::{Slots, Vacancy};
    use crate::md::thread::{Thread, Work};
    use crate::mem::kunit::setup;
    use crate::new_wait_queue;
    use crate::sync::rcu;
    use crate::sync::waitqueue::WaitQueue;
    use core::sync::atomic::{AtomicU32, Ordering};
    use kernel::prelude::*;
    use kernel::sync::Arc;
    use kernel::time::delay::{fsleep, udelay};
    use kernel::time::Delta;
    use kernel::workqueue;

    #[test]
    fn flags_are_those_of_the_structure() -> Result {
        let array = fake::Array::new()?;
        let (mddev, rdev) = (array.mddev(), array.rdev());
        let flags = [
            Flag::Faulty,
            Flag::InSync,
            Flag::Blocked,
            Flag::WriteErrorSeen,
            Flag::BlockedBadBlocks,
            Flag::WantReplacement,
            Flag::Replacement,
            Flag::Journal,
        ];
        for flag in flags {
            assert!(!rdev.test(flag) && !rdev.set(flag));
            // SAFETY: The device is valid.
            let word = unsafe { (*rdev.as_ptr()).flags };
            assert_eq!(word, 1 << flag as u32);
            assert!(rdev.test(flag) && rdev.set(flag) && rdev.clear(flag));
            assert!(!rdev.test(flag) && !rdev.clear(flag));
        }
        mddev.set(ArrayFlag::Broken);
        assert!(mddev.test(ArrayFlag::Broken) && !mddev.test(ArrayFlag::HasJournal));
        mddev.set_sb(&[SbFlag::Pending]);
        assert!(mddev.test_sb(SbFlag::Pending) && !mddev.sb_needs_more_than_pending());
        mddev.set_sb(&[SbFlag::Devs, SbFlag::Pending]);
        assert!(mddev.test_sb(SbFlag::Pending) && mddev.sb_needs_more_than_pending());
        assert!(mddev.test_sb(SbFlag::Devs));
        mddev.set_recovery(Recovery::Check);
        assert!(mddev.test_recovery(Recovery::Check) && !mddev.test_recovery(Recovery::Sync));
        // A rebuild stays one; a resync is nothing else, also one that somebody asked for.
        mddev.set_recovery(Recovery::Recover);
        mddev.keep_to_resync();
        assert!(mddev.test_recovery(Recovery::Recover));
        mddev.set_recovery(Recovery::Sync);
        mddev.keep_to_resync();
        assert!(mddev.test_recovery(Recovery::Sync) && !mddev.test_recovery(Recovery::Recover));
        mddev.set_recovery(Recovery::Recover);
        mddev.set_recovery(Recovery::Requested);
        mddev.keep_to_resync();
        assert!(mddev.test_recovery(Recovery::Requested) && mddev.test_recovery(Recovery::Sync));
        assert!(!mddev.test_recovery(Recovery::Recover));
        Ok(())
    }

    #[test]
    fn fields_are_those_of_the_structure() -> Result {
        let array = fake::Array::new()?;
        let (mddev, rdev) = (array.mddev(), array.rdev());
        // SAFETY: The device is valid.
        let offset = unsafe { &raw mut (*rdev.as_ptr()).__bindgen_anon_1 };
        // SAFETY: Both names are those of one word.
        unsafe { offset.cast::<u64>().write(MAX_SECTOR - 3) };
        array.added().set_raid_disk(254);
        mddev.set_degraded(2);
        mddev.set_resync_offset(1 << 40);
        mddev.set_resync_max_sectors(1 << 41);
        // SAFETY: Both are valid.
        let (raw, raw_rdev) = unsafe { (&*mddev.as_ptr(), &*rdev.as_ptr()) };
        assert_eq!((raw.degraded, raw.resync_offset), (2, 1 << 40));
        assert_eq!(raw.resync_max_sectors, 1 << 41);
        assert_eq!(raw_rdev.raid_disk, 254);
        assert_eq!(rdev.recovery_offset(), MAX_SECTOR - 3);
        assert_eq!((rdev.raid_disk(), rdev.data_offset()), (254, 1000));
        assert_eq!((mddev.degraded(), mddev.resync_offset()), (2, 1 << 40));
        Ok(())
    }

    #[test]
    fn mutex_is_seen_while_somebody_has_it() -> Result {
        let array = fake::Array::new()?;
        let mddev = array.mddev();
        assert!(!mddev.is_locked());
        // SAFETY: The array is valid; the mutex is taken here and given up below.
        let err = unsafe { bindings::raid456_mddev_lock(mddev.as_ptr()) };
        assert_eq!(err, 0);
        assert!(mddev.is_locked());
        // SAFETY: The mutex is held.
        unsafe { bindings::mutex_unlock(&raw mut (*mddev.as_ptr()).reconfig_mutex) };
        assert!(!mddev.is_locked());
        Ok(())
    }

    #[test]
    fn member_in_use_is_not_removed() -> Result {
        let array = fake::Array::new()?;
        let slots = Slots::new(array.handle(), 3, &setup())?;
        let rdev = array.rdev();
        assert_eq!(slots.add(&array.locked(), 3, array.added()), Err(EEXIST));
        slots.add(&array.locked(), 1, array.added())?;
        assert_eq!(slots.add(&array.locked(), 1, array.added()), Err(EEXIST));
        assert!(slots[0].take().is_none() && slots[0].is_empty());
        let member = slots[1].take().ok_or(EINVAL)?;
        let other = member.clone();
        assert!(core::ptr::eq(&*member, rdev) && rdev.pending() == 2);
        assert_eq!(slots.remove(&array.locked(), rdev), Err(EBUSY));
        assert!(slots[1].holds(rdev));
        drop(member);
        assert_eq!(slots.remove(&array.locked(), rdev), Err(EBUSY));
        drop(other);
        assert_eq!(rdev.pending(), 0);
        assert_eq!(slots.remove(&array.locked(), rdev), Ok(()));
        assert!(slots[1].is_empty() && slots[1].take().is_none());
        assert_eq!(slots.remove(&array.locked(), rdev), Err(ENOENT));
        Ok(())
    }

    #[test]
    fn slots_do_not_change_with_the_mutex_of_another_array() -> Result {
        let array = fake::Array::new()?;
        let other = fake::Array::new()?;
        let slots = Slots::new(array.handle(), 1, &setup())?;
        let wrong = other.locked();
        assert_eq!(slots.add(&wrong, 0, array.added()), Err(EINVAL));
        assert_eq!(slots.add_replacement(&wrong, 0, array.added()), Err(EINVAL));
        assert!(slots[0].seats().iter().all(|seat| seat.is_empty()));
        slots.add_replacement(&array.locked(), 0, array.added())?;
        assert_eq!(slots.promote_alone(&wrong), Err(EINVAL));
        assert_eq!(slots.remove(&wrong, array.rdev()), Err(EINVAL));
        assert!(slots[0].is_empty() && slots[0].replacement().holds(array.rdev()));
        slots.promote_alone(&array.locked())?;
        assert!(slots[0].holds(array.rdev()) && slots[0].replacement().is_empty());
        slots.remove(&array.locked(), array.rdev())
    }

    #[test]
    fn device_is_a_part_of_its_own_array_if_it_has_a_slot() -> Result {
        let array = fake::Array::new()?;
        let other = fake::Array::new()?;
        // SAFETY: As for `locked()`: nobody but this task knows the array.
        let own = unsafe { Starting::new(array.mddev()) };
        // SAFETY: As above.
        let wrong = unsafe { Starting::new(other.mddev()) };
        let rdev = array.rdev();
        for (slot, expected) in [(0, true), (7, true), (-1, false)] {
            rdev.set_raid_disk(slot);
            assert_eq!(own.added(rdev).is_some(), expected);
            assert!(wrong.added(rdev).is_none());
        }
        let slots = Slots::new(array.handle(), 2, &setup())?;
        let locked = array.locked();
        for (vacancy, place) in [
            (Vacancy::Member(1), [false, true]),
            (Vacancy::Replacement(1), [true, false]),
        ] {
            slots.fill(&locked, vacancy, array.added())?;
            assert!(slots.hold(rdev) && !slots.hold(other.rdev()));
            assert_eq!(slots[1].seats().map(|seat| seat.holds(rdev)), place);
            assert_eq!(slots.fill(&locked, vacancy, array.added()), Err(EEXIST));
            slots.remove(&locked, rdev)?;
            assert!(!slots.hold(rdev));
        }
        Ok(())
    }

    #[test]
    fn faulty_member_is_seen_but_not_taken() -> Result {
        let array = fake::Array::new()?;
        let slots = Slots::new(array.handle(), 1, &setup())?;
        slots.add(&array.locked(), 0, array.added())?;
        let member = slots[0].take().ok_or(EINVAL)?;
        array.rdev().set(Flag::Faulty);
        assert!(slots[0].take().is_none());
        assert_eq!(slots[0].with(|rdev| rdev.test(Flag::Faulty)), Some(true));
        assert!(!array.mddev().test_recovery(Recovery::Needed));
        // Who lets go of it last has md core look at what can be done without it.
        drop(member);
        assert!(array.mddev().test_recovery(Recovery::Needed));
        slots.remove(&array.locked(), array.rdev())
    }

    /// Not seen to fail where one CPU runs a task until it sleeps.
    #[test]
    fn slots_wait_for_who_has_just_let_go_of_a_member() -> Result {
        let array = fake::Array::new()?;
        let slots = Slots::new(array.handle(), 1, &setup())?;
        slots.add(&array.locked(), 0, array.added())?;
        let member = slots[0].take().ok_or(EINVAL)?;
        let over = Arc::new(AtomicU32::new(0), GFP_KERNEL)?;
        let goes_on = over.clone();
        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            let _reader = rcu::read_lock();
            drop(member);
            // As who lets go does something with the array after that. Longer than between two looks at the count.
            for _ in 0..20 {
                udelay(Delta::from_millis(1));
            }
            goes_on.store(1, Ordering::Release);
        })?;
        drop(slots);
        assert_eq!(over.load(Ordering::Acquire), 1);
        Ok(())
    }

    #[test]
    fn bad_blocks_are_counted_from_the_data() -> Result {
        let array = fake::Array::new()?;
        let rdev = array.rdev();
        assert_eq!(rdev.bad_blocks(0, 64), BadBlocks::None);
        assert!(!rdev.has_unrecorded_blocks());
        assert!(rdev.set_bad_blocks(16, 8));
        assert!(array.mddev().test_sb(SbFlag::Pending) && rdev.has_unrecorded_blocks());
        let table = [
            (0, 16, None),
            (0, 17, Some(16..17)),
            (0, 1 << 35, Some(16..24)),
            (20, 100, Some(20..24)),
            (24, 1 << 35, None),
        ];
        for (sector, end, expected) in table {
            assert_eq!(rdev.next_bad_blocks(sector, end), expected);
        }
        let table = [
            (0, 16, BadBlocks::None),
            (24, 8, BadBlocks::None),
            (0, 17, BadBlocks::Unrecorded),
            (23, 1, BadBlocks::Unrecorded),
            (1016, 8, BadBlocks::None),
        ];
        for (sector, sectors, expected) in table {
            assert_eq!(rdev.bad_blocks(sector, sectors), expected);
        }
        // SAFETY: The device is valid.
        unsafe { bindings::ack_all_badblocks(&raw mut (*rdev.as_ptr()).badblocks) };
        // What changed since it was written last is not acknowledged: as md core does, say that it was written.
        // SAFETY: As above.
        unsafe { (*rdev.as_ptr()).badblocks.changed = 0 };
        // SAFETY: As above.
        unsafe { bindings::ack_all_badblocks(&raw mut (*rdev.as_ptr()).badblocks) };
        assert_eq!(rdev.bad_blocks(16, 8), BadBlocks::Recorded);
        assert!(!rdev.has_unrecorded_blocks());
        assert!(rdev.set_bad_blocks(1 << 40, 8) && rdev.has_unrecorded_blocks());
        let far = Some(1 << 40..(1 << 40) + 8);
        assert_eq!(rdev.next_bad_blocks(24, 1 << 41), far);
        rdev.clear_bad_blocks(1 << 40, 8);
        assert!(!rdev.has_unrecorded_blocks());
        rdev.clear_bad_blocks(16, 8);
        assert_eq!(rdev.bad_blocks(0, 64), BadBlocks::None);
        Ok(())
    }

    #[test]
    fn read_errors_are_counted_in_a_row() -> Result {
        let array = fake::Array::new()?;
        let rdev = array.rdev();
        assert_eq!((rdev.add_read_error(), rdev.add_read_error()), (1, 2));
        rdev.reset_read_errors();
        assert_eq!(rdev.add_read_error(), 1);
        Ok(())
    }

    /// Counts how often it was called.
    #[pin_data]
    struct Calls {
        count: AtomicU32,
        #[pin]
        queue: WaitQueue,
    }

    impl Work for Calls {
        fn run(&self) {
            self.count.fetch_add(1, Ordering::Release);
            self.queue.wake_all();
        }
    }

    #[test]
    fn thread_works_when_it_is_woken_until_it_is_stopped() -> Result {
        let array = fake::Array::new()?;
        let handles = Handles::new(&setup())?;
        let calls = Arc::pin_init(
            pin_init!(Calls {
                count: AtomicU32::new(0),
                queue <- new_wait_queue!("kunit"),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: The array lives until `wait_gone` has returned.
        let handle = unsafe { Handles::handle(&handles, array.mddev()) };
        let thread = Thread::start(handle, c"kunit", calls.clone())?;
        for count in 1..=3 {
            thread.wake();
            calls
                .queue
                .wait(|| calls.count.load(Ordering::Acquire) == count);
        }
        // With the mutex of another array it is left alone.
        let other = fake::Array::new()?;
        // SAFETY: The array is valid; the mutex is taken here and given up below.
        let err = unsafe { bindings::raid456_mddev_lock(other.mddev().as_ptr()) };
        assert_eq!(err, 0);
        // SAFETY: The mutex is held.
        let locked = unsafe { Locked::new(other.mddev()) };
        thread.set_period(&locked, Some(1));
        thread.stop(&locked);
        fsleep(Delta::from_millis(30));
        // SAFETY: The mutex is held.
        unsafe { bindings::mutex_unlock(&raw mut (*other.mddev().as_ptr()).reconfig_mutex) };
        // SAFETY: The array is valid; the mutex is taken here and given up below.
        let err = unsafe { bindings::raid456_mddev_lock(array.mddev().as_ptr()) };
        assert_eq!(err, 0);
        // SAFETY: The mutex is held.
        let locked = unsafe { Locked::new(array.mddev()) };
        thread.stop(&locked);
        thread.wake();
        thread.stop(&locked);
        // SAFETY: The mutex is held.
        unsafe { bindings::mutex_unlock(&raw mut (*array.mddev().as_ptr()).reconfig_mutex) };
        assert_eq!(calls.count.load(Ordering::Acquire), 3);
        drop(thread);
        handles.wait_gone();
        // The thread's work is not leaked.
        assert!(Arc::into_unique_or_drop(calls).is_some());
        Ok(())
    }

    #[test]
    fn array_stays_until_the_last_handle_is_gone() -> Result {
        let array = fake::Array::new()?;
        let handles = Handles::new(&setup())?;
        let gone = Arc::new(AtomicU32::new(0), GFP_KERNEL)?;
        // SAFETY: The array lives until `wait_gone` has returned.
        let handle = unsafe { Handles::handle(&handles, array.mddev()) };
        let other = handle.clone();
        drop(handle);
        let going = gone.clone();
        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            fsleep(Delta::from_millis(30));
            going.store(1, Ordering::Release);
            drop(other);
        })?;
        handles.wait_gone();
        assert_eq!(gone.load(Ordering::Acquire), 1);
        Ok(())
    }
}
