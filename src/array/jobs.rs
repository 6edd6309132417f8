// SPDX-License-Identifier: GPL-2.0

//! Jobs of a span, done by this CPU at once: copying between requests and pages, and parity.

use super::copies::{self, Parity};
use super::counters;
use super::env::RunEnv;
use super::part::PartList;
use crate::mem::pages::Page;
use crate::offload::backend::Backend;
use crate::parity::locate::Located;
use crate::parity::strip::{Blocks, Make};
use crate::raid::column::Column;
use crate::raid::job::{Job, Method, Outcome};
use crate::raid::roles::Roles;
use crate::raid::strips::{Strips, STRIP_BYTES};

/// This CPU, which does what it is given at once.
pub(super) struct Cpu;

impl Backend<RunEnv<'_>> for Cpu {
    fn submit(
        &self,
        env: &mut RunEnv<'_>,
        job: Job,
        strips: Strips,
        columns: &mut [Column],
        parts: &mut PartList,
    ) -> Outcome {
        env.span.counts.add(counters::Work::JobsCpu, 1);
        let (mismatch, undone) = run(env, job, strips, columns, parts);
        Outcome::Done { mismatch, undone }
    }
}

/// Does a job. Returns the strips whose parity does not match, and those for which it could not be done.
pub(super) fn run(
    env: &mut RunEnv<'_>,
    job: Job,
    strips: Strips,
    columns: &mut [Column],
    parts: &PartList,
) -> (Strips, Strips) {
    let mut mismatch = Strips::NONE;
    let undone = match job {
        Job::Write(method) => write(env, method, strips, columns, parts),
        Job::Recover => {
            // Nobody has asked for what a rebuild computes: it goes to the members, and no CPU reads it next.
            let past = parts.is_empty() && !copies::by_cpu(env.array);
            each_strip(env, strips, past, |strip, blocks| {
                recover(blocks, strip, columns)
            })
        }
        Job::Deliver => copies::read(env, strips, parts),
        Job::Check => each_strip(env, strips, false, |strip, blocks| {
            let roles = blocks.roles();
            let wrong = blocks.check(parity_of(roles, strip, columns, |c| c.uptodate));
            let parities = [(Some(roles.p()), wrong.p), (roles.q(), wrong.q)];
            for (member, _) in parities.into_iter().filter(|(_, is_wrong)| *is_wrong) {
                let column = member.and_then(|member| columns.get_mut(usize::from(member)));
                if let Some(column) = column {
                    column.rebuild |= strip;
                    mismatch |= strip;
                }
            }
            true
        }),
        Job::Parity => each_strip(env, strips, false, |strip, blocks| {
            blocks.generate(parity_of(blocks.roles(), strip, columns, |c| c.rebuild));
            true
        }),
        Job::Locate => each_strip(env, strips, false, |strip, blocks| {
            if let Located::Member(member) = blocks.locate() {
                if let Some(column) = columns.get_mut(usize::from(member)) {
                    blocks.mend(member);
                    column.rebuild |= strip;
                }
            }
            true
        }),
    };
    (mismatch, undone)
}

/// Copies in what the active writes of `strips` change, and makes parity.
#[inline(never)]
fn write(
    env: &mut RunEnv<'_>,
    method: Method,
    strips: Strips,
    columns: &[Column],
    parts: &PartList,
) -> Strips {
    let roles = roles(env);
    let make = |strip| parity_of(roles, Strips::one(strip), columns, |column| column.rebuild);
    let parity = match method {
        Method::Rmw => Parity::Follow(make),
        Method::Rcw => Parity::Make(make),
        Method::NoParity => Parity::Leave,
    };
    copies::write(env, strips, parts, parity)
}

/// Computes the marked blocks of a strip: as many as there are parities at most. Returns whether they are no more.
fn recover(blocks: &mut Blocks<'_, Page>, strip: Strips, columns: &[Column]) -> bool {
    let mut lost = [0; 2];
    let mut count = 0_usize;
    let marked = (0..).zip(columns);
    for (member, _) in marked.filter(|(_, column)| column.rebuild.meets(strip)) {
        if let Some(place) = lost.get_mut(count) {
            *place = member;
        }
        count = count.saturating_add(1);
    }
    let roles = blocks.roles();
    // Not in memory, and not to be.
    let is_absent = |member: &u16| {
        let column = columns.get(usize::from(*member));
        column.is_none_or(|column| !(column.uptodate | column.rebuild).meets(strip))
    };
    let absent = Some(roles.p()).into_iter().chain(roles.q()).find(is_absent);
    let Some(lost) = lost.get(..count) else {
        return false;
    };
    blocks.recover(lost, absent);
    true
}

/// The parity blocks of a strip whose columns say so.
fn parity_of(
    roles: Roles,
    strip: Strips,
    columns: &[Column],
    says: impl Fn(&Column) -> Strips,
) -> Make {
    let is_so = |member: u16| {
        let column = columns.get(usize::from(member));
        column.is_some_and(|column| says(column).meets(strip))
    };
    Make {
        p: is_so(roles.p()),
        q: roles.q().is_some_and(is_so),
    }
}

/// What the members hold in the span.
pub(super) fn roles(env: &RunEnv<'_>) -> Roles {
    let geometry = &env.array.geometry;
    geometry.roles(geometry.stripe_of(env.sector))
}

/// Calls `work` with each strip that has a kit, and its blocks: these are stored past the caches if that is wanted. Returns the
/// strips that have none, for which `work` returned false, or with whose blocks it failed.
// Its own frame: what one job needs must not lie below another one's.
#[inline(never)]
fn each_strip(
    env: &mut RunEnv<'_>,
    strips: Strips,
    past: bool,
    mut work: impl FnMut(Strips, &mut Blocks<'_, Page>) -> bool,
) -> Strips {
    let roles = roles(env);
    let engine = env.array.engine;
    let mut undone = strips;
    for (strip, node) in (0..).zip(env.kits.iter_mut()) {
        let strip = strips & Strips::one(strip);
        if let Some(node) = node.as_mut().filter(|_| !strip.is_empty()) {
            let mut blocks = Blocks::over(node.kit.pages_mut(), engine, roles).past_caches(past);
            if work(strip, &mut blocks) && !blocks.failed() {
                undone -= strip;
            }
        }
    }
    undone
}

const _: () = assert!(STRIP_BYTES == crate::mem::pages::PAGE_SIZE);
