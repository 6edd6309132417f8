#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml more=debian disks=7 disk-size=48 timeout=200 debian.timeout=400
"""dm-raid without LVM: each level's life, with members that vanish and come back, or too many of them; no devices for metadata; growth and removal under load; tables of another shape, and of
another level; the two numbers that dm-raid reads in the array's private data, and the call by which it changes them; requests of more rows than the C module has room for.
What LVM makes of it is in md_lvm.py."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, Shadow, errno_of, pattern
from load import Load
from mapper import broken, dm, need_target, waiting_table
from raid import name_of, rams, speed_limit, stop_all
from report import Skipped, expect, expect_match, expect_range, run, wait_for, within
from torture import Disks
import generator
import kernel

NAME = "volume"
MIB = 1 << 20
META = 4  # MiB of each member's metadata device


def status():
    """What dm-raid says: LEVEL MEMBERS HEALTH DONE/ALL ACTION MISMATCHES ..., a list. HEALTH has a letter for each member: A in
    sync, a not yet, D dead."""
    return kernel.sh("dmsetup", "status", NAME)[1].split()[3:]


def wait_synced():
    """Waits for dm-raid to say that all members are in sync, and nothing is to be done."""
    def done():
        _, _, letters, progress, action, *_ = status()
        return set(letters) == {"A"} and len(set(progress.split("/"))) == 1 and action == "idle"
    wait_for("dm-raid in sync", done, 60, 0.02)


def wait_opened(times):
    """Waits until the volume is opened so many times: by a load's jobs, for one."""
    wait_for("a load", lambda: int(kernel.sh("dmsetup", "info", "-c", "--noheadings", "-o", "open", NAME)[1]) >= times, 20)


def expect_no_mismatch():
    """Ends the case unless a check finds all parity right."""
    kernel.sh("dmsetup", "message", NAME, "0", "check")
    wait_synced()
    expect("mismatches", "0", status()[5])


class Volume:
    """A device of dm-raid's, its members slices of disks that can be taken away. chunk: KiB; size: MiB of each member that are
    used; words: more parameters; metadata: whether members have devices for it; members: how many disks are members, if not
    all; room: MiB of each disk beyond what is used."""

    path = f"/dev/mapper/{NAME}"

    def __init__(self, kind, disks, chunk=64, size=8, words=(), metadata=True, members=None, room=0):
        need_target("raid")
        speed_limit()
        self._kind, self._chunk, self._words, self._size, self._room = kind, chunk, words, size, room
        self._members = members or len(disks)
        for disk in disks:
            # On RAM disks what an earlier case has left.
            with Disk(disk) as raw:
                raw.write(0, bytes(64 * 1024))
        places = ["-"] * len(disks)
        if metadata:
            meta, = rams(1, 6)
            with Disk(meta) as raw:
                raw.write(0, bytes(len(disks) * META * MIB))
            places = [dm(f"meta{n}", f"0 {META * 2048} linear {meta} {n * META * 2048}") for n in range(len(disks))]
        self._disks = disks
        self._pairs = [(place, dm(f"data{n}", self._slice(n))) for n, place in enumerate(places)]
        self.make()

    def _slice(self, slot):
        """The table of a member's data."""
        return f"0 {(self._size + self._room) * 2048} linear {self._disks[slot]} 0"

    def table(self, kind=None, chunk=None, words=(), members=None):
        """The volume's table, or one of another kind, chunk or number of members, or with more parameters."""
        kind, members = kind or self._kind, members or self._members
        words = [(chunk or self._chunk) * 2, *self._words, *words]
        parities = 2 if kind.startswith("raid6") else 1
        return " ".join(str(word) for word in (
            0, (members - parities) * self._size * 2048, "raid", kind, len(words), *words, members,
            *[path for pair in self._pairs[:members] for path in pair]))

    def make(self):
        """Makes the device."""
        dm(NAME, self.table())
        wait_synced()

    def lose(self, slot):
        """From now on everything fails that is asked of a member."""
        dm(f"data{slot}", broken(f"/dev/mapper/data{slot}"))

    def grow(self, size):
        """Has it use so many MiB of each member, as lvextend does."""
        self._size = size
        for slot in range(len(self._disks)):
            dm(f"data{slot}", self._slice(slot))
        dm(NAME, self.table())

    def find(self, slot):
        """It answers again, with what it held."""
        dm(f"data{slot}", self._slice(slot))


def life(kind, parities):
    """Written and read, whole, without members, and with those again that had vanished: what they missed they get."""
    volume = Volume(kind, rams(3 + parities))
    with Shadow(volume.path) as shadow:
        shadow.fill()
        shadow.random_writes(seed=1, count=60)
        shadow.verify("whole")
        for slot in range(1, 1 + parities):
            volume.lose(slot)
            shadow.random_writes(seed=slot + 1, count=40)
            shadow.verify(f"without {slot}")
        expect_match("members that are dead", rf"^[Aa]D{{{parities}}}[Aa]+$", status()[2])
        for slot in range(1, 1 + parities):
            volume.find(slot)
        shadow.random_writes(seed=8, count=20)
        # What LVM's --refresh does.
        kernel.sh("dmsetup", "suspend", NAME)
        kernel.sh("dmsetup", "resume", NAME)
        wait_synced()
        shadow.verify("with them again")
        expect_no_mismatch()
        for slot in (0, 2 + parities)[:parities]:
            volume.lose(slot)
        shadow.verify("without others")
        shadow.random_writes(seed=9, count=20)
        shadow.verify("written without others")


def grown(kind, parities):
    """Made larger under load: what was there stays, and what is new gets parity, though members hold garbage there."""
    disks = rams(3 + parities)
    volume = Volume(kind, disks)
    with Shadow(volume.path) as shadow:
        shadow.fill()
        kept, old = bytes(shadow.bytes[8 * MIB:]), shadow.length
    for disk in disks:
        with Disk(disk) as raw:
            raw.write(8 * MIB, pattern(disk, 4 * MIB))
    load = Load(volume.path, 8 * MIB, seconds=4 * kernel.patience(), jobs=2, depth=16, largest="128k")
    volume.grow(12)
    expect("the load goes on", True, load.running())
    wait_synced()
    load.finish()
    with Shadow(volume.path) as shadow:
        expect("its size", old // 8 * 12, shadow.length)
        expect("what was there stays", True, shadow.disk.read(8 * MIB, len(kept)) == kept)
        expect_no_mismatch()
        shadow.bytes[:] = shadow.disk.read(0, shadow.length)
        shadow.random_writes(seed=1, count=40, begin=old, end=shadow.length)
        for slot in range(1, 1 + parities):
            volume.lose(slot)
        shadow.verify("without members")


def too_many_lost(kind, parities):
    """One member more dies than there are parities. dm-raid does not ask md core, which would let nobody write: each write ends with
    EIO, also where its data has a member, for its parity may have none."""
    lost = range(1, 2 + parities)
    volume = Volume(kind, rams(3 + parities))
    # A row, which has a chunk on each member but those with parity.
    row = 3 * 65536
    with Shadow(volume.path) as shadow:
        shadow.fill()
        for slot in lost:
            volume.lose(slot)

            def is_dead(slot=slot):
                errno_of(lambda: shadow.disk.write(0, bytes(row)))
                return status()[2][slot] == "D"
            wait_for(f"member {slot} is dead", is_dead, 20)
        chunks = range(row, 9 * row, 65536)
        ends = [within(20, lambda at=at: errno_of(lambda: shadow.disk.write(at, bytes(4096)))) for at in chunks]
        expect("ends of writes", {"EIO"}, set(ends))


def without_metadata(kind, parities):
    """Without devices for metadata nobody records that members have failed, and nobody may wait for that: writes and flushes end, and so
    does what stops the device for a moment, or takes it down."""
    if kernel.driver() == "c" and not os.environ.get("RAID456_C"):
        raise Skipped("the C module ends no write after the first sync")
    volume = Volume(kind, rams(3 + parities), words=("sync",), metadata=False)
    with Shadow(volume.path) as shadow:
        within(30, shadow.fill)
        within(30, shadow.disk.sync)
        for slot in range(1, 1 + parities):
            volume.lose(slot)
            within(30, lambda seed=slot: shadow.random_writes(seed, count=40))
            within(30, shadow.disk.sync)
            shadow.verify(f"without {slot}")
        expect_match("members that are dead", rf"^[Aa]D{{{parities}}}[Aa]+$", status()[2])
        for step in ("suspend", "resume"):
            within(30, lambda what=step: kernel.sh("dmsetup", what, NAME))
        within(30, lambda: shadow.random_writes(seed=9, count=20))
        shadow.verify("after it was stopped for a moment")
    within(30, lambda: kernel.sh("dmsetup", "remove", NAME))


def removal():
    """Under load a device is not removed; when its table goes all requests end, and nothing stays behind."""
    volume = Volume("raid5_ls", rams(4))
    load = Load(volume.path, 24 * MIB, seconds=60, jobs=2, depth=16, largest="128k", mix="randwrite")
    wait_opened(2)
    expect("dmsetup remove under load is refused", True, kernel.sh("dmsetup", "remove", NAME, check=False)[0] != 0)
    expect("the load goes on", True, load.running())
    kernel.sh("dmsetup", "wipe_table", NAME)
    with Disk(volume.path) as disk:
        expect("a read of what is gone", "EIO", within(20, lambda: errno_of(lambda: disk.read(0, 4096))))
    load.finish_without_device(30)
    kernel.sh("dmsetup", "remove", NAME)
    volume.make()
    expect_no_mismatch()
    kernel.sh("dmsetup", "remove", NAME)
    expect("removing dm-raid", "", kernel.delete_module("dm_raid"))


def other_shapes():
    """A table that asks for a reshape, or prepares one, is refused when it is loaded, under load, and not kept. The C module is asked before dm-raid has
    told it how many members come or go, and takes it. Without room for a reshape dm-raid ignores what a table asks for: the volume goes on in
    its old shape, and dm cuts its requests by the other chunk."""
    room, loaded = 2, 8 * MIB
    volume = Volume("raid5_ls", rams(5), members=4, room=room)
    offset = ("data_offset", room * 2048)
    asked = {
        "a member more, as LVM begins": volume.table(words=("rebuild", 4), members=5),
        "a member more": volume.table(words=("delta_disks", 1, *offset), members=5),
        "a member less": volume.table(words=("delta_disks", -1, *offset)),
        "another layout": volume.table("raid5_rs", words=offset),
        "another chunk": volume.table(chunk=128, words=offset),
    }
    with Shadow(volume.path) as shadow:
        shadow.fill()
        before = kernel.sh("dmsetup", "table", NAME)[1]
        load = Load(volume.path, loaded, seconds=4 * kernel.patience(), jobs=2, depth=16, largest="128k")
        wait_opened(3)
        for what, table in asked.items():
            log = kernel.Log()
            status, text = kernel.sh("dmsetup", "load", NAME, stdin=table + "\n", check=False)
            if kernel.driver() == "c":
                expect(f"{what}: dmsetup load", (0, ""), (status, text))
                kernel.sh("dmsetup", "clear", NAME)
            else:
                expect_match(f"{what}: dmsetup load", "Invalid argument", text)
                expect_match("kernel log", "reshaping is not supported", log.text())
            expect("a table that is loaded and not in use", "", waiting_table(NAME))
            expect("the table in use is the same", True, kernel.sh("dmsetup", "table", NAME)[1] == before)
        expect("the load goes on", True, load.running())
        load.finish()
        shadow.verify("what the load leaves alone", loaded)
        expect_no_mismatch()

        dm(NAME, volume.table(chunk=128))
        wait_synced()
        expect_match("dmsetup table", r" raid raid5_ls 1 128 ", kernel.sh("dmsetup", "table", NAME)[1])
        shadow.bytes[:loaded] = shadow.disk.read(0, loaded)
        shadow.random_writes(seed=1, count=60)
        shadow.verify("requests that cross chunks")
        expect_no_mismatch()
        volume.lose(1)
        shadow.verify("without a member")


def other_level(before, after, words=()):
    """A table of the other level, as LVM's when it converts between 5 and 6: dm-raid starts the volume in that level, a member comes, which
    is rebuilt, or goes, and what was written stays."""
    members = {"raid5_ls": 4, "raid6_ls_6": 5}
    volume = Volume(before, rams(5), members=members[before])
    with Shadow(volume.path) as shadow:
        shadow.fill()
        shadow.random_writes(seed=1, count=60)
        dm(NAME, volume.table(after, words=words, members=members[after]))
        wait_synced()
        expect("dmsetup status", [after, str(members[after])], status()[:2])
        shadow.verify("in the other level")
        shadow.random_writes(seed=2, count=60)
        expect_no_mismatch()
        # As many as there are parities.
        for slot in range(1, members[after] - 2):
            volume.lose(slot)
        shadow.random_writes(seed=3, count=20)
        shadow.verify("without members")


def stripes():
    """dm-raid reads how many strips an array's cache has, by the places of two fields of the C module's: as many as it is asked
    for it does not ask the driver for; of others it does, and shows them."""
    if kernel.least():
        raise Skipped("the cache has one strip")
    for wanted in (256, 512, 100):
        log = kernel.Log()
        volume = Volume("raid5_ls", rams(4), words=("stripe_cache", wanted))
        expect_match("dmsetup table", rf" stripe_cache {wanted} ", kernel.sh("dmsetup", "table", NAME)[1])
        # It says so when it has called raid5_set_cache_size().
        expect(f"the cache is given {wanted} strips", wanted != 256, f"raid: {wanted} stripe cache entries" in log.text())
        with Shadow(volume.path) as shadow:
            shadow.fill(seed=wanted)
            shadow.verify()
        kernel.sh("dmsetup", "remove", NAME)


def large_requests():
    """Requests of 512 rows each: the C module notes in 256 bits which rows of a request are left to do."""
    if kernel.driver() == "c":
        raise Skipped("the C module would write past them")
    disks = Disks(4, 16, largest=8192)
    volume = Volume("raid5_ls", disks.paths, chunk=2048)
    with open(f"/sys/block/{name_of(volume.path)}/queue/max_sectors_kb", encoding="ascii") as file:
        expect_range("KiB of a request, at most", 2048, 1 << 20, int(file.read()))
    with Shadow(volume.path) as shadow:
        shadow.fill()
        # One in flight: each request writes the same bytes.
        generator.load(volume.path, f"rw=write bs=2m depth=1 ios={shadow.length // (2 * MIB)}")
        piece = shadow.disk.read(0, 2 * MIB)
        expect("blocks of a request that differ from each other", 512, len({piece[at:at + 4096] for at in range(0, 2 * MIB, 4096)}))
        shadow.bytes[:] = piece * (shadow.length // (2 * MIB))
        shadow.verify("after large writes")
        expect_no_mismatch()
        volume.lose(2)
        shadow.verify("without a member")
        wait_for("the member is dead", lambda: status()[2][2] == "D", 10)
        generator.load(volume.path, "rw=read bs=2m depth=2 ios=12")


def cleanup():
    """Takes everything down."""
    Disk.close_all()
    kernel.sh("dmsetup", "remove", "--force", NAME, check=False)
    stop_all()
    Disks.remove()


if __name__ == "__main__":
    run([
        ("raid4", lambda: life("raid4", 1)),
        ("raid5", lambda: life("raid5_ls", 1)),
        ("raid6", lambda: life("raid6_zr", 2)),
        ("raid5: more members lost than there are parities", lambda: too_many_lost("raid5_ls", 1)),
        ("raid6: more members lost than there are parities", lambda: too_many_lost("raid6_zr", 2)),
        ("raid5: without metadata", lambda: without_metadata("raid5_ls", 1)),
        ("raid6: without metadata", lambda: without_metadata("raid6_zr", 2)),
        ("raid5: made larger under load", lambda: grown("raid5_ls", 1)),
        ("raid6: made larger under load", lambda: grown("raid6_zr", 2)),
        ("tables of another shape", other_shapes),
        ("raid5 becomes raid6", lambda: other_level("raid5_ls", "raid6_ls_6", ("rebuild", 4))),
        ("raid6 becomes raid5", lambda: other_level("raid6_ls_6", "raid5_ls")),
        ("removal under load", removal),
        ("the cache's size", stripes),
        ("requests of 512 rows", large_requests),
    ], cleanup=cleanup)
