#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=6 disk-size=20 cpus=2 timeout=200
"""Memory of writes that another process changes all the time: what lands is anybody's guess, but parity matches it, whichever engine
makes it."""

import mmap
import multiprocessing
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import SECTOR
from parity_engine import load, usable
from raid import Array, rams, stop_all
from report import Skipped, expect, expect_range, run
import kernel

# Bytes of the memory that is written from, and seconds of it.
MEMORY = 256 * 1024
SECONDS = 1.5 * kernel.patience()


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


def parity_matches(level, members, rmw_level, largest, size=16):
    """Parity of an array that was written from changing memory matches its data."""
    array = Array.create(rams(members), level=level, size=size)
    array.set("rmw_level", rmw_level)
    expect_range("writes", 20, 1_000_000, write_changing(array, largest))
    array.expect_clean()


def other_engines():
    """So it does with each engine that is not the one that was chosen: whole strips, and small changes of level 6."""
    if kernel.driver() != "rust":
        raise Skipped("only this driver has engines to choose from")
    with open("/sys/module/raid456/parameters/parity_engine", encoding="ascii") as file:
        chosen = file.read().strip()
    try:
        for name in usable():
            if name == chosen:
                continue
            problem, _ = load(f"parity_engine={name}")
            expect(f"loading with {name}", "", problem)
            for rmw_level, largest in ((0, 256 << 10), (2, 8 << 10)):
                parity_matches(6, 6, rmw_level, largest, size=4)
                stop_all()
    finally:
        stop_all()
        kernel.use_driver("none")
        kernel.use_driver("rust")


if __name__ == "__main__":
    run([
        (f"level {level}, rmw_level {rmw_level}, writes of up to {largest >> 10} KiB",
         lambda level=level, members=members, rmw_level=rmw_level, largest=largest:
         parity_matches(level, members, rmw_level, largest))
        for level, members in ((5, 4), (6, 6))
        for rmw_level, largest in ((2, 64 << 10), (0, 16 << 10), (1, 256 << 10))
    ] + [("the other engines", other_engines)], cleanup=stop_all)
