#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=16 timeout=120
"""Requests of very many segments, and members that take only a few at a time: memory of 512 bytes here and 512 bytes there, as
much as a system call takes, to and from arrays on plain members, on members to which 4 KiB can be sent at a time, in which
no page may begin or end in the middle, and on members that take one or three pieces of memory at a time. Everything is where it should be, also without a member and after its rebuild."""

import mmap
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from nullblk import nullb, remove_all
from raid import Array, rams, stop_all
from report import Failed, expect, expect_range, note, run
import kernel
from torture import Disks

SECTOR = 512
# What one system call takes.
MOST = 1024
SIZE = 8  # MiB of each member
NARROW = 2  # And of each of those that take little at a time: every piece is a write of its own.


class Scattered:
    """A device whose requests are to and from memory in pieces of a sector, none of them beside another."""

    def __init__(self, path):
        self._file = os.open(path, os.O_RDWR | os.O_DIRECT)
        self._buffer = mmap.mmap(-1, 3 * SECTOR * MOST)
        view = memoryview(self._buffer)
        # A third of the memory, in any order.
        self._pieces = [view[3 * SECTOR * number:][:SECTOR] for number in range(MOST)]
        random.Random(3).shuffle(self._pieces)

    def write(self, offset, data):
        """Writes up to MOST sectors."""
        pieces = self._pieces[:len(data) // SECTOR]
        for number, piece in enumerate(pieces):
            piece[:] = data[number * SECTOR:][:SECTOR]
        done = os.pwritev(self._file, pieces, offset)
        if done != len(data):
            raise Failed(f"a write of {len(data)} bytes: {done} were written")

    def read(self, offset, length):
        """Reads up to MOST sectors."""
        pieces = self._pieces[:length // SECTOR]
        done = os.preadv(self._file, pieces, offset)
        if done != length:
            raise Failed(f"a read of {length} bytes: {done} were read")
        return b"".join(pieces)

    def close(self):
        """Closes the device."""
        os.close(self._file)


def compare(disk, content, what):
    """Ends the case unless the device holds this."""
    for offset in range(0, len(content), MOST * SECTOR):
        expected = content[offset:offset + MOST * SECTOR]
        if disk.read(offset, len(expected)) != bytes(expected):
            raise Failed(f"{what}: not what was written, in the {MOST} sectors from byte {offset} on")
    note(f"ok: {what}: {len(content)} bytes as they were written")


def limits(path):
    """What the array says of its requests."""
    def limit(name):
        with open(f"/sys/block/{os.path.basename(path)}/queue/{name}", encoding="ascii") as file:
            return int(file.read())
    return {name: limit(name) for name in ("max_segments", "max_sectors_kb", "virt_boundary_mask")
            if os.path.exists(f"/sys/block/{os.path.basename(path)}/queue/{name}")}


def scattered(members, spare, level, size=SIZE):
    """Whole stripes, small pieces, odd places; a lost member, a rebuild."""
    array = Array.create(members, level=level, size=size, chunk=32)
    note(f"limits: {limits(array.path)}")
    dice = random.Random(level)
    content = bytearray(dice.randbytes(array.size()))
    disk = Scattered(array.path)
    for offset in range(0, len(content), MOST * SECTOR):
        disk.write(offset, content[offset:offset + MOST * SECTOR])
    compare(disk, content, "written in the largest requests")
    for _ in range(150):
        count = dice.choice((1, 3, 17, 100, 512, MOST))
        offset = dice.randrange(len(content) // SECTOR - count) * SECTOR
        content[offset:offset + count * SECTOR] = data = dice.randbytes(count * SECTOR)
        disk.write(offset, data)
    compare(disk, content, "written at any place")
    array.expect_parity(bytes(content))
    array.fail(members[1])
    compare(disk, content, "without a member")
    for _ in range(50):
        count = dice.choice((1, 9, 200, MOST))
        offset = dice.randrange(len(content) // SECTOR - count) * SECTOR
        content[offset:offset + count * SECTOR] = data = dice.randbytes(count * SECTOR)
        disk.write(offset, data)
    array.remove(members[1])
    array.add(spare)
    array.wait_rebuilt()
    disk.close()
    array.members.remove(members[1])
    array.expect_clean()
    array.expect_parity(bytes(content))


def written(path):
    """How many writes a device has done, and of how many sectors they were."""
    with open(f"/sys/block/{os.path.basename(path)}/stat", encoding="ascii") as file:
        words = file.read().split()
    return int(words[4]), int(words[6])


def narrow(level):
    """On members that take 8 sectors at a time."""
    members = [nullb(f"narrow{number}", NARROW + 4, max_sectors=8, virt_boundary=1) for number in range(5)]
    expect_range("KiB at a time that a member takes", 1, 4, limits(members[0])["max_sectors_kb"])
    scattered(members[:4], members[4], level, NARROW)
    for path in members:
        writes, sectors = written(path)
        expect_range(f"sectors that {path} has written", NARROW * 2048, 1 << 40, sectors)
        expect_range("writes that this took it, at most 8 sectors each", -(-sectors // 8), sectors, writes)


def few(level, segments):
    """On members that take few pieces of memory at a time. A bio of the driver's may have sixteen, a page each."""
    disks = Disks(5, NARROW + 4, segments=segments)
    with open("/sys/block/frail0/queue/max_segments", encoding="ascii") as file:
        expect("pieces of memory that a member takes", segments, int(file.read()))
    scattered(disks.paths[:4], disks.paths[4], level, NARROW)
    if kernel.least():
        # One strip at a time: a bio has one page.
        return
    counts = dict(line.split() for line in Array([]).get("counters").splitlines())
    bios = int(counts["member_writes"])
    # Whether two pages lie together is chance.
    expect_range(f"what members have made of {bios} writes", bios * 3 // 2, 1 << 40, sum(disks.state(path)["writes"] for path in disks.paths))


def cleanup():
    """Everything goes."""
    stop_all()
    remove_all()
    Disks.remove()


if __name__ == "__main__":
    run([
        ("raid5 on plain members", lambda: scattered(rams(4), rams(5)[4], 5)),
        ("raid6 on plain members", lambda: scattered(rams(4), rams(5)[4], 6)),
        ("raid5 on members that take 4 KiB at a time", lambda: narrow(5)),
        ("raid6 on members that take 4 KiB at a time", lambda: narrow(6)),
        ("raid5 on members that take one piece of memory at a time", lambda: few(5, 1)),
        ("raid6 on members that take three pieces at a time", lambda: few(6, 3)),
    ], cleanup=cleanup)
