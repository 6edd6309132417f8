// SPDX-License-Identifier: GPL-2.0

//! Starting an array: what its superblocks say is checked before anything of it is touched.
//!
//! The checks, their order, their messages and their error numbers are those of the C driver; what we cannot do is refused
//! with a message of our own.

use super::bitmap::{Bitmap, FlushThread};
use super::counters::Counters;
use super::direct::Later;
use super::errors::Faults;
use super::gaps::Gaps;
use super::kits::Kits;
use super::lanes::Lanes;
use super::members;
use super::offload::{Mode, Offload, NO_ENGINES};
use super::queue::IndexStack;
use super::retry::Retry;
use super::settings::{Settings, DEFAULT_STRIPS};
use super::streams::{Streams, WatchThread};
use super::submit::SUBMITTERS_PERIOD;
use super::submitters::Submitters;
use super::table::Table;
use super::Array;
use crate::block::context;
use crate::block::reserve::Reserve;
use crate::md::limits::{self, Limits};
use crate::md::mddev::{Flag as ArrayFlag, Handle, Locked, Starting, MAX_SECTOR};
use crate::md::rdev::{Flag, Rdev};
use crate::md::slots::{Slot, Slots};
use crate::mem::mempool::Mempool;
use crate::mem::{Ask, Setup};
use crate::new_irq_spinlock;
use crate::offload::channel;
use crate::parity::engine;
use crate::raid::geometry::{Geometry, InvalidGeometry, Level};
use crate::raid::strips::STRIP_SECTORS;
use crate::sync::gate::Gate;
use crate::{md_crit, md_info, md_notice, md_warn};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64};
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::{Arc, SetOnce};
use kernel::time::msecs_to_jiffies;

/// Parts that are set aside for times without memory.
const RESERVED_PARTS: u16 = 256;

/// The same, for what keeps writes that the array's thread posts after a flush.
const RESERVED_KEEPERS: u16 = 16;

/// Sectors of a request that the C driver allows at least: 256 strips.
const MAX_SECTORS: u32 = 256 * 8;

/// Starts an array. Sleeps.
///
/// # Errors
///
/// What the one who starts the array gets.
pub(super) fn run(handle: Handle, mddev: &Starting<'_>) -> Result<Arc<Gate<Array>>> {
    let name = mddev.name();
    if mddev.resync_offset() != MAX_SECTOR {
        md_notice!("md/raid:{name}: not clean -- starting background reconstruction\n");
    }
    check_features(mddev)?;
    let geometry = geometry(mddev)?;

    // See `members::take()`.
    let synced = mddev.resync_offset();
    if synced != MAX_SECTOR {
        mddev.set_resync_offset(synced - synced % u64::from(STRIP_SECTORS));
    }
    let slots = Slots::new(handle.clone(), geometry.members(), &mddev.setup())?;
    let full_sync = members::take(mddev, &slots)?;
    start(handle, mddev, geometry, slots, full_sync)
        .inspect_err(|_| md_warn!("md/raid:{name}: failed to run raid set.\n"))
}

/// Starts an array of these members.
fn start(
    handle: Handle,
    mddev: &Locked<'_>,
    geometry: Geometry,
    slots: Slots,
    full_sync: bool,
) -> Result<Arc<Gate<Array>>> {
    let name = mddev.name();
    check_members(mddev, &geometry, &slots)?;
    let setup = &mddev.setup();
    let array = allocate(handle, geometry, slots, full_sync, setup)?;
    if let Err(err) = bring_up(&array, mddev).and_then(|()| Array::start_shrinking(&array, setup)) {
        // Threads end only so; the rest goes with the array.
        array.stop_shrinking();
        array.offload.stop(mddev);
        array.lanes.stop(mddev);
        array.stop_flushing(mddev);
        array.stop_watching(mddev);
        return Err(err);
    }

    let degraded = mddev.degraded();
    let members = mddev.raid_disks();
    md_info!(
        "md/raid:{name}: raid level {} active with {} out of {members} devices, algorithm {}\n",
        mddev.level(),
        members.saturating_sub(degraded),
        mddev.layout()
    );
    Ok(array)
}

/// Refuses what the superblock says that we cannot do.
fn check_features(mddev: &Locked<'_>) -> Result {
    let name = mddev.name();
    let has = |flag| mddev.rdevs().any(|rdev: &Rdev| rdev.test(flag));
    let journal = mddev.test(ArrayFlag::HasJournal) || has(Flag::Journal);
    if journal && mddev.has_bitmap() {
        md_notice!("md/raid:{name}: array cannot have both journal and bitmap\n");
        return Err(EINVAL);
    }
    if mddev.reshape_position() != MAX_SECTOR {
        md_warn!("md/raid:{name}: a reshape is in progress, which is not supported - aborting.\n");
        return Err(EINVAL);
    }
    if mddev.level() != mddev.new_level()
        || mddev.layout() != mddev.new_layout()
        || mddev.chunk_sectors() != mddev.new_chunk_sectors()
        || mddev.delta_disks() != 0
    {
        md_warn!("md/raid:{name}: a reshape is asked for, which is not supported - aborting.\n");
        return Err(EINVAL);
    }
    if journal {
        md_warn!("md/raid:{name}: the array has a journal, which is not supported - aborting.\n");
        return Err(EINVAL);
    }
    if mddev.test(ArrayFlag::HasPpl) || mddev.test(ArrayFlag::HasMultiplePpls) {
        md_warn!(
            "md/raid:{name}: the array has a partial parity log, which is not supported - aborting.\n"
        );
        return Err(EINVAL);
    }
    Ok(())
}

impl kernel::fmt::Display for InvalidGeometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The array's geometry, if it is one that we know.
fn geometry(mddev: &Locked<'_>) -> Result<Geometry> {
    let name = mddev.name();
    let Some(level) = Level::from_number(mddev.level()) else {
        md_warn!(
            "md/raid:{name}: raid level not set to 4/5/6 ({})\n",
            mddev.level()
        );
        return Err(EIO);
    };
    let members = u32::try_from(mddev.raid_disks()).unwrap_or(0);
    let chunk = u32::try_from(mddev.chunk_sectors()).unwrap_or(0);
    Geometry::new(level, mddev.layout(), members, chunk).map_err(|invalid| match invalid {
        InvalidGeometry::Layout(_, layout) => {
            md_warn!("md/raid:{name}: layout {layout} not supported\n");
            EIO
        }
        InvalidGeometry::Members(..) => {
            md_warn!("md/raid:{name}: {invalid}\n");
            EINVAL
        }
        InvalidGeometry::Chunk(sectors) => {
            let bytes = u64::from(sectors) << 9;
            md_warn!("md/raid:{name}: invalid chunk size {bytes}\n");
            EINVAL
        }
    })
}

/// Checks that there are members enough, large enough, and with the right parity; tells md core what it found.
fn check_members(mddev: &Locked<'_>, geometry: &Geometry, slots: &Slots) -> Result {
    let name = mddev.name();
    let members = geometry.members();
    let degraded = members::count_degraded(slots);
    mddev.set_degraded(i32::from(degraded));
    if degraded > geometry.parity_disks() {
        md_crit!("md/raid:{name}: not enough operational devices ({degraded}/{members} failed)\n");
        return Err(EIO);
    }

    let chunk = u64::from(geometry.chunk_sectors());
    let sectors = mddev.dev_sectors() & !(chunk - 1);
    for slot in slots.iter().flat_map(Slot::seats) {
        // 0: whoever set the array up by hand has not said.
        let room = slot.with(|rdev| (!rdev.test(Flag::Faulty)).then(|| rdev.sectors()));
        if room
            .flatten()
            .is_some_and(|room| room != 0 && room < sectors)
        {
            slot.with(|rdev| {
                md_warn!(
                    "md/raid:{name}: {rdev} has room for {} sectors, but the array needs {sectors}\n",
                    rdev.sectors()
                );
            });
            return Err(EINVAL);
        }
    }
    let size = geometry.array_sectors(sectors).ok_or(EINVAL)?;

    if mddev.resync_offset() != MAX_SECTOR && lacks_data(geometry, slots) {
        if mddev.ok_start_degraded() == 0 {
            md_crit!("md/raid:{name}: cannot start dirty degraded array.\n");
            return Err(EIO);
        }
        md_crit!("md/raid:{name}: starting dirty degraded array - data corruption possible.\n");
    }
    mddev.set_dev_sectors(sectors);
    mddev.set_resync_max_sectors(sectors);
    mddev.set_array_sectors(size);
    Ok(())
}

/// Whether a member is lost that holds data, so that parity is needed which may be wrong. Who holds nothing but parity is not
/// missed, and mdadm takes an array of level 4 without it for complete.
fn lacks_data(geometry: &Geometry, slots: &Slots) -> bool {
    let only_parity = |slot: u16| {
        (0..u64::from(geometry.members())).all(|stripe| geometry.roles(stripe).is_parity(slot))
    };
    (0..)
        .zip(slots.iter())
        .any(|(number, slot)| members::is_lost(slot) && !only_parity(number))
}

/// Makes the array, without threads, spans and kits.
fn allocate(
    handle: Handle,
    geometry: Geometry,
    slots: Slots,
    full_sync: bool,
    setup: &Setup,
) -> Result<Arc<Gate<Array>>> {
    let cpus = context::cpus();
    let trusted = handle.resync_offset();
    let span_sectors = geometry.span_sectors();
    let members = geometry.members();
    let faults = Arc::new(
        Faults::new(handle.clone(), geometry.parity_disks()),
        setup.flags(),
    )?;
    let streams = Streams::new(geometry, setup)?;
    let mut retries = KVVec::with_capacity(usize::from(members), setup.flags())?;
    for _ in 0..members {
        retries.push(Retry::new(), setup.flags())?;
    }
    let array = try_pin_init!(Array {
        mddev: handle,
        geometry,
        generation: 0,
        slots,
        engine: engine::selected(),
        settings: Settings::new(),
        changing <- new_mutex!(false, "raid456 settings"),
        counters: Counters::new(setup)?,
        lanes: Arc::new(Lanes::new(cpus, setup)?, setup.flags())?,
        offload <- Offload::new(members),
        table <- Table::new(span_sectors, cpus, setup),
        kits <- Kits::new(members, cpus, setup),
        items: Mempool::new(RESERVED_PARTS, setup)?,
        keepers: Mempool::new(RESERVED_KEEPERS, setup)?,
        // Each slot may have a replacement beside its member.
        reserve: Reserve::new(u32::from(members).saturating_mul(2))?,
        later <- Later::new(),
        bitmap: Arc::pin_init(Bitmap::new(setup), setup.flags())?,
        flusher: FlushThread::new(),
        streams: Arc::new(streams, setup.flags())?,
        submitters: Submitters::new(msecs_to_jiffies(SUBMITTERS_PERIOD) as u64),
        watch: WatchThread::new(),
        shrinker: SetOnce::new(),
        recording: IndexStack::new(),
        device <- new_irq_spinlock!((), "raid456 device"),
        unflushed <- new_irq_spinlock!((), "raid456 unflushed"),
        faults,
        full_sync: AtomicBool::new(full_sync),
        retries,
        rebuilt: AtomicBool::new(false),
        trusted: AtomicU64::new(trusted),
        gaps: Gaps::new(),
        closing: AtomicBool::new(false),
    }? Error);
    Arc::pin_init(Gate::new(array, setup), setup.flags())
}

/// Gives the array what it needs to take requests.
fn bring_up(array: &Gate<Array>, mddev: &Locked<'_>) -> Result {
    let geometry = &array.geometry;
    let setup = &mddev.setup();
    if let Err(err) = array.allot_cache(DEFAULT_STRIPS, setup) {
        // A page for each member of each strip.
        let kib = DEFAULT_STRIPS.saturating_mul(geometry.members().into()) * 4;
        md_warn!(
            "md/raid:{}: couldn't allocate {kib}kB for buffers\n",
            mddev.name()
        );
        return Err(err);
    }
    let started = array
        .lanes
        .set_count(0, array.table.slab(), &array.mddev, setup)
        .and_then(|()| array.start_flushing(setup))
        .and_then(|()| array.start_watching(setup));
    if let Err(err) = started {
        md_warn!("md/raid:{}: couldn't allocate thread.\n", mddev.name());
        return Err(err);
    }
    offload(array, mddev);
    let io_min = geometry.chunk_sectors() << 9;
    let io_opt = u64::from(io_min) * u64::from(geometry.data_disks());
    // Too large a number to be told is no reason not to start.
    let io_opt = u32::try_from(io_opt).unwrap_or(0);
    let can_discard = limits::set(
        mddev,
        Limits {
            io_min,
            io_opt,
            max_sectors: MAX_SECTORS,
            discard_granularity: if io_opt.is_power_of_two() {
                io_opt
            } else {
                io_min
            },
            discard_unit: geometry.span_sectors() << 9,
        },
    )?;
    array.settings.let_discard(can_discard);
    Ok(())
}

/// Has jobs done where the module's parameter says. That it cannot be is no reason not to start the array.
fn offload(array: &Gate<Array>, mddev: &Locked<'_>) {
    let name = mddev.name();
    let mut text = [0; 8];
    let mode = channel::default_mode(&mut text).and_then(Mode::from_name);
    let Ok(mode) = mode else {
        md_warn!("md/raid:{name}: offload: the module's parameter is none of cpu, auto and dma: cpu it is\n");
        return;
    };
    let set = |mode| {
        let slab = array.table.slab();
        let set = array
            .offload
            .set_mode(mode, slab, &array.mddev, &mddev.setup());
        array.offload.set_period(mddev);
        set
    };
    match set(mode) {
        Ok(()) => {}
        Err(err) if err == NO_ENGINES => {
            md_warn!("md/raid:{name}: offload: this kernel has no DMA engines: the CPU does all\n")
        }
        Err(err) => md_warn!("md/raid:{name}: offload: {mode:?} could not be set: {err:?}\n"),
    }
}
