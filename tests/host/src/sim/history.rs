// SPDX-License-Identifier: GPL-2.0

//! What each sector of the array may hold, going by the writes that were made to it.
//!
//! A sector remembers the writes that a read may still return, or that may be there after a power cut. Of two writes the
//! later one wins only if it began after the earlier one had been acknowledged; writes that overlap in time may land in
//! either order.

use std::collections::BTreeMap;

/// A moment. Two events never share one.
pub(crate) type Time = u64;

/// Not yet.
const NEVER: Time = Time::MAX;

/// What a sector may hold: this, or anything at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Is(u64),
    /// More was lost than parity can make up for.
    Any,
}

/// A write to one sector.
#[derive(Clone, Copy, Debug)]
struct Write {
    content: Content,
    began: Time,
    ended: Time,
    /// It was refused: it may be there, and outdoes nobody.
    refused: bool,
    /// It would be there after a power cut.
    durable: bool,
    /// Another write that overlapped it in time has been seen to win.
    overtaken: bool,
}

impl Write {
    /// One that has ended and is durable.
    fn settled(content: Content, at: Time) -> Self {
        Self {
            content,
            began: at,
            ended: at,
            refused: false,
            durable: true,
            overtaken: false,
        }
    }

    fn outdoes(&self, other: &Self) -> bool {
        !self.refused && self.ended != NEVER && other.ended < self.began
    }
}

/// A read under way.
#[derive(Debug)]
struct Read {
    id: u64,
    start: u32,
    base: Vec<u64>,
    /// Sectors that may hold something else than `base`.
    others: BTreeMap<u32, Vec<Content>>,
}

/// The memory of all sectors of the array.
#[derive(Debug)]
pub(crate) struct History {
    /// What a sector holds of which nothing else is remembered.
    base: Vec<u64>,
    writes: Vec<Vec<Write>>,
    /// Sectors with acknowledged writes that may not be durable.
    undurable: Vec<u32>,
    reads: Vec<Read>,
    now: Time,
}

impl History {
    /// An array that holds `base`, all of it durable.
    pub(crate) fn new(base: Vec<u64>) -> Self {
        Self {
            writes: vec![Vec::new(); base.len()],
            base,
            undurable: Vec::new(),
            reads: Vec::new(),
            now: 1,
        }
    }

    /// The next moment.
    pub(crate) fn tick(&mut self) -> Time {
        self.now += 1;
        self.now
    }

    /// A write to `sector` begins at `began`.
    pub(crate) fn write_began(&mut self, sector: u32, value: u64, began: Time) {
        let base = self.base[sector as usize];
        let writes = &mut self.writes[sector as usize];
        if writes.is_empty() {
            writes.push(Write::settled(Content::Is(base), 0));
        }
        writes.push(Write {
            began,
            ended: NEVER,
            durable: false,
            ..Write::settled(Content::Is(value), 0)
        });
        self.tell_reads(sector, Content::Is(value));
    }

    /// The write to `sector` that began at `began` ends: acknowledged, or refused.
    pub(crate) fn write_ended(&mut self, sector: u32, began: Time, ok: bool, durable: bool) {
        let now = self.now;
        let writes = &mut self.writes[sector as usize];
        if let Some(write) = writes
            .iter_mut()
            .find(|w| w.began == began && w.ended == NEVER)
        {
            write.ended = now;
            write.refused = !ok;
            write.durable = ok && durable;
        }
        if ok && !durable {
            self.undurable.push(sector);
        }
        self.prune(sector);
    }

    /// A flush that began at `began` has ended: what was acknowledged before it began is durable.
    pub(crate) fn flushed(&mut self, began: Time) {
        let mut rest = Vec::new();
        for sector in std::mem::take(&mut self.undurable) {
            let mut open = false;
            for write in &mut self.writes[sector as usize] {
                if write.ended < began && !write.refused {
                    write.durable = true;
                }
                open |= write.ended != NEVER && !write.refused && !write.durable;
            }
            if open {
                rest.push(sector);
            }
            self.prune(sector);
        }
        rest.dedup();
        self.undurable = rest;
    }

    /// A read of `count` sectors begins.
    pub(crate) fn read_began(&mut self, id: u64, start: u32, count: u32) {
        let range = start as usize..(start + count) as usize;
        let others = (start..start + count)
            .filter(|&sector| !self.writes[sector as usize].is_empty())
            .map(|sector| (sector, self.live(sector).collect()))
            .collect();
        self.reads.push(Read {
            id,
            start,
            base: self.base[range].to_vec(),
            others,
        });
    }

    /// A read ends, and has returned `values` if it went well. The error tells sector, what might have come, what came.
    pub(crate) fn read_ended(
        &mut self,
        id: u64,
        values: Option<&[u64]>,
    ) -> Result<(), (u32, String, u64)> {
        let Some(index) = self.reads.iter().position(|read| read.id == id) else {
            return Ok(());
        };
        let read = self.reads.swap_remove(index);
        for ((sector, &base), &came) in (read.start..)
            .zip(&read.base)
            .zip(values.unwrap_or_default())
        {
            match read.others.get(&sector) {
                None if base == came => {}
                None => return Err((sector, show(&[Content::Is(base)]), came)),
                Some(allowed) if allows(allowed, came) => {}
                Some(allowed) => return Err((sector, show(allowed), came)),
            }
        }
        Ok(())
    }

    /// Nothing is on its way to `sector` on the members, which hold `value` there. The error tells what they might hold.
    ///
    /// Of acknowledged writes that overlapped in time, the one that is seen now has won.
    pub(crate) fn settled(&mut self, sector: u32, value: u64) -> Result<(), String> {
        if self.writes[sector as usize].is_empty() {
            let base = self.base[sector as usize];
            return if base == value {
                Ok(())
            } else {
                Err(show(&[Content::Is(base)]))
            };
        }
        let allowed: Vec<_> = self.live(sector).collect();
        if !allows(&allowed, value) {
            return Err(show(&allowed));
        }
        let writes = &mut self.writes[sector as usize];
        let sure = writes
            .iter()
            .all(|w| w.ended != NEVER && (w.content != Content::Any || w.overtaken));
        // Of two discards it cannot be told which one is seen: the other may have lost, and count for nothing.
        let seen = writes.iter().filter(|w| w.content == Content::Is(value));
        if sure && seen.count() == 1 {
            for write in writes {
                write.overtaken |= write.content != Content::Is(value);
            }
            self.prune(sector);
        }
        Ok(())
    }

    /// More than parity can make up for was lost: `sector` may hold anything, except that writes under way may yet set it
    /// right; but not if it is `hopeless`.
    pub(crate) fn lost(&mut self, sector: u32, hopeless: bool) {
        let now = self.tick();
        let base = self.base[sector as usize];
        let writes = &mut self.writes[sector as usize];
        let under_way = writes
            .iter()
            .filter(|w| w.ended == NEVER)
            .map(|w| w.began)
            .min();
        let at = under_way
            .filter(|_| !hopeless)
            .map_or(now, |began| began - 1);
        let known = |w: &Write| w.content == Content::Any && !w.overtaken && w.ended >= at;
        if writes.iter().any(known) {
            return;
        }
        writes.retain(|w| w.content != Content::Any);
        if writes.is_empty() {
            writes.push(Write::settled(Content::Is(base), 0));
        }
        writes.push(Write::settled(Content::Any, at));
        self.tell_reads(sector, Content::Any);
    }

    /// The power has failed: nothing is under way any more. Each sector may hold what no durable write outdoes.
    pub(crate) fn power_cut(&mut self) {
        let now = self.tick();
        self.reads.clear();
        self.undurable.clear();
        for writes in &mut self.writes {
            for write in writes.iter_mut() {
                if write.ended == NEVER {
                    write.ended = now;
                    write.refused = true;
                }
                write.overtaken = false;
            }
        }
    }

    /// After a power cut: what `sector` may hold now. With `found`, that it is known from here on to hold this.
    pub(crate) fn after_power_cut(&mut self, sector: u32, found: u64) -> Result<(), String> {
        let writes = &mut self.writes[sector as usize];
        if writes.is_empty() {
            let base = self.base[sector as usize];
            return if base == found {
                Ok(())
            } else {
                Err(show(&[Content::Is(base)]))
            };
        }
        let allowed: Vec<_> = writes.iter().map(|w| w.content).collect();
        if !allows(&allowed, found) {
            return Err(show(&allowed));
        }
        writes.retain(|w| w.content == Content::Any);
        self.base[sector as usize] = found;
        Ok(())
    }

    /// A member changes `sector` to `value` behind everybody's back: that may be read from now on, as well as what was
    /// written.
    pub(crate) fn scribbled(&mut self, sector: u32, value: u64) {
        let began = self.tick();
        self.write_began(sector, value, began);
    }

    /// What [`Self::scribbled`] put there counts no more.
    pub(crate) fn unscribbled(&mut self, sector: u32, value: u64) {
        let writes = &mut self.writes[sector as usize];
        writes.retain(|w| w.content != Content::Is(value) || w.ended != NEVER);
        self.prune(sector);
    }

    /// `sector` held `was`, on the medium too, and now holds `is` again.
    pub(crate) fn mended(&mut self, sector: u32, was: u64, is: u64) {
        let (before, now) = (self.tick(), self.tick());
        let writes = &mut self.writes[sector as usize];
        writes.push(Write::settled(Content::Is(was), before));
        writes.push(Write {
            durable: false,
            ..Write::settled(Content::Is(is), now)
        });
        self.undurable.push(sector);
        self.prune(sector);
    }

    /// After a power cut: `sector` was scribbled on before, and still is.
    pub(crate) fn remember(&mut self, sector: u32, was: u64, is: u64) {
        self.writes[sector as usize].clear();
        self.base[sector as usize] = was;
        self.scribbled(sector, is);
    }

    /// After a power cut: `sector` lies behind the write hole.
    pub(crate) fn fell_into_hole(&mut self, sector: u32) {
        self.writes[sector as usize].clear();
        self.lost(sector, true);
    }

    /// Whether some write of `sector` is under way.
    pub(crate) fn is_being_written(&self, sector: u32) -> bool {
        self.writes[sector as usize]
            .iter()
            .any(|w| w.ended == NEVER)
    }

    fn live(&self, sector: u32) -> impl Iterator<Item = Content> + '_ {
        let writes = &self.writes[sector as usize];
        writes
            .iter()
            .filter(|w| !w.overtaken && !writes.iter().any(|by| by.outdoes(w)))
            .map(|w| w.content)
    }

    fn tell_reads(&mut self, sector: u32, content: Content) {
        for read in &mut self.reads {
            if sector >= read.start && ((sector - read.start) as usize) < read.base.len() {
                let base = read.base[(sector - read.start) as usize];
                read.others
                    .entry(sector)
                    .or_insert_with(|| vec![Content::Is(base)])
                    .push(content);
            }
        }
    }

    /// Forgets what cannot come back.
    fn prune(&mut self, sector: u32) {
        let writes = &mut self.writes[sector as usize];
        let durable: Vec<Write> = writes
            .iter()
            .filter(|w| w.durable && !w.refused && w.ended != NEVER && !w.overtaken)
            .copied()
            .collect();
        writes.retain(|w| {
            let kept = !w.overtaken || durable.is_empty();
            kept && !durable.iter().any(|by| by.outdoes(w))
        });
        if let [only] = writes[..] {
            if let (Content::Is(value), true, false) = (only.content, only.durable, only.refused) {
                self.base[sector as usize] = value;
                writes.clear();
            }
        }
    }
}

fn allows(allowed: &[Content], value: u64) -> bool {
    allowed
        .iter()
        .any(|&c| c == Content::Any || c == Content::Is(value))
}

fn show(allowed: &[Content]) -> String {
    let one = |c: &Content| match c {
        Content::Is(value) => format!("{value:016x}"),
        Content::Any => "anything".into(),
    };
    allowed.iter().map(one).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector() -> History {
        History::new(vec![7])
    }

    fn write(history: &mut History, value: u64) {
        let began = history.tick();
        history.write_began(0, value, began);
    }

    fn end(history: &mut History, value: u64, durable: bool) {
        history.tick();
        let mut writes = history.writes[0].iter();
        let began = writes
            .find(|w| w.content == Content::Is(value))
            .unwrap()
            .began;
        history.write_ended(0, began, true, durable);
    }

    fn live(history: &History) -> Vec<Content> {
        let mut live: Vec<_> = history.live(0).collect();
        if live.is_empty() {
            live.push(Content::Is(history.base[0]));
        }
        live
    }

    #[test]
    fn an_acknowledged_write_outdoes_what_was_there() {
        let mut history = sector();
        write(&mut history, 1);
        assert_eq!(live(&history), [Content::Is(7), Content::Is(1)]);
        end(&mut history, 1, false);
        assert_eq!(live(&history), [Content::Is(1)]);
    }

    #[test]
    fn of_two_that_overlap_either_may_win_until_one_is_seen_to() {
        let mut history = sector();
        write(&mut history, 1);
        write(&mut history, 2);
        end(&mut history, 1, false);
        end(&mut history, 2, false);
        assert_eq!(live(&history), [Content::Is(1), Content::Is(2)]);
        assert_eq!(history.settled(0, 2), Ok(()));
        assert_eq!(live(&history), [Content::Is(2)]);
        assert!(history.settled(0, 1).is_err());
    }

    #[test]
    fn a_power_cut_takes_back_what_was_not_flushed() {
        let mut history = sector();
        write(&mut history, 1);
        end(&mut history, 1, false);
        let flush = history.tick();
        write(&mut history, 2);
        end(&mut history, 2, false);
        history.flushed(flush);
        history.power_cut();
        assert!(
            history.after_power_cut(0, 7).is_err(),
            "1 was flushed over it"
        );
        assert_eq!(history.after_power_cut(0, 1), Ok(()), "2 was not flushed");
        assert!(history.after_power_cut(0, 2).is_err(), "1 was found");
    }

    #[test]
    fn a_read_may_return_what_is_written_meanwhile() {
        let mut history = sector();
        history.read_began(1, 0, 1);
        history.read_began(2, 0, 1);
        write(&mut history, 1);
        end(&mut history, 1, true);
        assert!(history.read_ended(1, Some(&[1])).is_ok());
        assert!(history.read_ended(2, Some(&[7])).is_ok());
        history.read_began(3, 0, 1);
        assert!(history.read_ended(3, Some(&[7])).is_err());
    }

    #[test]
    fn a_sector_that_was_scribbled_on_holds_either() {
        let mut history = sector();
        history.scribbled(0, 99);
        assert_eq!(live(&history), [Content::Is(7), Content::Is(99)]);
        assert_eq!(history.settled(0, 99), Ok(()));
        assert_eq!(history.settled(0, 7), Ok(()), "not decided by looking");
        history.unscribbled(0, 99);
        assert!(history.settled(0, 99).is_err());
    }

    #[test]
    fn what_was_mended_may_be_undone_by_a_power_cut_until_it_is_flushed() {
        for flush in [false, true] {
            let mut history = sector();
            history.scribbled(0, 99);
            history.unscribbled(0, 99);
            history.mended(0, 99, 7);
            assert_eq!(live(&history), [Content::Is(7)]);
            if flush {
                let began = history.tick();
                history.flushed(began);
            }
            history.power_cut();
            assert_eq!(history.after_power_cut(0, 99).is_ok(), !flush);
        }
    }

    #[test]
    fn a_lost_sector_is_known_again_once_it_is_written() {
        let mut history = sector();
        write(&mut history, 1);
        history.lost(0, false);
        assert_eq!(history.settled(0, 99), Ok(()));
        end(&mut history, 1, true);
        assert!(history.settled(0, 99).is_err());
    }
}
