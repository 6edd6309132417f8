#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml mem=480 timeout=300
"""Arrays that have the least memory that they can work with: one strip's kit, one part of a request, one request that waits for
its turn, and no other, however much memory is free. All that arrays do they do with that, one strip after the other: requests
of all sizes at once, with flushes, also by way of a plug and of a file system; members fail and are rebuilt; checks. And arrays with the
usual memory that get none for long bios."""

import errno
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from raid import Array, speed_limit, stop_all
from report import Skipped, expect, expect_range, note, run
from torture import Check, Disks
import kernel
import needs

LEAST = "/sys/module/raid456/parameters/least_memory"


def memory_of(array):
    """The numbers of md/memory."""
    return {name: int(value) for name, value in (line.split() for line in array.get("memory").splitlines())}


def counters(array):
    """{name: value}"""
    return {name: int(value) for name, value in (line.split() for line in array.get("counters").splitlines())}


def parks(array):
    """How often a span has waited for a kit."""
    return counters(array)["parks_memory"]


def set_least(on):
    """Whether arrays that are started from now on get the least memory; no array gets some for a long bio while they do."""
    with open(LEAST, "w", encoding="ascii") as file:
        file.write("Y" if on else "N")


def create(level, mib=2, chunk=16, least=True, **words):
    """An array of five members, with the least memory or with as much as usual, and a sixth one."""
    if not os.path.exists(LEAST):
        raise Skipped("only this driver can do with so little")
    set_least(least)
    disks = Disks(6, mib + 2, late=True, cached=True)
    speed_limit()
    array = Array.create(disks.paths[:5], level=level, size=mib, chunk=chunk, **words)
    kits = tuple(memory_of(array)[name] for name in ("kits", "kits_wanted"))
    expect("kits, however many are wanted" if least else "kits", (1 if least else 256, 256), kits)
    return array, disks.paths[5]


def live(array, spare, level):
    """Requests of all sizes, a member that is lost and another one that is rebuilt, a check; returns who knows what is to be read."""
    array.wait_synced()
    check = Check()
    check.new(array.geometry(), array.size() // 512, seed=level)
    check.whole(array.path, "fill")
    check.run(array.path, "mix", jobs=3, depth=16, longest=256, reads=40, fua=5, flush=5, nowait=5, seed=level)
    lost = array.members[1]
    array.fail(lost)
    check.expect_right()
    array.remove(lost)
    array.add(spare)
    array.wait_rebuilt(100)
    array.members[1] = spare
    expect("mismatch_cnt after check", 0, array.scan())
    check.command("stop")
    counts = check.counts()
    note(f"{counts['reads']} reads and {counts['writes']} writes, {parks(array)} times a span has waited for a kit")
    expect("I/Os in flight afterwards", 0, counts["pending"])
    array.expect_at_rest()
    return check


def expect_content(array, check):
    """All that was written is there, and parity is right."""
    check.expect_right()
    check.whole(array.path, "verify")
    array.expect_parity()


def whole_life(level, **words):
    """An array lives with one kit."""
    array, spare = create(level, **words)
    check = live(array, spare, level)
    expect_range("times that a span has waited for the kit", 100, 1 << 40, parks(array))
    left = memory_of(array)
    expect("kits, and spans that wait", [1, 0, 0, 0], [left[name] for name in (
        "kits", "parked_memory", "parked_superblock", "parked_bitmap")])
    expect_content(array, check)


def in_pieces(level):
    """An array with a usual cache lives without memory for bios of more than a few blocks: what is more comes in those after them."""
    array, spare = create(level, mib=4, chunk=64, least=False)
    array.wait_synced()
    set_least(True)
    before = counters(array)
    check = live(array, spare, level)
    after = counters(array)
    for what in ("read", "write"):
        bios, sectors = (after[name] - before[name] for name in (f"member_{what}s", f"member_{what}_sectors"))
        note(f"{bios} {what}s of members, of {sectors / 8 / bios:.2f} blocks")
        expect_range(f"sectors that members {what} at once, of 128 that are there, on the average", 8, 16, sectors / bios)
    expect_content(array, check)


def file_system():
    """ext4, with many writers at once, synced and checked."""
    needs.file_system("ext4")
    array, _ = create(5, 6)
    kernel.sh("mkfs.ext4", "-q", "-F", array.path)
    os.makedirs("/tmp/fs", exist_ok=True)
    kernel.sh("mount", array.path, "/tmp/fs")
    try:
        kernel.sh("sh", "-c", "for i in 1 2 3 4; do (dd if=/dev/urandom of=/tmp/fs/$i bs=1M count=2 && sync /tmp/fs/$i) 2>/dev/null & done;"
                  " wait; cat /tmp/fs/? | sha256sum > /tmp/sum; sync")
        kernel.sh("umount", "/tmp/fs")
        kernel.sh("mount", array.path, "/tmp/fs")
        _, text = kernel.sh("sh", "-c", "cat /tmp/fs/? | sha256sum | cmp - /tmp/sum && echo same")
        expect("what the files hold", "same", text.strip())
    finally:
        kernel.sh("umount", "/tmp/fs")
    kernel.sh("fsck.ext4", "-f", "-n", array.path)
    array.expect_clean()


def lost_meanwhile():
    """More members are lost than there are parities while spans wait for the kit: every request ends, and nothing waits any more.
    The same when md stops the array for a moment, again and again, before that."""
    array, _ = create(6)
    array.wait_synced()
    over, ended, errors = threading.Event(), [], []

    def work(number):
        with open(array.path, "r+b", buffering=0) as disk:
            dice = random.Random(number)
            while not over.is_set():
                try:
                    os.pwrite(disk.fileno(), bytes(dice.choice((512, 4096, 65536))), dice.randrange(array.size() // 65536) * 65536)
                    os.fsync(disk.fileno())
                except OSError as problem:
                    errors.append(problem.errno)
                    break
        ended.append(number)
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        time.sleep(0.2)
        array.grow(f"--bitmap={'none' if turn % 2 else 'internal'}")
    expect("writers that have ended before", ([], []), (ended, errors))
    waited = parks(array)
    for path in array.members[:3]:
        array.fail(path, anyway=True)
    for thread in threads:
        thread.join(30 * kernel.patience())
    over.set()
    expect("writers that have ended", 8, len(ended))
    expect("how they did", {errno.EIO}, set(errors))
    expect_range("times that a span has waited for the kit", 20, 1 << 40, waited)
    left = memory_of(array)
    expect("kits, and spans that wait", [1, 0, 0, 0], [left[name] for name in (
        "kits", "parked_memory", "parked_superblock", "parked_bitmap")])


def cleanup():
    """Everything goes."""
    Check.remove()
    stop_all()
    Disks.remove()
    if os.path.exists(LEAST):
        set_least(False)


if __name__ == "__main__":
    run([
        ("raid6 with a bitmap", lambda: whole_life(6, bitmap="internal")),
        ("a file system on raid5", file_system),
        ("raid5, bios in pieces", lambda: in_pieces(5)),
        ("raid6, bios in pieces", lambda: in_pieces(6)),
        ("raid6, too many members are lost", lost_meanwhile),
    ], cleanup=cleanup)
