#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=24 timeout=150
"""What administrators do to arrays beside failing members: read-only and read-auto arrays, speed limits of a sync, flags of
members that levels 4 to 6 have no use for, stopping at once after a load, members with other sectors, arrays upon arrays,
bitmaps with other chunks, settings that are stored as syncs end, a member more that fails than may."""

import fcntl
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, Shadow, errno_of, pattern
from load import Load
from mapper import dusty
from nullblk import nullb, remove_all
from raid import Array, name_of, rams, stop_all
from report import expect, expect_range, note, run, wait_for, within
import kernel
import needs

START_READ_ONLY = "/sys/module/md_mod/parameters/start_ro"
SET_DISK_FAULTY = 0x929


def assemble_read_auto(disks, *options):
    """Assembles an array that is read-auto: nothing is written to its members before the first write."""
    with open(START_READ_ONLY, "w", encoding="ascii") as file:
        file.write("1")
    try:
        array = Array.assemble(disks, *options)
    finally:
        with open(START_READ_ONLY, "w", encoding="ascii") as file:
            file.write("0")
    expect("state", "read-auto", array.get("array_state"))
    return array


def read_auto(level):
    """An unclean array that starts read-auto answers reads and syncs nothing; the first write makes it writable, and the
    resync begins."""
    disks = rams(level - 1)
    array = Array.create(disks, level=level, size=16)
    with Shadow(array.path) as shadow:
        shadow.fill()
        array.damage(0, 4096)
    array.stop()
    array = assemble_read_auto(disks, "--update=resync")
    with Shadow(array.path) as shadow, Disk(array.path) as disk:
        shadow.bytes[:] = disk.read(0, disk.size)
        time.sleep(0.3)
        expect("state after reads", "read-auto", array.get("array_state"))
        expect("action", "idle", array.action())
        array.sync_speed(500)
        within(20, lambda: shadow.write(8192, pattern("first", 4096)))
        wait_for("a resync", lambda: array.action() == "resync", 20)
        expect("state after a write", True, array.get("array_state") in ("active", "active-idle", "clean"))
        array.sync_speed()
        array.wait_synced()
        shadow.verify("after the resync")
    array.expect_clean()


def read_auto_to_read_only():
    """A degraded array that is read-auto takes note of a block that is lost, and of a member more that fails: these are recorded when it is
    writable, if it is ever. Who makes it read-only does not wait for that."""
    disks = rams(4)
    dust, = dusty(disks, [1])
    array = Array.create(disks, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
    geometry = array.geometry()
    array.fail(disks[0])
    array.stop()
    array = assemble_read_auto(disks[1:], "--run")
    row = next(stripe for stripe in range(20, 30) if 1 in geometry.row(stripe).data) * geometry.chunk + 40
    bad = array.data_offset(dust.path) // SECTOR + row
    dust.spoil(bad)
    # By then md has looked for something to do, and does not look again by itself.
    time.sleep(0.5)
    with Disk(array.path) as disk:
        at = geometry.array_sector(1, row) * SECTOR
        expect("a read of a lost block", "EIO", within(10, lambda: errno_of(lambda: disk.read(at, 4096))))
    expect("state after it", "read-auto", array.get("array_state"))
    within(10, lambda: kernel.sh("mdadm", "--readonly", array.path))
    expect("state", "readonly", array.get("array_state"))
    kernel.sh("mdadm", "--readwrite", array.path)
    wait_for("the block recorded as bad", lambda: array.state(dust.path) == {"in_sync"}, 10)
    expect("bad blocks of the member", f"{bad} 8", array.member(dust.path, "bad_blocks"))

    array.set("array_state", "read-auto")
    # As above.
    time.sleep(0.5)
    expect("failing a member more than may", "EBUSY", array.try_set(f"dev-{name_of(disks[2])}/state", "faulty"))
    expect("state after it", "read-auto", array.get("array_state"))
    within(10, lambda: kernel.sh("mdadm", "--readonly", array.path))
    expect("state", "readonly", array.get("array_state"))


def read_only():
    """A read-only array answers reads and refuses writes; members' errors are not mended in it; it can be made writable
    again."""
    disks = rams(4)
    dust, = dusty(disks, [1])
    array = Array.create(disks, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.close()
        # Nothing is in memory.
        array = array.reassemble()
        kernel.sh("mdadm", "--readonly", array.path)
        expect("state", "readonly", array.get("array_state"))
        geometry = array.geometry()
        row = next(stripe for stripe in range(20, 30) if 1 in geometry.row(stripe).data) * geometry.chunk + 40
        dust.spoil(array.data_offset(dust.path) // SECTOR + row)
        at = geometry.array_sector(1, row) * SECTOR
        with open(array.path, "rb", buffering=0) as file:
            expect("what is read where a member cannot be", True, os.pread(file.fileno(), 4096, at) == shadow.bytes[at:at + 4096])
        time.sleep(0.3)
        expect("unreadable sectors, and the member's state", (1, {"in_sync"}), (dust.count(), array.state(dust.path)))
        with open(array.path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            expect("what is read", True, os.pread(file.fileno(), 65536, 131072) == shadow.bytes[131072:131072 + 65536])
        problem = errno_of(lambda: os.close(os.open(array.path, os.O_RDWR)))
        if not problem:
            with Disk(array.path) as disk:
                problem = errno_of(lambda: disk.write(0, bytes(4096)))
        note(f"a write ends with {problem or 'success'}")
        expect("a write is refused", True, problem in ("EROFS", "EACCES", "EPERM", "EIO"))
        kernel.sh("mdadm", "--readwrite", array.path)
        shadow.reopen()
        shadow.random_writes(seed=1, count=20)
        shadow.verify("writable again")
        shadow.close()
    # What is in memory hides the sector from a check.
    array = array.reassemble()
    array.expect_clean()
    expect("unreadable sectors after a check", 0, dust.count())


def speed():
    """A resync keeps to sync_speed_max, as closely as md does; when it is raised it goes on fast."""
    array = Array.create(rams(4), size=16)
    array.set("sync_speed_max", 2000)
    array.set("sync_speed_min", 1000)
    begin = time.monotonic()
    array.set("sync_action", "check")
    time.sleep(3)
    done = int((array.get("sync_completed").split("/")[0].strip() or "0").replace("none", "0")) // 2
    taken = time.monotonic() - begin
    # md looks twice a second, and lets the first second's worth through at once.
    expect_range("KiB of each member checked", 500, (taken + 3) * 2000, done)
    expect("still at work", "check", array.action())
    array.set("sync_speed_max", 2000000)
    array.wait_idle(20)
    expect("mismatches", "0", array.get("mismatch_cnt"))


def idle_and_frozen():
    """frozen stops a check and lets none begin, also not a rebuild, until idle."""
    array = Array.create(rams(5), level=6, size=8)
    array.sync_speed(500)
    array.set("sync_action", "check")
    wait_for("a check", lambda: "check =" in array.mdstat(), 10)
    array.set("sync_action", "frozen")
    expect("action", "frozen", array.action())
    array.sync_speed()
    lost = array.members[2]
    array.fail(lost)
    array.remove(lost)
    array.add(lost)
    time.sleep(0.5)
    expect("members missing while it is frozen", "1", array.get("degraded"))
    array.set("sync_action", "idle")
    array.wait_rebuilt(20)
    array.expect_clean()


def flags():
    """writemostly and failfast are accepted of members, shown, kept over an assembly, and change nothing."""
    disks = rams(4)
    array = Array.create(disks, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        for word, member in (("writemostly", disks[1]), ("failfast", disks[2])):
            expect(f"{word} for {member}", "", array.try_set(f"dev-{name_of(member)}/state", word))
        shown = {"writemostly": "write_mostly", "failfast": "failfast"}
        expect("states", [True, True], [shown[w] in array.state(d) for w, d in (("writemostly", disks[1]), ("failfast", disks[2]))])
        shadow.random_writes(seed=1, count=30)
        shadow.close()
        array = array.reassemble()
        note(f"after an assembly: {sorted(array.state(disks[1]))}, {sorted(array.state(disks[2]))}")
        expect("failfast is kept", True, "failfast" in array.state(disks[2]))
        shadow.reopen()
        shadow.verify("after an assembly")
        array.fail(disks[1])
        shadow.verify("without a member")


def stop_at_once(level):
    """An array is stopped the moment a heavy load has closed it, again and again, also with a rebuild under way."""
    disks, spare = rams(level - 1), rams(1, level - 1)[0]
    array = Array.create(disks, level=level, size=12, bitmap="internal")
    content = None
    for turn in range(5):
        with Disk(array.path) as disk:
            if content:
                expect("what was written before", True, disk.read(0, len(content)) == content)
            content = pattern(turn, 4 << 20)

            def write(part):
                with Disk(array.path) as own:
                    for at in range(part << 20, (part + 1) << 20, 65536):
                        own.write(at, content[at:at + 65536])
            threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
            for thread in threads:
                thread.start()
            expect("stopping an array that is in use", "EBUSY", array.try_set("array_state", "inactive"))
            for thread in threads:
                thread.join()
        if turn == 2:
            array.fail(disks[0])
            array.remove(disks[0])
            array.sync_speed(500)
            array.add(spare)
            disks = [spare, *disks[1:]]
        begin = time.monotonic()
        array.stop()
        expect_range("seconds that stopping takes", 0, 10 * kernel.SLOW, time.monotonic() - begin)
        array = Array.assemble(disks, "--run")
    array.wait_rebuilt()
    array.expect_clean()


def mixed_sectors():
    """Members with sectors of 512 bytes and of 4 KiB together: the array has the larger ones. One with larger sectors than the
    array's is refused later."""
    disks = [nullb("nullb0", 24, blocksize=4096), *rams(3)]
    array = Array.create(disks, size=8)
    with open(f"/sys/block/{array.name}/queue/logical_block_size", encoding="ascii") as file:
        expect("logical_block_size", "4096", file.read().strip())
    with Shadow(array.path) as shadow:
        shadow.fill()
        for turn in range(60):
            shadow.write(turn * 77 % 5000 * 4096, pattern(turn, (turn % 20 + 1) * 4096))
        array.fail(disks[1])
        shadow.verify("without a member")
        array.remove(disks[1])
        array.add(rams(1, 4)[0])
        array.wait_rebuilt()
        shadow.verify("after the rebuild")
        expect("write of 512 bytes", "EINVAL", errno_of(lambda: shadow.disk.write(512, bytes(512))))
    array.expect_clean()
    stop_all()
    array = Array.create(rams(4), size=8)
    spare = nullb("nullb1", 24, blocksize=4096)
    status, text = kernel.sh("mdadm", array.path, "--add", spare, check=False)
    note(f"a member with larger sectors: {status}, {text.strip().splitlines()[-1] if text.strip() else ''}")
    array.expect_clean()


def upon_arrays():
    """Arrays whose members are arrays: level 5 upon two of level 5, one of level 0 and a disk, under load, with a member of a
    member lost and the upper one rebuilt."""
    needs.personality("raid0")
    low = [Array.create(rams(3), size=16, name="md1"), Array.create(rams(3, 3), size=16, name="md2")]
    for array in low:
        array.set("stripe_cache_size", 32)
    top = Array.create([low[0].path, low[1].path, rams(1, 6)[0]], size=12, name="md0")
    top.set("stripe_cache_size", 32)
    load = Load(top.path, top.size(), seconds=5, jobs=2, depth=32, largest="128k")
    low[0].fail(low[0].members[1])
    top.fail(low[1].path)
    top.remove(low[1].path)
    top.add(low[1].path)
    top.wait_rebuilt(60)
    load.finish()
    top.expect_clean()
    low[1].expect_clean()
    top.stop()


def other_chunks():
    """A bitmap is taken away and made again with chunks of another size, under load."""
    array = Array.create(rams(5), level=6, size=12, bitmap="internal")
    words = {"seconds": 4 * kernel.patience(), "jobs": 2, "depth": 16, "largest": "64k", "mix": "randwrite"}
    load = Load(array.path, array.size(), **words)
    turn = 0
    while turn < 2 or load.running():
        if not load.running():
            # On a slow machine that is not enough for two turns.
            load.finish()
            load = Load(array.path, array.size(), **words)
        array.grow("--bitmap=none")
        chunk = ("64K", "1M", "256K")[turn % 3]
        array.grow("--bitmap=internal", f"--bitmap-chunk={chunk}")
        turn += 1
    load.finish()
    array.clear_bits()
    array.expect_clean()


def one_too_many():
    """A member more fails than parity makes up for, of an array at rest: that is recorded too, though nobody else wakes the array's thread."""
    array = Array.create(rams(4), size=1)
    array.fail(array.members[0])
    wait_for("the first failure recorded", lambda: "blocked" not in array.state(array.members[0]), 10)
    array.wait_idle()
    wait_for("no write under way", lambda: array.get("array_state") == "clean", 20)
    # Until then the thread may have something to do.
    time.sleep(1)
    last = array.members[1]
    # Past sysfs, where whoever stores it wakes the thread.
    with Disk(array.path) as disk:
        problem = errno_of(lambda: fcntl.ioctl(disk.fileno(), SET_DISK_FAULTY, os.stat(last).st_rdev))
    expect("who fails one more is told that the array has failed", "EBUSY", problem)
    wait_for("the failure recorded", lambda: "faulty" in array.state(last) and "blocked" not in array.state(last), 10, 0.2)


def cleanup():
    """Takes everything down, upper arrays first."""
    stop_all()
    remove_all()


def stored_as_syncs_end():
    """Settings are stored as syncs end, in an array that has just become clean: who holds the lock without which nobody
    records that a sync has ended must not wait for the record. (The C module does, in md_allow_write(), and hangs.)"""
    array = Array.create(rams(4), size=1)
    enough = threading.Event()

    def checks():
        while not enough.is_set():
            array.try_set("sync_action", "check")

    syncs = threading.Thread(target=checks, daemon=True)
    syncs.start()
    for count in range(200):
        array.try_set("array_state", "clean")
        setting, value = (("stripe_cache_size", 256 + count), ("group_thread_cnt", count // 2 % 3))[count % 2]
        within(30, lambda to=setting, what=value: (array.set(to, what), True))
    enough.set()
    syncs.join()
    array.wait_idle()
    array.expect_clean()


if __name__ == "__main__":
    run([
        ("raid5: read-auto", lambda: read_auto(5)),
        ("raid6: read-auto", lambda: read_auto(6)),
        ("read-only", read_only),
        ("read-auto to read-only with something to record", read_auto_to_read_only),
        ("speed limits", speed),
        ("idle and frozen", idle_and_frozen),
        ("write-mostly and failfast", flags),
        ("raid5: stop at once", lambda: stop_at_once(5)),
        ("raid6: stop at once", lambda: stop_at_once(6)),
        ("sectors of 512 bytes and 4 KiB", mixed_sectors),
        ("arrays upon arrays", upon_arrays),
        ("a bitmap with other chunks", other_chunks),
        ("settings are stored as syncs end", stored_as_syncs_end),
        ("one member too many fails at rest", one_too_many),
    ], cleanup=cleanup)
