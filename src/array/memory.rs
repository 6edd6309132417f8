// SPDX-License-Identifier: GPL-2.0

//! How much memory an array has: it gives back what it can do without when the kernel asks for it, takes it again when
//! there is some, and shows what it has.
//!
//! Only cached blocks are given back, and never the last kits: with those every strip can be done, one after the other.
//! Submitters and the sync thread take more again, of memory that is free; lanes do not.

use super::object::SpanObject;
use super::queue::Link;
use super::table::Reclaimed;
use super::Array;
use crate::md::sysfs::{Attribute, Text};
use crate::mem::shrinker::{Shrink, Shrinker};
use crate::mem::Setup;
use crate::sync::gate::Gate;
use core::fmt::{self, Write};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Kits that one submitter makes at once, at most.
const REGROWN: u32 = 4;

impl Shrink for Gate<Array> {
    fn count(&self) -> usize {
        self.kits.spare() as usize
    }

    fn shrink(&self, most: usize) -> usize {
        let array: &Array = self;
        let may_go = |freed: &usize| *freed < most && !array.kits.anybody_waits();
        let mut freed = 0;
        while may_go(&freed) {
            if array.kits.shrink() {
                freed += 1;
            } else if array.kits.spare() == 0
                || array.table.reclaim_any(&array.kits) != Reclaimed::Found
            {
                break;
            }
        }
        // What was on its way from a span to here while somebody looked for it.
        array.see_to_waiting();
        freed
    }
}

impl Array {
    /// Has the array give memory back from now on. May sleep.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(super) fn start_shrinking(array: &Arc<Gate<Self>>, setup: &Setup) -> Result {
        array
            .shrinker
            .populate(Shrinker::start(array.clone(), setup)?);
        Ok(())
    }

    /// Ends that, which keeps the array. Sleeps.
    pub(super) fn stop_shrinking(&self) {
        if let Some(shrinker) = self.shrinker.as_ref() {
            shrinker.stop();
        }
    }

    /// Makes some of the kits anew that were given back, if there is free memory. For who may block; does not.
    pub(super) fn regrow(&self) {
        if self.kits.total() < self.kits.wanted() {
            for _ in 0..REGROWN {
                if !self.kits.regrow() {
                    break;
                }
            }
            self.grant_kits();
        }
    }
}

/// memory: a line with name and value of each. Documentation/memory.md tells what they mean.
pub(super) struct MemoryFile;

impl Attribute for MemoryFile {
    type Of = Array;
    const NAME: &'static CStr = c"memory";

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        let kits = &array.kits;
        // One that found that it need not wait stays in the list until that is looked at, and has no work by then.
        let listed = |link: fn(&SpanObject) -> &Link| {
            let spans = array.table.slab().active();
            spans.filter(|span| link(span).is_listed()).count()
        };
        writeln!(text, "kits_wanted {}", kits.target())?;
        writeln!(text, "kits {}", kits.total())?;
        writeln!(text, "kits_free {}", kits.free())?;
        let members = u64::from(array.geometry.members());
        writeln!(text, "pages {}", u64::from(kits.total()) * members)?;
        writeln!(text, "kits_given_back {}", kits.given_back())?;
        writeln!(text, "kits_made_again {}", kits.made_again())?;
        writeln!(text, "spans {}", array.table.len())?;
        writeln!(text, "spans_active {}", array.table.active())?;
        let mut parts = 0u32;
        for span in array.table.slab().active() {
            parts = parts.wrapping_add(span.parts());
        }
        writeln!(text, "parts {parts}")?;
        writeln!(text, "parked_memory {}", kits.waiting())?;
        let superblock = listed(|span| &span.for_superblock);
        writeln!(text, "parked_superblock {superblock}")?;
        writeln!(text, "parked_bitmap {}", listed(|span| &span.for_bitmap))
    }
}
