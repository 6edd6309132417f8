// SPDX-License-Identifier: GPL-2.0

//! Where an array's data and parity lie on its members.
//!
//! The array's sectors are dealt out chunk by chunk: the `data_disks` chunks of a *stripe* lie in one row across the
//! members, beside the stripe's parity, and the next stripe follows in the next row. Two things tell one layout from
//! another: on which member a stripe's parity lies, and in which order its data chunks take the other members. Both
//! repeat after as many stripes as there are members.
//!
//! A stripe's row is cut into *spans*: on each member up to sixteen neighbouring strips. A span is named by the
//! sector at which it begins on its members. The *column* of a data block is the chunk of the stripe that it belongs
//! to, counted in array order from 0.
//!
//! All units are sectors of 512 bytes unless a name says otherwise. Every method answers for every argument: nothing
//! here panics or overflows, whatever a superblock or a request holds.

use core::fmt;
use core::num::{NonZeroU16, NonZeroU64};
use core::ops::{Range, RangeInclusive};

use super::layout::{DataOrder, Layout, ParityPlace, QPlace};
use super::roles::Roles;
use super::strips::{Strips, SPAN_STRIPS, STRIP_SECTORS};

/// The most members of an array; parity engines and the kernel's `async_tx` count them in a byte.
pub(crate) const MAX_MEMBERS: u32 = 255;

/// The smallest chunk, in sectors: one strip.
pub(crate) const MIN_CHUNK_SECTORS: u32 = STRIP_SECTORS;

/// The largest chunk, in sectors: 2 GiB, the largest power of two whose bytes fit in 32 bits, as queue limits do.
pub(crate) const MAX_CHUNK_SECTORS: u32 = 1 << 22;

/// The RAID level of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Parity on the last member, whatever the layout number says.
    Raid4,
    /// Parity where the layout says.
    Raid5,
    /// P and Q where the layout says.
    Raid6,
}

impl Level {
    /// The level that md core knows by `number`, if it is one of ours.
    pub(crate) const fn from_number(number: i32) -> Option<Self> {
        match number {
            4 => Some(Self::Raid4),
            5 => Some(Self::Raid5),
            6 => Some(Self::Raid6),
            _ => None,
        }
    }

    /// The number by which md core and superblocks know this level.
    pub(crate) const fn number(self) -> i32 {
        match self {
            Self::Raid4 => 4,
            Self::Raid5 => 5,
            Self::Raid6 => 6,
        }
    }
}

/// Why there is no geometry for some parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidGeometry {
    /// The level has no layout of this number.
    Layout(Level, i32),
    /// Too few or too many members for the level.
    Members(Level, u32),
    /// The chunk, in sectors, is not a power of two from [`MIN_CHUNK_SECTORS`] to [`MAX_CHUNK_SECTORS`].
    Chunk(u32),
}

impl fmt::Display for InvalidGeometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Layout(level, layout) => {
                write!(
                    f,
                    "layout {layout} is not known for level {}",
                    level.number()
                )
            }
            Self::Members(level, members) if members < min_members(level) => write!(
                f,
                "not enough configured devices ({members}, minimum {})",
                min_members(level)
            ),
            Self::Members(level, members) => write!(
                f,
                "{members} members are too many for level {}: at most {MAX_MEMBERS}",
                level.number()
            ),
            Self::Chunk(sectors) => write!(
                f,
                "a chunk of {sectors} sectors is not a power of two from {MIN_CHUNK_SECTORS} to \
                 {MAX_CHUNK_SECTORS}"
            ),
        }
    }
}

/// What a member holds in one stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The data of this column.
    Data(u16),
    /// The XOR of the stripe's data.
    P,
    /// The second parity of level 6.
    Q,
}

/// Where one sector of the array lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Number of the stripe, from 0.
    pub(crate) stripe: u64,
    /// Column of the sector within the stripe.
    pub(crate) index: u16,
    /// The member that holds it.
    pub(crate) member: u16,
    /// The sector on that member, counted from the start of the member's data.
    pub(crate) member_sector: u64,
}

/// The geometry of an array, or of one generation of it while it is reshaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    level: Level,
    members: NonZeroU16,
    /// Members that hold data in a stripe, as a divisor of chunk numbers.
    data: NonZeroU64,
    /// Members that P goes round on, as a divisor of stripe numbers.
    rotation: NonZeroU64,
    /// Log2 of the chunk's sectors.
    chunk_shift: u32,
    /// Log2 of a span's sectors on a member.
    span_shift: u32,
    layout: Layout,
}

/// The fewest members of a level.
const fn min_members(level: Level) -> u32 {
    match level {
        Level::Raid4 | Level::Raid5 => 2,
        Level::Raid6 => 4,
    }
}

/// How many members hold parity.
const fn parity_disks(level: Level) -> u16 {
    match level {
        Level::Raid4 | Level::Raid5 => 1,
        Level::Raid6 => 2,
    }
}

impl Geometry {
    /// The geometry of an array of `members` members with chunks of `chunk_sectors` sectors.
    ///
    /// `layout` is md's number: 0 to 3 for left and right asymmetric, left and right symmetric, 4 and 5 for parity
    /// first and last; for level 6 also 8 to 10, the layouts of DDF, and 16 to 20, those of level 5 beside a Q that stays
    /// on the last member. Level 4 has parity last and ignores the number.
    ///
    /// # Errors
    ///
    /// [`InvalidGeometry`] says which parameter is not supported.
    pub(crate) fn new(
        level: Level,
        layout: i32,
        members: u32,
        chunk_sectors: u32,
    ) -> Result<Self, InvalidGeometry> {
        let bad_members = InvalidGeometry::Members(level, members);
        if members < min_members(level) || members > MAX_MEMBERS {
            return Err(bad_members);
        }
        if !chunk_sectors.is_power_of_two()
            || !(MIN_CHUNK_SECTORS..=MAX_CHUNK_SECTORS).contains(&chunk_sectors)
        {
            return Err(InvalidGeometry::Chunk(chunk_sectors));
        }
        let count = u16::try_from(members)
            .ok()
            .and_then(NonZeroU16::new)
            .ok_or(bad_members)?;
        let data = u64::from(count.get().saturating_sub(parity_disks(level)));
        let data = NonZeroU64::new(data).ok_or(bad_members)?;
        let layout = Layout::new(level, layout, count.get())
            .ok_or(InvalidGeometry::Layout(level, layout))?;
        let rotation = match layout.q {
            QPlace::Last => data.checked_add(1).ok_or(bad_members)?,
            _ => NonZeroU64::from(count),
        };
        let span = chunk_sectors.min(SPAN_STRIPS * STRIP_SECTORS);
        Ok(Self {
            level,
            members: count,
            data,
            rotation,
            chunk_shift: chunk_sectors.trailing_zeros(),
            span_shift: span.trailing_zeros(),
            layout,
        })
    }

    /// The RAID level.
    #[cfg_attr(
        MODULE,
        expect(dead_code, reason = "the way back from members, for tests")
    )]
    pub(crate) const fn level(&self) -> Level {
        self.level
    }

    /// Number of members, missing ones included.
    pub(crate) const fn members(&self) -> u16 {
        self.members.get()
    }

    /// Number of members that hold parity in a stripe, and so the number that may be lost.
    pub(crate) const fn parity_disks(&self) -> u16 {
        parity_disks(self.level)
    }

    /// Number of members that hold data in a stripe.
    pub(crate) const fn data_disks(&self) -> u16 {
        self.members.get().saturating_sub(self.parity_disks())
    }

    /// Sectors of a chunk, on one member.
    pub(crate) const fn chunk_sectors(&self) -> u32 {
        1u32.wrapping_shl(self.chunk_shift)
    }

    /// Array sectors of a stripe: a chunk of each data member. Fits in 32 bits.
    pub(crate) const fn stripe_sectors(&self) -> u64 {
        self.first_of_chunk(self.data.get())
    }

    /// Sectors of a span, on one member: 64 KiB or a chunk, whichever is less.
    pub(crate) const fn span_sectors(&self) -> u32 {
        1u32.wrapping_shl(self.span_shift)
    }

    /// Number of strips of a span, from 1 to 16.
    pub(crate) const fn span_strips(&self) -> u32 {
        self.span_sectors() / STRIP_SECTORS
    }

    /// Every strip of a span, as a set.
    pub(crate) const fn all_strips(&self) -> Strips {
        Strips::first_n(self.span_strips())
    }

    /// Size of the array, in sectors, whose members hold `dev_sectors` of data each: a last part of a chunk is not
    /// used. `None` if it exceeds 64 bits.
    pub(crate) fn array_sectors(&self, dev_sectors: u64) -> Option<u64> {
        self.chunk_start(dev_sectors).checked_mul(self.data.get())
    }

    /// The member that holds P in `stripe`.
    pub(crate) fn parity_member(&self, stripe: u64) -> u16 {
        // CAST: the remainder is less than the number of members, a u16.
        let turn = (stripe % self.rotation) as u16;
        match self.layout.parity {
            ParityPlace::Fixed(member) => member,
            ParityPlace::Down(start) if start >= turn => start.saturating_sub(turn),
            ParityPlace::Down(start) => start.saturating_add(self.round()).saturating_sub(turn),
            ParityPlace::Up => turn,
        }
    }

    /// The member that holds Q in `stripe`; `None` below level 6.
    pub(crate) fn q_member(&self, stripe: u64) -> Option<u16> {
        let p = self.parity_member(stripe);
        match self.layout.q {
            QPlace::None => None,
            QPlace::AfterP if p >= self.last_member() => Some(0),
            QPlace::AfterP => Some(p.saturating_add(1)),
            QPlace::BeforeP if p == 0 => Some(self.last_member()),
            QPlace::BeforeP => Some(p.saturating_sub(1)),
            QPlace::Last => Some(self.last_member()),
        }
    }

    /// What the members of `stripe` are to parity.
    pub(crate) fn roles(&self, stripe: u64) -> Roles {
        Roles::new(
            self.members(),
            self.parity_member(stripe),
            self.q_member(stripe),
            self.layout.slots,
        )
    }

    /// The member that holds column `index` of `stripe`. An index past the last column is taken for the last.
    pub(crate) fn member_of(&self, stripe: u64, index: u16) -> u16 {
        let index = index.min(self.data_disks().saturating_sub(1));
        let p = self.parity_member(stripe);
        match self.layout.order {
            DataOrder::FromFirst => {
                let q = self.q_member(stripe).unwrap_or(p);
                let passes = |member: u16, parity: u16| u16::from(member >= parity);
                let member = index.saturating_add(passes(index, p.min(q)));
                if p == q {
                    member
                } else {
                    member.saturating_add(passes(member, p.max(q)))
                }
            }
            DataOrder::FromParity => {
                let member = p.saturating_add(self.behind_p()).saturating_add(index);
                if member < self.round() {
                    member
                } else {
                    member.saturating_sub(self.round())
                }
            }
        }
    }

    /// What `member` holds in `stripe`. A member past the last is taken for the last.
    pub(crate) fn role(&self, stripe: u64, member: u16) -> Role {
        let member = member.min(self.last_member());
        let p = self.parity_member(stripe);
        let q = self.q_member(stripe);
        if member == p {
            return Role::P;
        }
        if Some(member) == q {
            return Role::Q;
        }
        Role::Data(match self.layout.order {
            DataOrder::FromFirst => {
                let above = |parity: u16| u16::from(member > parity);
                member
                    .saturating_sub(above(p))
                    .saturating_sub(q.map_or(0, above))
            }
            DataOrder::FromParity => {
                // Members from P up to this one, going round.
                let steps = if member > p {
                    member.saturating_sub(p)
                } else {
                    member.saturating_add(self.round()).saturating_sub(p)
                };
                steps.saturating_sub(self.behind_p())
            }
        })
    }

    /// Where `array_sector` lies. Answers for sectors past the array's end too.
    pub(crate) fn locate(&self, array_sector: u64) -> Location {
        let chunk = self.chunk_number(array_sector);
        let stripe = chunk / self.data;
        // CAST: the remainder is less than the number of data members, a u16.
        let index = (chunk % self.data) as u16;
        Location {
            stripe,
            index,
            member: self.member_of(stripe, index),
            // The stripe's number is at most the chunk's, so nothing is shifted out.
            member_sector: self.first_of_chunk(stripe) | self.within_chunk(array_sector),
        }
    }

    /// The array's sector that lies at `member_sector` of `member`: the inverse of [`Self::locate`].
    ///
    /// `None` if the member holds parity there, if there is no such member, or if the sector exceeds 64 bits.
    pub(crate) fn array_sector(&self, member: u16, member_sector: u64) -> Option<u64> {
        if member > self.last_member() {
            return None;
        }
        match self.role(self.stripe_of(member_sector), member) {
            Role::Data(index) => self.column_start(member_sector, index),
            Role::P | Role::Q => None,
        }
    }

    /// The array's sector at `member_sector` of the member that holds column `index` there.
    ///
    /// `None` if it exceeds 64 bits. An index past the last column is taken for the last.
    pub(crate) fn column_start(&self, member_sector: u64, index: u16) -> Option<u64> {
        let index = index.min(self.data_disks().saturating_sub(1));
        let chunk = self
            .stripe_of(member_sector)
            .checked_mul(self.data.get())?
            .checked_add(u64::from(index))?;
        if chunk > self.chunk_number(u64::MAX) {
            return None;
        }
        Some(self.first_of_chunk(chunk) | self.within_chunk(member_sector))
    }

    /// The stripe whose row holds `member_sector`.
    pub(crate) const fn stripe_of(&self, member_sector: u64) -> u64 {
        self.chunk_number(member_sector)
    }

    /// The stripe that holds `array_sector`.
    pub(crate) fn stripe_of_array(&self, array_sector: u64) -> u64 {
        self.chunk_number(array_sector) / self.data
    }

    /// The first array sector of `stripe`; `None` if it exceeds 64 bits.
    pub(crate) fn stripe_start(&self, stripe: u64) -> Option<u64> {
        stripe.checked_mul(self.stripe_sectors())
    }

    /// The end of the stripe that holds `array_sector`: the first array sector of the next one, or `u64::MAX` if that
    /// exceeds 64 bits. Requests are cut here, so that each piece lies in one stripe.
    pub(crate) fn stripe_end(&self, array_sector: u64) -> u64 {
        self.stripe_of_array(array_sector)
            .checked_add(1)
            .and_then(|next| self.stripe_start(next))
            .unwrap_or(u64::MAX)
    }

    /// The end of the chunk that holds `array_sector`: up to here the array's sectors are neighbours on one member.
    /// `u64::MAX` if it exceeds 64 bits.
    pub(crate) const fn chunk_end(&self, array_sector: u64) -> u64 {
        let start = self.chunk_start(array_sector);
        match start.checked_add(self.first_of_chunk(1)) {
            Some(end) => end,
            None => u64::MAX,
        }
    }

    /// The span that holds `member_sector`: the sector at which it begins on its members.
    pub(crate) const fn span_of(&self, member_sector: u64) -> u64 {
        member_sector & u64::MAX.wrapping_shl(self.span_shift)
    }

    /// Which sectors of column `index` of the span at `span_sector` the array range `start..end` covers, counted from
    /// the start of the span; `0..0` if none.
    pub(crate) fn slice(&self, span_sector: u64, start: u64, end: u64, index: u16) -> Range<u32> {
        let Some(first) = self.column_start(self.span_of(span_sector), index) else {
            return 0..0;
        };
        let from = self.clamp_to_span(start.saturating_sub(first));
        let to = self.clamp_to_span(end.saturating_sub(first));
        if from < to {
            from..to
        } else {
            0..0
        }
    }

    /// The columns of the span at `span_sector` that the array range `start..end` covers sectors of, and these: see
    /// [`Self::slice`].
    pub(crate) fn slices(
        &self,
        span_sector: u64,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = (u16, Range<u32>)> + '_ {
        // Most ranges are small: the others need not be looked at.
        let columns = self.columns(self.stripe_of(span_sector), start, end);
        let (first, behind) = columns.map_or((0, 0), |columns| {
            (*columns.start(), columns.end().saturating_add(1))
        });
        (first..behind)
            .map(move |index| (index, self.slice(span_sector, start, end, index)))
            .filter(|(_, sectors)| !sectors.is_empty())
    }

    /// The strips of the span at `span_sector` of which the array range `start..end` covers at least one sector, in
    /// any column.
    pub(crate) fn touched(&self, span_sector: u64, start: u64, end: u64) -> Strips {
        let stripe = self.stripe_of(span_sector);
        let Some(columns) = self.columns(stripe, start, end) else {
            return Strips::NONE;
        };
        // Every column between the first and the last is covered whole.
        if columns.end().saturating_sub(*columns.start()) > 1 {
            return self.all_strips();
        }
        columns.fold(Strips::NONE, |strips, index| {
            strips | strips_of(self.slice(span_sector, start, end, index))
        })
    }

    /// The spans that the array range `start..end` touches, lowest first.
    ///
    /// The range is taken to lie in one stripe, the one that holds `start`; what lies beyond it is left out.
    #[cfg_attr(MODULE, expect(dead_code, reason = "the simulator goes row by row"))]
    pub(crate) fn spans(&self, start: u64, end: u64) -> Spans {
        let stripe = self.stripe_of_array(start);
        let Some(columns) = self.columns(stripe, start, end) else {
            return Spans::default();
        };
        let last = end.min(self.stripe_end(start)).saturating_sub(1);
        let from = self.span_in_chunk(start);
        let to = self.span_in_chunk(last);
        let past = self.chunk_sectors().wrapping_shr(self.span_shift);
        let (low, high) = match columns.end().saturating_sub(*columns.start()) {
            0 => (from..to.saturating_add(1), 0..0),
            // The end of one column and the start of the next: two pieces of the row, or all of it if they meet.
            1 if to < from => (0..to.saturating_add(1), from..past),
            _ => (0..past, 0..0),
        };
        Spans {
            row: self.first_of_chunk(stripe),
            span_shift: self.span_shift,
            low,
            high,
        }
    }

    /// The member sectors that a write-intent bitmap must mark for `sectors` array sectors from `offset` on: the whole
    /// rows of the stripes that the range touches.
    ///
    /// An end past 64 bits is cut to the last row that fits.
    pub(crate) fn bitmap_range(&self, offset: u64, sectors: u64) -> Range<u64> {
        let first = self.stripe_of_array(offset);
        if sectors == 0 {
            let at = self.first_of_chunk(first);
            return at..at;
        }
        let last = self.stripe_of_array(offset.saturating_add(sectors.saturating_sub(1)));
        let end = last.saturating_add(1).min(self.chunk_number(u64::MAX));
        self.first_of_chunk(first)..self.first_of_chunk(end)
    }

    /// Index of the last member.
    const fn last_member(&self) -> u16 {
        self.members.get().saturating_sub(1)
    }

    /// Number of members that P, and data from P on, go round on.
    const fn round(&self) -> u16 {
        match self.layout.q {
            QPlace::Last => self.last_member(),
            _ => self.members.get(),
        }
    }

    /// How far the first data member lies behind P where data begins there.
    const fn behind_p(&self) -> u16 {
        match self.layout.q {
            QPlace::AfterP => 2,
            _ => 1,
        }
    }

    /// Number of the chunk that holds `sector`: on a member that of the stripe, in the array that of the chunk.
    const fn chunk_number(&self, sector: u64) -> u64 {
        // The shift is less than 64, so it wraps nothing.
        sector.wrapping_shr(self.chunk_shift)
    }

    /// The first sector of chunk `number`, on a member or in the array; the number is one of [`Self::chunk_number`], so
    /// that nothing is shifted out.
    const fn first_of_chunk(&self, number: u64) -> u64 {
        number.wrapping_shl(self.chunk_shift)
    }

    /// `sector` without its part within the chunk.
    const fn chunk_start(&self, sector: u64) -> u64 {
        sector & u64::MAX.wrapping_shl(self.chunk_shift)
    }

    /// The part of `sector`, on a member or in the array, within its chunk.
    const fn within_chunk(&self, sector: u64) -> u64 {
        sector & !u64::MAX.wrapping_shl(self.chunk_shift)
    }

    /// Index of the span that holds `sector`, on a member or in the array, within its chunk.
    const fn span_in_chunk(&self, sector: u64) -> u32 {
        // CAST: a chunk has at most MAX_CHUNK_SECTORS, which fit in 32 bits.
        (self.within_chunk(sector) as u32).wrapping_shr(self.span_shift)
    }

    /// `sectors`, or a span's sectors if that is less.
    fn clamp_to_span(&self, sectors: u64) -> u32 {
        u32::try_from(sectors).map_or(self.span_sectors(), |sectors| {
            sectors.min(self.span_sectors())
        })
    }

    /// The columns of `stripe` that the array range `start..end` touches; `None` if it touches none.
    fn columns(&self, stripe: u64, start: u64, end: u64) -> Option<RangeInclusive<u16>> {
        let stripe_start = self.stripe_start(stripe)?;
        let from = start.saturating_sub(stripe_start);
        let last = end
            .saturating_sub(stripe_start)
            .min(self.stripe_sectors())
            .checked_sub(1)?;
        if from > last {
            return None;
        }
        // CAST: `from` and `last` lie in one stripe, so both are less than the number of data members, a u16.
        let first_column = self.chunk_number(from) as u16;
        let last_column = self.chunk_number(last) as u16;
        Some(first_column..=last_column)
    }
}

/// The strips that hold sectors `range` of a block column of a span.
fn strips_of(range: Range<u32>) -> Strips {
    let first = range.start / STRIP_SECTORS;
    let end = range.end.div_ceil(STRIP_SECTORS);
    Strips::range(first, end.saturating_sub(first))
}

/// The spans that a range of the array touches: see [`Geometry::spans`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    /// First member sector of the stripe's row.
    row: u64,
    /// Log2 of a span's sectors.
    span_shift: u32,
    /// Spans of the row, by index, that come first.
    low: Range<u32>,
    /// Spans of the row that come after them.
    high: Range<u32>,
}

impl Iterator for Spans {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let span = self.low.next().or_else(|| self.high.next())?;
        // A row never ends past 64 bits, so neither does an offset in it.
        Some(self.row | u64::from(span).wrapping_shl(self.span_shift))
    }
}
