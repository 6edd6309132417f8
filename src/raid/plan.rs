// SPDX-License-Identifier: GPL-2.0

//! What one strip has to do next: read more blocks, recover a lost one, or go on.
//!
//! A plan is made from the strip's present state alone, again after each change (reads ended, one failed, a block was
//! recovered). So a read error needs no path of its own: the block counts as lost, and the next plan goes around it.

use super::column::Column;
use super::job::{Method, RmwLevel};
use super::strips::Strips;

/// What to do next with one strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Read the blocks that are needed, can be read and are not in memory.
    Read(Need),
    /// Compute the one block that is lost; all others are in memory.
    Recover,
    /// Copy in the written data and make parity.
    Write(Method),
    /// Copy blocks to readers; those that are not in memory cannot be had.
    Deliver,
    /// Compare parity with data.
    Check,
    /// Everything is in memory as it should be; write what differs on the members.
    Store,
    /// Too many blocks are lost.
    Impossible,
}

/// Which blocks of a strip have to be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// For read-modify-write: what is changed, and parity.
    Rmw,
    /// For reconstruct-write: all data that is not overwritten whole.
    Rcw,
    /// For data without parity: what is overwritten in part.
    Partial,
    /// What readers want.
    Wanted,
    /// Everything.
    All,
}

impl Need {
    /// Whether the block of `strip` in `column` has to be in memory.
    pub(super) fn includes(self, column: &Column, is_parity: bool, strip: Strips) -> bool {
        let dirty = column.dirty.meets(strip);
        let full = column.full.meets(strip);
        match self {
            Self::Rmw => dirty || is_parity,
            Self::Rcw => !is_parity && !full,
            Self::Partial => dirty && !full,
            Self::Wanted => column.wanted.meets(strip),
            Self::All => true,
        }
    }
}

/// How many needed blocks are not in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Missing {
    /// Those that a member can give.
    readable: u32,
    /// Those that no member can give.
    lost: u32,
}

/// One strip of a span, as planning sees it.
pub(super) struct Strip<'a> {
    /// All members' columns.
    pub(super) columns: &'a [Column],
    /// The member that holds parity.
    pub(super) parity: usize,
    /// The strip: a set of one.
    pub(super) strip: Strips,
}

/// What bears on the choice between RMW and RCW besides the blocks themselves.
#[derive(Clone, Copy)]
pub(super) struct WriteRules {
    /// The parity member can be written.
    pub(super) parity_writable: bool,
    /// Parity on the members is known to match data.
    pub(super) parity_trusted: bool,
    /// The administrator's preference.
    pub(super) rmw_level: RmwLevel,
}

impl Strip<'_> {
    /// Plans a strip that has accepted writes and is frozen.
    pub(super) fn plan_write(&self, rules: WriteRules) -> Plan {
        let parity_lost = match self.columns.get(self.parity) {
            Some(column) => column.lost.meets(self.strip),
            None => true,
        };
        if parity_lost && !rules.parity_writable {
            let partial = self.missing(Need::Partial);
            return if partial.lost > 0 {
                Plan::Impossible
            } else if partial.readable > 0 {
                Plan::Read(Need::Partial)
            } else {
                Plan::Write(Method::NoParity)
            };
        }

        let rmw = self.missing(Need::Rmw);
        let rcw = self.missing(Need::Rcw);
        if rmw.lost > 0 && rcw.lost > 0 {
            return self.recover().unwrap_or(Plan::Impossible);
        }
        let prefer_rmw = rules.parity_trusted
            && match rules.rmw_level {
                RmwLevel::Disable => false,
                RmwLevel::Enable => rmw.readable < rcw.readable,
                RmwLevel::Prefer => rmw.readable <= rcw.readable,
            };
        let use_rmw = rmw.lost == 0 && (prefer_rmw || rcw.lost > 0);
        let (missing, need, method) = if use_rmw {
            (rmw, Need::Rmw, Method::Rmw)
        } else {
            (rcw, Need::Rcw, Method::Rcw)
        };
        if missing.readable > 0 {
            Plan::Read(need)
        } else {
            Plan::Write(method)
        }
    }

    /// Plans a strip that has accepted reads.
    pub(super) fn plan_read(&self) -> Plan {
        let wanted = self.missing(Need::Wanted);
        if wanted.lost > 0 {
            if let Some(plan) = self.recover() {
                return plan;
            }
        }
        if wanted.readable > 0 {
            Plan::Read(Need::Wanted)
        } else {
            Plan::Deliver
        }
    }

    /// Plans a strip that is being resynced, checked, repaired or rebuilt; `storable` tells whether a lost block of a
    /// column can be written once it is recovered.
    pub(super) fn plan_sync(&self, storable: impl Fn(usize, &Column) -> bool) -> Plan {
        let strip = self.strip;
        let mut lost = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, c)| c.lost.meets(strip));
        match (lost.next(), lost.next()) {
            (None, _) => match self.missing(Need::All) {
                Missing { readable: 0, .. } => Plan::Check,
                _ => Plan::Read(Need::All),
            },
            (Some((member, column)), None) => {
                if column.uptodate.meets(strip) || !storable(member, column) {
                    Plan::Store
                } else {
                    self.recover().unwrap_or(Plan::Impossible)
                }
            }
            _ => Plan::Impossible,
        }
    }

    /// The way to recover the lost block, or `None` if more are lost than parity can make up for.
    fn recover(&self) -> Option<Plan> {
        match self.missing(Need::All) {
            Missing {
                lost: 1,
                readable: 0,
            } => Some(Plan::Recover),
            Missing { lost: 1, .. } => Some(Plan::Read(Need::All)),
            _ => None,
        }
    }

    /// Counts the needed blocks that are not in memory.
    fn missing(&self, need: Need) -> Missing {
        let mut missing = Missing::default();
        for (member, column) in self.columns.iter().enumerate() {
            if column.uptodate.meets(self.strip)
                || !need.includes(column, member == self.parity, self.strip)
            {
                continue;
            }
            if column.lost.meets(self.strip) {
                missing.lost += 1;
            } else {
                missing.readable += 1;
            }
        }
        missing
    }
}
