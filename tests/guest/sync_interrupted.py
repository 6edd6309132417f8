#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=12 timeout=120
"""Syncs that are interrupted before their first strip. md core uses the first numbers of how far a sync is as states, so that
"active, and nowhere yet" is 3; and takes it for a sector: the next check begins at sector 3, and a rebuild at sector 3 of a
member that holds nothing. The driver has to see to it that no strip is left out, and none is taken from another one's sectors.

Under the C module all cases fail, on idle arrays too (RAID456_C=1 shows it): its stripes begin at 3, 11, 19, ...
"""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, Shadow, pattern
from raid import Array, SECTOR, rams, stop_all
from report import Skipped, expect, note, run, wait_for
import kernel


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


def begins_at_3(what, came):
    """Skips the case if md core has been mended."""
    if came != "3":
        raise Skipped(f"md core of this kernel has the next {what} begin at sector {came}")
    note(f"ok: md has the next {what} begin at sector 3")


def asked_for(level):
    """A check after a repair that was interrupted: it begins at sector 3."""
    array, shadow = prepare(level)
    array.set("sync_max", 0)
    array.set("sync_action", "repair")
    interrupted(array, "repair")
    begins_at_3("check", array.get("sync_min"))
    array.set("sync_max", "max")
    array.set("sync_action", "idle")
    expect("mismatch_cnt of a check of an array where all is right", 0, array.scan())
    # What it begins at from now on is 0.
    array.damage(array.geometry().parity_slot(0), 0)
    expect("mismatch_cnt with wrong parity in the first strip", 8, array.scan())
    array.scan("repair")
    array.set("sync_max", 0)
    array.set("sync_action", "repair")
    interrupted(array, "repair")
    array.set("sync_max", "max")
    array.damage(array.geometry().parity_slot(0), 0)
    array.set("sync_action", "idle")
    begins_at_3("repair", array.get("sync_min"))
    expect("mismatch_cnt of a repair with wrong parity in the first strip", 8, array.scan("repair"))
    array.expect_parity(shadow.bytes)
    shadow.close()


def rebuild(level, bitmap="none"):
    """A rebuild that was interrupted goes on at sector 3 of a member full of garbage."""
    array, shadow = prepare(level, bitmap)
    path = array.members[0]
    array.fail(path)
    array.remove(path)
    with Disk(path) as disk:
        disk.write(0, pattern("garbage", disk.size))
    array.set("sync_max", 0)
    array.add(path)
    interrupted(array, "recover")
    # md writes the superblocks before it ends.
    begins_at_3("rebuild", array.member(path, "recovery_start"))
    array.set("sync_max", "max")
    array.set("sync_action", "idle")
    array.wait_rebuilt()
    wrong = [at // SECTOR for at in range(0, len(shadow.bytes), SECTOR)
             if shadow.bytes[at:at + SECTOR] != pread(array, at)]
    expect("sectors of the array that are wrong", [], wrong)
    array.expect_parity(shadow.bytes)
    shadow.close()


def pread(array, at):
    """A sector of the array."""
    with Disk(array.path) as disk:
        return disk.read(at, SECTOR)


if __name__ == "__main__":
    run([
        ("check, raid5", lambda: asked_for(5)),
        ("check, raid6", lambda: asked_for(6)),
        ("rebuild, raid5", lambda: rebuild(5)),
        ("rebuild, raid6", lambda: rebuild(6)),
        ("rebuild, raid5, bitmap", lambda: rebuild(5, "internal")),
    ], cleanup=stop_all)
