// SPDX-License-Identifier: GPL-2.0

//! Member I/O: from the submission to the end.
//!
//! A bio takes effect at some moment between the two; reads sample and writes land either at once or at the end, so that
//! both orders happen. With a synchronous device the submission is the end.

use super::device::{BitmapRecord, CacheSnapshot, SuperRecord};
use super::report::Event;
use super::Sim;
use crate::raid::strips::{Run, STRIP_SECTORS};

/// What is asked of a device.
#[derive(Debug)]
pub(crate) enum Op {
    Read {
        sector: u32,
        count: u32,
    },
    Write {
        sector: u32,
        data: Vec<u64>,
        fua: bool,
    },
    Flush(CacheSnapshot),
    Super(Box<SuperRecord>, CacheSnapshot),
    Bitmap(Box<BitmapRecord>, CacheSnapshot),
}

/// Who is told of the end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    /// A member's blocks of the span in this table entry.
    Span {
        entry: usize,
        member: usize,
        run: Run,
    },
    /// A read that went straight to the member.
    Direct { request: usize, start: u32 },
    /// A flush that a request began with.
    UserFlush { request: usize },
    /// The array's daemon, which waits for it.
    Daemon,
}

/// One bio to one device.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) device: usize,
    pub(crate) op: Op,
    pub(crate) owner: Owner,
    /// What a read has seen already.
    sampled: Option<Vec<u64>>,
    /// The write has landed already.
    landed: bool,
}

impl Io {
    /// A bio that is not yet handed to its device.
    pub(crate) fn new(device: usize, op: Op, owner: Owner) -> Self {
        Self {
            device,
            op,
            owner,
            sampled: None,
            landed: false,
        }
    }

    /// Whether a write's effect is still to come.
    pub(crate) fn is_unlanded_write(&self) -> bool {
        matches!(self.op, Op::Write { .. }) && !self.landed
    }
}

impl Sim {
    /// Hands a bio to its device.
    pub(crate) fn dispatch(&mut self, mut io: Io) {
        if let Op::Flush(snapshot) | Op::Super(_, snapshot) | Op::Bitmap(_, snapshot) = &mut io.op {
            *snapshot = self.devices[io.device].begin_flush();
        }
        if self.config.synchronous {
            self.end_io(io);
            return;
        }
        if !self.devices[io.device].dead && self.rng.chance(300) {
            self.land(&mut io);
        }
        self.ios.push(io);
    }

    /// Ends some bio that is in flight. Returns false if there is none.
    pub(crate) fn end_some_io(&mut self) -> bool {
        if self.ios.is_empty() {
            return false;
        }
        let index = self.rng.index(self.ios.len());
        let io = self.ios.swap_remove(index);
        self.end_io(io);
        true
    }

    /// The moment at which a read samples the medium or a write changes it.
    fn land(&mut self, io: &mut Io) {
        let device = &mut self.devices[io.device];
        match &io.op {
            Op::Read { sector, count } => {
                if io.sampled.is_none() && !device.is_bad(*sector, *count) {
                    io.sampled = Some((*sector..*sector + *count).map(|s| device.get(s)).collect());
                }
            }
            Op::Write { sector, data, fua } if !io.landed => {
                io.landed = true;
                for (at, &value) in (*sector..).zip(data) {
                    device.put(at, value, *fua, &mut self.rng);
                }
            }
            _ => {}
        }
    }

    fn end_io(&mut self, mut io: Io) {
        let ok = self.perform(&mut io);
        self.devices[io.device].pending -= 1;
        self.note(|| {
            let what = match &io.op {
                Op::Read { sector, count } => format!("read {sector}+{count}"),
                Op::Write { sector, data, fua } => {
                    format!(
                        "write {sector}+{}{}",
                        data.len(),
                        if *fua { " FUA" } else { "" }
                    )
                }
                Op::Flush(_) => "flush".into(),
                Op::Super(record, _) => format!("superblock {}", record.events),
                Op::Bitmap(..) => "bitmap".into(),
            };
            let how = if ok { "ends" } else { "fails" };
            format!("device {}: {what} {how} ({:?})", io.device, io.owner)
        });
        match io.owner {
            Owner::Span { entry, member, run } => self.end_span_io(entry, member, run, io, ok),
            Owner::Direct { request, start } => {
                let data = if ok { io.sampled } else { None };
                self.end_direct(request, start, data, io.op);
            }
            Owner::UserFlush { request } => self.put_request(request),
            Owner::Daemon => self.daemon_io_ended(io.device, ok),
        }
    }

    /// Does what the bio asks for; false if it fails. A failed write marks the device faulty before anybody is told.
    fn perform(&mut self, io: &mut Io) -> bool {
        let permille = match io.op {
            Op::Write { .. } => self.config.write_errors,
            Op::Super(..) | Op::Bitmap(..) => self.config.metadata_errors,
            _ => 0,
        };
        let fails = self.devices[io.device].dead
            || (permille > 0
                && self.troubles()
                && self.rng.chance(permille)
                && self.may_fail(io.device));
        if fails {
            return self.perform_failing(io);
        }
        if let Op::Read { sector, count } = io.op {
            if self.devices[io.device].is_bad(sector, count) {
                self.count(Event::ReadError);
                return false;
            }
        }
        self.land(io);
        let device = &mut self.devices[io.device];
        match &io.op {
            Op::Flush(snapshot) => device.end_flush(snapshot),
            Op::Super(record, snapshot) => {
                device.end_flush(snapshot);
                device.superblock = (**record).clone();
            }
            Op::Bitmap(record, snapshot) => {
                device.end_flush(snapshot);
                device.bitmap = (**record).clone();
            }
            Op::Write { sector, data, .. } => {
                // CAST: the simulated members are small.
                let (sector, count) = (*sector, data.len() as u32);
                self.weaken_copy(io.device, sector, count);
            }
            Op::Read { .. } => {}
        }
        true
    }

    /// What a replacement has taken may be unreadable there all the same. Not if nobody else holds it.
    fn weaken_copy(&mut self, new: usize, sector: u32, count: u32) {
        let slot = (self.md.replacements.iter()).position(|&device| device == Some(new));
        let Some(old) = slot.and_then(|slot| self.member(slot)) else {
            return;
        };
        if !self.troubles() || !self.replace_rng.chance(self.config.weak_copies) {
            return;
        }
        let sector = sector + self.replace_rng.below(count);
        let row = (sector / STRIP_SECTORS) as usize;
        if self.has_on(old, row) && !self.is_bad_on(old, row) {
            self.note(|| format!("device {new} cannot read sector {sector}, which it has taken"));
            self.devices[new].spoil(sector);
        }
    }

    fn perform_failing(&mut self, io: &mut Io) -> bool {
        match &io.op {
            Op::Read { .. } => {
                // A device that answers nothing is failed by the first error of any kind.
                self.count(Event::ReadError);
                if self.rng.chance(300) {
                    self.fail_device(io.device);
                }
                return false;
            }
            Op::Write { sector, data, .. } => {
                self.count(Event::WriteError);
                // Some of it may have got there all the same.
                if !io.landed && !self.devices[io.device].dead {
                    for (at, &value) in (*sector..).zip(data) {
                        if self.rng.chance(500) {
                            self.devices[io.device].put(at, value, false, &mut self.rng);
                        }
                    }
                }
            }
            Op::Super(..) | Op::Bitmap(..) => self.count(Event::MetadataError),
            Op::Flush(_) => {}
        }
        let replaces = self.md.replacements.contains(&Some(io.device));
        if let (Op::Write { .. }, true) = (&io.op, replaces) {
            self.count(Event::CopyFailed);
        }
        if let (Op::Write { sector, data, .. }, Owner::Span { .. }, false) =
            (&io.op, io.owner, replaces)
        {
            let first = *sector / STRIP_SECTORS;
            // CAST: the simulated members are small.
            let rows = first..first + data.len() as u32 / STRIP_SECTORS;
            self.devices[io.device].write_error_seen = true;
            for row in rows {
                self.record_bad(io.device, row as usize);
            }
        } else {
            self.fail_device(io.device);
        }
        false
    }

    /// The power fails while `io` is in flight: any of its sectors may have reached the medium.
    pub(crate) fn tear(&mut self, mut io: Io) {
        if self.devices[io.device].dead {
            return;
        }
        match &mut io.op {
            Op::Write { sector, data, .. } if !io.landed => {
                let keep = self.rng.pick(&[0, 500, 1000]);
                let mut kept = 0;
                for (at, &value) in (*sector..).zip(data.iter()) {
                    if self.rng.chance(keep) {
                        self.devices[io.device].put_torn(at, value);
                        kept += 1;
                    }
                }
                if kept != 0 && kept != data.len() {
                    self.count(Event::TornWrite);
                }
            }
            Op::Super(record, snapshot) => {
                if self.rng.chance(500) {
                    self.devices[io.device].end_flush(snapshot);
                    self.devices[io.device].superblock = (**record).clone();
                }
            }
            Op::Bitmap(record, snapshot) => {
                if self.rng.chance(500) {
                    self.devices[io.device].end_flush(snapshot);
                    self.devices[io.device].bitmap = (**record).clone();
                }
            }
            _ => {}
        }
    }

    /// Takes a reference to `device` for a bio that is about to be built.
    pub(crate) fn new_io(&mut self, device: usize, op: Op, owner: Owner) -> Io {
        self.devices[device].pending += 1;
        Io::new(device, op, owner)
    }

    /// The blocks that a read of `run` brought, or a write of it took.
    pub(crate) fn io_words(io: Io) -> Vec<u64> {
        match io.op {
            Op::Write { data, .. } => data,
            _ => io.sampled.unwrap_or_default(),
        }
    }

    /// Member sector and number of sectors of `run` in the span that begins at `span`.
    pub(crate) fn run_sectors(span: u64, run: Run) -> (u32, u32) {
        // CAST: the simulated members are small.
        (
            span as u32 + run.first * STRIP_SECTORS,
            run.count * STRIP_SECTORS,
        )
    }
}
