# SPDX-License-Identifier: GPL-2.0
"""Which bios reach the members, from the kernel's own trace events."""

import os
import re
from collections import namedtuple

from kernel import sh

TRACING = "/sys/kernel/tracing"

# A bio that was submitted: the device's kernel name, flags as blktrace writes them (R read, W write, F before the
# letter: flush, F after it: FUA, S sync, A readahead, M metadata), first sector and number of sectors.
Bio = namedtuple("Bio", "disk flags sector sectors")

_LINE = re.compile(r"block_bio_queue: (\d+,\d+) (\S+) (\d+) \+ (\d+)")


class BlockTrace:
    """Collects the bios that go to the given devices while the `with` block runs; then they are in `bios`."""

    def __init__(self, paths):
        self._names = {}
        for path in paths:
            number = os.stat(path).st_rdev
            self._names[f"{os.major(number)},{os.minor(number)}"] = path
        self.bios = []

    @staticmethod
    def _set(file, text):
        with open(f"{TRACING}/{file}", "w", encoding="ascii") as setting:
            setting.write(text)

    def __enter__(self):
        if not os.path.exists(f"{TRACING}/trace"):
            sh("mount", "-t", "tracefs", "tracefs", TRACING)
        self._set("tracing_on", "0")
        self._set("buffer_size_kb", "8192")
        # One order for all processors: the default clock's ticks are too long in uml to tell it.
        self._set("trace_clock", "counter")
        self._set("trace", "")
        self._set("events/block/block_bio_queue/enable", "1")
        self._set("tracing_on", "1")
        return self

    def __exit__(self, *_):
        self._set("tracing_on", "0")
        self._set("events/block/block_bio_queue/enable", "0")
        with open(f"{TRACING}/trace", encoding="ascii", errors="replace") as trace:
            for number, flags, sector, sectors in _LINE.findall(trace.read()):
                if number in self._names:
                    self.bios.append(Bio(self._names[number], flags, int(sector), int(sectors)))
        self._set("trace", "")

    def reads(self, path=None, low=0):
        """Reads at or after sector `low`, of one device or of all."""
        return [bio for bio in self.bios if "R" in bio.flags and bio.sector >= low and path in (None, bio.disk)]

    def writes(self, path=None, low=0):
        """Writes with data at or after sector `low`, of one device or of all."""
        return [bio for bio in self.bios
                if "W" in bio.flags and bio.sectors and bio.sector >= low and path in (None, bio.disk)]

    def flushes(self, path=None):
        """Bios that ask for a flush before them, with or without data."""
        return [bio for bio in self.bios if re.match(r"F", bio.flags) and path in (None, bio.disk)]

    def empty_flushes(self, path=None):
        """Flushes without data: not those that md's writes of its superblock bring along."""
        return [bio for bio in self.flushes(path) if not bio.sectors]


def is_fua(bio):
    """Whether a write asks to be on stable storage when it ends."""
    return re.match(r"F?WF", bio.flags) is not None


def sectors(bios):
    """Sectors of all these bios."""
    return sum(bio.sectors for bio in bios)
