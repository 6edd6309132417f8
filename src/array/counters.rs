// SPDX-License-Identifier: GPL-2.0

//! Counters of what an array does, always on, and the file in sysfs that shows them.
//!
//! Most are counted where a span is worked on. A span has its own counts, which its runner alone changes: that is an
//! ordinary addition to memory that the runner has at hand. What is counted elsewhere is counted for each CPU. Whoever wants
//! to know adds all of them up. They only grow, and start at 0 with the array; Documentation/tuning.md tells what they mean.

use super::Array;
use crate::block::context::{cpus, current_cpu};
use crate::md::sysfs::{Attribute, Text};
use crate::mem::{Ask, Setup};
use crate::raid::count::Count;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::prelude::*;

/// Defines an enumeration of counters and their names.
macro_rules! counters {
    ($(#[$doc:meta])* $kind:ident { $($(#[$of:meta])* $counter:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $kind {
            $($(#[$of])* $counter,)+
        }

        impl $kind {
            /// The names, in the order of the numbers.
            const NAMES: &'static [&'static str] = &[$($name),+];
        }
    };
}

counters! {
    /// What the runner of a span counts.
    Work {
        /// Parts of requests and of syncs that spans took in.
        Parts = "parts",
        /// See [`Count::PartsJoined`].
        PartsJoined = "parts_joined",
        /// See [`Count::PartsWaited`].
        PartsWaited = "parts_waited",
        /// See [`Count::StripsFull`].
        StripsFull = "strips_full",
        /// See [`Count::StripsRmw`].
        StripsRmw = "strips_rmw",
        /// See [`Count::StripsRcw`].
        StripsRcw = "strips_rcw",
        /// See [`Count::StripsDataOnly`].
        StripsDataOnly = "strips_data_only",
        /// See [`Count::CacheHits`].
        CacheHits = "cache_hits",
        /// See [`Count::CacheMisses`].
        CacheMisses = "cache_misses",
        /// Bios that read from members; not those of direct reads.
        MemberReads = "member_reads",
        /// Their sectors.
        MemberReadSectors = "member_read_sectors",
        /// Bios that wrote to members.
        MemberWrites = "member_writes",
        /// Their sectors.
        MemberWriteSectors = "member_write_sectors",
        /// Jobs that a CPU did at once.
        JobsCpu = "jobs_cpu",
        /// Jobs that DMA engines were given.
        JobsDma = "jobs_dma",
        /// Times that a span was run by whoever had something for it: a submitter, a member's completion, the sync thread.
        RunsInline = "runs_inline",
        /// Times that a span was run by a lane.
        RunsLane = "runs_lane",
        /// Times that a span began to wait for the rest of a stream's stripe.
        StreamHolds = "stream_holds",
        /// Times that a span began to wait for a strip's pages.
        ParksMemory = "parks_memory",
        /// Times that a span began to wait for the superblock.
        ParksSuperblock = "parks_superblock",
        /// Times that a span began to wait for a flush of the write-intent bitmap.
        ParksBitmap = "parks_bitmap",
    }
}

counters! {
    /// What is counted for each CPU.
    Event {
        /// Reads that went to a member without a span.
        DirectReads = "direct_reads",
        /// Of those, the ones that the member could not answer.
        DirectReadsFailed = "direct_reads_failed",
        /// Times that a request had to go on in pieces, because there were not enough spans for all of it at once.
        RequestsCut = "requests_cut",
        /// Writes that the array's own thread brought to spans, after a flush.
        RequestsLeft = "requests_left",
        /// Requests that asked for the members' caches to be flushed.
        Flushes = "flushes",
        /// Writes that waited for no flush of the write-intent bitmap, as their bits were known to be durable.
        BitmapKnown = "bitmap_known",
    }
}

const WORK: usize = Work::NAMES.len();
const EVENTS: usize = Event::NAMES.len();

impl From<Count> for Work {
    fn from(count: Count) -> Self {
        match count {
            Count::PartsJoined => Self::PartsJoined,
            Count::PartsWaited => Self::PartsWaited,
            Count::StripsFull => Self::StripsFull,
            Count::StripsRmw => Self::StripsRmw,
            Count::StripsRcw => Self::StripsRcw,
            Count::StripsDataOnly => Self::StripsDataOnly,
            Count::CacheHits => Self::CacheHits,
            Count::CacheMisses => Self::CacheMisses,
        }
    }
}

/// The counts of a span object.
pub(super) struct SpanCounts([AtomicU64; WORK]);

impl SpanCounts {
    /// Nothing was counted.
    pub(super) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORK])
    }

    /// Counts `n` more. Only for whoever has the span's turn: what two count at once may be lost.
    pub(super) fn add(&self, what: Work, n: u32) {
        // CAST: the number of a variant.
        if let Some(count) = self.0.get(what as usize) {
            let before = count.load(Ordering::Relaxed);
            count.store(before.wrapping_add(n.into()), Ordering::Relaxed);
        }
    }
}

/// One CPU's counts.
#[repr(align(64))]
struct Slot([AtomicU64; EVENTS]);

/// The counts of an array that are no span's.
pub(super) struct Counters(KVec<Slot>);

impl Counters {
    /// Nothing was counted. May sleep.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(super) fn new(setup: &Setup) -> Result<Self> {
        let mut slots = KVec::with_capacity(cpus() as usize, setup.flags())?;
        for _ in 0..cpus() {
            let slot = Slot([const { AtomicU64::new(0) }; EVENTS]);
            slots.push(slot, setup.flags())?;
        }
        Ok(Self(slots))
    }

    /// Counts one more. Any context.
    pub(super) fn add(&self, what: Event) {
        let slot = self.0.get(current_cpu() as usize);
        // CAST: the number of a variant.
        if let Some(count) = slot.and_then(|slot| slot.0.get(what as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Adds counts up.
fn sum<'a, const N: usize>(all: impl Iterator<Item = &'a [AtomicU64; N]>) -> [u64; N] {
    all.fold([0; N], |mut sums, counts| {
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
        }
        sums
    })
}

/// counters: a line with name and value of each. What is counted meanwhile may be in some of them and not yet in others.
pub(super) struct CountersFile;

impl Attribute for CountersFile {
    type Of = Array;
    const NAME: &'static CStr = c"counters";

    fn show(array: &Array, text: &mut Text<'_>) -> fmt::Result {
        let events = sum(array.counters.0.iter().map(|slot| &slot.0));
        let spans = (0..array.table.len()).filter_map(|index| array.table.slab().get(index));
        let work = sum(spans.map(|span| &span.counts.0));
        let events = Event::NAMES.iter().zip(events);
        let work = Work::NAMES.iter().zip(work);
        for (name, value) in Iterator::chain(events, work) {
            writeln!(text, "{name} {value}")?;
        }
        writeln!(text, "lane_wakeups {}", array.lanes.wakeups())?;
        writeln!(text, "bitmap_flushes {}", array.bitmap.flush_count())
    }
}
