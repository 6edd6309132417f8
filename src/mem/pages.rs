// SPDX-License-Identifier: GPL-2.0

//! Order-0 pages with an address.

use super::Ask;
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
    /// There is no memory; never for who may block in practice, for a single page.
    pub(crate) fn new(by: &impl Ask) -> Result<Self, AllocError> {
        // INVARIANT: the one user of a new page is us.
        NonNull::new(by.page().cast()).map(Self).ok_or(AllocError)
    }

    /// The address of [`PAGE_SIZE`] bytes that may be read while the page is borrowed; `None` while a bio reads into it.
    pub(crate) fn address(&self) -> Option<NonNull<u8>> {
        // No bio that would change the page is submitted meanwhile: that takes a mutable reference.
        // SAFETY: By the invariant it is a page of the shim.
        unsafe { bindings::raid456_page_may_view(self.0.as_ptr().cast()) }.then_some(self.0)
    }

    /// The address of [`PAGE_SIZE`] bytes that may be changed while the page is borrowed; `None` while a bio holds it.
    pub(crate) fn address_mut(&mut self) -> Option<NonNull<u8>> {
        // SAFETY: By the invariant it is a page of the shim.
        unsafe { bindings::raid456_page_may_change(self.0.as_ptr().cast()) }.then_some(self.0)
    }

    /// Where the page is, for those who count themselves among its users before they let anything change it, or keep it while
    /// something reads it.
    pub(crate) fn place(&self) -> NonNull<u8> {
        self.0
    }

    /// The content; `None` while a bio reads into the page.
    pub(crate) fn view<T: AsBytes + FromBytes>(&self) -> Option<&T> {
        const { Self::check_size::<T>() };
        let address = self.address()?;
        // SAFETY: The page is as large and as aligned as a `T`, which may have any content. It may be read while it is
        // borrowed, as the result is.
        Some(unsafe { address.cast().as_ref() })
    }

    /// The content, to change it; `None` while a bio holds the page.
    pub(crate) fn view_mut<T: AsBytes + FromBytes>(&mut self) -> Option<&mut T> {
        const { Self::check_size::<T>() };
        let address = self.address_mut()?;
        // SAFETY: The page is as large and as aligned as a `T`, which may have any content. Only we use it while it is
        // borrowed, as the result is.
        Some(unsafe { address.cast().as_mut() })
    }

    /// Fails to compile if a page cannot hold a `T`.
    const fn check_size<T>() {
        assert!(core::mem::size_of::<T>() <= PAGE_SIZE && core::mem::align_of::<T>() <= PAGE_SIZE);
    }
}

/// Says so in the kernel's log, loudly, if a page was lost. When the module goes, and all arrays have.
pub(crate) fn expect_all_back() {
    // SAFETY: The function has no requirements.
    unsafe { bindings::raid456_pages_are_back() }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: By the invariant we are a user of the page, and are not any more after this.
        unsafe { bindings::raid456_page_put(self.0.as_ptr().cast()) }
    }
}
