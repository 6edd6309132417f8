// SPDX-License-Identifier: GPL-2.0

//! Counting those inside something, without a place in memory that all CPUs write.
//!
//! Each CPU has a [`Slot`] where it counts who enters and who leaves; one may leave on another CPU than one entered on.
//! Nobody is inside if both sums are equal, and the order in which they are taken makes sure of it: those who left first.
//! Whatever comes and goes meanwhile, as many had entered by the time between the two sums as had left by then.
//!
//! Why not the kernel's percpu_ref: where its counts are not one instruction (user-mode Linux, most CPUs but x86 and arm64)
//! it turns interrupts off twice for each user, and it is closed only after an RCU grace period.

use super::atomic::{between, AtomicBool, AtomicU32, Ordering};
use core::ops::Deref;

/// One CPU's counts. They wrap, as their sums do.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Slot {
    entered: AtomicU32,
    left: AtomicU32,
}

impl Slot {
    /// Nobody has come or gone.
    pub(crate) fn new() -> Self {
        Self {
            entered: AtomicU32::new(0),
            left: AtomicU32::new(0),
        }
    }
}

/// Counts of those inside, which can be closed to new ones. All methods may be called in any context.
///
/// A `cpu` is a hint: which slot is counted in makes no difference but to the speed.
#[derive(Debug)]
pub(crate) struct Tally<S> {
    slots: S,
    closed: AtomicBool,
}

impl<S: Deref<Target = [Slot]>> Tally<S> {
    /// An open tally with nobody inside. Nobody gets in if there is no slot.
    pub(crate) fn new(slots: S) -> Self {
        Self {
            slots,
            closed: AtomicBool::new(false),
        }
    }

    /// Enters, unless it is closed.
    ///
    /// # Errors
    ///
    /// It is closed: those who wait until nobody is inside are to look again.
    pub(crate) fn enter(&self, cpu: usize) -> Result<(), Closed> {
        let slot = self.slot(cpu).ok_or(Closed)?;
        slot.entered.fetch_add(1, Ordering::SeqCst);
        between();
        // Either we see that it was closed, or who closed it sees us.
        if self.closed.load(Ordering::SeqCst) {
            slot.left.fetch_add(1, Ordering::SeqCst);
            return Err(Closed);
        }
        Ok(())
    }

    /// Counts one more on behalf of somebody who is inside, whether it is closed or not.
    pub(crate) fn add(&self, cpu: usize) {
        if let Some(slot) = self.slot(cpu) {
            // Release: a sum of those who left that has our friend in it comes before a sum that has us too.
            slot.entered.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Leaves. Returns whether it is closed: then those who wait until nobody is inside are to look again.
    #[must_use = "somebody may wait"]
    pub(crate) fn leave(&self, cpu: usize) -> bool {
        if let Some(slot) = self.slot(cpu) {
            // Release, too: who finds nobody inside sees what was done there.
            slot.left.fetch_add(1, Ordering::SeqCst);
        }
        between();
        self.closed.load(Ordering::SeqCst)
    }

    /// Closes it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        between();
    }

    /// Opens it again.
    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Whether it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Whether nobody is inside; that stays so as long as it is closed.
    pub(crate) fn is_empty(&self) -> bool {
        let sum = |count: fn(&Slot) -> &AtomicU32| {
            let counts = self.slots.iter().map(count);
            counts.fold(0u32, |sum, n| sum.wrapping_add(n.load(Ordering::SeqCst)))
        };
        let left = sum(|slot| &slot.left);
        between();
        left == sum(|slot| &slot.entered)
    }

    fn slot(&self, cpu: usize) -> Option<&Slot> {
        self.slots.get(cpu).or_else(|| self.slots.first())
    }
}

/// Nobody may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;
