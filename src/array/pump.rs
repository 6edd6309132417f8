// SPDX-License-Identifier: GPL-2.0

//! A span's traffic with the members: blocks that are to be read or written become bios, and their ends come back.
//!
//! Each member has one bio in a span. What does not fit into it waits in the column until the bio has ended; the runner asks
//! to hear of that ([`Flights`](crate::sync::flights::Flights)). So a run for whose pages there is no room goes in pieces.

use super::counters;
use super::env::RunEnv;
use super::object::{Port, SpanObject};
use super::run::{hand_over, run};
use crate::block::member_bio::{Ended, Io, Owner, Place, Room, OWN_PAGES};
use crate::block::{Flags, Status};
use crate::md::rdev::{BadBlocks, Flag};
use crate::md::slots::Member;
use crate::md::trace;
use crate::raid::column::{Column, Tries};
use crate::raid::phase::Phase;
use crate::raid::span::Span;
use crate::raid::strips::{Run, Strips, STRIP_BYTES, STRIP_SECTORS};
use crate::sync::mailbox::Events;
use kernel::sync::Arc;

/// Takes in what has ended.
pub(super) fn collect(
    span: &mut Span,
    columns: &mut [Column],
    ports: &mut [Port],
    env: &mut RunEnv<'_>,
) {
    for (member, port) in ports.iter_mut().enumerate() {
        let Some(word) = env.span.ended.get(member) else {
            continue;
        };
        let ended = word.take();
        let (good, failed) = (Strips(ended.ok), Strips(ended.failed));
        let Some(column) = columns.get_mut(member) else {
            continue;
        };
        if (good | failed).is_empty() {
            continue;
        }
        // What the port does is no answer: the bio may be under way again, for something else.
        let (reading, writing) = (column.reading(), column.writing());
        let copying = column.copying();
        let (read_error, copies) = (column.read_error, column.copies_pending());
        // What failed is tried once more, each block alone: others of the same bio, or of what the block layer made of
        // several, are not to be taken for lost with it.
        let tries = &mut column.tries;
        let first = failed - tries.last_try;
        tries.last_try = (tries.last_try - good - failed) | first;
        tries.reread |= first & reading;
        tries.rewrite |= first & (writing | copying);
        let mut lost = failed - first;
        // What could not be read and is written again counts when it can be read. The block itself is what is read, so nobody
        // else may want it meanwhile.
        let proven = (good | failed) & tries.proving;
        tries.proving -= proven;
        let written = good - proven;
        let of_replacement = lost & reading & tries.from_replacement;
        if !of_replacement.is_empty() {
            // That is known of the replacement by now: perhaps the member has them.
            let elsewhere = of_replacement & env.array.readable(member, env.sector);
            tries.reread |= elsewhere;
            lost -= elsewhere;
            span.owe_copy(columns, member, elsewhere);
        }
        let mut proof = Strips::NONE;
        if port.healing.is_some() {
            proof = written & writing & (read_error - copies);
        }
        port.heirs.each(written & copying, |device, strips| {
            proof |= strips & env.array.bad_strips(device, env.sector);
        });
        let good = good - proof;
        if let Some(column) = columns.get_mut(member) {
            column.tries.proof |= proof;
            // Who knows what that has left there.
            column.uptodate -= lost & proven;
        }
        if let Some(healing) = &port.healing {
            heal(healing, good & writing, env);
        }
        port.heirs
            .each(good & copying, |device, strips| heal(device, strips, env));
        span.io_done(columns, member, good, true, env);
        span.io_done(columns, member, lost, false, env);
        if let Some(column) = columns.get(member) {
            port.let_go(column);
        }
    }
}

/// Takes blocks that were written off a member's record of bad ones.
fn heal(member: &Member, written: Strips, env: &RunEnv<'_>) {
    for run in written.runs() {
        let sector = env.strip_sector(run.first);
        let sectors = run.count.wrapping_mul(STRIP_SECTORS);
        env.array.faults.written(member, sector, sectors);
    }
}

/// Sends blocks that are to be read or written to the members. Returns whether some could not be sent and so have failed
/// at once: then there is something to step for.
pub(super) fn issue(
    span: &mut Span,
    columns: &mut [Column],
    ports: &mut [Port],
    env: &mut RunEnv<'_>,
) -> bool {
    let phases = span.phases();
    if (phases.of(Phase::Reading) | phases.of(Phase::Writing)).is_empty() {
        debug_assert!(
            !columns.iter().any(has_more),
            "only strips that read or write have blocks to be sent"
        );
        env.span.flights.want_all(false);
        return false;
    }
    let mut failed = false;
    loop {
        let more = issue_idle(span, columns, ports, &mut failed, env);
        env.span.flights.want_all(more);
        // A bio that ended before that may have told nobody.
        let mut both = ports.iter().zip(&*columns);
        if !more || !both.any(|(port, column)| has_more(column) && !port.bio.is_busy()) {
            return failed;
        }
    }
}

/// As [`issue`], by the bios that are not under way. Returns whether there is more to send than they could take; `failed` is
/// set if some could not be sent.
fn issue_idle(
    span: &mut Span,
    columns: &mut [Column],
    ports: &mut [Port],
    failed: &mut bool,
    env: &mut RunEnv<'_>,
) -> bool {
    let mut more = false;
    for (member, port) in ports.iter_mut().enumerate() {
        let Some(column) = columns.get(member) else {
            continue;
        };
        let copies = column.copies_pending();
        if !copies.is_empty() {
            port.heirs.update(copies, env.array.slots.get(member));
        }
        if !has_more(column) {
            continue;
        }
        while !port.bio.is_busy() {
            let Some(column) = columns.get_mut(member) else {
                break;
            };
            let Some(mut what) = next(span, column, port, env) else {
                break;
            };
            if submit(member, port, &mut column.tries, &mut what, env) {
                continue;
            }
            let run = what.run;
            if !what.io.write && run.count > 1 {
                // Perhaps not all of it is lost.
                column.tries.reread |= run.strips();
                column.tries.last_try |= run.strips();
            } else {
                column.tries.last_try -= run.strips();
                span.io_done(columns, member, run.strips(), false, env);
                *failed = true;
                if let Some(column) = columns.get(member) {
                    // No bio will end that would see to this.
                    port.let_go(column);
                }
            }
        }
        more |= columns.get(member).is_some_and(has_more);
    }
    more
}

/// Whether there is something to be sent to the member.
fn has_more(column: &Column) -> bool {
    let tries = &column.tries;
    let again = tries.reread | tries.rewrite | tries.proof;
    !(again | column.read | column.write | column.copies_ready()).is_empty()
}

impl Port {
    /// Lets go of the devices that are not being written any more.
    fn let_go(&mut self, column: &Column) {
        if column.writing().is_empty() {
            self.healing = None;
        }
        self.heirs.update(column.copies_pending(), None);
    }
}

/// The device of a slot that a bio goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// One that can be read.
    Reader,
    /// The member.
    Member,
    /// The member that was written, or the one that is to replace it, to be read there.
    Proof,
    /// The one that is to replace it.
    Replacement,
}

/// What is sent to a member.
struct Sent {
    run: Run,
    target: Target,
    io: Io,
    /// Some of it could not be read there.
    mends: bool,
    /// How blocks are sent that are to be forgotten.
    erases: Option<Erase>,
    /// For the vectors of a long run.
    room: Option<Room>,
}

/// How a member comes to have zeroes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    /// It is told to forget what it has.
    Discard,
    /// It cannot do that, or could not, so zeroes are written.
    Write,
}

/// What is to be sent to a member next.
fn next(span: &Span, column: &mut Column, port: &Port, env: &RunEnv<'_>) -> Option<Sent> {
    let discards = span.discards();
    let mut erase = Erase::Discard;
    let (mut run, target) = if let Some(run) = take_one(&mut column.tries.proof) {
        // First: what is written next may go to another member.
        column.tries.last_try |= run.strips();
        (run, Target::Proof)
    } else if let Some(run) = take_one(&mut column.tries.reread) {
        (run, Target::Reader)
    } else if let Some(run) = take_one(&mut column.tries.rewrite) {
        erase = Erase::Write;
        if column.copying().meets(run.strips()) {
            (run, Target::Replacement)
        } else {
            (run, Target::Member)
        }
    } else if let Some(run) = column.next_read() {
        (run, Target::Reader)
    } else {
        match column.next_write(span.fua(), discards) {
            Some(run) => (run, Target::Member),
            None => {
                let of = port.heirs.next(column.copies_ready())?;
                let run = column.next_copy(of, span.fua(), discards)?;
                (run, Target::Replacement)
            }
        }
    };
    let write = matches!(target, Target::Member | Target::Replacement);
    let erases = (write && discards.meets(run.strips())).then_some(erase);
    let mut room = None;
    if erases.is_none() {
        room = fit(&mut run, column);
        if write && run.count == 1 {
            // It goes alone anyway.
            column.tries.last_try |= run.strips();
        }
    }
    let mut flags = Flags::NONE;
    if write && span.fua().meets(run.strips()) {
        flags = flags | Flags::FUA;
    }
    if span.sync().meets(run.strips()) {
        flags = flags | Flags::SYNC;
    }
    let sector = env.strip_sector(run.first);
    Some(Sent {
        run,
        target,
        io: Io {
            write,
            flags,
            sector,
        },
        mends: column.read_error.meets(run.strips()),
        erases,
        room,
    })
}

/// Gets room for the pages of a long run. Where there is no memory for that, the bio takes as many as it has room for itself, and
/// the rest comes when it has ended.
fn fit(run: &mut Run, column: &mut Column) -> Option<Room> {
    if !is_long(run.count) {
        return None;
    }
    let room = Room::take();
    if room.is_none() {
        let all = run.strips();
        // CAST: less than a run has.
        run.count = OWN_PAGES as u32;
        column.put_back(all - run.strips());
    }
    room
}

/// Whether a bio has no room itself for so many pages.
const fn is_long(count: u32) -> bool {
    count as usize > OWN_PAGES
}

/// Takes the first strip out.
fn take_one(strips: &mut Strips) -> Option<Run> {
    let first = strips.iter().next()?;
    let run = Run { first, count: 1 };
    *strips -= run.strips();
    Some(run)
}

/// Sends a run to a member. Returns false if there is nobody to send it to, or if who is there does not hold what is to be
/// read: the slot may have got another member since the read was planned.
fn submit(
    member: usize,
    port: &mut Port,
    tries: &mut Tries,
    what: &mut Sent,
    env: &mut RunEnv<'_>,
) -> bool {
    let Sent {
        run, target, io, ..
    } = *what;
    let Some(slot) = env.array.slots.get(member) else {
        return false;
    };
    let sectors = run.count.wrapping_mul(STRIP_SECTORS);
    let device = match target {
        Target::Reader => env.array.reader(slot, io.sector, sectors),
        Target::Member => slot.take(),
        Target::Proof => working(port.heirs.device(run.strips()).or(port.healing.as_ref())),
        Target::Replacement => working(port.heirs.device(run.strips())),
    };
    let Some(device) = device else {
        return false;
    };
    if target == Target::Reader {
        tries.from_replacement -= run.strips();
        if !slot.holds(&device) {
            tries.from_replacement |= run.strips();
        }
    }
    let mends = target == Target::Member
        && (what.mends || device.bad_blocks(io.sector, sectors) != BadBlocks::None);
    let healing = mends.then(|| device.clone());
    // CAST: there are no more members than a u16 counts.
    let member = member as u16;
    let mut room = what.room.take();
    let erases = match what.erases {
        // The members that the array was started with can. One that has come since may say that it has, and keep some.
        Some(Erase::Discard) if !device.can_discard(env.array.geometry.span_sectors() << 9) => {
            Some(Erase::Write)
        }
        erases => erases,
    };
    if erases == Some(Erase::Write) {
        if !make_zero(env, run, member) {
            return false;
        }
        if is_long(run.count) {
            room = Room::take();
            if room.is_none() {
                // Each alone, then.
                tries.rewrite |= run.strips();
                return true;
            }
        }
    }
    if target == Target::Proof {
        tries.proving |= run.strips();
    }
    let flight = Flight {
        span: env.span.clone(),
        member,
        strips: run.strips(),
        last_try: tries.last_try.meets(run.strips()),
        proof: target == Target::Proof,
    };
    let geometry = &env.array.geometry;
    let place = Place {
        member: io.sector,
        array: trace::origin(|| geometry.array_sector(member, io.sector)),
    };
    let span = env.span;
    span.flights.start(run.strips().0);
    let sent = if erases == Some(Erase::Discard) {
        port.bio.discard(flight, device, place, io.flags, sectors)
    } else if io.write {
        let pages = env.pages(run, member);
        port.bio.write(flight, device, place, io.flags, pages, room)
    } else {
        let pages = env.pages_mut(run, member);
        port.bio.read(flight, device, place, io.flags, pages, room)
    };
    let (bios, moved) = if io.write {
        (
            counters::Work::MemberWrites,
            counters::Work::MemberWriteSectors,
        )
    } else {
        (
            counters::Work::MemberReads,
            counters::Work::MemberReadSectors,
        )
    };
    if sent.is_err() {
        if span.flights.end(run.strips().0) {
            // Of the other bios for these strips the last one may have ended meanwhile, and told nobody, as there was this one. We
            // are the runner, and look once more.
            let _none = span.actor.post(Events::IO);
        }
        tries.proving -= run.strips();
        return false;
    }
    span.counts.add(bios, 1);
    span.counts.add(moved, sectors);
    if let Some(new) = healing {
        let is_other = port.healing.as_ref().is_some_and(|old| !old.is(&new));
        // Of two that had the slot one after the other nothing is taken off any record.
        port.healing = (!is_other).then_some(new);
    }
    true
}

/// Fills blocks with zeroes. Returns whether that could be done.
fn make_zero(env: &mut RunEnv<'_>, run: Run, member: u16) -> bool {
    let mut zeroed = 0;
    for page in env.pages_mut(run, member).flatten() {
        if let Some(bytes) = page.view_mut::<[u8; STRIP_BYTES]>() {
            bytes.fill(0);
            zeroed += 1;
        }
    }
    zeroed == run.count
}

/// Another reference to a device, unless it has failed.
fn working(device: Option<&Member>) -> Option<Member> {
    device.filter(|rdev| !rdev.test(Flag::Faulty)).cloned()
}

/// A run of blocks that is under way to or from a member.
pub(super) struct Flight {
    span: Arc<SpanObject>,
    member: u16,
    strips: Strips,
    /// What fails now has failed.
    last_try: bool,
    /// It shows whether a block that was written again can be read.
    proof: bool,
}

impl Owner for Flight {
    /// Takes note of the end of a bio, and runs the span where that is allowed.
    fn ended(self, ended: Ended) {
        let span = self.span;
        let (io, member) = (&ended.io, &ended.member);
        let ok = ended.status.is_ok();
        match (ok, io.write) {
            (true, true) => {}
            (true, false) => span.faults.read_succeeded(member),
            (false, false) if self.proof => {
                span.faults.rewrite_failed(member, io.sector, ended.sectors);
            }
            (false, _) if !self.last_try => {}
            (false, true) => span.faults.write_failed(member, io.sector, ended.sectors),
            (false, false) => {
                let counts = ended.status != Status::PROTECTION;
                span.faults
                    .read_failed(member, io.sector, ended.sectors, counts);
            }
        }
        let may_run = member.may_run_inline();
        if let Some(word) = span.ended.get(usize::from(self.member)) {
            word.post(self.strips.0, ok);
        }
        let last = span.flights.end(self.strips.0);
        let turn = (last || !ok).then(|| span.actor.post(Events::IO)).flatten();
        if let Some(turn) = turn {
            if may_run {
                run(&span, turn);
            } else {
                hand_over(&span, turn);
            }
        }
        // The member is kept for longer: whoever frees the array waits until nobody has one, so this is not the span's end.
        drop(span);
        drop(ended);
    }
}
