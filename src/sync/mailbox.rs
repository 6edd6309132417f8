// SPDX-License-Identifier: GPL-2.0

//! How a span is told that something happened, and who runs it.
//!
//! A span is an actor: any context may *post* events to it, and exactly one *runner* at a time acts on them, with no
//! lock held. [`Mailbox`] is one word: a bit for each kind of event and the owner bit. Whoever posts to a mailbox that
//! nobody owns becomes its owner, and is responsible for getting the span run: by running it, or by handing it to a
//! lane. The duty moves with the span, the word does not change when it does.
//!
//! ```text
//! poster:  mailbox.post(events) ── false: somebody owns the span and will see the events
//!                               └─ true: run it, or queue it to a lane
//! runner:  loop { events = mailbox.take(); act; if mailbox.finish() { break } }
//! ```
//!
//! What an event is about lies elsewhere and is written before the post: parts on a [`Stack`](super::stack::Stack),
//! ended member I/O in a [`CompletionWord`] of each member. A runner that takes an event therefore sees what it is
//! about, and everything that earlier runners of the span did.
//!
//! Nothing here sleeps, allocates or takes a lock; every method may be called in any context, interrupts included.

use super::atomic::{AtomicU32, Ordering};
use core::ops::{BitOr, BitOrAssign};

/// The owner bit of a mailbox.
const OWNED: u32 = 1 << 31;

/// A set of kinds of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events(u32);

impl Events {
    /// No event.
    #[cfg_attr(MODULE, expect(dead_code, reason = "for tests"))]
    pub(crate) const NONE: Self = Self(0);
    /// Parts of requests lie on the span's stack.
    pub(crate) const PARTS: Self = Self(1 << 0);
    /// Member I/O has ended: see the members' [`CompletionWord`]s.
    pub(crate) const IO: Self = Self(1 << 1);
    /// A job that was pending has ended.
    pub(crate) const JOB: Self = Self(1 << 2);
    /// Memory that the span waited for may be free.
    pub(crate) const MEMORY: Self = Self(1 << 3);
    /// The write-intent bitmap was flushed.
    pub(crate) const BITMAP: Self = Self(1 << 4);
    /// The superblock was written.
    pub(crate) const SUPERBLOCK: Self = Self(1 << 5);
    /// What gathers has to start: the rest of a stream does not come, or the array is being quiesced.
    pub(crate) const FLUSH: Self = Self(1 << 6);
    /// A plug was released: what gathers has to start, unless it is a stream's.
    pub(crate) const UNPLUG: Self = Self(1 << 7);

    /// Whether there is no event in the set.
    #[cfg_attr(MODULE, expect(dead_code, reason = "for tests"))]
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// A bit for each event.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every event of `other` is in this set.
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Events {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The word through which a span is posted to and owned; see the module's documentation.
///
/// What one owner did before it gave the span up happens before what the next one does.
#[derive(Debug)]
pub(crate) struct Mailbox(AtomicU32);

impl Mailbox {
    /// A mailbox without events, owned by nobody.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Posts `events`. Returns whether nobody owned the span: then the caller owns it from now on, and must get it
    /// run.
    ///
    /// A caller that gets `false` must not touch the span any more unless something else keeps it: its owner may
    /// already have finished with the events.
    #[must_use = "the poster that finds nobody responsible for the span becomes so"]
    pub(crate) fn post(&self, events: Events) -> bool {
        // Release: the runner that takes the events sees what they are about. Acquire: a new owner sees what the last
        // one did.
        self.0.fetch_or(events.0 | OWNED, Ordering::AcqRel) & OWNED == 0
    }

    /// Takes ownership of a span that nobody owns and that has no event, to put it to another use.
    ///
    /// Returns whether that succeeded; then the caller is its runner until [`Self::finish`] returns true.
    #[must_use = "on success the caller owns the span"]
    pub(crate) fn claim(&self) -> bool {
        self.0
            .compare_exchange(0, OWNED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the events that were posted since the last time. Only for the span's owner, which stays its owner.
    pub(crate) fn take(&self) -> Events {
        // Acquire: what the posted events are about is seen. What this owner does is released when it finishes.
        Events(self.0.swap(OWNED, Ordering::Acquire) & !OWNED)
    }

    /// Gives the span up if nothing was posted since [`Self::take`]. Only for the span's owner.
    ///
    /// Returns true if it was given up: the caller must not touch it any more as its owner. False means that there are
    /// events: the caller still owns it and takes again, or hands it to a lane, which does.
    #[must_use = "if events arrived the caller still owns the span and must take them"]
    pub(crate) fn finish(&self) -> bool {
        // Release: what this owner did is seen by the next.
        self.0
            .compare_exchange(OWNED, 0, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

/// The strips of one member whose I/O has ended; bit `i` stands for strip `i` of the span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Strips whose I/O succeeded.
    pub(crate) ok: u16,
    /// Strips whose I/O failed, or could not be issued.
    pub(crate) failed: u16,
}

/// One member's ended I/O of a span: a bit for each strip that succeeded and one for each that failed.
///
/// Posted before [`Events::IO`], so that the runner which takes the event finds the strips.
#[derive(Debug)]
pub(crate) struct CompletionWord(AtomicU32);

impl CompletionWord {
    /// A word in which nothing has ended.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Notes that I/O of `strips` has ended, well if `ok`.
    pub(crate) fn post(&self, strips: u16, ok: bool) {
        let bits = if ok {
            u32::from(strips)
        } else {
            u32::from(strips) << 16
        };
        // Release: the runner sees what the member's I/O did to the pages.
        self.0.fetch_or(bits, Ordering::Release);
    }

    /// Takes the strips that ended since the last time. Only for the span's owner.
    pub(crate) fn take(&self) -> Ended {
        // What an event that was taken is about is here by now; mostly nothing is.
        if self.0.load(Ordering::Relaxed) == 0 {
            return Ended::default();
        }
        let bits = self.0.swap(0, Ordering::Acquire);
        Ended {
            // CAST: the low half is the strips that succeeded.
            ok: bits as u16,
            failed: (bits >> 16) as u16,
        }
    }
}

impl Default for CompletionWord {
    fn default() -> Self {
        Self::new()
    }
}
