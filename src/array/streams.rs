// SPDX-License-Identifier: GPL-2.0

//! Streams: who writes on and on has the stripe that he is in held until it is full.
//!
//! A plug holds back what a submitter sends at once; what it holds is nobody else's business until it is released. Where a
//! stripe is wider than that, each stripe would start with what is there of it, and read what is about to be written. So a task
//! that has written a stripe and more in sequence is taken to go on: what it has written of its last stripe waits, until the
//! rest has come or until nothing has come for a while. How long that is depends on whether other spans are at work, for the
//! task may be waiting for those. Nothing is held for more than half a second, whatever comes. A task that was waited for in
//! vain (it waits itself for what was held) is not believed again for some stripes, each time for more of them. A stripe that it
//! has left waits no longer for what it writes elsewhere, another file perhaps, than if it wrote nothing: somebody may wait for
//! that stripe.
//!
//! Where a task's writes take long, and it has several under way, it answers the end of some with as many others at once. What
//! comes then had better go out together, so it is held for a small part of what they took, also of who is not believed.
//!
//! What is held is noted in a list, and a thread looks at that while there is something on it. No memory is needed to end
//! a wait.

use super::counters::Work as Count;
use super::lanes::Lanes;
use super::object::SpanObject;
use super::queue::{IndexStack, Pushed};
use super::sequence::{Outlook, Sequence};
use super::table::Slab;
use super::Array;
use crate::block::request::Slice;
use crate::md::mddev::Locked;
use crate::md::thread::{self, Thread};
use crate::mem::{Ask, Setup};
use crate::raid::geometry::Geometry;
use crate::raid::part::{Part, PartKind};
use crate::raid::strips::STRIP_SECTORS;
use crate::sync::mailbox::Events;
use core::sync::atomic::{fence, Ordering};
use kernel::prelude::*;
use kernel::sync::{Arc, SetOnce};
use kernel::time::{delay::fsleep, Delta, Instant, Monotonic};

/// Tasks that are told apart. Two that share a place are not seen to write in sequence while both do.
const PLACES: usize = 16;

/// How often the thread looks.
const TICK: Delta = Delta::from_micros(500);

/// Of a span: it is not held for a stream.
pub(super) const NO_STREAM: u32 = u32::MAX;

/// The task that writes a slice, if it writes in sequence.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    /// Its place.
    pub(super) place: u32,
    /// What is to be expected of it.
    pub(super) outlook: Outlook,
}

/// The streams of an array, and the spans that are held for them.
pub(super) struct Streams {
    geometry: Geometry,
    tasks: KVec<Sequence>,
    held: IndexStack,
    since: Instant<Monotonic>,
}

impl Streams {
    /// No streams, of an array with this geometry. May sleep.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub(super) fn new(geometry: Geometry, setup: &Setup) -> Result<Self> {
        let mut tasks = KVec::with_capacity(PLACES, setup.flags())?;
        for _ in 0..PLACES {
            tasks.push(Sequence::new(), setup.flags())?;
        }
        Ok(Self {
            geometry,
            tasks,
            held: IndexStack::new(),
            since: Instant::now(),
        })
    }

    /// Nanoseconds since the array began.
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(0)
    }

    /// A part of a stream is about to be posted.
    pub(super) fn begin(&self, place: u32) {
        if let Some(task) = self.tasks.get(place as usize) {
            task.begin();
        }
    }

    /// A part of a stream ends that came at the time `came`.
    pub(super) fn end(&self, place: u32, came: u64) {
        if let Some(task) = self.tasks.get(place as usize) {
            task.end(came, self.now());
        }
    }

    /// Sees whether the rest of a span is likely to come soon.
    fn is_expected(&self, span: &SpanObject, others_work: impl FnMut() -> bool) -> bool {
        let place = span.stream.load(Ordering::Relaxed);
        let Some(task) = self.tasks.get(place as usize) else {
            return false;
        };
        let geometry = &self.geometry;
        let Some(start) = geometry.stripe_start(geometry.stripe_of(span.sector())) else {
            return false;
        };
        let stripe = start..geometry.stripe_end(start);
        task.is_expected(&stripe, &span.wait, self.now(), others_work)
    }
}

/// What the thread works on.
pub(super) struct Watch {
    streams: Arc<Streams>,
    slab: Arc<Slab>,
    lanes: Arc<Lanes>,
}

impl Watch {
    /// Looks at all spans that are held, and lets those start for which nothing comes. Returns whether some are held still.
    fn look(&self) -> bool {
        let streams = &*self.streams;
        let link = |index| {
            self.slab
                .get(index)
                .map(|span: &Arc<SpanObject>| &span.held)
        };
        let mut others = None;
        let mut some = false;
        for index in streams.held.take_all(link) {
            let Some(span) = self.slab.get(index) else {
                continue;
            };
            // Pairs with that of `watch_held`: either the span's new stream is seen here, or it is found off the list there.
            fence(Ordering::SeqCst);
            if span.stream.load(Ordering::Relaxed) == NO_STREAM {
                continue;
            }
            let others_work = || *others.get_or_insert_with(|| others_work(&self.slab));
            if streams.is_expected(span, others_work) {
                let _ = streams.held.push(index, &span.held);
                some = true;
            } else {
                self.lanes.post(&self.slab, index, Events::FLUSH);
            }
        }
        some
    }
}

impl thread::Work for Watch {
    fn run(&self) {
        while self.look() {
            fsleep(TICK);
        }
    }
}

/// The thread, when it was started.
pub(super) type WatchThread = SetOnce<Thread<Watch>>;

/// Whether spans are at work that wait neither for a stream nor for kits, which those may have that are held: when they end,
/// who waits for them may go on.
fn others_work(slab: &Slab) -> bool {
    let waits =
        |span: &SpanObject| span.stream.load(Ordering::Relaxed) != NO_STREAM || span.is_deferred();
    slab.active().any(|span| !waits(span))
}

impl Array {
    /// Starts the thread. Sleeps.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub(super) fn start_watching(&self, setup: &Setup) -> Result {
        let watch = Arc::new(
            Watch {
                streams: self.streams.clone(),
                slab: self.table.slab().clone(),
                lanes: self.lanes.clone(),
            },
            setup.flags(),
        )?;
        let thread = Thread::start(self.mddev.clone(), c"stream", watch)?;
        self.watch.populate(thread);
        Ok(())
    }

    /// Ends the thread. No span may be at work any more. Sleeps.
    pub(super) fn stop_watching(&self, locked: &Locked<'_>) {
        if let Some(thread) = self.watch.as_ref() {
            thread.stop(locked);
        }
    }

    /// The task that writes a slice, if what the slice leaves of its last stripe is likely to come.
    pub(super) fn stream_of(&self, slice: &Slice) -> Option<Stream> {
        // CAST: a hash.
        let place = current!().pid() as u32 % PLACES as u32;
        let task = self.streams.tasks.get(place as usize)?;
        let stripe = self.geometry.stripe_sectors();
        let now = || self.streams.now();
        let outlook = task.goes_on(slice.sector(), slice.end_sector(), stripe, now)?;
        // A stripe that is held, or kept for what is to come, must leave memory for those that work.
        let strips = self.geometry.chunk_sectors() / STRIP_SECTORS;
        (strips <= self.kits.total() / 2).then_some(Stream { place, outlook })
    }

    /// Whether a part that a stream has written is to be held: it does not reach the end of its stripe, and nobody waits for
    /// it to be durable.
    pub(super) fn leaves_rest(&self, part: &Part) -> bool {
        let stripe = self.geometry.stripe_sectors();
        part.kind == PartKind::Write
            && !part.fua
            && part.end.checked_rem(stripe).is_some_and(|rest| rest != 0)
    }

    /// Sees that a span is looked after that waits for the rest of `stream`, and not any more if that is `None`. For its
    /// runner.
    pub(super) fn watch_held(&self, span: &SpanObject, stream: Option<u32>) {
        let stream = stream.unwrap_or(NO_STREAM);
        let before = span.stream.load(Ordering::Relaxed);
        if before != stream {
            if before == NO_STREAM {
                span.wait.begin(self.streams.now());
            }
            span.stream.store(stream, Ordering::Relaxed);
        }
        if stream == NO_STREAM {
            return;
        }
        // Pairs with that of `look`, which may be about to leave out a span that it has taken from the list.
        fence(Ordering::SeqCst);
        let pushed = self.streams.held.push(span.index, &span.held);
        if pushed != Pushed::Already {
            span.counts.add(Count::StreamHolds, 1);
        }
        if pushed == Pushed::First {
            if let Some(thread) = self.watch.as_ref() {
                thread.wake();
            }
        }
    }
}
