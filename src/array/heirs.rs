// SPDX-License-Identifier: GPL-2.0

//! Which devices get the copies of a member's blocks: the one that is to replace it, as of when a copy is planned.
//!
//! That one may become the member before it is written, and may be given a replacement in turn. It lacks the block all the
//! same, and the newest one gets what is planned from then on. There are no more than these two: until all of a span's copies
//! for the first have ended no rebuild of the second has gone past the span.

use crate::md::slots::{Member, Slot};
use crate::raid::strips::Strips;

/// The devices that a member's copies in a span go to, kept until these have ended.
#[derive(Default)]
pub(super) struct Heirs {
    /// The newest last; a device without strips is not kept.
    heirs: [Option<(Member, Strips)>; 2],
}

impl Heirs {
    /// Takes note of which copies are wanted or under way. The device for those that were not before is that which is to replace
    /// the member of `slot` now.
    pub(super) fn update(&mut self, pending: Strips, slot: Option<&Slot>) {
        let mut new = pending;
        for heir in &mut self.heirs {
            if let Some((_, strips)) = heir {
                *strips &= pending;
                new -= *strips;
                if strips.is_empty() {
                    *heir = None;
                }
            }
        }
        if new.is_empty() {
            return;
        }
        let Some(device) = slot.and_then(heir) else {
            return;
        };
        let is_same = |(known, _): &&mut (Member, Strips)| known.is(&device);
        let mut known = self.heirs.iter_mut().flatten();
        if let Some((_, strips)) = known.find(is_same) {
            *strips |= new;
        } else if let Some(free) = self.heirs.iter_mut().find(|heir| heir.is_none()) {
            *free = Some((device, new));
        }
    }

    /// The strips of `ready` that go to one device, and that.
    pub(super) fn next(&self, ready: Strips) -> Option<Strips> {
        let mut heirs = self.heirs.iter().flatten();
        let found = heirs.find(|(_, strips)| strips.meets(ready));
        // Without a device they fail, which is no worse than that it does.
        Some(found.map_or(ready, |(_, strips)| *strips & ready)).filter(|strips| !strips.is_empty())
    }

    /// The device that strips go to.
    pub(super) fn device(&self, strips: Strips) -> Option<&Member> {
        let mut heirs = self.heirs.iter().flatten();
        let (device, _) = heirs.find(|(_, own)| own.contains(strips))?;
        Some(device)
    }

    /// Calls `f` with each device, and its strips of `strips`.
    pub(super) fn each(&self, strips: Strips, mut f: impl FnMut(&Member, Strips)) {
        for (device, own) in self.heirs.iter().flatten() {
            f(device, *own & strips);
        }
    }
}

/// The device that is to replace the member of a slot. If it has become the member since a copy was planned, it is found there.
///
/// None if it has failed: the copy is missed then, which is to be recorded. Given to the member, it would seem to have been taken.
fn heir(slot: &Slot) -> Option<Member> {
    let replacement = slot.replacement();
    if let Some(device) = replacement.take() {
        return Some(device);
    }
    // Acquire: it is put into the member's place before it leaves its own.
    let has_gone = replacement.with(|_| ()).is_none();
    has_gone.then(|| slot.take()).flatten()
}
