// SPDX-License-Identifier: GPL-2.0

//! Plugs: what a submitter holds back until it has sent all that it has, or sleeps.
//!
//! Who releases a plug may sleep as well: each item sends bios to members, and one of these may have to wait. So while one is
//! released the others are still held, and the scheduler finds them.

mod kunit;

use crate::bindings;
use core::mem::size_of;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::Opaque;

/// Most items that one plug holds; with one more, those before go.
const CAPACITY: usize = 30;

/// What can be held back by a plug. The module stays loaded while there is a reference.
pub(crate) trait Plugged: Send + Sync + Sized + 'static {
    /// The submitter has released its plug, or has more than the plug holds; `more` others are released after this one. With
    /// `from_schedule` it is about to sleep: then nothing may be submitted from here.
    fn unplugged(this: Arc<Self>, more: usize, from_schedule: bool);
}

/// Items, in the order in which they came.
///
/// # Invariants
///
/// Those from `taken` to `count` are references.
struct Items<T> {
    taken: usize,
    count: usize,
    items: [*const T; CAPACITY],
}

impl<T: Plugged> Items<T> {
    /// No items.
    const NONE: Self = Self {
        taken: 0,
        count: 0,
        items: [core::ptr::null(); CAPACITY],
    };

    /// Those that have not been taken out.
    fn left(&self) -> &[*const T] {
        self.items.get(self.taken..self.count).unwrap_or_default()
    }

    /// Whether `item` is among them. A stream comes to the same item many times in a row.
    fn has(&self, item: &Arc<T>) -> bool {
        let mut newest_first = self.left().iter().rev();
        newest_first.any(|known| core::ptr::eq(*known, Arc::as_ptr(item)))
    }

    /// Adds an item. It comes back if there are as many as there can be.
    fn push(&mut self, item: Arc<T>) -> Result<(), Arc<T>> {
        if self.count == CAPACITY {
            // What is added while others are released gets the places of these.
            let taken = core::mem::take(&mut self.taken).min(CAPACITY);
            self.items.copy_within(taken.., 0);
            self.count = CAPACITY - taken;
        }
        let Some(place) = self.items.get_mut(self.count) else {
            return Err(item);
        };
        // INVARIANT: the reference is given up here.
        *place = Arc::into_raw(item);
        self.count += 1;
        Ok(())
    }

    /// Takes out the item that came first, and tells how many are left.
    fn take(&mut self) -> Option<(Arc<T>, usize)> {
        let (first, others) = self.left().split_first()?;
        let (first, more) = (*first, others.len());
        self.taken += 1;
        // SAFETY: By the invariant it is a reference, which is ours as it was just taken out.
        Some((unsafe { Arc::from_raw(first) }, more))
    }

    /// Tells the items that they are not held any more.
    fn release(&mut self, from_schedule: bool) {
        while let Some((item, more)) = self.take() {
            T::unplugged(item, more, from_schedule);
        }
    }
}

/// A plug's callback, and what it holds. As it is made, with zeros, there is nothing.
#[repr(C)]
struct Held<T> {
    cb: bindings::blk_plug_cb,
    /// Items that came and are not held.
    passed: usize,
    /// The first of them, a reference, or null: a callback that holds nothing must find the module there as well.
    kept: *const T,
    items: Items<T>,
}

/// Whether the submitter has a plug.
pub(crate) fn active() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid456_has_plug() }
}

/// Calls `submit` with a plug, so that bios for one device can be merged. Process context.
pub(crate) fn with<R>(submit: impl FnOnce() -> R) -> R {
    let plug = Opaque::<bindings::blk_plug>::uninit();
    // SAFETY: The plug stays where it is until it is finished.
    unsafe { bindings::blk_start_plug(plug.get()) };
    let result = submit();
    // SAFETY: The plug was started by this task.
    unsafe { bindings::blk_finish_plug(plug.get()) };
    result
}

/// What the submitter's plug holds, which stays until that is released; null if there is no plug, or no memory. Process context.
fn held<T: Plugged>() -> *mut Held<T> {
    let size = const { size_of::<Held<T>>() as i32 };
    // SAFETY: The size is that of a structure that begins with a callback. One that was found has this function, so it
    // was made here.
    let cb = unsafe { bindings::blk_check_plugged(Some(unplug::<T>), core::ptr::null_mut(), size) };
    cb.cast()
}

/// Counts an item that is not held. Returns how many were counted before it, since the submitter's plug was started: 0 if there is
/// none, or no memory. The first is not dropped before the plug is released. Process context.
pub(crate) fn pass<T: Plugged>(item: &Arc<T>) -> usize {
    // SAFETY: The structure is valid, was cleared when it was made, and only this task uses it.
    let Some(held) = (unsafe { held::<T>().as_mut() }) else {
        return 0;
    };
    if held.kept.is_null() {
        held.kept = Arc::into_raw(item.clone());
    }
    let before = held.passed;
    held.passed = before.saturating_add(1);
    before
}

/// Has the submitter's plug hold `item` of an array; once is enough, however often it is said. Process context.
///
/// # Errors
///
/// The item comes back if there is no plug, or no memory.
pub(crate) fn hold<T: Plugged>(item: Arc<T>) -> Result<(), Arc<T>> {
    // SAFETY: The structure is valid, was cleared when it was made, and only this task uses it.
    let Some(held) = (unsafe { held::<T>().as_mut() }) else {
        return Err(item);
    };
    if held.items.has(&item) {
        return Ok(());
    }
    let Err(item) = held.items.push(item) else {
        return Ok(());
    };
    let mut before = core::mem::replace(&mut held.items, Items::NONE);
    before.release(false);
    // What was released may have used the plug too.
    hold(item)
}

/// # Safety
///
/// Called by the block layer for a callback that was made here for `T`, which is ours: to free it, or to have it called again.
unsafe extern "C" fn unplug<T: Plugged>(cb: *mut bindings::blk_plug_cb, from_schedule: bool) {
    let held = cb.cast::<Held<T>>();
    // SAFETY: By the requirement of this function; it is on no list, so nobody else uses it.
    let several = unsafe { &(*held).items }.left().len() > 1;
    let again = several && !from_schedule && {
        // SAFETY: As above, and the block layer is calling it.
        unsafe { bindings::raid456_plug_again(cb) }
    };
    if again {
        // SAFETY: The plug has it again, but is this task's, which has not slept since.
        let items = unsafe { &mut (*held).items };
        if let Some((item, more)) = items.take() {
            // If this sleeps, the scheduler finds the others, and the callback is gone. If not, the block layer comes again. What
            // this submits may be held beside them.
            T::unplugged(item, more, false);
        }
        return;
    }
    // SAFETY: As above; what is read is used in its place, as the callback goes.
    let held = unsafe { held.read() };
    let (mut items, kept) = (held.items, held.kept);
    // SAFETY: The block layer allocated it with kmalloc, and nobody uses it any more.
    unsafe { bindings::kfree(cb.cast()) };
    if !kept.is_null() {
        // Before anything that may sleep: it may be another array's, which may be about to stop.
        // SAFETY: `pass` put it there, and it is taken out once.
        drop(unsafe { Arc::from_raw(kept) });
    }
    items.release(from_schedule);
}
