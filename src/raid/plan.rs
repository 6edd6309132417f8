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

#[cfg(test)]
mod tests {
    use super::*;

    /// Five members, parity on the last one; each column given as flags: `u`ptodate, `d`irty, `f`ull, `l`ost, `w`anted.
    fn columns(spec: [&str; 5]) -> Vec<Column> {
        let one = Strips::one(0);
        let set = |text: &str, flag| {
            if text.contains(flag) {
                one
            } else {
                Strips::NONE
            }
        };
        spec.iter()
            .map(|text| Column {
                uptodate: set(text, 'u'),
                dirty: set(text, 'd') | set(text, 'f'),
                full: set(text, 'f'),
                lost: set(text, 'l'),
                wanted: set(text, 'w'),
                ..Column::default()
            })
            .collect()
    }

    const RULES: WriteRules = WriteRules {
        parity_writable: true,
        parity_trusted: true,
        rmw_level: RmwLevel::Enable,
    };

    fn write(spec: [&str; 5], rules: WriteRules) -> Plan {
        let columns = columns(spec);
        Strip {
            columns: &columns,
            parity: 4,
            strip: Strips::one(0),
        }
        .plan_write(rules)
    }

    fn read(spec: [&str; 5]) -> Plan {
        let columns = columns(spec);
        Strip {
            columns: &columns,
            parity: 4,
            strip: Strips::one(0),
        }
        .plan_read()
    }

    fn sync(spec: [&str; 5], storable: bool) -> Plan {
        let columns = columns(spec);
        Strip {
            columns: &columns,
            parity: 4,
            strip: Strips::one(0),
        }
        .plan_sync(|_, _| storable)
    }

    #[test]
    fn a_full_strip_reads_nothing() {
        assert_eq!(
            write(["f", "f", "f", "f", ""], RULES),
            Plan::Write(Method::Rcw)
        );
    }

    #[test]
    fn the_method_that_reads_less_is_taken() {
        assert_eq!(write(["d", "", "", "", ""], RULES), Plan::Read(Need::Rmw));
        assert_eq!(write(["f", "f", "f", "", ""], RULES), Plan::Read(Need::Rcw));
        // Two reads either way: RCW, unless RMW is preferred.
        let prefer = WriteRules {
            rmw_level: RmwLevel::Prefer,
            ..RULES
        };
        assert_eq!(
            write(["f", "u", "u", "", "u"], RULES),
            Plan::Read(Need::Rcw)
        );
        assert_eq!(
            write(["f", "u", "u", "", "u"], prefer),
            Plan::Read(Need::Rmw)
        );
    }

    #[test]
    fn rmw_is_not_taken_where_it_is_forbidden() {
        let disable = WriteRules {
            rmw_level: RmwLevel::Disable,
            ..RULES
        };
        let untrusted = WriteRules {
            parity_trusted: false,
            ..RULES
        };
        for rules in [disable, untrusted] {
            assert_eq!(
                write(["d", "", "", "", ""], rules),
                Plan::Read(Need::Rcw),
                "nothing is lost"
            );
            assert_eq!(
                write(["d", "l", "", "", ""], rules),
                Plan::Read(Need::Rmw),
                "RCW would need the lost block"
            );
        }
    }

    #[test]
    fn a_lost_block_is_recovered_only_where_it_must_be() {
        assert_eq!(
            write(["d", "l", "", "", ""], RULES),
            Plan::Read(Need::Rmw),
            "it is not touched"
        );
        assert_eq!(
            write(["fl", "", "", "", ""], RULES),
            Plan::Read(Need::Rcw),
            "it is overwritten"
        );
        assert_eq!(
            write(["dl", "", "", "", ""], RULES),
            Plan::Read(Need::All),
            "it is changed in part"
        );
        assert_eq!(write(["dl", "u", "u", "u", "u"], RULES), Plan::Recover);
        assert_eq!(
            write(["dlu", "u", "u", "u", "u"], RULES),
            Plan::Write(Method::Rcw)
        );
        // The lost block is not written, another one is overwritten whole: its old data is needed to recover, not to RMW.
        assert_eq!(write(["fl", "d", "", "", ""], RULES), Plan::Read(Need::Rcw));
    }

    #[test]
    fn without_a_parity_member_data_alone_is_written() {
        let gone = WriteRules {
            parity_writable: false,
            ..RULES
        };
        assert_eq!(
            write(["f", "", "", "", "l"], gone),
            Plan::Write(Method::NoParity)
        );
        assert_eq!(
            write(["d", "", "", "", "l"], gone),
            Plan::Read(Need::Partial)
        );
        assert_eq!(
            write(["d", "", "", "", "l"], RULES),
            Plan::Read(Need::Rcw),
            "it is being rebuilt: parity must be right"
        );
    }

    #[test]
    fn two_lost_blocks_that_are_needed_are_too_many() {
        assert_eq!(write(["dl", "l", "", "", ""], RULES), Plan::Impossible);
        assert_eq!(write(["fl", "l", "", "", ""], RULES), Plan::Impossible);
        let gone = WriteRules {
            parity_writable: false,
            ..RULES
        };
        assert_eq!(write(["dl", "", "", "", "l"], gone), Plan::Impossible);
    }

    #[test]
    fn readers_get_what_can_be_had() {
        assert_eq!(read(["w", "", "", "", ""]), Plan::Read(Need::Wanted));
        assert_eq!(read(["wu", "", "", "", ""]), Plan::Deliver);
        assert_eq!(read(["wl", "", "", "", ""]), Plan::Read(Need::All));
        assert_eq!(read(["wl", "u", "u", "u", "u"]), Plan::Recover);
        assert_eq!(
            read(["wl", "l", "", "", ""]),
            Plan::Deliver,
            "cannot be had"
        );
        assert_eq!(
            read(["wl", "l", "w", "", ""]),
            Plan::Read(Need::Wanted),
            "the other reader's block can"
        );
    }

    #[test]
    fn a_sync_compares_or_rebuilds() {
        assert_eq!(sync(["", "", "", "", ""], true), Plan::Read(Need::All));
        assert_eq!(sync(["u", "u", "u", "u", "u"], true), Plan::Check);
        assert_eq!(sync(["l", "", "", "", ""], true), Plan::Read(Need::All));
        assert_eq!(sync(["l", "u", "u", "u", "u"], true), Plan::Recover);
        assert_eq!(sync(["lu", "u", "u", "u", "u"], true), Plan::Store);
        assert_eq!(
            sync(["l", "", "", "", ""], false),
            Plan::Store,
            "nowhere to write it"
        );
        assert_eq!(sync(["l", "l", "", "", ""], true), Plan::Impossible);
    }
}
