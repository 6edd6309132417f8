# SPDX-License-Identifier: GPL-2.0
"""What is measured: arrays, and loads on them."""

from dataclasses import dataclass, replace

# Every metric of a row: its title, and whether more of it is better.
METRICS = {
    "iops": ("I/Os per second", True),
    "mb_per_s": ("MB/s", True),
    "mean_us": ("µs per I/O, mean", False),
    "member_reads_per_mib": ("member reads per MiB written", False),
    "rebuild_mb_per_s": ("MB/s rebuilt", True),
    "bytes_of_one": ("bytes beyond pages, one strip in use", False),
    "bytes_of_sixteen": ("bytes beyond pages, sixteen strips in use", False),
}


@dataclass(frozen=True)
class Stand:
    """An array to measure.

    kind: of members: ram (RAM disks), null (null_blk with memory, 20 us), band (null_blk with memory, so many MB/s and no
    more), delay (dm-delay over RAM disks).
    chunk: KiB. lost: members that are missing, from slot 1 on.
    """

    kind: str = "ram"
    level: int = 5
    members: int = 6
    chunk: int = 64
    lost: int = 0
    bitmap: bool = False

    @property
    def data(self):
        """Members' worth of data."""
        return self.members - (2 if self.level == 6 else 1)

    @property
    def row_kib(self):
        """Data of a row of chunks, KiB."""
        return self.data * self.chunk

    def title(self):
        """For people."""
        words = [f"level {self.level}"]
        kinds = {"null": "null_blk", "band": "members of 100 MB/s", "delay": "slow members"}
        words += [kinds[self.kind]] if self.kind != "ram" else []
        words += [f"{self.members} members"] if self.members != 6 else []
        words += [f"chunk {self.chunk} KiB"] if self.chunk != 64 else []
        words += ["bitmap"] if self.bitmap else []
        words += ["one member failed"] if self.lost else []
        return ", ".join(words)

    def name(self):
        """For the rows' names."""
        words = [self.kind, str(self.level)]
        words += [f"m{self.members}"] if self.members != 6 else []
        words += [f"c{self.chunk}"] if self.chunk != 64 else []
        words += [f"lost{self.lost}"] if self.lost else []
        words += ["bitmap"] if self.bitmap else []
        return "-".join(words)


@dataclass(frozen=True)
class Row:
    """A load on a stand.

    how: load (the generator's words are `load`), fio, sync (`load` is the action), rebuild (with the load beside it), memory.
    metrics: what counts, the first of them first; aims: for each the ratio to tuned C that is aimed at (0: none).
    cpu, tail: most of C's CPU time for an I/O, and of its p99.9. share, skipping: least of raid0's speed, with and without
    copies; floor, member: least of the floor (summary.py), and of one member's own sequential writes; either: of the better one of the
    ratios to C. 0: nothing is aimed at. none: the first metric has to be 0.
    group: table, or the name of the growth plot that the row is a point of, at `x`.
    """

    stand: Stand
    what: str
    load: str
    metrics: tuple = ("iops",)
    aims: tuple = (0.0,)
    cpu: float = 0
    tail: float = 0
    share: float = 0
    skipping: float = 0
    floor: float = 0
    member: float = 0
    either: float = 0
    none: bool = False
    how: str = "load"
    ceiling: bool = False
    parity: bool = False
    quick: bool = False
    group: str = "table"
    x: int = 0

    @property
    def name(self):
        """The row's name, which ROWS= is matched against."""
        prefix = "" if self.group == "table" else f"grow-{self.group}-"
        return f"{prefix}{self.stand.name()}-{self.what}"

    @property
    def title(self):
        """For people: what the load is."""
        if self.how in ("sync", "memory"):
            return self.load
        if self.how == "rebuild":
            return "rebuild under 4 KiB random writes"
        load = self.load if self.how == "load" else f"rw={self.load} bs=4k depth=64"
        words = dict(word.split("=") for word in load.split())
        size = words["bs"].replace("k", " KiB").replace("m", " MiB")
        kind = words["rw"].replace("rand", "random ") if "rand" in words["rw"] else f"sequential {words['rw']}"
        text = f"{size} {kind}"
        text += " (whole rows)" if self.what == "write-row" else " of lost blocks" if "of-lost" in self.what else ""
        text += f", {words['depth']} in flight"
        text += " by each of 2 jobs" if words.get("jobs") == "2" else ""
        return text + (", fio" if self.how == "fio" else "")

    @property
    def writes(self):
        """Whether the load writes."""
        return "write" in self.load

    @property
    def ceiling_load(self):
        """What the ceiling is measured by: the row's own load; a rebuild writes one member from end to end."""
        return "rw=write bs=1m depth=16" if self.how == "sync" else self.load


MB = ("mb_per_s",)


def _whole(stand):
    """Rows for an array that is whole."""
    four = "rw=randwrite bs=4k"
    ram = stand.kind == "ram"
    plain = stand == Stand()
    # On RAM disks it is the floor that counts: see summary.py.
    small = 0 if ram else 1.5
    most = {"cpu": 0.5, "tail": 0.5} if ram else {}
    row = {"share": 0.45, "skipping": 0.6} if stand.level == 5 else {"share": 0.35, "skipping": 0.5}
    yield Row(stand, "randwrite-4k-d64-j1", f"{four} depth=64 jobs=1", aims=(small,), floor=0.8, **most, ceiling=True, parity=True,
              quick=True)
    yield Row(stand, "randwrite-4k-d64-j2", f"{four} depth=64 jobs=2", aims=(small,), floor=0.8, **most, ceiling=True, parity=True,
              quick=True)
    yield Row(stand, "randwrite-4k-d1", f"{four} depth=1", aims=(3.0 if ram else 1.5,), ceiling=True, quick=ram)
    yield Row(stand, "randwrite-64k", "rw=randwrite bs=64k depth=32", MB, (3.5,), ceiling=True, parity=True, quick=ram)
    yield Row(stand, "write-1m", "rw=write bs=1m depth=16", MB, (3.5,), **row, ceiling=True, parity=True, quick=ram)
    yield Row(stand, "write-row", f"rw=write bs={stand.row_kib}k depth=16", MB, (3.5,), **row, ceiling=True, parity=True)
    yield Row(stand, "randread-4k", "rw=randread bs=4k depth=64", aims=(1.0,), share=0.95, ceiling=True, quick=plain)
    yield Row(stand, "read-1m", "rw=read bs=1m depth=16", MB, (1.0,), share=0.95, ceiling=True, quick=plain)


def _fio(stand):
    """The same load from user space, in batches: what is left of the difference for a program."""
    yield Row(stand, "fio-randwrite-4k-d64", "randwrite", how="fio", ceiling=True)
    yield Row(stand, "fio-randread-4k-d64", "randread", how="fio", ceiling=True)


def addresses_of_lost(stand):
    """The generator's words for only the blocks on slot 1, left-symmetric layout.

    Level 5: chunk N is on member N modulo their number. Level 6: on slot 1 chunks are (members - 1) apart, for members - 2
    rows; then it has parity in two rows.
    """
    chunk, members = stand.chunk, stand.members
    if stand.level == 5:
        return f"offset={chunk}k period={members * chunk}k length={chunk}k"
    return f"period={members * (members - 2) * chunk}k step={(members - 1) * chunk}k count={members - 2} length={chunk}k"


def _degraded(stand):
    """Rows for an array that has lost the member in slot 1."""
    lost = addresses_of_lost(stand)
    plain = stand == Stand(lost=1)
    yield Row(stand, "randread-4k-j1", "rw=randread bs=4k depth=64 jobs=1", aims=(1.2,), cpu=0.5, quick=plain)
    yield Row(stand, "randread-4k-j2", "rw=randread bs=4k depth=64 jobs=2", aims=(1.8,))
    yield Row(stand, "read-1m", "rw=read bs=1m depth=16", MB, (3.5,), parity=True, quick=plain)
    yield Row(stand, "randread-4k-of-lost", f"rw=randread bs=4k depth=64 {lost}", aims=(1.5,), parity=True)
    yield Row(stand, "randread-64k-of-lost", f"rw=randread bs=64k depth=16 {lost}", MB, (3.0,), parity=True)
    yield Row(stand, "randwrite-4k", "rw=randwrite bs=4k depth=64", aims=(1.3,), parity=True, quick=plain)


def _sync(stand):
    """What md's sync thread does."""
    ram = stand.kind == "ram"
    for action in ("resync", "check", "rebuild"):
        alone = action == "rebuild" and not ram
        yield Row(stand, action, action, MB, (3.0 if ram else 0.0,), member=0.8 if alone else 0, how="sync", ceiling=alone,
                  parity=True, quick=stand == Stand() and action != "check")
    yield Row(stand, "rebuild-under-randwrite-4k", "rw=randwrite bs=4k depth=16", ("rebuild_mb_per_s", "iops"), (1.0, 1.0),
              either=2.0, how="rebuild")


def _coalesce(stand):
    """Sequential writes whose members are slow: whole rows have to form from what is in flight, if that is a row and more; of
    less no more members may be read than C reads."""
    for kib in (4, 16, 64):
        for rows, name in ((2, "deep"), (1, "row"), (0.5, "shallow")):
            depth = max(1, int(rows * stand.row_kib / kib))
            yield Row(stand, f"write-{kib}k-{name}", f"rw=write bs={kib}k depth={depth}",
                      ("member_reads_per_mib", "mb_per_s"), (1.0 if rows < 1 else 0, 0), none=rows >= 1)


def _growth(level):
    """The points of the growth plots."""
    plain = Stand(level=level)

    def point(group, x, stand, what, load, metrics=("iops",)):
        return Row(stand, f"{what}-{group}{x}", load, metrics, group=group, x=x)

    for depth in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        yield point("depth", depth, plain, "randwrite-4k", f"rw=randwrite bs=4k depth={depth}")
    for jobs in (1, 2, 4, 8):
        yield point("jobs", jobs, plain, "randwrite-4k", f"rw=randwrite bs=4k depth=16 jobs={jobs}")
    for members in (4, 5, 6, 8, 12, 16, 24):
        stand = replace(plain, members=members)
        yield point("members", members, stand, "randwrite-4k", "rw=randwrite bs=4k depth=64")
        yield point("members", members, stand, "write-1m", "rw=write bs=1m depth=16", MB)
    for chunk in (16, 32, 64, 128, 256, 512, 1024):
        stand = replace(plain, chunk=chunk)
        yield point("chunk", chunk, stand, "randwrite-4k", "rw=randwrite bs=4k depth=64")
        yield point("chunk", chunk, stand, "write-1m", "rw=write bs=1m depth=16", MB)


def rows():
    """All of them, those on the same stand together."""
    for kind in ("ram", "null"):
        for level in (5, 6):
            stand = Stand(kind=kind, level=level)
            yield from _whole(stand)
            yield from _fio(stand)
            yield from _sync(stand)
            if kind == "ram":
                yield Row(stand, "memory", "memory of strips", ("bytes_of_one", "bytes_of_sixteen"), (1.5, 0.25), how="memory")
            yield from _degraded(replace(stand, lost=1))
    for kind in ("ram", "null"):
        for level in (5, 6):
            wide = Stand(kind=kind, level=level, members=10, chunk=512)
            yield Row(wide, "write-1m", "rw=write bs=1m depth=16", MB, (3.5,), ceiling=True, parity=True)
            yield Row(wide, "write-row", f"rw=write bs={wide.row_kib}k depth=4", MB, (3.5,), ceiling=True, parity=True)
            yield Row(wide, "randwrite-4k-d64-j1", "rw=randwrite bs=4k depth=64", aims=(1.2,), ceiling=True)
    for bitmap in (False, True):
        stand = Stand(bitmap=bitmap)
        yield Row(stand, "bitmap-compared-d1", "rw=randwrite bs=4k depth=1", ("mean_us",), quick=True)
        yield Row(stand, "bitmap-compared-d16", "rw=randwrite bs=4k depth=16", ("mean_us",))
    for kind in ("band", "delay"):
        for level in (5, 6) if kind == "band" else (5,):
            yield Row(Stand(kind=kind, level=level), "rebuild", "rebuild", MB, member=0.8, how="sync", ceiling=True)
    yield from _coalesce(Stand(kind="delay"))
    for level in (5, 6):
        yield from sorted(_growth(level), key=lambda row: (row.stand.members, row.stand.chunk))
