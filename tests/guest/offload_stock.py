#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=debian disks=8 disk-size=8 mem=1024 cpus=2 timeout=450
"""Jobs on DMA engines in software on a stock kernel: the same bytes as under the kernel's driver, and engines that take their
time cost little throughput."""

import os
import sys
from statistics import median

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from offload import SIZE, array_on, done, engines, stats, tell, unload
from oracle import same_bytes, session
from raid import stop_all
from report import expect, expect_range, note, run
import generator
import kernel


def same_as_c(level, members, layout=None):
    """A life with every kind of write, as many lost members as parity can replace, a rebuild and a repair leaves the same bytes on the
    members as under the kernel's own driver. See oracle.py."""
    shape = {"level": level, "layout": layout, "chunk": 64, "bitmap": "none"}
    # What the kernel's own driver needs would use the engines too, also when that is gone.
    helpers = ("async_raid6_recov", "async_pq", "async_memcpy", "async_xor", "async_tx")

    def live(**hooks):
        return session(shape, members, size=SIZE, writes=12, **hooks)

    def begun(array):
        array.set("offload", "dma")
        # A busy machine is no reason for a job of the CPU's.
        array.set("offload_late_ms", 60000)

    def ending(array):
        found = stats(array)
        note(f"engines: {done()}, array: {found}")
        # All strips are written at once, rebuilt, and looked at by the repair.
        expect_range("strips by engines", 3 * (SIZE << 20 >> 12), 1 << 30, found["dma"])
        expect("strips by the CPU, done again, and false alarms", (0, 0, 0), (found["cpu"], found["redone"], found["false_alarms"]))

    def one(driver):
        if driver != "rust":
            return live()
        expect("modules that stay", [], [name for name in helpers if kernel.loaded(name) and kernel.delete_module(name)])
        with engines():
            return live(begun=begun, ending=ending)

    same_bytes(one)


def throughput(path):
    """I/Os in a second with 64 in flight."""
    return generator.load(path, "rw=randwrite bs=4k depth=64 seconds=1")["writes"]


def delayed():
    """A millisecond for each operation costs little where 64 writes are in flight: nothing waits for a job."""
    with engines():
        array = array_on("dma")
        throughput(array.path)
        rates = {0: [], 1000: []}
        for _ in range(7):
            for delay, found in rates.items():
                tell("delay_us", delay)
                found.append(throughput(array.path))
        note(f"writes a second by delay in microseconds: {rates}")
        # By turns, and the middle one of them: so it is not one side alone that the machine has disturbed, nor one that has got slower
        # half way.
        shares = [round(late / at_once, 2) for at_once, late in zip(*rates.values())]
        expect(f"with a delay of 1 ms more than 60 % of what there is without, of shares {shares}", True, median(shares) > 0.6)
        # Copies in, then parity: a write takes two delays.
        expect("and more than there would be one after another", True, median(rates[1000]) > 1000 / 2)
        expect("done again by the CPU", 0, stats(array)["redone"])
        # Writes to the same place in one job are the CPU's.
        found = stats(array)
        expect_range("strips by the CPU", 0, found["dma"] // 10, found["cpu"])
        array.stop()


def cases():
    """All of them."""
    yield "raid4, the same bytes as under the kernel's driver", lambda: same_as_c(4, 5)
    yield "raid5, the same bytes as under the kernel's driver", lambda: same_as_c(5, 5)
    yield "raid6 ddf, the same bytes as under the kernel's driver", lambda: same_as_c(6, 6, "ddf-N-continue")
    yield "a delay of 1 ms for each operation", delayed


if __name__ == "__main__":
    run(list(cases()), cleanup=lambda: (stop_all(), unload()))
