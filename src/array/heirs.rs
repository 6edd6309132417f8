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
    /// A device without strips is not kept.
    devices: [Option<Member>; 2],
    /// Those of each.
    strips: [Strips; 2],
}

impl Heirs {
    /// Takes note of which copies are wanted or under way. The device for those that were not before is that which is to replace
    /// the member of `slot` now.
    pub(super) fn update(&mut self, pending: Strips, slot: Option<&Slot>) {
        let mut new = pending;
        for (device, strips) in self.devices.iter_mut().zip(&mut self.strips) {
            *strips &= pending;
            new -= *strips;
            if strips.is_empty() {
                *device = None;
            }
        }
        if new.is_empty() {
            return;
        }
        let Some(device) = slot.and_then(heir) else {
            return;
        };
        let is_same = |known: &Option<Member>| known.as_ref().is_some_and(|k| k.is(&device));
        let mut places = self.devices.iter();
        let known = places.position(is_same);
        let place = known.or_else(|| self.devices.iter().position(Option::is_none));
        let Some(place) = place else {
            return;
        };
        if let Some(strips) = self.strips.get_mut(place) {
            *strips |= new;
        }
        if let Some(own) = self.devices.get_mut(place) {
            own.get_or_insert(device);
        }
    }

    /// The strips of `ready` that go to one device, and that.
    pub(super) fn next(&self, ready: Strips) -> Option<Strips> {
        let found = self.all().find(|(_, strips)| strips.meets(ready));
        // Without a device they fail, which is no worse than that it does.
        Some(found.map_or(ready, |(_, strips)| strips & ready)).filter(|strips| !strips.is_empty())
    }

    /// The device that strips go to.
    pub(super) fn device(&self, strips: Strips) -> Option<&Member> {
        let (device, _) = self.all().find(|(_, own)| own.contains(strips))?;
        Some(device)
    }

    /// Calls `f` with each device, and its strips of `strips`.
    pub(super) fn each(&self, strips: Strips, mut f: impl FnMut(&Member, Strips)) {
        for (device, own) in self.all() {
            f(device, own & strips);
        }
    }

    /// The devices, and the strips of each.
    fn all(&self) -> impl Iterator<Item = (&Member, Strips)> {
        let both = self.devices.iter().zip(self.strips);
        both.filter_map(|(device, strips)| Some((device.as_ref()?, strips)))
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
