// SPDX-License-Identifier: GPL-2.0

//! Attributes of an array in sysfs, beside those of md core.
//!
//! Reading one holds `mddev->lock`, writing one `reconfig_mutex`, at least while the array is looked for; under either, an array that
//! is found is not freed. An
//! array whose level has changed to one that we do not run has no attributes of ours any more, even if the files are
//! still there.

use super::mddev::{Locked, Mddev};
use super::personality::{Personality, Running};
use super::private::{self, Private};
use crate::bindings;
use crate::mem::Setup;
use core::fmt;
use core::marker::PhantomData;
use kernel::error::{from_result, to_result};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::time::delay::fsleep;
use kernel::time::Delta;

/// The proof that an array takes no requests, and that `reconfig_mutex` is held. Not what a driver may wait for memory by: that may
/// come free by a write to this very array.
///
/// # Invariants
///
/// Both are so while this value lives.
pub(crate) struct Suspended<'a>(Locked<'a>);

impl<'a> Suspended<'a> {
    /// The proof of the latter, for what asks for no memory.
    pub(super) fn locked(&self) -> &Locked<'a> {
        &self.0
    }
}

/// How often it is tried to store an attribute while the array takes no requests.
const TRIES: u32 = 20;

/// How long requests are let in between two of these.
const PAUSE: Delta = Delta::from_millis(10);

/// Longest text of an attribute: sysfs complains of a full page.
const TEXT_BYTES: usize = kernel::page::PAGE_SIZE - 1;

/// The text of an attribute that is being read; what is more than [`TEXT_BYTES`] is cut off.
pub(crate) struct Text<'a> {
    page: &'a mut [u8],
    len: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for (to, from) in self.page.iter_mut().skip(self.len).zip(s.as_bytes()) {
            *to = *from;
            self.len += 1;
        }
        Ok(())
    }
}

/// How an attribute is written.
pub(crate) enum Store<P> {
    /// It is read-only.
    No,
    /// With `reconfig_mutex` held.
    Locked(fn(Running<'_, P>, &Locked<'_>, &str) -> Result),
    /// Without any lock, for what waits for memory: that may come free by a write to this very array, which waits where others stop
    /// requests, or want the superblock written, and wait for `reconfig_mutex` themselves. The array may be stopped meanwhile: the
    /// function has to look. What needs the mutex is done by the second one, if the array is still there.
    Unlocked(
        fn(Running<'_, P>, &Setup, &str) -> Result,
        fn(Running<'_, P>, &Locked<'_>),
    ),
    /// With `reconfig_mutex` held, and while the array takes no requests.
    Suspended(fn(Running<'_, P>, &Suspended<'_>, &str) -> Result),
}

/// An attribute of an array that `Self::Of` runs.
pub(crate) trait Attribute: 'static {
    /// The personality.
    type Of: Personality;

    /// The file's name.
    const NAME: &'static CStr;

    /// How it is written; the text is without the newline at its end.
    const STORE: Store<Self::Of> = Store::No;

    /// Checks a text before any lock is taken, as the C driver does: a text that is no number is `EINVAL` even for an
    /// array that is not there.
    ///
    /// # Errors
    ///
    /// What the writer gets.
    fn check(_text: &str) -> Result {
        Ok(())
    }

    /// Reads it. Must not sleep. What an array that is not there shows is nothing.
    ///
    /// # Errors
    ///
    /// None: there is always room, for what is too long is cut off.
    fn show(array: &Self::Of, text: &mut Text<'_>) -> fmt::Result;
}

/// An entry of md core's for `A`.
pub(crate) const fn entry<A: Attribute>() -> Entry {
    let store = match A::STORE {
        Store::No => None,
        _ => Some(store::<A> as unsafe extern "C" fn(_, _, _) -> _),
    };
    // SAFETY: Zero is a valid value of every field, also of those that only lockdep has.
    let mut attr: bindings::attribute = unsafe { core::mem::zeroed() };
    attr.name = kernel::str::as_char_ptr_in_const_context(A::NAME);
    attr.mode = if store.is_some() { 0o644 } else { 0o444 };
    Entry(bindings::md_sysfs_entry {
        attr,
        show: Some(show::<A>),
        store,
    })
}

/// An attribute as md core knows it.
#[repr(transparent)]
pub(crate) struct Entry(bindings::md_sysfs_entry);

// SAFETY: An entry is only read, by Rust; lockdep has a lock for what it does with it.
unsafe impl Sync for Entry {}

/// The attributes of the arrays that `P` runs. Made with [`md_attributes!`](crate::md_attributes).
#[repr(transparent)]
pub(crate) struct Group<P>(bindings::attribute_group, PhantomData<fn(P)>);

// SAFETY: A group is only read.
unsafe impl<P> Sync for Group<P> {}

/// A list of attributes for a group, ended by a null pointer.
#[repr(transparent)]
pub(crate) struct List<const N: usize>([*mut bindings::attribute; N]);

// SAFETY: A list is only read.
unsafe impl<const N: usize> Sync for List<N> {}

impl<const N: usize> List<N> {
    /// The list of `N - 1` entries.
    pub(crate) const fn new(entries: &'static [Entry]) -> Self {
        let mut list = [core::ptr::null_mut(); N];
        let mut i = 0;
        // The last place stays null.
        while i + 1 < N && i < entries.len() {
            list[i] = (&raw const entries[i].0.attr).cast_mut();
            i += 1;
        }
        Self(list)
    }
}

impl<P: Personality> Group<P> {
    /// The group of a list of attributes of `P`.
    pub(crate) const fn new<const N: usize>(list: &'static List<N>) -> Self {
        // SAFETY: Zero is a valid value of every field: no name, and no functions.
        let mut group: bindings::attribute_group = unsafe { core::mem::zeroed() };
        group.__bindgen_anon_2.attrs = (&raw const list.0).cast_mut().cast();
        Self(group, PhantomData)
    }

    /// Adds the attributes to those of an array; nothing to do if it has no place in sysfs. Sleeps.
    ///
    /// # Errors
    ///
    /// They are there already, or there is no memory.
    pub(super) fn add(&'static self, mddev: &Locked<'_>) -> Result {
        // SAFETY: The array is valid, its mutex is held, and the group lives for ever.
        to_result(unsafe { bindings::raid456_sysfs_add(mddev.as_ptr(), &raw const self.0) })
    }

    /// Has md core remove the attributes once `reconfig_mutex` is not held any more.
    pub(super) fn remove_later(&'static self, mddev: &Locked<'_>) {
        // SAFETY: The array is valid, and its mutex, which protects the field, is held.
        unsafe { (*mddev.as_ptr()).to_remove = &raw const self.0 }
    }
}

/// Defines the group of a personality's attributes.
///
/// ```ignore
/// md_attributes! {
///     /// The attributes of our arrays.
///     pub(crate) static ATTRIBUTES: Array = [CacheSize, CacheActive];
/// }
/// ```
#[macro_export]
macro_rules! md_attributes {
    ($(#[$doc:meta])* $vis:vis static $group:ident: $of:ty = [$($attribute:ty),+ $(,)?];) => {
        $(#[$doc])*
        $vis static $group: $crate::md::sysfs::Group<$of> = {
            static ENTRIES: &[$crate::md::sysfs::Entry] =
                &[$($crate::md::sysfs::entry::<$attribute>()),+];
            static LIST: $crate::md::sysfs::List<{
                [$(stringify!($attribute)),+].len() + 1
            }> = $crate::md::sysfs::List::new(ENTRIES);
            const fn of<A: $crate::md::sysfs::Attribute<Of = $of>>() {}
            $(of::<$attribute>();)+
            $crate::md::sysfs::Group::new(&LIST)
        };
    };
}

/// Shows `A`.
///
/// # Safety
///
/// Called by md core: the array is valid, and `page` has a page.
unsafe extern "C" fn show<A: Attribute>(
    mddev: *mut bindings::mddev,
    page: *mut kernel::ffi::c_char,
) -> isize {
    // SAFETY: By the requirement of this function.
    let mddev = unsafe { Mddev::from_raw(mddev) };
    // SAFETY: As above.
    let page = unsafe { core::slice::from_raw_parts_mut(page.cast(), TEXT_BYTES) };
    let mut text = Text { page, len: 0 };
    with_array::<A::Of>(mddev, |array| A::show(array, &mut text));
    // CAST: a page's length at most.
    text.len as isize
}

/// Calls `look` with the array, if it is there, and with `mddev->lock` held.
fn with_array<P: Personality>(mddev: &Mddev, look: impl FnOnce(&P) -> fmt::Result) {
    // SAFETY: The array is valid; sysfs files are read in process context, with no lock held.
    unsafe { bindings::raid456_lock_state(mddev.as_ptr()) };
    // SAFETY: The lock is held.
    if let Some(private) = unsafe { private::of(mddev) } {
        // SAFETY: The private data is valid while the lock is held.
        if let Some(array) = unsafe { Private::<P>::try_array(private.as_ptr()) } {
            // There is always room.
            let _ = look(&array);
        }
    }
    // SAFETY: The lock is held.
    unsafe { bindings::raid456_unlock_state(mddev.as_ptr()) };
}

/// Stores `A`.
///
/// # Safety
///
/// Called by md core: the array is valid, and `page` has `len` bytes.
unsafe extern "C" fn store<A: Attribute>(
    mddev: *mut bindings::mddev,
    page: *const kernel::ffi::c_char,
    len: usize,
) -> isize {
    from_result(|| {
        // SAFETY: By the requirement of this function.
        let mddev = unsafe { Mddev::from_raw(mddev) };
        if len >= kernel::page::PAGE_SIZE {
            return Err(EINVAL);
        }
        // SAFETY: As above.
        let text = unsafe { core::slice::from_raw_parts(page.cast::<u8>(), len) };
        let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        A::check(text)?;
        match A::STORE {
            Store::No => return Err(EIO),
            Store::Locked(store) => locked(mddev, |locked| {
                with_locked::<A::Of, _>(locked, |array| store(array, locked, text))
            })?,
            Store::Unlocked(store, settle) => {
                let array = locked(mddev, |locked| {
                    with_locked::<A::Of, _>(locked, |array| Ok(Arc::from(array)))
                })?;
                // SAFETY: No lock is held, and no request is this task's.
                store(array.as_arc_borrow(), &unsafe { Setup::assume() }, text)?;
                // Who frees the array waits for this.
                drop(array);
                // If it is gone, or a signal came, nothing is lost but how soon something is looked at.
                let _ = locked(mddev, |locked| {
                    with_locked::<A::Of, _>(locked, |array| {
                        settle(array, locked);
                        Ok(())
                    })
                });
            }
            Store::Suspended(store) => suspended_again(mddev, |suspended| {
                with_locked::<A::Of, _>(suspended.locked(), |array| store(array, suspended, text))
            })?,
        }
        isize::try_from(len).map_err(|_| EINVAL)
    })
}

/// Calls `act` with `reconfig_mutex` held. Sleeps, interruptibly.
fn locked<T>(mddev: &Mddev, act: impl FnOnce(&Locked<'_>) -> Result<T>) -> Result<T> {
    // SAFETY: The array is valid.
    to_result(unsafe { bindings::raid456_mddev_lock(mddev.as_ptr()) })?;
    // SAFETY: The mutex was just taken.
    let result = act(&unsafe { Locked::new(mddev) });
    // SAFETY: The mutex is held.
    unsafe { bindings::raid456_mddev_unlock(mddev.as_ptr()) };
    result
}

/// As [`suspended`]; if `act` is refused with `EBUSY` it is called again some times, after requests were let in for a while, for
/// which somebody waits, perhaps, before he gives up what it takes.
fn suspended_again(mddev: &Mddev, act: impl Fn(&Suspended<'_>) -> Result) -> Result {
    for _ in 1..TRIES {
        let result = suspended(mddev, &act);
        if result != Err(EBUSY) {
            return result;
        }
        fsleep(PAUSE);
    }
    suspended(mddev, &act)
}

/// Calls `act` with `reconfig_mutex` held while the array takes no requests. Sleeps, interruptibly.
pub(super) fn suspended(mddev: &Mddev, act: impl FnOnce(&Suspended<'_>) -> Result) -> Result {
    // SAFETY: The array is valid.
    to_result(unsafe { bindings::raid456_suspend_and_lock(mddev.as_ptr()) })?;
    // SAFETY: The mutex was just taken.
    let locked = unsafe { Locked::new(mddev) };
    // INVARIANT: the array was just suspended.
    let result = act(&Suspended(locked));
    // SAFETY: The mutex is held and the array is suspended.
    unsafe { bindings::raid456_unlock_and_resume(mddev.as_ptr()) };
    result
}

/// Calls `act` with the array, if it is there.
pub(super) fn with_locked<P: Personality, T>(
    mddev: &Locked<'_>,
    act: impl FnOnce(Running<'_, P>) -> Result<T>,
) -> Result<T> {
    // SAFETY: The mutex is held.
    let private = unsafe { private::of(mddev) }.ok_or(ENODEV)?;
    // SAFETY: The private data is valid while the mutex is held.
    let array = unsafe { Private::<P>::try_array(private.as_ptr()) }.ok_or(ENODEV)?;
    let result = act(array);
    // SAFETY: As above.
    unsafe { Private::<P>::note_stripes(private.as_ptr()) };
    result
}
