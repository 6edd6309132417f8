// SPDX-License-Identifier: GPL-2.0

//! What a run tells: the first thing that went wrong, and how often each interesting thing happened.

use std::fmt;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// Something that a run of many seeds should reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Event {
            $($(#[$doc])* $name,)*
        }

        impl Event {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What it is called in a summary.
            pub(crate) const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

events! {
    Rmw "read-modify-writes",
    Rcw "reconstruct-writes",
    FullStrip "full strips without reads",
    NoParity "writes without a parity member",
    Joined "writes that joined another one's strip",
    Discarded "member bios that discard",
    Recover "lost blocks recovered",
    Deliver "reads through a span",
    DirectRead "reads straight from a member",
    DirectFailed "of these, failed and sent through a span",
    Check "parity checks",
    Mismatch "mismatches found",
    Parity "parity made anew",
    WriteWithoutP "strips of level 6 written without P",
    WriteWithoutQ "strips of level 6 written without Q",
    CheckP "strips of level 6 checked by P alone",
    CheckQ "strips of level 6 checked by Q alone",
    RecoverByQ "blocks recovered by Q",
    RecoverTwoData "pairs of data blocks recovered",
    RecoverDataP "pairs of data and P recovered",
    RecoverDataQ "pairs of data and Q recovered",
    RecoverPQ "pairs of P and Q recovered",
    Scribbled "blocks changed behind the array's back",
    ScribbledTwice "times that several of a strip were",
    Locate "wrong blocks looked for",
    LocatedData "wrong data blocks located",
    LocatedP "wrong P blocks located",
    LocatedQ "wrong Q blocks located",
    Unlocated "strips in which none could be told",
    Fua "FUA member writes",
    Flush "flushes",
    WouldBlock "NOWAIT requests turned back",
    JobPending "jobs that ended later",
    JobInPieces "jobs that ended for some strips before others",
    JobAgain "jobs that failed, or were late, and were done again",
    JobUndone "jobs that could not be done for some strip",
    RunInline "spans run by a submitter",
    HandedOver "spans handed over after some rounds",
    Unplugged "plugs with spans released",
    PlugFull "spans released because a plug was full",
    NoSpan "times that no span was free",
    Pieces "requests that got their spans in pieces",
    NoClone "no clone for a request",
    FlushedFirst "writes that the array's thread posts after a flush",
    Released "spans given back unused",
    NoKit "times that no kit was free",
    Evicted "kits taken from an inactive span",
    CacheResized "changes of the number of kits",
    CacheRefused "of these, larger numbers that were refused",
    GivenBack "kits that the kernel had back",
    MadeAgain "kits that were made again",
    NotMade "times that there was no memory for one",
    Distrusted "times that parity was declared not to be known",
    Starved "spans parked for lack of kits",
    WaitsRest "spans held for the rest of a stream",
    WaitsBitmap "spans parked for a bitmap flush",
    WaitsSuperblock "spans parked for a superblock write",
    NotIssued "member bios that found the member gone",
    BioCut "member bios cut for want of memory",
    ReadError "failed member reads",
    Corrected "blocks rewritten after a read error",
    WriteError "failed member writes",
    MetadataError "failed superblock and bitmap writes",
    BadRecorded "blocks recorded as bad",
    BadLogFull "blocks that could not be, so the member failed",
    BadHealed "recorded blocks written and good again",
    BadRebuild "strips that a rebuild left recorded as bad",
    BadRefused "reads refused for such a block",
    MemberFailed "members failed",
    MidStep "of these, in the middle of a step",
    Died "members that died without a word",
    FailedTogether "pairs of members that failed at the same moment",
    LossyRow "strips with more blocks lost than parity stands for",
    Refused "requests refused for it",
    Broken "arrays with too many members failed",
    SpareAdded "spares added",
    ReAdded "members re-added with the bitmap",
    ReplacementAdded "members that got a replacement",
    Copied "blocks written to replacements",
    CopyFailed "of these, failed",
    ReadReplacement "blocks read from replacements",
    ReadInstead "of these, read from the member instead",
    ReplacementFailed "replacements taken out",
    CopiedBack "blocks of replacements that could not be read, and were written there again",
    CopyUnreadable "replacements that could not be read after that either",
    CopiedAlone "strips with too many blocks lost of which a replacement got its own",
    CopiedAgain "replacements that were gone over again before they became members",
    Replaced "members replaced",
    Inherited "of these, because they failed before the end",
    Resynced "resyncs completed",
    Rebuilt "rebuilds completed",
    RebuiltTwo "of these, of two members in one pass",
    ResyncedDegraded "resyncs completed with a member missing",
    Checked "checks completed",
    Repaired "repairs completed",
    SyncInterrupted "syncs interrupted",
    SyncFailed "sync units failed",
    BitmapSkip "sync units that the bitmap spared",
    Checkpoint "sync checkpoints",
    SuperWrite "superblock updates",
    BitmapFlush "bitmap flushes",
    BitmapKnown "writes whose bits were known to be durable",
    BitmapClear "bitmap bits cleared",
    Quiesced "quiesces",
    QuiescedLocked "of these, with reconfig_mutex held",
    Rebooted "times that the machine went down",
    ClearedBeside "bitmap bits cleared then",
    PowerCut "power cuts",
    TornWrite "writes torn by them",
    CacheLost "caches that lost sectors in them",
    HoleRow "strips left with wrong parity by them",
    HoleBlock "blocks lost behind the write hole",
    UncleanStart "assemblies of an unclean array",
    DegradedStart "of these, with a member missing",
    StaleMember "members left out of an assembly as stale",
}

/// How often each thing happened.
#[derive(Clone, Debug)]
pub struct Summary {
    counts: Vec<u64>,
    /// Runs that are counted in.
    pub seeds: u64,
    /// Scheduler steps.
    pub steps: u64,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            counts: vec![0; Event::ALL.len()],
            seeds: 0,
            steps: 0,
        }
    }
}

impl Summary {
    pub(crate) fn count(&mut self, event: Event) {
        self.counts[event as usize] += 1;
    }

    /// How often `event` happened.
    pub(crate) fn of(&self, event: Event) -> u64 {
        self.counts[event as usize]
    }

    /// Adds the figures of other runs.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
        self.seeds += other.seeds;
        self.steps += other.steps;
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        let missing = Event::ALL.iter().filter(|&&event| self.of(event) == 0);
        missing.map(|event| event.text()).collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12}  seeds", self.seeds)?;
        writeln!(f, "{:>12}  scheduler steps", self.steps)?;
        for &event in Event::ALL {
            writeln!(f, "{:>12}  {}", self.of(event), event.text())?;
        }
        Ok(())
    }
}

/// The first thing in a run that should not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The scheduler step.
    pub step: u64,
    /// What was asked for beside the seed, as words for the `sim` program.
    pub words: String,
    /// What the array was.
    pub array: String,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub came: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} failed at step {}", self.seed, self.step)?;
        writeln!(f, "  array:    {}", self.array)?;
        writeln!(f, "  expected: {}", self.expected)?;
        writeln!(f, "  came:     {}", self.came)?;
        write!(
            f,
            "  again:    cd tests/host && cargo run --release --bin sim -- --seed {}{} --trace",
            self.seed, self.words
        )
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
    /// What happened.
    pub summary: Summary,
    /// What happened, in order, if that was asked for.
    pub trace: Vec<String>,
    /// How often somebody asked for memory without waiting.
    pub asked: u64,
    /// How often he got none because that was to be so.
    pub failed: u64,
}
