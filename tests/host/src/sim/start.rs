// SPDX-License-Identifier: GPL-2.0

//! The array as it is when a run begins.

use super::bitmap::Bitmap;
use super::code::Code;
use super::config::{Config, Start};
use super::device::{BitmapRecord, Device, ALL};
use super::history::History;
use super::md::Md;
use super::oracle::{Excuse, Row};
use super::report::Summary;
use super::request::Requests;
use super::rng::Rng;
use super::shortage::{Memory, Scenario};
use super::submit::Submitter;
use super::sync::Sync;
use super::table::Table;
use super::{Admin, Daemon, Sim};
use crate::raid::strips::STRIP_SECTORS;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

impl Sim {
    /// The array of a scenario, assembled and idle.
    pub(crate) fn new(scenario: &Scenario, trace: bool) -> Self {
        let seed = scenario.seed;
        let mut rng = Rng::new(seed);
        let mut config = Config::draw(seed, &mut rng);
        if scenario.small {
            config.make_small();
        }
        let geometry = config.geometry();
        let members = config.members as usize;
        let stripes = config.dev_sectors / config.chunk;
        let codes = (0..stripes).map(|stripe| Code::new(geometry.roles(u64::from(stripe))));
        let devices: Vec<Device> = (0..members)
            .map(|_| {
                let content = (0..config.dev_sectors).map(|_| rng.bits()).collect();
                Device::new(content, config.volatile)
            })
            .collect();
        let bits = config.bitmap_chunk.map(|chunk| BitmapRecord {
            bits: vec![
                config.start == Start::Unsynced;
                Bitmap::chunks_of(config.dev_sectors, chunk)
            ],
            events_cleared: 1,
        });
        let bitmap = bits
            .as_ref()
            .zip(config.bitmap_chunk)
            .map(|(record, chunk)| Bitmap::load(record, chunk, u32::MAX - rng.below(40)));
        let mut sim = Self {
            seed,
            words: scenario.words(),
            memory: Memory::new(scenario),
            geometry,
            codes: codes.collect(),
            step: 0,
            devices,
            md: Md::new((0..members).map(Some).collect(), &config),
            bitmap,
            table: Table::new(config.spans, config.kits, members),
            requests: Requests::default(),
            submitters: (0..config.submitters)
                .map(|_| Submitter::default())
                .collect(),
            unposted: VecDeque::new(),
            flush_waiters: Vec::new(),
            ios: Vec::new(),
            jobs: Vec::new(),
            daemon: Daemon::default(),
            sync: Sync::new(),
            quiesced_by_sync: false,
            admin: Admin::Idle,
            stalled: 0,
            budget: config.requests,
            linger: 1 + rng.below(if scenario.small { 100 } else { 1500 }),
            draining: false,
            rows: vec![Row::NEW; config.rows()],
            silent: BTreeMap::new(),
            history: History::new(Vec::new()),
            summary: RefCell::new(Summary::default()),
            failure: RefCell::new(None),
            trace: trace.then(RefCell::default),
            replace_rng: Config::replace_dice(!seed),
            engine_rng: Config::engine_dice(!seed),
            cache_rng: Config::cache_dice(!seed),
            give_rng: Config::give_dice(!seed),
            room_rng: Config::room_dice(!seed),
            trust_rng: Config::trust_dice(seed.rotate_left(32)),
            reboot_rng: Config::reboot_dice(!seed),
            rng,
            config,
        };
        sim.note(|| format!("{:?}", sim.config));
        sim.fill(bits);
        sim
    }

    /// A member is missing from the start.
    fn remove(&mut self, slot: usize) {
        self.devices[slot].in_sync.set(false);
        self.devices[slot].dead = true;
        self.md.slots[slot] = None;
    }

    /// Puts the members into the state that the run begins with.
    fn fill(&mut self, bits: Option<BitmapRecord>) {
        for row in 0..self.rows.len() {
            if self.config.start == Start::Unsynced {
                self.rows[row].excuse = Excuse::Hole;
                continue;
            }
            let sector = row as u32 * STRIP_SECTORS;
            for at in 0..STRIP_SECTORS {
                let parity = self.code(row).parity_slots();
                let words = self.restored_words(row, at, parity);
                for slot in parity.iter() {
                    self.devices[slot].scribble(sector + at, words[slot]);
                }
            }
        }
        let base = (0..self.config.array_sectors()).map(|sector| {
            let place = self.geometry.locate(u64::from(sector));
            // CAST: the simulated members are small.
            self.devices[usize::from(place.member)].get(place.member_sector as u32)
        });
        self.history = History::new(base.collect());
        if self.config.start == Start::Unsynced {
            self.md.resync_offset = 0;
            self.md.trusted = 0;
        }
        for device in &self.devices {
            device.in_sync.set(true);
        }
        if self.config.start == Start::Degraded {
            let slot = self.rng.index(self.md.slots.len());
            self.remove(slot);
            if self.parities() > 1 && self.rng.chance(500) {
                let slot = self.rng.index(self.md.slots.len());
                self.remove(slot);
            }
        }
        debug_assert!(self.md.resync_offset == 0 || self.md.resync_offset == ALL);
        for device in 0..self.devices.len() {
            self.devices[device].superblock = self.super_record(device);
            if let Some(bits) = &bits {
                self.devices[device].bitmap = bits.clone();
            }
        }
    }
}
