#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=1 disk-size=1200 mem=2600 timeout=480
"""Many members, and many arrays at once. The members are slices of one RAM disk."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Shadow
from mapper import dm_all
from raid import Array, rams, stop_arrays
from report import expect, note, run, wait_for


_made = {}


def slices(count, mib):
    """Devices of `mib` MiB each, side by side on the RAM disk. They stay: to remove one takes longer than to use it."""
    disk, = rams(1)
    missing = range(len(_made.setdefault(mib, [])), count)
    if missing:
        _made[mib] += dm_all({f"slice{mib}-{number}": f"0 {mib * 2048} linear {disk} {number * mib * 2048}"
                              for number in missing})
    return _made[mib][:count]


def widest(level=5, layout=None):
    """255 members: 254 or 253 data blocks a row."""
    disks = slices(255, 4)
    array = Array.create(disks, level=level, layout=layout, chunk=4, size=1)
    lost = disks[200:202] if level == 6 else disks[200:201]
    _seen.clear()
    with Shadow(array.path) as shadow:
        expect("size of the array", (255 - len(lost)) << 20, shadow.length)
        for part in (0, 100 << 20, shadow.length - (4 << 20)):
            shadow.random_writes(seed=part + 1, count=40, longest=1 << 20, begin=part, end=part + (4 << 20))
        ranges = [(part, 4 << 20) for part in (0, 100 << 20, shadow.length - (4 << 20))]
        untouched = shadow.disk.hash(16 << 20, 16 << 20)
        for path in lost:
            array.fail(path)
        for turn, (begin, length) in enumerate(ranges):
            # Only what was written is known.
            known(shadow, begin, length)
            shadow.random_writes(seed=turn + 77, count=20, longest=1 << 20, begin=begin, end=begin + length)
        for path in lost:
            array.remove(path)
        array.add_together(lost)
        array.wait_rebuilt()
        for begin, length in ranges:
            known(shadow, begin, length)
        expect("the rest is as before", untouched, shadow.disk.hash(16 << 20, 16 << 20))
    array.expect_clean()
    if level == 6:
        array.expect_parity()


def known(shadow, begin, length):
    """Compares a range; the first time, takes over what was not written through the shadow."""
    came = shadow.disk.read(begin, length)
    if begin not in _seen:
        _seen.add(begin)
        for at in range(0, length, 512):
            if shadow.bytes[begin + at:begin + at + 512] == bytes(512):
                shadow.bytes[begin + at:begin + at + 512] = came[at:at + 512]
    shadow.verify(f"{length} bytes at {begin}", begin, length)


_seen = set()


def many_arrays():
    """Twelve arrays of levels 5 and 6: created, resynced, written, degraded, rebuilt and stopped side by side."""
    count = 12
    disks = slices(5 * count, 6)
    arrays = [Array.create(disks[5 * number:5 * number + (4 if number % 3 == 2 else 3)], size=2, name=f"md{number}",
                           level=6 if number % 3 == 2 else 5, wait=False, bitmap=("none", "internal")[number % 2])
              for number in range(count)]
    for array in arrays:
        array.wait_synced()
    note(f"ok: {count} arrays resynced")
    shadows = [Shadow(array.path) for array in arrays]
    problems = []

    def work(number):
        try:
            shadow, array, spare = shadows[number], arrays[number], disks[5 * number + 4]
            shadow.fill(seed=number)
            shadow.random_writes(seed=number, count=20)
            array.fail(array.members[number % 3])
            shadow.random_writes(seed=number + 50, count=20)
            array.add(spare)
            shadow.random_writes(seed=number + 90, count=20)
            array.wait_rebuilt()
            shadow.verify(f"{array.name}")
            expect(f"{array.name}: mismatch_cnt after check", 0, array.scan())
        except Exception as problem:  # Each thread's problem belongs to the case.
            problems.append(f"md{number}: {problem}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect("problems", [], problems)
    for shadow in shadows:
        shadow.close()
    stoppers = [threading.Thread(target=array.stop) for array in arrays]
    for thread in stoppers:
        thread.start()
    for thread in stoppers:
        thread.join()
    wait_for("all stopped", lambda: not any(array.mdstat() for array in arrays), 10)


if __name__ == "__main__":
    run([
        ("255 members", widest),
        ("raid6, 255 members", lambda: widest(6)),
        ("twelve arrays", many_arrays),
    ], cleanup=stop_arrays)
