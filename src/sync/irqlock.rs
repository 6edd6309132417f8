// SPDX-License-Identifier: GPL-2.0

//! Spinlocks that may be taken in any context: interrupts are off while one is held.
//!
//! The kernel crate has spinlocks, but none that turn interrupts off; its generic lock does the rest. A guard restores
//! the interrupt state that it found, so guards must be dropped in the reverse order of locking.

use crate::bindings;
use kernel::sync::lock::{Backend, Lock};

/// The backend of [`IrqSpinLock`].
pub(crate) struct IrqSave;

/// A spinlock that is held with interrupts off. Any context may take it; nobody may sleep while holding it.
///
/// Made with [`new_irq_spinlock!`](crate::new_irq_spinlock), which gives each place in the source a lockdep class.
pub(crate) type IrqSpinLock<T> = Lock<T, IrqSave>;

/// An initialiser of an [`IrqSpinLock`]: the value that it protects, and the name that lockdep shows.
#[macro_export]
macro_rules! new_irq_spinlock {
    ($inner:expr, $name:literal $(,)?) => {
        $crate::sync::irqlock::IrqSpinLock::new(
            $inner,
            ::kernel::optional_name!($name),
            ::kernel::static_lock_class!(),
        )
    };
}

// SAFETY: The kernel's spinlocks give exclusive access between lock and unlock; relocking is locking.
unsafe impl Backend for IrqSave {
    type State = bindings::spinlock_t;
    type GuardState = kernel::ffi::c_ulong;

    unsafe fn init(
        ptr: *mut Self::State,
        name: *const kernel::ffi::c_char,
        key: *mut bindings::lock_class_key,
    ) {
        // SAFETY: The caller promises that `ptr` is valid for writes and that `name` and `key` live for ever.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: The caller promises that the lock is initialised.
        unsafe { bindings::raid456_spin_lock(ptr) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        let mut flags = 0;
        // SAFETY: The caller promises that the lock is initialised; `flags` is ours.
        let taken = unsafe { bindings::raid456_spin_trylock(ptr, &mut flags) };
        taken.then_some(flags)
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, guard_state: &Self::GuardState) {
        // SAFETY: The caller promises that it owns the lock; the flags are those of its locking.
        unsafe { bindings::raid456_spin_unlock(ptr, *guard_state) }
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The caller promises that the lock is initialised.
        unsafe { bindings::spin_assert_is_held(ptr) }
    }
}
