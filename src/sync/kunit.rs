// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel of what waits and counts.

#[kernel::macros::kunit_tests(raid456_sync)]
mod tests {
    use crate::mem::kunit::setup;
    use crate::sync::gate::Gate;
    use crate::sync::mailbox::{Events, Mailbox};
    use crate::sync::waitqueue::WaitQueue;
    use crate::{new_irq_spinlock, new_wait_queue};
    use core::convert::Infallible;
    use core::sync::atomic::{AtomicU32, Ordering};
    use core::time::Duration;
    use kernel::prelude::*;
    use kernel::sync::Arc;
    use kernel::time::delay::fsleep;
    use kernel::time::Delta;
    use kernel::workqueue;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(10);

    fn gate(value: u32) -> Result<Arc<Gate<u32>>> {
        Arc::pin_init(Gate::new::<Infallible>(value, &setup()), GFP_KERNEL)
    }

    /// Calls `work` in another thread, some time later.
    fn later(work: impl FnOnce() + Send + 'static) -> Result {
        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            fsleep(Delta::from_millis(30));
            work();
        })?;
        Ok(())
    }

    #[test]
    fn closed_gate_lets_nobody_in() -> Result {
        let gate = gate(7)?;
        let entry = gate.enter().ok_or(EINVAL)?;
        assert_eq!(**entry, 7);
        drop(entry);
        gate.close();
        assert!(gate.enter().is_none());
        assert!(gate.wait_empty_timeout(LONG));
        gate.open();
        assert!(gate.enter().is_some());
        Ok(())
    }

    #[test]
    fn gate_is_empty_when_the_last_entry_has_left() -> Result {
        let gate = gate(0)?;
        let first = gate.enter().ok_or(EINVAL)?;
        let second = first.clone();
        gate.close();
        assert!(!gate.wait_empty_timeout(SHORT));
        drop(first);
        assert!(!gate.wait_empty_timeout(SHORT));
        // Who is inside may let others in although the gate is closed.
        let third = second.clone();
        drop(second);
        assert!(!gate.wait_empty_timeout(SHORT));
        drop(third);
        assert!(gate.wait_empty_timeout(LONG));
        gate.open();
        Ok(())
    }

    #[test]
    fn gate_opens_when_all_who_closed_it_have_opened_it() -> Result {
        let gate = gate(0)?;
        for _ in 0..3 {
            gate.close();
            gate.close();
            gate.open();
            assert!(gate.enter().is_none());
            gate.open();
            assert!(gate.enter().is_some());
        }
        // One time too many changes nothing.
        gate.open();
        assert!(gate.enter().is_some());
        Ok(())
    }

    #[test]
    fn open_wakes_those_who_wait_for_it() -> Result {
        let gate = gate(0)?;
        gate.close();
        let other = gate.clone();
        later(move || other.open())?;
        gate.wait_open();
        assert!(gate.enter().is_some());
        Ok(())
    }

    #[test]
    fn dropping_a_gate_waits_for_those_inside() -> Result {
        let left = Arc::new(AtomicU32::new(0), GFP_KERNEL)?;
        let gate = gate(0)?;
        let entry = gate.enter().ok_or(EINVAL)?;
        let leaving = left.clone();
        later(move || {
            leaving.store(1, Ordering::Release);
            drop(entry);
        })?;
        drop(gate);
        assert_eq!(left.load(Ordering::Acquire), 1);
        Ok(())
    }

    #[test]
    fn waiting_ends_when_the_condition_comes_true() -> Result {
        #[pin_data]
        struct Shared {
            value: AtomicU32,
            #[pin]
            queue: WaitQueue,
        }
        let shared = Arc::pin_init(
            pin_init!(Shared {
                value: AtomicU32::new(0),
                queue <- new_wait_queue!("kunit"),
            }),
            GFP_KERNEL,
        )?;
        let is = |value| move |shared: &Shared| shared.value.load(Ordering::Acquire) == value;
        shared.queue.wait(|| is(0)(&shared));
        let other = shared.clone();
        later(move || {
            other.value.store(1, Ordering::Release);
            other.queue.wake_all();
        })?;
        shared.queue.wait(|| is(1)(&shared));
        assert!(is(1)(&shared));
        Ok(())
    }

    #[test]
    fn spinlock_excludes_and_protects() -> Result {
        let lock = Arc::pin_init(new_irq_spinlock!(0u32, "kunit"), GFP_KERNEL)?;
        let mut guard = lock.lock();
        *guard += 1;
        // On a machine of one CPU there are no spinlocks to be held.
        let excludes = lock.try_lock().is_none() || !cfg!(CONFIG_SMP);
        drop(guard);
        assert!(excludes);
        assert!(lock.try_lock().is_some_and(|guard| *guard == 1));
        Ok(())
    }

    #[test]
    fn mailbox_has_one_owner() {
        let mailbox = Mailbox::new();
        assert!(mailbox.post(Events::PARTS));
        assert!(!mailbox.post(Events::IO));
        let events = mailbox.take();
        assert!(events == Events::PARTS | Events::IO);
        assert!(!mailbox.post(Events::BITMAP));
        assert!(!mailbox.finish());
        assert!(mailbox.take() == Events::BITMAP);
        assert!(mailbox.finish());
        assert!(mailbox.claim());
        assert!(!mailbox.claim());
        assert!(mailbox.finish());
    }
}
