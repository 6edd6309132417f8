// SPDX-License-Identifier: GPL-2.0

//! Plugs: what a submitter holds back until it has sent all that it has, or sleeps.

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

/// A plug's callback, and what it holds.
#[repr(C)]
struct Held<T> {
    cb: bindings::blk_plug_cb,
    /// Items that came and are not held.
    passed: usize,
    /// The first of them, a reference, or null: a callback that holds nothing must find the module there as well.
    kept: *const T,
    count: usize,
    items: [*const T; CAPACITY],
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
    // A stream comes to the same item many times in a row.
    let newest_first = held.items.iter().take(held.count).rev();
    if newest_first
        .copied()
        .any(|known| core::ptr::eq(known, Arc::as_ptr(&item)))
    {
        return Ok(());
    }
    if held.count >= CAPACITY {
        let items = core::mem::replace(&mut held.items, [core::ptr::null(); CAPACITY]);
        held.count = 0;
        // SAFETY: `hold` put the items there, and they are taken out once.
        unsafe { release(&items, false) };
        // What was released may have used the plug too.
        return hold(item);
    }
    if let Some(place) = held.items.get_mut(held.count) {
        *place = Arc::into_raw(item);
        held.count += 1;
    }
    Ok(())
}

/// Tells the items that they are not held any more.
///
/// # Safety
///
/// Each is null or a reference, which is given up.
unsafe fn release<T: Plugged>(items: &[*const T], from_schedule: bool) {
    let count = items.iter().take_while(|item| !item.is_null()).count();
    for (item, more) in items.iter().zip((0..count).rev()) {
        // SAFETY: By the requirement of this function.
        T::unplugged(unsafe { Arc::from_raw(*item) }, more, from_schedule);
    }
}

/// # Safety
///
/// Called by the block layer for a callback that was made here for `T`, which is ours to free.
unsafe extern "C" fn unplug<T: Plugged>(cb: *mut bindings::blk_plug_cb, from_schedule: bool) {
    // SAFETY: By the requirement of this function.
    let Held { items, kept, .. } = unsafe { cb.cast::<Held<T>>().read() };
    // SAFETY: The block layer allocated it with kmalloc, and nobody uses it any more.
    unsafe { bindings::kfree(cb.cast()) };
    // SAFETY: `hold` put the items there, and they are taken out once.
    unsafe { release(&items, from_schedule) };
    if !kept.is_null() {
        // SAFETY: `pass` put it there, and it is taken out once.
        drop(unsafe { Arc::from_raw(kept) });
    }
}
