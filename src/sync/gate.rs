// SPDX-License-Identifier: GPL-2.0

//! A value whose users are counted, one count per CPU, and that can be closed to new users.
//!
//! Entering and leaving touch no memory that CPUs share, as long as the gate is open. That is what an I/O path needs to
//! be counted by, and what quiesce needs to wait on.

use super::rcu;
use super::tally::{Slot, Tally};
use super::waitqueue::WaitQueue;
use crate::block::context::{cpus, current_cpu};
use crate::mem::{Ask, Setup};
use crate::new_wait_queue;
use core::ops::Deref;
use core::ptr::NonNull;
use core::time::Duration;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;

/// The count of a [`Gate`].
///
/// # Invariants
///
/// `tally` is closed if and only if `closers` is not 0.
#[pin_data(PinnedDrop)]
struct Count {
    tally: Tally<KVec<Slot>>,
    /// How many have closed the gate and not opened it again. Held while it is closed or opened.
    #[pin]
    closers: Mutex<u32>,
    /// For those who wait until all have left.
    #[pin]
    left: WaitQueue,
    /// For those who wait until the gate is open.
    #[pin]
    opened: WaitQueue,
}

impl Count {
    fn new(setup: &Setup) -> impl PinInit<Self, Error> + '_ {
        let slots = move || -> Result<KVec<Slot>> {
            let cpus = cpus().max(1);
            let mut slots = KVec::with_capacity(cpus as usize, setup.flags())?;
            for _ in 0..cpus {
                slots.push(Slot::new(), setup.flags())?;
            }
            Ok(slots)
        };
        try_pin_init!(Self {
            tally: Tally::new(slots()?),
            closers <- new_mutex!(0, "Gate::closers"),
            left <- new_wait_queue!("Gate::left"),
            opened <- new_wait_queue!("Gate::opened"),
        }? Error)
    }

    fn enter(&self) -> bool {
        let entered = self.tally.enter(current_cpu() as usize);
        if entered.is_err() {
            self.left.wake_all();
        }
        entered.is_ok()
    }

    fn leave(&self) {
        if self.tally.leave(current_cpu() as usize) {
            self.left.wake_all();
        }
    }

    fn close(&self) {
        let mut closers = self.closers.lock();
        // INVARIANT: closed, and not 0.
        self.tally.close();
        *closers = closers.saturating_add(1);
    }

    fn wait_empty(&self) {
        self.left.wait(|| self.tally.is_empty());
    }

    fn open(&self) {
        let mut closers = self.closers.lock();
        *closers = closers.saturating_sub(1);
        if *closers == 0 {
            // INVARIANT: open, and 0.
            self.tally.open();
            self.opened.wake_all();
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Count {
    fn drop(self: Pin<&mut Self>) {
        self.close();
        self.wait_empty();
        // The last one who left may be about to look whether somebody waits.
        rcu::synchronize();
    }
}

/// A value with a gate before it: [`Self::enter`] counts a user, until the gate is closed.
///
/// Dropping it closes the gate and waits until all have left, so it must be dropped where one may sleep.
#[pin_data]
pub(crate) struct Gate<T> {
    // First, because fields are dropped in this order: nobody is inside any more when `value` goes.
    #[pin]
    count: Count,
    #[pin]
    value: T,
}

// SAFETY: The count may be used and dropped by any task.
unsafe impl<T: Send> Send for Gate<T> {}

// SAFETY: The count may be used by all tasks at once; entries give shared access to the value, and send it nowhere but
// to the gate's owner, who drops it.
unsafe impl<T: Send + Sync> Sync for Gate<T> {}

impl<T> Gate<T> {
    /// An initialiser of an open gate before `value`. May sleep.
    pub(crate) fn new<'a, E>(
        value: impl PinInit<T, E> + 'a,
        setup: &'a Setup,
    ) -> impl PinInit<Self, Error> + 'a
    where
        T: 'a,
        E: 'a,
        Error: From<E>,
    {
        try_pin_init!(Self {
            count <- Count::new(setup),
            value <- value,
        }? Error)
    }

    /// Enters, unless the gate is closed. Any context.
    pub(crate) fn enter(&self) -> Option<Entry<T>> {
        // INVARIANT: this entry is counted.
        self.count.enter().then(|| Entry(NonNull::from(self)))
    }

    /// Closes the gate: nobody enters any more. It stays closed until everybody who closed it has opened it again.
    ///
    /// May sleep, shortly; does not wait for those inside.
    pub(crate) fn close(&self) {
        self.count.close();
    }

    /// Waits, for at most `timeout`, until all have left a closed gate. Returns whether they have. Sleeps.
    pub(crate) fn wait_empty_timeout(&self, timeout: Duration) -> bool {
        let count = &self.count;
        count.left.wait_timeout(|| count.tally.is_empty(), timeout)
    }

    /// Undoes one [`Self::close`]. May sleep, shortly.
    pub(crate) fn open(&self) {
        self.count.open();
    }

    /// Waits until the gate is open. Sleeps; by the time the caller enters it may be closed again.
    pub(crate) fn wait_open(&self) {
        self.count.opened.wait(|| !self.count.tally.is_closed());
    }
}

impl<T> Deref for Gate<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// The proof that somebody is inside a [`Gate`], which is not dropped meanwhile. Dropping it leaves; any context.
///
/// # Invariants
///
/// The gate's count counts this entry, so the gate is valid.
pub(crate) struct Entry<T>(NonNull<Gate<T>>);

// SAFETY: An entry gives shared access to the gate, and leaving may be done by any task.
unsafe impl<T: Send + Sync> Send for Entry<T> {}

// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Entry<T> {}

impl<T> Entry<T> {
    /// Gives the entry as a pointer to C; [`Self::from_raw`] takes it back.
    pub(crate) fn into_raw(self) -> *mut kernel::ffi::c_void {
        core::mem::ManuallyDrop::new(self).0.as_ptr().cast()
    }

    /// Takes an entry back.
    ///
    /// # Safety
    ///
    /// `raw` comes from [`Self::into_raw`] of this type, and is taken back once.
    pub(crate) unsafe fn from_raw(raw: *mut kernel::ffi::c_void) -> Self {
        // INVARIANT: the count still counts the entry, which was not dropped.
        // SAFETY: `into_raw` gives no null pointers.
        Self(unsafe { NonNull::new_unchecked(raw.cast()) })
    }
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        self.count.tally.add(current_cpu() as usize);
        // INVARIANT: the new entry was just counted.
        Self(self.0)
    }
}

impl<T> Deref for Entry<T> {
    type Target = Gate<T>;
    fn deref(&self) -> &Gate<T> {
        // SAFETY: By the invariant the gate is valid.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        // Who drops the gate waits for the end of this after all have left.
        let _reader = rcu::read_lock();
        // SAFETY: The gate is valid: until we have left because it counts this entry, and then until we read no more.
        let count = unsafe { &(*self.0.as_ptr()).count };
        count.leave();
    }
}
