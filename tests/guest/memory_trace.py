#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=debug disks=6 disk-size=16 mem=1900 timeout=900
"""What the array's threads and its submitters allocate while fio runs, a member fails and another one is rebuilt, by the
kernel's kmem events. What the driver asks for is one page at most; what its threads ask for does not wait for memory; what
submitters ask for starts no I/O. What members' drivers allocate below submit_bio(), and md core by itself, is listed apart."""

import collections
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from kmem import Allocations
from load import Load
from mapper import dm_all, linear
from offload import engines, stats, unload
from raid import Array, rams, stop_all
from report import Failed, expect, expect_range, note, run

SIZE = 2  # MiB of each member



def members(count):
    """Devices whose drivers allocate: device-mapper's, for each bio, on RAM disks, for each page that was never written."""
    return dm_all({f"member{number}": linear(path) for number, path in enumerate(rams(count))})


def expect_disciplined(found):
    """Ends the case with the first allocation of the driver's that is wrong. Tells what others have allocated."""
    for each in found.doubtful:
        if each.who == "ours" and not each.slab_tries:
            raise Failed(f"the driver has asked for more than a page, or for memory that may have to be waited for:\n{each}")
    apart = collections.Counter((each.who, each.comm, each.caller, each.event) for each in found.doubtful)
    for (who, comm, caller, event), number in sorted(apart.items()):
        note(f"may wait or is large, {who}: {comm}: {number} times {event} by {caller}")
    for (comm, caller, event), number in sorted(found.counts.items()):
        if comm != "fio" or "raid456" in caller:
            note(f"all: {comm}: {number} times {event} by {caller}")
    seen = {comm for comm, _, _ in found.counts}
    for thread in ("md0_lane", "md0_raid", "fio"):
        expect(f"{thread} has allocated something, below submit_bio at least", True, thread in seen)
    below = sum(each.who == "below submit_bio" for each in found.doubtful)
    expect_range("allocations of the RAM disks' that may wait, seen below submit_bio", 20, 1 << 30, below)
    ours = sum(number for (_, caller, _), number in found.counts.items() if "raid456" in caller)
    expect_range("allocations of the driver's", 50, 1 << 30, ours)


def traced(level, bitmap="none", offload=False):
    """fio, a lost member and a rebuild."""
    devices = members(6)
    # Not synced, so that there are pages that were never written.
    array = Array.create(devices[:5], level=level, chunk=16, size=SIZE, bitmap=bitmap, extra=["--assume-clean"])
    array.set("stripe_cache_size", 32)
    array.set("group_thread_cnt", 2)
    if offload:
        array.set("offload", "dma")
    with Allocations(["md0_*"], ["fio"]) as found:
        load = Load(array.path, array.size(), seconds=2, jobs=2, depth=8, largest="64k")
        array.fail(devices[1])
        array.remove(devices[1])
        array.add(devices[5])
        array.wait_rebuilt()
        load.finish()
    if offload:
        expect_range("strips by engines", 100, 1 << 30, stats(array)["dma"])
        lanes = sum(number for (comm, _, _), number in found.counts.items() if comm == "md0_lane")
        expect_range("allocations by lanes", 100, 1 << 30, lanes)
    expect_disciplined(found)


def on_engines(level):
    """The same, with jobs on DMA engines: their operations are allocated by whoever runs the span, a lane mostly."""
    with engines("channels=2"):
        traced(level, offload=True)
        stop_all()


def cleanup():
    """Everything goes."""
    stop_all()
    unload()


if __name__ == "__main__":
    run([
        ("raid5 with a bitmap", lambda: traced(5, bitmap="internal")),
        ("raid6 on DMA engines", lambda: on_engines(6)),
    ], cleanup=cleanup)
