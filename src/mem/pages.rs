// SPDX-License-Identifier: GPL-2.0

//! Order-0 pages with an address.

use super::Wait;
use crate::bindings;
use core::ptr::NonNull;
use kernel::alloc::AllocError;

pub(crate) use kernel::page::PAGE_SIZE;

/// An owned page of [`PAGE_SIZE`] bytes.
///
/// Members read and write it by DMA, and other CPUs may too, so there is no way to see it as a slice: it is known by its
/// address, and whoever reads or writes through that does it by raw pointers. A bio that holds the page counts it, so a
/// page that is dropped meanwhile goes when the bio ends.
///
/// # Invariants
///
/// The pointer is the kernel address of a page, of which this value owns a reference.
pub(crate) struct Page(NonNull<u8>);

// SAFETY: A page may be used and freed by any task; nothing is reached through a shared reference but the address.
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
        // INVARIANT: the reference of a new page is ours.
        NonNull::new(page.cast()).map(Self).ok_or(AllocError)
    }

    /// The address of the page's first byte; valid for reads and writes of [`PAGE_SIZE`] bytes while the page lives.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: By the invariant the reference is ours, and we give it up.
        unsafe { bindings::raid456_page_free(self.0.as_ptr().cast()) }
    }
}
