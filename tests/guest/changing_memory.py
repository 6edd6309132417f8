#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=6 disk-size=20 cpus=2 timeout=150
"""Memory of writes that another process changes all the time: what lands is anybody's guess, but parity matches it."""

import mmap
import multiprocessing
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import SECTOR
from raid import Array, rams, stop_all
from report import expect_range, run

# Bytes of the memory that is written from, and seconds of it.
MEMORY = 256 * 1024
SECONDS = 1.5


def change(memory, stop):
    """Changes every byte of the memory, again and again."""
    fills = [bytes([value]) * MEMORY for value in (0x00, 0xff, 0x5a)]
    turn = 0
    while not stop.is_set():
        memory[:] = fills[turn % len(fills)]
        turn += 1


def write_changing(array, largest):
    """Writes pieces of the memory while it changes. Returns how many."""
    memory = mmap.mmap(-1, MEMORY)
    stop = multiprocessing.Event()
    changer = multiprocessing.Process(target=change, args=(memory, stop))
    changer.start()
    dice = random.Random(1)
    file = os.open(array.path, os.O_WRONLY | os.O_DIRECT)
    count = 0
    try:
        view = memoryview(memory)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            length = dice.randint(1, largest // SECTOR) * SECTOR
            start = dice.randrange(0, (MEMORY - length) // SECTOR + 1) * SECTOR
            place = dice.randrange(0, (array.size() - length) // SECTOR + 1) * SECTOR
            os.pwrite(file, view[start:start + length], place)
            count += 1
        view.release()
    finally:
        os.close(file)
        stop.set()
        changer.join()
    return count


def parity_matches(level, members, rmw_level, largest):
    """Parity of an array that was written from changing memory matches its data."""
    array = Array.create(rams(members), level=level, size=16)
    array.set("rmw_level", rmw_level)
    expect_range("writes", 20, 1_000_000, write_changing(array, largest))
    array.expect_clean()


if __name__ == "__main__":
    run([
        (f"level {level}, rmw_level {rmw_level}, writes of up to {largest >> 10} KiB",
         lambda level=level, members=members, rmw_level=rmw_level, largest=largest:
         parity_matches(level, members, rmw_level, largest))
        for level, members in ((5, 4), (6, 6))
        for rmw_level, largest in ((2, 64 << 10), (0, 16 << 10), (1, 256 << 10))
    ], cleanup=stop_all)
