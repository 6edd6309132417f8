#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=16 timeout=240
"""Discard: offered only when it is done; whole stripes read as zeroes afterwards, the rest as it was, parity right; while
members are missing, rebuilt, replaced or checked, under load, and beside a member that can only be written. A secure
erase and atomic writes are not offered."""

import errno
import fcntl
import os
import random
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from blocktrace import BlockTrace
from disk import Disk, SECTOR, Shadow, pattern
from mapper import dm, linear, refusing
from nullblk import nullb, remove_all
from raid import Array, rams, stop_all
from report import Failed, Skipped, expect, expect_range, note, run, wait_for, within
from torture import Disks
import kernel

BLKDISCARD, BLKSECDISCARD = 0x1277, 0x127d
SAFELY = "/sys/module/raid456/parameters/devices_handle_discard_safely"


def safely(yes):
    """Says whether what the members discard reads as zeroes; an array asks when it starts."""
    with open(SAFELY, "w", encoding="ascii") as file:
        file.write("Y" if yes else "N")


def discard(disk, at, length, request=BLKDISCARD):
    """Discards bytes of a device. Returns the errno's name, "" for success."""
    try:
        fcntl.ioctl(disk.fileno(), request, struct.pack("QQ", at, length))
    except OSError as problem:
        return "EOPNOTSUPP" if problem.errno == errno.EOPNOTSUPP else errno.errorcode[problem.errno]
    return ""


def limit(array, name):
    """A limit of the array's queue."""
    with open(f"/sys/block/{array.name}/queue/{name}", encoding="ascii") as file:
        return int(file.read())


def forgotten(at, length, wide, granularity):
    """Begins and ends of what a discard makes zeroes: whole stripes. The block layer cuts it at the granularity before."""
    cut = min(-(-at // granularity) * granularity, at + length)
    for begin, end in ((at, cut), (cut, at + length)):
        first, behind = -(-begin // wide) * wide, end // wide * wide
        if first < behind:
            yield first, behind


def stripe_of(array):
    """Bytes of data of a stripe."""
    geometry = array.geometry()
    return geometry.chunk * geometry.data * SECTOR


def forget(array, shadow, at, length):
    """Discards, and takes note of the stripes that are zeroes then."""
    expect(f"discard of {length} bytes at {at}", "", discard(shadow.disk, at, length))
    for first, behind in forgotten(at, length, stripe_of(array), limit(array, "discard_granularity")):
        shadow.bytes[first:behind] = bytes(behind - first)


def filled(members, safe=True, **shape):
    """A synced, filled array and its shadow."""
    safely(safe)
    array = Array.create(members, **{"size": 8, **shape})
    shadow = Shadow(array.path)
    shadow.fill()
    return array, shadow


def not_offered():
    """Without the administrator's word, or with a member that cannot, discard is not offered and ends with EOPNOTSUPP."""
    for what, safe, members in (("nobody has said that it is safe", False, rams(4)),
                                ("a member cannot", True, [*rams(3), nullb("nullb0", 24)])):
        array, shadow = filled(members, safe)
        note(what)
        if kernel.driver() == "rust":
            expect("bytes of a discard", 0, limit(array, "discard_max_bytes"))
        else:
            note(f"the C module offers {limit(array, 'discard_max_bytes')} bytes")
        if safe and kernel.driver() == "c":
            note(f"discard of all: {discard(shadow.disk, 0, shadow.length) or 'success'}")
        else:
            expect("discard of all", "EOPNOTSUPP", discard(shadow.disk, 0, shadow.length))
            shadow.verify("after that")
        shadow.close()
        array.expect_at_rest()
        stop_all()


def shapes(level, members, chunk, layout=None):
    """Every kind of range: less than a stripe, a stripe and parts beside it, all of the array. The members forget it, and
    read nothing for that."""
    disks = rams(members)
    array, shadow = filled(disks, level=level, chunk=chunk, layout=layout)
    wide = stripe_of(array)
    if kernel.driver() == "rust":
        # A power of two: where a stripe is none the block layer would cut stripes by C's, which is the next larger one.
        expect("granularity", wide if wide & (wide - 1) == 0 else chunk * 1024, limit(array, "discard_granularity"))
    with BlockTrace(disks) as trace:
        for at, length in ((0, wide // 2), (wide, wide), (3 * wide + 4096, 2 * wide), (6 * wide - SECTOR, wide + 2 * SECTOR),
                           (9 * wide, 5 * wide - SECTOR)):
            if at + length < shadow.length:
                forget(array, shadow, at, length)
    if kernel.driver() == "rust":
        expect("members' reads", [], trace.reads())
        told = sum(bio.sectors for bio in trace.bios if "D" in bio.flags) * SECTOR
        expect_range("bytes that members were told to forget", wide, shadow.length * 2, told)
    shadow.verify("after discards")
    shadow.random_writes(seed=1, count=40)
    shadow.verify("after writes")
    array.expect_clean()
    array.expect_parity(shadow.bytes)
    forget(array, shadow, 0, shadow.length)
    shadow.verify("all of it")
    shadow.random_writes(seed=2, count=40)
    array.fail(disks[1])
    shadow.verify("without a member")
    shadow.close()


def missing_members(level):
    """As many members are missing as there are parities: discards, a rebuild, and everything is as it should be; the same
    while they are rebuilt, and while a member is replaced."""
    disks = rams(level - 1)
    array, shadow = filled(disks, level=level, bitmap="internal")
    wide = stripe_of(array)
    lost = disks[1:level - 3]
    for path in lost:
        array.fail(path)
        array.remove(path)
    forget(array, shadow, 5 * wide, 20 * wide)
    shadow.random_writes(seed=1, count=30)
    shadow.verify("with members missing")
    array.sync_speed(500)
    array.add_together(lost)
    wait_for("a rebuild", lambda: array.action() == "recover", 10)
    forget(array, shadow, 0, 8 * wide)
    forget(array, shadow, 30 * wide, shadow.length - 30 * wide)
    array.sync_speed()
    array.wait_rebuilt()
    shadow.verify("after the rebuild")
    array.expect_clean()
    array.expect_parity(shadow.bytes)
    spare = rams(1, level - 1)[0]
    shadow.fill(seed=3)
    array.add(spare)
    array.sync_speed(500)
    kernel.sh("mdadm", "--quiet", array.path, "--replace", disks[0], "--with", spare)
    wait_for("a replacement", lambda: array.action() == "recover", 10)
    forget(array, shadow, wide, shadow.length // 2)
    array.sync_speed()
    wait_for("the replacement's end", lambda: "in_sync" in array.state(spare) and array.idle(), 60)
    shadow.verify("after the replacement")
    array.remove(disks[0])
    array.expect_clean()
    array.expect_parity(shadow.bytes)
    shadow.close()


class Worker:
    """Writes, discards and reads its own part of an array, and knows what is there."""

    def __init__(self, array, number, begin, length):
        self.path, self.wide, self.begin, self.length = array.path, stripe_of(array), begin, length
        self.granularity = limit(array, "discard_granularity")
        self.random, self.problem, self.stop = random.Random(number), "", False
        self.discards = self.turns = 0
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            with Shadow(self.path) as shadow:
                while not self.stop:
                    self.turn(shadow)
                shadow.verify("a worker's part in the end", self.begin, self.length)
        except Exception as problem:
            self.problem = f"{type(problem).__name__}: {problem}"

    def turn(self, shadow):
        """One thing."""
        self.turns += 1
        what = self.random.randrange(4)
        stripes = self.length // self.wide
        first = self.random.randrange(stripes)
        count = self.random.randrange(1, min(8, stripes - first) + 1)
        at, length = self.begin + first * self.wide, count * self.wide
        if what == 0:
            problem = discard(shadow.disk, at, length)
            if problem:
                raise Failed(f"discard of {length} bytes at {at}: {problem}")
            for first, behind in forgotten(at, length, self.wide, self.granularity):
                shadow.bytes[first:behind] = bytes(behind - first)
            self.discards += 1
        elif what == 1:
            came = shadow.disk.read(at, length)
            if came != shadow.bytes[at:at + length]:
                raise Failed(f"read of {length} bytes at {at}: other data than was written or discarded")
        else:
            at += self.random.randrange(length // SECTOR) * SECTOR
            length = min(self.random.randrange(1, 64) * SECTOR, self.begin + self.length - at)
            data = pattern(self.random.random(), length)
            shadow.disk.write(at, data)
            shadow.bytes[at:at + length] = data


def under_load(level, what):
    """Discards, reads and writes of several submitters while the array is checked, or loses members and gets others."""
    disks, spares = rams(level - 1), rams(2, level - 1)
    array, shadow = filled(disks, level=level, size=12, bitmap="internal")
    shadow.close()
    with Disk(array.path) as disk:
        disk.write(0, bytes(disk.size))
    wide = stripe_of(array)
    part = array.size() // 3 // wide * wide
    workers = [Worker(array, number, number * part, part) for number in range(3)]
    end = time.monotonic() + 5 * kernel.patience()
    turn = 0
    while time.monotonic() < end and not any(worker.problem for worker in workers):
        if what == "check":
            array.try_set("sync_action", ("check", "repair", "idle")[turn % 3])
            time.sleep(0.05)
        else:
            members = list(array.slots().items())
            lost = [path for slot, path in members if slot < level - 4]
            if turn % 2:
                kernel.sh("mdadm", "--quiet", array.path, "--add", spares[0])
                kernel.sh("mdadm", "--quiet", array.path, "--replace", lost[0], "--with", spares[0])
                array.members.append(spares[0])
                wait_for("the replacement's end", lambda: "faulty" in array.state(lost[0]) and array.idle(), 60)
                array.remove(lost[0])
                spares = [*spares[1:], lost[0]]
            else:
                for path in lost:
                    array.fail(path)
                    array.remove(path)
                array.add_together(lost)
                array.wait_rebuilt()
        turn += 1
    for worker in workers:
        worker.stop = True
        worker.thread.join(60 * kernel.patience())
        expect("a worker's problem", "", worker.problem or ("it hangs" if worker.thread.is_alive() else ""))
    note(f"{turn} turns, {sum(w.turns for w in workers)} requests, {sum(w.discards for w in workers)} discards")
    expect("some discards", True, sum(w.discards for w in workers) > 10)
    array.try_set("sync_action", "idle")
    array.wait_idle()
    array.expect_clean()


def cannot_discard():
    """A member that came later and cannot discard has zeroes written; one that takes no writes at places has bad blocks
    there and nowhere else."""
    if kernel.driver() == "c":
        raise Skipped("the C module takes all that such a member cannot discard for bad blocks")
    disks = rams(4)
    array, shadow = filled(disks)
    wide = stripe_of(array)
    spare = nullb("nullb1", 24)
    array.fail(disks[2])
    array.remove(disks[2])
    array.add(spare)
    array.wait_rebuilt()
    forget(array, shadow, 0, 40 * wide)
    shadow.verify("after a discard")
    expect("the member that cannot discard", {"in_sync"}, array.state(spare))
    expect("its bad blocks", "", array.member(spare, "bad_blocks"))
    array.expect_clean()
    array.expect_parity(shadow.bytes)
    shadow.close()
    stop_all()
    disks = rams(4)
    under = disks[1]
    disks[1] = dm("weak", linear(under))
    array, shadow = filled(disks)
    low = array.data_offset(disks[1]) // SECTOR
    dm("weak", *refusing(under, low + 10 * 128 + 16, 16))
    forget(array, shadow, 0, 40 * wide)
    shadow.verify("after a discard of which a member does not take all")
    state = array.state(disks[1])
    if "faulty" not in state:
        expect("its bad blocks", f"{low + 10 * 128 + 16} 16", array.member(disks[1], "bad_blocks"))
    array.fail(disks[3])
    problem = within(20, lambda: discard(shadow.disk, 0, 4 * wide))
    expect("a discard with a member missing, elsewhere", "", problem)
    shadow.close()


def secure_erase(level):
    """Members offer secure erases: the array does not, and refuses one before anything comes of it."""
    if kernel.driver() == "c":
        raise Skipped("the C module takes the members' limit for its own, and a secure erase for a write without data")
    disks = Disks(level - 1, 16, erase=True)
    with Disk(disks.paths[0]) as disk:
        disk.write(0, pattern("erased", 65536))
        expect("secure erase of a member", "", discard(disk, 0, 65536, BLKSECDISCARD))
        expect("what it holds then", True, disk.read(0, 65536) == bytes(65536))
    array, shadow = filled(disks.paths, level=level)
    before = [disks.state(path)["writes"] for path in disks.paths]
    with BlockTrace([array.path]) as trace:
        for at, length in ((0, 4096), (0, stripe_of(array)), (0, shadow.length)):
            problem = within(20, lambda at=at, length=length: discard(shadow.disk, at, length, BLKSECDISCARD))
            expect(f"secure erase of {length} bytes of the array", "EOPNOTSUPP", problem)
    # The array's limit says so. Requests that came all the same would be refused as well.
    expect("requests that came to the array", [], trace.bios)
    shadow.verify("after that")
    # The superblocks may have been written meanwhile, as the array became clean.
    for path, writes in zip(disks.paths, before):
        expect_range(f"writes to {path} meanwhile", 0, 8, disks.state(path)["writes"] - writes)
    array.expect_clean()
    shadow.close()


def nothing_else():
    """Atomic writes are not offered; zeroes can be written."""
    array, shadow = filled(rams(4))
    expect("bytes of an atomic write", 0, limit(array, "atomic_write_unit_max_bytes"))
    expect("bytes of a request to write zeroes", 0, limit(array, "write_zeroes_max_bytes"))
    kernel.sh("blkdiscard", "--zeroout", "--offset", 4096, "--length", 1 << 20, array.path)
    shadow.bytes[4096:4096 + (1 << 20)] = bytes(1 << 20)
    shadow.verify("after zeroes")
    array.expect_clean()
    shadow.close()


def cleanup():
    """Takes everything down."""
    stop_all()
    remove_all()
    Disks.remove()
    safely(False)


if __name__ == "__main__":
    run([
        ("not offered where it would not be done", not_offered),
        ("raid5, 4 members", lambda: shapes(5, 4, 64)),
        ("raid5, 3 members, chunk 4K", lambda: shapes(5, 3, 4)),
        ("raid6, 5 members", lambda: shapes(6, 5, 64)),
        ("raid6, 6 members, chunk 512K", lambda: shapes(6, 6, 512)),
        ("raid4, 5 members, chunk 256K", lambda: shapes(4, 5, 256)),
        ("raid5: members missing, rebuilt, replaced", lambda: missing_members(5)),
        ("raid6: members missing, rebuilt, replaced", lambda: missing_members(6)),
        ("raid5: under load, with checks", lambda: under_load(5, "check")),
        ("raid6: under load, with checks", lambda: under_load(6, "check")),
        ("raid5: under load, members fail and are replaced", lambda: under_load(5, "lose")),
        ("raid6: under load, members fail and are replaced", lambda: under_load(6, "lose")),
        ("members that cannot discard", cannot_discard),
        ("raid5: members that offer secure erases", lambda: secure_erase(5)),
        ("raid6: members that offer secure erases", lambda: secure_erase(6)),
        ("atomic writes, zeroes", nothing_else),
    ], cleanup=cleanup)
