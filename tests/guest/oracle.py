#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=8 disk-size=8 timeout=700
"""The kernel's own driver as the oracle: the same operations leave the same bytes on every member, and each driver
assembles, checks and reads what the other one wrote."""

import os
import sys
import threading
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers, under_each
from disk import Disk, SECTOR, Shadow, pattern
from geometry import LAYOUTS, LAYOUTS6
from raid import Array, rams, stop_all
from report import Failed, expect, note, run
import kernel

SIZE = 2  # MiB of each member


def seed_members(paths):
    """Gives the members bytes that are no valid parity."""
    for path in paths:
        with Disk(path) as disk:
            disk.write(0, pattern(("member", path), disk.size))


def parallel_writes(path, seed, count):
    """Four writers at once, each with its own sectors: 512 bytes to some KiB, next to each other's. All in the first 4 MiB."""
    problems = []

    def writer(number):
        try:
            with Disk(path) as disk:
                for turn in range(count):
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


def session(shape, members, size=SIZE, writes=40, begun=lambda array: None, ending=lambda array: None):
    """A life with every kind of write, which loses as many members as parity can replace; returns {moment: digests}.

    size: MiB of each member; the array has 4 or more. writes: how many of a kind. begun, ending: called with the array when it has
    been created, and before it is stopped.
    """
    disks = rams(members)
    spares = rams(2 if shape["level"] == 6 else 1, 6)
    seed_members(disks + spares)
    moments = {}
    array = Array.create(disks, size=size, **shape)
    begun(array)
    several = writes * 5 // 4
    moments["resynced"] = digests(array, disks)
    with Shadow(array.path) as shadow:
        shadow.bytes[:] = shadow.disk.read(0, shadow.length)
        shadow.random_writes(seed=1, count=writes)
        moments["random writes"] = digests(array, disks)
        shadow.fill(seed=2)
        moments["full stripes"] = digests(array, disks)
        parallel_writes(array.path, 3, several)
        moments["parallel writes"] = digests(array, disks)
        shadow.bytes[:] = shadow.disk.read(0, shadow.length)
        for lost in range(1, len(spares) + 1):
            array.fail(disks[lost])
            survivors = [disk for disk in disks if disk not in disks[1:lost + 1]]
            shadow.random_writes(seed=4 * lost, count=writes)
            if lost == len(spares):
                parallel_writes(array.path, 4 * lost + 1, several)
            moments[f"degraded writes, {lost} missing"] = digests(array, survivors)
            shadow.bytes[:] = shadow.disk.read(0, shadow.length)
        for lost in disks[1:len(spares) + 1]:
            array.remove(lost)
        array.add_together(spares)
        array.wait_rebuilt()
        disks[1:len(spares) + 1] = spares
        moments["rebuilt"] = digests(array, disks)
        array.expect_parity(shadow.bytes)
        # What is in memory hides what is on the members, and a small array is in memory whole.
        array.set("stripe_cache_size", "17")
        geometry = array.geometry()
        array.damage(*geometry.parity_of(1000), 4096)
        if geometry.level == 6:
            # Q alone, P and Q of one row, and a block of data, which repair believes.
            array.damage(*geometry.q_of(2000), 4096)
            array.damage(*geometry.parity_of(3000), 512)
            array.damage(*geometry.q_of(3000), 4096)
            array.damage(*geometry.locate(4000), 512)
        expect("repair", 8 * (4 if geometry.level == 6 else 1), array.scan("repair"))
        moments["repaired"] = digests(array, disks)
    ending(array)
    array.stop()
    return moments


def same_bytes(live):
    """Compares the sessions live(driver) under both drivers, block by block."""
    names = drivers()
    first, second = under_each(live)
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
    """An array goes from one driver to the other and back, whole and without as many members as parity can replace."""
    before = kernel.driver()
    disks = rams(5)
    lost, spares = (disks[2:4], rams(2, 6)) if shape["level"] == 6 else (disks[2:3], rams(1, 6))
    try:
        kernel.use_driver(first)
        seed_members(disks + spares)
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
        for path in lost:
            array.fail(path)
            shadow.random_writes(seed=9, count=60)
            array.remove(path)
        shadow.close()
        array.stop()
        kernel.use_driver(first)
        array = Array.assemble([disk for disk in disks if disk not in lost], "--run")
        shadow.reopen()
        shadow.verify(f"what {second} wrote without {len(lost)} of its members, read by {first} without them")
        shadow.random_writes(seed=10, count=60)
        array.add_together(spares)
        array.wait_rebuilt()
        shadow.close()
        array = array.reassemble()
        array.stop()
        kernel.use_driver(second)
        array = Array.assemble(array.members)
        array.expect_clean()
        shadow.reopen()
        shadow.verify(f"what {first} rebuilt, read by {second}")
        array.expect_parity(shadow.bytes)
        shadow.close()
    finally:
        stop_all()
        kernel.use_driver(before)


def cases():
    """Every layout, with shapes that take turns."""
    shapes = [(3, 64, "none"), (4, 4, "internal"), (5, 512, "none"), (6, 64, "internal")]
    layouts = [(4, None)] + [(5, layout) for layout in LAYOUTS] + [(6, layout) for layout in LAYOUTS6]
    for turn, (level, layout) in enumerate(layouts):
        members, chunk, bitmap = shapes[turn % 4]
        members = max(members, 4) if level == 6 else members
        shape = {"level": level, "layout": layout, "chunk": chunk, "bitmap": bitmap}
        yield (f"same bytes: raid{level} {layout or 'parity-last'}, {members} members, chunk {chunk}K, bitmap {bitmap}",
               lambda shape=shape, members=members: same_bytes(lambda driver: session(shape, members)))
    pair = ("the first driver", "the second")
    for turn, (level, layout) in enumerate([(5, None), (5, None), (6, None), (6, "ddf-zero-restart")]):
        shape = {"level": level, "layout": layout, "chunk": 16, "bitmap": ("internal", "none")[turn % 2]}
        yield (f"raid{level}: {pair[turn % 2]} creates, the other takes over",
               lambda turn=turn, shape=shape: handover(drivers()[turn % 2], drivers()[1 - turn % 2], shape))


if __name__ == "__main__":
    run(list(cases()), cleanup=stop_all)
