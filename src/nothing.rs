// SPDX-License-Identifier: GPL-2.0

//! What is registered until there are arrays: it refuses to start one.

use crate::block::request::Request;
use crate::md::mddev::{Handle, Locked, Mddev};
use crate::md::personality::{Personality, Running, Synced};
use crate::md::rdev::Rdev;
use crate::md::slots::Added;
use crate::md::sysfs::{Attribute, Group, Text};
use crate::md_attributes;
use crate::sync::percpu_ref::Gate;
use core::fmt::{self, Write};
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::sync::Arc;

/// No array.
pub(crate) enum Array {}

struct StripeSize;

impl Attribute for StripeSize {
    type Of = Array;
    const NAME: &'static CStr = c"stripe_size";

    fn show(_array: &Array, text: &mut Text<'_>) -> fmt::Result {
        writeln!(text, "4096")
    }
}

md_attributes! {
    /// The attributes of no array.
    pub(crate) static ATTRIBUTES: Array = [StripeSize];
}

impl Personality for Array {
    const ATTRIBUTES: &'static Group<Self> = &ATTRIBUTES;

    fn run(mddev: Handle, locked: &Locked<'_>) -> Result<Arc<Gate<Self>>> {
        pr_err!("md/raid:{}: arrays cannot be started yet\n", mddev.name());
        for rdev in locked.rdevs() {
            pr_info!("member {} in slot {}\n", rdev, rdev.raid_disk());
        }
        Err(EINVAL)
    }

    fn free(_array: Arc<Gate<Self>>, _locked: &Locked<'_>) {}
    fn control(_array: Running<'_, Self>) {}
    fn make_request(_array: Running<'_, Self>, _mddev: &Mddev, request: Request<'_>) {
        drop(request);
    }
    fn status(_array: Running<'_, Self>, _mddev: &Mddev, _text: &SeqFile) {}
    fn error(_array: Running<'_, Self>, _mddev: &Mddev, _rdev: &Rdev) {}
    fn hot_add(_array: Running<'_, Self>, _locked: &Locked<'_>, _rdev: Added<'_>) -> Result {
        Err(EEXIST)
    }
    fn hot_remove(_array: Running<'_, Self>, _locked: &Locked<'_>, _rdev: &Rdev) -> Result {
        Err(EBUSY)
    }
    fn spare_active(_array: Running<'_, Self>, _locked: &Locked<'_>) -> u32 {
        0
    }
    fn sync_request(_array: Running<'_, Self>, _mddev: &Mddev, _sector: u64, _max: u64) -> Synced {
        Synced::Aborted
    }
    fn resize(_array: Running<'_, Self>, _locked: &Locked<'_>, _sectors: u64) -> Result {
        Err(EINVAL)
    }
    fn size(_array: Running<'_, Self>, _mddev: &Mddev, _sectors: u64, _raid_disks: u32) -> u64 {
        0
    }
    fn check_reshape(_array: Running<'_, Self>, _locked: &Locked<'_>) -> Result {
        Err(EINVAL)
    }
    fn quiesce(_array: Running<'_, Self>, _locked: Option<&Locked<'_>>, _on: bool) {}
    fn bitmap_range(_array: Running<'_, Self>, sector: u64, sectors: u64) -> (u64, u64) {
        (sector, sectors)
    }
    fn set_cache_size(&self, _locked: &Locked<'_>, _size: i32) -> Result {
        Err(EINVAL)
    }
    fn cache_strips(&self) -> (i32, i32) {
        (0, 0)
    }
}
