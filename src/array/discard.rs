// SPDX-License-Identifier: GPL-2.0

//! Requests to discard: the members forget whole stripes, parity too, and hold zeroes after that.
//!
//! A stripe of which a part is discarded stays as it is. Spans are run by lanes here, never by the submitter: none of its
//! bios is queued, so it may wait for each span object, and a request of any length needs to be cut nowhere.

use super::part::Origin;
use super::run::hand_over;
use super::Array;
use crate::block::request::Request;
use crate::block::{context, Status};
use crate::mem::MayBlock;
use crate::raid::span::SpanKey;
use crate::sync::gate::Entry;

impl Array {
    /// Whether requests to discard are taken: members can, or the bitmap takes note.
    pub(super) fn takes_discards(&self) -> bool {
        self.settings.discards() || self.mddev.bitmap_is_lockless()
    }

    /// Of the stripes from `first` on and before `behind` those that can be discarded without any other: a lockless bitmap has
    /// one state for several, and md core says of the last one of a range that nothing there was ever written, even if the range
    /// ends in its middle. A rebuild would pass over the rest.
    fn whole_states(&self, first: u64, behind: u64) -> (u64, u64) {
        let chunk = u64::from(self.geometry.chunk_sectors());
        let each = (self.mddev.lockless_chunk() / chunk).max(1);
        let first = first.div_ceil(each).saturating_mul(each);
        if behind.saturating_mul(chunk) >= self.mddev.dev_sectors() {
            // The last state ends with the members.
            return (first, behind);
        }
        (first, behind - behind % each)
    }

    /// Does a request to discard, whose write has been counted. Sleeps.
    pub(super) fn discard(&self, entry: Entry<Array>, request: Request<'_>, may_block: &MayBlock) {
        let geometry = &self.geometry;
        let sectors = geometry.stripe_sectors();
        let end = request.sector().saturating_add(request.sectors().into());
        let (first, behind) = self.whole_states(request.sector().div_ceil(sectors), end / sectors);
        if first >= behind {
            return request.end(Status::OK);
        }
        let start = first.saturating_mul(sectors);
        // CAST: no more than the request's sectors.
        let length = behind.saturating_mul(sectors).saturating_sub(start) as u32;
        let Some(slice) = request.account_part(start, length, may_block) else {
            return;
        };
        if !self.settings.discards() {
            // The bitmap knows that nothing there matters, and that is all.
            return;
        }
        let template = self.template(&slice);
        let chunk = u64::from(geometry.chunk_sectors());
        let step = u64::from(geometry.span_sectors());
        let mut sector = first.saturating_mul(chunk);
        while sector < behind.saturating_mul(chunk) {
            let key = SpanKey {
                sector,
                generation: self.generation,
            };
            let Some((pinned, mut item)) = self.wait_reserve_span(key, may_block) else {
                return slice.fail(Status::IO_ERROR);
            };
            item.part = self.part(&template, key.sector);
            item.origin = Origin::Request(slice.clone());
            let span = pinned.span();
            if let Some(turn) = pinned.post(item, entry.clone()) {
                hand_over(span, turn);
            }
            sector = sector.saturating_add(step);
            context::cond_resched();
        }
    }
}
