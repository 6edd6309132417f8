#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=1 disk-size=16 timeout=120
"""The load generator of the benchmarks: it writes where it says, as often as it says, and tells of failures."""

import errno
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from blocktrace import BlockTrace
from disk import Disk, SECTOR
from mapper import broken, dm, need_target, sectors_of
from raid import name_of, rams, stop_all
from report import expect, expect_range, note, run, wait_for
import generator
import kernel

KIB = 1024
SIZE = 16 * KIB * KIB


def written(path, size=4 * KIB):
    """Numbers of the blocks that are not zero; each of them has to hold bytes that differ."""
    with Disk(path) as disk:
        content = disk.read(0, SIZE)
    blocks = [content[at:at + size] for at in range(0, SIZE, size)]
    return [number for number, block in enumerate(blocks) if any(block)]


def runs(numbers):
    """The same as text, runs of successive numbers as FIRST-LAST."""
    firsts = [n for at, n in enumerate(numbers) if not at or numbers[at - 1] != n - 1]
    lasts = [n for at, n in enumerate(numbers) if at + 1 == len(numbers) or numbers[at + 1] != n + 1]
    return " ".join(f"{first}-{last}" for first, last in zip(firsts, lasts))


def zeroed():
    """A RAM disk full of zeros."""
    path, = rams(1)
    with Disk(path) as disk:
        disk.write(0, bytes(SIZE))
    return path


def sequential():
    """Sequential writes: each job has its part, or they share one stream."""
    path = zeroed()
    got = generator.load(path, "rw=write bs=4k depth=8 jobs=2 offset=1m size=2m ios=200")
    expect("writes, reads, errors", (200, 0, 0), (got["writes"], got["reads"], got["errors"]))
    # 512 blocks from block 256 on, 256 for each job.
    expect("blocks written by jobs with a part each", "256-355 512-611", runs(written(path)))
    path = zeroed()
    generator.load(path, "rw=write bs=4k depth=8 jobs=2 offset=1m size=2m stream=shared ios=201")
    expect("blocks written by jobs that share a stream", "256-456", runs(written(path)))


def pattern():
    """Periods with several runs: only these addresses, and in time all of them."""
    path = zeroed()
    generator.load(path, "rw=randwrite bs=4k depth=16 offset=64k size=8m period=512k step=128k count=3 length=8k ios=4000")
    allowed = [(64 + period * 512 + step * 128 + block * 4) // 4 for period in range(16) for step in range(3) for block in range(2)]
    expect("blocks written: periods of 512 KiB, in each three runs of 8 KiB", runs(allowed), runs(written(path)))


def mixed():
    """Random places and kinds: what the device saw is what is told."""
    path = zeroed()
    with BlockTrace([path]) as trace:
        got = generator.load(path, "rw=randrw mix=30 bs=8k depth=4 jobs=2 size=4m ios=1000")
    expect("reads that came, as told", got["reads"], len(trace.reads(path)))
    expect("writes that came, as told", got["writes"], len(trace.writes(path)))
    expect("both", 1000, got["reads"] + got["writes"])
    expect_range("reads, of which 30 % were asked for", 230, 370, got["reads"])
    expect("sizes", {8 * KIB // SECTOR}, {bio.sectors for bio in trace.bios})
    expect("addresses beyond the range, or not aligned", [],
           [bio for bio in trace.bios if bio.sector >= 4 * KIB * KIB // SECTOR or bio.sector % 16])
    expect_range("different addresses, of 512", 400, 512, len({bio.sector for bio in trace.bios}))
    expect("writes' flags, as direct I/O has them", {"WS"}, {bio.flags for bio in trace.writes(path)})


def delayed(path, milliseconds):
    """A device that takes so long."""
    need_target("delay")
    return dm("late", f"0 {sectors_of(path)} delay {path} 0 {milliseconds}")


def completed(path):
    """Reads that a device has completed, as it tells."""
    with open(f"/sys/block/{name_of(path)}/stat", encoding="ascii") as file:
        return int(file.read().split()[0])


def first_lot(device):
    """How many reads a slow device completes at about the same time, and after how many seconds at most that was looked."""
    before = completed(device)
    none = time.monotonic()

    def some():
        nonlocal none
        now = time.monotonic()
        if completed(device) > before:
            return True
        none = now
        return False

    wait_for("a read completed", some, 30)
    time.sleep(0.3 * kernel.SLOW)
    return completed(device) - before, time.monotonic() - none


def depth():
    """As many I/Os as asked for are in flight, no more: so many come back from a slow device at once, and again."""
    path = zeroed()
    delay = 1.5 * kernel.SLOW
    device = delayed(path, int(delay * 1000))
    for _ in range(5):
        before = completed(device)
        with generator.running(device, "rw=randread depth=7 jobs=3 seconds=30"):
            came, after = first_lot(device)
        expect("reads that are told of, all that have completed", completed(device) - before, generator.result()["reads"])
        if after < delay:
            break
        note(f"this machine stood still: the count is {after:.1f} s old, and the next lot may be in it")
    expect("reads that came back together, 3 jobs with 7 each", 21, came)
    expect_range("reads in all, the second lot among them", 22, 1 << 20, generator.result()["reads"])


def times():
    """Time, rate and latencies fit each other."""
    path = zeroed()
    begin = time.monotonic()
    got = generator.load(path, "rw=randread bs=4k depth=4 seconds=0.3")
    expect_range("ns that it took, of those that passed here", 300e6, (time.monotonic() - begin) * 1e9, got["elapsed_ns"])
    rate = got["reads"] / got["elapsed_ns"] * 1e9
    expect_range("I/Os per second", rate - 1, rate + 1, got["iops"])
    expect_range("CPU time of all processors, ns", 0.02 * got["elapsed_ns"], 1.05 * got["cpus"] * got["elapsed_ns"], got["cpu_ns"])
    names = ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "p9999_ns")
    steps = [got[name] for name in names]
    expect("percentiles, in order", sorted(steps), steps)
    expect_range("the mean, between the least and the most", 1, got["max_ns"], got["mean_ns"])
    device = delayed(path, 50)
    median = generator.load(device, "rw=randread bs=4k depth=4 ios=8")["p50_ns"]
    expect_range("median of a device that takes 50 ms, ns", 50e6 * 31 / 32, 10e9, median)


def failures():
    """An error of the device is counted and told; nonsense is refused."""
    path = zeroed()
    device = dm("bad", broken(path))
    generator.ready()
    for words, expected in ((f"dev={device} rw=read ios=10", errno.EIO), ("dev=/dev/nothing rw=read", errno.ENOENT),
                            (f"dev={path} rw=up", errno.EINVAL), (f"dev={path} bs=100", errno.ERANGE),
                            (f"dev={path} offset=17m", errno.ENXIO), (f"dev={path} depth=0", errno.ERANGE),
                            (f"dev={path} wrong=1", errno.EINVAL)):
        try:
            generator.start(words)
            came = 0
        except OSError as problem:
            came = problem.errno
        expect(f"`{words}`", errno.errorcode[expected], errno.errorcode.get(came, "success"))
        if expected == errno.EIO:
            expect("errors that are told", 10, generator.result()["errors"])


if __name__ == "__main__":
    run([
        ("sequential writes", sequential),
        ("a pattern of addresses", pattern),
        ("mixed and random", mixed),
        ("depth", depth),
        ("times", times),
        ("failures are told", failures),
    ], cleanup=stop_all)
