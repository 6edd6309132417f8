#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=9 disk-size=8 timeout=240 least=also
"""An array's life for each layout of level 6: create, resync, write, lose a member, lose another one, read and write
without them, rebuild both in one pass, check, stop, assemble, read again."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from blocktrace import BlockTrace, sectors
from disk import SECTOR, Shadow
from geometry import LAYOUTS6
from raid import Array, rams, stop_all
from report import expect, expect_match, run
import kernel

# On a slow kernel: layouts of each kind (Q beside P, Q's coefficients by the member's number, Q on the last member).
SHORT = ("left-symmetric", "parity-first", "ddf-N-continue", "right-asymmetric-6")


def life(layout, members, chunk, bitmap):
    """The whole life of one array."""
    size = 2 if kernel.flavour() == "uml" else 1
    disks, spares = rams(members), rams(2, members)
    array = Array.create(disks, level=6, layout=layout, chunk=chunk, bitmap=bitmap, size=size)
    array.expect_clean()
    expect("layout", str(LAYOUTS6[layout]), array.get("layout"))
    geometry = array.geometry()
    with Shadow(array.path) as shadow:
        expect("size of the array", size * (members - 2) << 20, shadow.length)
        shadow.fill(seed=members * chunk)
        shadow.random_writes(seed=1, count=30)
        shadow.verify("after writing")
        array.expect_parity(shadow.bytes)

        first = members // 2
        second = (first + 1 + chunk % (members - 1)) % members
        for turn, lost in enumerate((first, second), 1):
            array.fail(disks[lost])
            expect("members missing", str(turn), array.get("degraded"))
            expect_match("mdstat", rf"\[{members}/{members - turn}\]", array.mdstat())
            shadow.verify(f"without slot {lost}")
            shadow.random_writes(seed=turn + 1, count=30)
            shadow.verify("after writing without it")
        images = [None if slot in (first, second) else array.image(disk) for slot, disk in enumerate(disks)]
        expect("P and Q of the survivors give back both lost members, by the test's own arithmetic", True,
               geometry.assemble(images) == shadow.bytes)

        low = array.data_offset(disks[0]) // SECTOR
        survivors = [disk for slot, disk in enumerate(disks) if slot not in (first, second)]
        array.remove(disks[first])
        array.remove(disks[second])
        log = kernel.Log()
        with BlockTrace(survivors) as trace:
            array.add_together(spares)
            array.wait_rebuilt()
        expect("recoveries in the log, for both members", 1, log.text().count("recover of RAID array"))
        expect("sectors read from each survivor: each once", {path: size * 2048 for path in survivors},
               {path: sectors(trace.reads(path, low)) for path in survivors})
        expect_match("mdstat", rf"\[{members}/{members}\]", array.mdstat())
        shadow.verify("after the rebuild")
        array.expect_parity(shadow.bytes)
        array.expect_clean()

        shadow.close()
        array.stop()
        array = Array.assemble(survivors + spares)
        expect("parity is known to be right after a clean stop", "none", array.get("resync_start"))
        shadow.reopen()
        shadow.verify("after stop and assembly")
        # What was rebuilt is used.
        for path in survivors[:2]:
            array.fail(path)
        shadow.verify("without two others")


def cases():
    """Each layout; member counts, chunks and bitmaps take turns."""
    for turn, layout in enumerate(LAYOUTS6):
        if kernel.flavour() != "uml" and layout not in SHORT:
            continue
        members, chunk, bitmap = (4, 5, 6, 7)[turn % 4], (64, 4, 512)[turn % 3], ("none", "internal")[turn // 2 % 2]
        yield (f"{layout}, {members} members, chunk {chunk}K, bitmap {bitmap}",
               lambda layout=layout, members=members, chunk=chunk, bitmap=bitmap: life(layout, members, chunk, bitmap))


if __name__ == "__main__":
    run(list(cases()), cleanup=stop_all)
