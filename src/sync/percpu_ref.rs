// SPDX-License-Identifier: GPL-2.0

//! A value whose users are counted, one count per CPU, and that can be closed to new users.
//!
//! Entering and leaving touch no memory that CPUs share, as long as the gate is open. That is what an I/O path needs to
//! be counted by, and what quiesce needs to wait on.

use super::waitqueue::WaitQueue;
use crate::bindings;
use crate::new_wait_queue;
use core::ops::Deref;
use core::ptr::NonNull;
use core::time::Duration;
use kernel::container_of;
use kernel::error::to_result;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Mutex;
use kernel::types::Opaque;

/// The count of a [`Gate`].
///
/// # Invariants
///
/// - `count` is alive if and only if `closers` is 0.
/// - `empty` is complete if and only if `count` was killed and has reached zero since.
#[pin_data(PinnedDrop)]
struct Count {
    #[pin]
    count: Opaque<bindings::percpu_ref>,
    #[pin]
    empty: Opaque<bindings::completion>,
    /// How many have closed the gate and not opened it again. Held while the count is killed or revived.
    #[pin]
    closers: Mutex<u32>,
    /// For those who wait until the gate is open.
    #[pin]
    opened: WaitQueue,
}

impl Count {
    fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            empty <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes.
                unsafe { bindings::init_completion(slot) }
            }),
            closers <- new_mutex!(0, "Gate::closers"),
            opened <- new_wait_queue!("Gate::opened"),
            // Last, so that nothing can fail after it and `drop` is the only place that ends it.
            count <- Opaque::try_ffi_init(|slot: *mut bindings::percpu_ref| {
                let flags = bindings::PERCPU_REF_ALLOW_REINIT;
                let release = Some(Self::released as unsafe extern "C" fn(_));
                // SAFETY: `slot` is valid for writes and does not move.
                let err = unsafe {
                    bindings::percpu_ref_init(slot, release, flags, bindings::GFP_KERNEL)
                };
                to_result(err)
            }),
        }? Error)
    }

    /// Called when a killed count has reached zero, in any context.
    ///
    /// # Safety
    ///
    /// `count` is the field of a [`Count`].
    unsafe extern "C" fn released(count: *mut bindings::percpu_ref) {
        // SAFETY: By the requirement of this function.
        let this = unsafe { container_of!(Opaque::cast_from(count), Self, count) };
        // SAFETY: The count's owner waits for the completion before it frees the count.
        let empty = unsafe { &raw const (*this).empty };
        // SAFETY: The completion is initialised; its own lock keeps it until this call is done with it.
        unsafe { bindings::complete_all(Opaque::cast_into(empty)) }
    }

    fn close(&self) {
        let mut closers = self.closers.lock();
        if *closers == 0 {
            // INVARIANT: the count is dead while `closers` is not 0.
            // SAFETY: The count is initialised, and alive by the invariant.
            unsafe { bindings::raid456_ref_kill(self.count.get()) }
        }
        *closers = closers.saturating_add(1);
    }

    fn wait_empty(&self) {
        // SAFETY: The completion is initialised.
        unsafe { bindings::wait_for_completion(self.empty.get()) }
    }

    fn wait_empty_timeout(&self, timeout: Duration) -> bool {
        let msecs = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        // SAFETY: The function has no requirements.
        let jiffies = unsafe { bindings::__msecs_to_jiffies(msecs) };
        // SAFETY: The completion is initialised.
        unsafe { bindings::wait_for_completion_timeout(self.empty.get(), jiffies) != 0 }
    }

    fn is_closed(&self) -> bool {
        // SAFETY: The count is initialised.
        unsafe { bindings::raid456_ref_is_dying(self.count.get()) }
    }

    fn open(&self) {
        let mut closers = self.closers.lock();
        match *closers {
            0 => {}
            1 => {
                // Whoever closed it may not have waited; a count can be revived only from zero.
                self.wait_empty();
                // INVARIANT: the count is about to live again, so it is not complete.
                // SAFETY: The completion is initialised; nobody completes it, for the count is dead and at zero.
                unsafe { bindings::raid456_reinit_completion(self.empty.get()) }
                // INVARIANT: the count lives when `closers` is 0.
                // SAFETY: The count is initialised, dead, at zero, and may be initialised again.
                unsafe { bindings::percpu_ref_reinit(self.count.get()) }
                *closers = 0;
                self.opened.wake_all();
            }
            more => *closers = more.saturating_sub(1),
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Count {
    fn drop(self: Pin<&mut Self>) {
        self.close();
        self.wait_empty();
        // SAFETY: The count is initialised, dead and at zero, and its release function has been called.
        unsafe { bindings::percpu_ref_exit(self.count.get()) }
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
    pub(crate) fn new<E>(value: impl PinInit<T, E>) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        try_pin_init!(Self {
            count <- Count::new(),
            value <- value,
        }? Error)
    }

    /// Enters, unless the gate is closed. Any context.
    pub(crate) fn enter(&self) -> Option<Entry<T>> {
        // SAFETY: The count is initialised.
        let entered = unsafe { bindings::raid456_ref_tryget_live(self.count.count.get()) };
        // INVARIANT: this entry is counted.
        entered.then(|| Entry(NonNull::from(self)))
    }

    /// Closes the gate: nobody enters any more. It stays closed until everybody who closed it has opened it again.
    ///
    /// May sleep, shortly; does not wait for those inside.
    pub(crate) fn close(&self) {
        self.count.close();
    }

    /// Waits, for at most `timeout`, until all have left a closed gate. Returns whether they have. Sleeps.
    pub(crate) fn wait_empty_timeout(&self, timeout: Duration) -> bool {
        self.count.wait_empty_timeout(timeout)
    }

    /// Undoes one [`Self::close`]; the last one waits until all have left, if nobody has yet. May sleep.
    pub(crate) fn open(&self) {
        self.count.open();
    }

    /// Waits until the gate is open. Sleeps; by the time the caller enters it may be closed again.
    pub(crate) fn wait_open(&self) {
        self.count.opened.wait(|| !self.count.is_closed());
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
        // SAFETY: The count is initialised, and not zero because it counts this entry.
        unsafe { bindings::raid456_ref_get(self.count.count.get()) }
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
        // SAFETY: The count counts this entry, which is gone after this; the gate is not touched any more.
        unsafe { bindings::raid456_ref_put(self.count.count.get()) }
    }
}
