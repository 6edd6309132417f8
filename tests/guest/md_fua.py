#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=0 mem=900 timeout=120
"""A write that has to be durable (FUA) is so on its members and in parity, whatever it is sent together with. The C module
writes neighbouring full stripes as one batch, with the flags that the first of them has: where it is sent together with others
a FUA write may stay in a member's cache, and a power cut takes it back. It fails this test (RAID456_C=1 has it run)."""

import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from aio import Writer, memory
from blocktrace import BlockTrace, is_fua
from disk import Disk, SECTOR, pattern
from raid import Array, speed_limit, stop_all
from report import Failed, Skipped, expect, note, run
from torture import Disks
import kernel


def write_together(disk, writes):
    """Writes [(offset, data, flags)] by one system call, under one plug, and waits for all of them."""
    with Writer(disk, len(writes)) as writer:
        writer.submit([(offset, memory(data), flags) for offset, data, flags in writes])
        expect("writes ended", len(writes), len(writer.reap(len(writes))))


def array_of(level, members):
    """An array of disks with volatile caches, and the disks."""
    if kernel.driver() == "c" and not os.environ.get("RAID456_C"):
        raise Skipped("the C module fails it")
    disks = Disks(members, 16, cached=True)
    speed_limit()
    array = Array.create(disks.paths, level=level, size=8)
    # So that superblocks, which flush, are not written meanwhile.
    array.set("safe_mode_delay", "600")
    with Disk(array.path) as disk:
        disk.write(0, pattern("old", 4 << 20))
        disk.sync()
    return array, disks


def beside_others(level, members):
    """Two rows of a stripe are written whole at once, of the second one a block by a FUA write: that block and its parity are
    written so."""
    array, disks = array_of(level, members)
    geometry = array.geometry()
    low = min(array.data_offset(path) for path in disks.paths) // SECTOR
    chunk = geometry.chunk * SECTOR
    with Disk(array.path) as disk:
        for turn in range(4):
            stripe = turn * geometry.data * chunk
            # The first data block of both rows is one write's, as one submitter may have it.
            writes = [(stripe, pattern((turn, 0), 8192), 0)]
            for number in range(1, geometry.data - 1):
                writes.append((stripe + number * chunk, pattern((turn, number), 8192), 0))
            last = stripe + (geometry.data - 1) * chunk
            writes += [(last, pattern((turn, "plain"), 4096), 0), (last + 4096, pattern((turn, "durable"), 4096), os.RWF_DSYNC)]
            with BlockTrace(disks.paths) as trace:
                write_together(disk, writes)
            slots = array.slots()
            places = [geometry.locate((last + 4096) // SECTOR), geometry.parity_of((last + 4096) // SECTOR)]
            if level == 6:
                places.append(geometry.q_of((last + 4096) // SECTOR))
            for slot, sector in places:
                bios = [bio for bio in trace.writes(slots[slot], low) if bio.sector <= low + sector < bio.sector + bio.sectors]
                if kernel.least():
                    # Each write is done by itself, in order, so parity is written for the others before.
                    bios = bios[-1:]
                expect(f"turn {turn}: member {slot}: FUA of the writes of that block", [True], [is_fua(bio) for bio in bios])
    array.expect_clean()


def power_cuts(level, members):
    """The same, and the power goes: what had to be durable is there."""
    array, disks = array_of(level, members)
    geometry, rng = array.geometry(), random.Random(level)
    chunk = geometry.chunk * SECTOR
    for turn in range(3):
        durable = {}
        with Disk(array.path) as disk:
            for stripe in range(10):
                start = stripe * geometry.data * chunk
                writes = []
                for number in range(geometry.data):
                    at = start + number * chunk
                    # Each block's sixteen rows by two writes, the second durable or not.
                    for place in (at, at + chunk // 2):
                        data = pattern((turn, place), chunk // 2)
                        hard = place > at and number and rng.random() < 0.5
                        writes.append((place, data, os.RWF_DSYNC if hard else 0))
                        if hard:
                            durable[place] = data
                write_together(disk, writes)
        disks.power_off(turn + 1)
        array.stop()
        disks.power_on()
        array = Array.assemble(disks.paths)
        array.set("safe_mode_delay", "600")
        array.wait_synced()
        with Disk(array.path) as disk:
            lost = [at for at, data in durable.items() if disk.read(at, len(data)) != data]
        if lost:
            raise Failed(f"turn {turn}: of {len(durable)} writes that had to be durable, {len(lost)} are not there: {lost[:6]}")
        note(f"ok: {len(durable)} writes that had to be durable are there after a power cut")
    array.expect_clean()


def cleanup():
    """Takes everything down."""
    if kernel.loaded("raid456_disks"):
        Disks.power_on()
    stop_all()
    Disks.remove()


if __name__ == "__main__":
    run([(f"raid{level}, {members} members: {title}", lambda body=body, level=level, members=members: body(level, members))
         for level, members in ((5, 4), (6, 5)) for title, body in (("beside others", beside_others), ("power cuts", power_cuts))],
        cleanup=cleanup)
