#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=debian disks=8 disk-size=16 mem=1536 cpus=2 timeout=400 append=swiotlb=force
"""Jobs on DMA engines in software: every level lives with them, also where they can do little.

Run by itself, what an engine is given is not the memory itself: the kernel has been told to copy there and back all that is mapped
(swiotlb=force). So what is mapped in the wrong direction, too short, or not for long enough, comes out wrong."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Shadow, pattern
from offload import SIZE, array_on, done, engines, interrupts, jobs, member_writes, stats, unload
from raid import Array, rams, stop_all
from report import expect, expect_match, expect_range, note, run, wait_for
import generator
import kernel


def large_writes(level, before, after, sums_before, sums):
    """No parity byte of a large write has been made by the CPU."""
    strips = SIZE << 20 >> 12
    expect_range("a large write: strips by engines", strips, 1 << 30, after["dma"] - before["dma"])
    expect("strips by the CPU, and done again", (0, 0), (after["cpu"] - before["cpu"], after["redone"] - before["redone"]))
    kind = "pq" if level == 6 else "xor"
    expect_range("sums by engines", strips, 1 << 30, sums[kind] - sums_before[kind])


def life(parameters, level, members=5, chunk=64, all_by_engines=True, least=500, **shape):
    """Writes of all sizes, lost members, a rebuild, a check and a repair, all by engines."""
    with engines(parameters):
        array = array_on("dma", members, level=level, chunk=chunk, **shape)
        with Shadow(array.path) as shadow:
            before, sums = stats(array), done()
            shadow.fill()
            if all_by_engines:
                large_writes(level, before, stats(array), sums, done())
            shadow.random_writes(7, 20)
            array.expect_clean()
            lost = array.members[:2 if level == 6 else 1]
            for member in lost:
                array.fail(member)
            shadow.random_writes(8, 10)
            shadow.verify(f"level {level} without {len(lost)} members")
            for member in lost:
                array.remove(member)
            array.add_together(lost)
            array.wait_rebuilt()
            array.expect_parity(shadow.bytes)
            array.damage(*array.geometry().parity_of(1000), 4096)
            expect("repair of wrong parity", 8, array.scan("repair"))
            array.expect_clean()
            shadow.verify("after the repair")
        found = stats(array)
        note(f"engines: {done()}, array: {found}")
        expect("jobs done again by the CPU, false alarms", (0, 0), (found["redone"], found["false_alarms"]))
        expect_range("strips by engines", least, 1 << 30, found["dma"])
        if all_by_engines:
            expect("strips by the CPU", 0, found["cpu"])
        array.stop()


def told(caps, together):
    """Engines that can tell of many ends at once are asked to: so strips go on together, and members get long writes. Those that
    cannot unmap what they have told of only some time after that."""
    with engines(f"channels=1 caps={caps} unmap_us={0 if together else 300}"):
        array = array_on("dma")
        strips = SIZE << 20 >> 12
        with Shadow(array.path) as shadow:
            shadow.fill()
            before, sent = interrupts(), member_writes(array)
            shadow.fill(seed=2)
            operations = strips * 5
            found, sent = interrupts() - before, member_writes(array) - sent
            note(f"{strips} strips, {operations} operations: {found} interrupts, {sent} writes to members")
            if together:
                expect_range("interrupts for the operations", 2, operations // 16, found)
                # A span's blocks of a member are one write, if nothing comes between.
                expect_range("writes to members", strips * 5 // 16, strips * 5 // 4, sent)
            else:
                expect("an interrupt for each operation", operations, found)
            shadow.random_writes(3, 10)
            shadow.verify("told together" if together else "told one by one")
        found = stats(array)
        expect("strips by the CPU, done again, and late", (0, 0, 0), (found["cpu"], found["redone"], found["late"]))
        array.expect_clean()
        array.stop()


def automatic():
    """With auto small jobs are the CPU's, and what is small can be said."""
    with engines():
        array = array_on("auto", members=7)
        measured = int(array.get("offload_min_bytes"))
        note(f"measured: {measured} bytes for each operation")
        expect_range("the measured size", 4096, 1 << 20, measured)
        with Shadow(array.path) as shadow:
            shadow.bytes[:] = shadow.disk.read(0, shadow.length)
            # A block changed: six blocks for two operations. A full strip: nineteen for seven. A check: eight for one.
            for least, by_engines in ((13 << 10, (0, 0, 1)), (11 << 10, (1, 0, 1)), (10 << 10, (1, 1, 1)), (33 << 10, (0, 0, 0))):
                array.set("offload_min_bytes", least)
                moments, given = [stats(array)], jobs(array)
                shadow.write(0, pattern(least, 4096))
                moments.append(stats(array))
                expect(f"at least {least} bytes for each operation, a block: jobs by engines, by the CPU", (by_engines[0], 1 - by_engines[0]),
                       tuple(after - before for before, after in zip(given, jobs(array))))
                shadow.write(0, pattern(least, 6 * 64 << 10))
                moments.append(stats(array))
                array.scan("check")
                moments.append(stats(array))
                for what, strips, wanted, old, new in zip(("a block", "a stripe", "a check"), (1, 16, SIZE << 20 >> 12), by_engines, moments, moments[1:]):
                    expect(f"at least {least} bytes for each operation, {what}: strips by engines, by the CPU",
                           (strips * wanted, strips * (1 - wanted)), (new["dma"] - old["dma"], new["cpu"] - old["cpu"]))
            shadow.verify("by both")
        array.stop()


def bounced():
    """It is so: what engines work on is a copy."""
    with open("/sys/kernel/debug/swiotlb/io_tlb_used_hiwater", encoding="ascii") as file:
        expect_range("slots of the copies, at most at once", 1, 1 << 20, int(file.read()))


def slabs():
    """Memory that nobody can hold, as file systems write some of theirs from, is the CPU's: no engine fails at it."""
    with engines():
        array = array_on("dma")
        for slab, by_engines in ((0, True), (1, False)):
            before = stats(array)
            generator.load(array.path, f"rw=randwrite bs=4k depth=8 ios=60 slab={slab}")
            after = stats(array)
            expect(f"strips by engines, by the CPU: some; slab={slab}", (by_engines, not by_engines),
                   (after["dma"] > before["dma"], after["cpu"] >= before["cpu"] + 30))
        expect("strips done again", 0, after["redone"])
        array.expect_clean()
        array.stop()


def default():
    """The module's parameter says what new arrays do; without an engine the CPU does all."""
    parameter = "/sys/module/raid456/parameters/offload"
    for text, mode, message in (("dma", "dma", None), ("gpu", "cpu", "offload: the module's parameter is none of cpu, auto and dma"), ("cpu", "cpu", None)):
        with open(parameter, "w", encoding="ascii") as file:
            file.write(text)
        log = kernel.Log()
        array = Array.create(rams(3), size=SIZE)
        expect(f"the mode of an array with offload={text}", mode, array.get("offload"))
        if message:
            expect_match("the log", message, log.text())
        with Shadow(array.path) as shadow:
            shadow.fill()
            shadow.verify("without engines")
        expect("strips by engines that are not there", 0, stats(array)["dma"])
        expect("a mode that there is not", "EINVAL", array.try_set("offload", "gpu"))
        array.stop()


def replaced(level):
    """A member is replaced: what engines make in the rows that are rebuilt already is written to both devices."""
    with engines():
        array = array_on("dma", level=level)
        old, new = array.members[1], rams(1, 5)[0]
        half, data = SIZE << 20 >> 1, array.geometry().data
        with Shadow(array.path) as shadow:
            shadow.fill()
            array.set("sync_action", "frozen")
            array.add(new, "--add-spare")
            kernel.sh("mdadm", "--quiet", array.path, "--replace", old, "--with", new)
            array.set("sync_max", half >> 9)
            array.set("sync_action", "idle")
            wait_for("half of the member replaced", lambda: array.get("sync_completed").split(" ")[0] == str(half >> 9), 30)
            before = stats(array)
            # All rows that are rebuilt are written once more, whole and in pieces.
            shadow.write(0, pattern(level, half * data))
            shadow.random_writes(9, 10, end=half * data)
            images = [array.image(path)[:half] for path in (old, new)]
            expect("4 KiB blocks that the two devices do not agree about", [],
                   [at >> 12 for at in range(0, half, 4096) if images[0][at:at + 4096] != images[1][at:at + 4096]][:10])
            array.set("sync_max", "max")
            wait_for(f"{new} a member", lambda: array.state(new) == {"in_sync"}, 60)
            array.remove(old)
            array.members.remove(old)
            after = stats(array)
            expect_range("strips by engines", half >> 12, 1 << 30, after["dma"] - before["dma"])
            expect("strips by the CPU, and done again", (0, 0), (after["cpu"], after["redone"]))
            array.expect_clean()
            array.expect_parity(shadow.bytes)
        array.stop()


def cases():
    """All of them, with a name for each; the numbers there are those of members."""
    few, coarse = "channels=1 max_xor=2 max_pq=4 pq_continue=N align=9", "channels=1 max_xor=3 align=12"
    yield "raid5, 5 members, large writes and small ones", lambda: life("", 5)
    yield "raid6 ddf, 7 members, engines that read few blocks at once", lambda: life(few, 6, 7, layout="ddf-N-continue", all_by_engines=False)
    yield "raid4, 4 members, small chunk", lambda: life("", 4, 4, chunk=4)
    yield "raid6, a member is replaced", lambda: replaced(6)
    yield "auto: only what is large", automatic
    yield "ends are told together", lambda: told(63, True)
    yield "the module's parameter, and no engine", default
    yield "raid6, 6 members, large writes and small ones", lambda: life("", 6, 6)
    yield "raid5, 7 members, engines that take whole pages, and few", lambda: life(coarse, 5, 7, all_by_engines=False)
    yield "raid6, engines that only copy and add", lambda: life("caps=3", 6, all_by_engines=False, least=50)
    yield "writes from memory that cannot be kept", slabs
    yield "raid5, a member is replaced", lambda: replaced(5)
    yield "ends are told one by one, before what is mapped is unmapped", lambda: told(31, False)
    if kernel.flavour() == "debian":
        yield "all that is mapped was copied", bounced


if __name__ == "__main__":
    run(list(cases()), cleanup=lambda: (stop_all(), unload()))
