#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=6 disk-size=40 cpus=2 timeout=240 least=no
"""An array's counters after I/O that is known: what has to be counted is, and nothing else."""

import os
import re
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk
from mapper import broken, dm, linear, need_target, sectors_of
from nullblk import nullb, remove_all
from raid import Array, rams, stop_all
from report import expect, expect_range, run, wait_for
import generator
import kernel

KIB = 1024
LEAST = "/sys/module/raid456/parameters/least_memory"
REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def counters(array):
    """{name: value}"""
    return {name: int(value) for name, value in (line.split() for line in array.get("counters").splitlines())}


class Counted:
    """What an array's counters grow by while the `with` block runs."""

    def __init__(self, array):
        self.array, self.grown, self._before = array, {}, None

    def __enter__(self):
        self._before = counters(self.array)
        return self

    def __exit__(self, *_):
        after = counters(self.array)
        self.grown = {name: after[name] - before for name, before in self._before.items()}

    def expect(self, what, **expected):
        """Ends the case unless just these counters have grown, by so much; runs, wake-ups and what is held for streams are
        not looked at."""
        came = {name: n for name, n in self.grown.items() if n and not name.startswith(("runs_", "lane_", "stream_"))}
        expect(what, expected, came)


def fresh(level=5, members=6, **words):
    """An array with nothing in memory."""
    words.setdefault("chunk", 64)
    return Array.create(rams(members), level=level, size=32, **words).reassemble()


def documented():
    """Each counter is told of in Documentation/tuning.md, and no others; they start at 0."""
    array = fresh()
    with open(f"{REPO}/Documentation/tuning.md", encoding="utf-8") as file:
        section = file.read().partition("\n## Counters\n")[2].partition("\n## ")[0]
    told = [name for line in re.findall(r"^\| (`.*?) \|", section, re.M) for name in re.findall(r"`(\w+)`", line)]
    expect("names in Documentation/tuning.md and in the file", sorted(told), sorted(counters(array)))
    expect("writes of an array that was just assembled", 0, counters(array)["member_writes"])


def full(level):
    """Whole rows: every strip is full, no member is read, one bio for each member and span."""
    array = fresh(level)
    row = (6 - (level - 4)) * 64
    with Counted(array) as counted:
        generator.load(array.path, f"rw=write bs={row}k depth=1 ios=8")
    counted.expect("8 rows of 16 strips on 6 members", parts=8, strips_full=128, jobs_cpu=8, member_writes=48,
                   member_write_sectors=6 * 8 * 128)


def in_pieces(level):
    """The same while there is no memory for what a long bio takes: each has a few blocks, and is followed by another one."""
    array = fresh(level)
    row = (6 - (level - 4)) * 64

    def set_least(text):
        with open(LEAST, "w", encoding="ascii") as file:
            file.write(text)
    # No array is started meanwhile, which would have the least memory altogether.
    set_least("Y")
    try:
        with Counted(array) as counted:
            generator.load(array.path, f"rw=write bs={row}k depth=1 ios=8")
    finally:
        set_least("N")
    expect_range("bios of 2 to 4 blocks, for 8 rows of 16 strips on 6 members", 6 * 8 * 4, 6 * 8 * 8, counted.grown["member_writes"])
    counted.expect("8 rows in pieces", parts=8, strips_full=128, jobs_cpu=8, member_writes=counted.grown["member_writes"],
                   member_write_sectors=6 * 8 * 128)


def rmw(level):
    """Single blocks, first not in memory, then in memory."""
    array = fresh(level)
    offsets = [n * 512 * KIB for n in range(20)]
    read = level - 3
    with Disk(array.path) as disk:
        for words in ({"cache_misses": read * 20, "member_reads": read * 20, "member_read_sectors": read * 160},
                      {"cache_hits": read * 20}):
            with Counted(array) as counted:
                for offset in offsets:
                    disk.write(offset, os.urandom(4 * KIB))
            expected = dict(parts=20, strips_rmw=20, jobs_cpu=20, member_writes=read * 20, member_write_sectors=read * 160, **words)
            counted.expect("20 blocks, " + ("in memory" if "cache_hits" in words else "not in memory"), **expected)


def rcw():
    """With three members the other block is read: less than the old one and parity."""
    array = fresh(members=3)
    with Disk(array.path) as disk, Counted(array) as counted:
        for n in range(10):
            disk.write(n * 256 * KIB, os.urandom(4 * KIB))
    counted.expect("10 blocks", parts=10, strips_rcw=10, jobs_cpu=10, cache_misses=10, member_reads=10, member_read_sectors=80,
                   member_writes=20, member_write_sectors=160)


def reads():
    """A healthy array's reads go straight to the member; those of a member that is lost do not."""
    array = fresh()
    with Disk(array.path) as disk:
        with Counted(array) as counted:
            for n in range(25):
                disk.read(n * 64 * KIB, 4 * KIB)
        counted.expect("25 reads", direct_reads=25)
        array.fail(array.slots()[1])
        with Counted(array) as counted:
            # Chunk N is on member N modulo their number.
            for n in range(10):
                disk.read((1 + 6 * n) * 64 * KIB, 4 * KIB)
        counted.expect("10 reads of blocks of the lost member", parts=10, cache_misses=50, member_reads=50,
                       member_read_sectors=400, jobs_cpu=20)
        with Counted(array) as counted:
            disk.read(64 * KIB, 4 * KIB)
        expect("one of them again: blocks in memory that it took", True, counted.grown["cache_hits"] > 0)
        expect("and members that were read", 0, counted.grown["member_reads"])
        with Counted(array) as counted:
            # Another strip of the first row, and another member's block.
            disk.write((2 * 64 + 32) * KIB, os.urandom(4 * KIB))
        expect("a write beside lost blocks is one by read-modify-write", 1, counted.grown["strips_rmw"])


def failed_reads():
    """A direct read that its member cannot answer goes through a span, which makes the block of the others; the reader runs it."""
    disks = rams(6)
    disks[1] = dm("dying", linear(disks[1]))
    array = Array.create(disks, size=32, chunk=64).reassemble()
    dm("dying", broken(rams(6)[1]))
    with Disk(array.path) as disk, Counted(array) as counted:
        # In the middle: programs that look for partitions read at both ends.
        disk.read((1 + 6 * 20) * 64 * KIB, 4 * KIB)
    expect("direct reads that failed", 1, counted.grown["direct_reads_failed"])
    expect_range("members' sectors that were read instead", 40, 1 << 20, counted.grown["member_read_sectors"])
    expect_range("times that a span was run", 1, 1000, counted.grown["runs_inline"] + counted.grown["runs_lane"])


def reads_that_end_later():
    """Reads of a lost member's blocks, where the others end theirs by an interrupt: of those that come together a lane begins all
    but the first, while there are CPUs that no submitter has. Each is run twice: to read the members, and when they have been."""
    members = [nullb(f"later{n}", 16, irqmode=2, completion_nsec=20000) for n in range(6)]
    array = Array.create(members, size=8, chunk=64).reassemble()
    array.fail(array.slots()[1])
    with Counted(array) as counted:
        # A block of a row each, so that no span has two. The first eight come together.
        generator.load(array.path, "rw=read bs=4k depth=8 ios=64 offset=64k period=384k length=4k")
    expect("parts", 64, counted.grown["parts"])
    expect("members that were read", 5 * 64, counted.grown["member_reads"])
    # On the debug kernel a submitter may be slower than its members, so that nothing of its is ever left to begin.
    expect_range("spans that their submitter ran", 1, 64 if kernel.SLOW > 1 else 64 - 7, counted.grown["runs_inline"])


def read_once(level):
    """Rows with a chunk that nobody holds, where members end their bios by an interrupt: of each member a chunk is read once, also where it is
    both asked for and needed for the lost one. What of a request is in rows or parts of them without such a chunk goes past the spans."""
    members = [nullb(f"once{n}", 16, irqmode=2, completion_nsec=20000) for n in range(6)]
    array = Array.create(members, level=level, size=8, chunk=64).reassemble()
    slot = 1
    array.fail(array.slots()[slot])
    geometry = array.geometry()
    data = geometry.data
    rows = range(16)
    lost = [row for row in rows if slot in geometry.row(row).data]
    expect("rows that have lost data, and that have not", True, 0 < len(lost) < len(rows))
    with Counted(array) as counted, Disk(array.path) as disk:
        for row in rows:
            disk.read(row * data * 64 * KIB, data * 64 * KIB)
    whole = len(rows) - len(lost)
    counted.expect("counters", parts=len(lost), member_reads=len(lost) * data, member_read_sectors=len(lost) * data * 128,
                   cache_misses=len(lost) * data * 16, jobs_cpu=counted.grown["jobs_cpu"], direct_reads=whole * data)


def without_parity():
    """A strip whose parity member is lost is written without."""
    array = fresh()
    lost = array.slots()[5]
    array.fail(lost)
    # Until then a write waits, which is counted.
    wait_for("that is on record", lambda: "blocked" not in array.state(lost), 10)
    with Disk(array.path) as disk, Counted(array) as counted:
        disk.write(0, os.urandom(4 * KIB))
    counted.expect("a block of the first row", parts=1, strips_data_only=1, jobs_cpu=1, member_writes=1, member_write_sectors=8)


def joins():
    """What is submitted together forms whole rows: a chunk of one block, five for each row."""
    array = fresh(chunk=4)
    with Counted(array) as counted:
        generator.load(array.path, "rw=write bs=4k depth=20 ios=20")
    counted.expect("20 blocks in 4 rows", parts=20, parts_joined=16, strips_full=4, jobs_cpu=counted.grown["jobs_cpu"],
                   member_writes=counted.grown["member_writes"], member_write_sectors=4 * 6 * 8)


def waits():
    """Writes of a block that is being written wait for it."""
    need_target("delay")
    slow = [dm(f"slow{n}", f"0 {sectors_of(disk)} delay {disk} 0 20") for n, disk in enumerate(rams(4))]
    array = Array.create(slow, size=4, chunk=64).reassemble()

    def write():
        with Disk(array.path) as disk:
            for _ in range(5):
                disk.write(0, bytes(4 * KIB))

    writers = [threading.Thread(target=write) for _ in range(3)]
    with Counted(array) as counted:
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    expect("parts", 15, counted.grown["parts"])
    # The first one does not, and those that wait together go on together.
    expect_range("parts that had to wait for those before", 5, 14, counted.grown["parts_waited"])
    expect_range("spans run by a lane, as these members do not complete at once", 5, 1000, counted.grown["runs_lane"])
    expect_range("wake-ups of it", 1, counted.grown["runs_lane"], counted.grown["lane_wakeups"])


def parks():
    """What spans wait for: the bitmap, pages, the superblock."""
    array = fresh(bitmap="internal")
    with Disk(array.path) as disk, Counted(array) as counted:
        for n in range(5):
            disk.write(n * 4096 * KIB, os.urandom(4 * KIB))
    # The flush may have ended before the write comes to wait for it.
    expect_range("writes that waited for the bitmap", 1, 5, counted.grown["parks_bitmap"])
    expect("flushes of the bitmap", 5, counted.grown["bitmap_flushes"])
    expect("writes whose bits were known to be durable", 0, counted.grown["bitmap_known"])
    with Disk(array.path) as disk, Counted(array) as counted:
        for n in range(5):
            disk.write((n + 5) * 4096, os.urandom(4 * KIB))
    # The array's thread may have been woken meanwhile; then a write has to wait once more.
    expect_range("writes beside the last one whose bits were known to be durable", 3, 5, counted.grown["bitmap_known"])
    stop_all()

    need_target("delay")
    disks = rams(6)
    disks[2] = dm("dying", linear(disks[2]))
    # So that the superblock takes its time.
    disks[0] = dm("slow", f"0 {sectors_of(disks[0])} delay {disks[0]} 0 20")
    array = Array.create(disks, size=32, chunk=64).reassemble()
    array.set("stripe_cache_size", 17)
    # The superblock is not written by itself, so that it is not that which finds the member dead.
    array.set("safe_mode_delay", 0)
    with Counted(array) as counted:
        generator.load(array.path, "rw=randwrite bs=64k depth=32 ios=200")
    expect_range("spans that waited for pages, of 17 strips", 100, 100000, counted.grown["parks_memory"])
    expect("nobody waited for the superblock", 0, counted.grown["parks_superblock"])
    dm("dying", broken(rams(6)[2]))
    with Disk(array.path) as disk, Counted(array) as counted:
        disk.write(2 * 64 * KIB, os.urandom(64 * KIB))
    expect("the span that waited until its member's failure was recorded", 1, counted.grown["parks_superblock"])


def shared_flushes():
    """Writes to places that are not marked share flushes of the bitmap: members take their time, and 32 writes are in flight."""
    need_target("delay")

    def members(milliseconds):
        return [dm(f"slow{n}", f"0 {sectors_of(disk)} delay {disk} 0 {milliseconds}") for n, disk in enumerate(rams(4))]

    array = Array.create(members(0), size=32, chunk=64, bitmap="internal").reassemble()
    members(20 * kernel.SLOW)
    with Counted(array) as counted:
        generator.load(array.path, "rw=randwrite bs=4k depth=32 ios=320")
    # Of 512 bits 320 writes set some 240; each for itself would be as many flushes. A span that gets another one while it waits may wait again.
    expect_range("waits for the bitmap", 150, 640, counted.grown["parks_bitmap"])
    expect_range("flushes of the bitmap", 1, 160, counted.grown["bitmap_flushes"])
    members(0)


def flushes():
    """Each fsync of the device is a flush."""
    array = fresh()
    with Disk(array.path) as disk, Counted(array) as counted:
        for _ in range(3):
            disk.sync()
    counted.expect("3 of them", flushes=3)


def cuts():
    """A request for more spans than can be reserved at once, 16, is cut."""
    array = fresh(chunk=2048)
    array.set("../queue/max_sectors_kb", 2048)
    with Counted(array) as counted:
        generator.load(array.path, "rw=write bs=2m depth=1 ios=2")
    expect("two writes for 32 spans each", 2, counted.grown["requests_cut"])
    expect("parts", 64, counted.grown["parts"])


def sync():
    """A check reads all members, and is neither cache hit nor miss."""
    array = fresh()
    with Counted(array) as counted:
        array.scan()
    counted.expect("32 MiB of 6 members", parts=512, jobs_cpu=512, member_reads=6 * 512, member_read_sectors=6 * 65536)


def take_down():
    """Stops the arrays, and takes null_blk's devices away."""
    stop_all()
    remove_all()


if __name__ == "__main__":
    run([
        ("names", documented),
        ("level 5: full strips", lambda: full(5)),
        ("level 6: full strips", lambda: full(6)),
        ("level 5: full strips in pieces", lambda: in_pieces(5)),
        ("level 6: full strips in pieces", lambda: in_pieces(6)),
        ("level 5: read-modify-write", lambda: rmw(5)),
        ("level 6: read-modify-write", lambda: rmw(6)),
        ("reconstruct-write", rcw),
        ("reads", reads),
        ("reads that fail", failed_reads),
        ("reads of lost blocks that end later", reads_that_end_later),
        ("level 5: rows with a lost chunk are read once", lambda: read_once(5)),
        ("level 6: rows with a lost chunk are read once", lambda: read_once(6)),
        ("without parity", without_parity),
        ("joins", joins),
        ("waits", waits),
        ("parks", parks),
        ("flushes of the bitmap are shared", shared_flushes),
        ("flushes", flushes),
        ("cuts", cuts),
        ("check", sync),
    ], cleanup=take_down)
