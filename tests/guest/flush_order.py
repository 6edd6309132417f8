#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=0 mem=1300 timeout=150
"""A write that asks for a flush before it (a journal's commit) reaches the members after their flushes have ended; and a flush
does not end before it is recorded that a member has failed, which was not flushed. The C module does neither, and fails this
test."""

import os
import re
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import SECTOR
from kernel import patience, sh
from nullblk import nullb, remove_all
from raid import Array, name_of, stop_all
from report import Failed, expect, expect_range, note, run
import needs
import rawmd

TRACING = "/sys/kernel/tracing"
MOUNT = "/tmp/mounted"
# How long each member takes for everything, in seconds.
DELAY = 0.005
_LINE = re.compile(r" (\d+\.\d+): block_bio_queue: (\d+,\d+) (\S+) (\d+) \+ (\d+)")


def number_of(path):
    """The device number as traces write it."""
    number = os.stat(path).st_rdev
    return f"{os.major(number)},{os.minor(number)}"


def trace_set(file, text):
    """Writes to a file of the tracer."""
    with open(f"{TRACING}/{file}", "w", encoding="ascii") as setting:
        setting.write(text)


def commits():
    """Every bio of a file system's commits: (seconds, device number, flags, sector, sectors)."""
    sh("mount", "-t", "tracefs", "tracefs", TRACING)
    trace_set("trace", "")
    # The default clock may have steps of 10 ms.
    trace_set("trace_clock", "mono")
    trace_set("events/block/block_bio_queue/enable", "1")
    for number in range(10):
        with open(f"{MOUNT}/file{number}", "wb") as file:
            file.write(os.urandom(5000))
            file.flush()
            os.fsync(file.fileno())
    trace_set("events/block/block_bio_queue/enable", "0")
    with open(f"{TRACING}/trace", encoding="ascii", errors="replace") as trace:
        return [(float(at), dev, flags, int(sector), int(count)) for at, dev, flags, sector, count in _LINE.findall(trace.read())]


def data_after_flush(level):
    """The data of a commit, and its parity, is sent when each member has had the time to end its flush."""
    needs.file_system("ext4")
    disks = [nullb(f"nullb{n}", 64, cache_size=4, fua=1, irqmode=2, completion_nsec=int(DELAY * 1e9))
             for n in range(level - 2)]
    array = Array.create(disks, level=level, size=48)
    sh("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", array.path)
    os.makedirs(MOUNT, exist_ok=True)
    sh("mount", array.path, MOUNT)
    before = array.counter("requests_left")
    bios = commits()
    left = array.counter("requests_left") - before

    own, members = number_of(array.path), {number_of(disk) for disk in disks}
    geometry, slots = array.geometry(), array.slots()
    seen = 0
    for index, (_, device, flags, sector, count) in enumerate(bios):
        if device != own or not flags.startswith("FW") or not count:
            continue
        after = bios[index + 1:]
        flushes = {}
        for bio in after:
            if bio[1] in members and bio[2].startswith("F") and not bio[4]:
                flushes.setdefault(bio[1], bio[0])
        expect("members flushed for a commit", members, set(flushes))
        places = {"data": geometry.locate(sector), "P": geometry.parity_of(sector)}
        if level == 6:
            places["Q"] = geometry.q_of(sector)
        for what, (slot, place) in places.items():
            place += array.data_offset(slots[slot]) // SECTOR
            sent = next((bio[0] for bio in after if bio[1] == number_of(slots[slot]) and "W" in bio[2]
                         and bio[3] <= place < bio[3] + bio[4]), None)
            if sent is None:
                raise Failed(f"expected the commit's {what} on the member in slot {slot}, but it was not written")
            gap = sent - max(flushes.values())
            if gap < DELAY * 0.9:
                raise Failed(f"a flush takes {DELAY * 1000:.0f} ms, but the {what} of the commit was sent "
                             f"{gap * 1000:.2f} ms after it")
        seen += 1
    note(f"{seen} commits")
    expect("there were commits with a flush before them", True, seen > 0)
    # And perhaps one that nobody asked for.
    expect_range("writes that the array's own thread brought to spans", seen, seen + 2, left)
    sh("umount", MOUNT)
    array.expect_clean()


def after_the_record(level):
    """A flush while a member has failed, and whoever keeps the metadata has not said yet that it knows: after a crash that member
    would be back, without what is in no cache but its own."""
    disks = [nullb(f"nullb{n}", 64, cache_size=4) for n in range(level - 2)]
    expect("start", "", rawmd.start(disks, level=level, metadata="external:test", size=8192))
    array = Array(disks, rawmd.NAME)
    state = f"dev-{name_of(disks[1])}/state"
    file = os.open(array.path, os.O_RDWR)
    try:
        os.fsync(file)
        array.set(state, "faulty")
        expect("the member is blocked", True, "blocked" in array.state(disks[1]))
        flush = threading.Thread(target=os.fsync, args=(file,), daemon=True)
        flush.start()
        flush.join(0.5)
        expect("the flush waits", True, flush.is_alive())
        array.set("array_state", "active")
        flush.join(0.5)
        expect("the flush waits while the member is blocked", True, flush.is_alive())
        array.set(state, "-blocked")
        flush.join(10 * patience())
        expect("the flush waits when the failure is recorded", False, flush.is_alive())
        os.fsync(file)
    finally:
        os.close(file)


def cleanup():
    """Takes everything down."""
    sh("umount", MOUNT, check=False)
    stop_all()
    remove_all()


if __name__ == "__main__":
    run([(f"raid{level}: data and parity come after the flush", lambda level=level: data_after_flush(level))
         for level in (5, 6)] +
        [(f"raid{level}: a flush ends when a failure is recorded", lambda level=level: after_the_record(level))
         for level in (5, 6)], cleanup=cleanup)
