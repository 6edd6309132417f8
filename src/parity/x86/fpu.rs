// SPDX-License-Identifier: GPL-2.0

//! Leave to use vector registers, which belong to programs.

#[cfg(MODULE)]
use crate::bindings;
use core::marker::PhantomData;

/// As long as it lives, the kernel may use vector registers here, and the task is not preempted: so not for long.
///
/// It must be made in task context with interrupts on. On the host it says nothing.
pub(super) struct Fpu(PhantomData<*mut ()>);

impl Fpu {
    /// Saves what a program has in the registers.
    pub(super) fn begin() -> Self {
        #[cfg(MODULE)]
        // SAFETY: The function warns in a context where the registers may not be used; else it has no requirements.
        unsafe {
            bindings::raid456_fpu_begin();
        }
        Self(PhantomData)
    }
}

impl Drop for Fpu {
    fn drop(&mut self) {
        #[cfg(MODULE)]
        // SAFETY: Begun when this was made; such sections do not nest, for nobody keeps one while he calls others.
        unsafe {
            bindings::raid456_fpu_end();
        }
    }
}
