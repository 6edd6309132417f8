#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=8 timeout=360
"""Every pair of members of a level 6 array is lost, of 5 and 6 members with one layout of each kind, of 4 with every other one:
what was written is there, writes without the two are right, and both are rebuilt in one pass over garbage."""

import itertools
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, Shadow, pattern
from geometry import LAYOUTS6
from raid import Array, rams, stop_all
from report import note, run
import kernel


def spoil(path, low, size):
    """Fills a member's data area with garbage: what a rebuild leaves out is seen."""
    with Disk(path) as disk:
        disk.write(low, pattern(("garbage", path), size))


def every_pair(members, layout):
    """One array loses each pair in turn."""
    disks = rams(members)
    array = Array.create(disks, level=6, layout=layout, chunk=16, size=1)
    # What was written shall come from the members, not from memory.
    array.set("stripe_cache_size", 17)
    low, size = array.data_offset(disks[0]), array.data_size()
    with Shadow(array.path) as shadow:
        shadow.fill()
        for turn, pair in enumerate(itertools.combinations(range(members), 2)):
            slots = array.slots()
            lost = [slots[slot] for slot in (pair if turn % 2 else reversed(pair))]
            note(f"slots {pair}")
            for path in lost:
                array.fail(path)
                array.remove(path)
                spoil(path, low, size)
            shadow.verify("without both")
            shadow.random_writes(seed=turn, count=20, longest=128 * 1024)
            # A block of each member, one after the other: each is written where it is there, or in P and Q only.
            for index in range(members - 2):
                shadow.write((turn * (members - 2) + index) * 16 * 1024 % (shadow.length - 4096), pattern((turn, index), 4096))
            shadow.verify("after writing without both")
            array.add_together(lost)
            array.wait_rebuilt()
            shadow.verify("after the rebuild")
            array.expect_parity(shadow.bytes)
    array.expect_clean()


# One layout of each kind: Q follows P, and slots begin after Q; every member has a slot, as DDF wants it; every Q is on the
# last member.
OF_EACH_KIND = ("left-symmetric", "ddf-N-continue", "left-symmetric-6")


def shapes():
    """Members and layouts: 6 pairs of 4 members, 10 of 5, 15 of 6; 141 in all. On a slow kernel 10 for each kind."""
    if kernel.SLOW > 1:
        yield from ((5, layout) for layout in OF_EACH_KIND)
        return
    for layout in LAYOUTS6:
        for members in (5, 6) if layout in OF_EACH_KIND else (4,):
            yield members, layout


if __name__ == "__main__":
    run([(f"{members} members, {layout}", lambda members=members, layout=layout: every_pair(members, layout))
         for members, layout in shapes()], cleanup=stop_all)
