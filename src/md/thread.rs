// SPDX-License-Identifier: GPL-2.0

//! Threads as md core runs them: each sleeps until it is woken, calls its work once, and sleeps again.

use super::mddev::{Handle, Locked};
use crate::bindings;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

/// What a thread does each time when it was woken.
pub(crate) trait Work: Send + Sync + 'static {
    /// Does what there is to do. Process context, a kernel thread of high priority; may sleep.
    fn run(&self);
}

/// A registered thread, which belongs to an array.
///
/// End it with [`Self::stop`]. A thread that is dropped instead goes on until the module is in the way of nobody: its
/// work is leaked.
///
/// # Invariants
///
/// `thread` is registered with md core, and its private data is `work`.
pub(crate) struct Thread<W: Work> {
    thread: NonNull<bindings::md_thread>,
    /// For the time after the thread: it uses the work without counting.
    work: core::mem::ManuallyDrop<Arc<W>>,
    mddev: Handle,
}

// SAFETY: A registered thread may be woken and stopped by any other.
unsafe impl<W: Work> Send for Thread<W> {}

// SAFETY: As above.
unsafe impl<W: Work> Sync for Thread<W> {}

impl<W: Work> Thread<W> {
    /// Registers a thread that is called `mdX_name`. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: there is no memory, or no thread could be made.
    pub(crate) fn start(mddev: Handle, name: &CStr, work: Arc<W>) -> Result<Self> {
        let private = Arc::as_ptr(&work).cast_mut().cast();
        // SAFETY: The work is kept until the thread has ended: by `stop`, or for ever.
        let thread = unsafe { register(mddev.as_ptr(), name, run::<W>, private)? };
        // INVARIANT: just registered so.
        Ok(Self {
            thread,
            work: core::mem::ManuallyDrop::new(work),
            mddev,
        })
    }

    /// Makes the thread do its work, soon, and at least once after this. Any context.
    pub(crate) fn wake(&self) {
        // SAFETY: By the invariant the thread is registered.
        unsafe { bindings::raid456_wake_thread_of(self.thread.as_ptr()) }
    }

    /// Ends the thread, after its work if it is at it, and waits for that. Not for the thread itself. Sleeps.
    pub(crate) fn stop(self, _locked: &Locked<'_>) {
        let mut thread = self.thread.as_ptr();
        // SAFETY: By the invariant the thread is registered, and the mutex is held, as the function requires.
        unsafe { bindings::md_unregister_thread(self.mddev.as_ptr(), &mut thread) };
        drop(core::mem::ManuallyDrop::into_inner(self.work));
    }
}

/// The work of a thread whose private data is a `W`.
///
/// # Safety
///
/// Called by md core for a thread that [`register`] made with this function.
unsafe extern "C" fn run<W: Work>(thread: *mut bindings::md_thread) {
    // SAFETY: By the requirement of this function.
    let Some(work) = (unsafe { private(thread) }) else {
        return;
    };
    // SAFETY: The private data is a `W`, which is kept until the thread has ended.
    let work = unsafe { work.cast::<W>().as_ref() };
    work.run();
}

/// Registers a thread that calls `run`, and gives it private data. Sleeps.
///
/// # Safety
///
/// `mddev` is valid. What `run` makes of `private` is valid until the thread has ended.
pub(super) unsafe fn register(
    mddev: *mut bindings::mddev,
    name: &CStr,
    run: unsafe extern "C" fn(*mut bindings::md_thread),
    private: *mut kernel::ffi::c_void,
) -> Result<NonNull<bindings::md_thread>> {
    // SAFETY: The array is valid and the name is needed only during the call.
    let thread = unsafe { bindings::md_register_thread(Some(run), mddev, name.as_char_ptr()) };
    let thread = NonNull::new(thread).ok_or(ENOMEM)?;
    // SAFETY: The thread was just registered.
    let field = unsafe { private_field(thread.as_ptr()) };
    field.store(private, Ordering::Release);
    Ok(thread)
}

/// The private data of a thread. The thread may run, if it gets a signal, before it has any.
///
/// # Safety
///
/// `thread` is registered.
pub(super) unsafe fn private(
    thread: *mut bindings::md_thread,
) -> Option<NonNull<kernel::ffi::c_void>> {
    // SAFETY: By the requirement of this function.
    NonNull::new(unsafe { private_field(thread) }.load(Ordering::Acquire))
}

/// # Safety
///
/// `thread` is registered, and stays so for `'a`.
unsafe fn private_field<'a>(
    thread: *mut bindings::md_thread,
) -> &'a AtomicPtr<kernel::ffi::c_void> {
    // SAFETY: The field is a pointer of a valid structure, and only this module uses it.
    unsafe { AtomicPtr::from_ptr(&raw mut (*thread).private) }
}
