// SPDX-License-Identifier: GPL-2.0

//! Which ends of member I/O a span's runner has to hear of.
//!
//! A strip goes on when all that is under way for it has ended: so of the bios for a strip only the last one to end makes
//! the span run. The others leave their word in a [`CompletionWord`](super::mailbox::CompletionWord), where the runner finds
//! it by then. What fails is to be posted always, and so is everything while the runner has more to submit than it has bios
//! for ([`Flights::want_all`]).
//!
//! No method sleeps or takes a lock; all may be called in any context.

use super::atomic::{fence, AtomicBool, AtomicU64, Ordering};

/// How many bios are under way for each strip of a span, which has sixteen at most.
#[derive(Debug)]
pub(crate) struct Flights {
    /// A byte for each strip: there are no more members than that counts.
    counts: [AtomicU64; 2],
    want_all: AtomicBool,
}

impl Flights {
    /// Nothing is under way.
    pub(crate) fn new() -> Self {
        Self {
            counts: [AtomicU64::new(0), AtomicU64::new(0)],
            want_all: AtomicBool::new(false),
        }
    }

    /// A bio for `strips`, a bit for each, is about to be submitted. For the span's runner.
    pub(crate) fn start(&self, strips: u16) {
        for (count, ones) in self.counts.iter().zip(spread(strips)) {
            if ones != 0 {
                count.fetch_add(ones, Ordering::Relaxed);
            }
        }
    }

    /// A bio for `strips` has ended, and can be used again; or was not submitted after all. Returns whether the runner has to hear of
    /// it, be it the caller himself.
    ///
    /// What the bio did, and what was noted of it, is seen by the runner that hears of the last one.
    #[must_use = "a strip that nobody is told of never goes on"]
    pub(crate) fn end(&self, strips: u16) -> bool {
        let mut last = false;
        for (count, ones) in self.counts.iter().zip(spread(strips)) {
            if ones != 0 {
                // Release: the last one continues what the others noted. Acquire: so it does.
                let left = count.fetch_sub(ones, Ordering::AcqRel).wrapping_sub(ones);
                last |= ones & zeros(left) != 0;
            }
        }
        // Either we see that the runner wants to know, or it sees that the bio can be used.
        fence(Ordering::SeqCst);
        last || self.want_all.load(Ordering::Relaxed)
    }

    /// Says whether there is more to submit for some member than its bio could take. If so, the caller, the span's runner,
    /// looks afterwards whether one of these bios has ended meanwhile.
    pub(crate) fn want_all(&self, want: bool) {
        if self.want_all.load(Ordering::Relaxed) != want {
            self.want_all.store(want, Ordering::Relaxed);
        }
        if want {
            fence(Ordering::SeqCst);
        }
    }
}

impl Default for Flights {
    fn default() -> Self {
        Self::new()
    }
}

/// 1 in each byte.
const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// A byte of 1 for each bit of `strips`: those of the first eight, and of the others.
fn spread(strips: u16) -> [u64; 2] {
    strips.to_le_bytes().map(|bits| {
        let bits = u64::from(bits).wrapping_mul(ONES) & 0x8040_2010_0804_0201;
        // A byte that is not 0 carries into its highest bit, and no further.
        (bits.wrapping_add(0x7f * ONES) >> 7) & ONES
    })
}

/// 1 in each byte that is 0 in `counts`.
fn zeros(counts: u64) -> u64 {
    let low_bits = (counts & (0x7f * ONES)).wrapping_add(0x7f * ONES);
    (!(low_bits | counts) >> 7) & ONES
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bit_becomes_a_byte() {
        for strips in 0..=u16::MAX {
            let bytes = spread(strips).map(u64::to_le_bytes);
            let bits = bytes
                .as_flattened()
                .iter()
                .rev()
                .fold(0u16, |bits, byte| (bits << 1) | u16::from(*byte));
            assert_eq!(bits, strips);
        }
    }

    #[test]
    fn each_byte_that_is_zero_is_found() {
        for pattern in 0..=u8::MAX {
            for other in [0x01, 0x7f, 0x80, 0xff] {
                let bytes: [u8; 8] =
                    core::array::from_fn(|i| if (pattern >> i) & 1 == 0 { 0 } else { other });
                let found = zeros(u64::from_le_bytes(bytes)).to_le_bytes();
                assert_eq!(found, bytes.map(|byte| u8::from(byte == 0)));
            }
        }
    }

    #[test]
    fn the_last_end_of_a_strip_is_told_and_no_other() {
        let flights = Flights::new();
        // 255 members, all strips, then some of them alone.
        for _ in 0..255 {
            flights.start(u16::MAX);
        }
        for _ in 0..254 {
            assert!(!flights.end(u16::MAX));
        }
        assert!(flights.end(0x0f00));
        flights.start(0x8001);
        assert!(!flights.end(0x8001), "one more is under way for both");
        assert!(flights.end(0xf0ff));
    }

    #[test]
    fn every_end_is_told_to_who_wants_to_know() {
        let flights = Flights::new();
        flights.start(1);
        flights.start(1);
        flights.want_all(true);
        assert!(flights.end(1));
        flights.want_all(false);
        flights.start(1);
        assert!(!flights.end(1));
    }
}
