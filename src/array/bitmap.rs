// SPDX-License-Identifier: GPL-2.0

//! The write-intent bitmap: who waits for its bits to be durable, and the thread that makes them so.
//!
//! md core's flush tests and clears what is dirty and waits only for what it wrote itself, so one thread does it: the second
//! of two would return before the first one's write is durable. It is a thread of its own: the array's thread also writes
//! the superblock, and it clears bits (see [`durable`](super::durable)) whenever it is woken.

use super::counters::{Event, Work};
use super::durable::Durable;
use super::flushes::Flushes;
use super::lanes::Lanes;
use super::object::SpanObject;
use super::queue::{IndexStack, Pushed};
use super::table::Slab;
use super::{control, Array};
use crate::md::mddev::{BitmapKind, Handle, Locked, Mddev, Recovery};
use crate::md::thread::{self, Thread};
use crate::md::trace::{self, Reason};
use crate::mem::{Ask, Setup};
use crate::raid::geometry::Geometry;
use crate::sync::atomic::AtomicU64;
use crate::sync::mailbox::Events;
use core::sync::atomic::{fence, AtomicUsize, Ordering};
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::{Arc, Mutex, SetOnce};

/// Chunks that are remembered to be durable: all of a member of 1 TiB, with the chunks of 64 MiB that mdadm makes.
const REMEMBERED: usize = 1 << 14;

/// Flushes of an array's bitmap, and those who wait for them.
#[pin_data]
pub(super) struct Bitmap {
    flushes: Flushes,
    durable: Durable<KVVec<AtomicU64>>,
    /// Which bitmap `durable` is about.
    of: AtomicUsize,
    /// Spans that wait for a flush.
    waiting: IndexStack,
    /// How often the bitmap was flushed.
    count: AtomicU64,
    /// Held while md core's bitmap is flushed.
    #[pin]
    flushing: Mutex<()>,
}

impl Bitmap {
    /// Nobody waits, and nothing is known. May sleep.
    pub(super) fn new(setup: &Setup) -> impl PinInit<Self, Error> + '_ {
        let slots = move || -> Result<KVVec<AtomicU64>> {
            let mut slots = KVVec::with_capacity(REMEMBERED, setup.flags())?;
            for _ in 0..REMEMBERED {
                slots.push(AtomicU64::new(0), setup.flags())?;
            }
            Ok(slots)
        };
        try_pin_init!(Self {
            flushes: Flushes::new(),
            durable: Durable::new(slots()?),
            of: AtomicUsize::new(0),
            waiting: IndexStack::new(),
            count: AtomicU64::new(0),
            flushing <- new_mutex!((), "raid456 bitmap"),
        }? Error)
    }

    /// Whether flush number `seq` has ended. Any context.
    pub(super) fn is_flushed(&self, seq: u32) -> bool {
        self.flushes.is_flushed(seq)
    }

    /// How often the bitmap was flushed. Any context.
    pub(super) fn flush_count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// md core's housekeeping, which may clear bits. Sleeps; for the array's thread only.
    pub(super) fn housekeeping(&self, mddev: &Mddev) {
        let clearing = self.durable.begin_clearing();
        let alone = !mddev.is_locked();
        mddev.check_recovery();
        self.durable.end_clearing(clearing, alone);
    }

    /// For quiesce, when no write is under way: waits for the end of a flush that was asked for by writes that have failed
    /// since, so that the bitmap may go, and forgets what it knew. Who has the array's mutex may clear bits after that: when a machine
    /// goes down md core does, and lets writes go on. Sleeps.
    pub(super) fn settle(&self) {
        let _flushing = self.flushing.lock();
        if let Some(seq) = self.flushes.start() {
            self.flushes.end(seq);
        }
        self.durable.distrust();
    }

    /// Makes all bits durable that are set. Sleeps, for I/O alone, and so for nobody who waits for memory or for a write.
    pub(super) fn flush_all(&self, locked: &Locked<'_>) {
        // A flush that is under way has what it writes in its care: it is waited for.
        let _flushing = self.flushing.lock();
        locked.bitmap_flush();
    }

    /// Flushes the bitmap if somebody wants it. Returns whether that was so. Sleeps.
    fn flush(&self, mddev: &Mddev) -> bool {
        let _flushing = self.flushing.lock();
        let Some(seq) = self.flushes.start() else {
            return false;
        };
        self.count.fetch_add(1, Ordering::Relaxed);
        mddev.bitmap_unplug();
        self.flushes.end(seq);
        true
    }

    /// The one chunk of the bitmap that array sectors from `offset` to `end` are in, if its bit, once durable, stays so until
    /// the next housekeeping.
    fn chunk(&self, mddev: &Mddev, geometry: &Geometry, offset: u64, end: u64) -> Option<u64> {
        let BitmapKind::Classic { identity, shift } = mddev.bitmap_kind() else {
            return None;
        };
        if mddev.degraded() > 0 || mddev.test_recovery(Recovery::Recover) {
            // A member that has come lacks all bits until a flush after that.
            return None;
        }
        // Acquire: who finds that it is about this bitmap finds what was known of another one forgotten.
        if self.of.load(Ordering::Acquire) != identity {
            self.durable.forget();
            self.of.store(identity, Ordering::Release);
        }
        let range = geometry.bitmap_range(offset, end.saturating_sub(offset));
        let first = range.start.checked_shr(shift)?;
        let last = range.end.saturating_sub(1).checked_shr(shift)?;
        (first == last).then_some(first)
    }
}

/// What the thread works on.
pub(super) struct Flusher {
    bitmap: Arc<Bitmap>,
    mddev: Handle,
    slab: Arc<Slab>,
    lanes: Arc<Lanes>,
}

impl thread::Work for Flusher {
    fn run(&self) {
        while self.bitmap.flush(&self.mddev) {
            control::wake(
                &self.slab,
                &self.lanes,
                &self.bitmap.waiting,
                |span| &span.for_bitmap,
                Events::BITMAP,
            );
        }
    }
}

/// The thread, when it was started.
pub(super) type FlushThread = SetOnce<Thread<Flusher>>;

impl Array {
    /// Starts the thread. Sleeps.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub(super) fn start_flushing(&self, setup: &Setup) -> Result {
        let flusher = Arc::new(
            Flusher {
                bitmap: self.bitmap.clone(),
                mddev: self.mddev.clone(),
                slab: self.table.slab().clone(),
                lanes: self.lanes.clone(),
            },
            setup.flags(),
        )?;
        let thread = Thread::start(self.mddev.clone(), c"bitmap", flusher)?;
        self.flusher.populate(thread);
        Ok(())
    }

    /// Ends the thread. Nobody may wait for a flush any more. Sleeps.
    pub(super) fn stop_flushing(&self, locked: &Locked<'_>) {
        if let Some(thread) = self.flusher.as_ref() {
            thread.stop(locked);
        }
    }

    /// The flush that a write from array sector `start` to `end` has to wait for, whose bits have just been set; `None` if
    /// they are durable. Any context.
    pub(super) fn bitmap_ticket(&self, start: u64, end: u64) -> Option<u32> {
        if !self.mddev.bitmap_enabled() {
            return None;
        }
        let bitmap = &*self.bitmap;
        let chunk = bitmap.chunk(&self.mddev, &self.geometry, start, end);
        if chunk.is_some_and(|chunk| bitmap.durable.knows(chunk)) {
            self.counters.add(Event::BitmapKnown);
            return None;
        }
        let (seq, wake) = bitmap.flushes.ticket();
        if wake {
            if let Some(thread) = self.flusher.as_ref() {
                thread.wake();
            }
        }
        Some(seq)
    }

    /// Takes note that a write from array sector `start` to `end`, which has waited for flush number `seq` and is about to
    /// end, has found its bits durable. Any context.
    pub(super) fn bitmap_written(&self, start: u64, end: u64, seq: u32) {
        let bitmap = &*self.bitmap;
        if !bitmap.is_flushed(seq) {
            return;
        }
        if let Some(chunk) = bitmap.chunk(&self.mddev, &self.geometry, start, end) {
            bitmap.durable.learn(chunk);
        }
    }

    /// Puts a span among those that wait for a flush of the bitmap. Returns whether that is needless: it has ended. The
    /// span's runner still owns it.
    pub(super) fn wait_for_bitmap(&self, span: &SpanObject, seq: u32) -> bool {
        if self.bitmap.waiting.push(span.index, &span.for_bitmap) != Pushed::Already {
            span.counts.add(Work::ParksBitmap, 1);
            trace::span_park(&self.mddev, span.sector(), Reason::Bitmap);
        }
        fence(Ordering::SeqCst);
        self.bitmap.is_flushed(seq)
    }
}
