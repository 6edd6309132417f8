// SPDX-License-Identifier: GPL-2.0

//! Parity: the XOR of a strip's blocks, made by one of several engines.
//!
//! An engine works on runs of [`Sector`]s, in groups of at most [`GROUP`] sources, so that no array grows with the
//! number of members. The functions here cut the work into such groups. A missing block is the XOR of all others, data
//! and parity alike, so [`generate`] recovers too.
//!
//! The blocks are the driver's own pages while no I/O is in flight on them. Pages of requests are never operands: their
//! owner may change them at any time.

// What needs the kernel; the host builds the rest for its tests.
#[cfg(MODULE)]
pub(crate) mod blocks;
#[cfg(MODULE)]
pub(crate) mod kernel;
#[cfg(MODULE)]
mod kunit;
// The kernel's tests measure the others by it.
#[cfg(any(not(MODULE), CONFIG_KUNIT = "y"))]
pub(crate) mod scalar;

/// Words of a sector.
const SECTOR_WORDS: usize = 64;

/// Sectors of a block.
pub(crate) const BLOCK_SECTORS: usize = 8;

/// The most sources that an engine is given at once.
pub(crate) const GROUP: usize = 8;

/// One sector of a block: 512 bytes, aligned as every engine needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Sector(pub(crate) [u64; SECTOR_WORDS]);

impl Sector {
    /// A sector of zeros.
    pub(crate) const ZERO: Self = Self([0; SECTOR_WORDS]);
}

/// A strip's block on one member: a page of 4 KiB.
pub(crate) type Block = [Sector; BLOCK_SECTORS];

/// A way to XOR.
///
/// No method sleeps or allocates. Some engines may only run in task context with interrupts on; each says so.
///
/// Each source has as many sectors as `dst`. If one is shorter, then which of the last sectors of `dst` the sources
/// reach is not specified; nothing else happens.
pub(crate) trait Engine: Sync {
    /// The name by which logs and settings call the engine.
    #[cfg_attr(
        MODULE,
        expect(dead_code, reason = "for tests, as long as nobody chooses")
    )]
    fn name(&self) -> &'static str;

    /// Makes `dst` the XOR of at most [`GROUP`] `sources`: zeros if there is none.
    fn set(&self, dst: &mut [Sector], sources: &[&[Sector]]);

    /// Changes `dst` by the XOR of at most [`GROUP`] `sources`.
    fn add(&self, dst: &mut [Sector], sources: &[&[Sector]]);
}

/// Makes `dst` the XOR of `sources`: zeros if there is none.
///
/// Each source has as many sectors as `dst`.
pub(crate) fn generate<'a>(
    engine: &dyn Engine,
    dst: &mut [Sector],
    sources: impl IntoIterator<Item = &'a [Sector]>,
) {
    let mut sources = sources.into_iter();
    engine.set(dst, Group::next(&mut sources).sources());
    accumulate(engine, dst, sources);
}

/// Changes `dst` by the XOR of `sources`.
///
/// Each source has as many sectors as `dst`.
pub(crate) fn accumulate<'a>(
    engine: &dyn Engine,
    dst: &mut [Sector],
    sources: impl IntoIterator<Item = &'a [Sector]>,
) {
    let mut sources = sources.into_iter();
    loop {
        let group = Group::next(&mut sources);
        if group.sources().is_empty() {
            return;
        }
        engine.add(dst, group.sources());
    }
}

/// Whether the XOR of `blocks` is zero everywhere, as that of a strip's data and parity must be.
pub(crate) fn cancels<'a, I>(engine: &dyn Engine, blocks: I) -> bool
where
    I: IntoIterator<Item = &'a Block> + Clone,
{
    (0..BLOCK_SECTORS).all(|index| {
        let mut sum = [Sector::ZERO];
        let sectors = blocks
            .clone()
            .into_iter()
            .filter_map(|block| block.get(index));
        generate(engine, &mut sum, sectors.map(core::slice::from_ref));
        sum == [Sector::ZERO]
    })
}

/// Up to [`GROUP`] sources.
struct Group<'a> {
    sources: [&'a [Sector]; GROUP],
    count: usize,
}

impl<'a> Group<'a> {
    /// The next sources; none when `sources` is at its end.
    fn next(sources: &mut impl Iterator<Item = &'a [Sector]>) -> Self {
        let mut group = Self {
            sources: [&[]; GROUP],
            count: 0,
        };
        for (slot, source) in group.sources.iter_mut().zip(sources) {
            *slot = source;
            group.count = group.count.saturating_add(1);
        }
        group
    }

    fn sources(&self) -> &[&'a [Sector]] {
        self.sources.get(..self.count).unwrap_or(&[])
    }
}
