// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel of what plugs hold.

#[kernel::macros::kunit_tests(raid456_plug)]
mod tests {
    use crate::block::plug::{self, Plugged};
    use core::sync::atomic::{AtomicUsize, Ordering};
    use kernel::prelude::*;
    use kernel::sync::{new_spinlock, Arc, SpinLock};

    /// Room for as many items as a test has.
    const MOST: usize = 64;

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
            let released = KVec::with_capacity(MOST, GFP_KERNEL)?;
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

    struct Item {
        number: usize,
        log: Arc<Log>,
    }

    impl Item {
        fn new(number: usize, log: &Arc<Log>) -> Result<Arc<Self>> {
            let log = log.clone();
            Ok(Arc::new(Self { number, log }, GFP_KERNEL)?)
        }
    }

    impl Plugged for Item {
        fn unplugged(this: Arc<Self>, more: usize, from_schedule: bool) {
            let released = (this.number, more, from_schedule);
            let _full = this.log.released.lock().push_within_capacity(released);
        }
    }

    impl Drop for Item {
        fn drop(&mut self) {
            self.log.dropped.fetch_add(1, Ordering::Relaxed);
        }
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
}
