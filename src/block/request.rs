// SPDX-License-Identifier: GPL-2.0

//! Requests of users.
//!
//! md core hands the driver a [`Request`]. Once accounted it becomes a [`Slice`], which can be cut into pieces; the request
//! ends when the last piece is dropped. So each of md core's counts (`md_write_start` and `md_write_end`, `md_account_bio`)
//! and the bio's own are balanced whatever happens.

use super::reserve::Reserve;
use super::{Flags, Op, Status};
use crate::bindings;
use crate::md::mddev::Mddev;
use crate::mem::pages::{Page, PAGE_SIZE};
use crate::mem::MayBlock;
use crate::parity::Source;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

/// Bytes of a sector.
const SECTOR: u32 = 512;

/// Most pages that one copy goes to or comes from.
const PAGES: usize = 16;

/// A request that is not accounted yet. Ends with an I/O error if it is dropped.
///
/// # Invariants
///
/// The bio is valid and ours, and belongs to `mddev`. If `writing`, it is counted among the array's pending writes.
#[must_use = "a request that is dropped fails"]
pub(crate) struct Request<'a> {
    mddev: &'a Mddev,
    bio: NonNull<bindings::bio>,
    writing: bool,
}

impl<'a> Request<'a> {
    /// Takes a bio over.
    ///
    /// # Safety
    ///
    /// `bio` is valid, was given to `mddev` by md core, and is the caller's to end.
    pub(crate) unsafe fn from_raw(mddev: &'a Mddev, bio: *mut bindings::bio) -> Self {
        // INVARIANT: By the requirement of this function; it is not counted yet.
        Self {
            mddev,
            // SAFETY: A valid pointer is not null.
            bio: unsafe { NonNull::new_unchecked(bio) },
            writing: false,
        }
    }

    /// What it wants.
    pub(crate) fn op(&self) -> Op {
        // SAFETY: By the invariant the bio is valid.
        op(unsafe { bindings::raid456_bio_op(self.bio.as_ptr()) })
    }

    /// How it wants to be treated.
    pub(crate) fn flags(&self) -> Flags {
        // SAFETY: By the invariant the bio is valid.
        Flags(unsafe { (*self.bio.as_ptr()).bi_opf })
    }

    /// The first array sector.
    pub(crate) fn sector(&self) -> u64 {
        // SAFETY: By the invariant the bio is valid.
        unsafe { (*self.bio.as_ptr()).bi_iter.bi_sector }
    }

    /// Number of sectors; 0 for a mere flush.
    pub(crate) fn sectors(&self) -> u32 {
        // SAFETY: By the invariant the bio is valid.
        unsafe { (*self.bio.as_ptr()).bi_iter.bi_size / SECTOR }
    }

    /// The array that it was given to, which md core keeps from being suspended as long as this is borrowed.
    pub(super) fn mddev(&self) -> &'a Mddev {
        self.mddev
    }

    /// What is left of a request that wants nothing but the members' caches to be flushed: somebody to be told.
    pub(super) fn into_flush(self) -> Flush {
        let this = ManuallyDrop::new(self);
        if this.writing {
            // SAFETY: By the invariant it is counted; it has no data, so there is nothing to wait for.
            unsafe { bindings::md_write_end(this.mddev.as_ptr()) }
        }
        // INVARIANT: By ours; it is not used any more.
        Flush(this.bio)
    }

    /// Has the array say in its superblock that it is not clean, and waits for that; counts the write. May sleep.
    ///
    /// Nothing to do for a read, or if the array is read-only: the caller must fail that write.
    pub(crate) fn write_start(&mut self, _may_block: &MayBlock) {
        if self.writing || self.op() == Op::Read || self.mddev.is_read_only() {
            return;
        }
        // SAFETY: By the invariant the bio is valid and the array's, which is not read-only.
        unsafe { bindings::md_write_start(self.mddev.as_ptr(), self.bio.as_ptr()) };
        // INVARIANT: just counted, if its data goes that way; what does not is not counted.
        // SAFETY: By the invariant the bio is valid.
        self.writing = unsafe { bindings::raid456_bio_is_write(self.bio.as_ptr()) };
    }

    /// As [`Self::write_start`], for a request that must not wait: never sleeps, and returns whether the write may go on.
    ///
    /// False, and nothing was counted, while the superblock says that the array is clean, or is being written, or may be about
    /// to: the caller ends the request with [`Status::AGAIN`]. Also if the array is read-only.
    #[must_use = "a write that was not counted must not go on"]
    pub(crate) fn try_write_start(&mut self) -> bool {
        if self.writing || self.op() == Op::Read {
            return true;
        }
        // SAFETY: By the invariant the bio is valid.
        if !unsafe { bindings::raid456_bio_is_write(self.bio.as_ptr()) } {
            return true;
        }
        // INVARIANT: counted if the function says so.
        // SAFETY: The array is valid.
        self.writing = unsafe { bindings::raid456_request_try_write(self.mddev.as_ptr()) };
        self.writing
    }

    /// Cuts the request after its first `sectors` sectors, which become this request; submits the rest again. Returns
    /// `None` if there is no memory: then it has ended. Nothing is cut if it is not longer. May sleep.
    ///
    /// Not for the arrays of dm-raid, where submitting again would go through dm: there nothing is cut. Nor of use for a
    /// request that must not wait: it would have begun when the rest is turned back.
    pub(crate) fn cut(
        mut self,
        sectors: u32,
        reserve: &Reserve,
        _may_block: &MayBlock,
    ) -> Option<Self> {
        if sectors == 0 || sectors >= self.sectors() || self.mddev.is_dm() {
            return Some(self);
        }
        let bio = self.bio.as_ptr();
        // SAFETY: By the invariant the bio is valid and ours, has a disk as the array is not dm-raid's, and is longer.
        let front = unsafe { bindings::raid456_request_cut(reserve.as_ptr(), bio, sectors) };
        match NonNull::new(front) {
            Some(front) => {
                // INVARIANT: the front part is new and ours; the rest is counted for itself.
                self.bio = front;
                Some(self)
            }
            None => {
                let this = ManuallyDrop::new(self);
                if this.writing {
                    // SAFETY: By the invariant it is counted; it has ended.
                    unsafe { bindings::md_write_end(this.mddev.as_ptr()) }
                }
                None
            }
        }
    }

    /// Accounts for the request, and has the bitmap take note of a write. May sleep.
    pub(crate) fn account(self, _may_block: &MayBlock) -> Slice {
        let this = ManuallyDrop::new(self);
        let mut raw = bindings::raid456_slice::default();
        // SAFETY: By the invariant the bio is valid, ours, and the array's.
        unsafe {
            bindings::raid456_request_account(this.mddev.as_ptr(), this.bio.as_ptr(), &mut raw)
        };
        // INVARIANT: the clone has one count, which is ours, as is that of pending writes.
        Slice {
            raw,
            counted: this.writing,
        }
    }

    /// As [`Self::account`], for `sectors` of its sectors from `sector` on: nothing is done with the others, and the bitmap
    /// does not hear of them. Returns `None` if they are not all within the request, or none: then it has failed. May sleep.
    pub(crate) fn account_part(
        self,
        sector: u64,
        sectors: u32,
        _may_block: &MayBlock,
    ) -> Option<Slice> {
        let end = self.sector().saturating_add(self.sectors().into());
        let last = sector.checked_add(sectors.into());
        if sectors == 0 || sector < self.sector() || last.is_none_or(|last| last > end) {
            return None;
        }
        let this = ManuallyDrop::new(self);
        let mut raw = bindings::raid456_slice::default();
        // SAFETY: By the invariant the bio is valid, ours, and the array's; the part lies within it.
        unsafe {
            bindings::raid456_request_account_part(
                this.mddev.as_ptr(),
                this.bio.as_ptr(),
                sector,
                sectors,
                &mut raw,
            )
        };
        // INVARIANT: the clone has one count, which is ours, as is that of pending writes.
        Some(Slice {
            raw,
            counted: this.writing,
        })
    }

    /// As [`Self::account`], for a request that must not wait: never sleeps.
    ///
    /// # Errors
    ///
    /// The request comes back, as it was, if there is no memory at once; and always if it is a write and the array has a
    /// bitmap, for that may sleep. The caller ends it with [`Status::AGAIN`].
    pub(crate) fn try_account(self) -> Result<Slice, Self> {
        let mut raw = bindings::raid456_slice::default();
        // SAFETY: By the invariant the bio is valid, ours, and the array's.
        let done = unsafe {
            bindings::raid456_request_try_account(self.mddev.as_ptr(), self.bio.as_ptr(), &mut raw)
        };
        if !done {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // INVARIANT: the clone has one count, which is ours, as is that of pending writes.
        Ok(Slice {
            raw,
            counted: this.writing,
        })
    }

    /// Ends the request.
    pub(crate) fn end(self, status: Status) {
        ManuallyDrop::new(self).end_by_ref(status);
    }

    /// Ends the request, which is not used any more.
    fn end_by_ref(&mut self, status: Status) {
        // SAFETY: By the invariant the bio is valid, ours, and counted if `writing` says so.
        unsafe {
            bindings::raid456_request_end(
                self.mddev.as_ptr(),
                self.bio.as_ptr(),
                self.writing,
                status.0,
            )
        }
    }
}

/// A request that wants nothing but a flush. It ends, well unless it has failed, when this is dropped, which may be done in any
/// context.
///
/// # Invariants
///
/// The bio is valid, and ours to end.
pub(crate) struct Flush(NonNull<bindings::bio>);

impl Flush {
    /// The request will end with `status`.
    pub(crate) fn fail(&self, status: Status) {
        // SAFETY: By the invariant the bio is valid.
        let field = unsafe { &raw mut (*self.0.as_ptr()).bi_status };
        // SAFETY: The status is a byte of it, which is ours to set.
        unsafe { field.write_volatile(status.0) }
    }
}

// SAFETY: A bio may be ended by any thread.
unsafe impl Send for Flush {}

// SAFETY: A shared reference gives no access to the bio.
unsafe impl Sync for Flush {}

impl Drop for Flush {
    fn drop(&mut self) {
        // SAFETY: By the invariant; it is not used after this.
        unsafe { bindings::bio_endio(self.0.as_ptr()) }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.end_by_ref(Status::IO_ERROR);
    }
}

/// A part of a request that is accounted for. The request ends, well unless a piece of it failed, when the last is dropped.
///
/// It may be used and dropped in any context.
///
/// # Invariants
///
/// `raw.bio` is a clone that `md_account_bio` made, and counts this slice; `raw.iter` lies within it. If `counted`, the
/// array's pending writes count this slice too.
pub(crate) struct Slice {
    pub(super) raw: bindings::raid456_slice,
    pub(super) counted: bool,
}

// SAFETY: A slice may be ended by any thread; what it shows of the bio does not change.
unsafe impl Send for Slice {}

// SAFETY: As above.
unsafe impl Sync for Slice {}

impl Slice {
    /// The array that it is a request to. Valid while the slice is.
    pub(super) fn mddev(&self) -> *mut bindings::mddev {
        // SAFETY: By the invariant the bio is a clone that md core made.
        unsafe { bindings::raid456_slice_mddev(self.raw.bio) }
    }

    /// What it wants.
    pub(crate) fn op(&self) -> Op {
        // SAFETY: By the invariant the bio is valid.
        op(unsafe { bindings::raid456_bio_op(self.raw.bio) })
    }

    /// How it wants to be treated.
    pub(crate) fn flags(&self) -> Flags {
        // SAFETY: By the invariant the bio is valid.
        Flags(unsafe { (*self.raw.bio).bi_opf })
    }

    /// The first array sector.
    pub(crate) fn sector(&self) -> u64 {
        self.raw.iter.bi_sector
    }

    /// Number of sectors.
    pub(crate) fn sectors(&self) -> u32 {
        self.raw.iter.bi_size / SECTOR
    }

    /// The array sector after the last.
    pub(crate) fn end_sector(&self) -> u64 {
        self.sector().wrapping_add(self.sectors().into())
    }

    /// Cuts off and returns the first `sectors` sectors. Returns `None`, and changes nothing, if that would be all or none.
    pub(crate) fn split_front(&mut self, sectors: u32) -> Option<Slice> {
        if sectors == 0 || sectors >= self.sectors() {
            return None;
        }
        let mut front = bindings::raid456_slice::default();
        // SAFETY: By the invariant the slice is valid; it is longer than what is cut off.
        unsafe { bindings::raid456_slice_split(&mut self.raw, sectors, self.counted, &mut front) };
        // INVARIANT: the function has counted the new slice as it did this one, and both lie within the bio.
        Some(Slice {
            raw: front,
            counted: self.counted,
        })
    }

    /// The request will end with `status`, unless a later call or another piece says otherwise.
    pub(crate) fn fail(&self, status: Status) {
        // SAFETY: By the invariant the bio is valid.
        let field = unsafe { &raw mut (*self.raw.bio).bi_status };
        // SAFETY: The status is a byte of it, which others may write too.
        unsafe { field.write_volatile(status.0) }
    }

    /// The memory of `sectors` sectors from array sector `sector` on, piece by piece as it lies together. For writes.
    ///
    /// There is none if that is not all within the slice. Who wrote may change the bytes until the request ends.
    pub(crate) fn segments(&self, sector: u64, sectors: u32) -> Segments<'_> {
        let mut iter = bindings::bvec_iter::default();
        if self.has(sector, sectors) && self.op() == Op::Write {
            // SAFETY: By the invariant the slice is valid; it has so many bytes from there on, and a write has data.
            unsafe {
                bindings::raid456_slice_seek(
                    &self.raw,
                    self.offset(sector),
                    sectors.wrapping_mul(SECTOR),
                    &mut iter,
                )
            };
        }
        // INVARIANT: either nothing is left, or the range lies within the slice.
        Segments { slice: self, iter }
    }

    /// Whether these sectors lie within the slice.
    fn has(&self, sector: u64, sectors: u32) -> bool {
        let end = sector.checked_add(sectors.into());
        sector >= self.sector() && end.is_some_and(|end| end <= self.end_sector())
    }

    /// Bytes from the slice's start to a sector of it.
    fn offset(&self, sector: u64) -> u32 {
        // CAST: less than the slice's length in bytes, which is a u32.
        (sector.wrapping_sub(self.sector()) as u32).wrapping_mul(SECTOR)
    }

    /// Copies pages, from sector `at` on, counted from the start of the first page and on through the next, to `sectors`
    /// sectors from array sector `sector` on. For reads. Bios that only read a page do no harm.
    ///
    /// Copies nothing and returns false if that is not all within the slice and the pages, if there are more than sixteen
    /// pages, or a `None` among them, or one that a bio changes.
    #[must_use = "nothing is copied if the range is wrong"]
    pub(crate) fn copy_from_pages<'p>(
        &self,
        sector: u64,
        sectors: u32,
        pages: impl IntoIterator<Item = Option<&'p Page>>,
        at: u32,
    ) -> bool {
        let mut addresses = [core::ptr::null::<kernel::ffi::c_void>(); PAGES];
        let mut count = 0usize;
        for page in pages {
            let page = page.and_then(Page::address);
            let (Some(address), Some(page)) = (addresses.get_mut(count), page) else {
                return false;
            };
            *address = page.as_ptr().cast_const().cast();
            count += 1;
        }
        let within_pages = u64::from(at) + u64::from(sectors) <= (count * (PAGE_SIZE / 512)) as u64;
        if !self.has(sector, sectors) || !within_pages || self.op() != Op::Read {
            return false;
        }
        // SAFETY: By the invariant the slice is valid; the range lies within it and within the pages, and a read has
        // memory for its data.
        unsafe {
            bindings::raid456_slice_copy(
                &self.raw,
                self.offset(sector),
                sectors.wrapping_mul(SECTOR),
                addresses.as_ptr(),
                at.wrapping_mul(SECTOR),
            )
        };
        true
    }
}

/// The memory of a part of a slice: see [`Slice::segments`].
///
/// # Invariants
///
/// `iter` lies within the slice, which is a write's, or has nothing left.
pub(crate) struct Segments<'a> {
    slice: &'a Slice,
    iter: bindings::bvec_iter,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Source<'a>;

    fn next(&mut self) -> Option<Source<'a>> {
        if self.iter.bi_size == 0 {
            return None;
        }
        let raw = &self.slice.raw;
        let mut len = 0;
        // SAFETY: By the invariant of the slice its bio is valid, and by ours it has data at `iter`, which stays within it.
        let start = unsafe { bindings::raid456_slice_segment(raw, &mut self.iter, &mut len) };
        // SAFETY: The pages of a request are there, and may be read, for as long as a slice of it.
        Some(unsafe { Source::from_raw(start.cast(), len as usize) })
    }
}

impl Clone for Slice {
    /// Another reference to the same part, for work that several do.
    fn clone(&self) -> Self {
        // SAFETY: By the invariant the bio counts this slice, so it is valid.
        unsafe { bindings::raid456_slice_hold(self.raw.bio, self.counted) };
        // INVARIANT: the new slice was just counted as this one is.
        Self {
            raw: bindings::raid456_slice {
                bio: self.raw.bio,
                iter: self.raw.iter,
            },
            counted: self.counted,
        }
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        // SAFETY: By the invariant the bio counts this slice, which is gone after this, and so do pending writes if said.
        unsafe { bindings::raid456_slice_end(self.raw.bio, self.counted) }
    }
}

/// What the shim calls an operation.
fn op(raw: bindings::raid456_op) -> Op {
    match raw {
        bindings::raid456_op_RAID456_OP_READ => Op::Read,
        bindings::raid456_op_RAID456_OP_WRITE => Op::Write,
        bindings::raid456_op_RAID456_OP_DISCARD => Op::Discard,
        _ => Op::Other,
    }
}
