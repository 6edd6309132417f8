// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel of pages, kits and pools.

/// For all tests in the kernel: they run while the module is loaded.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn setup() -> super::Setup {
    // SAFETY: Who loads a module may block.
    unsafe { super::Setup::assume() }
}

#[kernel::macros::kunit_tests(raid456_mem)]
mod tests {
    use crate::bindings;
    use crate::mem::kit::Kit;
    use crate::mem::kunit::setup;
    use crate::mem::mempool::{Mempool, Pooled};
    use crate::mem::pages::Page;
    use crate::mem::NoWait;
    use crate::sync::stack::Stack;
    use kernel::prelude::*;
    use kernel::sync::Arc;

    type Words = [u64; 512];

    /// Lets a bio hold a page, and then not any more, and calls `look` before, meanwhile and afterwards.
    fn held<T>(
        page: &mut Page,
        reads: bool,
        mut look: impl FnMut(&mut Page) -> T,
    ) -> Result<[T; 3]> {
        let before = look(page);
        let address = page.address().ok_or(EBUSY)?.as_ptr().cast();
        // SAFETY: It is a page of ours.
        unsafe { bindings::raid456_page_hold(address, reads) };
        let meanwhile = look(page);
        // SAFETY: As above; the page was held once.
        unsafe { bindings::raid456_page_unhold(address, reads) };
        Ok([before, meanwhile, look(page)])
    }

    #[test]
    fn page_is_seen_only_while_nobody_changes_it() -> Result {
        for page in [Page::new(&NoWait), Page::new(&setup())] {
            let mut page = page?;
            let view = |page: &mut Page| page.view::<Words>().is_some();
            let change = |page: &mut Page| page.view_mut::<Words>().is_some();
            assert_eq!(held(&mut page, false, view)?, [true, true, true]);
            assert_eq!(held(&mut page, true, view)?, [true, false, true]);
            assert_eq!(held(&mut page, false, change)?, [true, false, true]);
            assert_eq!(held(&mut page, true, change)?, [true, false, true]);
        }
        Ok(())
    }

    #[test]
    fn page_keeps_what_was_written() -> Result {
        let mut page = Page::new(&setup())?;
        let other = Page::new(&setup())?;
        for (word, value) in page
            .view_mut::<Words>()
            .ok_or(EBUSY)?
            .iter_mut()
            .zip(1u64..)
        {
            *word = value;
        }
        let sum: u64 = page.view::<Words>().ok_or(EBUSY)?.iter().sum();
        assert_eq!(sum, 512 * 513 / 2);
        assert!(other.address() != page.address());
        Ok(())
    }

    #[test]
    fn page_outlives_its_owner_while_it_is_held() -> Result {
        let page = Page::new(&setup())?;
        let address = page.address().ok_or(EBUSY)?.as_ptr();
        let address: *mut kernel::ffi::c_void = address.cast();
        // SAFETY: It is a page of ours, and written to while we are its only user.
        unsafe { address.cast::<u64>().write(0x1234_5678) };
        // SAFETY: It is a page of ours.
        unsafe { bindings::raid456_page_hold(address, false) };
        drop(page);
        // Somebody would get it if it had been freed.
        let mut others = KVec::new();
        for _ in 0..64 {
            let mut other = Page::new(&setup())?;
            other.view_mut::<Words>().ok_or(EBUSY)?.fill(0);
            others.push(other, GFP_KERNEL)?;
        }
        // SAFETY: The page is still held.
        let kept = unsafe { address.cast::<u64>().read() };
        assert_eq!(kept, 0x1234_5678);
        // SAFETY: As above; it was held once.
        unsafe { bindings::raid456_page_unhold(address, false) };
        Ok(())
    }

    #[test]
    fn kit_has_a_page_for_each_member() -> Result {
        for members in [1, 3, 255] {
            let mut kit = Kit::new(members, &setup())?;
            assert_eq!(kit.pages_mut().len(), usize::from(members));
            assert!(kit.page(members).is_none());
            assert!(kit.page_mut(members).is_none());
            for (page, value) in kit.pages_mut().iter_mut().zip(1u64..) {
                page.view_mut::<Words>().ok_or(EBUSY)?.fill(value);
            }
            for member in 0..members {
                let words = kit.page(member).and_then(|page| page.view::<Words>());
                let expected = u64::from(member) + 1;
                assert!(words.is_some_and(|words| words.iter().all(|word| *word == expected)));
            }
        }
        Ok(())
    }

    #[test]
    fn pool_hands_out_objects_and_takes_them_back() -> Result {
        let pool = Mempool::<Arc<u32>>::new(4, &setup())?;
        let counted = Arc::new(5, GFP_KERNEL)?;
        let mut objects = KVec::new();
        for _ in 0..64 {
            let object = pool.take(counted.clone()).map_err(|_| ENOMEM)?;
            objects.push(object, GFP_KERNEL)?;
        }
        assert!(objects.iter().all(|object| ***object == 5));
        drop(objects);
        // What was in the objects was dropped with them.
        assert!(Arc::into_unique_or_drop(counted).is_some());
        Ok(())
    }

    /// Calls `work`, in which the first allocation fails that does not block.
    #[cfg(CONFIG_FAILSLAB)]
    fn without_memory<T>(work: impl FnOnce() -> T) -> T {
        // SAFETY: The running task is valid.
        let fail_nth = unsafe { &raw mut (*bindings::get_current()).fail_nth };
        // SAFETY: Only the task itself uses the field, and who injects faults into it from outside.
        unsafe { fail_nth.write_volatile(1) };
        let result = work();
        // SAFETY: As above.
        unsafe { fail_nth.write_volatile(0) };
        result
    }

    #[test]
    #[cfg(CONFIG_FAILSLAB)]
    fn pool_without_memory_lives_on_its_reserve() -> Result {
        const RESERVE: u16 = 3;
        let pool = Mempool::<u32>::new(RESERVE, &setup())?;
        let take = |value| without_memory(|| pool.take(value));
        let mut objects = KVec::new();
        for value in 0..RESERVE {
            let object = take(value.into()).map_err(|_| ENOMEM)?;
            objects.push(object, GFP_KERNEL)?;
        }
        assert_eq!(take(77).err(), Some(77));
        drop(objects.pop());
        assert!(take(2).is_ok_and(|object| *object == 2));
        Ok(())
    }

    #[test]
    #[cfg(CONFIG_FAILSLAB)]
    fn kit_without_memory_is_refused() {
        assert!(without_memory(|| Kit::new(3, &NoWait)).is_err());
        assert!(Kit::new(3, &NoWait).is_ok());
    }

    #[test]
    fn objects_of_a_pool_come_off_a_stack_in_order() -> Result {
        let pool = Mempool::<u32>::new(1, &setup())?;
        let stack = Stack::<Pooled<u32>>::new();
        for value in 0..10 {
            let first = stack.push(pool.take(value).map_err(|_| ENOMEM)?);
            assert_eq!(first, value == 0);
        }
        let in_order = stack.take_all().map(|object| *object).eq(0..10);
        assert!(in_order);
        assert!(stack.is_empty());
        // What is left on a stack goes back too, or dropping the pool would wait for ever.
        stack.push(pool.take(1).map_err(|_| ENOMEM)?);
        Ok(())
    }
}
