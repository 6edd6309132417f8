// SPDX-License-Identifier: GPL-2.0

//! What a strip needs, all or nothing.

use super::pages::Page;
use super::Wait;
use kernel::alloc::AllocError;
use kernel::prelude::*;

/// The pages of one strip: one for each member.
///
/// A strip holds a kit from before its first read until its cached blocks are evicted. Taking it whole means that no two
/// strips can each hold a part of what both need.
pub(crate) struct Kit {
    pages: KVec<Page>,
}

impl Kit {
    /// Allocates a kit for `members` members.
    ///
    /// # Errors
    ///
    /// There is no memory; nothing is kept then.
    pub(crate) fn new(members: u16, wait: Wait) -> Result<Self, AllocError> {
        let flags = match wait {
            Wait::NoWait => GFP_NOWAIT | __GFP_NOWARN,
            Wait::MayBlock | Wait::Setup => GFP_KERNEL,
        };
        let mut pages = KVec::with_capacity(usize::from(members), flags)?;
        for _ in 0..members {
            pages.push(Page::new(wait)?, flags)?;
        }
        Ok(Self { pages })
    }

    /// The page of a member; `None` past the last.
    pub(crate) fn page(&self, member: u16) -> Option<&Page> {
        self.pages.get(usize::from(member))
    }

    /// As [`Self::page`], to change it.
    pub(crate) fn page_mut(&mut self, member: u16) -> Option<&mut Page> {
        self.pages.get_mut(usize::from(member))
    }

    /// The pages of all members.
    pub(crate) fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// As [`Self::pages`], to change them.
    pub(crate) fn pages_mut(&mut self) -> &mut [Page] {
        &mut self.pages
    }
}
