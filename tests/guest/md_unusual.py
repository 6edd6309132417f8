#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=24 mem=900 timeout=300
"""What is done to arrays now and then: another personality takes them over, they are made to look smaller, get partitions, are
trimmed by a file system, have very large members or very large chunks, and members with more bad blocks than
a list holds. Under both drivers where both can. ALL=1 has all of it, which takes its time."""

import ctypes
import fcntl
import os
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from blocktrace import BlockTrace
from compare import drivers, under_each
from disk import Disk, SECTOR, Shadow, errno_of, pattern
from load import Load
from mapper import dm, linear, sectors_of
from raid import Array, name_of, rams, speed_limit, stop_all
from report import Failed, expect, expect_in, expect_range, note, run, wait_for, within
import kernel
import needs

MIB, TIB = 1 << 20, 1 << 40
MOUNT = "/tmp/mounted"
SAFELY = "/sys/module/raid456/parameters/devices_handle_discard_safely"
BLKPG, BLKPG_ADD_PARTITION, BLKPG_DEL_PARTITION, BLKRRPART = 0x1269, 1, 2, 0x125f
LOOPS = []


def each(body):
    """Has body() happen under each driver, and returns what it returned."""
    def one(_):
        try:
            return body()
        finally:
            cleanup(False)
    return dict(zip(drivers(), under_each(one)))


def taken_over(level, count, layout, by):
    """An array becomes one of level 0 (it has lost nothing but parity) or of level 1 (it has two members) while it runs; its
    content stays, its own files go, and the driver can be removed. It does not come back: that would be a takeover by this
    driver."""
    needs.personality(by)

    def body():
        disks = rams(count)
        array = Array.create(disks, level=level, layout=layout, size=8)
        with Shadow(array.path) as shadow:
            shadow.fill()
            if by == "raid0":
                array.fail(disks[-1])
                array.remove(disks[-1])
                array.wait_idle()
            shadow.random_writes(seed=1, count=30)
            problem = array.outcome("level", by)
            expect("level", ("", by), (problem, array.get("level")))
            left = [name for name in ("stripe_cache_size", "rmw_level") if os.path.exists(f"{array.md}/{name}")]
            expect("files that are left", [], left)
            shadow.verify("under the other personality")
            shadow.random_writes(seed=2, count=30)
            shadow.verify("after writes there")
        again = array.try_set("level", f"raid{level}")
        if kernel.driver() == "rust":
            expect("back", "EINVAL", again)
        array.stop()
        expect("removing the driver", "", kernel.delete_module("raid456"))
        # use-driver looks at what is loaded.
        kernel.sh("use-driver", DRIVER if DRIVER != "none" else "rust")
        return problem
    each(body)


def array_size():
    """An array that is made to look smaller ends there, under load too, and has all that it had when it is itself again."""
    def body():
        array = Array.create(rams(4), size=8)
        whole = array.size()
        with Shadow(array.path) as shadow:
            shadow.fill()
            for turn in range(3):
                load = Load(array.path, 8 * MIB, seconds=1, jobs=2, depth=16, largest="64k", mix="randwrite")
                small = (12 - turn) * MIB
                kernel.sh("mdadm", "--grow", array.path, f"--array-size={small >> 10}K")
                expect("size", small, array.size())
                expect_in("a write behind the end", ("ENOSPC", "EIO"), errno_of(lambda: shadow.disk.write(small, bytes(4096))))
                load.finish()
                kernel.sh("mdadm", "--grow", array.path, "--array-size=max")
                expect("size", whole, array.size())
                shadow.verify("what the load left alone", 8 * MIB)
        array.expect_clean()
        # It must not be asked for more than it has, nor made smaller than it looks.
        found = [array.try_set("array_size", 64 << 20), array.try_set("array_size", 20 << 10)]
        found.append(array.try_set("component_size", 4 << 10))
        found.append(array.try_set("array_size", "default"))
        array.expect_clean()
        return found
    found = each(body)
    one, two = drivers()
    expect("ends of stores that cannot be", found[one], found[two])
    note(f"they are {found[two]}")


def partition(array, number, begin, length):
    """Makes a partition of bytes of the array, or takes it away (without a length). Returns its path."""
    volume = struct.pack("=qqi64s64s4x", begin, length, number, b"", b"")
    memory = ctypes.create_string_buffer(volume)
    words = struct.pack("=iiixxxxQ", BLKPG_ADD_PARTITION if length else BLKPG_DEL_PARTITION, 0, len(volume), ctypes.addressof(memory))
    file = os.open(array.path, os.O_RDWR)
    try:
        fcntl.ioctl(file, BLKPG, words)
    finally:
        os.close(file)
    return f"{array.path}p{number}"


def partitions():
    """An array with partitions: each is where it should be, under load, without a member, and rebuilt."""
    def body():
        disks = rams(5)
        array = Array.create(disks, level=6, size=8, bitmap="internal")
        # Not at a chunk's begin, not at a strip's either.
        places = [(MIB + 3 * SECTOR, 8 * MIB), (10 * MIB, 12 * MIB - SECTOR)]
        paths = [partition(array, number + 1, *place) for number, place in enumerate(places)]
        for path in paths:
            wait_for(path, lambda path=path: os.path.exists(path), 10)
        shadows = [Shadow(path) for path in paths]
        expect("sizes", [length for _, length in places], [shadow.length for shadow in shadows])
        for number, shadow in enumerate(shadows):
            shadow.fill(seed=("part", number))
        load = Load(paths[1], 8 * MIB, seconds=2, jobs=2, depth=16, largest="64k")
        array.fail(disks[1])
        shadows[0].random_writes(seed=3, count=60)
        array.remove(disks[1])
        array.add(disks[1])
        array.wait_rebuilt()
        load.finish()
        shadows[0].verify("the first partition")
        shadows[1].verify("the second one behind the load", 9 * MIB)
        with Disk(array.path) as disk:
            begin, length = places[0]
            expect("the array's own bytes", True, disk.read(MIB, 9 * MIB)[begin - MIB:begin - MIB + length] == bytes(shadows[0].bytes))
        for shadow in shadows:
            shadow.close()
        array.expect_clean()
        for number in (1, 2):
            partition(array, number, 0, 0)
    each(body)


def trimmed(level):
    """A file system that discards, by fstrim and when files go, with a member lost on the way: files, parity and fsck are right."""
    needs.file_system("ext4")
    with open(SAFELY, "w", encoding="ascii") as file:
        file.write("Y")
    try:
        disks = rams(level)
        array = Array.create(disks, level=level, size=20)
        kernel.sh("mkfs.ext4", "-q", "-b", "4096", array.path)
        os.makedirs(MOUNT, exist_ok=True)
        kernel.sh("mount", "-o", "discard", array.path, MOUNT)
        kept = {}

        def write(number):
            kept[number] = pattern(("file", number), (number * 7919) % 900000 + 1)
            with open(f"{MOUNT}/file{number}", "wb") as file:
                file.write(kept[number])
                os.fsync(file.fileno())

        def trim():
            text = kernel.sh("fstrim", "-v", MOUNT)[1]
            note(text.strip())
            return text

        for number in range(40):
            write(number)
        for number in range(0, 40, 3):
            os.unlink(f"{MOUNT}/file{number}")
            del kept[number]
        os.sync()
        with BlockTrace(disks) as trace:
            trim()
        expect("members were told to forget something", True, any("D" in bio.flags for bio in trace.bios))
        for lost in disks[:level - 4]:
            array.fail(lost)
        for number in range(50, 60):
            write(number)
        for number in range(1, 40, 6):
            if number in kept:
                os.unlink(f"{MOUNT}/file{number}")
                del kept[number]
        trim()
        for lost in disks[:level - 4]:
            array.remove(lost)
            array.add(lost)
        trim()
        array.wait_rebuilt()
        trim()
        kernel.sh("umount", MOUNT)
        array.expect_clean()
        array = array.reassemble()
        kernel.sh("e2fsck", "-fn", array.path)
        kernel.sh("mount", "-o", "ro", array.path, MOUNT)
        for number, content in kept.items():
            with open(f"{MOUNT}/file{number}", "rb") as file:
                if file.read() != content:
                    raise Failed(f"file{number} does not hold what was written")
        note(f"ok: {len(kept)} files hold what was written")
        kernel.sh("umount", MOUNT)
        array.expect_parity()
    finally:
        kernel.sh("umount", MOUNT, check=False)
        with open(SAFELY, "w", encoding="ascii") as file:
            file.write("N")


def loops(count, size):
    """Loop devices on files that take no room but where they are written."""
    kernel.modprobe("loop")
    folder = "/tmp/large"
    os.makedirs(folder, exist_ok=True)
    kernel.sh("mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", folder)
    for number in range(count):
        path = f"/dev/loop{number}"
        if not os.path.exists(path):
            os.mknod(path, 0o600 | 0o060000, os.makedev(7, number))
        with open(f"{folder}/{number}", "wb") as file:
            file.truncate(size)
        kernel.sh("losetup", path, f"{folder}/{number}")
        LOOPS.append(path)
    return LOOPS[:count]


def large_members(level):
    """Members of 9 TiB: what is written behind 2^32 and 2^34 sectors is where the other driver finds it, also without members;
    a check of the last part finds parity right."""
    first, second = drivers()
    content = {}

    def places(array):
        size = array.size()
        return [place // 4096 * 4096 for place in (0, 2 * TIB - 8192, 2 * TIB + MIB, 8 * TIB + 512 * 1024, size // 2, size - 4 * MIB - 4096)]

    kernel.use_driver(first)
    disks = loops(level, 9 * TIB)
    speed_limit()
    kernel.sh("mdadm", "--create", "/dev/md0", "--run", "--quiet", "--assume-clean", f"--level={level}", f"--raid-devices={level}",
              "--chunk=64K", "--bitmap=none", "--consistency-policy=resync", *disks)
    array = Array(disks)
    for driver in (first, second):
        if driver != kernel.driver():
            array.stop()
            kernel.use_driver(driver)
            kernel.sh("mdadm", "--assemble", "/dev/md0", "--quiet", *disks)
        expect_range("bytes", 35 * TIB, 36 * TIB, array.size())
        with Disk(array.path) as disk:
            for at, bytes_ in content.items():
                expect(f"at {at}, under {driver}", True, disk.read(at, len(bytes_)) == bytes_)
            for at in places(array):
                content[at] = pattern((driver, at), 300 * 1024 + 512)
                disk.write(at, content[at])
        last = array.data_size() // SECTOR // 128 * 128
        array.set("sync_min", last - 65536)
        expect("mismatches in the last part", 0, array.scan(timeout=60))
        array.set("sync_min", 0)
    for path in disks[1:level - 3]:
        array.fail(path)
    with Disk(array.path) as disk:
        for at, bytes_ in content.items():
            expect(f"at {at}, without members", True, disk.read(at, len(bytes_)) == bytes_)


def large_chunks():
    """Chunks of 1 GiB, so that a stripe's data is more than a 32-bit number of bytes tells: such an array starts, and holds
    what is written."""
    def body():
        disks = loops(5, 3 << 30)
        speed_limit()
        kernel.sh("mdadm", "--create", "/dev/md0", "--run", "--quiet", "--assume-clean", "--level=5", "--raid-devices=5",
                  "--chunk=1G", "--bitmap=none", "--consistency-policy=resync", *disks)
        array = Array(disks)
        content = {}
        with Disk(array.path) as disk:
            for at in (0, (1 << 30) - 8192, (4 << 30) - 65536, 5 << 30):
                content[at] = pattern(at, 256 * 1024 + 512)
                disk.write(at, content[at])
            array.fail(disks[0])
            for at, bytes_ in content.items():
                expect(f"at {at}, without a member", True, disk.read(at, len(bytes_)) == bytes_)
        with open(f"/sys/block/{array.name}/queue/optimal_io_size", encoding="ascii") as file:
            note(f"optimal_io_size {file.read().strip()}")
        return array.size()
    found = each(body)
    one, two = drivers()
    expect("size", found[one], found[two])


def bad_table(path, low, every, pieces):
    """Table lines of a disk of which 8 sectors of each `every` cannot be used, from sector `low` on."""
    lines, at = [f"0 {low} linear {path} 0"], low
    for _ in range(pieces):
        lines += [f"{at} 8 error", f"{at + 8} {every - 8} linear {path} {at + 8}"]
        at += every
    return [*lines, f"{at} {sectors_of(path) - at} linear {path} {at}"]


def too_many_bad_blocks():
    """A member with more bad blocks than a list holds fails when it is full, and the array goes on without it. When that happens
    to the last one that may not be lost, writes end with EIO, what can be read is right, and the array stops."""
    disks = rams(4)
    weak = disks[1:3]
    disks[1:3] = [dm(f"weak{number}", linear(path)) for number, path in enumerate(weak)]
    array = Array.create(disks, size=20)
    low = array.data_offset(disks[1]) // SECTOR
    with Shadow(array.path) as shadow:
        shadow.fill()
        dm("weak0", *bad_table(weak[0], low, 64, 600))
        within(60, lambda: shadow.fill(seed=2))
        wait_for("the member fails", lambda: array.state(disks[1]) in ({"faulty"}, {"faulty", "write_error"})
                 or "faulty" in array.state(disks[1]), 20)
        shadow.verify("without it")
        shadow.random_writes(seed=3, count=40)
        shadow.verify("after writes")
        dm("weak1", *bad_table(weak[1], low, 64, 600))
        ends = {}

        def write_all():
            for at in range(0, shadow.length, 65536):
                problem = errno_of(lambda at=at: shadow.disk.write(at, pattern(("last", at), 65536)))
                ends[problem] = ends.get(problem, 0) + 1
        within(60, write_all)
        note(f"ends of writes: {ends}")
        expect("some ended with EIO, and nothing else is wrong", True, set(ends) in ({"", "EIO"}, {"EIO"}))
        failed = "faulty" in array.state(disks[2])
        note(f"the other member: {sorted(array.state(disks[2]))}, {len(array.member(disks[2], 'bad_blocks').splitlines())} bad blocks")
        wrong = {}

        def read_all():
            for at in range(0, shadow.length, 65536):
                problem = errno_of(lambda at=at: shadow.disk.read(at, 65536))
                wrong[problem] = wrong.get(problem, 0) + 1
        within(60, read_all)
        expect("ends of reads", True, set(wrong) <= {"", "EIO"} and wrong.get("", 0) > 0)
        expect("the other member has failed, or knows its bad blocks", True, failed or bool(array.member(disks[2], "bad_blocks")))
    within(20, array.stop)


def slot_by_hand(level):
    """A member that has failed is given its slot again by hand, without a word of what it lacks: it gets everything. The same
    for one that is to replace a member."""
    disks, spare = rams(level - 1), rams(1, level - 1)[0]
    array = Array.create(disks, level=level, size=8)
    old = f"dev-{name_of(disks[1])}"

    def out_of_its_slot():
        array.set("sync_action", "frozen")
        array.fail(disks[1])
        wait_for("its slot empty", lambda: not array.try_set(f"{old}/slot", "none") or array.get(f"{old}/slot") == "none", 10)

    with Shadow(array.path) as shadow:
        shadow.fill()
        out_of_its_slot()
        shadow.fill(seed=2)
        array.set(f"{old}/state", "re-add")
        array.set(f"{old}/slot", "1")
        expect("where its rebuild begins", "0", array.get(f"{old}/recovery_start"))
        array.set("sync_action", "idle")
        array.wait_rebuilt()
        shadow.verify("all of it")
        array.expect_clean()
        array.expect_parity(bytes(shadow.bytes))
        # It fails again, and is to replace another one, while a spare comes in its place.
        out_of_its_slot()
        shadow.fill(seed=3)
        array.set(f"{old}/state", "re-add")
        array.set(f"dev-{name_of(disks[2])}/state", "want_replacement")
        array.set(f"{old}/slot", "2")
        expect("where the copy begins", ("0", True), (array.get(f"{old}/recovery_start"), "replacement" in array.state(disks[1])))
        array.add(spare)
        array.set("sync_action", "idle")
        wait_for("it is the member", lambda: array.idle() and array.get("degraded") == "0" and "in_sync" in array.state(disks[1])
                 and "replacement" not in array.state(disks[1]), 30)
        shadow.verify("all of it")
        for path in (disks[0], spare)[:level - 4]:
            array.fail(path)
        shadow.verify("without others")


def half_rebuilt_by_hand(level):
    """A spare fails half rebuilt, and is given its slot again by hand, when all was written anew: it gets everything, and is not read
    where it held something. Under the C module its rebuild goes on where it was."""
    disks, spare = rams(level - 1), rams(1, level - 1)[0]
    array = Array.create(disks, level=level, size=8)
    folder = f"dev-{name_of(spare)}"
    with Shadow(array.path) as shadow:
        shadow.fill()
        array.fail(disks[1])
        array.remove(disks[1])
        array.members.remove(disks[1])
        array.set("sync_max", 8192)
        array.add(spare)
        wait_for("half of the rebuild", lambda: array.get("sync_completed").startswith("8192 /"), 30)
        array.set("sync_action", "frozen")
        wait_for("frozen", lambda: array.get("sync_completed") == "none", 10)
        expect("where its rebuild would go on", "8192", array.get(f"{folder}/recovery_start"))
        array.fail(spare)
        wait_for("its slot empty",
                 lambda: not array.try_set(f"{folder}/slot", "none") or array.get(f"{folder}/slot") == "none", 10)
        shadow.fill(seed=2)
        array.set("sync_max", "max")
        array.set(f"{folder}/state", "re-add")
        array.set(f"{folder}/slot", "1")
        shadow.verify("beside it")
        expect("where its rebuild begins", "0", array.get(f"{folder}/recovery_start"))
        array.set("sync_action", "idle")
        array.wait_rebuilt()
        shadow.verify("all of it")
        array.expect_clean()
        array.expect_parity(bytes(shadow.bytes))


def slots_under_load(level):
    """Members fail, and are given their slots again by hand, while requests are under way: no request goes to one that is out, and all
    that a load reads is what it wrote."""
    disks = rams(level - 1)
    array = Array.create(disks, level=level, size=8)
    load = Load(array.path, array.size(), seconds=5, jobs=2, depth=16, largest="64k")
    turns = 0
    # A slow machine may have no time for two under load.
    while load.running() or turns < 2:
        slot = turns % len(disks)
        folder = f"dev-{name_of(disks[slot])}"
        expect("the slot of a member at work cannot be taken", "EBUSY", array.try_set(f"{folder}/slot", "none"))
        array.set("sync_action", "frozen")
        array.fail(disks[slot])
        wait_for("its slot empty",
                 lambda folder=folder: not array.try_set(f"{folder}/slot", "none") or array.get(f"{folder}/slot") == "none", 10)
        array.set(f"{folder}/state", "re-add")
        array.set(f"{folder}/slot", slot)
        array.set("sync_action", "idle")
        array.wait_rebuilt()
        turns += 1
    load.finish()
    note(f"a member was out {turns} times")
    array.expect_clean()
    array.expect_parity()


def dies_meanwhile(level):
    """While members are rebuilt, as many as there are parities, another one dies: what was done by then is kept. When it is back,
    by force, the rebuild goes on, everything is right, and no block is taken for bad any more."""
    disks, count = rams(level - 1), level - 4
    under, spares = disks[0], rams(count, level - 1)
    disks[0] = dm("dies", linear(under))
    array = Array.create(disks, level=level, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        for path in disks[1:1 + count]:
            array.fail(path)
            array.remove(path)
            array.members.remove(path)
        for path in spares:
            with Disk(path) as disk:
                disk.write(0, bytes(1 << 16) + pattern(("garbage", path), disk.size - (1 << 16)))
        array.set("sync_max", 8192)
        array.add_together(spares)
        wait_for("the middle", lambda: array.get("sync_completed").startswith("8192 /"), 20)
        shadow.random_writes(seed=5, count=40)
        dm("dies", f"0 {sectors_of(under)} error")
        # A little further: it is to be on record that the member has died before everything has been tried and found bad.
        array.set("sync_max", 9216)
        # Not the member's state, which says faulty also while a bad block of it is not yet on record.
        wait_for("the array fails", lambda: array.get("degraded") == str(count + 1), 20)
        array.set("sync_max", "max")
        wait_for("the rebuild ends", array.idle, 20)
        ends = {}

        def read_all():
            for at in range(0, shadow.length, 65536):
                problem = errno_of(lambda at=at: shadow.verify("", at, 65536))
                ends[problem] = ends.get(problem, 0) + 1
        within(60, read_all)
        expect("ends of reads", True, set(ends) == {"", "EIO"})
        expect("a write", "EIO", errno_of(lambda: shadow.disk.write(0, bytes(4096))))
        shadow.close()
        within(20, array.stop)
        dm("dies", linear(under))
        array = Array.assemble(array.members, "--force", "--run")
        array.wait_rebuilt()
        shadow.reopen()
        shadow.verify("all of it")
        # What could not be rebuilt in the meantime is known to be bad, and mended by the check.
        array.expect_clean()
        expect("bad blocks", [""] * len(array.members), [array.member(path, "bad_blocks") for path in array.members])
        array.expect_parity(bytes(shadow.bytes))
        for path in [path for path in array.members if path not in spares][:count]:
            array.fail(path)
        shadow.verify("with what was rebuilt")


def cleanup(last=True):
    """Takes everything down."""
    Disk.close_all()
    kernel.sh("umount", MOUNT, check=False)
    stop_all()
    for path in LOOPS:
        kernel.sh("losetup", "-d", path, check=False)
    if LOOPS:
        LOOPS.clear()
        kernel.sh("umount", "/tmp/large", check=False)
    shutil.rmtree(MOUNT, ignore_errors=True)
    if last and kernel.driver() != DRIVER:
        kernel.use_driver(DRIVER)


DRIVER = kernel.driver()


if __name__ == "__main__":
    cases = [
        ("raid4 becomes raid0", lambda: taken_over(4, 4, None, "raid0")),
        ("raid6: members of 9 TiB", lambda: large_members(6)),
        ("chunks of 1 GiB", large_chunks),
        ("raid5: a slot given by hand", lambda: slot_by_hand(5)),
        ("raid5: a slot given by hand to what is half rebuilt", lambda: half_rebuilt_by_hand(5)),
        ("raid5: slots given by hand under load", lambda: slots_under_load(5)),
        ("raid5: another member dies during a rebuild", lambda: dies_meanwhile(5)),
        ("an array that looks smaller", array_size),
        ("more bad blocks than a list holds", too_many_bad_blocks),
    ]
    if os.environ.get("ALL"):
        cases += [
            ("raid5 with its parity last becomes raid0", lambda: taken_over(5, 4, "parity-last", "raid0")),
            ("raid5 of two members becomes raid1", lambda: taken_over(5, 2, None, "raid1")),
            ("partitions", partitions),
            ("raid5: a file system is trimmed", lambda: trimmed(5)),
            ("raid6: a file system is trimmed", lambda: trimmed(6)),
            ("raid5: members of 9 TiB", lambda: large_members(5)),
            ("raid6: a slot given by hand", lambda: slot_by_hand(6)),
            ("raid6: a slot given by hand to what is half rebuilt", lambda: half_rebuilt_by_hand(6)),
            ("raid6: slots given by hand under load", lambda: slots_under_load(6)),
            ("raid6: another member dies during a rebuild", lambda: dies_meanwhile(6)),
        ]
    run(cases, cleanup=cleanup)
