// SPDX-License-Identifier: GPL-2.0

//! What a strip needs, all or nothing.

use super::pages::{Page, PAGE_SIZE};
use super::Ask;
use crate::parity::Source;
use core::marker::PhantomData;
use core::ptr::NonNull;
use kernel::alloc::AllocError;
use kernel::prelude::*;

/// The pages of one strip: one for each member.
///
/// A strip holds a kit from before its first read until its cached blocks are evicted. Taking it whole means that no two
/// strips can each hold a part of what both need.
pub(crate) struct Kit {
    pages: KVec<Page>,
    /// As many; of use while a job runs.
    sources: KVec<Place>,
}

/// Where a page's worth of bytes is that a job will copy.
#[derive(Clone, Copy)]
struct Place(Option<NonNull<u8>>);

// SAFETY: An address may be sent; who reads what is there answers for it.
unsafe impl Send for Place {}

// SAFETY: As above.
unsafe impl Sync for Place {}

impl Kit {
    /// Allocates a kit for `members` members.
    ///
    /// # Errors
    ///
    /// There is no memory; nothing is kept then.
    pub(crate) fn new(members: u16, by: &impl Ask) -> Result<Self, AllocError> {
        let flags = by.flags();
        let mut pages = KVec::with_capacity(usize::from(members), flags)?;
        for _ in 0..members {
            // There is room for each.
            let page = Page::new(by)?;
            pages.push_within_capacity(page).map_err(|_| AllocError)?;
        }
        let sources = KVec::from_elem(Place(None), usize::from(members), flags)?;
        Ok(Self { pages, sources })
    }

    /// The page of a member; `None` past the last.
    pub(crate) fn page(&self, member: u16) -> Option<&Page> {
        self.pages.get(usize::from(member))
    }

    /// As [`Self::page`], to change it.
    pub(crate) fn page_mut(&mut self, member: u16) -> Option<&mut Page> {
        self.pages.get_mut(usize::from(member))
    }

    /// The pages of all members, to change them.
    pub(crate) fn pages_mut(&mut self) -> &mut [Page] {
        &mut self.pages
    }

    /// The pages of all members, and an empty list of what is to be copied to them.
    pub(crate) fn with_sources<'s>(&mut self) -> (&mut [Page], Sources<'_, 's>) {
        self.sources.fill(Place(None));
        // INVARIANT: nothing is in the list.
        let sources = Sources {
            places: &mut self.sources,
            _sources: PhantomData,
        };
        (&mut self.pages, sources)
    }
}

/// What is to be copied to the pages of a kit: for each member perhaps a page's worth of bytes.
///
/// # Invariants
///
/// Each place was the start of a source of this lifetime, with as many bytes as a page has.
pub(crate) struct Sources<'k, 's> {
    places: &'k mut [Place],
    _sources: PhantomData<Source<'s>>,
}

impl<'s> Sources<'_, 's> {
    /// Notes what is to become the page of `member`, in place of what was noted before. Returns false, and notes nothing,
    /// if it is not as long as a page, or there is no such member.
    pub(crate) fn set(&mut self, member: u16, source: Source<'s>) -> bool {
        match self.places.get_mut(usize::from(member)) {
            Some(place) if source.len() == PAGE_SIZE => {
                // INVARIANT: it has the length and the lifetime.
                place.0 = NonNull::new(source.as_ptr().cast_mut());
                true
            }
            _ => false,
        }
    }

    /// What is noted for `member`.
    pub(crate) fn get(&self, member: u16) -> Option<Source<'s>> {
        let start = self.places.get(usize::from(member))?.0?;
        // SAFETY: By the invariant the source of the same place and length may be read for as long.
        Some(unsafe { Source::from_raw(start.as_ptr(), PAGE_SIZE) })
    }

    /// Takes out what is noted for `member`.
    pub(crate) fn take(&mut self, member: u16) -> Option<Source<'s>> {
        let source = self.get(member);
        if let Some(place) = self.places.get_mut(usize::from(member)) {
            place.0 = None;
        }
        source
    }
}
