#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=12 timeout=200
"""Stops without a clean shutdown, and resyncs that were interrupted. A power cut is a copy of all members taken while
the array is active, put back after the array was stopped."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, Shadow, pattern
from raid import Array, rams, restore, snapshot, stop_all
from report import Skipped, expect, expect_match, expect_no_match, expect_range, note, run, wait_for
import kernel


def stay_active(array):
    """Keeps the array from being marked clean when it is idle."""
    array.set("safe_mode_delay", "600")


def cut(array, shadow):
    """Cuts the power: the members get what they hold now, the array is gone."""
    shadow.close()
    expect("the array is active, not clean", "active", array.get("array_state"))
    images = snapshot(array.members)
    array.stop()
    restore(images)


def active_array(bitmap, level=5, members=4):
    """A synced and filled array that will not become clean."""
    array = Array.create(rams(members), level=level, size=8, bitmap=bitmap)
    stay_active(array)
    shadow = Shadow(array.path)
    shadow.fill()
    return array, shadow


def without_bitmap():
    """The whole array is resynced: parity torn anywhere is mended."""
    array, shadow = active_array("none")
    shadow.random_writes(seed=3, count=20)
    cut(array, shadow)
    log = kernel.Log()
    array = Array.assemble(array.members)
    expect_match("the driver says why", r"not clean -- starting background reconstruction", log.text())
    array.wait_synced()
    expect_match("md", r"resync of RAID array md0", log.text())
    shadow.reopen()
    shadow.verify("what was acknowledged before the cut")
    array.expect_clean()


def torn_write():
    """Data reached its member and parity did not: the resync makes parity right."""
    array, shadow = active_array("none")
    shadow.write(5 * 4096, pattern(9, 4096))
    slot, sector = array.geometry().parity_of(5 * 8)
    array.damage(slot, sector, 4096)
    cut(array, shadow)
    array = Array.assemble(array.members)
    array.wait_synced()
    shadow.reopen()
    shadow.verify("data after the resync")
    array.expect_clean()
    array.fail(array.members[array.geometry().locate(5 * 8)[0]])
    shadow.verify("data read through the mended parity")


def check_instead():
    """Somebody asks for a check where a resync is due, while the array is frozen: md makes a resync of it. When that has ended parity
    counts as right, so it has to be."""
    array, shadow = active_array("none")
    geometry = array.geometry()
    array.set("sync_action", "frozen")
    places = [sector for sector in range(0, shadow.length // SECTOR, shadow.length // SECTOR // 5 // 8 * 8)]
    for sector in places:
        array.damage(*geometry.parity_of(sector), 4096)
    array.set("resync_start", "0")
    array.set("sync_action", "check")
    wait_for("the resync", lambda: array.get("resync_start") == "none" and array.idle(), 60)
    shadow.verify("data after the resync")
    array.expect_clean()
    array.expect_parity(shadow.bytes)
    shadow.close()


def torn_write6():
    """At level 6 data reached its member, P or Q or both did not: the resync makes both right."""
    array, shadow = active_array("none", 6)
    geometry = array.geometry()
    places = [(5 * 8, "P"), (900 * 8, "Q"), (1700 * 8, "PQ"), (3999 * 8, "PQ")]
    for sector, torn in places:
        shadow.write(sector * SECTOR, pattern(sector, 4096))
        if "P" in torn:
            array.damage(*geometry.parity_of(sector), 4096)
        if "Q" in torn:
            array.damage(*geometry.q_of(sector), 4096)
    cut(array, shadow)
    array = Array.assemble(array.members)
    array.wait_synced()
    shadow.reopen()
    shadow.verify("data after the resync")
    array.expect_parity(shadow.bytes)
    array.expect_clean()
    for slot in (geometry.locate(5 * 8)[0], geometry.parity_of(5 * 8)[0]):
        array.fail(array.members[slot])
    shadow.verify("data read through the mended Q")
    shadow.close()


def dirty_and_degraded6():
    """A level 6 array that was cut off while one member was missing, or loses one by the cut: refused, but not with md's
    start_dirty_degraded; then the resync makes right what is left, and a spare is rebuilt."""
    array, shadow = active_array("none", 6, 5)
    shadow.random_writes(seed=3, count=30)
    geometry = array.geometry()
    # Q of a row was on its way. The member that goes holds data there.
    sector = next(sector for sector in range(0, 16000, 8)
                  if 2 not in (geometry.parity_of(sector)[0], geometry.q_of(sector)[0]))
    shadow.write(sector * SECTOR, pattern(8, 4096))
    array.damage(*geometry.q_of(sector), 4096)
    present = [path for path in array.members if path != array.members[2]]
    gone = array.members[2]
    cut(array, shadow)
    log = kernel.Log()
    status = kernel.sh("mdadm", "--assemble", "/dev/md0", "--run", *present, check=False)[0]
    expect("mdadm --run fails", True, status != 0)
    expect_match("the log", r"cannot start dirty degraded array", log.text())
    kernel.sh("mdadm", "--stop", "/dev/md0", check=False)
    parameter = "/sys/module/md_mod/parameters/start_dirty_degraded"
    try:
        write_file(parameter, "1")
        log = kernel.Log()
        array = Array.assemble(present, "--run")
        expect_match("the log", r"starting dirty degraded array", log.text())
        array.wait_synced()
        expect_match("md", r"resync of RAID array md0", log.text())
    finally:
        write_file(parameter, "0")
    shadow.reopen()
    shadow.verify("data, without the member")
    images = [None if slot == 2 else array.image(array.slots()[slot]) for slot in range(5)]
    expect("the members that are there hold the array's data", True, geometry.assemble(images) == shadow.bytes)
    array.add(gone)
    array.wait_rebuilt()
    shadow.verify("after the rebuild")
    array.expect_parity(shadow.bytes)
    for slot in (0, 2):
        array.fail(array.slots()[slot])
    shadow.verify("through Q that was torn")
    shadow.close()


def dirty_without_parity(level, layout):
    """An array that was cut off, and comes back without the member that holds nothing but parity, starts: nothing of its
    data depends on what may be wrong. mdadm holds such an array of level 4 for complete, also with --force."""
    if kernel.driver() == "c":
        raise Skipped("the C module refuses it")
    array = Array.create(rams(level if level > 4 else 4), level=level, size=8, layout=layout)
    stay_active(array)
    shadow = Shadow(array.path)
    shadow.fill()
    shadow.write(5 * 4096, pattern(9, 4096))
    geometry = array.geometry()
    array.damage(*geometry.parity_of(5 * 8), 4096)
    cut(array, shadow)
    gone = array.members[geometry.parity_of(0)[0]]
    present = [path for path in array.members if path != gone]
    data = next(path for path in present if path != array.members[-1])
    status = kernel.sh("mdadm", "--assemble", "/dev/md0", "--run", *[path for path in array.members if path != data], check=False)[0]
    expect("mdadm --run without a member that holds data fails", True, status != 0)
    kernel.sh("mdadm", "--stop", "/dev/md0", check=False)
    array = Array.assemble(present, "--run")
    shadow.reopen()
    shadow.verify("data, without the member")
    array.wait_synced()
    array.add(gone)
    array.wait_rebuilt()
    shadow.verify("after the rebuild")
    array.expect_parity(shadow.bytes)
    shadow.close()


def write_file(path, text):
    """Writes a small file."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def with_bitmap():
    """Only chunks with a set bit are resynced: torn parity there is mended, and what lies elsewhere is not touched."""
    array, shadow = active_array("internal")
    # The daemon clears the bits of the filling; then a write sets one again.
    array.clear_bits()
    geometry = array.geometry()
    dirty, clean = 2 * geometry.chunk * geometry.data, 80 * geometry.chunk * geometry.data
    array.set("bitmap/time_base", "60")
    shadow.write(dirty * SECTOR, pattern(4, 4096))
    expect_range("chunks with a set bit", 1, 2, array.dirty_bits())
    for sector in (dirty, clean):
        array.damage(*geometry.parity_of(sector))
    cut(array, shadow)
    log = kernel.Log()
    array = Array.assemble(array.members)
    array.wait_synced()
    expect_match("md", r"resync of RAID array md0", log.text())
    expect("mismatch_cnt: only the damage outside of the set bits is left", 8, array.scan())
    shadow.reopen()
    shadow.verify("data after the resync")


def clean_stop():
    """After a clean stop nothing is resynced."""
    for bitmap in ("none", "internal"):
        array = Array.create(rams(4), size=8, bitmap=bitmap)
        with Shadow(array.path) as shadow:
            shadow.fill()
            shadow.close()
            log = kernel.Log()
            array = array.reassemble()
            expect("resync_start", "none", array.get("resync_start"))
            array.wait_idle()
            expect_no_match(f"resync, bitmap {bitmap}", r"resync of RAID array", log.text())
            shadow.reopen()
            shadow.verify()
        stop_all()


def resumed():
    """A resync that was stopped half way goes on from there."""
    for path in rams(4):
        with Disk(path) as disk:
            disk.write(0, pattern(path, disk.size))
    array = Array.create(rams(4), size=8, wait=False, extra=["--readonly"])
    chunk = array.geometry().chunk
    half = array.data_size() // SECTOR // 2 // chunk * chunk
    array.set("sync_max", half)
    array.set("array_state", "active")
    wait_for("resync at half", lambda: array.get("sync_completed").startswith(f"{half} /"), 30)
    for row in (0, half - 8):
        expect(f"parity at sector {row} is right", True, array.row_parity_right(row))
    expect(f"parity at sector {half} is not yet", False, array.row_parity_right(half))
    array.stop()
    array = Array(rams(4))
    # Damage in the part that is done shows whether the resync starts again.
    with Disk(rams(1)[0]) as disk:
        place = member_offset(rams(1)[0]) + 16 * SECTOR
        disk.write(place, bytes(byte ^ 1 for byte in disk.read(place, SECTOR)))
    array = Array.assemble(rams(4))
    array.wait_synced()
    expect("mismatch_cnt: only the damage in the part that was done before", 8, array.scan())


def member_offset(path):
    """Byte of a stopped member's data area, from its superblock."""
    text = kernel.sh("mdadm", "--examine", path)[1]
    return int(text.split("Data Offset :")[1].split()[0]) * SECTOR


def writes_before_resync(level=5):
    """Where parity is not known to be right, a write of a part of a row makes it right, and reads are right."""
    for path in rams(4):
        with Disk(path) as disk:
            disk.write(0, pattern(path, disk.size))
    array = Array.create(rams(4), level=level, size=8, wait=False, extra=["--readonly"])
    array.set("sync_max", 0)
    array.set("array_state", "active")
    geometry = array.geometry()
    with Shadow(array.path) as shadow:
        shadow.bytes[:] = shadow.disk.read(0, shadow.length)
        if level == 6:
            array.set("rmw_level", 2)
        for turn, (sector, length) in enumerate(((3, 1), (1000, 8), (7001, 20), (20000, 9))):
            row = geometry.locate(sector)[1]
            expect(f"parity at sector {row} before the write", False, array.row_parity_right(row))
            shadow.write(sector * SECTOR, pattern(turn, length * SECTOR))
            for each in range(sector, sector + length):
                if not array.row_parity_right(geometry.locate(each)[1]):
                    expect(f"parity at sector {geometry.locate(each)[1]} after the write", True, False)
            note(f"ok: parity is right after a write of {length} sectors at {sector}")
        shadow.verify("reads while parity is not known to be right")
        array.set("sync_max", "max")
        array.wait_synced()
        shadow.verify("reads after the resync")
        array.expect_clean()
        for path in array.members[1:level - 3]:
            array.fail(path)
        shadow.verify("reads without as many members as parity can replace")


if __name__ == "__main__":
    run([
        ("without bitmap: everything is resynced", without_bitmap),
        ("a torn write is mended", torn_write),
        ("a check is asked for where a resync is due", check_instead),
        ("with bitmap: only what was dirty is resynced", with_bitmap),
        ("a clean stop needs no resync", clean_stop),
        ("an interrupted resync goes on", resumed),
        ("writes before the resync", writes_before_resync),
        ("raid6: a torn write is mended", torn_write6),
        ("raid6: cut off with a member missing", dirty_and_degraded6),
        ("raid6: writes before the resync", lambda: writes_before_resync(6)),
        ("raid4: cut off, and without parity afterwards", lambda: dirty_without_parity(4, None)),
        ("raid5: cut off, and without parity afterwards", lambda: dirty_without_parity(5, "parity-last")),
    ], cleanup=stop_all)
