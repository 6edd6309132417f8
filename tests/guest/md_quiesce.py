#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=24 timeout=240
"""What makes md stop the array for a moment, again and again while requests are in flight: nothing hangs, nothing is
lost. Level 5 has four members, level 6 five; what is the same for both goes to one or the other."""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, pattern
from load import Load
from raid import Array, FULL_SPEED, rams, stop_all
from report import expect, expect_range, note, run, wait_for, within
import kernel


def under_load(level, change, **load):
    """Calls change(array, turn) again and again while fio works; then everything must be right."""
    array = Array.create(rams(level - 1), level=level, size=16)
    words = {"seconds": 2.5, "jobs": 2, "depth": 32, "largest": "128k", **load}
    words["seconds"] *= kernel.patience()
    work = Load(array.path, array.size(), **words)
    turn, least = 0, 3 if kernel.SLOW == 1 else 1
    while turn < least or work.running():
        if not work.running():
            # A change may take longer than that on a slow machine.
            work.finish()
            work = Load(array.path, array.size(), **words)
        change(array, turn)
        turn += 1
    work.finish()
    note(f"{turn} changes while fio ran")
    array.try_set("sync_action", "idle")
    array.wait_idle()
    array.expect_clean()


def bitmap(array, turn):
    """Adds a bitmap, or takes it away."""
    array.grow(f"--bitmap={'none' if turn % 2 else 'internal'}")


def settings(array, turn):
    """The driver's own settings, most of which stop the array."""
    array.set("group_thread_cnt", (0, 1, 4, 2)[turn % 4])
    array.set("skip_copy", turn % 2)
    array.set("rmw_level", turn % 3)
    array.set("preread_bypass_threshold", turn % 17)
    if kernel.driver() == "rust" and len(array.members) == 5:
        array.set("mismatch_method", ("locate", "parity", "locate-check")[turn % 3])


def cache_size(array, turn):
    """From the smallest stripe cache to a large one and back."""
    array.set("stripe_cache_size", (17, 2048, 64, 256)[turn % 4])


def suspension(array, turn):
    """A part of the array is closed for writes, for some milliseconds."""
    begin = turn * 2048 % 20000
    array.set("suspend_hi", begin + 4096)
    array.set("suspend_lo", begin)
    time.sleep(0.02)
    array.set("suspend_lo", 0)
    array.set("suspend_hi", 0)


def actions(array, turn):
    """Checks that start, stop, freeze and go on (EBUSY: the one before is still ending)."""
    array.try_set("sync_action", ("check", "idle", "frozen", "idle")[turn % 4])
    time.sleep(0.01)


def suspended_range():
    """While a range is suspended its writes wait and its reads do not; other writes go on. When it ends they end."""
    array = Array.create(rams(5), level=6, size=8)
    done = []

    def write(name, sector):
        with Disk(array.path) as disk:
            disk.write(sector * SECTOR, pattern(name, 4096))
        done.append(name)

    array.set("suspend_hi", 8192)
    array.set("suspend_lo", 4096)
    threads = [threading.Thread(target=write, args=args, daemon=True)
               for args in (("inside", 5000), ("before", 1000), ("after", 9000))]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join(10 * kernel.patience())
    time.sleep(0.3)
    expect("writes that ended", ["after", "before"], sorted(done))
    with Disk(array.path) as disk:
        expect("bytes of a read inside", 4096, len(disk.read(5000 * SECTOR, 4096)))
    array.set("suspend_lo", 0)
    array.set("suspend_hi", 0)
    threads[0].join(10 * kernel.patience())
    expect("writes that ended after the suspension", ["after", "before", "inside"], sorted(done))
    with Disk(array.path) as disk:
        expect("what was written inside", True, disk.read(5000 * SECTOR, 4096) == pattern("inside", 4096))
    array.expect_clean()


def failure_and_settings(level):
    """Settings change while members, one or two at a time, fail and are rebuilt under load."""
    def change(array, turn):
        lost = [array.members[(turn + step) % 4] for step in range(level - 4)]
        settings(array, turn)
        for path in lost:
            array.fail(path)
            cache_size(array, turn)
        for path in lost:
            array.remove(path)
        array.add_together(lost)
        settings(array, turn + 1)
        array.wait_rebuilt()
    under_load(level, change, seconds=4)


def queue_limits():
    """skip_copy, which is a limit of the array's queue, is stored while others are, under load. Who stores one of these waits until no request
    is in the queue, where they wait while the array is stopped for skip_copy: this must not wait for him, too. It may be refused."""
    array = Array.create(rams(4), size=16)
    work = Load(array.path, array.size(), seconds=4 * kernel.patience(), jobs=2, depth=32, largest="128k")
    enough, problems = threading.Event(), []

    def limits():
        turn = 0
        while not enough.is_set():
            turn += 1
            try:
                with open(f"/sys/block/{array.name}/queue/max_sectors_kb", "w", encoding="ascii") as file:
                    file.write(str((64, 128)[turn % 2]))
            except OSError as problem:
                problems.append(problem)
            time.sleep(0.002)

    others = threading.Thread(target=limits, daemon=True)
    others.start()
    ends = []
    while work.running():
        ends.append(within(20, lambda: array.try_set("skip_copy", len(ends) % 2)))
    enough.set()
    within(20, others.join)
    work.finish()
    note(f"skip_copy was stored {ends.count('')} times and refused {ends.count('EBUSY')} times")
    expect("other ends of storing it", set(), set(ends) - {"", "EBUSY"})
    expect("problems of who stores other limits", [], problems)
    for value in "10":
        array.set("skip_copy", value)
        expect("skip_copy", value, array.get("skip_copy"))
    array.expect_clean()


def stop_during_check():
    """Stopping the array ends a check, a resync and a rebuild that are under way."""
    for name, level in (("resync", 6), ("check", 5), ("recover", 6)):
        resync = name == "resync"
        array = Array.create(rams(level - 1), level=level, size=16, wait=not resync, speed=1000 if resync else FULL_SPEED)
        array.set("sync_speed_max", 1000)
        array.set("sync_speed_min", 1000)
        if name == "check":
            array.set("sync_action", "check")
        elif name == "recover":
            lost = array.members[1:3]
            for path in lost:
                array.fail(path)
                array.remove(path)
            array.add_together(lost)
        wait_for(f"a {name}", lambda: array.action() == name, 10)
        begin = time.monotonic()
        array = array.reassemble()
        expect_range(f"seconds that stopping during {name} takes, and an assembly", 0, 10 * kernel.SLOW, time.monotonic() - begin)
        array.wait_synced()
        array.expect_clean()
        stop_all()


if __name__ == "__main__":
    run([
        ("raid5: bitmap on and off", lambda: under_load(5, bitmap)),
        ("raid5: settings", lambda: under_load(5, settings)),
        ("raid6: settings", lambda: under_load(6, settings)),
        ("raid6: cache size", lambda: under_load(6, cache_size)),
        ("raid5: suspended ranges", lambda: under_load(5, suspension, mix="randwrite")),
        ("raid6: checks that start and stop", lambda: under_load(6, actions)),
        ("raid5: settings while members fail", lambda: failure_and_settings(5)),
        ("raid6: settings while two members at a time fail", lambda: failure_and_settings(6)),
        ("writes into a suspended range wait", suspended_range),
        ("skip_copy while other limits are stored", queue_limits),
        ("stop during resync, check and rebuild", stop_during_check),
    ], cleanup=stop_all)
