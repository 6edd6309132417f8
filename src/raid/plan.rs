// SPDX-License-Identifier: GPL-2.0

//! What one strip has to do next: read more blocks, recover a lost one, or go on.
//!
//! A plan is made from the strip's present state alone, again after each change (reads ended, one failed, a block was
//! recovered). So a read error needs no path of its own: the block counts as lost, and the next plan goes around it.

use super::column::Column;
use super::job::{Method, RmwLevel};
use super::roles::Roles;
use super::strips::Strips;

/// What to do next with one strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Read the blocks that are needed, can be read and are not in memory.
    Read(Need),
    /// Compute the blocks that are lost; those that it takes are in memory.
    Recover,
    /// Copy in the written data and make parity.
    Write(Method),
    /// Copy blocks to readers; those that are not in memory cannot be had.
    Deliver,
    /// Compare parity with data.
    Check,
    /// Everything is in memory as it should be; write what differs on the members.
    Store,
    /// Too many blocks are lost. Those of members that are replaced are in memory, if they can be had.
    Impossible,
}

/// Which blocks of a strip have to be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// For read-modify-write: what is changed, and this parity.
    Rmw(Parities),
    /// For reconstruct-write: all data that is not overwritten whole.
    Rcw,
    /// For data without parity: what is overwritten in part.
    Partial,
    /// What readers want.
    Wanted,
    /// To recover lost data: all other data, and this parity.
    Recovery(Parities),
    /// What members' replacements lack.
    Outdated,
    /// Everything.
    All,
}

/// Some of a strip's parity blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parities {
    /// P is one of them.
    p: bool,
    /// Q is one of them.
    q: bool,
}

impl Parities {
    /// None of them.
    const NONE: Self = Self { p: false, q: false };

    /// Whether the block of `member` is one of them.
    fn include(self, roles: Roles, member: usize) -> bool {
        (self.p && roles.is_p(member)) || (self.q && roles.is_q(member))
    }
}

impl Need {
    /// Whether the block of `strip` in the column of `member` has to be in memory.
    // For each block of each strip, most often with a need that the compiler knows.
    #[inline]
    pub(super) fn includes(
        self,
        column: &Column,
        roles: Roles,
        member: usize,
        strip: Strips,
    ) -> bool {
        let is_data = roles.is_data(member);
        let dirty = column.dirty.meets(strip);
        let full = column.full.meets(strip);
        match self {
            Self::Rmw(parity) => dirty || parity.include(roles, member),
            Self::Rcw => is_data && !full,
            Self::Partial => dirty && !full,
            Self::Wanted => column.wanted.meets(strip),
            Self::Recovery(parity) => is_data || parity.include(roles, member),
            Self::Outdated => column.outdated.meets(strip),
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

impl Missing {
    /// Counts a block.
    fn count(&mut self, lost: bool) {
        if lost {
            self.lost = self.lost.wrapping_add(1);
        } else {
            self.readable = self.readable.wrapping_add(1);
        }
    }
}

/// What RMW and RCW would take.
#[derive(Clone, Copy, Debug, Default)]
struct Weights {
    rmw: Missing,
    rcw: Missing,
    /// Data blocks that are written to, and all of them.
    dirty: u32,
    data: u32,
}

/// One strip of a span, as planning sees it.
pub(super) struct Strip<'a> {
    /// All members' columns.
    pub(super) columns: &'a [Column],
    /// What the members hold.
    pub(super) roles: Roles,
    /// The strip: a set of one.
    pub(super) strip: Strips,
}

/// What bears on the choice between RMW and RCW besides the blocks themselves.
#[derive(Clone, Copy)]
pub(super) struct WriteRules {
    /// Parity on the members is known to match data.
    pub(super) parity_known: bool,
    /// The administrator's preference.
    pub(super) rmw_level: RmwLevel,
    /// Somebody writes in sequence, and is likely to write the rest of the strip before long.
    pub(super) sequential: bool,
}

impl Strip<'_> {
    /// Plans a strip that has accepted writes and is frozen.
    pub(super) fn plan_write(&self, rules: WriteRules) -> Plan {
        // Parity that is lost is made anew, unless there is no member to hold it.
        let made = self
            .parities(|column| !column.lost.meets(self.strip) || column.storable.meets(self.strip));
        if made == Parities::NONE {
            let partial = self.missing(Need::Partial);
            return if partial.lost > 0 {
                Plan::Impossible
            } else if partial.readable > 0 {
                Plan::Read(Need::Partial)
            } else {
                Plan::Write(Method::NoParity)
            };
        }

        let Weights {
            rmw,
            rcw,
            dirty,
            data,
        } = self.weigh(made);
        if rmw.lost > 0 && rcw.lost > 0 {
            return self.recover().unwrap_or(Plan::Impossible);
        }
        let prefer_rmw = rules.parity_known
            && match rules.rmw_level {
                RmwLevel::Disable => false,
                // With what RCW reads now nothing is read for the rest of the strip, where RMW reads once more for each write.
                // Not at any price: it may have left memory by then.
                RmwLevel::Enable if rules.sequential && rcw.readable > 0 => {
                    rmw.readable.saturating_mul(2) < rcw.readable
                }
                // It works on what is changed twice, and reads parity too; RCW works on all data.
                RmwLevel::Enable if rmw.readable == rcw.readable => {
                    let parities = self.roles.parity_count();
                    dirty.saturating_mul(2).saturating_add(parities) <= data
                }
                RmwLevel::Enable => rmw.readable < rcw.readable,
                RmwLevel::Prefer => rmw.readable <= rcw.readable,
            };
        let use_rmw = rmw.lost == 0 && (prefer_rmw || rcw.lost > 0);
        let (missing, need, method) = if use_rmw {
            (rmw, Need::Rmw(made), Method::Rmw)
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

    /// Plans a strip that is being resynced, checked, repaired or rebuilt.
    pub(super) fn plan_sync(&self) -> Plan {
        let strip = self.strip;
        let mut lost = 0;
        let mut to_make = 0;
        let mut to_store = 0;
        let mut replace = false;
        for (member, column) in self.columns.iter().enumerate() {
            replace |= column.outdated.meets(strip);
            if !column.lost.meets(strip) {
                continue;
            }
            lost += 1;
            if column.uptodate.meets(strip) {
                continue;
            }
            let storable = (column.storable | column.read_error).meets(strip);
            to_make += u32::from(storable || self.roles.is_data(member));
            to_store += u32::from(storable);
        }
        let impossible = lost > self.roles.parity_count();
        if replace && (impossible || to_store == 0) {
            // That takes no parity. What is to be copied can be read, or was computed; where too many are lost, some of it.
            return if self.missing(Need::Outdated).readable > 0 {
                Plan::Read(Need::Outdated)
            } else if impossible {
                Plan::Impossible
            } else {
                Plan::Store
            };
        }
        if impossible {
            return Plan::Impossible;
        }
        // While less is lost than parity makes up for, the rest of parity says whether all is right.
        let check = lost < self.roles.parity_count();
        if !check && to_store == 0 {
            Plan::Store
        } else if self.missing(Need::All).readable > 0 {
            Plan::Read(Need::All)
        } else if to_make > 0 {
            Plan::Recover
        } else if check {
            Plan::Check
        } else {
            Plan::Store
        }
    }

    /// The way to recover lost data, or `None` if more is lost than parity can make up for.
    fn recover(&self) -> Option<Plan> {
        let data = self
            .columns
            .iter()
            .enumerate()
            .filter(|(member, _)| self.roles.is_data(*member));
        let lost = data
            .filter(|(_, column)| (column.lost - column.uptodate).meets(self.strip))
            .count();
        let held = self.parities(|column| !(column.lost - column.uptodate).meets(self.strip));
        let use_parity = match (lost, held) {
            (1, Parities { p: true, .. }) => Parities { p: true, q: false },
            (1, Parities { q: true, .. }) | (2, Parities { p: true, q: true }) => held,
            _ => return None,
        };
        let need = Need::Recovery(use_parity);
        Some(if self.missing(need).readable > 0 {
            Plan::Read(need)
        } else {
            Plan::Recover
        })
    }

    /// The parity blocks whose columns are so.
    fn parities(&self, is_so: impl Fn(&Column) -> bool) -> Parities {
        let holds = |member: u16| self.columns.get(usize::from(member)).is_some_and(&is_so);
        Parities {
            p: holds(self.roles.p()),
            q: self.roles.q().is_some_and(holds),
        }
    }

    /// Counts the needed blocks that are not in memory.
    fn missing(&self, need: Need) -> Missing {
        let mut missing = Missing::default();
        for (member, column) in self.columns.iter().enumerate() {
            if column.uptodate.meets(self.strip)
                || !need.includes(column, self.roles, member, self.strip)
            {
                continue;
            }
            missing.count(column.lost.meets(self.strip));
        }
        missing
    }

    /// As [`Self::missing`] for both ways to write, with this parity.
    fn weigh(&self, made: Parities) -> Weights {
        let mut weights = Weights::default();
        for (member, column) in self.columns.iter().enumerate() {
            let includes = |need: Need| need.includes(column, self.roles, member, self.strip);
            weights.data += u32::from(self.roles.is_data(member));
            weights.dirty += u32::from(column.dirty.meets(self.strip));
            if column.uptodate.meets(self.strip) {
                continue;
            }
            let lost = column.lost.meets(self.strip);
            if includes(Need::Rmw(made)) {
                weights.rmw.count(lost);
            }
            if includes(Need::Rcw) {
                weights.rcw.count(lost);
            }
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::super::roles::Slots;
    use super::*;

    /// Five members; each column given as flags: `u`ptodate, `d`irty, `f`ull, `l`ost, `w`anted, `s`torable, `o`utdated.
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
                storable: set(text, 's'),
                outdated: set(text, 'o'),
                ..Column::default()
            })
            .collect()
    }

    /// Parity on the last member.
    fn one() -> Roles {
        Roles::new(5, 4, None, Slots::AfterQ)
    }

    /// P and Q on the last two members.
    fn two() -> Roles {
        Roles::new(5, 3, Some(4), Slots::AfterQ)
    }

    const P: Parities = Parities { p: true, q: false };
    const Q: Parities = Parities { p: false, q: true };
    const PQ: Parities = Parities { p: true, q: true };

    const RULES: WriteRules = WriteRules {
        parity_known: true,
        rmw_level: RmwLevel::Enable,
        sequential: false,
    };

    /// What `plan` says of a strip.
    fn planned(roles: Roles, spec: [&str; 5], plan: impl Fn(&Strip<'_>) -> Plan) -> Plan {
        let columns = columns(spec);
        plan(&Strip {
            columns: &columns,
            roles,
            strip: Strips::one(0),
        })
    }

    fn write(spec: [&str; 5], rules: WriteRules) -> Plan {
        planned(one(), spec, |strip| strip.plan_write(rules))
    }

    fn read(spec: [&str; 5]) -> Plan {
        planned(one(), spec, |strip| strip.plan_read())
    }

    fn sync(spec: [&str; 5]) -> Plan {
        planned(one(), spec, |strip| strip.plan_sync())
    }

    fn write6(spec: [&str; 5]) -> Plan {
        planned(two(), spec, |strip| strip.plan_write(RULES))
    }

    fn read6(spec: [&str; 5]) -> Plan {
        planned(two(), spec, |strip| strip.plan_read())
    }

    fn sync6(spec: [&str; 5]) -> Plan {
        planned(two(), spec, |strip| strip.plan_sync())
    }

    #[test]
    fn a_full_strip_reads_nothing() {
        assert_eq!(
            write(["f", "f", "f", "f", ""], RULES),
            Plan::Write(Method::Rcw)
        );
    }

    #[test]
    fn what_somebody_writes_in_sequence_is_read_once() {
        let rules = WriteRules {
            sequential: true,
            ..RULES
        };
        for (spec, plan) in [
            // RMW would read two blocks now, and one for each that follows; RCW reads three, and no more.
            (["f", "", "", "", ""], Plan::Read(Need::Rcw)),
            (["f", "f", "", "", ""], Plan::Read(Need::Rcw)),
            (["f", "u", "u", "u", ""], Plan::Write(Method::Rcw)),
            // More than twice as much is too dear, and what has been read for RMW is not read for nothing.
            (["f", "", "", "", "u"], Plan::Read(Need::Rmw(P))),
            (["fu", "", "", "", "u"], Plan::Write(Method::Rmw)),
        ] {
            assert_eq!(write(spec, rules), plan, "{spec:?}");
        }
    }

    #[test]
    fn the_method_that_reads_less_is_taken() {
        assert_eq!(
            write(["d", "", "", "", ""], RULES),
            Plan::Read(Need::Rmw(P))
        );
        assert_eq!(write(["f", "f", "f", "", ""], RULES), Plan::Read(Need::Rcw));
        // As many reads either way: what computes with fewer blocks, unless RMW is preferred.
        let prefer = WriteRules {
            rmw_level: RmwLevel::Prefer,
            ..RULES
        };
        for rules in [RULES, prefer] {
            assert_eq!(
                write(["f", "u", "u", "", "u"], rules),
                Plan::Read(Need::Rmw(P))
            );
        }
        let half = ["d", "d", "u", "", ""];
        assert_eq!(write(half, RULES), Plan::Read(Need::Rcw));
        assert_eq!(write(half, prefer), Plan::Read(Need::Rmw(P)));
        // In memory all of it: nothing is read.
        assert_eq!(
            write(["du", "u", "u", "u", "u"], RULES),
            Plan::Write(Method::Rmw)
        );
        assert_eq!(
            write(["fu", "fu", "fu", "fu", "u"], RULES),
            Plan::Write(Method::Rcw)
        );
    }

    #[test]
    fn rmw_is_not_taken_where_it_is_forbidden() {
        let disable = WriteRules {
            rmw_level: RmwLevel::Disable,
            ..RULES
        };
        let untrusted = WriteRules {
            parity_known: false,
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
                Plan::Read(Need::Rmw(P)),
                "RCW would need the lost block"
            );
        }
    }

    #[test]
    fn a_lost_block_is_recovered_only_where_it_must_be() {
        assert_eq!(
            write(["d", "l", "", "", ""], RULES),
            Plan::Read(Need::Rmw(P)),
            "it is not touched"
        );
        assert_eq!(
            write(["fl", "", "", "", ""], RULES),
            Plan::Read(Need::Rcw),
            "it is overwritten"
        );
        assert_eq!(
            write(["dl", "", "", "", ""], RULES),
            Plan::Read(Need::Recovery(P)),
            "it is changed in part"
        );
        assert_eq!(write(["dl", "u", "u", "u", "u"], RULES), Plan::Recover);
        assert_eq!(
            write(["dlu", "u", "u", "u", "u"], RULES),
            Plan::Write(Method::Rmw)
        );
        // The lost block is not written, another one is overwritten whole: its old data is needed to recover, not to RMW.
        assert_eq!(write(["fl", "d", "", "", ""], RULES), Plan::Read(Need::Rcw));
    }

    #[test]
    fn without_a_parity_member_data_alone_is_written() {
        assert_eq!(
            write(["f", "", "", "", "l"], RULES),
            Plan::Write(Method::NoParity)
        );
        assert_eq!(
            write(["d", "", "", "", "l"], RULES),
            Plan::Read(Need::Partial)
        );
        assert_eq!(
            write(["d", "", "", "", "ls"], RULES),
            Plan::Read(Need::Rcw),
            "it is being rebuilt: parity must be right"
        );
    }

    #[test]
    fn two_lost_blocks_that_are_needed_are_too_many() {
        assert_eq!(write(["dl", "l", "", "", ""], RULES), Plan::Impossible);
        assert_eq!(write(["fl", "l", "", "", ""], RULES), Plan::Impossible);
        assert_eq!(write(["dl", "", "", "", "l"], RULES), Plan::Impossible);
    }

    #[test]
    fn readers_get_what_can_be_had() {
        assert_eq!(read(["w", "", "", "", ""]), Plan::Read(Need::Wanted));
        assert_eq!(read(["wu", "", "", "", ""]), Plan::Deliver);
        assert_eq!(read(["wl", "", "", "", ""]), Plan::Read(Need::Recovery(P)));
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
        assert_eq!(sync(["", "", "", "", ""]), Plan::Read(Need::All));
        assert_eq!(sync(["u", "u", "u", "u", "u"]), Plan::Check);
        assert_eq!(sync(["ls", "", "", "", ""]), Plan::Read(Need::All));
        assert_eq!(sync(["ls", "u", "u", "u", "u"]), Plan::Recover);
        assert_eq!(sync(["lsu", "u", "u", "u", "u"]), Plan::Store);
        assert_eq!(
            sync(["l", "", "", "", ""]),
            Plan::Store,
            "nowhere to write it"
        );
        assert_eq!(sync(["ls", "ls", "", "", ""]), Plan::Impossible);
    }

    #[test]
    fn what_a_replacement_lacks_is_copied_whatever_the_others_have_lost() {
        assert_eq!(sync(["os", "", "", "", ""]), Plan::Read(Need::Outdated));
        assert_eq!(sync(["osu", "", "", "", ""]), Plan::Store);
        assert_eq!(sync(["os", "l", "", "", ""]), Plan::Read(Need::Outdated));
        assert_eq!(
            sync(["os", "l", "l", "", ""]),
            Plan::Read(Need::Outdated),
            "too many are lost, and the member has the block"
        );
        assert_eq!(
            sync(["osu", "ls", "l", "", ""]),
            Plan::Impossible,
            "it is in memory, and the others cannot be had"
        );
        assert_eq!(
            sync(["osl", "l", "os", "", ""]),
            Plan::Read(Need::Outdated),
            "of two that are replaced one can be read"
        );
        assert_eq!(sync(["osl", "l", "osu", "", ""]), Plan::Impossible);
        assert_eq!(
            sync(["osl", "", "", "", ""]),
            Plan::Read(Need::All),
            "the others make up for it"
        );
        assert_eq!(sync6(["os", "l", "l", "l", ""]), Plan::Read(Need::Outdated));
        assert_eq!(sync6(["os", "ls", "ls", "", ""]), Plan::Read(Need::All));
    }

    #[test]
    fn both_parities_are_changed_or_made() {
        assert_eq!(
            write6(["d", "", "", "", ""]),
            Plan::Read(Need::Rcw),
            "three reads either way"
        );
        assert_eq!(
            write6(["f", "u", "", "u", ""]),
            Plan::Read(Need::Rcw),
            "one read against two"
        );
        assert_eq!(
            write6(["d", "", "", "u", "u"]),
            Plan::Read(Need::Rmw(PQ)),
            "one read against three"
        );
        assert_eq!(
            write6(["f", "f", "f", "", ""]),
            Plan::Write(Method::Rcw),
            "a full strip"
        );
    }

    #[test]
    fn parity_without_a_member_is_left_out() {
        assert_eq!(
            write6(["d", "l", "", "l", ""]),
            Plan::Read(Need::Rmw(Q)),
            "no P, and RCW would need the lost block"
        );
        assert_eq!(
            write6(["d", "l", "", "", "l"]),
            Plan::Read(Need::Rmw(P)),
            "no Q"
        );
        assert_eq!(
            write6(["d", "l", "", "", "ls"]),
            Plan::Read(Need::Recovery(P)),
            "Q is being rebuilt, so all data is needed"
        );
        assert_eq!(
            write6(["d", "", "", "l", "l"]),
            Plan::Read(Need::Partial),
            "neither"
        );
    }

    #[test]
    fn two_lost_blocks_are_recovered_with_both_parities() {
        assert_eq!(read6(["wl", "", "", "", ""]), Plan::Read(Need::Recovery(P)));
        assert_eq!(
            read6(["wl", "", "", "l", ""]),
            Plan::Read(Need::Recovery(Q))
        );
        assert_eq!(
            read6(["wl", "l", "", "", ""]),
            Plan::Read(Need::Recovery(PQ))
        );
        assert_eq!(read6(["wl", "l", "u", "u", "u"]), Plan::Recover);
        assert_eq!(read6(["wl", "l", "", "l", ""]), Plan::Deliver, "too many");
        assert_eq!(
            read6(["wl", "", "", "l", "l"]),
            Plan::Deliver,
            "nothing to recover it by"
        );
        assert_eq!(
            write6(["dl", "l", "", "", ""]),
            Plan::Read(Need::Recovery(PQ))
        );
        assert_eq!(write6(["dl", "l", "", "l", ""]), Plan::Impossible);
    }

    #[test]
    fn a_sync_checks_by_the_parity_that_is_left() {
        assert_eq!(sync6(["l", "", "", "", ""]), Plan::Read(Need::All));
        assert_eq!(sync6(["l", "u", "u", "u", "u"]), Plan::Recover);
        assert_eq!(sync6(["lu", "u", "u", "u", "u"]), Plan::Check);
        assert_eq!(
            sync6(["u", "u", "u", "u", "l"]),
            Plan::Check,
            "P against data"
        );
        assert_eq!(sync6(["u", "u", "u", "u", "ls"]), Plan::Recover);
        assert_eq!(sync6(["ls", "ls", "", "", ""]), Plan::Read(Need::All));
        assert_eq!(sync6(["ls", "l", "u", "u", "u"]), Plan::Recover);
        assert_eq!(sync6(["ls", "u", "u", "u", "l"]), Plan::Recover);
        assert_eq!(sync6(["lsu", "u", "u", "u", "l"]), Plan::Store);
        assert_eq!(
            sync6(["l", "", "", "", "l"]),
            Plan::Store,
            "nowhere to write either"
        );
        assert_eq!(sync6(["l", "l", "", "l", ""]), Plan::Impossible);
    }
}
