#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml cpus=1 mem=400 timeout=400
"""Memory that is really short: programs whose memory is on the array, more dirty pages than memory holds, and a cache that is
asked to give back what it has; members fail and are rebuilt meanwhile.

One CPU: User-mode Linux with several takes mapped pages from programs that run, which go on writing to them (Documentation/testing.md, "Guests")."""

import hashlib
import mmap
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, pattern
from kmem import Reclaims
from memory import available, dirty_limit, keep_free, small, swap_off, swapping
from raid import Array, name_of, speed_limit, stop_all
from report import Failed, Skipped, all_of, expect, expect_range, note, run, wait_for, within
from torture import Check, Disks
import kernel
import needs

MIB = 1 << 20
PAGE = 4096


def create(level=5, mib=24, **words):
    """An array of five members that need no memory for their I/O, and a sixth one."""
    disks = Disks(6, mib, late=True)
    speed_limit()
    array = Array.create(disks.paths[:5], level=level, size=mib - 2, **words)
    return array, disks.paths[5]


def memory_of(array):
    """The numbers of md/memory."""
    if kernel.driver() != "rust":
        raise Skipped("only this driver tells what memory it has")
    return {name: int(value) for name, value in (line.split() for line in array.get("memory").splitlines())}


def asked():
    """The kernel asks all caches of objects to give back what they can do without."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")


def given_back(level):
    """A cache gives back what it can do without, and takes it again when it is used."""
    if kernel.least():
        raise Skipped("the cache has one strip")
    array, _ = create(level, 8)
    check = Check()
    check.new(array.geometry(), array.size() // 512)
    check.whole(array.path, "fill")
    # What is at work cannot be given back: a span is for a moment after its writes have ended.
    array.expect_at_rest()
    before = memory_of(array)
    expect("kits, as many as wanted", (256, 256, 5 * 256), (before["kits"], before["kits_wanted"], before["pages"]))
    asked()
    after = memory_of(array)
    expect("kits when memory was asked for", 17, after["kits"])
    expect("given back", before["kits_given_back"] + 256 - 17, after["kits_given_back"])
    expect("stripe_cache_size", "256", array.get("stripe_cache_size"))
    check.whole(array.path, "verify")
    check.run(array.path, "mix", jobs=2, depth=32, longest=128, reads=40)
    wait_for("kits made again", lambda: memory_of(array)["kits"] == 256, 20)
    # Under load, again and again; longer if the load has had most of them each time.
    end, last = (time.monotonic() + seconds for seconds in (2, 20 * kernel.SLOW))
    least = 256
    while time.monotonic() < (end if least <= 200 else last):
        asked()
        least = min(least, memory_of(array)["kits"])
        time.sleep(0.02)
        check.expect_right()
    check.command("stop")
    expect_range("fewest kits seen under load", 17, 200, least)
    array.expect_at_rest()
    left = memory_of(array)
    expect("spans that wait", [0, 0, 0], [left[f"parked_{why}"] for why in ("memory", "superblock", "bitmap")])
    expect("kits made again, less those given back", left["kits"] - 256, left["kits_made_again"] - left["kits_given_back"])
    check.whole(array.path, "verify")
    array.expect_clean()
    array.expect_parity()


def larger_than_memory(level):
    """A cache that is to be larger than memory. Each strip that is made has others given back at some point: who asked for it is not
    kept for ever, with the array's configuration locked, and the array goes on with what is there."""
    if kernel.least():
        raise Skipped("the cache has one strip")
    array, _ = create(level, 8)
    memory_of(array)
    check = Check()
    check.new(array.geometry(), array.size() // 512)
    check.whole(array.path, "fill")
    # Of pages alone; the objects of the spans are there beside these.
    strips = available() * 5 // 4 // (5 * PAGE)
    if strips > 32768:
        raise Skipped("there is more memory than a cache can have")
    problem = within(100, lambda: array.try_set("stripe_cache_size", strips))
    after = memory_of(array)
    note(f"{strips} strips: {problem or 'done'}; {after['kits']} are there, {after['kits_given_back']} were given back")
    expect_range("kits", 17, strips - 1, after["kits"])
    check.whole(array.path, "verify")
    array.set("stripe_cache_size", 256)
    check.whole(array.path, "verify")
    array.expect_clean()


def lose_and_rebuild(array, spare, seen):
    """A member fails and the spare is rebuilt in its place, in the background."""
    def work():
        try:
            lost = array.members[1]
            array.fail(lost)
            time.sleep(0.3)
            array.remove(lost)
            array.add(spare)
            array.wait_rebuilt(120)
            array.members.remove(lost)
            seen.append("rebuilt")
        except Exception as problem:  # To be told by the case itself.
            seen.append(repr(problem))
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def swap_on_array(level):
    """A program whose memory is on the array for the most part, and a member that is lost: what it wrote it reads. Nearly all other
    memory is taken, for what a program goes through from end to end goes out and comes in page by page, if it is more than memory
    holds.

    Another member is rebuilt afterwards: md core makes the thread that does that while it has the array suspended, and who makes
    threads may look for memory by writing to that very array."""
    array, spare = create(level, 18)
    lost = array.members[1]
    with swapping(array.path, array.size()) as memory:
        begin = time.monotonic()
        with Reclaims("md0") as reclaims:
            memory.write(midway=lambda: array.set(f"dev-{name_of(lost)}/state", "faulty"))
            wrong = memory.wrong()
        note(f"{time.monotonic() - begin:.1f} s")
        if kernel.driver() == "rust":
            # Not in md core either, which it calls: it is the one that records failures.
            reclaims.expect_never(f"md0_raid{level}")
        expect("the failure is recorded", (True, False), ("faulty" in array.state(lost), "blocked" in array.state(lost)))
        with open("/proc/swaps", encoding="ascii") as file:
            used = int(file.read().splitlines()[1].split()[3]) * 1024
        # More may have been free than the kernel said.
        expect_range("bytes on the array", 4 << 20, array.size(), used)
        expect("pages that are not as they were written", [], wrong[:5])
    array.remove(lost)
    array.add(spare)
    array.wait_rebuilt()
    array.members.remove(lost)
    array.expect_clean()


def settings_while_swapping(level):
    """A program whose memory is on the array for the most part, and an administrator who changes settings that take memory, as syncs
    end: memory comes free by writes to this very array, and those wait for the superblock, which nobody can write while another one
    holds md's lock. (The C module's settings hold it: all wait for ever.)"""
    if kernel.driver() != "rust":
        raise Skipped("it may hang under the C module")
    array, _ = create(level, 18)
    ended, outcomes = threading.Event(), []

    def checks():
        while not ended.is_set():
            array.try_set("sync_action", "check")
            time.sleep(0.01)

    def settings():
        turn = 0
        while not ended.is_set():
            turn += 1
            array.try_set("array_state", "clean")
            outcomes.append(array.try_set("stripe_cache_size", 32 if turn % 2 else 600))
            outcomes.append(array.try_set("group_thread_cnt", turn % 3))

    threads = [threading.Thread(target=work, daemon=True) for work in (checks, settings)]
    with swapping(array.path, array.size()) as memory:
        for thread in threads:
            thread.start()
        within(120, lambda: (memory.write(midway=lambda: None), True))
        wrong = within(120, lambda: [memory.wrong()])[0]
        ended.set()
        for thread in threads:
            thread.join(60)
        expect("who checks and who changes settings has ended", [False, False], [thread.is_alive() for thread in threads])
        expect("pages that are not as they were written", [], wrong[:5])
    note(f"{len(outcomes)} settings were stored, {sum(map(bool, outcomes))} of them refused: {sorted(set(outcomes))}")
    expect("refused for another reason than that there is no memory", set(), set(outcomes) - {"", "ENOMEM"})
    array.wait_idle()
    array.expect_clean()


def expect_files(array, sums):
    """Ends the case unless fsck finds nothing wrong on an array, and each file is as it was written. sums: {its number: digest}."""
    status, text = kernel.sh("fsck.ext4", "-f", "-n", array.path, check=False)
    if status:
        raise Failed(f"fsck: expected no fault, it ended with {status}:\n{text}")
    kernel.sh("mount", "-o", "ro", array.path, "/tmp/fs")
    try:
        for number, value in sums.items():
            with open(f"/tmp/fs/{number}", "rb") as file:
                if hashlib.sha256(file.read()).digest() != value:
                    raise Failed(f"file {number}: expected what was written, came something else")
        note(f"ok: {len(sums)} files are as they were written")
    finally:
        kernel.sh("umount", "/tmp/fs")


def swap_beside_files(level):
    """A file system on the array, and on it the swap: a program whose memory is there for the most part, files that are written meanwhile,
    more than may be dirty, and a member that is lost. Rebuilt is afterwards, as in swap_on_array()."""
    needs.file_system("ext4")
    array, spare = create(level)
    lost, sums, ended = array.members[1], {}, []
    kernel.sh("mkfs.ext4", "-q", "-F", array.path)
    os.makedirs("/tmp/fs", exist_ok=True)
    kernel.sh("mount", array.path, "/tmp/fs")
    size = array.size() // 2 // MIB * MIB
    with open("/tmp/fs/swap", "wb") as file:
        os.chmod("/tmp/fs/swap", 0o600)
        for _ in range(size // MIB):
            file.write(bytes(MIB))
        os.fsync(file.fileno())

    def content(number):
        return hashlib.sha256(str(number).encode()).digest() * (MIB // 32)

    def write_files():
        try:
            for number in range(array.size() // 5 // MIB):
                with open(f"/tmp/fs/{number}", "wb") as file:
                    file.write(content(number))
                sums[number] = hashlib.sha256(content(number)).digest()
            ended.append("written")
        except Exception as problem:  # To be told by the case itself.
            ended.append(repr(problem))
    writer = threading.Thread(target=write_files, daemon=True)

    def midway():
        writer.start()
        array.set(f"dev-{name_of(lost)}/state", "faulty")
    try:
        with swapping("/tmp/fs/swap", size) as memory:
            with Reclaims("md0") as reclaims:
                memory.write(midway=midway)
                wrong = memory.wrong()
                writer.join(100 * kernel.patience())
            if kernel.driver() == "rust":
                reclaims.expect_never(f"md0_raid{level}")
            expect("the writer of files", ["written"], ended)
            expect("the failure is recorded", (True, False), ("faulty" in array.state(lost), "blocked" in array.state(lost)))
            with open("/proc/swaps", encoding="ascii") as file:
                used = int(file.read().splitlines()[1].split()[3]) * 1024
            expect_range("bytes swapped to the array", 4 << 20, size, used)
            expect("pages that are not as they were written", [], wrong[:5])
    finally:
        kernel.sh("umount", "/tmp/fs")
    expect_files(array, sums)
    array.remove(lost)
    array.add(spare)
    array.wait_rebuilt()
    array.members.remove(lost)
    array.expect_clean()


def bitmap_waits(level):
    """While the members end no write of the bitmap, a write to a place that is not marked waits for it, and nobody else does: what was
    on the member that is lost is read, by a lane."""
    if kernel.driver() != "rust":
        raise Skipped("the C module has one thread for both")
    if kernel.least():
        raise Skipped("the write that waits has the strip that there is")
    disks = Disks(6, 8, late=True)
    array = Array.create(disks.paths[:5], level=level, size=6, bitmap="internal", bitmap_chunk="16K")
    lost, *others = disks.paths[:5]
    geometry = array.geometry()
    stripe = geometry.chunk * geometry.data
    place = next(at for at in range(8 * stripe, 12 * stripe, geometry.chunk) if array.slots()[geometry.locate(at)[0]] == lost)
    with Disk(array.path) as disk:
        disk.write(place * SECTOR, pattern("lost", 4096))
    # Nothing is in memory then, and no bit is set.
    array = array.reassemble()
    array.fail(lost)
    disk = Disk(array.path)
    # From here on the superblock says that the array is written, and nobody says otherwise.
    array.set("safe_mode_delay", "0")
    disk.write(14 * stripe * SECTOR, pattern("first", 4096))
    wait_for("rest", lambda: memory_of(array)["spans_active"] == 0, 20)

    def write():
        # With memory of its own: the other file's is read into meanwhile.
        with Disk(array.path) as other:
            other.write(20 * stripe * SECTOR, pattern("late", 4096))
    writer = threading.Thread(target=write, daemon=True)
    for path in others:
        disks.tell(path, "hold", 2)
    try:
        writer.start()
        wait_for("the write waits for the bitmap", lambda: memory_of(array)["parked_bitmap"] == 1, 20)
        before = {name: array.counter(name) for name in ("member_reads", "runs_lane")}
        came = within(20, lambda: disk.read(place * SECTOR, 4096))
        expect("what was on the lost member, as it was written", True, came == pattern("lost", 4096))
        expect("reads of the others for it", 4, array.counter("member_reads") - before["member_reads"])
        expect_range("spans that a lane has run for it", 1, 100, array.counter("runs_lane") - before["runs_lane"])
        expect("writes that wait for the bitmap still", (1, True), (memory_of(array)["parked_bitmap"], writer.is_alive()))
    finally:
        for path in others:
            disks.tell(path, "hold", 0)
    writer.join(20 * kernel.patience())
    expect("the write has ended", False, writer.is_alive())
    expect("what it wrote", True, disk.read(20 * stripe * SECTOR, 4096) == pattern("late", 4096))
    disk.close()


def stat_of(task):
    """A task's state, and whether it is marked as one that frees memory (PF_MEMALLOC)."""
    with open(f"/proc/{task}/stat", encoding="ascii", errors="replace") as file:
        words = file.read().rpartition(")")[2].split()
    return words[0], bool(int(words[6]) & 0x800)


def thread_of(name):
    """The task that has this name."""
    for task in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{task}/comm", encoding="ascii", errors="replace") as file:
                if file.read().strip() == name:
                    return int(task)
        except OSError:
            pass
    raise Failed(f"there is no task {name}")


def marked_while_recording(level):
    """While the array's own thread records a failure it is marked so that it looks for no memory, and has what md core asks for
    there from the kernel's reserves; not before and not afterwards. Members that end no write keep it there; lanes work meanwhile: what
    was on the member that failed is read."""
    if kernel.driver() != "rust":
        raise Skipped("the C module's thread has no such mark")
    disks = Disks(6, 8, late=True)
    array = Array.create(disks.paths[:5], level=level, size=6)
    lost, *others = disks.paths[:5]
    geometry = array.geometry()
    stripe = geometry.chunk * geometry.data
    # In the middle: programs that look for partitions read at both ends, and leave blocks in memory.
    place = next(at for at in range(8 * stripe, 12 * stripe, geometry.chunk) if array.slots()[geometry.locate(at)[0]] == lost)
    with Disk(array.path) as disk:
        disk.write(place * SECTOR, pattern("lost", 4096))
    # Nothing of that is in memory then, and the superblock says that the array is clean.
    array = array.reassemble()
    # Whoever opens an array first looks for partitions.
    disk = Disk(array.path)
    thread = thread_of(f"md0_raid{level}")

    def read(what):
        before = {name: array.counter(name) for name in ("member_reads", "runs_lane")}
        came = within(20, lambda: disk.read(place * SECTOR, 4096))
        expect(f"{what}: as it was written", True, came == pattern("lost", 4096))
        return [array.counter(name) - number for name, number in before.items()]

    def rests():
        state, marked = stat_of(thread)
        return state == "S" and not marked
    wait_for("the thread rests, and is not marked", rests, 20)
    # A superblock that is on its way already would hold up who says that a member has failed.
    failing = threading.Thread(target=lambda: array.try_set(f"dev-{name_of(lost)}/state", "faulty"), daemon=True)
    for path in others:
        disks.tell(path, "hold", 2)
    try:
        failing.start()
        wait_for("the thread waits for superblocks",
                 lambda: all(disks.state(path)["waiting"] for path in others) and stat_of(thread)[0] == "D", 20)
        expect("the thread is marked", True, stat_of(thread)[1])
        wait_for("the member has failed", lambda: "faulty" in array.state(lost), 20)
        reads, runs = read("a block of the member that failed")
        expect("reads of the others for it", 4, reads)
        expect_range("spans that a lane has run for it", 1, 100, runs)
        reads, _ = read("the same, from memory")
        expect("reads of the others for it", 0, reads)
        wait_for("the thread waits still", lambda: stat_of(thread)[0] == "D", 5)
    finally:
        for path in others:
            disks.tell(path, "hold", 0)
    disk.close()
    failing.join(20 * kernel.patience())
    wait_for("the failure is recorded", lambda: "faulty" in array.state(lost) and "blocked" not in array.state(lost), 20)
    wait_for("the thread rests, and is not marked any more", rests, 20)


def dirty_pages(level):
    """A file system with more written than memory holds."""
    needs.file_system("ext4")
    array, spare = create(level)
    kernel.sh("mkfs.ext4", "-q", "-F", array.path)
    os.makedirs("/tmp/fs", exist_ok=True)
    kernel.sh("mount", array.path, "/tmp/fs")
    sums, seen, thread = {}, [], None
    try:
        with dirty_limit(min_free_kbytes=None):
            # One strip at a time is so slow that with less left nothing is clean when the kernel looks for memory, and it ends this process.
            hog = mmap.mmap(-1, max(PAGE, available() - (56 if kernel.least() else 28) * MIB))
            for at in range(0, len(hog), PAGE):
                hog[at] = 1
            block = os.urandom(MIB)
            with Reclaims("md0") as reclaims:
                for number in range(array.size() * 7 // 10 // (4 * MIB)):
                    data = hashlib.sha256(str(number).encode()).digest() + block * 4
                    with open(f"/tmp/fs/{number}", "wb") as file:
                        file.write(data[:4 * MIB])
                    sums[number] = hashlib.sha256(data[:4 * MIB]).digest()
                    if number == 6:
                        if kernel.least():
                            # So slow a writer does not ask for more than others free meanwhile.
                            keep_free(1024)
                        thread = lose_and_rebuild(array, spare, seen)
                    if number == 8 and not reclaims.seen():
                        # Nor does one that gets little of the processors.
                        keep_free(1024)
                kernel.sh("sync")
                thread.join(150 * kernel.patience())
            reclaims.expect_others_only(1)
            expect("a member lost and rebuilt", ["rebuilt"], seen)
            hog.close()
    finally:
        kernel.sh("umount", "/tmp/fs")
    expect_files(array, sums)
    array.expect_clean()


def unmount():
    """The file system goes."""
    if os.path.ismount("/tmp/fs"):
        kernel.sh("umount", "/tmp/fs")


def cleanup():
    """Everything goes, also after a case that has failed."""
    all_of(swap_off, unmount, Check.remove, stop_all, Disks.remove)


if __name__ == "__main__":
    small()
    run([
        ("the cache gives memory back, raid5", lambda: given_back(5)),
        ("the cache gives memory back, raid6", lambda: given_back(6)),
        ("a cache that is to be larger than memory, raid5", lambda: larger_than_memory(5)),
        ("the thread that records failures looks for no memory, and lanes work meanwhile, raid5", lambda: marked_while_recording(5)),
        ("swap on raid6", lambda: swap_on_array(6)),
        ("swap beside files, raid5", lambda: swap_beside_files(5)),
        ("settings change, with swap on raid5", lambda: settings_while_swapping(5)),
        ("lanes work while the bitmap is written, raid5", lambda: bitmap_waits(5)),
        ("dirty pages, raid5", lambda: dirty_pages(5)),
        ("dirty pages, raid6", lambda: dirty_pages(6)),
    ], cleanup=cleanup)
