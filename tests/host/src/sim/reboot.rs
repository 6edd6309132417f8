// SPDX-License-Identifier: GPL-2.0

//! A machine that goes down: md core stops writes and clears bits of the bitmap, and requests go on meanwhile.
//!
//! As `md_notify_reboot()`: with reconfig_mutex, the array is quiesced and let go on, and the bitmap's daemon has its turn three
//! times. (That the superblocks say "clean" then, whatever is under way, is left out: it is not this driver's.)

use super::admin::Admin;
use super::report::Event;
use super::Sim;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reboot {
    /// Waits for quiesce to end.
    Quiescing,
    /// Clears bits as many times more, next when the administrator was looked at so often.
    Clearing { times: u32, wait: u32 },
}

/// How often bits are cleared.
const TIMES: u32 = 3;

/// Looks at the administrator between two of these, at most.
const WAIT: u32 = 40;

impl Sim {
    /// The machine goes down. Returns false if nobody would notice.
    pub(crate) fn reboot(&mut self) -> bool {
        let free = !self.md.locked && !self.md.suspended && !self.md.quiescing;
        if self.bitmap.is_none() || !free || !self.daemon.is_idle() {
            return false;
        }
        self.count(Event::Rebooted);
        self.note(|| "the machine goes down".into());
        self.md.locked = true;
        self.admin = Admin::Rebooting(Reboot::Quiescing);
        self.quiesce_begin();
        true
    }

    /// It goes on. Returns false if it cannot.
    pub(crate) fn rebooting(&mut self, reboot: Reboot) -> bool {
        let next = match reboot {
            Reboot::Quiescing => {
                if !self.quiesce_done() {
                    // The daemon cannot, for want of the lock.
                    return self.daemon.is_idle() && self.help_recording();
                }
                if let Some(bitmap) = &mut self.bitmap {
                    bitmap.distrust();
                }
                self.quiesce_end();
                Reboot::Clearing {
                    times: TIMES,
                    wait: self.reboot_rng.below(WAIT),
                }
            }
            Reboot::Clearing { times, wait } if wait > 0 => Reboot::Clearing {
                times,
                wait: wait - 1,
            },
            Reboot::Clearing { .. } if !self.daemon.is_idle() => return false,
            Reboot::Clearing { times: 0, .. } => {
                self.md.locked = false;
                self.admin = Admin::Idle;
                return true;
            }
            Reboot::Clearing { times, .. } => {
                self.clear_beside_the_daemon();
                Reboot::Clearing {
                    times: times - 1,
                    wait: self.reboot_rng.below(WAIT),
                }
            }
        };
        self.admin = Admin::Rebooting(next);
        true
    }
}
