#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml,debian disks=4 disk-size=24 timeout=120 debian.timeout=300
"""The tracepoints: what is traced of known I/O, in order, and nothing while they are off."""

import mmap
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk
from kernel import least, loaded, sh
from mapper import dm, need_target, sectors_of
from raid import Array, rams, stop_all
from report import Failed, expect, expect_match, expect_no_match, run

TRACING = "/sys/kernel/tracing"
EVENTS = ("span_begin", "span_step", "span_end", "span_job", "span_park")
KIB = 1024


def tracing(file, text):
    """Writes a file of the tracer."""
    with open(f"{TRACING}/{file}", "w", encoding="ascii") as setting:
        setting.write(text)


class Traced:
    """What the tracepoints tell while the `with` block runs: (event, its text) in order."""

    def __init__(self, *events):
        self.events, self.lines = events, []

    def __enter__(self):
        if not os.path.exists(f"{TRACING}/trace"):
            sh("mount", "-t", "tracefs", "tracefs", TRACING)
        tracing("trace_clock", "counter")
        tracing("trace", "")
        for event in self.events:
            tracing(f"events/{event if '/' in event else 'raid456/' + event}/enable", "1")
        return self

    def __exit__(self, *_):
        if loaded():
            tracing("events/enable", "0")
        with open(f"{TRACING}/trace", encoding="ascii") as trace:
            self.lines = re.findall(r": (\w+): (.*)", trace.read())

    def of(self, event):
        """The texts of one event."""
        return [text for name, text in self.lines if name == event]


def fresh(**words):
    """An array with nothing in memory."""
    return Array.create(rams(4), size=16, **words).reassemble()


def writes():
    """One block is read-modify-written: from begin to end, with its steps and its job; the array and the place are told."""
    array = fresh()
    number = os.stat(array.path).st_rdev
    # Row 5: blocks of 64 KiB, three of them data.
    with Disk(array.path) as disk, Traced(*EVENTS) as traced:
        disk.write((5 * 3 * 64 + 8) * KIB, os.urandom(4 * KIB))
    where = f"{os.major(number)},{os.minor(number)} sector {5 * 128}"
    expect("places", {where}, {" ".join(text.split()[:3]) for _, text in traced.lines})
    expect("first and last", ("span_begin", "span_end"), (traced.lines[0][0], traced.lines[-1][0]))
    # The third strip.
    expect("jobs", [f"{where} job rmw strips 0004"], traced.of("span_job"))
    steps = traced.of("span_step")
    expect_match("a step that took in a part", r"events parts .* reading 0004", "\n".join(steps))
    expect_match("a step that took in I/O, and writes", r"events io .* writing 0004", "\n".join(steps))
    expect_match("the last step", r"gathering 0000 reading 0000 computing 0000 logging 0000 writing 0000", steps[-1])
    expect("waits", [], traced.of("span_park"))


def origins():
    """What the block layer tells of members' bios names the place in the array that they come from; parity's come from nowhere."""
    array = fresh()
    # Row 5, the third strip of its second column.
    place = (5 * 3 + 1) * 64 + 8
    with Disk(array.path) as disk, Traced("block/block_bio_remap") as traced:
        disk.write(place * KIB, os.urandom(4 * KIB))
    number = os.stat(array.path).st_rdev
    found = [re.search(r"(\w+) \d+ \+ 8 <- \((\d+,\d+)\) (\d+)$", text).groups() for text in traced.of("block_bio_remap")]
    md = f"{os.major(number)},{os.minor(number)}"
    expect("of whom", {md}, {device for _, device, _ in found})
    expect("reads and writes, of data and of parity", [("R", 0), ("R", 2 * place), ("W", 0), ("W", 2 * place)],
           sorted((op[0], int(sector)) for op, _, sector in found))
    with Disk(array.path) as disk, Traced("block/block_bio_remap") as traced:
        disk.read(place * KIB, 8 * KIB)
    expect_match("a direct read", rf"(?m) \+ 16 <- \({md}\) {2 * place}$", "\n".join(traced.of("block_bio_remap")))


def unplugged():
    """A write of more than one bio, whose submitter holds back what is not a whole row until it has sent all: that event has a name, too."""
    array = fresh()
    # More pages than a bio has room for; rows of 192 KiB.
    with mmap.mmap(-1, 2 * 1024 * KIB) as memory, Disk(array.path) as disk, Traced("span_step") as traced:
        memory.write(os.urandom(len(memory)))
        expect("bytes written", len(memory), os.pwritev(disk.fileno(), [memory], 0))
    steps = traced.of("span_step")
    expect_match("a step after the plug", r"events (\w+\|)*unplug gathering", "\n".join(steps))
    expect("events without a name", [], [text for text in steps if re.search(r"events \S*0x", text)])


def waits():
    """A write of an array with a bitmap waits for that: here each write of a member takes longer than all that comes before it."""
    need_target("delay")
    slow = [dm(f"slow{n}", f"0 {sectors_of(disk)} delay {disk} 0 0 {disk} 0 100") for n, disk in enumerate(rams(4))]
    array = Array.create(slow, size=16, bitmap="internal").reassemble()
    number = os.stat(array.path).st_rdev
    with Disk(array.path) as disk, Traced("span_park") as traced:
        disk.write(0, os.urandom(4 * KIB))
    expect("waits", [f"{os.major(number)},{os.minor(number)} sector 0 for bitmap"], traced.of("span_park"))


def check():
    """A check's jobs."""
    array = fresh()
    with Traced("span_job") as traced:
        array.scan()
    expect("kinds of jobs", {"check"}, {text.split(" job ")[1].split()[0] for text in traced.of("span_job")})
    if not least():
        # A span of which one strip at a time has memory has a job for each.
        expect("spans of 16 strips in 16 MiB", 256, len(traced.of("span_job")))


def off():
    """Nothing is traced that nobody asked for; a direct read is no span's."""
    array = fresh()
    with Disk(array.path) as disk, Traced() as traced:
        disk.write(0, os.urandom(4 * KIB))
    expect("events", [], traced.lines)
    with Disk(array.path) as disk, Traced(*EVENTS) as traced:
        disk.read(0, 4 * KIB)
    expect("events of a direct read", [], traced.lines)


def fields():
    """The fields that bpftrace and filters use are there; a filter by one of them works."""
    array = fresh()
    with Traced():
        pass
    for event, names in {"span_begin": "dev sector", "span_step": "dev sector events gathering reading computing logging writing",
                         "span_job": "dev sector job strips", "span_park": "dev sector reason"}.items():
        with open(f"{TRACING}/events/raid456/{event}/format", encoding="ascii") as file:
            found = re.findall(r"field:(?!unsigned short common|unsigned char common|int common).*? (\w+);", file.read())
        expect(f"fields of {event}", names.split(), found)
    with Disk(array.path) as disk, Traced() as traced:
        tracing("events/raid456/span_job/filter", "sector == 256")
        tracing("events/raid456/span_job/enable", "1")
        for row in range(4):
            disk.write(row * 3 * 64 * KIB, os.urandom(4 * KIB))
        tracing("events/raid456/span_job/filter", "0")
    expect("jobs at sector 256", 1, len(traced.of("span_job")))
    expect_no_match("others", r"sector (?!256 )", "\n".join(traced.of("span_job")))


if __name__ == "__main__":
    if not loaded():
        raise Failed("raid456 is not loaded")
    run([
        ("a write", writes),
        ("where members' bios come from", origins),
        ("a plug", unplugged),
        ("waits", waits),
        ("a check", check),
        ("nothing else", off),
        ("fields and filters", fields),
    ], cleanup=stop_all)
