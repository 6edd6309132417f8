#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=debian,debug disks=6 disk-size=16 timeout=400 debug.timeout=1200
"""A short life on kernels that are slow to run: the stock Debian kernel, and the one with KASAN, lockdep and kmemleak."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers
import bad_input
import driver_swap
from disk import SECTOR, Shadow
from load import Load
from raid import Array, rams, stop_all
from report import expect, run
from tracing import EVENTS, Traced
import kernel


def life(shape):
    """Create, write, lose (at level 6: two), write, rebuild, check, stop, assemble."""
    level6 = shape.get("level") == 6
    disks = rams(4)
    lost, spares = (disks[1:3], rams(2, 4)) if level6 else (disks[1:2], rams(1, 4))
    array = Array.create(disks, size=2, **shape)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.random_writes(seed=1, count=20)
        for path in lost:
            array.fail(path)
            shadow.random_writes(seed=2, count=20)
        shadow.verify(f"without {len(lost)} members")
        for path in lost:
            array.remove(path)
        array.add_together(spares)
        array.wait_rebuilt()
        shadow.verify("after the rebuild")
        slot, sector = array.geometry().parity_of(1000)
        array.damage(slot, sector, SECTOR)
        expect("mismatch_cnt of a repair", 8, array.scan("repair"))
        if level6 and kernel.driver() == "rust":
            array.set("mismatch_method", "locate")
            for place in (3, 2000):
                array.damage(*array.geometry().locate(place), SECTOR)
            expect("mismatch_cnt of a repair", 16, array.scan("repair"))
            expect("wrong blocks located", "2", array.get("mismatch_located"))
        array.expect_parity(shadow.bytes)
        array.expect_clean()
        shadow.close()
        array = array.reassemble()
        shadow.reopen()
        shadow.verify("after stop and assembly")


def under_load(level=5):
    """A member (at level 6: two) fails and is rebuilt, settings change and the bitmap goes while fio writes and compares, and
    each step is traced."""
    array = Array.create(rams(4), level=level, size=8, bitmap="internal")
    with Traced(*EVENTS) as traced:
        fail_and_rebuild(array, level)
    expect("a span's end is in the trace", True, bool(traced.of("span_end")))
    expect("the counters can be read", True, "strips_rmw " in array.get("counters"))


def fail_and_rebuild(array, level):
    """What happens to it under load."""
    work = Load(array.path, array.size(), seconds=7, jobs=2, largest="64k")
    lost = rams(4)[2:level - 2]
    for path in lost:
        array.fail(path)
    array.set("stripe_cache_size", 64)
    for path in lost:
        array.remove(path)
        array.add(path)
    array.set("group_thread_cnt", 2)
    array.wait_rebuilt(200)
    array.grow("--bitmap=none")
    array.set("group_thread_cnt", 0)
    work.finish(200)
    array.wait_idle()
    array.expect_clean()


def file_system():
    """ext4 while a member is lost."""
    array = Array.create(rams(4), size=8)
    kernel.sh("mkfs.ext4", "-q", "-F", array.path)
    os.makedirs("/tmp/mounted", exist_ok=True)
    kernel.sh("mount", array.path, "/tmp/mounted")
    kernel.sh("cp", "-r", "/usr/lib/python3.13/json", "/usr/lib/python3.13/email", "/tmp/mounted/")
    array.fail(rams(4)[0])
    kernel.sh("umount", "/tmp/mounted")
    kernel.sh("mount", array.path, "/tmp/mounted")
    kernel.sh("diff", "-r", "/usr/lib/python3.13/email", "/tmp/mounted/email")
    kernel.sh("umount", "/tmp/mounted")
    expect("fsck's status", 0, kernel.sh("e2fsck", "-fn", array.path, check=False)[0])


def both_drivers(level=5):
    """What one driver wrote the other one reads, on the stock kernel too."""
    first, second = drivers()
    kernel.use_driver(second)
    array = Array.create(rams(4), level=level, size=2)
    with Shadow(array.path) as shadow:
        shadow.fill()
        for driver in (first, second):
            shadow.random_writes(seed=5, count=20)
            shadow.close()
            array.stop()
            kernel.use_driver(driver)
            array = Array.assemble(rams(4))
            array.expect_clean()
            array.expect_parity(shadow.bytes)
            shadow.reopen()
            shadow.verify(f"read by {driver}")


CASES = [
    ("raid6", lambda: life({"level": 6, "bitmap": "internal"})),
    ("fio while two members fail, raid6", lambda: under_load(6)),
    # On kernels where a boot of its own would take longer than it does.
    ("load and unload many times", driver_swap.again_and_again),
]
DEBIAN = [
    ("raid5", lambda: life({"bitmap": "internal"})),
    ("raid4", lambda: life({"level": 4, "chunk": 4})),
    ("raid6, ddf-N-continue", lambda: life({"level": 6, "layout": "ddf-N-continue", "chunk": 4})),
    ("fio while a member fails", under_load),
    ("ext4", file_system),
    # It has huge pages: logical blocks may be larger than a page.
    ("a logical block of 8 KiB", bad_input.large_block),
    ("both drivers", both_drivers),
    ("both drivers, raid6", lambda: both_drivers(6)),
]
# The debug kernel has no file systems and takes its time. Debian's own module is packed: it cannot be inserted as it is.
DEBUG = [("a second raid456 is refused", driver_swap.second_module), ("removal", driver_swap.removal)]

if __name__ == "__main__":
    run(CASES + (DEBUG if kernel.flavour() == "debug" else DEBIAN), cleanup=stop_all)
