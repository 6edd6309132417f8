#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=32 timeout=360
"""An array's life, for level 4 and each layout of level 5: create, resync, write, read, lose a member, read and write
without it, rebuild onto a spare, check, stop, assemble, read again."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from raid import Array, rams, stop_all
from disk import Shadow
from geometry import LAYOUTS
from report import expect, expect_match, run


def life(level, layout, members, chunk, bitmap):
    """The whole life of one array."""
    disks = rams(members)
    spare = rams(1, members)[0]
    array = Array.create(disks, level=level, layout=layout, chunk=chunk, bitmap=bitmap, size=4)
    array.expect_clean()
    with Shadow(array.path) as shadow:
        expect("size of the array", 4 * (members - 1) << 20, shadow.length)
        shadow.fill(seed=members * chunk)
        shadow.random_writes(seed=1, count=40)
        shadow.verify("after writing")

        # The members' bytes, put together by the test's own model of the layout.
        images = [array.image(disk) for disk in disks]
        expect("the members hold the array's data where the layout says", True,
               array.geometry().assemble(images) == shadow.bytes)
        lost = members // 2
        images[lost] = None
        expect("and parity gives back a lost member", True, array.geometry().assemble(images) == shadow.bytes)

        array.fail(disks[lost])
        expect("members missing", "1", array.get("degraded"))
        expect_match("mdstat", rf"\[{members}/{members - 1}\]", array.mdstat())
        shadow.verify("after the loss of a member")
        shadow.random_writes(seed=2, count=40)
        shadow.verify("after writing without it")

        array.remove(disks[lost])
        array.add(spare)
        array.wait_rebuilt()
        expect_match("mdstat", rf"\[{members}/{members}\]", array.mdstat())
        shadow.verify("after the rebuild")
        array.expect_clean()

        shadow.close()
        array.stop()
        disks[lost] = spare
        array = Array.assemble(disks)
        expect("parity is known to be right after a clean stop", "none", array.get("resync_start"))
        shadow.reopen()
        shadow.verify("after stop and assembly")
        array.expect_clean()


def case(level, layout, members, chunk, bitmap):
    """A named case."""
    shape = f"raid{level} {layout or ''}".strip()
    return (f"{shape}, {members} members, chunk {chunk}K, bitmap {bitmap}",
            lambda: life(level, layout, members, chunk, bitmap))


def cases():
    """Each layout with every chunk size; member counts and bitmaps take turns so that each meets each."""
    turn = 0
    for level, layout in [(4, None)] + [(5, layout) for layout in LAYOUTS]:
        for chunk in (4, 64, 512):
            yield case(level, layout, (3, 4, 6)[(turn + turn // 3) % 3], chunk, ("none", "internal")[turn % 2])
            turn += 1


if __name__ == "__main__":
    run(list(cases()), cleanup=stop_all)
