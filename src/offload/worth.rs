// SPDX-License-Identifier: GPL-2.0

//! From which size on it pays to hand work to an engine, by what this CPU needs for both.

/// How often each is timed. The one in the middle counts: what an interrupt or another task has lengthened does not, nor does
/// what was quick by chance.
const ROUNDS: usize = 15;

/// What comes back costs about as much as what is handed over: an interrupt, and a thread's turn.
const WAYS: i64 = 2;

/// Bytes that a copy of a page reads and writes.
const COPIED: i64 = 2 * 4096;

/// Limits of what can be right.
pub(crate) const BYTES: (i64, i64) = (4 << 10, 1 << 20);

/// What is timed, in nanoseconds; `None` if it cannot be.
pub(crate) trait Timed {
    /// How long it takes this CPU to hand over a copy of a page, which is waited for.
    fn hand_over(&mut self) -> Option<i64>;

    /// How long it takes this CPU to copy one.
    fn copy(&mut self) -> Option<i64>;
}

/// How many bytes an operation reads and writes, on average, where this CPU needs as long for handing it over as for doing it.
pub(crate) fn break_even(timed: &mut impl Timed) -> Option<u32> {
    let (mut handed, mut copied) = ([0; ROUNDS], [0; ROUNDS]);
    for (handed, copied) in handed.iter_mut().zip(&mut copied) {
        *handed = timed.hand_over()?;
        *copied = timed.copy()?;
    }
    let bytes = middle(&mut handed)
        .saturating_mul(WAYS)
        .saturating_mul(COPIED)
        / middle(&mut copied);
    u32::try_from(bytes.clamp(BYTES.0, BYTES.1)).ok()
}

/// The one in the middle; 1 at least.
fn middle(times: &mut [i64; ROUNDS]) -> i64 {
    times.sort_unstable();
    times.get(ROUNDS / 2).map_or(1, |time| (*time).max(1))
}
