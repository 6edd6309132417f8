# SPDX-License-Identifier: GPL-2.0
"""What is measured: arrays, and loads on them."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stand:
    """An array to measure.

    kind: of members: ram (RAM disks), null (null_blk with memory, 20 us), delay (dm-delay over RAM disks, 2 ms).
    lost: members that are missing.
    """

    kind: str = "ram"
    level: int = 5
    members: int = 6
    chunk: int = 64
    lost: int = 0
    bitmap: bool = False
    engine: str = ""

    @property
    def data(self):
        """Members' worth of data."""
        return self.members - (2 if self.level == 6 else 1)

    def name(self):
        """For the rows' names."""
        words = [self.kind, str(self.level)]
        if self.members != 6:
            words.append(f"m{self.members}")
        if self.chunk != 64:
            words.append(f"c{self.chunk}")
        if self.lost:
            words.append(f"lost{self.lost}")
        if self.bitmap:
            words.append("bitmap")
        if self.engine:
            words.append(self.engine)
        return "-".join(words)


@dataclass(frozen=True)
class Row:
    """A load on a stand. unit: what of the result counts: iops or mb_per_s (more is better) or us (mean latency, less is)."""

    stand: Stand
    what: str
    load: str
    unit: str = "iops"
    # The ratio to tuned C to reach, and the share of the ceiling; 0: none.
    aim: float = 0.0

    @property
    def name(self):
        """The row's name, which ROWS= is matched against."""
        return f"{self.stand.name()}-{self.what}"


def jobs(load, count):
    """The load with so many jobs, each on a processor of its own."""
    return f"{load} jobs={count}"


def _common(stand):
    """The rows for a whole array."""
    write = "rw=randwrite bs=4k depth=64"
    yield Row(stand, "randwrite-4k-d64-j1", jobs(write, 1), aim=1.0)
    yield Row(stand, "randwrite-4k-d64-j2", jobs(write, 2), aim=1.0)
    yield Row(stand, "randwrite-4k-d1", "rw=randwrite bs=4k depth=1", aim=3.0 if stand.kind == "ram" else 1.5)
    yield Row(stand, "randwrite-64k", "rw=randwrite bs=64k depth=32", "mb_per_s", aim=3.5)
    yield Row(stand, "write-1m", "rw=write bs=1m depth=16", "mb_per_s", aim=3.5)
    yield Row(stand, "write-row", f"rw=write bs={stand.data * stand.chunk}k depth=16", "mb_per_s", aim=3.5)
    yield Row(stand, "randread-4k", "rw=randread bs=4k depth=64", aim=1.0)
    yield Row(stand, "read-1m", "rw=read bs=1m depth=16", "mb_per_s", aim=1.0)


def lost_blocks(stand, slot=1):
    """The words for the addresses of only the blocks on a member: left-symmetric layout."""
    chunk, members = stand.chunk, stand.members
    if stand.level == 5:
        # Chunk N is on member N modulo their number.
        return f"offset={slot * chunk}k period={members * chunk}k step={members * chunk}k count=1 length={chunk}k"
    # Slot 1 of level 6 has a chunk more to the left in each row, and then two rows of parity.
    return (f"period={members * (members - 2) * chunk}k step={(members - 1) * chunk}k count={members - 2} "
            f"length={chunk}k")


def _degraded(stand):
    """The rows for an array that has lost member 1."""
    lost = lost_blocks(stand)
    yield Row(stand, "randread-4k-j1", "rw=randread bs=4k depth=64 jobs=1", aim=1.2)
    yield Row(stand, "randread-4k-j2", "rw=randread bs=4k depth=64 jobs=2", aim=1.8)
    yield Row(stand, "read-1m", "rw=read bs=1m depth=16", "mb_per_s", aim=3.5)
    yield Row(stand, "randread-4k-of-lost", f"rw=randread bs=4k depth=64 {lost}", aim=1.5)
    yield Row(stand, "randread-64k-of-lost", f"rw=randread bs=64k depth=16 {lost}", "mb_per_s", aim=3.0)
    yield Row(stand, "randwrite-4k", "rw=randwrite bs=4k depth=64", aim=1.3)


def rows():
    """All of them."""
    for kind in ("ram", "null"):
        for level in (5, 6):
            stand = Stand(kind=kind, level=level)
            yield from _common(stand)
            yield from _degraded(replace(stand, lost=1))
