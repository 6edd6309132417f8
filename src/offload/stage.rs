// SPDX-License-Identifier: GPL-2.0

//! Operations that are under way together, and who hears of their end.
//!
//! A stage has an owner until all its operations have ended; then that is told, in whatever context the last one has ended.
//! Whoever waits for it no more takes the owner away ([`Stage::abandon`]): what is still under way then ends for nobody, and
//! keeps its pages, and the module, until it does.
//!
//! Locks: the owner's, in any context, taken alone.

use super::course::{Course, Standing, Step, Sum};
use super::health::Outcome;
use super::recipe::TARGETS;
use crate::bindings;
use crate::mem::{Ask, NoWait};
use crate::new_irq_spinlock;
use crate::sync::irqlock::IrqSpinLock;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Who hears of a stage's end.
pub(crate) trait Owner: Send + Unpin + 'static {
    /// All operations have ended. Any context.
    fn ended(self);
}

/// How many stages were abandoned and are still under way, in all arrays.
static ABANDONED: AtomicU32 = AtomicU32::new(0);

/// How many stages were abandoned and are still under way, in all arrays.
pub(crate) fn abandoned() -> u32 {
    ABANDONED.load(Ordering::Relaxed)
}

/// What one channel has of a stage.
struct Share {
    /// Which channel; 0 for none.
    channel: AtomicUsize,
    /// Operations that have not ended.
    pending: AtomicU32,
    /// It has not taken one.
    refused: AtomicBool,
    /// It was not asked to take one that it was to have.
    spared: AtomicBool,
    /// One has ended with an error.
    failed: AtomicBool,
}

impl Share {
    /// Of no channel.
    const fn new() -> Self {
        Self {
            channel: AtomicUsize::new(0),
            pending: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            spared: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// What the channel has come to; `None` if that says nothing of it.
    fn outcome(&self) -> Option<Outcome> {
        if self.failed.load(Ordering::Relaxed) {
            Some(Outcome::Failed)
        } else if self.pending.load(Ordering::Relaxed) != 0 {
            Some(Outcome::Late)
        } else if self.refused.load(Ordering::Relaxed) {
            Some(Outcome::Refused)
        } else {
            // Perhaps it has done nothing at all.
            (!self.spared.load(Ordering::Relaxed)).then_some(Outcome::Well)
        }
    }
}

/// Operations that are under way together.
#[pin_data]
pub(crate) struct Stage<O: Owner> {
    /// Operations that have not ended, and one until the stage is closed.
    pending: AtomicU32,
    failed: AtomicBool,
    wrong_p: AtomicBool,
    wrong_q: AtomicBool,
    /// One for each sum; there is one channel that copies.
    shares: [Share; TARGETS],
    #[pin]
    owner: IrqSpinLock<Option<O>>,
}

impl<O: Owner> Stage<O> {
    /// A stage without operations, which is not closed. Does not sleep.
    ///
    /// # Errors
    ///
    /// There is no memory; then the owner is dropped.
    pub(crate) fn new(owner: O) -> Result<Arc<Self>> {
        let stage = pin_init!(Self {
            pending: AtomicU32::new(1),
            failed: AtomicBool::new(false),
            wrong_p: AtomicBool::new(false),
            wrong_q: AtomicBool::new(false),
            shares: [const { Share::new() }; TARGETS],
            owner <- new_irq_spinlock!(Some(owner), "raid456 offload stage"),
        });
        Arc::pin_init(stage, NoWait.flags())
    }

    /// What a channel has of it, if that is known.
    fn share(&self, channel: usize) -> Option<&Share> {
        let is_it = |share: &&Share| share.channel.load(Ordering::Relaxed) == channel;
        self.shares.iter().find(is_it)
    }

    /// One more operation, on a channel (not 0). For who has the stage and has not closed it yet.
    pub(super) fn begin(&self, channel: usize) {
        if let Some(share) = self.share(channel).or_else(|| self.share(0)) {
            share.channel.store(channel, Ordering::Relaxed);
            share.pending.fetch_add(1, Ordering::Relaxed);
        }
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// One operation less, which was not taken: the stage has failed, and is not closed yet. `asked`: by the channel, which has
    /// no room for it; not because this machine had no memory.
    pub(super) fn unbegin(&self, channel: usize, asked: bool) {
        if let Some(share) = self.share(channel) {
            let flag = if asked { &share.refused } else { &share.spared };
            flag.store(true, Ordering::Relaxed);
            share.pending.fetch_sub(1, Ordering::Relaxed);
        }
        self.failed.store(true, Ordering::Relaxed);
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// An operation has ended. Any context.
    pub(super) fn op_ended(&self, channel: usize, ok: bool, wrong: (bool, bool)) {
        if !ok {
            self.failed.store(true, Ordering::Relaxed);
        }
        if let Some(share) = self.share(channel) {
            share.failed.fetch_or(!ok, Ordering::Relaxed);
            share.pending.fetch_sub(1, Ordering::Relaxed);
        }
        for (flag, is) in [(&self.wrong_p, wrong.0), (&self.wrong_q, wrong.1)] {
            if is {
                flag.store(true, Ordering::Relaxed);
            }
        }
        self.one_less();
    }

    /// Nothing more is added: the owner hears of it when all has ended, which may be at once.
    pub(crate) fn close(&self) {
        self.one_less();
    }

    /// Begins what comes next of a course, and closes the stage; it has failed if not all of that can be begun. As for
    /// [`Course::begin`], `submit` begins an operation of each sum.
    pub(crate) fn begin_next(
        &self,
        course: &mut Course,
        submit: impl FnMut(usize, &Sum) -> Option<Step>,
    ) {
        if !course.begin(submit) {
            self.fail();
        }
        self.close();
    }

    fn one_less(&self) {
        // Release: whoever sees that all has ended sees what it did. Acquire: so does the last.
        if self.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let owner = self.owner.lock().take();
        match owner {
            Some(owner) => owner.ended(),
            None => {
                ABANDONED.fetch_sub(1, Ordering::Relaxed);
                // SAFETY: It was held when the stage was abandoned.
                unsafe { bindings::raid456_module_release() };
            }
        }
    }

    /// Whether all has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    /// How it stands; if it has had its time (`late`) and has not ended, it is abandoned.
    pub(crate) fn stand(&self, late: bool) -> Standing {
        if !self.has_ended() {
            // If it ends just now, its owner is told.
            return if late && self.abandon() {
                Standing::Late
            } else {
                Standing::Pending
            };
        }
        if self.has_failed() {
            Standing::Failed
        } else if self.differs() {
            Standing::Differs
        } else {
            Standing::Well
        }
    }

    /// Has nobody told of the end. Returns false, and does nothing, if it has ended.
    pub(crate) fn abandon(&self) -> bool {
        let mut owner = self.owner.lock();
        if self.has_ended() {
            return false;
        }
        let taken = owner.take();
        // SAFETY: The module is in use: we run.
        unsafe { bindings::raid456_module_hold() };
        ABANDONED.fetch_add(1, Ordering::Relaxed);
        drop(owner);
        drop(taken);
        true
    }

    /// Says that something could not be begun.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether some operation has failed. Of use when all has ended, as what follows.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether P or Q differ from what was compared with them.
    pub(crate) fn differs(&self) -> bool {
        self.wrong_p.load(Ordering::Relaxed) || self.wrong_q.load(Ordering::Relaxed)
    }

    /// The channels that have a part in it, and what each has come to: of those that have not ended when the stage was
    /// abandoned, that they are late. Not those for which there was no memory.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (usize, Outcome)> + '_ {
        let shares = self.shares.iter();
        shares.filter_map(|share| {
            let channel = share.channel.load(Ordering::Relaxed);
            let outcome = share.outcome().filter(|_| channel != 0)?;
            Some((channel, outcome))
        })
    }
}
