#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=8 timeout=360
"""The kernel's own driver as the oracle: the same operations leave the same bytes on every member, and each driver
assembles, checks and reads what the other one wrote."""

import os
import sys
import threading
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers, under_each
from disk import Disk, SECTOR, Shadow, pattern
from geometry import LAYOUTS
from raid import Array, rams, stop_all
from report import Failed, expect, note, run
import kernel

SIZE = 2  # MiB of each member


def seed_members(paths):
    """Gives the members bytes that are no valid parity."""
    for path in paths:
        with Disk(path) as disk:
            disk.write(0, pattern(("member", path), disk.size))


def parallel_writes(path, seed):
    """Four writers at once, each with its own sectors: 512 bytes to some KiB, next to each other's."""
    problems = []

    def writer(number):
        try:
            with Disk(path) as disk:
                for turn in range(50):
                    begin = (turn * 37 % 120) * 64 + number * 16
                    length = (turn * 7 + number) % 16 + 1
                    disk.write(begin * SECTOR, pattern((seed, number, turn), length * SECTOR))
        except OSError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def digests(array, paths):
    """For each member: a checksum of each 4 KiB block of its data area."""
    found = {}
    for path in paths:
        image = array.image(path)
        found[path] = [zlib.crc32(image[at:at + 4096]) for at in range(0, len(image), 4096)]
    return found


def session(shape, members):
    """A life with every kind of write; returns {moment: digests}."""
    disks = rams(members)
    spare = rams(1, 6)[0]
    seed_members(disks + [spare])
    moments = {}
    array = Array.create(disks, size=SIZE, **shape)
    moments["resynced"] = digests(array, disks)
    with Shadow(array.path) as shadow:
        shadow.bytes[:] = shadow.disk.read(0, shadow.length)
        shadow.random_writes(seed=1, count=40)
        moments["random writes"] = digests(array, disks)
        shadow.fill(seed=2)
        moments["full stripes"] = digests(array, disks)
        parallel_writes(array.path, 3)
        moments["parallel writes"] = digests(array, disks)
        shadow.bytes[:] = shadow.disk.read(0, shadow.length)
        lost = 1
        array.fail(disks[lost])
        survivors = [disk for disk in disks if disk != disks[lost]]
        shadow.random_writes(seed=4, count=40)
        parallel_writes(array.path, 5)
        moments["degraded writes"] = digests(array, survivors)
        array.remove(disks[lost])
        array.add(spare)
        array.wait_rebuilt()
        disks[lost] = spare
        moments["rebuilt"] = digests(array, disks)
        slot, sector = array.geometry().parity_of(1000)
        array.damage(slot, sector, 4096)
        expect("repair", 8, array.scan("repair"))
        moments["repaired"] = digests(array, disks)
    array.stop()
    return moments


def same_bytes(shape, members):
    """Compares the sessions under both drivers, block by block."""
    names = drivers()
    first, second = under_each(lambda driver: session(shape, members))
    blocks = 0
    for moment, members_then in first.items():
        for path, sums in members_then.items():
            other = second[moment][path]
            blocks += len(sums)
            differ = [at for at, pair in enumerate(zip(sums, other)) if pair[0] != pair[1]]
            if differ or len(sums) != len(other):
                raise Failed(f"after '{moment}', {path}: {len(differ)} of {len(sums)} blocks differ between "
                             f"{names[0]} and {names[1]}, the first at byte {differ[0] * 4096} of its data area")
    note(f"ok: {blocks} blocks at {len(first)} moments are equal under {names[0]} and {names[1]}")


def handover(first, second, shape):
    """An array goes from one driver to the other and back, whole and degraded."""
    before = kernel.driver()
    disks = rams(5)
    spare = rams(1, 6)[0]
    try:
        kernel.use_driver(first)
        seed_members(disks + [spare])
        array = Array.create(disks, size=SIZE, **shape)
        shadow = Shadow(array.path)
        shadow.fill()
        shadow.random_writes(seed=1, count=40)
        for turn, driver in enumerate((second, first, second)):
            shadow.close()
            array.stop()
            kernel.use_driver(driver)
            array = Array.assemble(disks)
            shadow.reopen()
            shadow.verify(f"what {first if driver == second else second} wrote, read by {driver}")
            array.expect_clean()
            shadow.random_writes(seed=turn + 20, count=40)
        array.fail(disks[2])
        shadow.random_writes(seed=9, count=60)
        array.remove(disks[2])
        shadow.close()
        array.stop()
        kernel.use_driver(first)
        array = Array.assemble([disk for disk in disks if disk != disks[2]], "--run")
        shadow.reopen()
        shadow.verify(f"what {second} wrote without a member, read by {first} without it")
        shadow.random_writes(seed=10, count=60)
        array.add(spare)
        array.wait_rebuilt()
        shadow.close()
        array = array.reassemble()
        array.stop()
        kernel.use_driver(second)
        array = Array.assemble(array.members)
        array.expect_clean()
        shadow.reopen()
        shadow.verify(f"what {first} rebuilt, read by {second}")
        shadow.close()
    finally:
        stop_all()
        kernel.use_driver(before)


def cases():
    """Every layout, with shapes that take turns."""
    shapes = [(3, 64, "none"), (4, 4, "internal"), (5, 512, "none"), (6, 64, "internal")]
    for turn, (level, layout) in enumerate([(4, None)] + [(5, layout) for layout in LAYOUTS]):
        members, chunk, bitmap = shapes[turn % 4]
        shape = {"level": level, "layout": layout, "chunk": chunk, "bitmap": bitmap}
        yield (f"same bytes: raid{level} {layout or 'parity-last'}, {members} members, chunk {chunk}K, bitmap {bitmap}",
               lambda shape=shape, members=members: same_bytes(shape, members))
    for turn in range(2):
        pair = ("the first driver", "the second")
        yield (f"{pair[turn]} creates, the other takes over",
               lambda turn=turn: handover(drivers()[turn], drivers()[1 - turn],
                                          {"chunk": 16, "bitmap": ("internal", "none")[turn]}))


if __name__ == "__main__":
    run(list(cases()), cleanup=stop_all)
