// SPDX-License-Identifier: GPL-2.0

//! Copying between requests and the pages of a span.
//!
//! Whoever submitted a write may change its memory until it ends, so each byte of it is read once: what is stored to the
//! page and what goes into parity is what was read then. So whole blocks are not copied at once; it is noted where they
//! are, and the pass that makes parity copies them ([`Blocks::generate_copying`]).

use super::env::RunEnv;
use super::part::{Origin, PartList};
use super::Array;
use crate::block::request::Slice;
use crate::md::rdev::Rdev;
use crate::md::slots::{Seat, Slot};
use crate::mem::kit::Sources;
use crate::mem::pages::{Page, PAGE_SIZE};
use crate::parity::strip::{Blocks, Make};
use crate::parity::{Engine, Source};
use crate::raid::geometry::Geometry;
use crate::raid::part::{Part, PartKind};
use crate::raid::roles::Roles;
use crate::raid::strips::{Run, Strips, SPAN_STRIPS, STRIP_SECTORS};

/// What is to be made of a strip's parity when data is written.
pub(super) enum Parity<F> {
    /// It changes with the data: each block is valid before, and so is the parity that changes.
    Follow(F),
    /// It is made from all data, of which what is not written is valid before.
    Make(F),
    /// None.
    Leave,
}

/// Copies in what the active writes of `strips` change, in the order of the parts, and has parity become right: that which
/// the function names for each strip. Returns the strips for which that could not be done.
// Its own frame: what one job needs must not lie below another one's.
#[inline(never)]
pub(super) fn write(
    env: &mut RunEnv<'_>,
    strips: Strips,
    parts: &PartList,
    parity: Parity<impl Fn(u32) -> Make>,
) -> Strips {
    let array = env.array;
    let geometry = &array.geometry;
    let maker = Maker {
        engine: array.engine,
        roles: geometry.roles(geometry.stripe_of(env.sector)),
    };
    match parity {
        Parity::Follow(make) => copy_each(env, strips, parts, make, &maker),
        Parity::Leave => copy_each(env, strips, parts, |_| Make::default(), &maker),
        Parity::Make(make) => copy_and_make(env, strips, parts, make, &maker),
    }
}

/// Copies each piece at once, and has parity follow.
fn copy_each(
    env: &mut RunEnv<'_>,
    strips: Strips,
    parts: &PartList,
    make: impl Fn(u32) -> Make,
    maker: &Maker,
) -> Strips {
    let mut undone = Strips::NONE;
    let kits = &mut *env.kits;
    each_written(&env.array.geometry, env.sector, strips, parts, |new| {
        let node = kits.get_mut(new.strip as usize).and_then(Option::as_mut);
        let done = node.is_some_and(|node| {
            let pages = node.kit.pages_mut();
            maker.copy(pages, new.member, new.at, new.source, make(new.strip))
        });
        if !done {
            undone |= Strips::one(new.strip);
        }
    });
    undone
}

/// Copies in the pass that makes parity.
fn copy_and_make(
    env: &mut RunEnv<'_>,
    strips: Strips,
    parts: &PartList,
    make: impl Fn(u32) -> Make,
    maker: &Maker,
) -> Strips {
    let array = env.array;
    let mut undone = strips;
    let mut table: [Option<StripCopies<'_, '_>>; SPAN_STRIPS as usize] = [const { None }; _];
    for (copies, (index, node)) in table.iter_mut().zip((0..).zip(env.kits.iter_mut())) {
        if let Some(node) = node.as_mut().filter(|_| strips.meets(Strips::one(index))) {
            let (pages, sources) = node.kit.with_sources();
            *copies = Some(StripCopies { pages, sources });
            undone -= Strips::one(index);
        }
    }
    each_written(&array.geometry, env.sector, strips, parts, |new| {
        let Some(Some(copies)) = table.get_mut(new.strip as usize) else {
            return;
        };
        if !copies.note(new.member, new.at, new.source, maker) {
            undone |= Strips::one(new.strip);
        }
    });
    let past = !by_cpu(array);
    for (copies, strip) in table.iter_mut().zip(0..) {
        if let Some(copies) = copies {
            if !copies.generate(make(strip), past, maker) {
                undone |= Strips::one(strip);
            }
        }
    }
    undone
}

/// Whether a CPU copies what some member is given, or may look at it, as RAM disks and devices upon others do.
pub(super) fn by_cpu(array: &Array) -> bool {
    let copied = |seat: &Seat| seat.with(Rdev::is_copied) == Some(true);
    array.slots.iter().flat_map(Slot::seats).any(copied)
}

/// Copies blocks of `strips` to the active reads. Returns the strips for which that could not be done.
#[inline(never)]
pub(super) fn read(env: &RunEnv<'_>, strips: Strips, parts: &PartList) -> Strips {
    let mut undone = Strips::NONE;
    let (geometry, sector) = (&env.array.geometry, env.sector);
    each_piece(
        geometry,
        sector,
        PartKind::Read,
        strips,
        parts,
        |slice, piece| {
            let pages = env.pages(piece.run, piece.member);
            let copied = slice.copy_from_pages(piece.array_sector, piece.sectors, pages, piece.at);
            debug_assert!(
                copied,
                "a part lies within its slice, and its strips have kits"
            );
            if !copied {
                undone |= piece.run.strips();
            }
        },
    );
    undone
}

/// A strip that data is copied to.
struct StripCopies<'k, 's> {
    pages: &'k mut [Page],
    sources: Sources<'k, 's>,
}

/// What makes parity of any strip of the span.
struct Maker {
    engine: &'static dyn Engine,
    roles: Roles,
}

impl Maker {
    fn blocks<'a>(&self, pages: &'a mut [Page]) -> Blocks<'a, Page> {
        Blocks::over(pages, self.engine, self.roles)
    }

    /// Copies now, and has parity follow. Returns whether it could be done, as the others here do.
    fn copy(
        &self,
        pages: &mut [Page],
        member: u16,
        at: usize,
        source: Source<'_>,
        make: Make,
    ) -> bool {
        let mut blocks = self.blocks(pages);
        blocks.change(member, at, source, make);
        !blocks.failed()
    }
}

impl<'s> StripCopies<'_, 's> {
    /// Notes a whole block; copies less at once, behind what was to be copied before it.
    fn note(&mut self, member: u16, at: usize, source: Source<'s>, maker: &Maker) -> bool {
        if at == 0 && self.sources.set(member, source) {
            return true;
        }
        let none = Make::default();
        if let Some(before) = self.sources.take(member) {
            if !maker.copy(self.pages, member, 0, before, none) {
                return false;
            }
        }
        maker.copy(self.pages, member, at, source, none)
    }

    /// Copies what is noted, and makes parity; past the caches if no CPU reads it next.
    fn generate(&mut self, make: Make, past: bool, maker: &Maker) -> bool {
        let sources = &self.sources;
        let mut blocks = maker.blocks(self.pages).past_caches(past);
        blocks.generate_copying(make, |member| sources.get(member));
        !blocks.failed()
    }
}

/// New bytes of one block, which lie together in memory.
pub(super) struct Written<'s> {
    pub(super) member: u16,
    pub(super) strip: u32,
    /// The byte of the block that is the first to change.
    pub(super) at: usize,
    pub(super) source: Source<'s>,
}

/// Calls `f` with all that the active writes of `strips` change, in the order of the parts.
pub(super) fn each_written<'a>(
    geometry: &Geometry,
    span_sector: u64,
    strips: Strips,
    parts: &'a PartList,
    mut f: impl FnMut(Written<'a>),
) {
    let kind = PartKind::Write;
    each_piece(
        geometry,
        span_sector,
        kind,
        strips,
        parts,
        |slice, piece| {
            each_source(slice, &piece, |strip, at, source| {
                f(Written {
                    member: piece.member,
                    strip,
                    at,
                    source,
                })
            });
        },
    );
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

/// Calls `f` with each piece of the active parts of a kind in `strips`, in the order of the parts.
fn each_piece<'a>(
    geometry: &Geometry,
    span_sector: u64,
    kind: PartKind,
    strips: Strips,
    parts: &'a PartList,
    mut f: impl FnMut(&'a Slice, Piece),
) {
    parts.for_each(|part, origin| {
        let Origin::Request(slice) = origin else {
            return;
        };
        if part.kind == kind {
            let active = part.active() & (strips - part.failed());
            pieces_of(geometry, span_sector, part, active, |piece| f(slice, piece));
        }
    });
}

/// Calls `f` with each piece of a part in `strips`.
fn pieces_of(
    geometry: &Geometry,
    span_sector: u64,
    part: &Part,
    strips: Strips,
    mut f: impl FnMut(Piece),
) {
    let stripe = geometry.stripe_of(span_sector);
    for (index, sectors) in geometry.slices(span_sector, part.start, part.end) {
        let Some(column_start) = geometry.column_start(span_sector, index) else {
            continue;
        };
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

/// Calls `f` with what is written of each strip of a piece, as it lies together in memory: the strip, the byte of its block,
/// and the new bytes from there on.
fn each_source<'s>(slice: &'s Slice, piece: &Piece, mut f: impl FnMut(u32, usize, Source<'s>)) {
    let mut strip = piece.run.first;
    // CAST: a sector within a span.
    let mut at = piece.at as usize * 512;
    for mut segment in slice.segments(piece.array_sector, piece.sectors) {
        while segment.len() > 0 {
            while at >= PAGE_SIZE {
                strip = strip.wrapping_add(1);
                at = at.wrapping_sub(PAGE_SIZE);
            }
            let len = segment.len().min(PAGE_SIZE.wrapping_sub(at));
            let (Some(front), Some(rest)) = (segment.get(0..len), segment.get(len..segment.len()))
            else {
                return;
            };
            f(strip, at, front);
            segment = rest;
            at = at.wrapping_add(len);
        }
    }
}
