#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=6 disk-size=40 cpus=2 timeout=240 least=no
"""Sequential writes: stripes are held until they are full, and nothing waits for what does not come."""

import mmap
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from aio import Writer, memory
from disk import Disk
from mapper import dm, need_target, sectors_of
from raid import Array, rams, stop_all
from report import expect, expect_range, run
import generator
import kernel

KIB = 1024


def counters(array):
    """{name: value}"""
    return {name: int(value) for name, value in (line.split() for line in array.get("counters").splitlines())}


def load(array, words):
    """What the array's counters grow by while a load runs."""
    before = counters(array)
    generator.load(array.path, words)
    return {name: value - before[name] for name, value in counters(array).items()}


def slow_array(chunk, milliseconds=4, cache=4096):
    """An array with nothing in memory, of six members that take their time."""
    need_target("delay")

    def slow(delay):
        return [dm(f"slow{n}", f"0 {sectors_of(disk)} delay {disk} 0 {delay}") for n, disk in enumerate(rams(6))]

    array = Array.create(slow(0), size=32, chunk=chunk).reassemble()
    array.set("stripe_cache_size", cache)
    slow(milliseconds)
    return array


def expect_full(array, words, most):
    """Runs a load, of which nearly all strips are written whole. Not those of the stripes by which a stream is known; and on a
    busy machine a task may be late, so there are three tries, as all are on a slow kernel. Returns what counters grew by in the last."""
    holds = 0
    for _ in range(3):
        grown = load(array, words)
        holds += grown["stream_holds"]
        partial = grown["strips_rmw"] + grown["strips_rcw"]
        if partial <= most or kernel.SLOW > 1:
            break
        print(f"    {partial} of {partial + grown['strips_full']} strips were written in part")
    if kernel.SLOW == 1:
        expect_range(f"strips that were written in part, of {partial + grown['strips_full']}", 0, most, partial)
    # Of what comes fast enough nothing need be held.
    if partial:
        expect_range("times that spans were held", 1, 1 << 20, holds)
    return grown


def deep():
    """More in flight than a stripe holds, in small pieces and in large ones. The strips of a chunk go to a member together: one that went
    alone would have the others wait until its bio has ended, so each stripe would take two turns of its members."""
    # 60 stripes of 16 strips, 12 of 128.
    for chunk, words, most in ((64, "bs=4k depth=160 ios=4800", 200), (512, "bs=256k depth=24 ios=120", 400)):
        array = slow_array(chunk)
        grown = expect_full(array, f"rw=write {words}", most)
        if chunk == 64 and kernel.SLOW == 1:
            rows = grown["strips_full"] / 16
            expect_range("bios for each row of six members, 12 if strips go in two turns", 1, 9, grown["member_writes"] / max(rows, 1))
        array.expect_clean()
        stop_all()


def one_stripe():
    """Just a stripe in flight: its writes end one by one, and each brings one of the next stripe."""
    array = slow_array(64)
    expect_full(array, "rw=write bs=64k depth=5 offset=192k ios=300", 200)


def shallow():
    """Who waits himself for what is held is soon not believed any more."""
    array = slow_array(64, milliseconds=0)
    begun = time.monotonic()
    grown = load(array, "rw=write bs=16k depth=1 ios=4000")
    # 200 stripes: for 1, 3, 7, 15, 31, 63, ... of them nobody waits.
    expect_range("times that spans were held, in 200 stripes", 1, 9, grown["stream_holds"])
    print(f"4000 writes one by one took {time.monotonic() - begun:.1f} s")


def random():
    """Random writes are never held."""
    array = slow_array(64, milliseconds=0)
    grown = load(array, "rw=randwrite bs=64k depth=16 ios=500")
    expect("times that spans were held", 0, grown["stream_holds"])


def durable():
    """Nor are writes that have to be durable when they end: somebody waits for each."""
    array = slow_array(64, milliseconds=0)
    before = counters(array)["stream_holds"]
    file = os.open(array.path, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
    try:
        page = mmap.mmap(-1, 16 * KIB)
        for number in range(100):
            os.pwrite(file, page, number * 16 * KIB)
    finally:
        os.close(file)
    expect("times that spans were held", before, counters(array)["stream_holds"])


def elsewhere():
    """A task leaves a stripe that it has begun, and writes elsewhere on and on: the end of a file does not wait for the next one.

    What it may take is told in writes, not in time: of those 14 are under way, so they take their members' 4 ms, and 3000 some
    900 ms, on a slow machine more; the stripe waits for 50, and is then read and written.
    """
    array = slow_array(64)
    before = counters(array)["stream_holds"]
    piece = memory(bytes(64 * KIB))
    stripe, depth, most = 5 * len(piece), 16, 3000
    # One by one, so that no plug holds anything.
    with Disk(array.path) as disk, Writer(disk, depth) as writer:
        for number in range(10):
            writer.submit([(number * len(piece), piece, 0)])
        left = set()
        for number in range(10, 12):
            left.update(writer.submit([(number * len(piece), piece, 0)]))
        begun, count, pause, last = time.monotonic(), 0, 0.0, time.monotonic()
        while left and count < most:
            while writer.under_way() < depth:
                writer.submit([(100 * stripe + count % 1000 * len(piece), piece, 0)])
                count += 1
            now = time.monotonic()
            pause, last = max(pause, now - last), now
            left.difference_update(writer.reap())
        seconds = time.monotonic() - begun
        while writer.under_way():
            writer.reap()
    print(f"{count} writes elsewhere, in {seconds:.2f} s; the longest pause between them was {pause:.3f} s")
    expect(f"writes of the stripe that was left that had not ended by {count} elsewhere", 0, len(left))
    expect_range("times that spans were held", 1, 1 << 20, counters(array)["stream_holds"] - before)
    array.expect_at_rest()
    array.expect_clean()


def interrupted():
    """Whoever suspends the array, or takes its memory, while stripes are held is not kept waiting."""
    array = slow_array(64)
    longest = 0.0
    with generator.running(array.path, "rw=write bs=64k depth=16"):
        for turn in range(8):
            begun = time.monotonic()
            array.set("suspend_lo", 0)
            array.set("suspend_hi", 8 * KIB)
            array.set("suspend_hi", 0)
            array.set("stripe_cache_size", 17 if turn % 2 else 4096)
            longest = max(longest, time.monotonic() - begun)
    array.idle()
    print(f"the longest suspension and change took {longest:.2f} s")
    array.expect_at_rest()
    array.expect_clean()


def many_streams():
    """Several tasks, each with a stream, in a cache that holds two stripes: all come to their ends."""
    array = slow_array(512, cache=256)
    grown = load(array, "rw=write bs=64k depth=32 jobs=4 ios=1200")
    expect_range("times that spans were held", 1, 1 << 20, grown["stream_holds"])
    array.expect_at_rest()
    array.expect_clean()


if __name__ == "__main__":
    run([
        ("deep", deep),
        ("one stripe", one_stripe),
        ("shallow", shallow),
        ("random", random),
        ("durable", durable),
        ("elsewhere", elsewhere),
        ("interrupted", interrupted),
        ("many streams", many_streams),
    ], cleanup=stop_all)
