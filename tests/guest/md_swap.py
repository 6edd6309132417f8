#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=24 timeout=240
"""What one driver has begun the other one ends: rebuilds, replacements and resyncs go on where they were, members that were
away get what either has written meanwhile, and what one has found to be bad the other does not believe. Level 6 goes from the
C module to ours, level 5 the other way; ALL=1 has each both ways."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from blocktrace import BlockTrace, sectors
from compare import drivers
from disk import Disk, SECTOR, Shadow, pattern
from mapper import dm, linear, refusing
from raid import Array, rams, speed_limit, stop_all
from report import expect, expect_range, run, wait_for
import kernel

SIZE = 4  # MiB of each member
HALF = 4096  # sectors
DRIVER = kernel.driver()


def filled(first, level, **shape):
    """A new array under the first driver, and a shadow of it."""
    kernel.use_driver(first)
    array = Array.create(rams(level - 1), level=level, size=SIZE, **shape)
    shadow = Shadow(array.path)
    shadow.fill()
    return array, shadow


def garbage(path):
    """A disk full of something else, without a superblock."""
    with Disk(path) as disk:
        disk.write(0, bytes(1 << 16) + pattern(("garbage", path), disk.size - (1 << 16)))
    return path


def hand_over(array, shadow, second, *options):
    """Stops the array, and assembles it under the other driver."""
    shadow.close()
    array.stop()
    kernel.use_driver(second)
    array = Array.assemble(array.members, *options)
    shadow.reopen()
    return array


def half(array):
    """Waits until a sync has come to the middle of the members, where it waits."""
    wait_for("the middle", lambda: array.get("sync_completed").startswith(f"{HALF} /"), 30)


def sound(array, shadow, lost):
    """Everything is right, also without some members."""
    shadow.verify("all of it")
    array.expect_clean()
    array.expect_parity(bytes(shadow.bytes))
    for path in lost:
        array.fail(path)
    shadow.verify(f"without {len(lost)}")
    shadow.close()


def rebuild(first, second, level, bitmap):
    """A member is rebuilt, half of it by each."""
    array, shadow = filled(first, level, bitmap=bitmap)
    old, new = array.members[1], garbage(rams(1, 6)[0])
    array.fail(old)
    array.remove(old)
    shadow.random_writes(seed=1, count=40)
    array.set("sync_max", HALF)
    array.add(new)
    half(array)
    shadow.random_writes(seed=2, count=60)
    array.members = [new if path == old else path for path in array.members if path != new]
    low = array.data_offset(new) // SECTOR
    with BlockTrace([new]) as trace:
        array = hand_over(array, shadow, second)
        array.wait_rebuilt()
    writes = trace.writes(new, low)
    expect("the first sector that the other one wrote, and how many", (HALF, array.data_size() // SECTOR - HALF),
           (min((bio.sector for bio in writes), default=low) - low, sectors(writes)))
    sound(array, shadow, [array.members[0], array.members[3]][:level - 4])


def replacement(first, second, level):
    """A member is replaced, half of it by each."""
    array, shadow = filled(first, level)
    old, new = array.members[2], garbage(rams(1, 6)[0])
    kernel.sh("mdadm", "--quiet", array.path, "--add-spare", new)
    array.set("sync_max", HALF)
    array.members.append(new)
    kernel.sh("mdadm", "--quiet", array.path, "--replace", old, "--with", new)
    half(array)
    shadow.random_writes(seed=3, count=60)
    low = array.data_offset(new) // SECTOR
    with BlockTrace([new]) as trace:
        array = hand_over(array, shadow, second)
        wait_for("the new one is the member", lambda: array.idle() and "in_sync" in array.state(new)
                 and "replacement" not in array.state(new), 60)
    writes = trace.writes(new, low)
    expect("the first sector that the other one wrote, and how many", (HALF, array.data_size() // SECTOR - HALF),
           (min((bio.sector for bio in writes), default=low) - low, sectors(writes)))
    array.remove(old)
    array.members.remove(old)
    sound(array, shadow, [new, array.members[0]][:level - 4])


def resync(first, second, level):
    """Parity is made, half of it by each: what is wrong in the first half afterwards stays, that of the second is mended."""
    kernel.use_driver(first)
    array = Array.create(rams(level - 1), level=level, size=SIZE, wait=False, speed=300)
    # It has to have begun: see sync_interrupted.py.
    wait_for("a begin", lambda: array.get("sync_completed")[0] in "123456789", 20)
    array.set("sync_action", "frozen")
    array.set("sync_max", HALF)
    array.set("sync_speed_max", 2000000)
    speed_limit()
    array.set("sync_action", "idle")
    half(array)
    with Shadow(array.path) as shadow:
        shadow.bytes[:] = shadow.disk.read(0, shadow.length)
        shadow.random_writes(seed=4, count=60)
        geometry = array.geometry()
        low, high = 3, (HALF + 2048) // geometry.chunk
        for stripe in (low, high):
            array.damage(geometry.row(stripe).p, stripe * geometry.chunk + 8)
        array = hand_over(array, shadow, second)
        array.wait_synced()
        expect("mismatches, of the first half", 8, array.scan())
        array.scan("repair")
        sound(array, shadow, array.members[:level - 4])


def away(first, second, level):
    """A member is away while one driver writes, and then the other one: it gets what either has written, and no more."""
    array, shadow = filled(first, level, bitmap="internal")
    old, all_members = array.members[1], list(array.members)
    array.clear_bits()
    array.fail(old)
    array.remove(old)
    shadow.write(0, pattern(1, 4096))
    array.members.remove(old)
    array = hand_over(array, shadow, second, "--run")
    shadow.write(array.size() // 2, pattern(2, 65536))
    array.members = all_members
    with BlockTrace([old]) as trace:
        array.add(old, "--re-add")
        array.wait_rebuilt()
    # One chunk of the bitmap, and one or two.
    chunk = int(array.get("bitmap/chunksize")) // SECTOR
    expect_range("sectors of it that were written", 2 * chunk, 4 * chunk, sectors(trace.writes(old, array.data_offset(old) // SECTOR)))
    sound(array, shadow, [array.members[0], old][:level - 4])


def bad_blocks(first, second, level):
    """Blocks that a member did not take under one driver are old there, and on its list: the other one reads them from the rest,
    and takes them off the list when it has written them."""
    kernel.use_driver(first)
    disks = rams(level - 1)
    under = disks[1]
    disks[1] = dm("weak", linear(under))
    array = Array.create(disks, level=level, size=SIZE)
    shadow = Shadow(array.path)
    shadow.fill()
    geometry = array.geometry()
    stripe = next(stripe for stripe in range(8, 16) if 1 in geometry.row(stripe).data)
    begin = array.data_offset(disks[1]) // SECTOR + stripe * geometry.chunk
    dm("weak", *refusing(under, begin, 64))
    # Of full stripes the C module does not take note of all: md_badblocks.py.
    data = pattern(2, shadow.length)
    for at in range(0, shadow.length, 65536):
        shadow.write(at, data[at:at + 65536])
    wait_for("64 sectors on the list", lambda: array.member(disks[1], "bad_blocks") == f"{begin} 64", 10)
    expect("the member stays", True, "in_sync" in array.state(disks[1]))
    dm("weak", linear(under))
    array = hand_over(array, shadow, second)
    expect("on the list under the other driver", f"{begin} 64", array.member(disks[1], "bad_blocks"))
    shadow.verify("with bad blocks")
    shadow.fill(seed=3)
    expect("on the list after all was written", "", array.member(disks[1], "bad_blocks"))
    sound(array, shadow, [disks[0], disks[2]][:level - 4])


def cleanup():
    """Takes everything down."""
    Disk.close_all()
    stop_all()
    kernel.use_driver(DRIVER)


if __name__ == "__main__":
    speed_limit()
    pairs = [(first, second) for first in drivers() for second in drivers() if first != second]
    pieces = (("rebuild", rebuild, "none"), ("rebuild with a bitmap", rebuild, "internal"), ("replacement", replacement),
              ("resync", resync), ("a member away", away), ("bad blocks", bad_blocks))
    run([(f"raid{level}, {first} then {second}: {title}", lambda body=body, args=(first, second, level, *more): body(*args))
         for level in (5, 6) for first, second in pairs for title, body, *more in pieces
         if os.environ.get("ALL") or (level == 6) == (second == "rust") and title != pieces[level - 5][0]], cleanup=cleanup)
