// SPDX-License-Identifier: GPL-2.0

//! Bios for members, embedded in what they are for: submitting one allocates nothing. For more than a few pages one needs a
//! [`Room`], which who submits it gets before, or does without: then he sends less at a time.

use super::{Flags, Status};
use crate::bindings;
use crate::md::slots::Member;
use crate::mem::pages::{Page, PAGE_SIZE};
use crate::mem::{least, Ask, NoWait};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::container_of;
use kernel::prelude::*;
use kernel::time::delay::fsleep;
use kernel::time::Delta;
use kernel::types::Opaque;

/// Most pages of one bio.
pub(crate) const MAX_PAGES: usize = 16;

/// Bytes for what is known of a bio while it is under way, and for whether it is.
const KNOWN: usize = 56;

/// Most pages of one bio without a [`Room`]: as many as fit into the allocator's object that it lies in anyway, of 192 bytes or
/// of 256.
pub(crate) const OWN_PAGES: usize = {
    let bare = size_of::<bindings::bio>() + KNOWN;
    let vector = size_of::<bindings::bio_vec>();
    ((bare + vector).next_multiple_of(64) - bare) / vector
};

/// Where the vectors of a bio lie that has more pages than [`OWN_PAGES`]: there are [`MAX_PAGES`]. Goes in any context.
///
/// # Invariants
///
/// The pointer is memory for so many vectors, of the kernel's allocator, and ours.
pub(crate) struct Room(NonNull<bindings::bio_vec>);

impl Room {
    /// Gets one, if there is free memory for it. Does not block.
    pub(crate) fn take() -> Option<Self> {
        if least() {
            return None;
        }
        let room = NoWait.room(size_of::<[bindings::bio_vec; MAX_PAGES]>());
        // INVARIANT: it is new, and as large.
        NonNull::new(room.cast()).map(Self)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: By the invariant the memory is ours, and it is not used any more.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) }
    }
}

/// What a member is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Io {
    /// Whether it is a write.
    pub(crate) write: bool,
    /// How it is to be treated; of these, only `SYNC`, `FUA`, `PREFLUSH` and `RAHEAD` make sense.
    pub(crate) flags: Flags,
    /// The first sector, counted from the start of the member's data.
    pub(crate) sector: u64,
}

/// Where on a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The first sector, counted from the start of the member's data.
    pub(crate) member: u64,
    /// Where that is in the array: what is told to who traces the bio.
    pub(crate) array: u64,
}

/// A bio that has ended.
pub(crate) struct Ended {
    /// What was to be done.
    pub(crate) io: Io,
    /// Number of sectors.
    pub(crate) sectors: u32,
    /// The member that was to do it.
    pub(crate) member: Member,
    /// How it ended.
    pub(crate) status: Status,
}

/// Whom a bio is for while it is under way.
///
/// What has the bio in it should be kept by its owner: a bio that is dropped while it is under way waits for its end.
pub(crate) trait Owner: Send + 'static {
    /// A bio has ended, and can be used again: another CPU may have submitted it for something else already. Any context.
    fn ended(self, ended: Ended);
}

/// A bio for up to [`MAX_PAGES`] pages, with place for what is known while it is under way.
#[pin_data(PinnedDrop)]
pub(crate) struct MemberBio<O> {
    #[pin]
    bio: Opaque<bindings::bio>,
    #[pin]
    vecs: Opaque<[bindings::bio_vec; OWN_PAGES]>,
    /// Whether the bio is under way, or somebody prepares it. Who sets it owns the other fields until it is cleared.
    busy: AtomicBool,
    /// Initialised while the bio is under way.
    state: UnsafeCell<MaybeUninit<State<O>>>,
}

/// What is known of a bio that is under way.
struct State<O> {
    owner: O,
    member: Member,
    /// Where the vectors are, if they are not the bio's own.
    room: Option<Room>,
    // An `Io` and its sectors, which take less so.
    sector: u64,
    flags: Flags,
    sectors: u16,
    write: bool,
}

/// What a bio moves.
struct Load<'a> {
    /// None if the sectors are to be forgotten.
    pages: &'a [*mut kernel::ffi::c_void],
    sectors: u16,
    room: Option<Room>,
}

// SAFETY: The fields are used by one at a time, as `busy` says; a bio may be used by any thread, and so may an owner.
unsafe impl<O: Send> Send for MemberBio<O> {}

// SAFETY: As above; a shared reference lets an owner be moved in, and gives no access to it.
unsafe impl<O: Send> Sync for MemberBio<O> {}

impl<O: Owner> MemberBio<O> {
    /// An initialiser of a bio that is not in use.
    pub(crate) fn new() -> impl PinInit<Self> {
        const { assert!(size_of::<State<O>>() + size_of::<usize>() <= KNOWN) };

        pin_init!(Self {
            bio: Opaque::uninit(),
            vecs: Opaque::uninit(),
            busy: AtomicBool::new(false),
            state: UnsafeCell::new(MaybeUninit::uninit()),
        })
    }

    /// Whether the bio is under way.
    ///
    /// It is not any more by the time [`Owner::ended`] is called, so that it can be used again from there. So an answer of no
    /// does not mean that the end of what was submitted last has been told: another CPU may be about to.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Has `member` read its sectors from `at` on into pages; ends in [`Owner::ended`] of `owner`.
    ///
    /// May sleep, unless the caller is below `submit_bio`, where the bio is only queued. The pages are kept until the end,
    /// also if they are dropped before; nobody can see their content meanwhile.
    ///
    /// # Errors
    ///
    /// The bio is under way; or there is no page, more than [`MAX_PAGES`], or [`OWN_PAGES`] without a room, a `None` among them, or
    /// one that another bio holds: owner and member come back.
    pub(crate) fn read<'p>(
        &self,
        owner: O,
        member: Member,
        at: Place,
        flags: Flags,
        pages: impl IntoIterator<Item = Option<&'p mut Page>>,
        room: Option<Room>,
    ) -> Result<(), (O, Member)> {
        let io = Io {
            write: false,
            flags,
            sector: at.member,
        };
        self.submit(
            owner,
            member,
            io,
            at.array,
            pages
                .into_iter()
                .map(|page| Some(page?.address_mut()?.as_ptr())),
            room,
        )
    }

    /// As [`Self::read`], the other way round. Nobody can change the pages meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`]; but other bios may write the same pages.
    pub(crate) fn write<'p>(
        &self,
        owner: O,
        member: Member,
        at: Place,
        flags: Flags,
        pages: impl IntoIterator<Item = Option<&'p Page>>,
        room: Option<Room>,
    ) -> Result<(), (O, Member)> {
        let io = Io {
            write: true,
            flags,
            sector: at.member,
        };
        self.submit(
            owner,
            member,
            io,
            at.array,
            pages
                .into_iter()
                .map(|page| Some(page?.address()?.as_ptr())),
            room,
        )
    }

    /// Has `member` forget `sectors` of its sectors from `at` on; ends in [`Owner::ended`] of `owner`, as a write. May
    /// sleep, unless the caller is below `submit_bio`, where the bio is only queued.
    ///
    /// # Errors
    ///
    /// The bio is under way, or there is nothing to forget, or far too much: owner and member come back.
    pub(crate) fn discard(
        &self,
        owner: O,
        member: Member,
        at: Place,
        flags: Flags,
        sectors: u32,
    ) -> Result<(), (O, Member)> {
        let io = Io {
            write: true,
            flags,
            sector: at.member,
        };
        match u16::try_from(sectors) {
            Ok(sectors) if sectors != 0 => {
                let load = Load {
                    pages: &[],
                    sectors,
                    room: None,
                };
                self.send(owner, member, io, at.array, load)
            }
            _ => Err((owner, member)),
        }
    }

    /// As above; the pages are owned by somebody who has them borrowed meanwhile, mutably for a read.
    fn submit(
        &self,
        owner: O,
        member: Member,
        io: Io,
        origin: u64,
        pages: impl Iterator<Item = Option<*mut u8>>,
        room: Option<Room>,
    ) -> Result<(), (O, Member)> {
        let mut addresses = [core::ptr::null_mut::<kernel::ffi::c_void>(); MAX_PAGES];
        let mut count = 0u16;
        for page in pages {
            let (Some(address), Some(page)) = (addresses.get_mut(usize::from(count)), page) else {
                return Err((owner, member));
            };
            *address = page.cast();
            count += 1;
        }
        // CAST: pages are small, and so is their number.
        let sectors = count.wrapping_mul((PAGE_SIZE >> 9) as u16);
        let most = if room.is_some() { MAX_PAGES } else { OWN_PAGES };
        match addresses.get(..usize::from(count)) {
            Some(pages) if !pages.is_empty() && pages.len() <= most => {
                let load = Load {
                    pages,
                    sectors,
                    room,
                };
                self.send(owner, member, io, origin, load)
            }
            _ => Err((owner, member)),
        }
    }

    /// As above; without pages the sectors are discarded.
    fn send(
        &self,
        owner: O,
        member: Member,
        io: Io,
        origin: u64,
        load: Load<'_>,
    ) -> Result<(), (O, Member)> {
        // Acquire: what `end_io` did with the fields comes before what we do.
        if self.busy.swap(true, Ordering::Acquire) {
            return Err((owner, member));
        }
        let Load {
            pages,
            sectors,
            room,
        } = load;
        let rdev = member.as_ptr();
        let vecs = match &room {
            Some(room) => room.0.as_ptr(),
            None => self.vecs.get().cast(),
        };
        let state = State {
            owner,
            member,
            room,
            sector: io.sector,
            flags: io.flags,
            sectors,
            write: io.write,
        };
        // SAFETY: `busy` says that the state is ours.
        let place = unsafe { &mut *self.state.get() };
        place.write(state);
        let raw = bindings::raid456_member_io {
            bio: self.bio.get(),
            vecs,
            rdev,
            sector: io.sector,
            origin,
            flags: io.flags.0,
            write: io.write,
            // CAST: there are no more than `MAX_PAGES`.
            count: pages.len() as u16,
            sectors: sectors.into(),
            pages: pages.as_ptr(),
            end_io: Some(Self::end_io),
        };
        // SAFETY: The bio and its vectors are ours and not in use, and stay where they are until the bio has ended: they
        // are pinned, and dropping them waits, or the state has them. There are enough vectors. The state keeps the member; the
        // pages are borrowed.
        unsafe { bindings::raid456_member_submit(&raw) };
        Ok(())
    }

    /// # Safety
    ///
    /// Called by the block layer for a bio that `submit` submitted.
    unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
        // SAFETY: By the requirement of this function; the bio has ended.
        let status = Status(unsafe { bindings::raid456_member_finish(bio) });
        // SAFETY: The bio is the field of a `MemberBio` of this type.
        let this = unsafe { container_of!(Opaque::cast_from(bio), Self, bio) };
        // SAFETY: Whoever drops it waits until `busy` is cleared.
        let this = unsafe { &*this };
        // SAFETY: The bio has ended, so the state is ours.
        let state = unsafe { &*this.state.get() };
        // SAFETY: `submit` wrote the state, and it is read once.
        let state = unsafe { state.assume_init_read() };
        // Release: the next one who uses the fields comes after. Then this may be gone.
        this.busy.store(false, Ordering::Release);
        drop(state.room);
        state.owner.ended(Ended {
            io: Io {
                write: state.write,
                flags: state.flags,
                sector: state.sector,
            },
            sectors: state.sectors.into(),
            member: state.member,
            status,
        });
    }
}

#[pinned_drop]
impl<O> PinnedDrop for MemberBio<O> {
    fn drop(self: Pin<&mut Self>) {
        while self.busy.load(Ordering::Acquire) {
            fsleep(Delta::from_millis(1));
        }
    }
}
