// SPDX-License-Identifier: GPL-2.0

//! The driver: one running array.
//!
//! [`raid`](crate::raid) decides what is to be done with a span's blocks; here are the spans' pages and bios, the requests,
//! and whoever runs a span. A request becomes parts, one for each span that it touches ([`submit`]), which are posted to
//! span objects ([`object`]) found in the [`table`]. A span's runner ([`run`]) lets it step, does its jobs ([`jobs`]) and
//! sends its blocks to members ([`pump`]); it works without a lock, in the submitter's context, in that of a member's
//! completion where that is allowed, or in a lane ([`lanes`]).
//!
//! What keeps what: md core has the array behind a [`Gate`]. Each part, and so each span
//! that has work, holds an entry of the gate; quiesce closes the gate and waits for them. Span objects are kept in the
//! array's slab until it goes, and their kits are in a span or in a pool.
//!
//! Locks, each taken alone, except that a shard's lock may be held when a span's turn is taken or given up, which takes
//! none. In task context, with interrupts on: a shard of the table; a pool of kits; the deferred list. In any context, with
//! interrupts off: the device lock, and where a flush has failed another one before it ([`errors`]); the lists of [`direct`]. md
//! core's `reconfig_mutex` and `mddev->lock` come before all of them. Nothing that quiesce waits for takes `reconfig_mutex`.

#![deny(unsafe_code)]

mod bitmap;
mod blocked;
mod control;
mod copies;
mod counters;
mod deferred;
mod direct;
mod discard;
mod durable;
mod engines;
mod env;
mod errors;
mod flushes;
mod gaps;
mod heirs;
mod jobs;
mod kits;
mod lanes;
mod members;
mod memory;
mod object;
mod offload;
mod part;
mod pump;
mod queue;
mod resize;
mod retry;
mod run;
mod sequence;
mod settings;
mod setup;
mod stock;
mod streams;
mod submit;
mod submitters;
mod sync;
mod table;
mod ticket;

use self::bitmap::{Bitmap, FlushThread};
use self::counters::Counters;
use self::direct::Later;
use self::errors::Faults;
use self::gaps::Gaps;
use self::kits::Kits;
use self::lanes::Lanes;
use self::offload::Offload;
use self::part::Item;
use self::queue::IndexStack;
use self::retry::Retry;
use self::settings::Settings;
use self::streams::{Streams, WatchThread};
use self::submitters::Submitters;
use self::table::Table;
use crate::block::request::Request;
use crate::block::reserve::Reserve;
use crate::md::mddev::{Handle, Locked, Mddev, Starting};
use crate::md::personality::{Personality, Running, Synced};
use crate::md::rdev::{Flag, Rdev};
use crate::md::slots::{Candidate, Seat, Slots, Vacancy};
use crate::md::sysfs::Group;
use crate::mem::mempool::Mempool;
use crate::mem::shrinker::Shrinker;
use crate::mem::{MayBlock, Setup};
use crate::offload::channel;
use crate::parity::{engine, Engine};
use crate::raid::geometry::Geometry;
use crate::sync::gate::Gate;
use crate::sync::irqlock::IrqSpinLock;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;
use kernel::sync::{Arc, Mutex, SetOnce};

/// A running array.
#[pin_data]
pub(crate) struct Array {
    mddev: Handle,
    geometry: Geometry,
    /// Which geometry spans belong to; there is only one until arrays can be reshaped.
    generation: u32,
    /// Before the table, for fields go in this order: while a bio's end has a member, its span is not the last of anything.
    slots: Slots,
    engine: &'static dyn Engine,
    settings: Settings,
    /// Whether the array is being stopped. Held while somebody gets or gives back what takes memory; see [`settings`].
    #[pin]
    changing: Mutex<bool>,
    counters: Counters,
    lanes: Arc<Lanes>,
    #[pin]
    offload: Offload,
    #[pin]
    table: Table,
    #[pin]
    kits: Kits,
    items: Mempool<Item>,
    /// For writes that flush first. Apart, as who has one may wait for one of `items`.
    keepers: Mempool<Item>,
    /// Bios for reads that are cut, and for flushes.
    reserve: Reserve,
    #[pin]
    later: Later,
    bitmap: Arc<Bitmap>,
    flusher: FlushThread,
    streams: Arc<Streams>,
    submitters: Submitters,
    watch: WatchThread,
    /// Keeps the array until [`Personality::free`] stops it.
    shrinker: SetOnce<Shrinker<Gate<Array>>>,
    /// Spans that wait for failures to be recorded in the superblock.
    recording: IndexStack,
    /// The device lock; see [`errors`].
    #[pin]
    device: IrqSpinLock<()>,
    /// Held while it is seen what becomes of members that could not flush their caches; see [`errors`].
    #[pin]
    unflushed: IrqSpinLock<()>,
    faults: Arc<Faults>,
    /// Some member was added that the bitmap does not know: a sync goes over everything.
    full_sync: AtomicBool,
    /// What the replacement in each slot has lacked when it was to become the member.
    retries: KVVec<Retry>,
    /// A sync has ended that went over everything for a new member.
    rebuilt: AtomicBool,
    /// Parity is known to be right below this sector, even if md core goes over it again: it takes a repair that was
    /// interrupted for a resync that is not over.
    trusted: AtomicU64,
    /// What syncs could not do.
    gaps: Gaps,
    /// The array is being stopped: the superblock is not written any more.
    closing: AtomicBool,
}

impl Personality for Array {
    const ATTRIBUTES: &'static Group<Self> = &settings::ATTRIBUTES;

    fn load(setup: &Setup) -> Result {
        channel::load();
        if !channel::is_supported() {
            pr_info!("offload: this kernel has no DMA engines: the CPU does all\n");
        }
        engine::choose(setup)
    }

    fn unload() {
        channel::unload();
    }

    fn run(mddev: Handle, starting: &Starting<'_>) -> Result<Arc<Gate<Self>>> {
        setup::run(mddev, starting)
    }

    fn free(array: Arc<Gate<Self>>, locked: &Locked<'_>) {
        // What is still under way are blocks that are rewritten for nobody; nobody records failures of that any more.
        array.closing.store(true, Ordering::Relaxed);
        // Threads that are started from now on would not be stopped.
        *array.changing.lock() = true;
        sync::quiesce(&array, Some(locked));
        array.stop_shrinking();
        array.offload.stop(locked);
        array.lanes.stop(locked);
        array.stop_flushing(locked);
        array.stop_watching(locked);
    }

    fn control(array: Running<'_, Self>) {
        control::control(&array);
    }

    fn make_request(
        array: Running<'_, Self>,
        mddev: &Mddev,
        request: Request<'_>,
        may_block: &MayBlock,
    ) {
        submit::make_request(&array, mddev, request, may_block);
    }

    fn status(array: Running<'_, Self>, mddev: &Mddev, text: &SeqFile) {
        let geometry = &array.geometry;
        let members = geometry.members();
        seq_print!(
            text,
            " level {}, {}k chunk, algorithm {} [{members}/{}] [",
            mddev.level(),
            geometry.chunk_sectors() / 2,
            mddev.layout(),
            i32::from(members).saturating_sub(mddev.degraded())
        );
        for slot in array.slots.iter() {
            let in_sync = |seat: &Seat| seat.with(|rdev| rdev.test(Flag::InSync)) == Some(true);
            let in_sync = slot.seats().into_iter().any(in_sync);
            seq_print!(text, "{}", if in_sync { "U" } else { "_" });
        }
        seq_print!(text, "]");
    }

    fn error(array: Running<'_, Self>, _mddev: &Mddev, rdev: &Rdev) {
        array.fail_member(rdev);
    }

    fn slots(&self) -> &Slots {
        &self.slots
    }

    fn hot_add(
        array: Running<'_, Self>,
        _locked: &Locked<'_>,
        rdev: Candidate<'_>,
    ) -> Result<Vacancy> {
        array.add_member(rdev)
    }

    fn hot_remove(array: Running<'_, Self>, locked: &Locked<'_>, rdev: &Rdev) -> Result {
        array.remove_member(locked, rdev)
    }

    fn spare_active(array: Running<'_, Self>, locked: &Locked<'_>) -> u32 {
        array.activate_spares(locked)
    }

    fn sync_request(
        array: Running<'_, Self>,
        _mddev: &Mddev,
        sector: u64,
        max: u64,
        may_block: &MayBlock,
    ) -> Synced {
        sync::sync_request(&array, sector, max, may_block)
    }

    fn resize(array: Running<'_, Self>, locked: &Locked<'_>, sectors: u64) -> Result {
        array.prepare_resize(locked, sectors)?;
        if locked.bitmap_enabled() {
            // The bitmap has its new size, and has stopped the array for that, which cannot be refused.
            sync::quiesce(&array, Some(locked));
        } else {
            sync::try_quiesce(&array, locked)?;
        }
        let result = array.resize(locked, sectors);
        array.open();
        array.see_to_waiting();
        result
    }

    fn size(array: Running<'_, Self>, mddev: &Mddev, sectors: u64, raid_disks: u32) -> u64 {
        array.size(mddev, sectors, raid_disks)
    }

    fn check_reshape(array: Running<'_, Self>, locked: &Locked<'_>) -> Result {
        array.check_reshape(locked)
    }

    fn quiesce(array: Running<'_, Self>, locked: Option<&Locked<'_>>, on: bool) {
        if on {
            sync::quiesce(&array, locked);
        } else {
            array.open();
        }
    }

    fn bitmap_range(array: Running<'_, Self>, sector: u64, sectors: u64) -> (u64, u64) {
        let range = array.geometry.bitmap_range(sector, sectors);
        (range.start, range.end.saturating_sub(range.start))
    }

    fn set_cache_size(&self, locked: &Locked<'_>, size: i32) -> Result {
        self.resize_cache(u32::try_from(size).map_err(|_| EINVAL)?, &locked.setup())
    }

    fn cache_strips(&self) -> (i32, i32) {
        let strips = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        (strips(self.kits.target()), strips(self.kits.total()))
    }
}
