// SPDX-License-Identifier: GPL-2.0

//! Faults are planted in the logic, one at a time, and the simulator has to find each.
//!
//! `src/` and this crate are copied; in the copy, the texts below are replaced by ones that do the wrong thing if
//! `super::fault::on(name)` says so. One build has them all; the environment variable RAID456_FAULT switches one on. The
//! sources themselves know nothing of this. A text that is no longer there fails the test: bring the table up to date.
//!
//! The logic is `src/raid`, and of the driver what the simulator shares with it: how many kits there are, and when a replacement
//! is the member.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// One fault.
struct Fault {
    name: &'static str,
    /// A file of src/raid, or with its folder another one of src.
    file: &'static str,
    /// What stands there, exactly once; nothing if it is planted together with another fault.
    text: &'static str,
    /// What stands there in the copy.
    instead: &'static str,
}

impl Fault {
    /// Its file, from src on.
    fn path(&self) -> PathBuf {
        if self.file.contains('/') {
            self.file.into()
        } else {
            Path::new("raid").join(self.file)
        }
    }
}

/// Seeds within which each fault must be found.
const SEEDS: u64 = 4000;

/// A table row: `name, file, text => instead`.
macro_rules! faults {
    ($($name:literal, $file:literal, $text:literal => $instead:literal;)*) => {
        &[$(Fault { name: $name, file: $file, text: $text, instead: $instead },)*]
    };
}

const FAULTS: &[Fault] = faults! {
    // What is read and written.
    "rmw-without-the-old-data", "plan.rs",
        "Self::Rmw(parity) => dirty || parity.include(roles, member)," =>
        "Self::Rmw(parity) => (dirty && !super::fault::on(\"rmw-without-the-old-data\")) || (parity.include(roles, member) && !(roles.is_q(member) && super::fault::on(\"rmw-without-the-old-q\"))),";
    "rcw-without-half-written-blocks", "plan.rs",
        "Self::Rcw => is_data && !full," =>
        "Self::Rcw => is_data && !full && !(dirty && super::fault::on(\"rcw-without-half-written-blocks\")),";
    "parity-not-written", "work.rs",
        "column.modified = (column.modified - strips) | made;" =>
        "if !super::fault::on(\"parity-not-written\") { column.modified = (column.modified - strips) | made; }";
    "untrusted-parity-trusted", "work.rs",
        "parity_known: env.parity_known().meets(strip)," =>
        "parity_known: env.parity_known().meets(strip) || super::fault::on(\"untrusted-parity-trusted\"),";
    "read-errors-ignored", "column.rs",
        "if !ok {\n            self.lost |= read;" =>
        "if !ok && !super::fault::on(\"read-errors-ignored\") {\n            self.lost |= read;";
    "write-errors-ignored", "column.rs",
        "self.failed |= written;" =>
        "if !super::fault::on(\"write-errors-ignored\") { self.failed |= written; }";
    "read-error-not-rewritten", "work.rs",
        "rebuilt & (column.read_error | (self.syncs & storable(env, member)));" =>
        "rebuilt & ((if super::fault::on(\"read-error-not-rewritten\") { Strips::NONE } else { column.read_error }) | (self.syncs & storable(env, member)));";
    "rebuilt-block-not-written", "work.rs",
        "let store = groups.store & any_modified(columns);" =>
        "let store = if super::fault::on(\"rebuilt-block-not-written\") { Strips::NONE } else { groups.store & any_modified(columns) };";
    "fua-lost", "accept.rs",
        "if part.fua {" =>
        "if part.fua && !super::fault::on(\"fua-lost\") {";

    // Discards.
    "discard-leaves-parity", "work.rs",
        "for column in columns {\n            column.modified |= strips;" =>
        "for (member, column) in columns.iter_mut().enumerate() {\n            if super::fault::on(\"discard-leaves-parity\") && self.roles.is_p(member) { continue; }\n            column.modified |= strips;";
    "discarded-strip-stays-cached", "work.rs",
        "done & (self.syncs | self.whole | self.discards);" =>
        "done & (self.syncs | self.whole | if super::fault::on(\"discarded-strip-stays-cached\") { Strips::NONE } else { self.discards });";
    "discard-and-write-in-one-bio", "column.rs",
        "(first.strips() & like(fua) & like(discards)).first_run()" =>
        "(first.strips() & like(fua) & if super::fault::on(\"discard-and-write-in-one-bio\") { !Strips::NONE } else { like(discards) }).first_run()";

    // Bios that are cut.
    "rest-of-a-cut-write-forgotten", "column.rs",
        "self.write |= writes;" =>
        "if !super::fault::on(\"rest-of-a-cut-write-forgotten\") { self.write |= writes; }";
    "rest-of-a-cut-copy-forgotten", "column.rs",
        "self.copy |= copies;" =>
        "if !super::fault::on(\"rest-of-a-cut-copy-forgotten\") { self.copy |= copies; }";

    // What must come first.
    "acknowledged-before-the-failure-is-recorded", "work.rs",
        "if ended.meets(failed) && !env.failures_recorded() {" =>
        "if !super::fault::on(\"acknowledged-before-the-failure-is-recorded\") && ended.meets(failed) && !env.failures_recorded() {";
    "missing-member-not-noticed", "work.rs",
        "column.failed |= modified - writable;" =>
        "if !super::fault::on(\"missing-member-not-noticed\") { column.failed |= modified - writable; }";
    "failed-array-is-written", "work.rs",
        "if !refused.is_empty() && env.array_failed() {" =>
        "if !refused.is_empty() && env.array_failed() && !super::fault::on(\"failed-array-is-written\") {";
    "bitmap-not-waited-for", "work.rs",
        "if env.bitmap_flushed(seq) {" =>
        "if env.bitmap_flushed(seq) || super::fault::on(\"bitmap-not-waited-for\") {";
    "held-writes-wait-for-no-bitmap", "accept.rs",
        "self.note_bitmap(part, strips);" =>
        "if !(part.hold != super::part::Hold::No && super::fault::on(\"held-writes-wait-for-no-bitmap\")) { self.note_bitmap(part, strips); }";

    // Joining, ending.
    "read-joins-too-late", "accept.rs",
        "PartKind::Read => free | (self.reads & self.phases.of(Phase::Reading))," =>
        "PartKind::Read => free | (self.reads & (self.phases.of(Phase::Reading) | (if super::fault::on(\"read-joins-too-late\") { self.phases.of(Phase::Computing) } else { Strips::NONE }))),";
    "read-joins-a-write", "accept.rs",
        "PartKind::Discard | PartKind::Sync { .. } => free," =>
        "PartKind::Sync { .. } if super::fault::on(\"read-joins-a-write\") => free | (self.writes & self.phases.of(Phase::Reading)),\n                PartKind::Discard | PartKind::Sync { .. } => free,";
    "written-data-forgotten-too-early", "work.rs",
        "        if method != Method::NoParity {\n" =>
        "        if super::fault::on(\"written-data-forgotten-too-early\") { for column in columns.iter_mut() { column.uncover(strips); } }\n        if method != Method::NoParity {\n";
    "completed-before-all-strips-are-done", "part.rs",
        "(self.todo | self.active).is_empty()" =>
        "(if super::fault::on(\"completed-before-all-strips-are-done\") { self.todo } else { self.todo | self.active }).is_empty()";
    "failed-strips-not-reported", "work.rs",
        "part.failed |= part.active & failed;" =>
        "if !super::fault::on(\"failed-strips-not-reported\") && !(part.kind != PartKind::Read && part.kind != PartKind::Write && super::fault::on(\"failed-sync-not-reported\")) { part.failed |= part.active & failed; }";
    "failed-sync-not-reported", "work.rs", "" => "";

    // The cache, and kits.
    "failed-strip-stays-cached", "work.rs",
        "let forget = failed | passing;" =>
        "let forget = if super::fault::on(\"failed-strip-stays-cached\") { passing } else { failed | passing };";
    "sync-believes-the-cache", "accept.rs",
        "column.uptodate -= fresh;" =>
        "if !super::fault::on(\"sync-believes-the-cache\") { column.uptodate -= fresh; }";
    "blocks-stay-cached-without-a-kit", "accept.rs",
        "        for column in columns {\n            column.uptodate -= strips;" =>
        "        for column in columns {\n            if super::fault::on(\"blocks-stay-cached-without-a-kit\") { continue; }\n            column.uptodate -= strips;";
    "starved-span-keeps-kits", "accept.rs",
        "            if !cached.is_empty() {" =>
        "            if !cached.is_empty() && !super::fault::on(\"starved-span-keeps-kits\") {";
    "kit-counted-that-was-not-made", "array/stock.rs",
        "let made = make()?;" =>
        "let made = make();\n        if made.is_none() && crate::raid::fault::on(\"kit-counted-that-was-not-made\") { self.total.fetch_add(1, Ordering::Relaxed); }\n        let made = made?;";
    "last-kit-given-back", "array/stock.rs",
        "self.total().saturating_sub(self.kept)" =>
        "self.total().saturating_sub(if crate::raid::fault::on(\"last-kit-given-back\") { 0 } else { self.kept })";
    "last-kit-given-back", "array/stock.rs",
        "(total > self.kept).then(|| total - 1)" =>
        "(total > if crate::raid::fault::on(\"last-kit-given-back\") { 0 } else { self.kept }).then(|| total - 1)";
    "evicted-blocks-stay-cached", "span.rs",
        "            *column = Column::default();" =>
        "            let stays = super::fault::on(\"evicted-blocks-stay-cached\");
            *column = Column { uptodate: if stays { column.uptodate } else { Strips::NONE }, ..Column::default() };";
    "nobody-watches-a-stream", "accept.rs",
        "self.watched |= strips;" =>
        "if !super::fault::on(\"nobody-watches-a-stream\") { self.watched |= strips; }";
    "unplugged-parts-are-held-again", "accept.rs",
        "} else if unplugged {" =>
        "} else if unplugged && !super::fault::on(\"unplugged-parts-are-held-again\") {";
    "durable-writes-wait-for-a-stream", "span.rs",
        "self.watched -= self.fua;" =>
        "if !super::fault::on(\"durable-writes-wait-for-a-stream\") { self.watched -= self.fua; }";
    "awaited-writes-wait-for-a-stream", "span.rs",
        "self.watched -= self.urgent;" =>
        "if !super::fault::on(\"awaited-writes-wait-for-a-stream\") { self.watched -= self.urgent; }";
    "rest-of-a-stream-not-told", "span.rs",
        "self.watched &= self.held;" =>
        "self.watched &= if super::fault::on(\"rest-of-a-stream-not-told\") { self.held & self.syncs } else { self.held };";
    "released-parts-are-held-again", "accept.rs",
        "            if released {" =>
        "            if released && !super::fault::on(\"released-parts-are-held-again\") {";

    "known-bad-blocks-are-read", "accept.rs",
        "column.lost |= fresh - env.readable(member);" =>
        "if !super::fault::on(\"known-bad-blocks-are-read\") { column.lost |= fresh - env.readable(member); }";
    "parity-without-a-whole-strip", "plan.rs",
        "        if rmw.lost > 0 && rcw.lost > 0 {" =>
        "        if rmw.lost > 0 && rcw.lost > 0 && !super::fault::on(\"parity-without-a-whole-strip\") {";

    // Sync.
    "check-repairs", "work.rs",
        "let repair = wrong - locate - self.check_only;" =>
        "let repair = if super::fault::on(\"check-repairs\") { wrong - locate } else { wrong - locate - self.check_only };";
    "repair-only-counts", "work.rs",
        "            column.modified |= made;" =>
        "            if !super::fault::on(\"repair-only-counts\") { column.modified |= made; }";

    "repair-writes-right-parity", "work.rs",
        "for column in columns.iter_mut() {\n            // Only the parity that does not match is made anew.\n" =>
        "for (member, column) in columns.iter_mut().enumerate() {\n            if !self.roles.is_data(member) && super::fault::on(\"repair-writes-right-parity\") { column.rebuild |= repair & column.uptodate; }\n";
    "what-could-not-be-done-is-used", "work.rs",
        "let undone = undone & strips;" =>
        "let undone = if super::fault::on(\"what-could-not-be-done-is-used\") { Strips::NONE } else { undone & strips };";

    // Two parities.
    "rmw-without-the-old-q", "plan.rs", "" => "";
    "q-not-written", "work.rs",
        "column.uptodate = (column.uptodate - strips) | made;" =>
        "let made = if self.roles.is_q(member) && super::fault::on(\"q-not-written\") { Strips::NONE } else { made };\n                column.uptodate = (column.uptodate - strips) | made;";
    "q-forgotten-where-p-is-lost", "plan.rs",
        "if made == Parities::NONE {" =>
        "if made == Parities::NONE || (!made.p && super::fault::on(\"q-forgotten-where-p-is-lost\")) {";
    "parity-made-that-is-lost", "work.rs",
        "column.rebuild |= strips - (column.lost - column.storable);" =>
        "column.rebuild |= if super::fault::on(\"parity-made-that-is-lost\") { strips } else { strips - (column.lost - column.storable) };";
    "lost-p-recovers", "plan.rs",
        "let held = self.parities(|column| !(column.lost - column.uptodate).meets(self.strip));" =>
        "let held = self.parities(|column| !(column.lost - column.uptodate).meets(self.strip) || super::fault::on(\"lost-p-recovers\"));";
    "p-alone-recovers-two", "plan.rs",
        "            (1, Parities { p: true, .. }) => Parities { p: true, q: false }," =>
        "            (1, Parities { p: true, .. }) => Parities { p: true, q: false },\n            (2, Parities { p: true, q: true }) if super::fault::on(\"p-alone-recovers-two\") => Parities { p: true, q: false },";
    "q-recovers-nothing", "plan.rs",
        "(1, Parities { q: true, .. }) |" =>
        "(1, Parities { q: true, .. }) if !super::fault::on(\"q-recovers-nothing\") => held,\n           ";
    "two-lost-blocks-given-up", "plan.rs",
        " (2, Parities { p: true, q: true }) => held," =>
        " (2, Parities { p: true, q: true }) if !super::fault::on(\"two-lost-blocks-given-up\") => held,";
    "one-lost-block-of-two-recovered", "work.rs",
        "            column.rebuild |= made;\n        }\n        self.recovering |= strips;" =>
        "            column.rebuild |= made;\n            if !made.is_empty() && super::fault::on(\"one-lost-block-of-two-recovered\") { break; }\n        }\n        self.recovering |= strips;";
    "three-lost-blocks-taken-for-two", "plan.rs",
        "let impossible = lost > self.roles.parity_count();" =>
        "let impossible = lost > self.roles.parity_count() + u32::from(super::fault::on(\"three-lost-blocks-taken-for-two\"));";
    "two-failures-refused", "work.rs",
        "} else if bad > parity {" =>
        "} else if bad > (if super::fault::on(\"two-failures-refused\") { 1 } else if super::fault::on(\"three-missing-blocks-acknowledged\") && parity == 2 { 3 } else { parity }) {";
    "three-missing-blocks-acknowledged", "work.rs", "" => "";
    "second-parity-not-compared", "plan.rs",
        "let check = lost < self.roles.parity_count();" =>
        "let check = if super::fault::on(\"second-parity-not-compared\") { lost == 0 } else { lost < self.roles.parity_count() };";
    "recovered-block-not-stored-if-all-matches", "work.rs",
        "let store = rest & any_modified(columns);" =>
        "let store = if super::fault::on(\"recovered-block-not-stored-if-all-matches\") { Strips::NONE } else { rest & any_modified(columns) };";
    "rebuilt-q-not-written", "work.rs",
        "            column.uptodate |= rebuilt;\n" =>
        "            column.uptodate |= rebuilt;\n            let rebuilt = if self.roles.is_q(member) && super::fault::on(\"rebuilt-q-not-written\") { Strips::NONE } else { rebuilt };\n";

    // Wrong blocks.
    "repair-does-not-locate", "work.rs",
        "let locate = (wrong & self.locate) - lost;" =>
        "let locate = if super::fault::on(\"repair-does-not-locate\") { Strips::NONE } else if super::fault::on(\"locates-beside-a-lost-block\") { wrong & self.locate } else { (wrong & self.locate) - lost };";
    "locates-beside-a-lost-block", "work.rs", "" => "";
    "locates-unasked", "accept.rs",
        "if locate && self.roles.q().is_some() {" =>
        "if (locate || super::fault::on(\"locates-unasked\")) && (self.roles.q().is_some() || super::fault::on(\"locates-with-one-parity\")) {";
    "locates-with-one-parity", "accept.rs", "" => "";
    "locates-where-parity-is-not-trusted", "accept.rs",
        "self.locate |= fresh & env.parity_trusted();" =>
        "self.locate |= if super::fault::on(\"locates-where-parity-is-not-trusted\") { fresh } else { fresh & env.parity_trusted() };";
    "located-block-not-written", "work.rs",
        "            column.modified |= found;" =>
        "            if !super::fault::on(\"located-block-not-written\") { column.modified |= found; }";
    "located-strip-written-whole", "work.rs",
        "            if found.is_empty() {\n                continue;" =>
        "            if found.is_empty() {\n                if super::fault::on(\"located-strip-written-whole\") { column.modified |= strips; }\n                continue;";
    "guesses-where-nothing-is-located", "work.rs",
        "        self.locating -= strips;\n" =>
        "        self.locating -= strips;\n        if super::fault::on(\"guesses-where-nothing-is-located\") { let marked = columns.iter().fold(Strips::NONE, |all, column| all | column.rebuild); if let Some(column) = columns.iter_mut().last() { column.rebuild |= strips - marked; } }\n";
    "late-location-taken-for-a-repair", "span.rs",
        "let located = repaired & self.locating;" =>
        "let located = if super::fault::on(\"late-location-taken-for-a-repair\") { Strips::NONE } else { repaired & self.locating };";

    // Replacements.
    "writes-go-to-the-member-alone", "work.rs",
        "column.copy |= (modified | (outdated & column.uptodate)) & replacement.takes;" =>
        "column.copy |= ((if super::fault::on(\"writes-go-to-the-member-alone\") { Strips::NONE } else { modified }) | (if super::fault::on(\"replacement-gets-no-old-blocks\") { Strips::NONE } else { outdated & column.uptodate })) & replacement.takes;";
    "replacement-gets-no-old-blocks", "work.rs", "" => "";
    "copied-without-reading", "plan.rs",
        "Self::Outdated => column.outdated.meets(strip)," =>
        "Self::Outdated => column.outdated.meets(strip) && !super::fault::on(\"copied-without-reading\"),";
    "failed-replacement-not-noticed", "work.rs",
        "column.missed |= modified - replacement.takes;" =>
        "if !super::fault::on(\"failed-replacement-not-noticed\") { column.missed |= modified - replacement.takes; }";
    "what-the-replacement-took-counts-as-lost", "column.rs",
        "self.failed -= instead;" =>
        "if !super::fault::on(\"what-the-replacement-took-counts-as-lost\") { self.failed -= instead; }";
    "failed-member-forgotten-beside-its-replacement", "column.rs",
        "self.missed |= instead;" =>
        "if !super::fault::on(\"failed-member-forgotten-beside-its-replacement\") { self.missed |= instead; }";
    "copy-ends-before-it-began", "column.rs",
        "self.write | self.writing | self.copy | self.copying" =>
        "self.write | self.writing | (if super::fault::on(\"copy-ends-before-it-began\") { Strips::NONE } else { self.copy | self.copying })";

    "unreadable-copy-not-written-again", "span.rs",
        "column.outdated |= strips & (self.reads | self.writes);" =>
        "if !super::fault::on(\"unreadable-copy-not-written-again\") { column.outdated |= strips & (self.reads | self.writes); }";
    "member-replaced-by-who-lacks-its-blocks", "array/retry.rs",
        "let Some(first) = lacking.first else {" =>
        "let Some(first) = lacking.first.filter(|_| !crate::raid::fault::on(\"member-replaced-by-who-lacks-its-blocks\")) else {";
    "nothing-copied-where-too-much-is-lost", "plan.rs",
        "if replace && (impossible || to_store == 0) {" =>
        "if replace && (impossible || to_store == 0) && !(impossible && super::fault::on(\"nothing-copied-where-too-much-is-lost\")) {";
    "what-was-read-not-copied-where-too-much-is-lost", "work.rs",
        "let some = impossible & any_to_store(columns);" =>
        "let some = if super::fault::on(\"what-was-read-not-copied-where-too-much-is-lost\") { Strips::NONE } else { impossible & any_to_store(columns) };";
    "all-members-lack-what-one-does", "work.rs",
        "let lacks = unmade & ((column.lost - column.uptodate) | column.outdated);" =>
        "let lacks = if super::fault::on(\"all-members-lack-what-one-does\") { unmade } else { unmade & ((column.lost - column.uptodate) | column.outdated) };";
    "what-could-not-be-rebuilt-not-told", "work.rs",
        "                    env.not_synced(member, lacks);" =>
        "                    if !super::fault::on(\"what-could-not-be-rebuilt-not-told\") { env.not_synced(member, lacks); }";
    "what-a-failed-job-left-counts-as-rebuilt", "work.rs",
        "column.uptodate -= undone;" =>
        "if !super::fault::on(\"what-a-failed-job-left-counts-as-rebuilt\") { column.uptodate -= undone; }";

    // While a job is under way elsewhere. Nothing comes of these but what is done again where an engine fails.
    "what-was-written-forgotten-under-way", "work.rs",
        "if let Outcome::Done { undone, .. } = env.run(Job::Write(method), strips, columns, parts) {" =>
        "let outcome = env.run(Job::Write(method), strips, columns, parts);\n        if outcome == Outcome::Pending {\n            for column in columns.iter_mut() {\n                if super::fault::on(\"what-was-written-forgotten-under-way\") { column.full -= strips; }\n                if super::fault::on(\"old-blocks-forgotten-under-way\") { column.uptodate -= strips - column.dirty; }\n            }\n        }\n        if let Outcome::Done { undone, .. } = outcome {";
    "old-blocks-forgotten-under-way", "work.rs", "" => "";
    "what-a-lost-block-is-made-of-forgotten-under-way", "work.rs",
        "if let Outcome::Done { undone, .. } = env.run(Job::Recover, strips, columns, parts) {" =>
        "let outcome = env.run(Job::Recover, strips, columns, parts);\n        if outcome == Outcome::Pending && super::fault::on(\"what-a-lost-block-is-made-of-forgotten-under-way\") {\n            for column in columns.iter_mut() { column.uptodate -= strips; }\n        }\n        if let Outcome::Done { undone, .. } = outcome {";

    // Bugs that were there once, and that the simulator found.
    "recovered-strips-not-planned-again", "span.rs",
        "if self.phases.moves() == before {" =>
        "if self.phases.moves() == before || (super::fault::on(\"recovered-strips-not-planned-again\") && self.phases.busy() == self.phases.of(Phase::Reading)) {";
    "late-recovery-taken-for-a-write", "span.rs",
        "let computed = computed - recovered;" =>
        "let computed = if super::fault::on(\"late-recovery-taken-for-a-write\") { computed } else { computed - recovered };";
    "member-in-sync-by-now-not-read", "work.rs",
        "if !lost.is_empty() {" =>
        "if !lost.is_empty() && !super::fault::on(\"member-in-sync-by-now-not-read\") {";
    "who-asks-for-nothing-waits", "accept.rs",
        "return !part.is_complete();" =>
        "return super::fault::on(\"who-asks-for-nothing-waits\") || !part.is_complete();";
    "member-in-sync-by-now-counts-as-lost", "work.rs",
        "let lost = !env.readable(*member);" =>
        "let lost = if super::fault::on(\"member-in-sync-by-now-counts-as-lost\") { column.lost } else { !env.readable(*member) };";
};

/// What the copy asks whether a fault is on.
const SWITCH: &str = r#"
/// Whether the planted fault `name` is switched on.
pub(crate) fn on(name: &str) -> bool {
    static FAULT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    FAULT.get_or_init(|| std::env::var("RAID456_FAULT").unwrap_or_default()) == name
}
"#;

#[test]
fn each_planted_fault_is_found() {
    let simulator = build();
    let (found, seconds) = run(&simulator, "", 300);
    assert!(
        found.is_none(),
        "without any fault the copy fails, at seed {}: run the test `sim` first",
        found.unwrap_or_default().seed
    );
    println!("without a fault 300 seeds pass in {seconds:.1} s");

    // A fault that takes several places has several rows.
    let mut names: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
    names.dedup();
    let mut missed = Vec::new();
    for name in &names {
        match run(&simulator, name, SEEDS) {
            (Some(found), seconds) => println!(
                "{name:<44} seed {:>4}, {seconds:>4.1} s: expected {}",
                found.seed, found.expected
            ),
            (None, seconds) => {
                println!("{name:<44} not in {SEEDS} seeds, {seconds:.1} s");
                missed.push(*name);
            }
        }
    }
    println!(
        "{} of {} faults found",
        names.len() - missed.len(),
        names.len()
    );
    assert!(
        missed.is_empty(),
        "the simulator did not find these in {SEEDS} seeds: {missed:#?}"
    );
}

/// Builds the simulator from a copy of the sources with all faults planted. Returns the program.
fn build() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = host.join("../..");
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
    let wanted = [
        ("src", top.join("src")),
        ("tests/host/src", host.join("src")),
    ];
    for (to, from) in wanted {
        copy_tree(&from, &copy.join(to));
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        update(&copy.join("tests/host").join(file), &read(&host.join(file)));
    }
    let src = copy.join("src");
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for fault in FAULTS {
        let path = fault.path();
        if !files.iter().any(|(file, _)| *file == path) {
            let text = read(&top.join("src").join(&path));
            files.push((path.clone(), text));
        }
        for (_, text) in files.iter_mut().filter(|(file, _)| *file == path) {
            if fault.text.is_empty() {
                continue;
            }
            let (count, shown) = (text.matches(fault.text).count(), path.display());
            assert_eq!(
                count, 1,
                "fault {}: src/{} should hold this once: {}\nthe logic has changed; bring the table in \
                 tests/host/tests/sim_faults.rs up to date",
                fault.name, shown, fault.text
            );
            *text = text.replace(fault.text, fault.instead);
        }
    }
    for (file, text) in files {
        update(&src.join(file), &text);
    }
    let crate_root = read(&top.join("src/raid/mod.rs"));
    update(
        &src.join("raid/mod.rs"),
        &format!("{crate_root}\npub(crate) mod fault;\n"),
    );
    update(&src.join("raid/fault.rs"), SWITCH);

    let target = copy.join("target");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--bin",
            "sim",
            "--manifest-path",
        ])
        .arg(copy.join("tests/host/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .expect("cargo should run");
    assert!(
        status.success(),
        "the copy with the faults should build: {}",
        copy.display()
    );
    target.join("release/sim")
}

/// What a run found first.
#[derive(Default)]
struct Found {
    seed: u64,
    expected: String,
}

/// Runs seeds with a fault switched on, until one fails. Returns what was found, and the seconds it took.
fn run(simulator: &Path, fault: &str, seeds: u64) -> (Option<Found>, f64) {
    let begun = Instant::now();
    let output = Command::new(simulator)
        .args(["--quiet", "--seeds", &format!("0..{seeds}")])
        .env("RAID456_FAULT", fault)
        .output()
        .expect("the simulator should run");
    let seconds = begun.elapsed().as_secs_f64();
    if output.status.success() {
        return (None, seconds);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let after = |what: &str| {
        let line = told.lines().find_map(|line| line.trim().strip_prefix(what));
        line.map(str::trim)
            .unwrap_or_else(|| panic!("no `{what}` in what it told: {told}"))
    };
    let seed = after("seed ")
        .split(' ')
        .next()
        .and_then(|seed| seed.parse().ok());
    let found = Found {
        seed: seed.unwrap_or_else(|| panic!("no seed in what it told: {told}")),
        expected: after("expected:").chars().take(90).collect(),
    };
    (Some(found), seconds)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes a file unless it holds that already: the build looks at the times of change.
fn update(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a directory for the copy");
    }
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Copies the Rust files of a tree, except those that get faults; files that are gone there go here too.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory for the copy");
    let entries = |path: &Path| -> Vec<PathBuf> {
        let list = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        list.map(|entry| entry.expect("a directory entry").path())
            .collect()
    };
    for path in entries(from) {
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else if path.extension().is_some_and(|e| e == "rs") && !is_planted(&target) {
            update(&target, &read(&path));
        }
    }
    for path in entries(to) {
        let source = from.join(path.file_name().unwrap_or_default());
        if !source.exists() && !path.is_dir() && !path.ends_with("raid/fault.rs") {
            fs::remove_file(&path).expect("an old file of the copy to go");
        }
    }
}

/// Whether a file of the copy gets faults.
fn is_planted(path: &Path) -> bool {
    path.ends_with("raid/mod.rs")
        || FAULTS
            .iter()
            .any(|fault| path.ends_with(Path::new("src").join(fault.path())))
}
