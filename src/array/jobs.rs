// SPDX-License-Identifier: GPL-2.0

//! Jobs of a span, done by this CPU at once: copying between requests and pages, and parity.

use super::env::RunEnv;
use super::part::{Origin, PartList};
use crate::parity::blocks::Blocks;
use crate::raid::column::Column;
use crate::raid::geometry::Geometry;
use crate::raid::job::{Job, Method, Outcome};
use crate::raid::part::{Part, PartKind};
use crate::raid::strips::{Run, Strips, STRIP_BYTES, STRIP_SECTORS};

/// Runs a job on strips that have no member I/O in flight. Task context with interrupts on; does not sleep.
pub(super) fn run(
    env: &mut RunEnv<'_>,
    job: Job,
    strips: Strips,
    columns: &[Column],
    parts: &PartList,
) -> Outcome {
    let mut mismatch = Strips::NONE;
    match job {
        Job::Write(method) => write(env, method, strips, columns, parts),
        Job::Recover => recover(env, strips, columns),
        Job::Deliver => copy(env, PartKind::Read, strips, parts),
        Job::Check => {
            for strip in strips.iter() {
                let matches = with_blocks(env, strip, |blocks| blocks.match_parity());
                if matches != Some(true) {
                    mismatch |= Strips::one(strip);
                }
            }
        }
        Job::Parity => make_parity(env, strips),
        // Only where there are two parities.
        Job::Locate => {}
    }
    Outcome::Done { mismatch }
}

/// Copies in what the active writes of `strips` change, and makes parity.
fn write(
    env: &mut RunEnv<'_>,
    method: Method,
    strips: Strips,
    columns: &[Column],
    parts: &PartList,
) {
    match method {
        // Parity changes by the old blocks and the new ones of what is written.
        Method::Rmw => {
            add_dirty(env, strips, columns);
            copy(env, PartKind::Write, strips, parts);
            add_dirty(env, strips, columns);
        }
        Method::Rcw => {
            copy(env, PartKind::Write, strips, parts);
            make_parity(env, strips);
        }
        Method::NoParity => copy(env, PartKind::Write, strips, parts),
    }
}

/// Adds the blocks that are written to parity.
fn add_dirty(env: &mut RunEnv<'_>, strips: Strips, columns: &[Column]) {
    let parity = parity_member(env);
    for strip in strips.iter() {
        let is_dirty = |member: u16| {
            let column = columns.get(usize::from(member));
            column.is_some_and(|column| column.dirty.meets(Strips::one(strip)))
        };
        with_blocks(env, strip, |blocks| blocks.accumulate(parity, is_dirty));
    }
}

/// Makes parity from the data in memory.
fn make_parity(env: &mut RunEnv<'_>, strips: Strips) {
    let parity = parity_member(env);
    for strip in strips.iter() {
        with_blocks(env, strip, |blocks| blocks.generate(parity, |_| true));
    }
}

/// Computes the marked block of each strip from its other blocks.
fn recover(env: &mut RunEnv<'_>, strips: Strips, columns: &[Column]) {
    for (column, lost) in columns.iter().zip(0..) {
        for strip in (column.rebuild & strips).iter() {
            with_blocks(env, strip, |blocks| blocks.generate(lost, |_| true));
        }
    }
}

/// Copies between the pages of `strips` and the active parts of a kind: into the pages for writes, out of them for reads.
fn copy(env: &mut RunEnv<'_>, kind: PartKind, strips: Strips, parts: &PartList) {
    let (array, sector) = (env.array, env.sector);
    parts.for_each(|part, origin| {
        let Origin::Request(slice) = origin else {
            return;
        };
        if part.kind != kind {
            return;
        }
        let active = part.active() & (strips - part.failed());
        each_piece(&array.geometry, sector, part, active, |piece| {
            let (sector, sectors, at) = (piece.array_sector, piece.sectors, piece.at);
            let copied = if kind == PartKind::Write {
                let pages = env.pages_mut(piece.run, piece.member);
                slice.copy_to_pages(sector, sectors, pages, at)
            } else {
                let pages = env.pages(piece.run, piece.member);
                slice.copy_from_pages(sector, sectors, pages, at)
            };
            debug_assert!(
                copied,
                "a part lies within its slice, and its strips have kits"
            );
        });
    });
}

/// Neighbouring sectors of a part on one member.
struct Piece {
    member: u16,
    /// The strips that they are in.
    run: Run,
    /// The first sector in the array.
    array_sector: u64,
    /// The first sector, counted from the start of the run.
    at: u32,
    sectors: u32,
}

/// Calls `f` with each piece of a part in `strips`.
fn each_piece(
    geometry: &Geometry,
    span_sector: u64,
    part: &Part,
    strips: Strips,
    mut f: impl FnMut(Piece),
) {
    let stripe = geometry.stripe_of(span_sector);
    for index in 0..geometry.data_disks() {
        let sectors = geometry.slice(span_sector, part.start, part.end, index);
        let Some(column_start) = geometry.column_start(span_sector, index) else {
            continue;
        };
        if sectors.is_empty() {
            continue;
        }
        let member = geometry.member_of(stripe, index);
        let first = sectors.start / STRIP_SECTORS;
        let behind = sectors.end.div_ceil(STRIP_SECTORS);
        let touched = Strips::range(first, behind.saturating_sub(first));
        for run in (strips & touched).runs() {
            let run_start = run.first.wrapping_mul(STRIP_SECTORS);
            let run_end = run_start.wrapping_add(run.count.wrapping_mul(STRIP_SECTORS));
            let start = sectors.start.max(run_start);
            let end = sectors.end.min(run_end);
            f(Piece {
                member,
                run,
                array_sector: column_start.wrapping_add(u64::from(start)),
                at: start.wrapping_sub(run_start),
                sectors: end.saturating_sub(start),
            });
        }
    }
}

/// The member that holds the span's parity.
fn parity_member(env: &RunEnv<'_>) -> u16 {
    let geometry = &env.array.geometry;
    geometry.parity_member(geometry.stripe_of(env.sector))
}

/// Calls `work` with the blocks of one strip, if it has a kit.
fn with_blocks<R>(
    env: &mut RunEnv<'_>,
    strip: u32,
    work: impl FnOnce(&mut Blocks<'_>) -> R,
) -> Option<R> {
    let engine = env.array.engine;
    let node = env.kits.get_mut(strip as usize)?.as_mut()?;
    Some(work(&mut Blocks::new(&mut node.kit, engine)))
}

const _: () = assert!(STRIP_BYTES == crate::mem::pages::PAGE_SIZE);
