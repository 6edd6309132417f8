// SPDX-License-Identifier: GPL-2.0

//! A span: up to sixteen neighbouring strips of one stripe, worked on together.
//!
//! The span is the unit of ownership. One runner at a time calls [`Span::step`] with what has happened; the step moves
//! each strip as far as it can go and leaves in the columns what is to be read and written. A step never waits: what
//! cannot go on stays in its phase until the event that it waits for (see [`Waits`]) makes somebody step again.

use super::column::Column;
use super::geometry::Geometry;
use super::job::Env;
use super::phase::{Phase, Phases};
use super::roles::Roles;
use super::strips::{Strips, SPAN_STRIPS};

/// Where a span is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SpanKey {
    /// Its first sector on each member, before the member's data offset.
    pub(crate) sector: u64,
    /// The geometry it belongs to: while an array is reshaped a place exists in the old one and in the new one.
    pub(crate) generation: u32,
}

/// What a span is parked for; the one who ends the wait has the span stepped again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    /// Some parts wait for strip kits. The span holds no kit of an idle strip then.
    pub(crate) memory: bool,
    /// Some strips wait until failures of members are recorded in the metadata.
    pub(crate) superblock: bool,
    /// Some strips wait for this flush of the write-intent bitmap (the latest one waited for).
    pub(crate) bitmap: Option<u32>,
    /// Some strips wait for the rest of what is written in sequence. Nobody tells when it does not come: the span is to be
    /// released ([`Span::release`]) after a while.
    pub(crate) rest: bool,
}

/// The state of a span that is not a member's; see [`Column`] for that.
///
/// # Invariants
///
/// - Each busy strip has a kit and is in exactly one of `reads`, `writes`, `discards` and `syncs`; an idle one is in none.
/// - A block that is in memory belongs to a strip that has a kit.
#[derive(Debug, Default)]
pub(crate) struct Span {
    pub(super) key: SpanKey,
    /// What the members hold.
    pub(super) roles: Roles,
    /// The strips that it has.
    pub(super) width: Strips,
    pub(super) phases: Phases,
    /// Strips that have a kit.
    pub(super) kits: Strips,
    /// Strips at work for reads.
    pub(super) reads: Strips,
    /// Strips at work for writes.
    pub(super) writes: Strips,
    /// Strips at work that are discarded.
    pub(super) discards: Strips,
    /// Strips at work for a resync, check, repair or rebuild.
    pub(super) syncs: Strips,
    /// Of those, the ones where mismatches are only counted.
    pub(super) check_only: Strips,
    /// Of those, the ones where a wrong block is looked for.
    pub(super) locate: Strips,
    /// Of those, the ones where replacements of members get the blocks that they lack.
    pub(super) replace: Strips,
    /// Gathering strips that need not start yet: more writes may come.
    pub(super) held: Strips,
    /// Those of them that wait for the rest of a stream, and nobody but who looks after the span ends that.
    pub(super) watched: Strips,
    /// Those of them for which this holds when a plug is released.
    pub(super) to_watch: Strips,
    /// Held strips with writes that somebody waits for, and that are no stream's: they are held until a plug is released, and no
    /// longer.
    pub(super) urgent: Strips,
    /// Held strips that wait, once they are full, for as long as one beside them that is held is not: more comes at once.
    pub(super) packing: Strips,
    /// Those of them for which this holds also when a plug is released.
    pub(super) to_pack: Strips,
    /// The parts that wait at the next step are not held by a plug any more.
    pub(super) unplugged: bool,
    /// The parts that wait at the next step must not be held either, once they are accepted.
    pub(super) released: bool,
    /// Strips at work that have been planned once: what of them was in memory has been counted.
    pub(super) planned: Strips,
    /// Computing strips whose job recovers a lost block.
    pub(super) recovering: Strips,
    /// Repairing strips whose job looks for a wrong block.
    pub(super) locating: Strips,
    /// Strips whose work has failed.
    pub(super) failed: Strips,
    /// Strips at work of which writes change all data: what streams through is not kept.
    pub(super) whole: Strips,
    /// Strips of a sync of which some block could not be written.
    pub(super) unstored: Strips,
    pub(super) fua: Strips,
    pub(super) sync: Strips,
    /// Strips at work that somebody writes in sequence.
    pub(super) sequential: Strips,
    /// Strips whose writes wait for a flush of the bitmap.
    pub(super) bitmap: Strips,
    /// Which flush, for each of them.
    pub(super) bitmap_seq: [u32; SPAN_STRIPS as usize],
    pub(super) waits: Waits,
}

impl Span {
    /// An idle span without a place.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Gives an idle span without kits a place. `key.sector` is the first sector of a span of `geometry`.
    pub(crate) fn place(&mut self, key: SpanKey, geometry: &Geometry) {
        debug_assert!(
            self.is_idle() && self.kits.is_empty(),
            "only an empty span may be moved"
        );
        self.key = key;
        self.roles = geometry.roles(geometry.stripe_of(key.sector));
        self.width = geometry.all_strips();
    }

    /// Where the span is.
    pub(crate) fn key(&self) -> SpanKey {
        self.key
    }

    /// The phase of each strip.
    pub(crate) fn phases(&self) -> &Phases {
        &self.phases
    }

    /// The strips that have a kit.
    pub(crate) fn kits(&self) -> Strips {
        self.kits
    }

    /// The strips whose member writes must be durable when they end.
    pub(crate) fn fua(&self) -> Strips {
        self.fua
    }

    /// The strips of which nothing in memory is written: the members are to forget their blocks, which are zeroes then.
    pub(crate) fn discards(&self) -> Strips {
        self.discards
    }

    /// The strips whose submitters wait for them.
    pub(crate) fn sync(&self) -> Strips {
        self.sync
    }

    /// What the members hold.
    #[cfg_attr(MODULE, expect(dead_code, reason = "the simulator looks at it"))]
    pub(crate) fn roles(&self) -> Roles {
        self.roles
    }

    /// What the span is parked for, as of the last step.
    pub(crate) fn waits(&self) -> Waits {
        self.waits
    }

    /// Of a span that waits for memory, the strips that have something without going on: a kit and no work, or writes that
    /// wait for more to come. Another span may need that to finish, so there are none.
    pub(crate) fn held_while_parked(&self) -> Strips {
        if self.waits.memory {
            (self.kits & self.phases.of(Phase::Idle)) | self.held
        } else {
            Strips::NONE
        }
    }

    /// Whether no strip has work. (Parts that wait for memory are not counted: see [`Waits::memory`].)
    pub(crate) fn is_idle(&self) -> bool {
        self.phases.busy().is_empty()
    }

    /// Forgets all blocks of an idle span. The caller takes back the kits of the returned strips.
    pub(crate) fn evict(&mut self, columns: &mut [Column]) -> Strips {
        debug_assert!(self.is_idle(), "only an idle span may be evicted");
        for column in columns {
            *column = Column::default();
        }
        core::mem::take(&mut self.kits)
    }

    /// Forgets the blocks of idle strips while others are at work, because other spans wait for kits. The caller takes back
    /// the kits of the returned strips.
    pub(crate) fn shed(&mut self, columns: &mut [Column]) -> Strips {
        let idle = self.kits & self.phases.of(Phase::Idle);
        for column in columns {
            column.uptodate -= idle;
        }
        self.kits -= idle;
        idle
    }

    /// The submitter's plug is released: lets gathering strips start that no stream goes on with, or that somebody waits for
    /// beside it.
    pub(crate) fn unplug(&mut self) {
        self.watched |= core::mem::take(&mut self.to_watch);
        self.watched -= self.fua;
        self.watched -= self.urgent;
        self.packing &= self.to_pack;
        self.held &= self.watched;
        self.unplugged = true;
    }

    /// Lets gathering strips start: the rest of a stream does not come, somebody quiesces, memory is short.
    pub(crate) fn release(&mut self) {
        self.held = Strips::NONE;
        self.released = true;
    }

    /// Takes in that member reads or writes have ended, well or not. To be followed by [`Self::step`].
    pub(crate) fn io_done<E: Env>(
        &mut self,
        columns: &mut [Column],
        member: usize,
        strips: Strips,
        ok: bool,
        env: &mut E,
    ) {
        let Some(column) = columns.get_mut(member) else {
            return;
        };
        let copied = strips & column.copying();
        if !copied.is_empty() {
            // It may be the member by now.
            let held = env.readable(member);
            // One that is being rebuilt has the block, though it does not count yet.
            column.copied(copied, ok, held | self.syncs);
        }
        let mended = column.io_done(strips - copied, ok);
        if !mended.is_empty() {
            env.corrected(member, mended);
        }
    }

    /// Takes note that the member's replacement could not be read, and the member is, instead: the replacement gets these blocks
    /// again. It may be the member before long, and some other block of the strip be lost for good by then.
    ///
    /// Of reads and writes alone: a sync that replaces nobody would take it for one that does, and one that does sees to it by
    /// itself.
    pub(crate) fn owe_copy(&self, columns: &mut [Column], member: usize, strips: Strips) {
        if let Some(column) = columns.get_mut(member) {
            column.outdated |= strips & (self.reads | self.writes);
        }
    }

    /// Takes in that a pending job has ended; in `undone` it could not be done. To be followed by [`Self::step`].
    pub(crate) fn job_done<E: Env>(
        &mut self,
        strips: Strips,
        mismatch: Strips,
        undone: Strips,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        let strips = self.without(undone, strips, columns);
        let computed = strips & self.phases.of(Phase::Computing);
        let recovered = computed & self.recovering;
        self.recovered(recovered, columns, env);
        let computed = computed - recovered;
        self.written(computed & self.writes, columns);
        self.delivered(computed & self.reads, columns, parts);
        let checked = strips & self.phases.of(Phase::Checking);
        let repaired = strips & self.phases.of(Phase::Repairing);
        let located = repaired & self.locating;
        self.located(located, columns, env);
        self.repaired(repaired - located, columns);
        self.checked(checked, mismatch, columns, parts, env);
    }

    /// Moves every strip as far as it can go.
    ///
    /// New parts stand at the end of `parts`. Afterwards the columns hold what is to be read and written, and
    /// [`Self::waits`] tells what the rest waits for. Never sleeps.
    pub(crate) fn step<E: Env>(
        &mut self,
        columns: &mut [Column],
        parts: &mut E::Parts,
        env: &mut E,
    ) {
        self.waits = Waits::default();
        loop {
            let before = self.phases.moves();
            self.accept(columns, parts, env);
            self.start(columns);
            self.plan(columns, parts, env);
            self.store(columns, env);
            self.end_writes(columns, env);
            self.finish(columns, parts, env);
            if self.phases.moves() == before {
                break;
            }
        }
        self.watched &= self.held;
        self.to_watch &= self.held;
        self.packing &= self.held;
        self.to_pack &= self.held;
        self.urgent &= self.held;
        self.waits.rest = !self.watched.is_empty();
        debug_assert!(
            self.held_while_parked().is_empty(),
            "a span that waits for memory must hold nothing that another one needs"
        );
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::count::Count;
    use super::super::geometry::Level;
    use super::super::job::{Job, Outcome, Replacement, RmwLevel};
    use super::super::part::{Hold, Part, PartKind, Parts};
    use super::super::strips::STRIP_SECTORS;
    use super::*;
    use core::ops::Range;

    /// Sectors of a chunk: a span of four strips.
    const CHUNK: u32 = 4 * STRIP_SECTORS;

    /// The parts of a span, oldest first.
    struct List(Vec<Part>);

    impl Parts for List {
        fn retain(&mut self, keep: &mut dyn FnMut(&mut Part) -> bool) {
            self.0.retain_mut(keep);
        }
    }

    /// Members that have and take all that is asked of them.
    struct World(Geometry);

    impl Env for World {
        type Parts = List;

        fn geometry(&self) -> &Geometry {
            &self.0
        }

        fn readable(&self, _member: usize) -> Strips {
            !Strips::NONE
        }

        fn writable(&self, _member: usize) -> Strips {
            !Strips::NONE
        }

        fn replacement(&self, _member: usize) -> Option<Replacement> {
            None
        }

        fn parity_known(&self) -> Strips {
            !Strips::NONE
        }

        fn parity_trusted(&self) -> Strips {
            !Strips::NONE
        }

        fn rmw_level(&self) -> RmwLevel {
            RmwLevel::Enable
        }

        fn failures_recorded(&self) -> bool {
            true
        }

        fn array_failed(&self) -> bool {
            false
        }

        fn bitmap_flushed(&self, _seq: u32) -> bool {
            true
        }

        fn take_kits(&mut self, strips: Strips) -> Strips {
            strips
        }

        fn give_kits(&mut self, _strips: Strips) {}

        fn run(
            &mut self,
            _job: Job,
            _strips: Strips,
            _columns: &mut [Column],
            _parts: &mut List,
        ) -> Outcome {
            Outcome::Pending
        }

        fn mismatch(&mut self, _strips: Strips) {}

        fn located(&mut self, _member: usize, _strips: Strips) {}

        fn not_synced(&mut self, _: usize, _: Strips) {}
        fn unlocated(&mut self, _strips: Strips) {}

        fn corrected(&mut self, _member: usize, _strips: Strips) {}

        fn count(&mut self, _what: Count, _n: u32) {}
    }

    /// A span of an array with three data members, and what has been posted to it.
    struct Posted {
        span: Span,
        columns: Vec<Column>,
        parts: List,
        world: World,
    }

    impl Posted {
        fn new() -> Self {
            let world = World(Geometry::new(Level::Raid5, 2, 4, CHUNK).unwrap());
            let mut span = Span::new();
            let key = SpanKey {
                sector: 0,
                generation: 0,
            };
            span.place(key, &world.0);
            Self {
                span,
                columns: vec![Column::default(); 4],
                parts: List(Vec::new()),
                world,
            }
        }

        /// A write of some strips of a data column.
        fn write(&mut self, column: u32, strips: Range<u32>, hold: Hold) -> &mut Self {
            self.write_so(column, strips, hold, |_| ())
        }

        /// As [`Self::write`], with a part that is changed before it is posted.
        fn write_so(
            &mut self,
            column: u32,
            strips: Range<u32>,
            hold: Hold,
            change: impl FnOnce(&mut Part),
        ) -> &mut Self {
            let sector = |strip: u32| u64::from(column * CHUNK + strip * STRIP_SECTORS);
            let (start, end) = (sector(strips.start), sector(strips.end));
            let strips = Strips::range(strips.start, strips.end - strips.start);
            let mut part = Part::new(PartKind::Write, strips, start, end);
            part.hold = hold;
            change(&mut part);
            self.parts.0.push(part);
            self.step();
            self
        }

        /// The strips that gather.
        fn gathering(&self) -> Strips {
            self.span.phases().of(Phase::Gathering)
        }

        fn step(&mut self) {
            self.span
                .step(&mut self.columns, &mut self.parts, &mut self.world);
        }

        /// The strips that gather, after the submitters' plugs have been released.
        fn held_unplugged(&mut self) -> Strips {
            self.span.unplug();
            self.step();
            let held = self.gathering();
            assert_eq!(
                self.span.waits().rest,
                !held.is_empty(),
                "whether somebody is to look after what is held: {held:?}"
            );
            held
        }
    }

    // A stream writes strips 0 and 1, and somebody else strip 0; what would fill them is in neither.

    #[test]
    fn a_write_that_somebody_waits_for_is_not_held_by_a_stream_in_its_strip() {
        let durable: fn(&mut Part) = |part| part.fua = true;
        let awaited: fn(&mut Part) = |part| part.sync = true;
        for stream in [Hold::Stream, Hold::PluggedStream] {
            for (what, change) in [("durable", durable), ("awaited", awaited)] {
                for first in [true, false] {
                    let mut posted = Posted::new();
                    if first {
                        posted.write_so(1, 0..1, Hold::Plug, change);
                    }
                    posted.write(0, 0..2, stream);
                    if !first {
                        posted.write_so(1, 0..1, Hold::Plug, change);
                    }
                    assert_eq!(
                        posted.held_unplugged(),
                        Strips::one(1),
                        "what is held of a {stream:?} beside a {what} write; that came first: {first}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_stream_holds_its_strips_whoever_waits_for_it() {
        for stream in [Hold::Stream, Hold::PluggedStream] {
            let mut posted = Posted::new();
            posted.write_so(0, 0..2, stream, |part| part.sync = true);
            posted.write(1, 0..1, Hold::Plug);
            assert_eq!(
                posted.held_unplugged(),
                Strips::first_n(2),
                "what is held, also beside a write that nobody waits for: {stream:?}"
            );
        }
    }

    #[test]
    fn what_is_written_in_sequence_is_planned_so() {
        for (sequential, read) in [
            (false, [true, false, false, true]),
            (true, [false, true, true, false]),
        ] {
            let mut posted = Posted::new();
            posted.write_so(0, 0..1, Hold::No, |part| part.sequential = sequential);
            let asked = posted.columns.iter().map(|column| !column.read.is_empty());
            assert_eq!(
                asked.collect::<Vec<_>>(),
                read,
                "members that are read for a block of member 0, parity on member 3; in sequence: {sequential}"
            );
        }
    }

    // Blocks come one by one, in sequence: each of the last column fills its strip.

    #[test]
    fn full_strips_go_out_together_when_the_last_is_full() {
        for hold in [Hold::Plug, Hold::PluggedStream] {
            let mut posted = Posted::new();
            posted.write(0, 0..4, hold).write(1, 0..4, hold);
            for strip in 0..3 {
                posted.write(2, strip..strip + 1, hold);
                assert_eq!(
                    posted.gathering(),
                    Strips::first_n(4),
                    "what gathers when strips 0 to {strip} of 4 are full: {hold:?}"
                );
            }
            posted.write(2, 3..4, hold);
            assert_eq!(
                posted.span.phases().of(Phase::Computing),
                Strips::first_n(4),
                "what has started when all strips are full: {hold:?}"
            );
        }
    }

    #[test]
    fn full_strips_wait_for_their_submitters_plug_or_a_stream_that_packs() {
        for (packs, held) in [(false, Strips::range(2, 2)), (true, Strips::first_n(4))] {
            let (mut posted, hold) = (Posted::new(), Hold::PluggedStream);
            posted.write(0, 0..4, hold).write(1, 0..4, hold);
            posted.write_so(2, 0..2, hold, |part| part.packs = packs);
            assert_eq!(
                posted.held_unplugged(),
                held,
                "what a stream holds when two of four strips are full; it packs: {packs}"
            );
        }
    }

    #[test]
    fn a_full_strip_does_not_wait_for_what_nobody_holds() {
        let mut posted = Posted::new();
        let hold = Hold::Plug;
        posted.write(0, 0..2, hold).write(1, 0..2, hold);
        // Somebody without a plug writes to strip 1, which starts.
        posted.write(1, 1..2, Hold::No);
        posted.write(2, 0..1, hold);
        assert_eq!(
            posted.gathering(),
            Strips::NONE,
            "what gathers when the only strip that is held is full"
        );
    }
}
