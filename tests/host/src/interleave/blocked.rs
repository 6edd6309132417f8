// SPDX-License-Identifier: GPL-2.0

//! The flag that holds acknowledgements back until somebody has taken note of bad blocks: it is raised while there is one of
//! which he has not, and does not stay so when there is none.

use super::explore_within;
use crate::array::blocked::{hold_back, Noted};
use crate::sync::atomic::between;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;

/// How the flag is raised; the real way as `RIGHT`, with one fault otherwise.
mod way {
    pub(super) const RIGHT: u32 = 0;
    pub(super) const LOOKS_AND_RAISES: u32 = 1;
    pub(super) const RAISES_IN_ANY_CASE: u32 = 2;
    pub(super) const LOWERS_WITHOUT_ANOTHER_LOOK: u32 = 3;
}

/// A device, as md core keeps it.
struct Device<const WAY: u32> {
    flag: AtomicBool,
    /// A bit for each bad block of which nobody has taken note.
    unnoted: AtomicU32,
}

impl<const WAY: u32> Noted for Device<WAY> {
    fn raise(&self) {
        self.flag.swap(true, Ordering::SeqCst);
        between();
    }
    fn lower(&self) {
        self.flag.swap(false, Ordering::SeqCst);
        between();
    }
    fn is_unnoted(&self) -> bool {
        between();
        self.unnoted.load(Ordering::SeqCst) != 0
    }
}

impl<const WAY: u32> Device<WAY> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flag: AtomicBool::new(false),
            unnoted: AtomicU32::new(0),
        })
    }

    /// A block is bad: as `Faults::record_bad_blocks()`.
    fn record(&self, block: u32) {
        self.unnoted.fetch_or(block, Ordering::SeqCst);
        between();
        self.hold();
    }

    /// The same for a block of which somebody has taken note long since.
    fn record_again(&self) {
        self.hold();
    }

    fn hold(&self) {
        match WAY {
            way::LOOKS_AND_RAISES => {
                if self.is_unnoted() {
                    self.raise();
                }
            }
            way::RAISES_IN_ANY_CASE => self.raise(),
            way::LOWERS_WITHOUT_ANOTHER_LOOK => {
                self.raise();
                if !self.is_unnoted() {
                    self.lower();
                }
            }
            _ => hold_back(self),
        }
    }

    /// As `bb_store()`: somebody has taken note of what there is.
    fn take_note(&self) {
        let noted = self.unnoted.swap(0, Ordering::SeqCst);
        between();
        if noted != 0 {
            self.lower();
        }
    }

    /// Looks at the flag when all have done what they do.
    fn check(&self) {
        let flag = self.flag.swap(false, Ordering::SeqCst);
        let unnoted = self.unnoted.fetch_add(0, Ordering::SeqCst) != 0;
        assert!(
            !flag || unnoted,
            "nothing waits for somebody who has taken note of all"
        );
        assert!(
            flag || !unnoted,
            "what waits for somebody to take note goes on waiting"
        );
    }
}

/// A block is found to be bad while somebody takes note of what there is.
fn somebody_takes_note<const WAY: u32>() {
    let device = Device::<WAY>::new();
    let other = device.clone();
    let keeper = thread::spawn(move || other.take_note());
    device.record(1);
    keeper.join().unwrap();
    device.check();
}

/// A block is found to be bad, and at the same time another one that is known to be.
fn another_is_known<const WAY: u32>() {
    let device = Device::<WAY>::new();
    let other = device.clone();
    let writer = thread::spawn(move || other.record(1));
    device.record_again();
    writer.join().unwrap();
    device.check();
}

const PREEMPTIONS: usize = 4;

#[test]
fn who_has_taken_note_is_not_waited_for() {
    explore_within(PREEMPTIONS, somebody_takes_note::<{ way::RIGHT }>);
}

#[test]
fn the_flag_of_another_block_is_not_lowered() {
    explore_within(PREEMPTIONS, another_is_known::<{ way::RIGHT }>);
}

#[test]
#[should_panic(expected = "nothing waits for somebody who has taken note of all")]
fn looking_before_raising_is_found() {
    explore_within(
        PREEMPTIONS,
        somebody_takes_note::<{ way::LOOKS_AND_RAISES }>,
    );
}

#[test]
#[should_panic(expected = "nothing waits for somebody who has taken note of all")]
fn raising_in_any_case_is_found() {
    explore_within(
        PREEMPTIONS,
        somebody_takes_note::<{ way::RAISES_IN_ANY_CASE }>,
    );
}

#[test]
#[should_panic(expected = "what waits for somebody to take note goes on waiting")]
fn lowering_without_another_look_is_found() {
    explore_within(
        PREEMPTIONS,
        another_is_known::<{ way::LOWERS_WITHOUT_ANOTHER_LOOK }>,
    );
}
