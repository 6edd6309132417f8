#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=4 disk-size=16 timeout=150
"""A block of a member that changed behind the array's back: check finds it, repair mends parity from data."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import SECTOR, Shadow
from raid import Array, rams, stop_all
from report import Skipped, expect, expect_match, note, run, wait_for
import kernel

# A sector of the array in the middle of a chunk, away from both ends.
PLACE = 3000


def prepare(level=5):
    """A synced, filled array of four members and its shadow."""
    array = Array.create(rams(4), level=level, size=4)
    shadow = Shadow(array.path)
    shadow.fill()
    array.expect_clean()
    return array, shadow


def found_and_mended(array, count):
    """check counts the mismatches, a second check too; repair mends them."""
    expect("mismatch_cnt after check", count, array.scan())
    expect("and it is still there after check", count, array.scan())
    expect("repair counts it", count, array.scan("repair"))
    array.expect_clean()


def damaged_parity(level=5):
    """One sector of a parity block: the whole 4 KiB row counts, and data is as before."""
    array, shadow = prepare(level)
    slot, sector = array.geometry().parity_of(PLACE)
    note(f"one sector of parity: slot {slot}, sector {sector}")
    array.damage(slot, sector)
    log = kernel.Log()
    found_and_mended(array, 8)
    if level == 5:  # These messages are rate limited: only the first case of a boot can count on one.
        expect_match("the log names the place", r"md0: mismatch sector in range [0-9]+-[0-9]+", log.text())
    shadow.verify("data after the repair of parity")
    shadow.close()


def damaged_data():
    """One sector of a data block: parity follows data, whatever data says."""
    array, shadow = prepare()
    slot, sector = array.geometry().locate(PLACE)
    note(f"one sector of data: slot {slot}, sector {sector}")
    array.damage(slot, sector)
    for at in range(PLACE * SECTOR, (PLACE + 1) * SECTOR):
        shadow.bytes[at] ^= 0x5a
    found_and_mended(array, 8)
    shadow.verify("repair believes data")
    shadow.close()


def damaged_everywhere():
    """Many rows, on every member, the first and the last one among them: each is counted once."""
    array, shadow = prepare()
    rows = (0, 8, 17 * 8, 127 * 8, 128 * 8, 500 * 8, array.data_size() // SECTOR - 8)
    for turn, row in enumerate(rows):
        sector = row + turn % 8
        slot = array.geometry().parity_slot(row // array.geometry().chunk)
        array.damage(slot, sector)
    found_and_mended(array, 8 * len(rows))
    shadow.verify("data after the repair of parity")
    shadow.close()


def windows():
    """sync_min and sync_max limit a check to a part of the array."""
    array, shadow = prepare()
    chunk = array.geometry().chunk
    for row in (0, 20 * chunk, 40 * chunk):
        array.damage(array.geometry().parity_slot(row // chunk), row)
    array.set("sync_max", 30 * chunk)
    array.set("sync_min", 10 * chunk)
    array.set("sync_action", "check")
    # At sync_max the sync thread waits for more.
    wait_for("check at sync_max", lambda: array.get("sync_completed").startswith(f"{30 * chunk} /"), 30)
    expect("mismatch_cnt in the window", 8, int(array.get("mismatch_cnt")))
    array.set("sync_action", "idle")
    array.wait_idle()
    array.set("sync_min", 0)
    array.set("sync_max", "max")
    found_and_mended(array, 24)
    shadow.close()


def cached_blocks():
    """check reads the members even if the array has just written the block and may have it in memory."""
    if kernel.driver() == "c":
        raise Skipped("the C module checks what its stripe cache holds")
    array, shadow = prepare()
    shadow.write(PLACE * SECTOR, b"\x77" * 4096)
    slot, sector = array.geometry().parity_of(PLACE)
    array.damage(slot, sector)
    found_and_mended(array, 8)
    shadow.write(PLACE * SECTOR, b"\x78" * 4096)
    array.expect_clean()
    shadow.verify()
    shadow.close()


if __name__ == "__main__":
    run([
        ("damaged parity, raid5", damaged_parity),
        ("damaged parity, raid4", lambda: damaged_parity(4)),
        ("damaged data", damaged_data),
        ("damaged rows on every member", damaged_everywhere),
        ("a check of a part", windows),
        ("check does not believe the cache", cached_blocks),
    ], cleanup=stop_all)
