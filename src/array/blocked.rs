// SPDX-License-Identifier: GPL-2.0

//! Holding acknowledgements back until a program that keeps an array's metadata has taken note of bad blocks.
//!
//! md core has a flag for that, which it lowers when the program has taken note of some. If nobody does so any more it stays raised,
//! and all that waits for it waits for ever.

/// A device with bad blocks of which somebody takes note. Each method is one step that all see in the same order.
pub(crate) trait Noted {
    /// Raises the flag that holds acknowledgements back. Whoever has taken note of a bad block lowers it afterwards.
    fn raise(&self);

    /// Lowers it.
    fn lower(&self);

    /// Whether there is a bad block of which nobody has taken note.
    fn is_unnoted(&self) -> bool;
}

/// Holds acknowledgements back until somebody has taken note of a bad block that has come to the device, unless he has already.
pub(crate) fn hold_back(device: &impl Noted) {
    loop {
        // First: who takes note after the look finds the flag.
        device.raise();
        if device.is_unnoted() {
            return;
        }
        device.lower();
        // It may have been that of another bad block, which has come since the look.
        if !device.is_unnoted() {
            return;
        }
    }
}
