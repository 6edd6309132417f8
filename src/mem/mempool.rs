// SPDX-License-Identifier: GPL-2.0

//! Pools of small objects with a reserve, for I/O paths.
//!
//! While there is free memory the pool is not touched: an object that comes from it counts itself in and out.

use super::{Ask, MayBlock, NoWait, Setup};
use crate::bindings;
use crate::sync::gate::{Entry, Gate};
use crate::sync::stack::{Node, Stacked};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use kernel::prelude::*;

/// The kernel's pool.
///
/// # Invariants
///
/// The pointer is a pool that this value owns.
struct Raw(NonNull<bindings::mempool_t>);

// SAFETY: A pool has its own lock, and may be used and destroyed by any task.
unsafe impl Send for Raw {}

// SAFETY: As above.
unsafe impl Sync for Raw {}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: The pool is ours, and every object is back: each holds an entry of the gate before this value.
        unsafe { bindings::mempool_destroy(self.0.as_ptr()) }
    }
}

/// An object of a pool, as it lies in memory.
struct Slot<T> {
    node: Node,
    /// Where it goes back to; it is freed if that is nowhere.
    pool: Option<Entry<Raw>>,
    value: T,
}

/// A pool of objects of type `T`, of which some are reserved.
///
/// Each array has its own: if two arrays, one on the other, shared a pool, the lower could starve the upper. Dropping the
/// pool waits until every object of the reserve is back, so it must be dropped where one may sleep.
pub(crate) struct Mempool<T> {
    gate: Pin<KBox<Gate<Raw>>>,
    /// Free memory is not looked for.
    only_reserve: bool,
    _objects: PhantomData<fn(T) -> T>,
}

impl<T> Mempool<T> {
    /// Makes a pool with `reserve` objects set aside. May sleep.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(crate) fn new(reserve: u16, setup: &Setup) -> Result<Self> {
        let size = core::mem::size_of::<Slot<T>>();
        // SAFETY: The function has no requirements but a context that may sleep.
        let pool = unsafe { bindings::raid456_mempool_create(i32::from(reserve), size) };
        // INVARIANT: the pool is new, and ours.
        let raw = Raw(NonNull::new(pool).ok_or(ENOMEM)?);
        Ok(Self {
            gate: KBox::pin_init(
                Gate::new::<core::convert::Infallible>(raw, setup),
                setup.flags(),
            )?,
            only_reserve: super::least(),
            _objects: PhantomData,
        })
    }

    /// Takes an object and puts `value` into it; gives `value` back if there is none. Does not block.
    pub(crate) fn take(&self, value: T) -> Result<Pooled<T>, T> {
        // SAFETY: The function asks for nothing but a valid pool.
        self.free_or(value, |pool| unsafe {
            bindings::raid456_mempool_take(pool)
        })
    }

    /// As [`Self::take`], but there always is one, sooner or later: waits for another to come back if it must. So the caller
    /// must not hold the last one itself.
    pub(crate) fn wait_take(&self, value: T, _may_block: &MayBlock) -> Result<Pooled<T>, T> {
        // SAFETY: As above, and for a context that may sleep.
        self.free_or(value, |pool| unsafe {
            bindings::raid456_mempool_wait_take(pool)
        })
    }

    /// Takes an object from free memory, or with `reserved` from the pool, which it gets and need not look at.
    fn free_or(
        &self,
        value: T,
        reserved: impl FnOnce(*mut bindings::mempool_t) -> *mut kernel::ffi::c_void,
    ) -> Result<Pooled<T>, T> {
        // Kmalloc aligns to this much at least.
        const { assert!(core::mem::align_of::<Slot<T>>() <= 8) };

        let free = if self.only_reserve {
            core::ptr::null_mut()
        } else {
            NoWait.room(core::mem::size_of::<Slot<T>>())
        };
        let (memory, pool) = if free.is_null() {
            let Some(pool) = self.gate.enter() else {
                return Err(value);
            };
            (reserved(pool.0.as_ptr()), Some(pool))
        } else {
            (free, None)
        };
        let Some(slot) = NonNull::new(memory.cast::<Slot<T>>()) else {
            return Err(value);
        };
        let content = Slot {
            node: Node::new(),
            pool,
            value,
        };
        // SAFETY: The memory is ours, as large as a slot, as the pool's objects are, and aligned.
        unsafe { slot.write(content) };
        // INVARIANT: the slot is initialised, from the pool that it names or from free memory, and ours.
        Ok(Pooled(slot))
    }
}

/// An owned object of a [`Mempool`]; goes back when it is dropped, in any context. Can be on a stack.
///
/// # Invariants
///
/// The slot is initialised, comes from the pool whose entry it holds, or else is the kernel's free memory, and is ours.
pub(crate) struct Pooled<T>(NonNull<Slot<T>>);

// SAFETY: The object is owned, and going back to the pool may be done by any task.
unsafe impl<T: Send> Send for Pooled<T> {}

// SAFETY: A shared reference gives shared access to the object, and nothing else.
unsafe impl<T: Sync> Sync for Pooled<T> {}

impl<T> Deref for Pooled<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: By the invariant the slot is valid, and borrowed as we are.
        unsafe { &(*self.0.as_ptr()).value }
    }
}

impl<T> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the invariant the slot is valid and ours; it is borrowed as we are.
        unsafe { &mut (*self.0.as_ptr()).value }
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant the slot is initialised and ours, and it is not used any more.
        let Slot { pool, value, .. } = unsafe { self.0.read() };
        drop(value);
        let Some(pool) = pool else {
            // SAFETY: By the invariant the memory is the kernel's; its content was moved out.
            return unsafe { bindings::kfree(self.0.as_ptr().cast()) };
        };
        // SAFETY: The memory came from this pool, which is valid while `pool` lives.
        unsafe { bindings::mempool_free(self.0.as_ptr().cast(), pool.0.as_ptr()) }
    }
}

// SAFETY: The node lies in the slot, which stays where it is and is ours until it is dropped; as there is one `Pooled` for
// each slot, and `into_node` takes it, nobody has it otherwise meanwhile.
unsafe impl<T> Stacked for Pooled<T> {
    fn into_node(self) -> NonNull<Node> {
        let slot = ManuallyDrop::new(self).0.as_ptr();
        // SAFETY: By the invariant the slot is valid.
        let node = unsafe { &raw mut (*slot).node };
        // SAFETY: A field of something valid is not null.
        unsafe { NonNull::new_unchecked(node) }
    }

    unsafe fn from_node(node: NonNull<Node>) -> Self {
        // SAFETY: The caller promises that the node comes from `into_node`, so it is the field of a slot.
        let slot = unsafe { node.as_ptr().byte_sub(core::mem::offset_of!(Slot<T>, node)) };
        // INVARIANT: `into_node` gave the slot up, so it is ours again.
        // SAFETY: A slot's address is not null.
        Self(unsafe { NonNull::new_unchecked(slot.cast()) })
    }
}
