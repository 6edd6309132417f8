#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=40 timeout=240
"""How requests of every kind reach the members: sizes and offsets, flush and FUA, NOWAIT, readahead, and which reads a
write or a read costs."""

import errno
import mmap
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from blocktrace import BlockTrace, is_fua, sectors
from disk import Disk, MIB, SECTOR, Shadow, pattern
from load import Load
from nullblk import nullb, remove_all
from raid import Array, rams, stop_all
from report import Failed, Skipped, expect, expect_range, note, run
import kernel
import needs


def every_place(level=5, members=4, rmw_level=1):
    """Every length from 1 to 17 sectors at every sector of a page and across the ends of a chunk and of a stripe."""
    array = Array.create(rams(members), level=level, size=4, chunk=16)
    array.set("rmw_level", rmw_level)
    with Shadow(array.path) as shadow:
        shadow.fill()
        stripe = array.geometry().data * 32
        for begin in (0, 32 - 8, stripe - 8):
            for offset in range(0, 16):
                for length in range(1, 18, 1 if begin else 3):
                    shadow.write((begin + offset + 8 * stripe) * SECTOR, pattern((offset, length), length * SECTOR))
            shadow.verify(f"after writes around sector {begin} of a stripe", 0, 1 << 20)
        for offset in range(0, 16):
            for length in range(1, 18):
                at = (32 - 8 + offset) * SECTOR
                if shadow.disk.read(at, length * SECTOR, shift=512) != shadow.bytes[at:at + length * SECTOR]:
                    raise Failed(f"read of {length} sectors at {at // SECTOR}: wrong data")
        note("ok: reads of every length at every sector")
    array.expect_clean()
    array.expect_parity(shadow.bytes)


def large_requests():
    """Requests of many MiB in one system call, aligned and not."""
    array = Array.create(rams(5), size=32, chunk=64)
    buffer = mmap.mmap(-1, 24 * MIB)
    with Shadow(array.path) as shadow:
        for turn, (offset, length) in enumerate(((0, 24 * MIB), (512, 9 * MIB), (7 * MIB + 1536, 16 * MIB + 4096))):
            data = pattern(turn, length)
            memoryview(buffer)[:length] = data
            done = os.pwritev(shadow.disk.fileno(), [memoryview(buffer)[:length]], offset)
            expect(f"bytes written at {offset}", length, done)
            shadow.bytes[offset:offset + length] = data
            memoryview(buffer)[:length] = bytes(length)
            done = os.preadv(shadow.disk.fileno(), [memoryview(buffer)[:length]], offset)
            expect("read back in one call", True, done == length and buffer[:length] == data)
        shadow.verify("all", 0, 32 * MIB)
    array.expect_clean()


def page_cache():
    """Buffered writes of odd lengths, and a buffered sequential read, which brings readahead."""
    array = Array.create(rams(4), size=16)
    with Shadow(array.path) as shadow:
        shadow.fill()
        with open(array.path, "r+b", buffering=0) as file:
            for turn in range(60):
                at, data = turn * 54321 % (shadow.length - 70000), pattern(turn, turn * 997 % 65536 + 1)
                file.seek(at)
                file.write(data)
                shadow.bytes[at:at + len(data)] = data
            os.fsync(file.fileno())
        shadow.verify("after buffered writes")
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
            drop.write("1")
        for degraded in (False, True):
            with open(array.path, "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                came = b"".join(iter(lambda: file.read(100000), b""))
            expect(f"buffered read with readahead{', degraded' if degraded else ''}", True, came == shadow.bytes)
            array.fail(rams(4)[2]) if not degraded else None
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
                drop.write("1")


def cached_disks(count):
    """Disks with a volatile write cache that know FUA."""
    return [nullb(f"nullb{number}", 16, cache_size=4, fua=1) for number in range(count)]


def flush_and_fua(level=5):
    """fsync flushes every member; a FUA write is FUA on the data's member and on parity's, and nowhere else."""
    disks = cached_disks(4)
    parities = level - 4
    array = Array.create(disks, level=level, size=8)
    low = min(array.data_offset(path) for path in disks) // SECTOR
    with Shadow(array.path) as shadow:
        shadow.fill()
        with BlockTrace(disks) as trace:
            shadow.disk.sync()
        expect("flushes after fsync, for each member", [1, 1, 1, 1], [len(trace.empty_flushes(path)) for path in disks])

        with BlockTrace(disks) as trace:
            shadow.write(0, pattern(1, 4096), flags=os.RWF_DSYNC)
        writes = trace.writes(low=low)
        geometry, slots = array.geometry(), array.slots()
        wanted = sorted(slots[at(0)[0]] for at in (geometry.locate, geometry.parity_of, geometry.q_of)[:1 + parities])
        expect("members written by a FUA write of 4 KiB", wanted, sorted(bio.disk for bio in writes))
        expect("all of them FUA", [True] * len(wanted), [is_fua(bio) for bio in writes])

        with BlockTrace(disks) as trace:
            shadow.write(0, pattern(2, geometry.data * 65536), flags=os.RWF_DSYNC)
        expect("a FUA write of a stripe: sectors written, and FUA of them", (4 * 128, 4 * 128),
               (sectors(trace.writes(low=low)), sectors([bio for bio in trace.writes(low=low) if is_fua(bio)])))

        with BlockTrace(disks) as trace:
            shadow.write(0, pattern(3, 4096))
        expect("FUA writes of a plain write", 0, len([bio for bio in trace.writes(low=low) if is_fua(bio)]))
        expect("and flushes", 0, len([bio for bio in trace.flushes() if bio.sector >= low]))

        array.fail(disks[3])
        array.wait_idle()
        with BlockTrace(disks) as trace:
            shadow.disk.sync()
        expect("flushes while degraded, for each member", [1, 1, 1, 0],
               [len(trace.empty_flushes(path)) for path in disks])
        shadow.write(8192, pattern(4, 65536 * 3), flags=os.RWF_DSYNC)
        shadow.verify()


def four_kib_sectors():
    """Members with sectors of 4 KiB: the array has them too, and smaller requests are refused."""
    disks = [nullb(f"nullb{number}", 16, blocksize=4096) for number in range(4)]
    array = Array.create(disks, size=8)
    with open(f"/sys/block/{array.name}/queue/logical_block_size", encoding="ascii") as file:
        expect("logical_block_size", "4096", file.read().strip())
    with Shadow(array.path) as shadow:
        shadow.fill()
        for turn in range(100):
            shadow.write(turn * 77 % 5000 * 4096, pattern(turn, (turn % 20 + 1) * 4096))
        try:
            shadow.disk.write(512, bytes(512))
            came = "success"
        except OSError as problem:
            came = errno.errorcode[problem.errno]
        expect("write of 512 bytes", "EINVAL", came)
        array.fail(disks[1])
        shadow.verify()


def no_wait():
    """RWF_NOWAIT: the C module does not offer it and refuses it whole. Ours ends each request with success, or with
    EAGAIN and nothing done, and never waits."""
    array = Array.create(rams(4), size=4)
    array.set("safe_mode_delay", "600")
    with Shadow(array.path) as shadow:
        shadow.fill()
        refusal = attempt(lambda: shadow.disk.read(0, 65536, flags=os.RWF_NOWAIT))
        if refusal == errno.EOPNOTSUPP:
            expect("the driver that does not offer NOWAIT", "c", kernel.driver())
            expect("write with RWF_NOWAIT", errno.EOPNOTSUPP,
                   attempt(lambda: shadow.disk.write(0, bytes(8192), flags=os.RWF_NOWAIT)))
            shadow.verify()
            return
        count = {"read": {0: 0, errno.EAGAIN: 0}, "write": {0: 0, errno.EAGAIN: 0}}
        for turn in range(200):
            # Within a stripe: the block layer cuts what crosses its end, and the halves may end differently.
            at, length = turn % 60 * 196608 + turn % 7 * 512, (turn % 16 + 1) * 4096
            if turn % 2:
                count["read"][attempt(lambda: shadow.disk.read(at, length, flags=os.RWF_NOWAIT))] += 1
            else:
                data = pattern(turn, length)
                problem = attempt(lambda: shadow.disk.write(at, data, flags=os.RWF_NOWAIT))
                count["write"][problem] += 1
                if not problem:
                    shadow.bytes[at:at + length] = data
        for kind, results in count.items():
            note(f"{kind}s: {results[0]} of 100 succeeded, {results[errno.EAGAIN]} ended with EAGAIN")
            expect(f"some {kind}s succeed on an idle array", True, results[0] > 0)
        shadow.verify("what succeeded is there, and nothing of what did not")
        array.set("suspend_hi", 8192)
        expect("a write into a suspended range", errno.EAGAIN,
               attempt(lambda: shadow.disk.write(0, bytes(4096), flags=os.RWF_NOWAIT)))
        array.set("suspend_hi", 0)
        shadow.verify()
    array.expect_clean()


def no_wait_under_load():
    """Requests with RWF_NOWAIT, and those of io_uring, which tries every request without waiting first: with a small
    stripe cache, while a member fails and is rebuilt. None ends with another error than EAGAIN."""
    needs.io_uring()
    array = Array.create(rams(4), size=16)
    array.set("stripe_cache_size", "32")
    array.set("safe_mode_delay", "600")
    half = array.size() // 2
    with Shadow(array.path) as shadow:
        # Before the load: that ends by time, and takes most of the cache.
        shadow.write(half, pattern("under", half))
        uring = Load(array.path, half, seconds=6, jobs=2, depth=32, largest="64k", engine="io_uring")
        if attempt(lambda: shadow.disk.read(0, 4096, flags=os.RWF_NOWAIT)) == errno.EOPNOTSUPP:
            expect("the driver that does not offer NOWAIT", "c", kernel.driver())
            uring.finish()
            array.expect_clean()
            return
        results, writers = {}, 4

        def work(number):
            """Blocks of its own, each one strip's data: such a request cannot be cut."""
            with Disk(array.path) as disk:
                turn = 0
                while uring.running():
                    at = half + (turn * 61 % 1024 * writers + number) * 4096
                    data = pattern((number, turn), 4096)
                    if turn % 3:
                        kind, problem = "write", attempt(lambda: disk.write(at, data, flags=os.RWF_NOWAIT))
                        if not problem:
                            shadow.bytes[at:at + 4096] = data
                    else:
                        kind = "read"
                        problem = attempt(lambda: matches(disk, at, shadow.bytes[at:at + 4096]))
                    results[kind, problem] = results.get((kind, problem), 0) + 1
                    turn += 1

        def matches(disk, at, wanted):
            if disk.read(at, 4096, flags=os.RWF_NOWAIT) != wanted:
                results["read", "wrong data"] = results.get(("read", "wrong data"), 0) + 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        lost, spare = rams(4)[1], rams(1, 4)[0]
        array.fail(lost)
        array.remove(lost)
        array.add(spare)
        array.wait_rebuilt()
        uring.finish()
        for thread in threads:
            thread.join()
        for (kind, problem), count in sorted(results.items(), key=str):
            note(f"{kind}s that ended with {problem and errno.errorcode.get(problem, problem) or 'success'}: {count}")
        expect("results", set(), {problem for _, problem in results} - {0, errno.EAGAIN})
        expect("some of each kind succeeded", True, bool(results.get(("read", 0)) and results.get(("write", 0))))
        shadow.verify("what succeeded is there, and nothing of what did not", half, half)
    array.expect_clean()


def attempt(action):
    """The errno of an action, 0 for success."""
    try:
        action()
    except OSError as problem:
        return problem.errno
    return 0


def write_zeroes():
    """blkdiscard --zeroout falls back to writing zeroes; BLKDISCARD is refused or leaves the data readable and parity
    right."""
    array = Array.create(rams(4), size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        kernel.sh("blkdiscard", "--zeroout", "--offset", 65536, "--length", 3 * MIB + 4096, array.path)
        shadow.bytes[65536:65536 + 3 * MIB + 4096] = bytes(3 * MIB + 4096)
        shadow.verify("after zeroing")
        status, text = kernel.sh("blkdiscard", "--offset", 0, "--length", MIB, array.path, check=False)
        note(f"blkdiscard ended with {status}: {text.strip() or 'no message'}")
        if status:
            shadow.verify("after a discard that was refused")
    array.expect_clean()


def cost_of_reads():
    """A read within a chunk is one read of one member, also when another member is missing; a lost chunk costs one read
    of each of the others."""
    disks = rams(6)
    array = Array.create(disks, size=8)
    geometry, slots = array.geometry(), array.slots()
    with Shadow(array.path) as shadow:
        shadow.fill()
        array = array_without_cache(array, shadow)
        for place in (0, 17, 5 * 128 + 3):
            with BlockTrace(disks) as trace:
                shadow.verify("a chunk's part", place * SECTOR, 64 * SECTOR)
            home = slots[geometry.locate(place)[0]]
            expect(f"reads for 64 sectors at {place}", [(home, 64)], [(bio.disk, bio.sectors) for bio in trace.reads()])
        # In the middle: programs that look for partitions read at both ends, and may have left blocks in the cache.
        gone = 8 * geometry.data * 128
        there = gone + 128
        lost = slots[geometry.locate(gone)[0]]
        array.fail(lost)
        array = array_without_cache(array, shadow)
        with BlockTrace(disks) as trace:
            shadow.verify("a chunk of another member", there * SECTOR, 128 * SECTOR)
        home = slots[geometry.locate(there)[0]]
        expect("sectors read for a chunk of a member that is there", {home: 128}, by_disk(trace.reads()))
        if kernel.driver() == "rust":
            expect("in one bio", 1, len(trace.reads()))
        # Another stripe: the C module has just cached a part of this one.
        gone = next(at for at in range(there + 3 * geometry.data * 128, shadow.length // SECTOR, 128)
                    if slots[geometry.locate(at)[0]] == lost)
        with BlockTrace(disks) as trace:
            shadow.verify("the lost chunk", gone * SECTOR, 128 * SECTOR)
        expect("sectors read for a lost chunk", {path: 128 for path in disks if path != lost}, by_disk(trace.reads()))


def by_disk(bios):
    """{device: sectors} of these bios."""
    found = {}
    for bio in bios:
        found[bio.disk] = found.get(bio.disk, 0) + bio.sectors
    return found


def array_without_cache(array, shadow):
    """Stops and assembles, so that no block is cached."""
    shadow.close()
    present = [path for path in array.members if "in_sync" in array.state(path)]
    array.stop()
    array = Array.assemble(present, "--run")
    array.wait_idle()
    shadow.reopen()
    return array


def cost_of_writes():
    """What a write has to read: a whole stripe nothing; one strip, with RMW its old data and parity, without RMW the
    other members' data; most of a row, the rest of the row."""
    disks = rams(6)
    array = Array.create(disks, size=8)
    geometry = array.geometry()
    with Shadow(array.path) as shadow:
        shadow.fill()
        array = array_without_cache(array, shadow)
        low = array.data_offset(disks[0]) // SECTOR
        wide = geometry.data * 65536

        with BlockTrace(disks) as trace:
            shadow.write(0, pattern(1, wide))
        expect("a whole stripe: sectors read, sectors written", (0, 6 * 128),
               (sectors(trace.reads()), sectors(trace.writes(low=low))))

        with BlockTrace(disks) as trace:
            shadow.write(4 * wide + 4096, pattern(2, 4096))
        expect("4 KiB with RMW: sectors read (old data, old parity), written", (16, 16),
               (sectors(trace.reads()), sectors(trace.writes(low=low))))

        array.set("rmw_level", 0)
        with BlockTrace(disks) as trace:
            shadow.write(5 * wide + 4096, pattern(3, 4096))
        expect("4 KiB with RCW: sectors read (four members), written", (32, 16),
               (sectors(trace.reads()), sectors(trace.writes(low=low))))

        array.set("rmw_level", 1)
        with BlockTrace(disks) as trace:
            shadow.write(6 * wide, pattern(4, 4 * 65536))
        expect("four of five chunks: sectors read (the fifth), written", (128, 5 * 128),
               (sectors(trace.reads()), sectors(trace.writes(low=low))))
        shadow.verify()
    array.expect_clean()


def cost_of_writes6():
    """Level 6: RMW reads the old data, P and Q, RCW the other members' data; whichever is fewer, and of equal ones RMW
    unless rmw_level is 0."""
    for members, chosen in ((7, {0: "RCW", 1: "RMW", 2: "RMW"}), (6, {0: "RCW", 1: "RMW", 2: "RMW"}),
                            (5, {0: "RCW", 1: "RCW", 2: "RCW"})):
        disks = rams(members)
        array = Array.create(disks, level=6, size=4)
        geometry = array.geometry()
        with Shadow(array.path) as shadow:
            shadow.fill()
            array = array_without_cache(array, shadow)
            low, slots = array.data_offset(disks[0]) // SECTOR, array.slots()
            wide = geometry.data * 65536
            with BlockTrace(disks) as trace:
                shadow.write(0, pattern(1, wide))
            expect(f"{members} members: a whole stripe: sectors read, sectors written", (0, members * 128),
                   (sectors(trace.reads()), sectors(trace.writes(low=low))))
            # In stripes that nobody has read yet.
            for level, way in chosen.items():
                sector = (3 + 7 * level) * geometry.data * 128 + 24
                home, p, q = (slots[at(sector)[0]] for at in (geometry.locate, geometry.parity_of, geometry.q_of))
                array.set("rmw_level", level)
                with BlockTrace(disks) as trace:
                    shadow.write(sector * SECTOR, pattern(level, 4096))
                others = set(disks) - {home, p, q}
                expect(f"{members} members, rmw_level {level}: 4 KiB by {way}: sectors read",
                       {path: 8 for path in ({home, p, q} if way == "RMW" else others)}, by_disk(trace.reads()))
                expect("and written", {path: 8 for path in (home, p, q)}, by_disk(trace.writes(low=low)))
            shadow.verify()
        array.expect_parity(shadow.bytes)
        array.stop()


def sequential_stream():
    """Small writes one after the other under a plug become whole stripes: few reads."""
    if kernel.least():
        raise Skipped("no stripe is held where one strip has memory")
    disks = rams(6)
    array = Array.create(disks, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        length = 20 * 5 * 65536
        most = length // SECTOR // 10
        low = array.data_offset(disks[0]) // SECTOR
        for turn in range(3):
            array = array_without_cache(array, shadow)
            data = pattern(("stream", turn), length)
            with BlockTrace(disks) as trace:
                with open(array.path, "r+b", buffering=0) as file:
                    for at in range(0, length, 65536):
                        file.write(data[at:at + 65536])
                    os.fsync(file.fileno())
            shadow.bytes[:length] = data
            if sectors(trace.reads()) <= most:
                break
            note("on a busy machine the writer may be late now and then: once more")
        expect_range("sectors read for a sequential stream, of those written", 0, most, sectors(trace.reads()))
        expect_range("sectors written", length // SECTOR * 6 // 5, length // SECTOR * 7 // 5,
                     sectors(trace.writes(low=low)))
        shadow.verify()
    array.expect_clean()


def changing_buffer():
    """A buffer that changes while it is being written: what is stored may be old or new, but parity must fit it."""
    array = Array.create(rams(4), size=8)
    buffer = mmap.mmap(-1, 192 * 1024)
    child = os.fork()
    if not child:
        # Memory is shared with the parent: this changes all of it some thousand times a second.
        patterns = [bytes([value]) * len(buffer) for value in (0x00, 0xff, 0xa5)]
        while True:
            for each in patterns:
                buffer[:] = each
    try:
        with Disk(array.path) as disk:
            for turn in range(900):
                os.pwritev(disk.fileno(), [memoryview(buffer)[:(196608, 20480, 65536)[turn % 3]]], turn % 120 * 196608)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    array.expect_clean()


def accounting():
    """The array's statistics count each request once."""
    array = Array.create(rams(4), size=8)

    def stat():
        with open(f"/sys/block/{array.name}/stat", encoding="ascii") as file:
            numbers = [int(word) for word in file.read().split()]
        return numbers[0], numbers[2], numbers[4], numbers[6], numbers[8]

    with Disk(array.path) as disk:
        before = stat()
        for turn in range(50):
            disk.write(turn * 300 * SECTOR, pattern(turn, (turn + 1) * SECTOR))
        for turn in range(40):
            disk.read(turn * 300 * SECTOR, (turn + 1) * SECTOR)
        after = stat()
    expect("sectors read", sum(range(1, 41)), after[1] - before[1])
    expect("sectors written", sum(range(1, 51)), after[3] - before[3])
    expect("requests in flight", 0, after[4])
    # Requests that cross a stripe's end are two.
    expect_range("reads", 40, 60, after[0] - before[0])
    expect_range("writes", 50, 70, after[2] - before[2])


def cleanup():
    """Takes everything down."""
    stop_all()
    remove_all()


if __name__ == "__main__":
    run([
        ("every length at every place", every_place),
        ("every length at every place, raid6, RCW", lambda: every_place(6, 5)),
        ("every length at every place, raid6, RMW", lambda: every_place(6, 6, 2)),
        ("large requests", large_requests),
        ("buffered requests and readahead", page_cache),
        ("flush and FUA", flush_and_fua),
        ("flush and FUA, raid6", lambda: flush_and_fua(6)),
        ("members with sectors of 4 KiB", four_kib_sectors),
        ("NOWAIT", no_wait),
        ("NOWAIT under load", no_wait_under_load),
        ("zeroing and discard", write_zeroes),
        ("what a read costs", cost_of_reads),
        ("what a write costs", cost_of_writes),
        ("what a write costs, raid6", cost_of_writes6),
        ("a sequential stream", sequential_stream),
        ("a buffer that changes in flight", changing_buffer),
        ("accounting", accounting),
    ], cleanup=cleanup)
