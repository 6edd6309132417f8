// SPDX-License-Identifier: GPL-2.0

//! How the span table uses the mailbox: a span that has nothing to do is put away, and may be given another place,
//! while somebody looks it up and posts to it.

use super::explore;
use super::stack::Owner;
use crate::sync::mailbox::{Events, Mailbox};
use crate::sync::stack::Stack;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// How a table works; the real one as `RIGHT`, with one fault otherwise.
mod way {
    pub(super) const RIGHT: u32 = 0;
    pub(super) const GIVES_UP_BEFORE_THE_LOCK: u32 = 1;
    pub(super) const POSTS_AFTER_THE_LOCK: u32 = 2;
    pub(super) const EVICTS_WITHOUT_CLAIM: u32 = 3;
    pub(super) const PUTS_AWAY_IN_ANY_CASE: u32 = 4;
}

/// What the shard's lock protects, of its one span.
#[derive(Default)]
struct Shard {
    /// The span's place.
    key: u32,
    /// Whether the span is in use: not to be evicted, and counted.
    active: bool,
}

/// A shard with one span, and the count that quiesce waits for.
struct Table<const WAY: u32> {
    shard: Mutex<Shard>,
    mailbox: Mailbox,
    parts: Stack<Owner>,
    /// The place as the runner knows it, and parts seen: only for the owner.
    owned: UnsafeCell<(u32, Vec<u32>)>,
    /// How many spans are active.
    inflight: AtomicU32,
}

// SAFETY: Loom checks that only the span's owner touches `owned`.
unsafe impl<const WAY: u32> Send for Table<WAY> {}
// SAFETY: As above.
unsafe impl<const WAY: u32> Sync for Table<WAY> {}

impl<const WAY: u32> Table<WAY> {
    fn new(key: u32) -> Arc<Self> {
        Arc::new(Self {
            shard: Mutex::new(Shard { key, active: false }),
            mailbox: Mailbox::new(),
            parts: Stack::new(),
            owned: UnsafeCell::new((key, Vec::new())),
            inflight: AtomicU32::new(0),
        })
    }

    fn count(&self, change: i32) {
        let old = if change > 0 {
            self.inflight.fetch_add(1, Ordering::AcqRel)
        } else {
            self.inflight.fetch_sub(1, Ordering::AcqRel)
        };
        assert!(
            old == u32::from(change < 0),
            "the span is counted once while it is active, but {old} before a change of {change}"
        );
    }

    /// Posts `part` to the span at `key`, which the part is for, if the table has it there.
    fn lookup_post(&self, key: u32, part: u32) -> bool {
        let mut shard = self.shard.lock().unwrap();
        if shard.key != key {
            return false;
        }
        if !shard.active {
            shard.active = true;
            self.count(1);
        }
        self.parts.push(Owner::new(part));
        let owner = if WAY == way::POSTS_AFTER_THE_LOCK {
            drop(shard);
            self.mailbox.post(Events::PARTS)
        } else {
            let owner = self.mailbox.post(Events::PARTS);
            drop(shard);
            owner
        };
        if owner {
            self.run();
        }
        true
    }

    /// Runs the span until it has nothing to do, then puts it away.
    fn run(&self) {
        loop {
            let _ = self.mailbox.take();
            for part in self.parts.take_all() {
                self.owned.with_mut(|owned| {
                    // SAFETY: Only the owner gets here; loom checks it.
                    let (key, seen) = unsafe { &mut *owned };
                    assert_eq!(part.value() / 10, *key, "a part runs at its own place");
                    seen.push(part.value());
                });
            }
            if self.put_away() {
                break;
            }
        }
    }

    /// Whether the span was given up; false if something was posted.
    fn put_away(&self) -> bool {
        if WAY == way::GIVES_UP_BEFORE_THE_LOCK {
            let gave_up = self.mailbox.finish();
            if gave_up {
                let mut shard = self.shard.lock().unwrap();
                shard.active = false;
                self.count(-1);
            }
            return gave_up;
        }
        let mut shard = self.shard.lock().unwrap();
        let gave_up = self.mailbox.finish();
        if gave_up || WAY == way::PUTS_AWAY_IN_ANY_CASE {
            shard.active = false;
            self.count(-1);
        }
        gave_up || WAY == way::PUTS_AWAY_IN_ANY_CASE
    }

    /// Gives the span another place, if nobody uses it.
    fn evict(&self, key: u32) {
        let mut shard = self.shard.lock().unwrap();
        if shard.active {
            return;
        }
        if WAY != way::EVICTS_WITHOUT_CLAIM && !self.mailbox.claim() {
            return;
        }
        shard.key = key;
        self.owned.with_mut(|owned| {
            // SAFETY: The claim made this thread the owner; loom checks it.
            let (place, _) = unsafe { &mut *owned };
            *place = key;
        });
        if WAY != way::EVICTS_WITHOUT_CLAIM && !self.mailbox.finish() {
            // A stray event, not a part: those are posted under the lock. Whoever claimed it runs it.
            drop(shard);
            self.run_stray();
        }
    }

    /// Runs a span that is not active, for an event that came late.
    fn run_stray(&self) {
        loop {
            let _ = self.mailbox.take();
            if !self.parts.is_empty() {
                return self.run();
            }
            self.owned.with(|_| ());
            let shard = self.shard.lock().unwrap();
            if self.mailbox.finish() {
                return;
            }
            drop(shard);
        }
    }

    /// An event that has nothing to do with a part: a lane woken for nothing, a late flush.
    fn stray(&self) {
        if self.mailbox.post(Events::FLUSH) {
            self.run_stray();
        }
    }

    fn check(&self, expected: &[u32]) {
        // SAFETY: All threads have ended; loom checks it.
        let mut seen = self.owned.with(|owned| unsafe { (*owned).1.clone() });
        seen.sort_unstable();
        assert_eq!(seen, expected, "each part that found its span was run");
        assert!(!self.shard.lock().unwrap().active, "the span is put away");
        let inflight = self.inflight.load(Ordering::Acquire);
        assert_eq!(inflight, 0, "spans that quiesce would wait for");
    }
}

/// Two submitters post to a span that is put away in between.
fn posts_race_with_putting_away<const WAY: u32>() {
    let table = Table::<WAY>::new(1);
    let other = table.clone();
    let submitter = thread::spawn(move || {
        assert!(other.lookup_post(1, 10), "nobody moves the span here");
    });
    assert!(table.lookup_post(1, 11), "nobody moves the span here");
    submitter.join().unwrap();
    table.check(&[10, 11]);
}

/// A submitter posts while the span is given another place, and an event comes that nobody waits for.
fn posts_race_with_eviction<const WAY: u32>() {
    let table = Table::<WAY>::new(1);
    let other = table.clone();
    let submitter = thread::spawn(move || other.lookup_post(1, 10));
    let other = table.clone();
    let stray = thread::spawn(move || other.stray());
    table.evict(2);
    let found = submitter.join().unwrap();
    stray.join().unwrap();
    table.check(if found { &[10] } else { &[] });
}

#[test]
fn no_part_is_lost_when_the_span_is_put_away() {
    explore(posts_race_with_putting_away::<{ way::RIGHT }>);
}

#[test]
fn no_part_runs_at_another_place() {
    explore(posts_race_with_eviction::<{ way::RIGHT }>);
}

#[test]
#[should_panic(expected = "the span is counted once while it is active")]
fn giving_up_before_the_lock_is_found() {
    explore(posts_race_with_putting_away::<{ way::GIVES_UP_BEFORE_THE_LOCK }>);
}

#[test]
#[should_panic(expected = "the span is counted once while it is active")]
fn posting_after_the_lock_is_found() {
    explore(posts_race_with_putting_away::<{ way::POSTS_AFTER_THE_LOCK }>);
}

#[test]
#[should_panic(expected = "each part that found its span was run")]
fn putting_away_in_any_case_is_found() {
    explore(posts_race_with_putting_away::<{ way::PUTS_AWAY_IN_ANY_CASE }>);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn eviction_without_a_claim_is_found() {
    explore(posts_race_with_eviction::<{ way::EVICTS_WITHOUT_CLAIM }>);
}
