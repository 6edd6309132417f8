// SPDX-License-Identifier: GPL-2.0

//! What a seed's array looks like, and what will happen to it.

use super::rng::{mix, Rng};
use super::silent::MismatchMethod;
use crate::raid::geometry::{Geometry, Level};
use crate::raid::job::RmwLevel;

/// In which state the array is when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// All members are in sync and parity is right.
    Clean,
    /// A new array: parity is whatever the members held.
    Unsynced,
    /// One member is missing, or of level 6 one or two.
    Degraded,
}

/// What of the dice decides the level: chosen so that seeds that are kept for arrays of level 5 have got those.
const LEVEL_SALT: u64 = 144;

/// What of the dice decides whether members are replaced while they work: seeds without that do what they did before.
const REPLACE_SALT: u64 = 231;

/// What of the dice decides whether writes are held as those of streams are: not in the seeds that are kept.
const STREAM_SALT: u64 = 1;

/// What of the dice decides whether the number of kits changes while the array works: not in the seeds that are kept.
const CACHE_SALT: u64 = 3;

/// What of the dice decides whether the kernel has kits back: not in the seeds that are kept.
const GIVE_SALT: u64 = 106;

/// What of the dice decides whether bios are cut for want of memory: not in the seeds that are kept.
const ROOM_SALT: u64 = 151;

/// What of the dice decides whether parity is declared not to be known.
const TRUST_SALT: u64 = 4;

/// What of the dice decides whether the machine goes down: not in the seeds that are kept.
const REBOOT_SALT: u64 = 24;

/// What of the dice decides whether engines fail.
const ENGINE_SALT: u64 = 317;

/// All layouts of level 6.
const LAYOUTS_6: [i32; 14] = [0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 18, 19, 20];

/// How often the scheduler picks each kind of actor, relative to the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) io: u32,
    pub(crate) lane: u32,
    pub(crate) job: u32,
    pub(crate) submit: u32,
    pub(crate) daemon: u32,
    pub(crate) sync: u32,
    pub(crate) admin: u32,
    pub(crate) streams: u32,
}

/// Everything that is fixed for a run. Chances are in thousandths.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) level: Level,
    pub(crate) layout: i32,
    pub(crate) members: u32,
    /// Sectors of a chunk.
    pub(crate) chunk: u32,
    /// Sectors of data on each member.
    pub(crate) dev_sectors: u32,
    pub(crate) start: Start,
    pub(crate) rmw_level: RmwLevel,
    pub(crate) mismatch_method: MismatchMethod,
    /// Member sectors for one bit of the write-intent bitmap, if there is one.
    pub(crate) bitmap_chunk: Option<u32>,
    /// Span objects.
    pub(crate) spans: usize,
    /// Strip kits.
    pub(crate) kits: u32,
    /// The number of kits is changed, each time the administrator is looked at.
    pub(crate) resizes: u32,
    /// The kernel has some kits back, each time the administrator is looked at.
    pub(crate) gives_back: u32,
    /// There is no memory for what a long bio takes.
    pub(crate) cuts: u32,
    /// Parity is declared not to be known, each time the administrator is looked at.
    pub(crate) distrusts: u32,
    /// The machine goes down, each time the administrator is looked at.
    pub(crate) reboots: u32,
    /// Members end their bios inside the submission, as a RAM disk does.
    pub(crate) synchronous: bool,
    /// Members have a volatile write cache.
    pub(crate) volatile: bool,
    /// Requests have no more clones than those that md core keeps.
    pub(crate) scarce_clones: bool,
    pub(crate) submitters: usize,
    /// Requests of all submitters together.
    pub(crate) requests: u32,
    /// Requests that are outstanding at a time.
    pub(crate) depth: usize,
    /// Array sectors that most requests go to.
    pub(crate) hot: u32,
    /// A request is a read.
    pub(crate) reads: u32,
    /// What is no read is a discard.
    pub(crate) discards: u32,
    /// A submitter plugs its next few requests.
    pub(crate) plugs: u32,
    /// A write that leaves some of its last stripe is taken for one of a stream.
    pub(crate) streams: u32,
    /// A read that may go straight to its member does.
    pub(crate) direct: u32,
    /// A write is FUA, and likewise a request flushes.
    pub(crate) durable: u32,
    /// A job goes on elsewhere and ends later.
    pub(crate) pending_jobs: u32,
    /// Of a job that goes on elsewhere a strip fails, or is late, and is done here.
    pub(crate) failing_jobs: u32,
    /// A span is run by whoever posted to it, where it may be.
    pub(crate) inline: u32,
    /// A write to a member fails.
    pub(crate) write_errors: u32,
    /// A superblock or bitmap write to a member fails.
    pub(crate) metadata_errors: u32,
    /// Strips that each member can record as bad.
    pub(crate) bad_log: usize,
    /// Something bad happens to the members, each time the administrator is looked at.
    pub(crate) trouble: u32,
    /// A member fails in the middle of a step.
    pub(crate) mid_step: u32,
    /// Troubles that parity cannot make up for are let happen.
    pub(crate) reckless: bool,
    /// How often the power may be cut.
    pub(crate) power_cuts: u32,
    /// A member gets a replacement, each time members are changed.
    pub(crate) replaces: u32,
    /// A block that a replacement has taken cannot be read there after that.
    pub(crate) weak_copies: u32,
    pub(crate) pace: Pace,
}

impl Config {
    /// Draws the array of a seed. What level 6 needs comes from other dice: seeds with level 4 and 5 do what they did before
    /// there was level 6.
    pub(crate) fn draw(seed: u64, rng: &mut Rng) -> Self {
        let mut six = Rng::new(mix(seed, LEVEL_SALT));
        let is_six = six.chance(450);
        let mut replace = Self::replace_dice(seed);
        let mut stream = Rng::new(mix(seed, STREAM_SALT));
        let mut cache = Self::cache_dice(seed);
        let mut give = Self::give_dice(seed);
        let mut room = Self::room_dice(seed);
        let streams = if stream.chance(250) {
            stream.pick(&[300, 800])
        } else {
            0
        };
        let mut level = if rng.chance(125) {
            Level::Raid4
        } else {
            Level::Raid5
        };
        let mut members = if rng.chance(30) { 2 } else { rng.within(3..9) };
        if is_six {
            level = Level::Raid6;
            members = six.within(4..9);
        }
        let chunk = 8 << rng.pick(&[0, 0, 1, 1, 2, 2, 3, 4, 4, 5]);
        let stripes = rng.within(1..1 + (48 * 8 / chunk).clamp(2, 12));
        let dev_sectors = chunk * stripes;
        let array = dev_sectors * (members - parities(level));
        let bitmap_chunk = rng.chance(600).then(|| 8 << rng.below(6));
        let (spans, kits) = match rng.below(4) {
            0 => (rng.within(1..4) as usize, rng.within(1..6)),
            1 => (rng.within(1..8) as usize, rng.within(2..24)),
            _ => (rng.within(4..16) as usize, rng.within(16..160)),
        };
        let quiet = rng.chance(200);
        let slow = [1, 4, 16];
        let layout = i32::try_from(rng.below(6)).unwrap_or(0);
        Self {
            level,
            layout: if is_six { six.pick(&LAYOUTS_6) } else { layout },
            members,
            chunk,
            dev_sectors,
            start: rng.pick(&[
                Start::Clean,
                Start::Clean,
                Start::Clean,
                Start::Unsynced,
                Start::Unsynced,
                Start::Degraded,
            ]),
            rmw_level: rng.pick(&[
                RmwLevel::Disable,
                RmwLevel::Enable,
                RmwLevel::Enable,
                RmwLevel::Prefer,
            ]),
            mismatch_method: six.pick(&MismatchMethod::ALL),
            bitmap_chunk,
            spans,
            kits,
            resizes: if cache.chance(300) {
                cache.pick(&[20, 100, 300])
            } else {
                0
            },
            gives_back: if give.chance(300) {
                give.pick(&[20, 100, 300])
            } else {
                0
            },
            cuts: if room.chance(300) {
                room.pick(&[100, 500, 1000])
            } else {
                0
            },
            distrusts: if Self::trust_dice(seed).chance(300) {
                Self::trust_dice(!seed).pick(&[20, 100])
            } else {
                0
            },
            reboots: if Self::reboot_dice(seed).chance(250) {
                Self::reboot_dice(!seed).pick(&[100, 300])
            } else {
                0
            },
            synchronous: rng.chance(200),
            volatile: rng.chance(700),
            scarce_clones: rng.chance(250),
            submitters: rng.within(1..5) as usize,
            requests: rng.within(30..110),
            depth: rng.within(1..24) as usize,
            hot: if rng.chance(500) {
                array
            } else {
                (array / 4).max(16)
            },
            reads: rng.within(100..600),
            discards: rng.pick(&[0, 50, 200]),
            plugs: rng.pick(&[0, 200, 500]),
            streams,
            direct: rng.pick(&[0, 500, 1000]),
            durable: rng.pick(&[50, 200, 400]),
            pending_jobs: rng.pick(&[0, 0, 200, 600]),
            failing_jobs: Self::engine_dice(seed).pick(&[0, 50, 400]),
            inline: rng.pick(&[0, 500, 900]),
            write_errors: if quiet { 0 } else { rng.pick(&[0, 2, 10]) },
            metadata_errors: if quiet { 0 } else { rng.pick(&[0, 10]) },
            bad_log: rng.pick(&[0, 0, 3, 64, 64]),
            trouble: if quiet { 0 } else { rng.pick(&[10, 40, 100]) },
            mid_step: if quiet { 0 } else { rng.pick(&[0, 2, 6]) },
            reckless: !quiet && rng.chance(80),
            power_cuts: if quiet { 0 } else { rng.pick(&[0, 1, 1, 2, 3]) },
            replaces: if replace.chance(350) {
                replace.pick(&[100, 300, 700])
            } else {
                0
            },
            weak_copies: if quiet {
                0
            } else {
                replace.pick(&[0, 10, 100])
            },
            pace: Pace {
                io: rng.pick(&slow) * 6,
                lane: rng.pick(&slow) * 4,
                job: rng.pick(&slow) * 3,
                submit: rng.pick(&slow) * 4,
                daemon: rng.pick(&slow) * 3,
                sync: rng.pick(&slow) * 2,
                admin: 2,
                streams: u32::from(streams > 0),
            },
        }
    }

    /// Leaves so little of it that everything that may fail can be tried.
    pub(crate) fn make_small(&mut self) {
        self.chunk = self.chunk.min(16);
        self.dev_sectors = 2 * self.chunk;
        self.hot = self.array_sectors();
        self.spans = self.spans.min(2);
        self.kits = self.kits.min(4);
        self.submitters = self.submitters.min(2);
        self.depth = self.depth.min(4);
        self.requests = 5;
        self.power_cuts = 0;
        self.replaces = 0;
        self.resizes = 0;
        self.gives_back = 0;
        self.cuts = 0;
        self.distrusts = 0;
        self.reboots = 0;
    }

    /// The dice for all that has to do with replacements.
    pub(crate) fn replace_dice(seed: u64) -> Rng {
        Rng::new(mix(seed, REPLACE_SALT))
    }

    /// The dice for all that has to do with another number of kits.
    pub(crate) fn cache_dice(seed: u64) -> Rng {
        Rng::new(mix(seed, CACHE_SALT))
    }

    /// The dice for all that has to do with kits that the kernel has back.
    pub(crate) fn give_dice(seed: u64) -> Rng {
        Rng::new(mix(seed, GIVE_SALT))
    }

    /// The dice for bios that are cut.
    pub(crate) fn room_dice(seed: u64) -> Rng {
        Rng::new(mix(seed, ROOM_SALT))
    }

    /// The dice for all that has to do with parity that is not known.
    pub(crate) fn trust_dice(seed: u64) -> Rng {
        Rng::new(mix(seed, TRUST_SALT))
    }

    /// The dice for all that has to do with a machine that goes down.
    pub(crate) fn reboot_dice(seed: u64) -> Rng {
        Rng::new(mix(seed, REBOOT_SALT))
    }

    /// The dice for all that has to do with engines that fail.
    pub(crate) fn engine_dice(seed: u64) -> Rng {
        Rng::new(mix(seed, ENGINE_SALT))
    }

    /// The array's geometry.
    pub(crate) fn geometry(&self) -> Geometry {
        match Geometry::new(self.level, self.layout, self.members, self.chunk) {
            Ok(geometry) => geometry,
            Err(error) => panic!("the simulator drew an impossible array: {error}"),
        }
    }

    /// Strips of a member.
    pub(crate) fn rows(&self) -> usize {
        (self.dev_sectors / 8) as usize
    }

    /// Members that hold data in a stripe.
    pub(crate) fn data_members(&self) -> u32 {
        self.members - parities(self.level)
    }

    /// Sectors of the array.
    pub(crate) fn array_sectors(&self) -> u32 {
        self.dev_sectors * self.data_members()
    }
}

/// Members that hold parity in a stripe.
fn parities(level: Level) -> u32 {
    if level == Level::Raid6 {
        2
    } else {
        1
    }
}
