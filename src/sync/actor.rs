// SPDX-License-Identifier: GPL-2.0

//! State that one runner at a time works on, without a lock.
//!
//! An [`Actor`] is a [`Mailbox`] and the state that its owner may touch. Owning is a value, the [`Turn`]: whoever posts
//! to an actor that nobody owns gets it, and with it exclusive access to the state until [`Turn::finish`] or
//! [`Turn::suspend`] gives it up.
//!
//! No method sleeps or takes a lock; all may be called in any context, interrupts included.

use super::atomic::{AtomicBool, Ordering};
use super::mailbox::{Events, Mailbox};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// A mailbox and the state of its owner.
///
/// # Invariants
///
/// While the mailbox is owned, either there is exactly one [`Turn`] of this actor, or `suspended` is set, or the turn
/// was forgotten (then nobody touches the state any more).
pub(crate) struct Actor<W> {
    mailbox: Mailbox,
    suspended: AtomicBool,
    work: UnsafeCell<W>,
}

// SAFETY: The state is reached only through the one turn, so sharing the actor lets it move between threads, and nothing
// else; the mailbox orders what one owner did before what the next one does.
unsafe impl<W: Send> Sync for Actor<W> {}

impl<W> Actor<W> {
    /// An actor that nobody owns.
    pub(crate) fn new(work: W) -> Self {
        Self {
            mailbox: Mailbox::new(),
            suspended: AtomicBool::new(false),
            work: UnsafeCell::new(work),
        }
    }

    /// Posts events. If nobody owned the actor the caller gets the turn, and must use it or see that it is used.
    #[must_use = "the poster that finds nobody responsible for the actor becomes so"]
    pub(crate) fn post(&self, events: Events) -> Option<Turn<'_, W>> {
        // INVARIANT: the mailbox was not owned, so there was no turn.
        self.mailbox.post(events).then(|| Turn::new(self))
    }

    /// Takes the turn of an actor that nobody owns and that has no event.
    pub(crate) fn claim(&self) -> Option<Turn<'_, W>> {
        // INVARIANT: the mailbox was not owned, so there was no turn.
        self.mailbox.claim().then(|| Turn::new(self))
    }

    /// Takes up the turn that [`Turn::suspend`] left; `None` if somebody else has, or none was left.
    pub(crate) fn resume(&self) -> Option<Turn<'_, W>> {
        // INVARIANT: only one caller sees the flag, and it was set by the turn that ended there.
        // Acquire: pairs with the release of `suspend`.
        self.suspended
            .swap(false, Ordering::AcqRel)
            .then(|| Turn::new(self))
    }
}

/// Exclusive access to the state of an [`Actor`].
///
/// A turn that is dropped leaves the actor owned for ever: end it with [`Self::finish`] or [`Self::suspend`].
#[must_use = "an actor whose turn is dropped never runs again"]
pub(crate) struct Turn<'a, W> {
    actor: &'a Actor<W>,
    // The turn may be sent and shared as a reference to the state may.
    _work: PhantomData<&'a mut W>,
}

impl<'a, W> Turn<'a, W> {
    /// Only for a caller that upholds the invariant of [`Actor`].
    fn new(actor: &'a Actor<W>) -> Self {
        Self {
            actor,
            _work: PhantomData,
        }
    }

    /// Takes the events that were posted since the last time.
    pub(crate) fn take(&mut self) -> Events {
        self.actor.mailbox.take()
    }

    /// Gives the actor up if nothing was posted since [`Self::take`].
    ///
    /// # Errors
    ///
    /// The turn comes back if there are events.
    pub(crate) fn finish(self) -> Result<(), Self> {
        if self.actor.mailbox.finish() {
            Ok(())
        } else {
            Err(self)
        }
    }

    /// Leaves the actor owned, for whoever calls [`Actor::resume`] next.
    pub(crate) fn suspend(self) {
        // INVARIANT: this turn ends here and the flag stands for it.
        // Release: the next owner sees what this one did.
        self.actor.suspended.store(true, Ordering::Release);
    }
}

impl<W> Deref for Turn<'_, W> {
    type Target = W;

    fn deref(&self) -> &W {
        // SAFETY: By the invariant of the actor this is its only turn, so nobody else touches the state.
        unsafe { &*self.actor.work.get() }
    }
}

impl<W> DerefMut for Turn<'_, W> {
    fn deref_mut(&mut self) -> &mut W {
        // SAFETY: By the invariant of the actor this is its only turn, so nobody else touches the state.
        unsafe { &mut *self.actor.work.get() }
    }
}
