#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=8 disk-size=8 timeout=240
"""mdadm's raid6check agrees that level 6 arrays written by the driver are sound, for each layout, and finds what is planted
on them."""

import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Shadow
from geometry import LAYOUTS6
from raid import Array, rams, stop_all
from raid6check import expect_sound, raid6check
from report import expect, run

# KiB. raid6check suspends each stripe, which takes its time: a few, so that each role comes to each member.
CHUNK = 128


def opinion(layout, members):
    """Sound after writes, degraded writes and the rebuild of two members; then a wrong block on each member, and two
    in one strip."""
    disks, spares = rams(members), rams(2, members)
    array = Array.create(disks, level=6, layout=layout, chunk=CHUNK, size=1)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.random_writes(seed=1, count=30, longest=128 * 1024)
        for lost in disks[:2]:
            array.fail(lost)
            array.remove(lost)
        shadow.random_writes(seed=2, count=30, longest=128 * 1024)
        array.add_together(spares)
        array.wait_rebuilt()
        shadow.random_writes(seed=3, count=30, longest=128 * 1024)
        shadow.verify()
        expect_sound(array)

    choice = random.Random(layout)
    pages = CHUNK // 4
    strips = choice.sample(range(1024 // 4), members + 1)
    planted = {}
    for slot, strip in enumerate(strips[:members]):
        array.damage(slot, strip * 8 + choice.randrange(8))
        planted[divmod(strip, pages)] = slot
    strip = strips[members]
    one, other = choice.sample(range(members), 2)
    array.damage(one, strip * 8)
    array.damage(other, strip * 8 + 1)
    planted[divmod(strip, pages)] = None
    expect("what raid6check finds: {(stripe, page): slot}", planted, raid6check(array))


if __name__ == "__main__":
    run([(f"{layout}, {4 + turn % 3} members", lambda layout=layout, turn=turn: opinion(layout, 4 + turn % 3))
         for turn, layout in enumerate(LAYOUTS6)], cleanup=stop_all)
