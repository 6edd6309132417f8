// SPDX-License-Identifier: GPL-2.0

//! The deferred list: who waits for a kit, first come first served, and who may take one although others wait.
//!
//! A kit that comes free wakes the first of the list and nobody else; who was woken and does not need all that is there wakes
//! the next. So there are as many wake-ups as waits, in the same order, however many wait. Nobody is overtaken: from the
//! moment that somebody waits until he has looked again, only who was woken may take a kit, and no more are woken at a time than
//! there are kits. Who finds that so many have been woken already leaves the rest to them: each looks once more afterwards.
//!
//! Nothing is allocated to wait: each span has its [`Place`].

use super::queue::{Pushed, END};
use crate::sync::atomic::{fence, AtomicU32, Ordering};
use core::ops::DerefMut;

/// In a place: the span is not in the list.
const AWAY: u32 = END - 1;

/// In a place: the span was taken out of the list to get a kit, and its runner has not seen that yet.
const GRANTED: u32 = END - 2;

/// How a span comes to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comes {
    /// It did not wait.
    Anew,
    /// It was granted a kit, and wants more than it got: others come first.
    Again,
    /// It was granted a kit, and somebody had just looked at the one that there was: it comes first still.
    InVain,
}

/// A span's place in the list: the next one's number.
#[derive(Debug)]
pub(crate) struct Place(AtomicU32);

impl Place {
    /// Of a span that is not in the list.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(AWAY))
    }

    /// Whether the span waits; by the time the caller looks at the answer it may be out of date.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) != AWAY
    }
}

/// The ends of the list, which its owner keeps under a lock.
#[derive(Debug)]
pub(crate) struct Ends {
    first: u32,
    last: u32,
}

impl Ends {
    /// Of a list in which nobody waits.
    pub(crate) fn new() -> Self {
        Self {
            first: END,
            last: END,
        }
    }

    /// The first span in the list.
    pub(crate) fn first(&self) -> Option<u32> {
        (self.first != END).then_some(self.first)
    }
}

/// How many wait.
#[derive(Debug)]
pub(crate) struct Deferred {
    /// Those in the list, and those just taken out of it to get a kit.
    waiting: AtomicU32,
    /// The latter alone.
    granted: AtomicU32,
}

impl Deferred {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Self {
            waiting: AtomicU32::new(0),
            granted: AtomicU32::new(0),
        }
    }

    /// How many wait; by the time the caller looks at the answer it may be out of date.
    pub(crate) fn count(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many of those are on their way to a kit; as above.
    pub(crate) fn granted(&self) -> u32 {
        self.granted.load(Ordering::Relaxed)
    }

    /// Whether somebody waits. What the caller did before is seen by who comes to wait after this look: he looks for a kit
    /// once he is in the list.
    pub(crate) fn is_any(&self) -> bool {
        // Pairs with the fence of `push`: one of the two sees the other.
        fence(Ordering::SeqCst);
        self.count() != 0
    }

    /// Puts the span `index` into the list, unless it waits already; ends its grant. Its runner, who calls this, looks for kits
    /// afterwards. Tells whether it is the only one that waits.
    pub(crate) fn push<'a>(
        &self,
        mut ends: impl DerefMut<Target = Ends>,
        index: u32,
        comes: Comes,
        place: impl Fn(u32) -> Option<&'a Place>,
    ) -> Pushed {
        let Some(own) = place(index) else {
            return Pushed::Already;
        };
        if own.is_waiting() && comes == Comes::Anew {
            return Pushed::Already;
        }
        if comes == Comes::InVain {
            own.0.store(ends.first, Ordering::Relaxed);
            if ends.first == END {
                ends.last = index;
            }
            ends.first = index;
        } else {
            own.0.store(END, Ordering::Relaxed);
            match place(ends.last) {
                Some(last) => last.0.store(index, Ordering::Relaxed),
                None => ends.first = index,
            }
            ends.last = index;
        }
        // Who has waited until now has been counted.
        let new = u32::from(comes == Comes::Anew);
        let alone = self.waiting.fetch_add(new, Ordering::Relaxed) == 1 - new;
        self.granted.fetch_sub(1 - new, Ordering::Relaxed);
        drop(ends);
        fence(Ordering::SeqCst);
        if alone {
            Pushed::First
        } else {
            Pushed::More
        }
    }

    /// Takes the first span out of the list: it may take a kit when it runs next, which the caller sees to. Until it has done
    /// so it counts as waiting. Nobody is taken out if there are no more kits, by `kits`, than have been granted.
    pub(crate) fn pop<'a>(
        &self,
        mut ends: impl DerefMut<Target = Ends>,
        kits: impl FnOnce() -> u32,
        place: impl Fn(u32) -> Option<&'a Place>,
    ) -> Option<u32> {
        let index = ends.first;
        let own = place(index)?;
        // With the list locked nobody else is granted one. Who stops being meanwhile comes here afterwards.
        if kits() <= self.granted() {
            return None;
        }
        self.granted.fetch_add(1, Ordering::Relaxed);
        ends.first = own.0.swap(GRANTED, Ordering::Relaxed);
        if ends.first == END {
            ends.last = END;
        }
        Some(index)
    }

    /// Whether a span may take a kit although others wait, having waited itself. For the span's runner, who ends that when it
    /// has: [`Self::end_grant`], or [`Self::push`] again. Then he looks whether there are kits for others.
    pub(crate) fn is_granted(own: &Place) -> bool {
        own.0.load(Ordering::Relaxed) == GRANTED
    }

    /// A span that was granted a kit waits no more.
    pub(crate) fn end_grant(&self, own: &Place) {
        // Only the runner changes the place once it is out of the list, so there is no need for the lock.
        own.0.store(AWAY, Ordering::Relaxed);
        self.granted.fetch_sub(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SPANS: u32 = 5;

    /// The list and its spans.
    struct Line {
        deferred: Deferred,
        ends: Ends,
        places: Vec<Place>,
    }

    impl Line {
        fn new() -> Self {
            Self {
                deferred: Deferred::new(),
                ends: Ends::new(),
                places: (0..SPANS).map(|_| Place::new()).collect(),
            }
        }

        fn push(&mut self, index: u32, comes: Comes) -> Pushed {
            let places = &self.places;
            self.deferred.push(&mut self.ends, index, comes, |index| {
                places.get(index as usize)
            })
        }

        fn pop(&mut self) -> Option<u32> {
            self.pop_if(SPANS)
        }

        fn pop_if(&mut self, kits: u32) -> Option<u32> {
            let places = &self.places;
            let place = |index| places.get(index as usize);
            self.deferred.pop(&mut self.ends, || kits, place)
        }

        fn is_granted(&self, index: u32) -> bool {
            Deferred::is_granted(&self.places[index as usize])
        }
    }

    #[test]
    fn first_come_first_served() {
        let mut line = Line::new();
        assert_eq!((line.pop(), line.deferred.is_any()), (None, false));
        for (index, found) in [(3, Pushed::First), (0, Pushed::More), (4, Pushed::More)] {
            assert_eq!(line.push(index, Comes::Anew), found);
            assert_eq!(
                line.push(index, Comes::Anew),
                Pushed::Already,
                "it waits once"
            );
        }
        assert_eq!(line.pop(), Some(3));
        // It comes again before it has looked: it is woken as it is.
        assert_eq!(line.push(3, Comes::Anew), Pushed::Already);
        assert!(line.is_granted(3) && !line.is_granted(0));
        // What it got was not enough, so others come first.
        assert_eq!(line.push(3, Comes::Again), Pushed::More);
        assert_eq!(line.push(1, Comes::Anew), Pushed::More);
        assert_eq!(line.deferred.count(), 4);
        // What it was woken for had gone.
        assert_eq!(line.pop(), Some(0));
        assert_eq!(line.push(0, Comes::InVain), Pushed::More);
        let order: Vec<_> = std::iter::from_fn(|| line.pop()).collect();
        assert_eq!(order, [0, 4, 3, 1]);
        assert_eq!(line.deferred.count(), 4, "until they have looked");
        for index in order {
            assert!(line.places[index as usize].is_waiting());
            assert!(line.is_granted(index));
            line.deferred.end_grant(&line.places[index as usize]);
            assert!(!line.is_granted(index));
        }
        assert!(!line.deferred.is_any() && line.deferred.granted() == 0);
        assert_eq!(line.push(2, Comes::Anew), Pushed::First);
        assert_eq!(line.pop(), Some(2));
        assert_eq!(line.push(2, Comes::Again), Pushed::First, "alone still");
    }

    #[test]
    fn no_more_are_woken_than_there_are_kits() {
        let mut line = Line::new();
        for index in 0..3 {
            line.push(index, Comes::Anew);
        }
        assert_eq!(line.pop_if(0), None);
        assert_eq!(line.pop_if(1), Some(0));
        assert_eq!(line.pop_if(1), None, "the first has not looked yet");
        assert_eq!(line.pop_if(2), Some(1));
        // One wants more, and the other one has all that it wants.
        line.push(0, Comes::Again);
        line.deferred.end_grant(&line.places[1]);
        assert_eq!((line.deferred.count(), line.deferred.granted()), (2, 0));
        assert_eq!((line.pop_if(1), line.pop_if(1)), (Some(2), None));
    }
}
