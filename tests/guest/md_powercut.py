#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml mem=900 timeout=600
"""Power cuts at any moment, of all members at once. What a member had not finished, or had only in its volatile cache, is
there or not, sector by sector. After assembly parity is right everywhere once the resync has ended, which with a bitmap
looks only at what the bits say; every sector holds what was acknowledged last or was in flight. With a member less nothing
else than rows that were being written is in doubt.

A case is a seed: one array, and some cuts. CUTS=FROM-TO chooses which seeds there are; one seed alone is a case by its
name.
"""

import os
import time

from md_faults import Schedule, cases, cleanup
from report import Failed, note, run
import kernel

CUTS = 8
SEEDS = "1-3"


class PowerCuts(Schedule):
    """One array, and the cuts it goes through under one driver and the other."""

    def run(self):
        """All of it."""
        try:
            self.create()
            for _ in range(CUTS):
                self.cut()
            self.finale()
        except Exception as problem:
            what = f"{type(problem).__name__}: " if not isinstance(problem, Failed) else ""
            raise Failed(f"under {kernel.driver()}: {what}{problem}\n  what happened:\n    " + "\n    ".join(self.log)
                         + f"\n  {self.array.mdstat() if self.array else ''}") from problem
        note(f"{self.title()}: {CUTS} cuts, {time.monotonic() - self.began:.1f} s")

    def cut(self):
        """Cuts the power under load; a member may be gone afterwards. All has to be right then."""
        rng = self.rng
        self.array.try_set("bitmap/time_base", "1")
        self.load()
        self.a_while(0.005, 0.25)
        drop = rng.choice(self.members) if self.can_force() and not self.writing_c() and rng.random() < 0.4 else None
        if self.writing_c():
            # See md_faults.py: it does not bear this under load.
            self.unload()
        self.check.command("eio 1")
        self.say("power off")
        self.disks.power_off(rng.getrandbits(30))
        self.unload()
        self.array.stop()
        self.disks.power_on()
        self.check.command(f"cut {int(drop is not None)}")
        self.check.command("eio 0")
        if drop:
            self.without(drop)
            return
        self.assemble(self.members)
        self.resynced()
        self.check.command("settle")
        self.expect_sound()

    def without(self, drop):
        """A member did not survive the cut."""
        self.assemble([path for path in self.members if path != drop], force=True)
        self.say("verify without it")
        self.check.command("settle")
        self.check.whole(self.array.path, "verify")
        self.disks.tell(drop, "garbage", self.rng.getrandbits(30))
        kernel.sh("mdadm", "--quiet", "/dev/md0", "--add", drop)
        self.array.members = list(self.members)
        self.lost[drop] = "rebuilds"
        self.rebuilt()
        # Q may not fit where a write was on its way: nobody was there to make it right.
        self.repair()
        self.expect_sound()


if __name__ == "__main__":
    run(cases(PowerCuts, os.environ.get("CUTS", SEEDS)), cleanup=cleanup)
