// SPDX-License-Identifier: GPL-2.0

//! Requests to the array: what a bio is to the driver, with the counts that must come out even.

use super::history::Time;
use super::report::Event;
use super::rng::mix;
use super::Sim;
use std::ops::Range;

/// A sector that no read has filled in.
const EMPTY: u64 = 0xdead_dead_dead_dead;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// Of whole stripes, which are zeroes after that.
    Discard,
    /// REQ_PREFLUSH without data.
    Flush,
}

/// A write that the bitmap counts until it ends.
#[derive(Debug)]
pub(crate) struct Account {
    /// Member sectors.
    pub(crate) rows: Range<u64>,
    /// Parts that have not ended, and one while it is being submitted.
    pub(crate) parts: usize,
    /// The flush of the bitmap that they waited for.
    pub(crate) sequence: Option<u32>,
}

/// A request to the array.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its number, counted from the run's start.
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    /// Array sectors.
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) fua: bool,
    pub(crate) preflush: bool,
    pub(crate) nowait: bool,
    /// The submitter waits for it before its next one.
    pub(crate) sync: bool,
    /// bi_remaining.
    remaining: u32,
    /// Some part failed.
    refused: bool,
    /// NOWAIT: it would have had to wait.
    again: bool,
    /// It was found that it may fail.
    pub(crate) may_fail: bool,
    /// What a read has brought.
    data: Vec<u64>,
    /// When it, and its flush, began.
    began: Time,
    /// What the bitmap took note of.
    pub(crate) account: Option<Account>,
    /// It has one of the clones that are kept.
    pub(crate) clone: bool,
    /// When it was submitted, in steps.
    pub(crate) since: u64,
}

/// The requests that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    slots: Vec<Option<Request>>,
    next: u64,
}

/// What a write puts into an array sector.
pub(crate) fn value(id: u64, sector: u32) -> u64 {
    mix(id, u64::from(sector))
}

/// What a request puts into an array sector.
fn new_value(kind: Kind, id: u64, sector: u32) -> u64 {
    if kind == Kind::Discard {
        0
    } else {
        value(id, sector)
    }
}

impl Requests {
    /// The request in `slot`; its references keep it there.
    pub(crate) fn get(&self, slot: usize) -> &Request {
        self.slots[slot]
            .as_ref()
            .unwrap_or_else(|| panic!("request in slot {slot} has ended"))
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> &mut Request {
        self.slots[slot]
            .as_mut()
            .unwrap_or_else(|| panic!("request in slot {slot} has ended"))
    }

    /// The number of the request in `slot`.
    pub(crate) fn id(&self, slot: usize) -> u64 {
        self.get(slot).id
    }

    /// A read gets one sector.
    pub(crate) fn deliver(&mut self, slot: usize, sector: u32, value: u64) {
        let request = self.get_mut(slot);
        if let Some(at) = sector.checked_sub(request.start) {
            if let Some(place) = request.data.get_mut(at as usize) {
                *place = value;
            }
        }
    }

    /// bio_inc_remaining().
    pub(crate) fn hold(&mut self, slot: usize) {
        self.get_mut(slot).remaining += 1;
    }

    /// A part more has to end before what the bitmap knows of a write does.
    pub(crate) fn account_more(&mut self, slot: usize) {
        if let Some(account) = &mut self.get_mut(slot).account {
            account.parts += 1;
        }
    }

    /// Some of it cannot be served.
    pub(crate) fn refuse(&mut self, slot: usize) {
        self.get_mut(slot).refused = true;
    }

    /// NOWAIT: it would have to wait.
    pub(crate) fn would_block(&mut self, slot: usize) {
        self.get_mut(slot).again = true;
    }

    /// The requests that have not ended.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Request)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, request)| Some((slot, request.as_ref()?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn insert(&mut self, request: Request) -> usize {
        match self.slots.iter().position(Option::is_none) {
            Some(slot) => {
                self.slots[slot] = Some(request);
                slot
            }
            None => {
                self.slots.push(Some(request));
                self.slots.len() - 1
            }
        }
    }

    /// Forgets all of them: the power is gone.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }
}

impl Sim {
    /// A new request, as a submitter draws one.
    pub(crate) fn new_request(&mut self) -> usize {
        let config = &self.config;
        let rng = &mut self.rng;
        let array = config.array_sectors();
        let area = if rng.chance(850) {
            config.hot.min(array)
        } else {
            array
        };
        let stripe = config.chunk * config.data_members();
        let kind = if rng.chance(60) {
            Kind::Flush
        } else if rng.chance(config.reads) {
            Kind::Read
        } else if rng.chance(config.discards) {
            Kind::Discard
        } else {
            Kind::Write
        };
        let (start, len) = match rng.below(8) {
            _ if kind == Kind::Discard => {
                let start = rng.below(area) / stripe * stripe;
                (start, stripe * (1 + rng.below(3)))
            }
            // Sectors, blocks, a bit of everything, whole chunks, whole stripes.
            0 => (rng.below(area), 1 + rng.below(8)),
            1..=2 => (rng.below(area) & !7, 8),
            3 => (rng.below(area) & !7, 8 * (1 + rng.below(8))),
            4 => (rng.below(area), 1 + rng.below(area.min(256))),
            5 => (rng.below(area) / config.chunk * config.chunk, config.chunk),
            _ => (rng.below(area) / stripe * stripe, stripe),
        };
        let len = if kind == Kind::Flush {
            0
        } else {
            len.min(array - start)
        };
        let is_write = kind == Kind::Write;
        let id = self.requests.next + 1;
        let request = Request {
            id,
            kind,
            start,
            len,
            fua: is_write && rng.chance(config.durable),
            preflush: kind == Kind::Flush || (is_write && rng.chance(config.durable / 4)),
            nowait: rng.chance(40) && kind != Kind::Discard,
            sync: rng.chance(300),
            remaining: 1,
            refused: false,
            again: false,
            may_fail: false,
            data: if kind == Kind::Read {
                vec![EMPTY; len as usize]
            } else {
                Vec::new()
            },
            began: self.history.tick(),
            account: None,
            clone: false,
            since: self.step,
        };
        self.requests.next = id;
        self.note(|| {
            format!(
                "request {id}: {kind:?} {start}+{len}{}{}{}",
                if request.fua { " FUA" } else { "" },
                if request.preflush { " PREFLUSH" } else { "" },
                if request.nowait { " NOWAIT" } else { "" }
            )
        });
        if request.preflush {
            self.count(Event::Flush);
        }
        match kind {
            Kind::Read => self.history.read_began(id, start, len),
            Kind::Write | Kind::Discard => {
                for sector in start..start + len {
                    let value = new_value(kind, id, sector);
                    self.history.write_began(sector, value, request.began);
                }
            }
            Kind::Flush => {}
        }
        self.requests.insert(request)
    }

    /// bio_endio(): drops one reference; the last one ends the request.
    pub(crate) fn put_request(&mut self, slot: usize) {
        let request = self.requests.get_mut(slot);
        match request.remaining.checked_sub(1) {
            None => self.fail(
                "each reference of a request to be dropped once",
                "one more".into(),
            ),
            Some(0) => {
                // A flush is worth nothing while a failed member, whose cache it passed over, would still count.
                if request.preflush && !self.failures_recorded() {
                    self.flush_waiters.push(slot);
                    return;
                }
                self.end_request(slot);
            }
            Some(left) => request.remaining = left,
        }
    }

    /// Requests whose end waited for the superblock may end.
    pub(crate) fn release_flushes(&mut self) {
        for slot in std::mem::take(&mut self.flush_waiters) {
            self.put_request(slot);
        }
    }

    /// A part of a write has ended, or its submission. The last one ends what the bitmap knows of it.
    pub(crate) fn account_part(&mut self, slot: usize) {
        let Some(account) = &mut self.requests.get_mut(slot).account else {
            return;
        };
        account.parts -= 1;
        if account.parts > 0 {
            return;
        }
        let (rows, sequence) = (account.rows.clone(), account.sequence);
        let (degraded, events) = (self.degraded() > 0, self.md.events);
        if let Some(bitmap) = &mut self.bitmap {
            if let (Some(sequence), false) = (sequence, degraded) {
                bitmap.written(&rows, sequence);
            }
            bitmap.end_write(&rows, degraded, events);
        }
    }

    fn end_request(&mut self, slot: usize) {
        let Some(request) = self.requests.slots[slot].take() else {
            return;
        };
        let id = request.id;
        self.note(|| {
            let how = match (request.again, request.refused) {
                (true, _) => "would block",
                (false, true) => "fails",
                (false, false) => "is done",
            };
            format!("request {id} {how}")
        });
        self.md.active_io -= 1;
        self.md.clones -= u32::from(request.clone);
        for submitter in &mut self.submitters {
            submitter.ended(slot);
        }
        let ok = !request.refused && !request.again;
        if request.again {
            self.count(Event::WouldBlock);
            if request.refused {
                self.fail(
                    "a request that would block to have started nothing",
                    format!("request {id} has"),
                );
            }
        }
        if request.refused {
            self.count(Event::Refused);
            if !request.may_fail {
                let range = request.start..request.start + request.len;
                self.fail(
                    "requests to be served while no more blocks of a strip are lost than parity stands for",
                    format!("request {id} ({:?} {range:?}) is refused", request.kind),
                );
            }
        }
        self.history.tick();
        match request.kind {
            Kind::Read => self.end_read(&request, ok),
            Kind::Write | Kind::Discard => {
                for sector in request.start..request.start + request.len {
                    self.history
                        .write_ended(sector, request.began, ok, request.fua);
                }
            }
            Kind::Flush => {}
        }
        if request.preflush && ok {
            self.history.flushed(request.began);
        }
    }

    fn end_read(&mut self, request: &Request, ok: bool) {
        let data = ok.then_some(&request.data[..]);
        if let Err((sector, expected, came)) = self.history.read_ended(request.id, data) {
            let came = if came == EMPTY {
                "nothing".into()
            } else {
                format!("{came:016x}")
            };
            let place = self.geometry.locate(u64::from(sector));
            self.fail(
                &format!(
                    "request {} to read at sector {sector} (member {}, sector {} there): {expected}",
                    request.id, place.member, place.member_sector
                ),
                came,
            );
        }
    }
}
