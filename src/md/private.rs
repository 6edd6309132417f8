// SPDX-License-Identifier: GPL-2.0

//! What `mddev->private` points to.

use super::mddev::{Handles, Locked, Mddev};
use super::personality::Personality;
use crate::bindings;
use crate::sync::gate::Gate;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};

/// What is called through the private data where the personality's type is not known: see [`super::exports`].
pub(super) struct Ops {
    /// As [`Personality::set_cache_size`]; the pointer is the private data.
    pub(super) set_cache_size:
        unsafe fn(*mut bindings::raid456_private, &Locked<'_>, i32) -> Result,
    /// As [`Personality::set_journal_mode`].
    pub(super) set_journal_mode:
        unsafe fn(*mut bindings::raid456_private, &Locked<'_>, i32) -> Result,
}

/// The private data of an array that `P` runs.
///
/// # Invariants
///
/// The pointer is from `raid456_private_alloc`; its `array` is an `Arc<Gate<P>>` of which it owns a reference, its
/// `handles` likewise an `Arc<Handles>`, and its `ops` are [`Self::OPS`].
pub(super) struct Private<P>(
    NonNull<bindings::raid456_private>,
    PhantomData<Arc<Gate<P>>>,
);

impl<P: Personality> Private<P> {
    const OPS: &'static Ops = &Ops {
        set_cache_size: Self::set_cache_size,
        set_journal_mode: Self::set_journal_mode,
    };

    /// Makes private data. May sleep. Gives its arguments back if there is no memory.
    pub(super) fn new(
        array: Arc<Gate<P>>,
        handles: Arc<Handles>,
    ) -> Result<Self, (Arc<Gate<P>>, Arc<Handles>)> {
        // SAFETY: The function has no requirements.
        let Some(private) = NonNull::new(unsafe { bindings::raid456_private_alloc() }) else {
            return Err((array, handles));
        };
        // SAFETY: The structure was just allocated and nobody else knows it.
        let fields = unsafe { &mut *private.as_ptr() };
        // INVARIANT: the references are given to the structure.
        fields.array = Arc::into_raw(array).cast_mut().cast();
        fields.handles = Arc::into_raw(handles).cast_mut().cast();
        fields.ops = core::ptr::from_ref(Self::OPS).cast();
        Ok(Self(private, PhantomData))
    }

    /// The private data as C knows it.
    pub(super) fn as_ptr(&self) -> *mut bindings::raid456_private {
        self.0.as_ptr()
    }

    /// Gives the private data to C, until [`Self::from_raw`].
    pub(super) fn into_raw(self) -> *mut bindings::raid456_private {
        self.0.as_ptr()
    }

    /// Takes it back.
    ///
    /// # Safety
    ///
    /// `raw` comes from [`Self::into_raw`] of this type, is taken back once, and nobody uses it otherwise any more.
    pub(super) unsafe fn from_raw(raw: *mut kernel::ffi::c_void) -> Self {
        // INVARIANT: `into_raw` gave it up.
        // SAFETY: `into_raw` gives no null pointers.
        Self(unsafe { NonNull::new_unchecked(raw.cast()) }, PhantomData)
    }

    /// Takes it apart.
    pub(super) fn into_parts(self) -> (Arc<Gate<P>>, Arc<Handles>) {
        let private = self.0.as_ptr();
        // SAFETY: By the invariant the structure is valid, and it is ours.
        let fields = unsafe { &*private };
        let (array, handles) = (fields.array, fields.handles);
        // SAFETY: It is ours, and not used after this.
        unsafe { bindings::raid456_private_free(private) };
        // SAFETY: By the invariant the pointer is a reference that the structure owned.
        let array = unsafe { Arc::from_raw(array.cast::<Gate<P>>().cast_const()) };
        // SAFETY: As above.
        let handles = unsafe { Arc::from_raw(handles.cast::<Handles>().cast_const()) };
        (array, handles)
    }

    /// The array of private data that C has.
    ///
    /// # Safety
    ///
    /// `raw` is private data that [`Self::into_raw`] of this type gave, or that is about to be given, and stays so for
    /// `'a`.
    pub(super) unsafe fn array<'a>(raw: *mut bindings::raid456_private) -> ArcBorrow<'a, Gate<P>> {
        // SAFETY: By the requirement of this function the structure is valid.
        let array = unsafe { (*raw).array };
        // SAFETY: By the invariant the pointer is a reference, which the structure keeps for as long as required.
        unsafe { ArcBorrow::from_raw(array.cast::<Gate<P>>().cast_const()) }
    }

    /// The array of private data that C has, if it is of this type.
    ///
    /// # Safety
    ///
    /// `raw` is private data of an array that this module runs, of whatever type, and stays so for `'a`.
    pub(super) unsafe fn try_array<'a>(
        raw: *mut bindings::raid456_private,
    ) -> Option<ArcBorrow<'a, Gate<P>>> {
        // SAFETY: By the requirement of this function the structure is valid.
        let ops = unsafe { (*raw).ops };
        if !core::ptr::eq(ops, core::ptr::from_ref(Self::OPS).cast()) {
            return None;
        }
        // SAFETY: The operations are this type's, so it is.
        Some(unsafe { Self::array(raw) })
    }

    /// Tells dm-raid, which reads them, how many strips the cache has.
    ///
    /// # Safety
    ///
    /// As for [`Self::array`].
    pub(super) unsafe fn note_stripes(raw: *mut bindings::raid456_private) {
        // SAFETY: By the requirement of this function.
        let (min, max) = unsafe { Self::array(raw) }.cache_strips();
        // SAFETY: As above.
        unsafe { bindings::raid456_private_set_stripes(raw, min, max) }
    }

    /// # Safety
    ///
    /// As for [`Self::array`].
    unsafe fn set_cache_size(
        raw: *mut bindings::raid456_private,
        locked: &Locked<'_>,
        size: i32,
    ) -> Result {
        // SAFETY: By the requirement of this function.
        let result = unsafe { Self::array(raw) }.set_cache_size(locked, size);
        // SAFETY: As above.
        unsafe { Self::note_stripes(raw) };
        result
    }

    /// # Safety
    ///
    /// As for [`Self::array`].
    unsafe fn set_journal_mode(
        raw: *mut bindings::raid456_private,
        locked: &Locked<'_>,
        mode: i32,
    ) -> Result {
        // SAFETY: By the requirement of this function.
        unsafe { Self::array(raw) }.set_journal_mode(locked, mode)
    }
}

/// The private data of an array that this module runs, if it does.
///
/// # Safety
///
/// The caller holds the array's `reconfig_mutex` or its `lock`, and uses the result only while it does.
pub(super) unsafe fn of(mddev: &Mddev) -> Option<NonNull<bindings::raid456_private>> {
    // SAFETY: The array is valid, and one of the locks is held, as the function requires.
    NonNull::new(unsafe { bindings::raid456_private_of(mddev.as_ptr()) })
}
