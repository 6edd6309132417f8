// SPDX-License-Identifier: GPL-2.0

//! How many kits there are, how many there should be, and how few there may be.
//!
//! What is counted exists: a kit is counted when it has been made, and freed when it is not counted any more. So however
//! many make some at a time, in vain, while memory is short, and have others given back meanwhile, the kits that an array
//! keeps for ever are there.

use crate::sync::atomic::{AtomicU32, Ordering};

/// The numbers of an array's kits.
#[derive(Debug)]
pub(crate) struct Stock {
    /// How many are kept for ever, and the most that there may be.
    kept: u32,
    most: u32,
    /// How many exist, and how many there should be.
    total: AtomicU32,
    target: AtomicU32,
}

impl Stock {
    /// No kits.
    pub(crate) fn new(kept: u32, most: u32) -> Self {
        Self {
            kept,
            most,
            total: AtomicU32::new(0),
            target: AtomicU32::new(0),
        }
    }

    /// How many exist.
    pub(crate) fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many there should be.
    pub(crate) fn target(&self) -> u32 {
        self.target.load(Ordering::Relaxed)
    }

    /// The same, as far as there may be so many.
    pub(crate) fn wanted(&self) -> u32 {
        self.target().min(self.most)
    }

    /// How many the array can do without.
    pub(crate) fn spare(&self) -> u32 {
        self.total().saturating_sub(self.kept)
    }

    /// Changes how many there should be.
    pub(crate) fn aim(&self, target: u32) {
        self.target.store(target, Ordering::Relaxed);
    }

    /// Makes one, if there should be more, and counts it. It goes again if there are enough by then.
    pub(crate) fn add<T>(&self, make: impl FnOnce() -> Option<T>) -> Option<T> {
        if self.total() >= self.wanted() {
            return None;
        }
        let made = make()?;
        let lacks = |total: u32| (total < self.wanted()).then(|| total + 1);
        self.change(lacks).then_some(made)
    }

    /// Makes what is missing, counts it, and puts it away. Returns false if one could not be made.
    ///
    /// No more than was missing to begin with: who makes one may get the memory for it by having others given back, those that he
    /// has just made, and where there is too little for all that would have no end.
    pub(crate) fn fill<T>(
        &self,
        mut make: impl FnMut() -> Option<T>,
        mut put: impl FnMut(T),
    ) -> bool {
        let missing = self.wanted().saturating_sub(self.total());
        for _ in 0..missing {
            if self.total() >= self.wanted() {
                // Others have made some.
                break;
            }
            let Some(made) = make() else {
                return false;
            };
            self.total.fetch_add(1, Ordering::Relaxed);
            put(made);
        }
        true
    }

    /// Counts one less, which the caller has and then frees, if the array can do without it. Returns whether it is so.
    #[must_use = "what is not to go must be put back"]
    pub(crate) fn may_go(&self) -> bool {
        self.change(|total| (total > self.kept).then(|| total - 1))
    }

    /// The same, if there are more than there should be.
    #[must_use = "what is not to go must be put back"]
    pub(crate) fn is_surplus(&self) -> bool {
        // Seldom: nobody else's cache is troubled for the answer.
        self.total() > self.wanted()
            && self.change(|total| (total > self.wanted()).then(|| total - 1))
    }

    fn change(&self, to: impl FnMut(u32) -> Option<u32>) -> bool {
        let changed = self
            .total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, to);
        changed.is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A pool of kits that are not told apart, and their numbers.
    struct Pool {
        stock: Stock,
        free: Cell<u32>,
    }

    impl Pool {
        fn full(kept: u32, count: u32) -> Self {
            let stock = Stock::new(kept, u32::MAX);
            stock.aim(count);
            while stock.add(|| Some(())).is_some() {}
            Self {
                stock,
                free: Cell::new(count),
            }
        }

        /// As the kernel asks for memory.
        fn shrink(&self) {
            while self.free.get() > 0 {
                self.free.set(self.free.get() - 1);
                if !self.stock.may_go() {
                    self.free.set(self.free.get() + 1);
                    return;
                }
            }
        }

        /// So many make one each at the same time, in vain; memory is asked for when all are at it.
        fn make_in_vain(&self, makers: u32) {
            let made = self.stock.add(|| -> Option<()> {
                if makers > 1 {
                    self.make_in_vain(makers - 1);
                } else {
                    self.shrink();
                }
                None
            });
            assert!(made.is_none());
        }
    }

    #[test]
    fn what_is_kept_is_there_whoever_tries_to_make_more() {
        for makers in [1, 2, 17, 40] {
            let pool = Pool::full(17, 64);
            pool.shrink();
            assert_eq!((pool.free.get(), pool.stock.total()), (17, 17));
            pool.make_in_vain(makers);
            assert_eq!(
                (pool.free.get(), pool.stock.total()),
                (17, 17),
                "{makers} at a time"
            );
        }
    }

    #[test]
    fn what_is_given_back_meanwhile_is_not_made_again() {
        const ROOM: u32 = 100;

        let pool = Pool::full(17, 64);
        pool.stock.aim(1000);
        let tries = Cell::new(0);
        let make = || {
            tries.set(tries.get() + 1);
            assert!(tries.get() <= 1000, "there is no end");
            if pool.stock.total() >= ROOM {
                pool.shrink();
            }
            Some(())
        };
        let put = |()| pool.free.set(pool.free.get() + 1);
        assert!(pool.stock.fill(make, put));
        assert_eq!(tries.get(), 1000 - 64, "as many as were missing");
        assert!((17..=ROOM).contains(&pool.stock.total()));
        assert_eq!(pool.free.get(), pool.stock.total());
        // What is missing still is made when there is memory, and who finds none says so.
        let left = pool.stock.total();
        assert!(!pool.stock.fill(|| None, put));
        assert!(pool.stock.fill(|| Some(()), put));
        assert!(left < 1000 && pool.stock.total() == 1000);
        assert!(pool.stock.fill(|| None, put), "nothing is missing");
    }

    #[test]
    fn no_more_are_made_than_there_should_be() {
        let pool = Pool::full(17, 64);
        pool.shrink();
        pool.stock.aim(18);
        // Who makes the last one finds that somebody was faster.
        let made = pool.stock.add(|| {
            assert!(pool.stock.add(|| Some(())).is_some());
            Some(())
        });
        assert!(made.is_none());
        assert_eq!(pool.stock.total(), 18);
        assert!(!pool.stock.is_surplus());
        pool.stock.aim(17);
        assert!(pool.stock.is_surplus() && !pool.stock.is_surplus());
    }

    #[test]
    fn least_has_one() {
        let stock = Stock::new(1, 1);
        stock.aim(256);
        assert_eq!((stock.target(), stock.wanted()), (256, 1));
        assert!(stock.add(|| Some(())).is_some());
        assert!(stock.add(|| Some(())).is_none());
        assert!(!stock.may_go() && stock.spare() == 0);
    }
}
