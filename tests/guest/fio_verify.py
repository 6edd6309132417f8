#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=6 disk-size=40 timeout=240
"""Random requests of 512 bytes to 1 MiB from several jobs, all read back and compared, while members fail and are
rebuilt, and checks run."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from load import Load
from raid import Array, rams, stop_all
from report import expect, note, run


def rounds(array, spare, load):
    """While the load runs: fail a member, rebuild onto the spare, which the failed one then becomes; and check."""
    count = 0
    while load.running():
        lost = array.slots()[count % int(array.get("raid_disks"))]
        array.fail(lost)
        array.remove(lost)
        array.add(spare)
        array.wait_rebuilt()
        spare = lost
        count += 1
        if load.running():
            array.set("sync_action", "check")
            array.wait_idle()
            expect("mismatch_cnt of a check under load", "0", array.get("mismatch_cnt"))
    note(f"{count} members failed and were rebuilt under load")
    return count


def load_and_failures(shape, members, workers=0, **load):
    """A verifying load with failures."""
    disks = rams(members)
    array = Array.create(disks, size=24, **shape)
    array.set("group_thread_cnt", workers)
    work = Load(array.path, array.size(), **load)
    count = rounds(array, rams(1, members)[0], work)
    work.finish()
    expect("at least one failure and rebuild while fio ran", True, count > 0)
    array.expect_clean()


def starved():
    """The smallest stripe cache and many small requests in flight."""
    array = Array.create(rams(4), size=24)
    array.set("stripe_cache_size", "17")
    work = Load(array.path, array.size(), seconds=5, jobs=2, depth=256, largest="16k")
    work.finish()
    array.expect_clean()


def overlapping():
    """Several writers on the same small range: whatever wins, parity is right, and fio's reads see no mixture."""
    array = Array.create(rams(4), size=24)
    work = [Load(array.path, 1 << 20, seconds=4, jobs=1, smallest="4k", largest="64k", mix="randwrite",
                 extra=["--verify=0", "--verify_backlog=0", f"--randseed={seed}", "--norandommap"]) for seed in (1, 2, 3)]
    for each in work:
        each.finish()
    array.expect_clean()


if __name__ == "__main__":
    run([
        ("4 members, chunk 64K, 512 bytes to 1 MiB", lambda: load_and_failures({"chunk": 64}, 4, largest="1m")),
        ("5 members, chunk 4K, small requests, internal bitmap",
         lambda: load_and_failures({"chunk": 4, "bitmap": "internal"}, 5, largest="16k", depth=32)),
        ("raid4, 3 members, chunk 512K", lambda: load_and_failures({"level": 4, "chunk": 512}, 3, largest="512k")),
        ("4 members, worker threads",
         lambda: load_and_failures({"chunk": 16, "layout": "right-asymmetric"}, 4, workers=2, mix="randwrite")),
        ("17 stripes for 512 requests", starved),
        ("overlapping writers", overlapping),
    ], cleanup=stop_all)
