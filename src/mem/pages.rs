// SPDX-License-Identifier: GPL-2.0

//! Order-0 pages with an address.

use super::Wait;
use crate::bindings;
use core::ptr::NonNull;
use kernel::alloc::AllocError;
use kernel::transmute::{AsBytes, FromBytes};

pub(crate) use kernel::page::PAGE_SIZE;

/// An owned page of [`PAGE_SIZE`] bytes.
///
/// Members read and write it by DMA, and other CPUs may too. So its content can be seen as a value only while no bio that
/// would change it is under way ([`Self::view`]), and changed only while no bio holds it at all ([`Self::view_mut`]). A
/// page that is dropped while bios hold it goes with the last of them.
///
/// # Invariants
///
/// The pointer is the kernel address of a page that the shim allocated, of whose users this value is one.
pub(crate) struct Page(NonNull<u8>);

// SAFETY: A page may be used and freed by any task; what is reached through a shared reference is only read.
unsafe impl Send for Page {}

// SAFETY: As above.
unsafe impl Sync for Page {}

impl Page {
    /// Allocates a page with undefined content.
    ///
    /// # Errors
    ///
    /// There is no memory; never with [`Wait::MayBlock`] or [`Wait::Setup`] in practice, for a single page.
    pub(crate) fn new(wait: Wait) -> Result<Self, AllocError> {
        // SAFETY: The function has no requirements but the context that `wait` names.
        let page = unsafe { bindings::raid456_page_alloc(wait.to_raw()) };
        // INVARIANT: the one user of a new page is us.
        NonNull::new(page.cast()).map(Self).ok_or(AllocError)
    }

    /// The address of the page's first byte; valid for reads and writes of [`PAGE_SIZE`] bytes while the page lives.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// The content; `None` while a bio reads into the page.
    pub(crate) fn view<T: AsBytes + FromBytes>(&self) -> Option<&T> {
        const { Self::check_size::<T>() };
        // SAFETY: By the invariant it is a page of the shim.
        if !unsafe { bindings::raid456_page_may_view(self.0.as_ptr().cast()) } {
            return None;
        }
        // SAFETY: The page is as large and as aligned as a `T`, which may have any content. No bio changes it, and none is
        // submitted that would: that takes a mutable reference.
        Some(unsafe { self.0.cast().as_ref() })
    }

    /// The content, to change it; `None` while a bio holds the page.
    pub(crate) fn view_mut<T: AsBytes + FromBytes>(&mut self) -> Option<&mut T> {
        const { Self::check_size::<T>() };
        // SAFETY: By the invariant it is a page of the shim.
        if !unsafe { bindings::raid456_page_may_change(self.0.as_ptr().cast()) } {
            return None;
        }
        // SAFETY: The page is as large and as aligned as a `T`, which may have any content, and only we use it.
        Some(unsafe { self.0.cast().as_mut() })
    }

    /// Fails to compile if a page cannot hold a `T`.
    const fn check_size<T>() {
        assert!(core::mem::size_of::<T>() <= PAGE_SIZE && core::mem::align_of::<T>() <= PAGE_SIZE);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: By the invariant we are a user of the page, and are not any more after this.
        unsafe { bindings::raid456_page_put(self.0.as_ptr().cast()) }
    }
}
