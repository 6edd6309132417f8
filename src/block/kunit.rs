// SPDX-License-Identifier: GPL-2.0

//! Tests in the kernel of requests and of members' bios.

#[kernel::macros::kunit_tests(raid456_block)]
mod tests {
    use crate::bindings;
    use crate::block::member_bio::{Ended, MemberBio, Owner, Place, Room, MAX_PAGES, OWN_PAGES};
    use crate::block::request::Slice;
    use crate::block::{self, Flags, Op, Status};
    use crate::md::kunit::fake;
    use crate::md::mddev::Mddev;
    use crate::md::slots::Slots;
    use crate::mem::kunit::setup;
    use crate::mem::pages::{Page, PAGE_SIZE};
    use crate::parity::strip::Holder;
    use core::mem::ManuallyDrop;
    use core::ptr::NonNull;
    use kernel::prelude::*;

    /// First array sector of the test's requests.
    const START: u64 = 1000;

    /// A request that nobody submitted, with pages of its own.
    struct Request {
        bio: KBox<bindings::bio>,
        vecs: KVec<bindings::bio_vec>,
        pages: KVec<kernel::page::Page>,
        segments: &'static [(usize, usize)],
    }

    impl Request {
        /// A request whose segments lie at these bytes, and are as long, each in a page of its own.
        fn new(write: bool, segments: &'static [(usize, usize)]) -> Result<Self> {
            let mut this = Self {
                bio: KBox::new(bindings::bio::default(), GFP_KERNEL)?,
                vecs: KVec::from_elem(bindings::bio_vec::default(), segments.len(), GFP_KERNEL)?,
                pages: KVec::new(),
                segments,
            };
            let op = if write {
                bindings::req_op_REQ_OP_WRITE
            } else {
                bindings::req_op_REQ_OP_READ
            };
            let count = u16::try_from(segments.len()).map_err(|_| EINVAL)?;
            // SAFETY: The bio and its vectors are ours and stay where they are.
            unsafe {
                bindings::bio_init(
                    &mut *this.bio,
                    core::ptr::null_mut(),
                    this.vecs.as_mut_ptr(),
                    count,
                    op,
                )
            };
            this.bio.bi_iter.bi_sector = START;
            for (offset, len) in segments {
                let page = kernel::page::Page::alloc_page(GFP_KERNEL)?;
                let (offset, len) = (u32::try_from(*offset)?, u32::try_from(*len)?);
                let bio = &mut *this.bio;
                // SAFETY: The bio has room for as many, and the page lives as long.
                let added = unsafe { bindings::bio_add_page(bio, page.as_ptr(), len, offset) };
                if added != len as i32 {
                    return Err(EINVAL);
                }
                this.pages.push(page, GFP_KERNEL)?;
            }
            Ok(this)
        }

        /// The request's bytes, as one.
        fn bytes(&self) -> Result<KVec<u8>> {
            let mut bytes = KVec::new();
            for (page, (offset, len)) in self.pages.iter().zip(self.segments) {
                let mut part = KVec::from_elem(0u8, *len, GFP_KERNEL)?;
                // SAFETY: Nobody else uses the page.
                unsafe { page.read_raw(part.as_mut_ptr(), *offset, *len)? };
                bytes.extend_from_slice(&part, GFP_KERNEL)?;
            }
            Ok(bytes)
        }

        /// Fills the request with bytes that tell where they are.
        fn fill(&self) -> Result {
            let mut at = 0usize;
            for (page, (offset, len)) in self.pages.iter().zip(self.segments) {
                for byte in *offset..*offset + *len {
                    let value = pattern(at);
                    // SAFETY: Nobody else uses the page.
                    unsafe { page.write_raw(&value, byte, 1)? };
                    at += 1;
                }
            }
            Ok(())
        }

        /// All of it as a slice, which must not end: nobody waits for it.
        fn slice(&mut self) -> ManuallyDrop<Slice> {
            ManuallyDrop::new(Slice {
                raw: bindings::raid456_slice {
                    bio: &mut *self.bio,
                    iter: self.bio.bi_iter,
                },
                counted: false,
            })
        }
    }

    /// What is at a byte of a request.
    fn pattern(at: usize) -> u8 {
        ((at / 512) * 7 + at % 251) as u8
    }

    /// How a request of twelve sectors may lie in memory.
    const LAYOUTS: &[&[(usize, usize)]] = &[
        &[(0, 4096), (0, 2048)],
        &[(512, 512), (3584, 512), (0, 4096), (1024, 1024)],
        &[(2048, 2048), (0, 4096)],
        &[
            (0, 512),
            (512, 512),
            (1024, 512),
            (0, 512),
            (512, 512),
            (1024, 512),
            (0, 512),
            (512, 512),
            (1024, 512),
            (0, 512),
            (512, 512),
            (1024, 512),
        ],
        // Not by sectors: dm-raid's requests are not looked at for that.
        &[(4, 100), (1000, 2000), (8, 3), (16, 4041)],
    ];

    /// Which part of it is copied, to or from which sector of the pages: first sector, sectors, at.
    const COPIES: &[(u32, u32, u32)] = &[
        (0, 12, 0),
        (0, 8, 8),
        (0, 1, 7),
        (11, 1, 15),
        (3, 9, 7),
        (5, 4, 6),
        (1, 10, 3),
        (7, 2, 7),
    ];

    fn pages(count: usize, byte: u8) -> Result<KVec<Page>> {
        let mut pages = KVec::new();
        for _ in 0..count {
            let mut page = Page::new(&setup())?;
            page.view_mut::<[u8; PAGE_SIZE]>().ok_or(EBUSY)?.fill(byte);
            pages.push(page, GFP_KERNEL)?;
        }
        Ok(pages)
    }

    /// The bytes of a write's memory from a sector on.
    fn gather(slice: &Slice, sector: u64, sectors: u32) -> Result<KVec<u8>> {
        let mut bytes = KVec::new();
        for segment in slice.segments(sector, sectors) {
            let mut part = KVec::from_elem(0u8, segment.len(), GFP_KERNEL)?;
            // SAFETY: There are so many bytes, which nobody changes, and a vector that is as long.
            unsafe { part.as_mut_ptr().copy_from(segment.as_ptr(), segment.len()) };
            bytes.extend_from_slice(&part, GFP_KERNEL)?;
        }
        Ok(bytes)
    }

    #[test]
    fn memory_of_a_write_is_found_piece_by_piece() -> Result {
        for layout in LAYOUTS {
            let mut request = Request::new(true, layout)?;
            request.fill()?;
            let slice = request.slice();
            for (first, sectors, _) in COPIES {
                let bytes = gather(&slice, START + u64::from(*first), *sectors)?;
                assert_eq!(bytes.len(), *sectors as usize * 512);
                let expected = (*first as usize * 512..).map(pattern);
                assert!(bytes.iter().copied().eq(expected.take(bytes.len())));
            }
        }
        Ok(())
    }

    #[test]
    fn no_memory_lies_past_the_end_or_belongs_to_a_read() -> Result {
        let mut write = Request::new(true, LAYOUTS[0])?;
        let write = write.slice();
        let wrong = [(START, 13), (START + 12, 1), (START - 1, 1), (u64::MAX, 2)];
        for (sector, sectors) in wrong {
            assert!(write.segments(sector, sectors).next().is_none());
        }
        assert!(write.segments(START, 0).next().is_none());
        let mut read = Request::new(false, LAYOUTS[0])?;
        assert!(read.slice().segments(START, 1).next().is_none());
        Ok(())
    }

    #[test]
    fn read_is_copied_out_of_pages() -> Result {
        for layout in LAYOUTS {
            for (first, sectors, at) in COPIES {
                let mut request = Request::new(false, layout)?;
                request.fill()?;
                let before = request.bytes()?;
                let pages = pages(3, 0xee)?;
                let slice = request.slice();
                let sector = START + u64::from(*first);
                let copied = slice.copy_from_pages(sector, *sectors, pages.iter().map(Some), *at);
                assert!(copied);
                let (from, to) = (*first as usize * 512, (*first + *sectors) as usize * 512);
                let right = request.bytes()?.iter().zip(&before).enumerate().all(
                    |(offset, (now, before))| {
                        let inside = (from..to).contains(&offset);
                        *now == if inside { 0xee } else { *before }
                    },
                );
                assert!(right);
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_is_copied_past_the_end() -> Result {
        let mut request = Request::new(false, LAYOUTS[0])?;
        request.fill()?;
        let before = request.bytes()?;
        // First sector, sectors, pages, at.
        let wrong = [
            (START, 13, 3, 0),
            (START + 12, 1, 3, 0),
            (START - 1, 1, 3, 0),
            (u64::MAX, 2, 3, 0),
            (START, 12, 1, 0),
            (START, 12, 2, 5),
            (START, 1, 3, 24),
            (START, 1, 3, u32::MAX),
            (START, 1, 17, 0),
            (START, 1, 0, 0),
        ];
        for (sector, sectors, count, at) in wrong {
            let pages = pages(count, 0xee)?;
            let slice = request.slice();
            assert!(!slice.copy_from_pages(sector, sectors, pages.iter().map(Some), at));
            assert!(request.bytes()?[..] == before[..]);
        }
        // Nor in the wrong direction, nor without a page.
        let pages = pages(3, 0xee)?;
        let mut write = Request::new(true, LAYOUTS[0])?;
        let write = write.slice();
        assert!(!write.copy_from_pages(START, 1, pages.iter().map(Some), 0));
        let missing = pages
            .iter()
            .zip(0..)
            .map(|(page, index)| (index != 2).then_some(page));
        assert!(!request.slice().copy_from_pages(START, 1, missing, 0));
        Ok(())
    }

    /// Lets a bio hold a page of ours, to change it or not, while `work` runs.
    fn while_held<T>(page: NonNull<u8>, to_change: bool, work: impl FnOnce() -> T) -> T {
        // SAFETY: The page is the caller's, who keeps it.
        unsafe { bindings::raid456_page_hold(page.as_ptr().cast(), to_change) };
        let result = work();
        // SAFETY: As above; it was held once.
        unsafe { bindings::raid456_page_unhold(page.as_ptr().cast(), to_change) };
        result
    }

    #[test]
    fn page_that_a_bio_holds_is_left_alone() -> Result {
        let mut read = Request::new(false, LAYOUTS[0])?;
        let read = read.slice();
        let mut pages = pages(2, 0xee)?;
        let held = pages[1].address().ok_or(EBUSY)?;
        // Whether the bio changes the page; whether it may be changed meanwhile, and be copied.
        for (to_change, changed, copied) in [(false, false, true), (true, false, false)] {
            let found = while_held(held, to_change, || {
                let changed = pages[1].block_mut().is_some();
                let copied = read.copy_from_pages(START, 12, pages.iter().map(Some), 0);
                (changed, copied)
            });
            assert_eq!(found, (changed, copied));
        }
        assert!(pages[1].block_mut().is_some());
        Ok(())
    }

    #[test]
    fn slices_are_cut_off_in_front() -> Result {
        let mut request = Request::new(true, LAYOUTS[1])?;
        request.fill()?;
        let mut rest = request.slice();
        assert_eq!((rest.sector(), rest.sectors()), (START, 12));
        assert!(rest.op() == Op::Write);
        assert!(rest.split_front(0).is_none() && rest.split_front(12).is_none());
        let front = rest.split_front(5).ok_or(EINVAL)?;
        assert_eq!((front.sector(), front.sectors()), (START, 5));
        assert_eq!((rest.sector(), rest.sectors()), (START + 5, 7));
        // Each piece has its own part, and no other.
        assert!(front.segments(START + 5, 1).next().is_none());
        assert!(rest.segments(START + 4, 1).next().is_none());
        for (slice, sector) in [(&front, 4), (&*rest, 5)] {
            let bytes = gather(slice, START + sector as u64, 1)?;
            assert!(bytes
                .iter()
                .copied()
                .eq((sector * 512..).map(pattern).take(512)));
        }
        let shared = front.clone();
        drop(front);
        assert_eq!(shared.sectors(), 5);
        Ok(())
    }

    /// Where no bio ever goes.
    const NOWHERE: Place = Place {
        member: 0,
        array: 0,
    };

    /// Whom no bio is ever for.
    struct Nobody;

    impl Owner for Nobody {
        fn ended(self, _ended: Ended) {}
    }

    #[test]
    fn bio_takes_one_to_sixteen_pages() -> Result {
        let array = fake::Array::new()?;
        let slots = Slots::new(array.handle(), 1, &setup())?;
        slots.add(&array.locked(), 0, array.added())?;
        let bio = KBox::pin_init(MemberBio::<Nobody>::new(), GFP_KERNEL)?;
        let mut pages = pages(MAX_PAGES + 1, 0)?;
        // The number of pages, which of them is missing, and whether there is room for more than the bio's own.
        let wrong = [
            (0, 99, true),
            (MAX_PAGES + 1, 99, true),
            (3, 2, true),
            (1, 0, false),
            (OWN_PAGES + 1, 99, false),
            (MAX_PAGES, 99, false),
        ];
        for (count, missing, with_room) in wrong {
            let room = || with_room.then(Room::take).flatten();
            let member = slots[0].take().ok_or(EINVAL)?;
            let given = pages.iter_mut().take(count).enumerate();
            let given = given.map(|(index, page)| (index != missing).then_some(page));
            let refused = bio
                .read(Nobody, member, NOWHERE, Flags::NONE, given, room())
                .is_err();
            assert!(refused && !bio.is_busy());
            let member = slots[0].take().ok_or(EINVAL)?;
            let given = pages.iter().take(count).enumerate();
            let given = given.map(|(index, page)| (index != missing).then_some(page));
            let refused = bio
                .write(Nobody, member, NOWHERE, Flags::FUA, given, room())
                .is_err();
            assert!(refused && !bio.is_busy());
            // What was refused came back, and is not counted any more.
            assert_eq!(array.rdev().pending(), 0);
        }
        let free = pages
            .iter_mut()
            .all(|page| page.view_mut::<[u8; PAGE_SIZE]>().is_some());
        assert!(free);
        slots.remove(&array.locked(), array.rdev())
    }

    #[test]
    fn bio_takes_no_page_that_another_holds() -> Result {
        let array = fake::Array::new()?;
        let slots = Slots::new(array.handle(), 1, &setup())?;
        slots.add(&array.locked(), 0, array.added())?;
        let bio = KBox::pin_init(MemberBio::<Nobody>::new(), GFP_KERNEL)?;
        let mut pages = pages(2, 0)?;
        let held = pages[1].address().ok_or(EBUSY)?;
        // Whether the other changes the page, and whether this is a write. Two writes of one page are no harm.
        for (to_change, write) in [(false, false), (true, false), (true, true)] {
            let member = slots[0].take().ok_or(EINVAL)?;
            let refused = while_held(held, to_change, || {
                if write {
                    let given = pages.iter().map(Some);
                    bio.write(Nobody, member, NOWHERE, Flags::NONE, given, None)
                        .is_err()
                } else {
                    let given = pages.iter_mut().map(Some);
                    bio.read(Nobody, member, NOWHERE, Flags::NONE, given, None)
                        .is_err()
                }
            });
            assert!(refused && !bio.is_busy());
        }
        slots.remove(&array.locked(), array.rdev())
    }

    /// What a write finds that must not wait, and whether it may go on.
    struct NoWait {
        ro: bindings::md_ro_state,
        in_sync: i32,
        checkers: i32,
        superblock: bool,
        pending: bool,
        locked: bool,
        goes_on: bool,
    }

    /// Whether it is seen that somebody holds a spinlock; elsewhere the write waits for that.
    const LOCKS_ARE_SEEN: bool = cfg!(all(CONFIG_X86_64, CONFIG_SMP));

    const NOWAIT: &[NoWait] = {
        const ACTIVE: NoWait = NoWait {
            ro: bindings::md_ro_state_MD_RDWR,
            in_sync: 0,
            checkers: 0,
            superblock: true,
            pending: false,
            locked: false,
            goes_on: true,
        };
        const fn no(state: NoWait) -> NoWait {
            NoWait {
                goes_on: false,
                ..state
            }
        }
        &[
            ACTIVE,
            no(NoWait {
                ro: bindings::md_ro_state_MD_RDONLY,
                ..ACTIVE
            }),
            no(NoWait {
                ro: bindings::md_ro_state_MD_AUTO_READ,
                ..ACTIVE
            }),
            no(NoWait {
                in_sync: 1,
                ..ACTIVE
            }),
            no(NoWait {
                checkers: 1,
                ..ACTIVE
            }),
            no(NoWait {
                pending: true,
                ..ACTIVE
            }),
            // Somebody may just have found the array clean, and not have said yet that it has to be written.
            NoWait {
                locked: LOCKS_ARE_SEEN,
                goes_on: !LOCKS_ARE_SEEN,
                ..ACTIVE
            },
            // Without a superblock there is nothing to wait for.
            NoWait {
                superblock: false,
                pending: true,
                locked: LOCKS_ARE_SEEN,
                ..ACTIVE
            },
        ]
    };

    /// Calls `work`; if `locked`, with the lock held under which md core says whether the array is clean.
    fn while_locked<T>(mddev: &Mddev, locked: bool, work: impl FnOnce() -> T) -> T {
        if locked {
            // SAFETY: The array is valid, and its lock initialised.
            unsafe { bindings::raid456_lock_state(mddev.as_ptr()) };
        }
        let result = work();
        if locked {
            // SAFETY: As above; we have it.
            unsafe { bindings::raid456_unlock_state(mddev.as_ptr()) };
        }
        result
    }

    #[test]
    fn write_that_must_not_wait_goes_on_or_is_turned_back() -> Result {
        for case in NOWAIT {
            let array = fake::Array::new()?;
            let raw = array.mddev().as_ptr();
            // SAFETY: The structure is valid, and nobody else uses it.
            let fields = unsafe { &mut *raw };
            // CAST: a small constant.
            fields.ro = case.ro as i32;
            fields.in_sync = case.in_sync;
            fields.sync_checkers = case.checkers;
            fields.flags = usize::from(case.superblock) << bindings::mddev_flags_MD_HAS_SUPERBLOCK;
            fields.sb_flags =
                usize::from(case.pending) << bindings::mddev_sb_flags_MD_SB_CHANGE_PENDING;
            let count = Count::new(&mut fields.writes_pending)?;

            for (write, goes_on, counted) in
                [(false, true, false), (true, case.goes_on, case.goes_on)]
            {
                let mut user = Request::new(write, LAYOUTS[0])?;
                let (mddev, bio) = (array.mddev(), &mut *user.bio);
                // SAFETY: The bio is valid, stays where it is, and is ended here.
                let mut request = unsafe { block::request::Request::from_raw(mddev, bio) };
                let (first, again) = while_locked(mddev, case.locked, || {
                    // Once is enough.
                    (request.try_write_start(), request.try_write_start())
                });
                let is_counted = count.is_raised();
                request.end(Status::AGAIN);
                assert_eq!((first, again), (goes_on, goes_on));
                assert_eq!((is_counted, count.is_raised()), (counted, false));
                assert_eq!(user.bio.bi_status, bindings::RAID456_BLK_STS_AGAIN);
            }
        }
        Ok(())
    }

    /// A count as md core has it of pending writes, at zero.
    struct Count(*mut bindings::percpu_ref);

    impl Count {
        fn new(count: &mut bindings::percpu_ref) -> Result<Self> {
            // It begins with none.
            let flags = bindings::PERCPU_REF_INIT_DEAD;
            // SAFETY: The count is not in use.
            let err = unsafe {
                bindings::percpu_ref_init(count, Some(Self::released), flags, bindings::GFP_KERNEL)
            };
            kernel::error::to_result(err)?;
            Ok(Self(count))
        }

        /// # Safety
        ///
        /// None.
        unsafe extern "C" fn released(_count: *mut bindings::percpu_ref) {}

        fn is_raised(&self) -> bool {
            // SAFETY: The count is initialised, and lives longer.
            !unsafe { bindings::percpu_ref_is_zero(self.0) }
        }
    }

    impl Drop for Count {
        fn drop(&mut self) {
            // SAFETY: The count is initialised, at zero, and not used any more.
            unsafe { bindings::percpu_ref_exit(self.0) }
        }
    }
}
