// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel of what plugs hold.

#[kernel::macros::kunit_tests(raid456_plug)]
mod tests {
    use crate::block::plug::{self, Plugged, CAPACITY};
    use core::ops::Range;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use kernel::prelude::*;
    use kernel::sync::{new_spinlock, Arc, SpinLock};
    use kernel::time::delay::fsleep;
    use kernel::time::Delta;

    /// Room for as many items as a test has.
    const MOST: usize = 2 * CAPACITY;

    /// The number of an item that was released, how many were said to come after it, and whether its submitter was about to sleep.
    type Released = (usize, usize, bool);

    /// What has become of the items of a test.
    #[pin_data]
    struct Log {
        #[pin]
        released: SpinLock<KVec<Released>>,
        dropped: AtomicUsize,
    }

    impl Log {
        fn new() -> Result<Arc<Self>> {
            let released = KVec::<Released>::with_capacity(MOST, GFP_KERNEL)?;
            Arc::pin_init(
                pin_init!(Self {
                    released <- new_spinlock!(released, "kunit"),
                    dropped: AtomicUsize::new(0),
                }),
                GFP_KERNEL,
            )
        }

        /// Whether these were released, in this order.
        fn has(&self, expected: impl IntoIterator<Item = Released>) -> bool {
            self.released.lock().iter().copied().eq(expected)
        }

        /// How many items are gone.
        fn dropped(&self) -> usize {
            self.dropped.load(Ordering::Relaxed)
        }
    }

    /// What an item does when it is released.
    enum Then {
        Nothing,
        /// It sleeps, if it may.
        Sleeps,
        /// It has the plug hold others.
        Holds(KVec<Arc<Item>>),
    }

    struct Item {
        number: usize,
        log: Arc<Log>,
        then: Then,
    }

    impl Item {
        fn new(number: usize, log: &Arc<Log>) -> Result<Arc<Self>> {
            Self::with(number, log, Then::Nothing)
        }

        fn with(number: usize, log: &Arc<Log>, then: Then) -> Result<Arc<Self>> {
            let log = log.clone();
            Ok(Arc::new(Self { number, log, then }, GFP_KERNEL)?)
        }
    }

    impl Plugged for Item {
        fn unplugged(this: Arc<Self>, more: usize, from_schedule: bool) {
            let released = (this.number, more, from_schedule);
            let _full = this.log.released.lock().push_within_capacity(released);
            match &this.then {
                // Long enough to be counted in ticks: a shorter sleep is over without the scheduler when its timer is early.
                Then::Sleeps if !from_schedule => fsleep(Delta::from_millis(100)),
                Then::Holds(items) => _ = hold_all(items),
                Then::Nothing | Then::Sleeps => {}
            }
        }
    }

    impl Drop for Item {
        fn drop(&mut self) {
            self.log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Items with the numbers from `numbers`.
    fn items(numbers: Range<usize>, log: &Arc<Log>) -> Result<KVec<Arc<Item>>> {
        let mut items = KVec::with_capacity(MOST, GFP_KERNEL)?;
        for number in numbers {
            items.push(Item::new(number, log)?, GFP_KERNEL)?;
        }
        Ok(items)
    }

    /// Has the plug hold each, which is said twice.
    fn hold_all(items: &[Arc<Item>]) -> bool {
        let mut twice = items.iter().flat_map(|item| [item, item]);
        twice.all(|item| plug::hold(item.clone()).is_ok())
    }

    #[test]
    fn first_that_passes_is_kept_until_the_plug_is_released() -> Result {
        let log = Log::new()?;
        let (first, second) = (Item::new(0, &log)?, Item::new(1, &log)?);
        let (before, dropped) = plug::with(|| {
            let before = [&first, &second, &first].map(plug::pass);
            drop((first, second));
            (before, log.dropped())
        });
        assert_eq!(before, [0, 1, 2]);
        assert_eq!((dropped, log.dropped()), (1, 2));
        assert!(log.has([]));
        // Who has no plug keeps nothing.
        let alone = Item::new(2, &log)?;
        assert_eq!([&alone, &alone].map(plug::pass), [0, 0]);
        drop(alone);
        assert_eq!(log.dropped(), 3);
        Ok(())
    }

    #[test]
    fn what_passes_is_kept_beside_what_is_held() -> Result {
        let log = Log::new()?;
        let (passes, stays) = (Item::new(0, &log)?, Item::new(1, &log)?);
        let (held, dropped) = plug::with(|| {
            let held = plug::hold(stays).is_ok();
            plug::pass(&passes);
            drop(passes);
            (held, log.dropped())
        });
        assert!(held);
        assert_eq!((dropped, log.dropped()), (0, 2));
        assert!(log.has([(1, 0, false)]));
        Ok(())
    }

    #[test]
    fn items_are_released_once_and_in_order() -> Result {
        for count in [1, 2, 5, CAPACITY, CAPACITY + 1, CAPACITY + 2] {
            let log = Log::new()?;
            let items = items(0..count, &log)?;
            let held = plug::with(|| hold_all(&items));
            drop(items);
            assert!(held);
            // When there is no room for one more, those before go.
            let expected = (0..count).map(|number| {
                let last = if number < CAPACITY {
                    count.min(CAPACITY)
                } else {
                    count
                };
                (number, last - 1 - number, false)
            });
            assert!(log.has(expected));
            assert_eq!(log.dropped(), count);
        }
        Ok(())
    }

    #[test]
    fn who_sleeps_while_one_is_released_holds_none_of_the_others() -> Result {
        // Of four, which sleeps, and so which is the first to be released by the scheduler.
        for (sleeps, first) in [(0, 1), (1, 2), (2, 3), (3, 4)] {
            let log = Log::new()?;
            let mut items = items(0..4, &log)?;
            if let Some(item) = items.get_mut(sleeps) {
                *item = Item::with(sleeps, &log, Then::Sleeps)?;
            }
            let passes = Item::new(4, &log)?;
            let before = log.dropped();
            let held = plug::with(|| {
                plug::pass(&passes);
                drop(passes);
                hold_all(&items)
            });
            drop(items);
            assert!(held);
            assert!(log.has((0..4).map(|number| (number, 3 - number, number >= first))));
            assert_eq!(log.dropped() - before, 5);
        }
        Ok(())
    }

    #[test]
    fn what_comes_while_one_is_released_comes_after_the_others() -> Result {
        // The place of the one that is released is free for one more; when two come, the others go first.
        for (count, comes) in [(2, 1), (2, 2), (5, 3), (CAPACITY, 1), (CAPACITY, 2)] {
            let log = Log::new()?;
            let late = items(count..count + comes, &log)?;
            let items = items(1..count, &log)?;
            let first = Item::with(0, &log, Then::Holds(late))?;
            let held = plug::with(|| plug::hold(first).is_ok() && hold_all(&items));
            drop(items);
            assert!(held);
            // Item 1 is released after all have come, or to make room for the last.
            let all = count + comes;
            let there = all.min(CAPACITY + 1);
            let expected = (0..all).map(|number| match number {
                0 => (0, count - 1, false),
                _ if number < there => (number, there - 1 - number, false),
                _ => (number, all - 1 - number, false),
            });
            assert!(log.has(expected));
            assert_eq!(log.dropped(), all);
        }
        Ok(())
    }
}
