// SPDX-License-Identifier: GPL-2.0

//! The block layer: requests of users, bios for members, and the plugs of those who submit.

pub(crate) mod context;
pub(crate) mod direct;
mod kunit;
pub(crate) mod member_bio;
pub(crate) mod plug;
pub(crate) mod request;
pub(crate) mod reserve;
pub(crate) mod slice_list;

use crate::bindings;
use core::fmt;
use core::ops::BitOr;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// To read.
    Read,
    /// To write; or, without data, only what its flags say.
    Write,
    /// To forget what is there.
    Discard,
    /// Something that the array does not say it can do.
    Other,
}

/// How a bio has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(bindings::blk_status_t);

impl Status {
    /// Well.
    pub(crate) const OK: Self = Self(bindings::RAID456_BLK_STS_OK);
    /// It failed.
    pub(crate) const IO_ERROR: Self = Self(bindings::RAID456_BLK_STS_IOERR);
    /// It would have had to wait, and must not.
    pub(crate) const AGAIN: Self = Self(bindings::RAID456_BLK_STS_AGAIN);
    /// The array does not do that.
    pub(crate) const NOT_SUPPORTED: Self = Self(bindings::RAID456_BLK_STS_NOTSUPP);
    /// The data has a wrong checksum: that does not count as an error of the medium.
    pub(crate) const PROTECTION: Self = Self(bindings::RAID456_BLK_STS_PROTECTION);

    /// Whether it ended well.
    pub(crate) fn is_ok(self) -> bool {
        self == Self::OK
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.0)
    }
}

/// How a bio wants to be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(bindings::blk_opf_t);

impl Flags {
    /// In no special way.
    pub(crate) const NONE: Self = Self(0);
    /// Somebody waits for it.
    pub(crate) const SYNC: Self = Self(bindings::RAID456_REQ_SYNC);
    /// It is durable when it ends.
    pub(crate) const FUA: Self = Self(bindings::RAID456_REQ_FUA);
    /// What ended before it is durable before it begins.
    pub(crate) const PREFLUSH: Self = Self(bindings::RAID456_REQ_PREFLUSH);
    /// It is a guess, and may fail if it would cost.
    pub(crate) const RAHEAD: Self = Self(bindings::RAID456_REQ_RAHEAD);
    /// It must not wait.
    pub(crate) const NOWAIT: Self = Self(bindings::RAID456_REQ_NOWAIT);

    /// Whether all of `other` are set.
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
