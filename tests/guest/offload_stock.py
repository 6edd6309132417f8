#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=debian disks=6 disk-size=16 mem=1024 cpus=2 timeout=300
"""Jobs on DMA engines in software on a stock kernel: the same bytes as under the kernel's driver, and engines that take their
time cost little throughput."""

import os
import sys
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers, under_each
from disk import Shadow
from offload import SIZE, array_on, engines, stats, tell, unload
from raid import Array, rams, stop_all
from report import expect, expect_range, note, run
import generator
import kernel


def digests(array):
    """For each member: a checksum of each 4 KiB block of its data area."""
    images = {path: array.image(path) for path in array.members}
    return {path: [zlib.crc32(image[at:at + 4096]) for at in range(0, len(image), 4096)] for path, image in images.items()}


def same_as_c(level):
    """The same operations leave the same bytes on the members as under the kernel's own driver."""
    def session(driver):
        for path in rams(5):
            with Shadow(path) as shadow:
                shadow.fill(seed=path)
        array = Array.create(rams(5), level=level, size=SIZE)
        if driver == "rust":
            array.set("offload", "dma")
        moments = []
        with Shadow(array.path) as shadow:
            shadow.bytes[:] = shadow.disk.read(0, shadow.length)
            shadow.random_writes(seed=1, count=20)
            moments.append(digests(array))
            shadow.fill(seed=2)
            moments.append(digests(array))
            array.fail(array.members[1])
            shadow.random_writes(seed=3, count=10)
            array.remove(array.members[1])
            array.add(array.members[1])
            array.wait_rebuilt()
            moments.append(digests(array))
        if driver == "rust":
            expect("strips by the CPU", 0, stats(array)["cpu"])
        array.stop()
        return moments

    names = drivers()
    results = []
    # What the kernel's own driver needs would use the engines too, also when that is gone.
    helpers = ("async_raid6_recov", "async_pq", "async_memcpy", "async_xor", "async_tx")

    def one(driver):
        if driver != "rust":
            results.append(session(driver))
            return
        expect("modules that stay", [], [name for name in helpers if kernel.loaded(name) and kernel.delete_module(name)])
        with engines():
            results.append(session(driver))

    under_each(one)
    for number, (first, second) in enumerate(zip(*results)):
        differ = [(path, at) for path in first for at, pair in enumerate(zip(first[path], second[path])) if pair[0] != pair[1]]
        expect(f"blocks that differ between {names[0]} and {names[1]} at moment {number}", [], differ[:10])


def throughput(path):
    """I/Os a second with 64 in flight."""
    return generator.load(path, "rw=randwrite bs=4k depth=64 seconds=2")["writes"] / 2


def delayed():
    """A millisecond for each operation costs little where 64 writes are in flight: nothing waits for a job."""
    with engines():
        array = array_on("dma")
        throughput(array.path)
        rates = {0: [], 1000: []}
        for _ in range(3):
            for delay, found in rates.items():
                tell("delay_us", delay)
                found.append(throughput(array.path))
        note(f"writes a second by delay in microseconds: {rates}")
        at_once, late = max(rates[0]), max(rates[1000])
        expect("with a delay of 1 ms more than 60 % of what there is without", True, late > 0.6 * at_once)
        # Copies in, then parity: a write takes two delays.
        expect("and more than there would be one after another", True, late > 1000 / 2)
        expect("done again by the CPU", 0, stats(array)["redone"])
        # Writes to the same place in one job are the CPU's.
        found = stats(array)
        expect_range("strips by the CPU", 0, found["dma"] // 10, found["cpu"])
        array.stop()


def cases():
    """All of them."""
    yield "raid5, the same bytes as under the kernel's driver", lambda: same_as_c(5)
    yield "raid6, the same bytes as under the kernel's driver", lambda: same_as_c(6)
    yield "a delay of 1 ms for each operation", delayed


if __name__ == "__main__":
    run(list(cases()), cleanup=lambda: (stop_all(), unload()))
