#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=12 timeout=120
"""Syncs that are interrupted before their first strip. md core uses the first numbers of how far a sync is as states, so that
"active, and nowhere yet" is 3; and takes it for a sector: the next check begins at sector 3, and a rebuild at sector 3 of a
member that holds nothing. The driver has to put that right before anybody records it, and where the C module has left it:
its stripes begin at 3, 11, 19, ... then, of arrays at rest too (RAID456_C=1 shows it in the cases that are not about both).
"""

import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, Shadow, pattern
from raid import Array, SECTOR, rams, stop_all
from rawmd import field
from report import Failed, Skipped, expect, note, run, wait_for
import kernel

STRIP = 8
RECOVERY_OFFSET = 2  # a bit of feature_map


def prepare(level, bitmap="none"):
    """An array in sync that is full of data."""
    if kernel.driver() == "c" and not os.environ.get("RAID456_C"):
        raise Skipped("the C module's stripes begin at sector 3 then")
    array = Array.create(rams(level - 1), level=level, size=4, bitmap=bitmap)
    shadow = Shadow(array.path)
    shadow.fill()
    return array, shadow


def interrupted(array, action):
    """A sync that begins is interrupted where it begins."""
    # A line tells how far it is only when it has begun.
    wait_for(f"{action} to begin", lambda: re.search(r"\] +\w+ += ", array.mdstat()), 20)
    array.set("sync_action", "frozen")
    wait_for(f"{action} interrupted", lambda: array.get("sync_completed") == "none", 20)


def spoil(array):
    """Takes a member out, and fills it with garbage."""
    path = array.members[0]
    array.fail(path)
    array.remove(path)
    with Disk(path) as disk:
        disk.write(0, pattern("garbage", disk.size))
    return path


def expect_rebuilt(array, shadow):
    """Ends the case unless all sectors are right once no member is missing."""
    array.set("sync_max", "max")
    array.set("sync_action", "idle")
    array.wait_rebuilt()
    with Disk(array.path) as disk:
        wrong = [at // SECTOR for at in range(0, len(shadow.bytes), SECTOR) if shadow.bytes[at:at + SECTOR] != disk.read(at, SECTOR)]
    expect("sectors of the array that are wrong", [], wrong)
    array.expect_parity(shadow.bytes)


def recorded(path):
    """Up to where a superblock says that its member is in sync; None if it is, or has none."""
    flags = field(path, "feature_map")
    return field(path, "recovery_offset") if flags & RECOVERY_OFFSET and not flags >> 16 else None


def asked_for(level):
    """A check after a repair that was interrupted."""
    array, shadow = prepare(level)
    array.set("sync_max", 0)
    array.set("sync_action", "repair")
    interrupted(array, "repair")
    expect("where the next check begins", "0", array.get("sync_min"))
    array.set("sync_max", "max")
    array.set("sync_action", "idle")
    expect("mismatch_cnt of a check of an array where all is right", 0, array.scan())
    array.set("sync_max", 0)
    array.set("sync_action", "repair")
    interrupted(array, "repair")
    array.set("sync_max", "max")
    array.damage(array.geometry().parity_slot(0), 0)
    array.set("sync_action", "idle")
    expect("mismatch_cnt of a repair with wrong parity in the first strip", 8, array.scan("repair"))
    array.expect_parity(shadow.bytes)
    shadow.close()


def rebuild(level, bitmap="none"):
    """A rebuild that was interrupted, of a member full of garbage; and what was recorded meanwhile."""
    array, shadow = prepare(level, bitmap)
    path = spoil(array)
    array.set("sync_max", 0)
    array.add(path)
    interrupted(array, "recover")
    expect("where the rebuild goes on", "0", array.member(path, "recovery_start"))
    wait_for("the superblock to say so", lambda: recorded(path) == 0, 10)
    expect_rebuilt(array, shadow)
    shadow.close()


def at_random(level):
    """A rebuild that is interrupted over and over again: no superblock ever tells of a part of a strip."""
    array, shadow = prepare(level)
    path = spoil(array)
    rng, seen = random.Random(level), set()

    def look():
        at = recorded(path)
        if at is not None:
            seen.add(at)
            if at % STRIP:
                raise Failed(f"recovery_offset in the superblock: expected a multiple of {STRIP}, came {at}")

    array.set("sync_max", 0)
    array.add(path)
    for turn in range(60):
        # Half of the time it cannot even begin.
        array.set("sync_max", 0 if turn % 2 else rng.randrange(0, array.data_size() // SECTOR, array.geometry().chunk))
        array.set("sync_action", "idle")
        time.sleep(rng.random() / 50)
        look()
        array.set("sync_action", "frozen")
        look()
        if array.get("degraded") == "0":
            break
    note(f"{len(seen)} different values in the superblock: {sorted(seen)[:6]}...")
    expect_rebuilt(array, shadow)
    shadow.close()


def left_by_c(level):
    """What the C module has left is put right when the array is assembled."""
    kernel.use_driver("c")
    array = Array.create(rams(level - 1), level=level, size=4)
    shadow = Shadow(array.path)
    shadow.fill()
    path = spoil(array)
    array.set("sync_max", 0)
    array.add(path)
    interrupted(array, "recover")
    shadow.close()
    array.stop()
    came = recorded(path)
    if not came or not came % STRIP:
        raise Skipped(f"md core of this kernel leaves {came}")
    note(f"ok: the superblock says that the member is in sync up to sector {came}")
    kernel.use_driver("rust")
    array = Array.assemble(array.members, "--run")
    shadow.reopen()
    expect_rebuilt(array, shadow)
    array.expect_clean()
    shadow.close()


def clean_up():
    """Our driver again, after the other one had its turn."""
    stop_all()
    if os.path.exists("/raid456/raid456.ko") and not os.environ.get("RAID456_C"):
        kernel.use_driver("rust")


if __name__ == "__main__":
    run([
        ("check, raid5", lambda: asked_for(5)),
        ("check, raid6", lambda: asked_for(6)),
        ("rebuild, raid5", lambda: rebuild(5)),
        ("rebuild, raid6", lambda: rebuild(6)),
        ("rebuild, raid5, bitmap", lambda: rebuild(5, "internal")),
        ("rebuild interrupted at random, raid5", lambda: at_random(5)),
        ("the C module's, raid5", lambda: left_by_c(5)),
        ("the C module's, raid6", lambda: left_by_c(6)),
    ], cleanup=clean_up)
