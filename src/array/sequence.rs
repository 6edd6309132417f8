// SPDX-License-Identifier: GPL-2.0

//! Who writes in sequence, and whether it was right to wait for him.
//!
//! Nothing but time depends on what is known here, so the fields are read and written one by one: two tasks that share a
//! place at most spoil each other's sequence.

use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::ops::Range;

/// Nanoseconds: nothing has come for so long, and nothing else is at work, so nothing will come.
const PATIENCE: u64 = 2_000_000;

/// Nanoseconds: nothing has come for so long, whatever else is at work.
const MOST_PATIENCE: u64 = 50_000_000;

/// Nanoseconds: nothing is held for longer, however much comes.
const LONGEST: u64 = 500_000_000;

/// A task that is not believed is waited for all the same, for this part of what its writes took, where that is worth a look.
const SHARE: u64 = 8;

/// Nanoseconds: a shorter wait is none.
const SHORTEST: u64 = 500_000;

/// Of an absence: there is none.
const NEVER: u64 = u64::MAX;

/// For at most so many stripes is a task not believed, however often it was waited for in vain.
const MOST_DOUBT: u32 = 1023;

/// What is to be expected of a task that writes in sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// When it has written, in nanoseconds.
    pub(crate) came: u64,
    /// What it leaves of its last stripe is worth waiting for.
    pub(crate) holds: bool,
    /// Writes take so long that strips which are full had better wait for those beside them.
    pub(crate) packs: bool,
}

/// What is known of the writes of a task.
#[repr(align(64))]
pub(crate) struct Sequence {
    /// Where the last write ended, in array sectors.
    end: AtomicU64,
    /// Sectors of the writes up to that, each of which began where the one before it ended; without the first one.
    run: AtomicU64,
    /// When the last write came that was worth waiting for, in nanoseconds.
    came: AtomicU64,
    /// It was waited for in vain, since the stripe before was left.
    missed: AtomicBool,
    /// Stripes for which it is not believed.
    doubt: AtomicU32,
    /// For how many it was not believed the last time.
    last_doubt: AtomicU32,
    /// Parts of its writes that have not ended.
    under_way: AtomicU32,
    /// How long the one took that has ended last, in nanoseconds.
    took: AtomicU64,
}

impl Sequence {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            end: AtomicU64::new(u64::MAX),
            run: AtomicU64::new(0),
            came: AtomicU64::new(0),
            missed: AtomicBool::new(false),
            doubt: AtomicU32::new(0),
            last_doubt: AtomicU32::new(0),
            under_way: AtomicU32::new(0),
            took: AtomicU64::new(0),
        }
    }

    /// Takes note of a write from array sector `start` to `end`. Returns what is to be expected of the task, if as much as a stripe
    /// was written in sequence: what it leaves of its last stripe is likely to be written next, and worth waiting for unless that was
    /// in vain. Then the writes that their fellows' ends bring may still be, where those take long: what comes with them goes with
    /// them. `stripe`: the array sectors of one; `now`: the time in nanoseconds. Any context.
    pub(crate) fn goes_on(
        &self,
        start: u64,
        end: u64,
        stripe: u64,
        now: impl FnOnce() -> u64,
    ) -> Option<Outlook> {
        let follows = self.end.load(Ordering::Relaxed) == start;
        self.end.store(end, Ordering::Relaxed);
        let run = self.run.load(Ordering::Relaxed);
        if !follows {
            if run != 0 {
                self.run.store(0, Ordering::Relaxed);
            }
            return None;
        }
        let run = run.saturating_add(end.saturating_sub(start));
        self.run.store(run, Ordering::Relaxed);
        if run < stripe {
            return None;
        }
        if start.checked_div(stripe) != end.checked_div(stripe) {
            self.leave_stripe();
        }
        let came = now();
        self.came.store(came, Ordering::Relaxed);
        let slow = self.briefly() != 0;
        let several = self.under_way.load(Ordering::Relaxed) != 0;
        let holds = self.is_believed() || slow && several;
        Some(Outlook {
            came,
            holds,
            packs: slow && holds,
        })
    }

    /// Part of a write is about to be posted. Any context.
    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// Part of a write that came at the time `came` ends, at the time `now`. Any context.
    pub(crate) fn end(&self, came: u64, now: u64) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.took.store(now.saturating_sub(came), Ordering::Relaxed);
    }

    /// Whether it has not been waited for in vain of late.
    fn is_believed(&self) -> bool {
        self.doubt.load(Ordering::Relaxed) == 0 && !self.missed.load(Ordering::Relaxed)
    }

    /// For how long after something has come it is waited for if it is not believed.
    fn briefly(&self) -> u64 {
        let part = self.took.load(Ordering::Relaxed) / SHARE;
        if part < SHORTEST {
            0
        } else {
            part.min(PATIENCE)
        }
    }

    /// Whether the rest of `stripe`, array sectors of which the task has written some, is likely to come soon. To be asked now and
    /// then for as long as that is waited for. If nothing comes from the task at all, it was waited for in vain, and is not
    /// believed for a while; if it only writes elsewhere, which is no sign that it comes back, or has taken too long, this alone is
    /// given up.
    ///
    /// `wait`: what is known of that from earlier questions; `now`: the time in nanoseconds; `others_work`: whether something
    /// is at work whose end the task may be waiting for.
    pub(crate) fn is_expected(
        &self,
        stripe: &Range<u64>,
        wait: &Wait,
        now: u64,
        mut others_work: impl FnMut() -> bool,
    ) -> bool {
        if now.saturating_sub(wait.begun()) >= LONGEST {
            return false;
        }
        if !self.is_believed() {
            let came = self.came.load(Ordering::Relaxed).max(wait.begun());
            let since = wait.look(!self.is_within(stripe), now).unwrap_or(came);
            return now.saturating_sub(since) < self.briefly();
        }
        let mut is_recent = |since: u64| {
            let waited = now.saturating_sub(since);
            waited < PATIENCE || waited < MOST_PATIENCE && others_work()
        };
        if !is_recent(self.came.load(Ordering::Relaxed)) {
            self.miss();
            return false;
        }
        wait.look(!self.is_within(stripe), now)
            .is_none_or(is_recent)
    }

    /// Takes note that it was waited for in vain.
    fn miss(&self) {
        self.missed.store(true, Ordering::Relaxed);
    }

    /// Whether the last write ended within a stripe, and left some of it.
    fn is_within(&self, stripe: &Range<u64>) -> bool {
        let end = self.end.load(Ordering::Relaxed);
        stripe.start < end && end < stripe.end
    }

    /// A stripe is left: was it right to wait in it?
    fn leave_stripe(&self) {
        let last = self.last_doubt.load(Ordering::Relaxed);
        let doubt = self.doubt.load(Ordering::Relaxed);
        if self.missed.load(Ordering::Relaxed) {
            let more = last.saturating_mul(2).saturating_add(1).min(MOST_DOUBT);
            self.last_doubt.store(more, Ordering::Relaxed);
            self.doubt.store(more, Ordering::Relaxed);
            self.missed.store(false, Ordering::Relaxed);
        } else if doubt > 0 {
            self.doubt.store(doubt.saturating_sub(1), Ordering::Relaxed);
        } else if last > 0 {
            self.last_doubt.store(last / 2, Ordering::Relaxed);
        }
    }
}

/// Of what waits for the rest of a stripe: since when it does, and since when the task that writes it has been elsewhere.
#[derive(Debug)]
pub(crate) struct Wait {
    /// Nanoseconds.
    begun: AtomicU64,
    /// Nanoseconds, as of the look that found it so first.
    elsewhere: AtomicU64,
}

impl Wait {
    /// Nothing waits.
    pub(crate) fn new() -> Self {
        Self {
            begun: AtomicU64::new(0),
            elsewhere: AtomicU64::new(NEVER),
        }
    }

    /// It begins to wait, at the time `now`. Any context.
    pub(crate) fn begin(&self, now: u64) {
        self.begun.store(now, Ordering::Relaxed);
    }

    /// When it began.
    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Something has come. Any context.
    pub(crate) fn come(&self) {
        if self.elsewhere.load(Ordering::Relaxed) != NEVER {
            self.elsewhere.store(NEVER, Ordering::Relaxed);
        }
    }

    /// Takes note of whether the task is elsewhere at the time `now`. Returns since when it has been, if it is.
    fn look(&self, elsewhere: bool, now: u64) -> Option<u64> {
        if !elsewhere {
            self.come();
            return None;
        }
        let mut since = self.elsewhere.load(Ordering::Relaxed);
        if since == NEVER {
            since = now;
            self.elsewhere.store(since, Ordering::Relaxed);
        }
        Some(since)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Ordering, Outlook, Sequence, Wait};
    use super::{LONGEST, MOST_DOUBT, MOST_PATIENCE, PATIENCE};
    use core::ops::Range;

    /// Sectors of a stripe.
    const STRIPE: u64 = 640;

    /// Whether it is worth waiting.
    fn holds(outlook: Option<Outlook>) -> bool {
        outlook.is_some_and(|outlook| outlook.holds)
    }

    /// Writes stripe number `stripe` in quarters. Returns after how many of the first three it was to be waited. The first
    /// time is in vain if `miss`.
    fn write(sequence: &Sequence, stripe: u64, miss: bool) -> u32 {
        let quarter = STRIPE / 4;
        let mut waits = 0;
        for at in 0..4 {
            let start = stripe * STRIPE + at * quarter;
            let outlook = sequence.goes_on(start, start + quarter, STRIPE, || start);
            if holds(outlook) && at < 3 {
                waits += 1;
                if miss {
                    sequence.miss();
                }
            }
        }
        waits
    }

    #[test]
    fn who_has_written_a_stripe_is_believed() {
        let sequence = Sequence::new();
        let waits = [7, 8, 9, 11].map(|stripe| write(&sequence, stripe, false));
        // What follows the first write has to make a stripe, and 11 does not follow 9.
        assert_eq!(waits, [0, 3, 3, 0]);
        assert_eq!(
            sequence.came.load(Ordering::Relaxed),
            9 * STRIPE + STRIPE / 4 * 3,
            "when the last write came that was worth waiting for"
        );
    }

    #[test]
    fn small_and_random_writes_are_not_in_sequence() {
        let sequence = Sequence::new();
        for at in 0..1000 {
            let start = at * 7919 % 5003 * 8;
            let outlook = sequence.goes_on(start, start + 8, STRIPE, || 0);
            assert_eq!(
                outlook, None,
                "what is expected after write {at}, at {start}"
            );
        }
    }

    #[test]
    fn who_is_doubted_still_writes_in_sequence() {
        let sequence = Sequence::new();
        write(&sequence, 0, false);
        write(&sequence, 1, true);
        let quarter = STRIPE / 4;
        let outlook = sequence.goes_on(2 * STRIPE, 2 * STRIPE + quarter, STRIPE, || 0);
        assert_eq!(
            outlook.map(|outlook| outlook.holds),
            Some(false),
            "whether it is worth waiting, after a stripe that was waited for in vain"
        );
    }

    #[test]
    fn who_was_waited_for_in_vain_is_doubted_for_ever_longer() {
        let sequence = Sequence::new();
        write(&sequence, 0, false);
        let mut stripe = 1;
        let mut doubted = || {
            let mut without = 0;
            while write(&sequence, stripe, true) == 0 {
                stripe += 1;
                without += 1;
            }
            stripe += 1;
            without
        };
        let doubts: Vec<_> = (0..13).map(|_| doubted()).collect();
        assert_eq!(
            doubts[..6],
            [0, 1, 3, 7, 15, 31],
            "stripes for which it was not waited"
        );
        assert_eq!(doubts[12], MOST_DOUBT, "there is an end to that");
    }

    #[test]
    fn stripes_that_came_take_the_doubt_away() {
        let sequence = Sequence::new();
        for stripe in 0..200 {
            let miss = stripe % 20 == 10;
            let doubted = (1..200).contains(&stripe) && stripe % 20 == 11;
            let waits = match (stripe, miss || doubted) {
                (0, _) => 0,
                (_, true) => u32::from(miss),
                (_, false) => 3,
            };
            assert_eq!(write(&sequence, stripe, miss), waits, "stripe {stripe}");
        }
    }

    /// Sectors of what is written at once below.
    const PIECE: u64 = STRIPE / 4;

    /// A microsecond.
    const US: u64 = 1000;

    /// Where another file lies.
    const ELSEWHERE: u64 = 1000 * STRIPE;

    /// A task that writes, and a stripe of which something is held for it, and looked at after each write, once it has been
    /// come to.
    struct Watched {
        task: Sequence,
        stripe: Range<u64>,
        wait: Wait,
        others_work: bool,
        now: u64,
        held: bool,
        /// When it was let go.
        let_go: Option<u64>,
    }

    impl Watched {
        fn new(stripe: Range<u64>, others_work: bool) -> Self {
            Self {
                task: Sequence::new(),
                stripe,
                wait: Wait::new(),
                others_work,
                now: 0,
                held: false,
                let_go: None,
            }
        }

        /// Writes `pieces` from array sector `start` on, each after a `pause`. Returns whether the last one was worth waiting for.
        fn write(&mut self, start: u64, pieces: u64, pause: u64) -> bool {
            let stripe = self.stripe.end - self.stripe.start;
            let mut goes_on = false;
            for piece in 0..pieces {
                self.now += pause;
                let at = start + piece * PIECE;
                goes_on = holds(self.task.goes_on(at, at + PIECE, stripe, || self.now));
                if self.stripe.contains(&at) && !self.held {
                    self.held = true;
                    self.wait.begin(self.now);
                }
                let others = || self.others_work;
                if self.held
                    && !self
                        .task
                        .is_expected(&self.stripe, &self.wait, self.now, others)
                {
                    self.held = false;
                    self.let_go = Some(self.now);
                }
            }
            goes_on
        }
    }

    #[test]
    fn what_was_left_is_let_go_while_its_task_writes_elsewhere() {
        for (others_work, patience) in [(true, MOST_PATIENCE), (false, PATIENCE)] {
            let mut watched = Watched::new(2 * STRIPE..3 * STRIPE, others_work);
            assert!(
                watched.write(0, 10, 200 * US),
                "the half of a third stripe is worth waiting for"
            );
            let left = watched.now + 200 * US;
            let goes_on = watched.write(ELSEWHERE, 1001, 200 * US);
            assert_eq!(
                watched.let_go,
                Some(left + patience),
                "when the half is let go that was left at {left}, others at work: {others_work}"
            );
            assert!(
                goes_on,
                "where the task writes now it is believed: it was not waited for in vain there"
            );
        }
    }

    #[test]
    fn who_writes_two_files_by_turns_finds_what_was_left() {
        let mut watched = Watched::new(2 * STRIPE..3 * STRIPE, true);
        watched.write(0, 10, 3000 * US);
        // Thirty milliseconds each; the second time is not counted with the first.
        watched.write(ELSEWHERE, 10, 3000 * US);
        watched.write(10 * PIECE, 1, 3000 * US);
        watched.write(ELSEWHERE + 10 * PIECE, 10, 3000 * US);
        assert_eq!(
            watched.let_go, None,
            "when the stripe is let go that is gone on with"
        );
    }

    #[test]
    fn a_stripe_is_held_while_it_is_written_and_no_longer_than_half_a_second() {
        let wide = 64 * STRIPE;
        let mut watched = Watched::new(wide..2 * wide, true);
        let pause = 25_000 * US;
        watched.write(0, wide / PIECE, pause);
        let begun = watched.now + pause;
        watched.write(wide, LONGEST / pause, pause);
        assert_eq!(
            watched.let_go, None,
            "when a stripe is let go within {LONGEST} ns"
        );
        watched.write(wide + LONGEST / pause * PIECE, 1, pause);
        assert_eq!(
            watched.let_go,
            Some(begun + LONGEST),
            "when a stripe is let go that has been held since {begun}"
        );
    }

    /// A task that is doubted, and writes the first of a stripe when so many others are under way, after one that took so long.
    fn doubted(took: u64, others: u32, now: u64) -> (Sequence, Outlook) {
        let sequence = Sequence::new();
        write(&sequence, 0, false);
        write(&sequence, 1, false);
        sequence.doubt.store(MOST_DOUBT, Ordering::Relaxed);
        for _ in 0..=others {
            sequence.begin();
        }
        sequence.end(now - took, now);
        let start = 2 * STRIPE;
        let outlook = sequence.goes_on(start, start + PIECE, STRIPE, || now);
        (sequence, outlook.expect("it writes in sequence"))
    }

    #[test]
    fn who_is_doubted_is_waited_for_briefly_where_writes_take_long() {
        let now = 1_000_000 * US;
        let stripe = 2 * STRIPE..3 * STRIPE;
        for (took, others, briefly) in [
            (8_000 * US, 1, 1_000 * US),
            (16_000 * US, 3, 2_000 * US),
            (800_000 * US, 1, 2_000 * US),
            // It would not be seen in time, and there is nobody whose end could bring more.
            (3_000 * US, 1, 0),
            (16_000 * US, 0, 0),
        ] {
            let (task, outlook) = doubted(took, others, now);
            let what = format!("a write took {took} ns, {others} others are under way");
            assert_eq!(
                outlook.holds,
                briefly > 0,
                "whether it is waited for: {what}"
            );
            assert_eq!(
                outlook.packs,
                briefly > 0,
                "and what is full as well: {what}"
            );
            if briefly == 0 {
                continue;
            }
            // What had to wait for others in its strip begins to be held later than it came.
            for begun in [now, now + 10_000 * US] {
                let wait = Wait::new();
                wait.begin(begun);
                for (later, expected) in [(briefly - 1, true), (briefly, false)] {
                    assert_eq!(
                        task.is_expected(&stripe, &wait, begun + later, || true),
                        expected,
                        "whether more is expected {later} ns after it was held at {begun}: {what}"
                    );
                }
            }
        }
    }

    #[test]
    fn who_is_doubted_and_writes_elsewhere_is_not_waited_for_longer() {
        let (took, now) = (16_000 * US, 1_000_000 * US);
        let (task, _) = doubted(took, 1, now);
        let wait = Wait::new();
        wait.begin(now);
        let let_go = (1..1000_u64).find(|&writes| {
            let now = now + writes * 100 * US;
            let start = ELSEWHERE + writes * PIECE;
            task.goes_on(start, start + PIECE, STRIPE, || now);
            !task.is_expected(&(2 * STRIPE..3 * STRIPE), &wait, now, || true)
        });
        assert_eq!(
            let_go,
            Some(21),
            "after how many writes elsewhere, one each 100 µs, a stripe is let go that may wait for 2 ms"
        );
    }
}
