#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=40 timeout=400 least=also
"""Random requests of 512 bytes to 1 MiB from several jobs, all read back and compared, while members fail and are
rebuilt, and checks run; every layout of level 6. With ALL=1 each load runs longer."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from geometry import LAYOUTS6
from load import Load
from raid import Array, rams, stop_all
from report import expect, note, run

LONG = bool(os.environ.get("ALL"))


def rounds(array, spares, load):
    """While the load runs: fail as many members as there are spares and rebuild onto those, which the failed ones then
    become; and check."""
    count = 0
    while load.running():
        lost = [array.slots()[(count + turn) % int(array.get("raid_disks"))] for turn in range(len(spares))]
        for path in lost:
            array.fail(path)
            array.remove(path)
        if count % 2:
            array.add_together(spares)
        else:
            for path in spares:
                array.add(path)
        array.wait_rebuilt()
        spares = lost
        count += 1
        if load.running():
            array.set("sync_action", "check")
            array.wait_idle()
            expect("mismatch_cnt of a check under load", "0", array.get("mismatch_cnt"))
    note(f"{count} times {len(spares)} members failed and were rebuilt under load")
    return count


def load_and_failures(shape, members, workers=0, rmw_level=1, size=16, **load):
    """A verifying load with failures."""
    disks = rams(members)
    array = Array.create(disks, size=size, **shape)
    array.set("group_thread_cnt", workers)
    array.set("rmw_level", rmw_level)
    spares = rams(2 if shape.get("level") == 6 else 1, members)
    work = Load(array.path, array.size(), **{"seconds": 4 if LONG else 2, **load})
    count = rounds(array, spares, work)
    work.finish()
    expect("at least one failure and rebuild while fio ran", True, count > 0)
    array.expect_clean()
    array.expect_parity()


def starved(level=5):
    """The smallest stripe cache and many small requests in flight."""
    array = Array.create(rams(4), level=level, size=24)
    array.set("stripe_cache_size", "17")
    work = Load(array.path, array.size(), seconds=4 if LONG else 2, jobs=2, depth=256, largest="16k")
    work.finish()
    array.expect_clean()


def overlapping():
    """Several writers on the same small range: whatever wins, parity is right, and fio's reads see no mixture."""
    array = Array.create(rams(4), size=24)
    work = [Load(array.path, 1 << 20, seconds=3 if LONG else 2, jobs=1, smallest="4k", largest="64k", mix="randwrite",
                 extra=["--verify=0", "--verify_backlog=0", f"--randseed={seed}", "--norandommap"]) for seed in (1, 2, 3)]
    for each in work:
        each.finish()
    array.expect_clean()


def other_layouts():
    """Those of level 6 that no other case has, for a shorter time; members, chunks, bitmaps and rmw_level take turns."""
    others = [layout for layout in LAYOUTS6 if layout not in ("left-symmetric", "left-symmetric-6", "ddf-N-continue")]
    for turn, layout in enumerate(others):
        shape = {"level": 6, "layout": layout, "chunk": (4, 16, 64)[turn % 3], "bitmap": ("none", "internal")[turn // 3 % 2]}
        yield (f"raid6 {layout}, {4 + turn % 2} members, chunk {shape['chunk']}K",
               lambda shape=shape, turn=turn: load_and_failures(shape, 4 + turn % 2, rmw_level=turn % 3, size=4,
                                                                seconds=2 if LONG else 1, jobs=2, largest="64k"))


if __name__ == "__main__":
    run([
        ("4 members, chunk 64K, 512 bytes to 1 MiB", lambda: load_and_failures({"chunk": 64}, 4, largest="1m")),
        ("5 members, chunk 4K, small requests, internal bitmap",
         lambda: load_and_failures({"chunk": 4, "bitmap": "internal"}, 5, largest="16k", depth=32)),
        ("raid4, 3 members, chunk 512K", lambda: load_and_failures({"level": 4, "chunk": 512}, 3, largest="512k")),
        ("4 members, worker threads",
         lambda: load_and_failures({"chunk": 16, "layout": "right-asymmetric"}, 4, workers=2, mix="randwrite")),
        ("raid6, 5 members, chunk 64K, 512 bytes to 1 MiB",
         lambda: load_and_failures({"level": 6, "chunk": 64}, 5, largest="1m")),
        ("raid6 left-symmetric-6, 4 members, chunk 4K, small requests, internal bitmap",
         lambda: load_and_failures({"level": 6, "layout": "left-symmetric-6", "chunk": 4, "bitmap": "internal"}, 4, largest="16k",
                                   depth=32)),
        ("raid6 ddf-N-continue, 5 members, worker threads, RMW preferred",
         lambda: load_and_failures({"level": 6, "layout": "ddf-N-continue", "chunk": 16}, 5, workers=2, rmw_level=2,
                                   mix="randwrite", largest="64k")),
        *other_layouts(),
        ("17 stripes for 512 requests", starved),
        ("raid6, 17 stripes for 512 requests", lambda: starved(6)),
        ("overlapping writers", overlapping),
    ], cleanup=stop_all)
