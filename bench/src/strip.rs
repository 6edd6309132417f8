// SPDX-License-Identifier: GPL-2.0

//! The blocks of one strip, as both sides want them: runs of lines for lib/raid, pages of a kit for the module's code.

use crate::operation::Operation;
use crate::parity::strip::Holder;
use crate::parity::{Block, Line, BLOCK_LINES};
use crate::raid::roles::{Roles, Slots};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

/// A member's page, as the driver's kit holds it.
///
/// # Invariants
///
/// It may be read and written by whoever has borrowed the [`Strip`] that it belongs to.
pub(crate) struct Held(NonNull<Block>);

impl Holder for Held {
    fn block(&self) -> Option<&Block> {
        // SAFETY: By the invariant; the borrow of this is a part of that of the strip.
        Some(unsafe { self.0.as_ref() })
    }

    fn block_mut(&mut self) -> Option<&mut Block> {
        // SAFETY: By the invariant; the borrow of this is a part of that of the strip.
        Some(unsafe { self.0.as_mut() })
    }

    fn complain() {
        panic!("a block could not be had");
    }
}

/// The blocks of one strip: of its data members, slot 0 first, then P, then Q.
///
/// A strip for a delta has one data block, which stands for that of every slot: only one of them is used at a time.
pub(crate) struct Strip<'m> {
    /// Data members of the strip.
    pub(crate) data: usize,
    /// Who is what.
    pub(crate) roles: Roles,
    /// Lines of each block.
    pub(crate) lines: usize,
    /// Users' blocks for the pages, if any; for a delta one.
    users: Vec<&'m mut [Line]>,
    /// The members' first pages, then their second ones, and so on; the pages of one block lie in a row.
    held: Vec<Held>,
    delta: bool,
    _memory: PhantomData<&'m mut [Line]>,
}

impl<'m> Strip<'m> {
    /// A strip for an operation out of the next of `blocks`; nothing when they are at their end.
    pub(crate) fn take(
        op: Operation,
        data: usize,
        blocks: &mut impl Iterator<Item = &'m mut [Line]>,
    ) -> Option<Self> {
        let [pages, users, parity] = op.shape(data);
        let mut all: Vec<_> = blocks.take(pages + users + parity).collect();
        if all.len() < pages + users + parity {
            return None;
        }
        let users = all.split_off(pages + parity);
        let lines = all[0].len();
        // A delta's data block has the place of every slot.
        let members: Vec<usize> = (0..data + parity)
            .map(|member| {
                if op.is_delta() {
                    member.saturating_sub(data - 1)
                } else {
                    member
                }
            })
            .collect();
        let starts: Vec<*mut Line> = all.iter_mut().map(|block| block.as_mut_ptr()).collect();
        let held = (0..lines / BLOCK_LINES).flat_map(|piece| {
            let start = |member: &usize| {
                starts[*member]
                    .wrapping_add(piece * BLOCK_LINES)
                    .cast::<Block>()
            };
            // INVARIANT: `all` had the memory borrowed mutably for as long as the strip lives, and gives it up here.
            members
                .iter()
                .map(start)
                .map(|page| Held(NonNull::new(page).expect("memory is not at address 0")))
                .collect::<Vec<_>>()
        });
        let (p, q) = (data as u16, data as u16 + 1);
        let roles = Roles::new(
            (data + parity) as u16,
            p,
            op.has_q().then_some(q),
            Slots::AfterQ,
        );
        Some(Self {
            data,
            roles,
            lines,
            users,
            held: held.collect(),
            delta: op.is_delta(),
            _memory: PhantomData,
        })
    }

    /// Pages of a block.
    pub(crate) fn pieces(&self) -> usize {
        self.lines / BLOCK_LINES
    }

    /// One page of each member, and those of the users.
    pub(crate) fn piece<'s>(
        &'s mut self,
        piece: usize,
    ) -> (&'s mut [Held], impl Fn(usize) -> Option<&'s [Line]>) {
        let members = usize::from(self.roles.members());
        let at = piece * BLOCK_LINES;
        let users = &self.users;
        let user = move |slot: usize| users.get(slot).map(|user| &user[at..at + BLOCK_LINES]);
        (&mut self.held[piece * members..][..members], user)
    }

    /// Some lines of all blocks, as the kernel's code wants them: the members' in the order of slots, P's and Q's, then the
    /// users'.
    pub(crate) fn pointers(&mut self, lines: Range<usize>) -> Pointers<'_> {
        assert!(lines.start < lines.end && lines.end <= self.lines);
        let members = usize::from(self.roles.members());
        let blocks = self.held[..members]
            .iter()
            .map(|held| held.0.as_ptr().cast::<Line>());
        let users = self.users.iter_mut().map(|user| user.as_mut_ptr());
        let mut list = [std::ptr::null_mut(); POINTERS];
        for (place, block) in list.iter_mut().zip(blocks.chain(users)) {
            *place = block.wrapping_add(lines.start);
        }
        // INVARIANT: Each block has `lines` lines, of which these are a part, and is borrowed mutably.
        Pointers {
            list,
            members,
            count: members + self.users.len(),
            lines: lines.len(),
            _strip: PhantomData,
        }
    }

    /// All blocks: the pages', P's and perhaps Q's; and the users'.
    pub(crate) fn blocks(&mut self) -> [Vec<&mut [Line]>; 2] {
        let first = if self.delta { self.data - 1 } else { 0 };
        let members = usize::from(self.roles.members());
        let blocks = self.held[first..members].iter().map(|held| {
            // SAFETY: The block has `lines` lines from its first page on; the strip is borrowed mutably, and no block comes
            // twice here.
            unsafe { std::slice::from_raw_parts_mut(held.0.as_ptr().cast::<Line>(), self.lines) }
        });
        [
            blocks.collect(),
            self.users.iter_mut().map(|user| &mut user[..]).collect(),
        ]
    }

    /// The slot that a delta changes, or that is lost, in this turn.
    pub(crate) fn slot(&self, turn: usize) -> usize {
        turn % self.data
    }

    /// The two slots that are lost in this turn, in order.
    pub(crate) fn two_slots(&self, turn: usize) -> (usize, usize) {
        let a = turn % self.data;
        let b = (a + 1 + turn / self.data % (self.data - 1)) % self.data;
        (a.min(b), a.max(b))
    }
}

/// More pointers than any strip of the benchmark needs.
pub(crate) const POINTERS: usize = 40;

/// The most data members of a strip: two pointers for each, P and Q.
pub(crate) const MOST_DATA: usize = (POINTERS - 2) / 2;

/// Where some lines of a strip's blocks are.
///
/// # Invariants
///
/// `lines` lines from each of the first `count` pointers may be read and written for as long as `'s`. No two of these runs
/// overlap, but for those of a delta's slots, which are all the same.
pub(crate) struct Pointers<'s> {
    pub(crate) list: [*mut Line; POINTERS],
    /// Data members, P and perhaps Q.
    pub(crate) members: usize,
    pub(crate) count: usize,
    pub(crate) lines: usize,
    _strip: PhantomData<&'s mut [Line]>,
}

impl Pointers<'_> {
    /// The place of a user's block.
    pub(crate) fn user(&self, slot: usize) -> usize {
        self.members + slot
    }

    /// One of the runs of lines.
    pub(crate) fn run(&self, at: usize) -> &[Line] {
        assert!(at < self.count);
        // SAFETY: By the invariants; nothing is changed while this is borrowed.
        unsafe { std::slice::from_raw_parts(self.list[at], self.lines) }
    }
}
