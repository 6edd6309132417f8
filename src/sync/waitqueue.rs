// SPDX-License-Identifier: GPL-2.0

//! Waiting for a condition that others make true.

use crate::bindings;
use core::time::Duration;
use kernel::prelude::*;
use kernel::sync::LockClassKey;
use kernel::types::Opaque;

/// A queue of tasks that wait for a condition.
///
/// Whoever makes the condition true wakes the queue afterwards; a waiter evaluates it after it is on the queue, so no
/// wake-up is lost. Made with [`new_wait_queue!`](crate::new_wait_queue).
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue has its own lock, and may be used by any task.
unsafe impl Send for WaitQueue {}

// SAFETY: As above.
unsafe impl Sync for WaitQueue {}

/// An initialiser of a [`WaitQueue`] with the name that lockdep shows.
#[macro_export]
macro_rules! new_wait_queue {
    ($name:literal $(,)?) => {
        $crate::sync::waitqueue::WaitQueue::new(
            ::kernel::optional_name!($name),
            ::kernel::static_lock_class!(),
        )
    };
}

impl WaitQueue {
    /// An initialiser of an empty queue; use [`new_wait_queue!`](crate::new_wait_queue).
    pub(crate) fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            head <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes; the name and the key live for ever.
                unsafe {
                    bindings::raid456_waitqueue_init(slot, name.as_char_ptr(), key.as_ptr())
                }
            }),
        })
    }

    /// Sleeps until `condition` is true; does not sleep if it is already. Not interruptible.
    ///
    /// `condition` must not sleep: it is evaluated by a task that is about to. Releases the task's plug when it sleeps.
    pub(crate) fn wait(&self, mut condition: impl FnMut() -> bool) {
        let (call, data) = trampoline(&mut condition);
        // SAFETY: The queue is initialised and borrowed until the call returns, as `condition` is, which `call` takes.
        unsafe { bindings::raid456_wait(self.head.get(), Some(call), data) }
    }

    /// As [`Self::wait`], but gives up after `timeout`. Returns whether the condition is true.
    pub(crate) fn wait_timeout(
        &self,
        mut condition: impl FnMut() -> bool,
        timeout: Duration,
    ) -> bool {
        let msecs = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let (call, data) = trampoline(&mut condition);
        // SAFETY: As for `wait`.
        unsafe { bindings::raid456_wait_timeout(self.head.get(), Some(call), data, msecs) }
    }

    /// Wakes every waiter. Any context; costs little when nobody waits. A full memory barrier comes first.
    pub(crate) fn wake_all(&self) {
        // SAFETY: The queue is initialised.
        unsafe { bindings::raid456_wake_all(self.head.get()) }
    }
}

/// A C function that calls `condition`, and the argument that it needs.
fn trampoline<F: FnMut() -> bool>(
    condition: &mut F,
) -> (
    unsafe extern "C" fn(*mut kernel::ffi::c_void) -> bool,
    *mut kernel::ffi::c_void,
) {
    /// # Safety
    ///
    /// `data` is the closure, which nobody else uses meanwhile.
    unsafe extern "C" fn call<F: FnMut() -> bool>(data: *mut kernel::ffi::c_void) -> bool {
        // SAFETY: By the requirement of this function.
        let condition = unsafe { &mut *data.cast::<F>() };
        condition()
    }
    (call::<F>, core::ptr::from_mut(condition).cast())
}
