// SPDX-License-Identifier: GPL-2.0

//! Lists of spans by index, without a lock.
//!
//! Spans live in a slab for as long as the array does, so a list of them needs no pointers: each span has a [`Link`] for
//! each list that it can be on, and the link holds the index of the next. Any context may push; whoever takes, takes
//! everything at once.

use crate::sync::atomic::{AtomicU32, Ordering};

/// The end of a list.
pub(crate) const END: u32 = u32::MAX;

/// In a link: the span is on no list of that kind.
const UNLISTED: u32 = u32::MAX - 1;

/// A span's place on lists of one kind: it is on at most one of them at a time.
#[derive(Debug)]
pub(crate) struct Link(AtomicU32);

impl Link {
    /// A link of a span that is on no list.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(UNLISTED))
    }

    /// Whether the span is on a list; by the time the caller looks at the answer it may be out of date.
    pub(crate) fn is_listed(&self) -> bool {
        self.0.load(Ordering::Relaxed) != UNLISTED
    }
}

/// What [`IndexStack::push`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The span was on a list already and will be met there.
    Already,
    /// The list was empty: whoever takes from it has to be woken.
    First,
    /// The list was not empty: whoever takes from it has been woken.
    More,
}

/// A list of spans. Spans are pushed one by one and taken all at once, in the order in which they were pushed.
#[derive(Debug)]
pub(crate) struct IndexStack {
    head: AtomicU32,
}

impl IndexStack {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicU32::new(END),
        }
    }

    /// Whether nothing is on the list; by the time the caller looks at the answer it may be out of date.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Acquire) == END
    }

    /// Puts the span `index`, whose link is `link`, on the list.
    pub(crate) fn push(&self, index: u32, link: &Link) -> Pushed {
        if link
            .0
            .compare_exchange(UNLISTED, END, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return Pushed::Already;
        }
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.0.store(head, Ordering::Relaxed);
            // Release: whoever takes the span sees its link, and what the pusher did before. SeqCst as well: who pushes
            // a span looks afterwards whether what it waits for has come, and who brings that looks at the list.
            match self
                .head
                .compare_exchange_weak(head, index, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(END) => return Pushed::First,
                Ok(_) => return Pushed::More,
                Err(other) => head = other,
            }
        }
    }

    /// Takes the whole list. `link` tells the link of a span; the iterator ends early if it knows none.
    ///
    /// A span is off the list, and may be pushed again, when the iterator returns it.
    pub(crate) fn take_all<'a, F>(&self, link: F) -> Taken<F>
    where
        F: Fn(u32) -> Option<&'a Link>,
    {
        let mut newest = self.head.swap(END, Ordering::SeqCst);
        let mut oldest = END;
        while newest != END {
            let Some(node) = link(newest) else {
                break;
            };
            let next = node.0.swap(oldest, Ordering::Relaxed);
            oldest = newest;
            newest = next;
        }
        Taken { head: oldest, link }
    }
}

/// What was taken from a list, in the order in which it was pushed.
pub(crate) struct Taken<F> {
    head: u32,
    link: F,
}

impl<'a, F> Iterator for Taken<F>
where
    F: Fn(u32) -> Option<&'a Link>,
{
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let index = self.head;
        if index == END {
            return None;
        }
        self.head = match (self.link)(index) {
            // AcqRel: who pushes the span again finds it off this list, and continues what happened here.
            Some(link) => link.0.swap(UNLISTED, Ordering::AcqRel),
            None => END,
        };
        Some(index)
    }
}
