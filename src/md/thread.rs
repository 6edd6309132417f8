// SPDX-License-Identifier: GPL-2.0

//! Threads as md core runs them: each sleeps until it is woken, calls its work once, and sleeps again.

use super::mddev::{Handle, Locked};
use crate::bindings;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{fence, AtomicPtr, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

/// What a thread does each time when it was woken.
pub(crate) trait Work: Send + Sync + 'static {
    /// Does what there is to do: what the thread was woken for is seen. Process context, a kernel thread of high priority; may
    /// sleep.
    fn run(&self);
}

/// A registered thread, which belongs to an array.
///
/// End it with [`Self::stop`]. If a thread is dropped instead it goes on for ever, and so its work and its array are leaked:
/// the array cannot be stopped any more.
///
/// # Invariants
///
/// `thread` is null, or a thread that is registered with md core and has `work` as its private data. It is reached within
/// RCU read sections, and freed a grace period after it was made null.
pub(crate) struct Thread<W: Work> {
    thread: AtomicPtr<bindings::md_thread>,
    /// The thread uses the work without counting.
    work: ManuallyDrop<Arc<W>>,
    mddev: ManuallyDrop<Handle>,
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
        // SAFETY: The work is kept until the thread has ended: see `drop`.
        let thread = unsafe { register(mddev.as_ptr(), name, run::<W>, private)? };
        // INVARIANT: just registered so.
        Ok(Self {
            thread: AtomicPtr::new(thread.as_ptr()),
            work: ManuallyDrop::new(work),
            mddev: ManuallyDrop::new(mddev),
        })
    }

    /// Makes the thread do its work, soon, and at least once after this; nothing if it was stopped. Any context.
    pub(crate) fn wake(&self) {
        // SAFETY: By the invariant what the function finds there, within an RCU read section, is null or valid.
        unsafe { bindings::raid456_wake_thread_at(self.thread.as_ptr()) }
    }

    /// Makes the thread do its work each so often from now on, also if nobody wakes it; `None` for no more than that. Nothing if
    /// it was stopped, or with another array's lock. Sleeps.
    pub(crate) fn set_period(&self, locked: &Locked<'_>, millis: Option<u32>) {
        let thread = self.thread.load(Ordering::Acquire);
        if thread.is_null() || !locked.is_of(&self.mddev) {
            return;
        }
        let never = kernel::ffi::c_ulong::MAX >> 1;
        let period = millis.map_or(never, kernel::time::msecs_to_jiffies);
        // SAFETY: By the invariant it is registered, and it is not stopped meanwhile: that takes the lock.
        let field = unsafe { &raw mut (*thread).timeout };
        // SAFETY: The field is a word, which the thread only reads.
        unsafe { field.write_volatile(period) };
        self.wake();
    }

    /// Ends the thread, after its work if it is at it, and waits for that; nothing if it was stopped. Not for the thread
    /// itself, nor with another array's lock. Sleeps.
    pub(crate) fn stop(&self, locked: &Locked<'_>) {
        if locked.is_of(&self.mddev) {
            // INVARIANT: the function makes the pointer null, and frees the thread after a grace period.
            // SAFETY: By the invariant the thread is registered or there is none; the array's mutex is held, so nobody
            // else stops it.
            unsafe { bindings::md_unregister_thread(self.mddev.as_ptr(), self.thread.as_ptr()) };
        }
    }
}

impl<W: Work> Drop for Thread<W> {
    fn drop(&mut self) {
        if self.thread.load(Ordering::Acquire).is_null() {
            // SAFETY: It is not used after this; the thread, which used it, has ended.
            unsafe { ManuallyDrop::drop(&mut self.work) };
            // SAFETY: It is not used after this.
            unsafe { ManuallyDrop::drop(&mut self.mddev) };
        } else {
            pr_err!("a thread of {} was not stopped\n", self.mddev.name());
        }
    }
}

/// The work of a thread whose private data is a `W`.
///
/// # Safety
///
/// Called by md core for a thread that [`register`] made with this function.
unsafe extern "C" fn run<W: Work>(thread: *mut bindings::md_thread) {
    has_woken();
    // SAFETY: By the requirement of this function.
    let Some(work) = (unsafe { private(thread) }) else {
        return;
    };
    // SAFETY: The private data is a `W`, which is kept until the thread has ended.
    let work = unsafe { work.cast::<W>().as_ref() };
    work.run();
}

/// For a thread that begins its work. It has just taken back its wake-up, which md core does without any order; whoever does
/// something after it has looked wakes it again, and passes a full barrier before, as this is one.
pub(super) fn has_woken() {
    fence(Ordering::SeqCst);
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
    // SAFETY: By the requirement of this function the structure is valid.
    let field = unsafe { &raw mut (*thread).private };
    // SAFETY: The field is an aligned pointer, and only this module uses it.
    unsafe { AtomicPtr::from_ptr(field) }
}
