#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml more=debug mem=600 timeout=400 append=kmemleak=on least=no debug.mem=1600 debug.timeout=1800
"""Many lives of the module: it is loaded, an array of level 4, 5 or 6 is made, written and read, loses members, gets others, is
checked, gives memory back, is stopped, and the module is removed. Nothing of all that is left: kmemleak, which sees objects, bios and
what pools have, finds none to which nobody points any more, but those that were lost on purpose; caches of the kernel do not have more
and more objects; and the module itself complains when it goes if a page has not come back. LIVES=N is another number of lives."""

import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from raid import Array, name_of, speed_limit, stop_all
from report import Failed, Skipped, all_of, expect, expect_range, note, run, wait_for
from torture import LOST, Disks
import kernel
import rawmd

# The debug kernel takes longer: a hundred there are for LIVES=100.
LIVES = int(os.environ.get("LIVES", 8 if kernel.flavour() == "debug" else 100))
# One of so many is a whole one. There are two kinds of those: both are among the fewest lives, and in what comes before them.
WHOLE = 4
MODULE = "/raid456/raid456.ko"
OPTIONS = os.environ.get("RAID456_OPTIONS", "")
KMEMLEAK = "/sys/kernel/debug/kmemleak"
# Of an object that is younger kmemleak says nothing.
AGE = 5.5
# Caches with objects of the driver's, and of others' on its account.
CACHES = re.compile(r"^(kmalloc-|bio|md_|raid)")
# So many objects more in a cache may be the kernel's and programs'; seen were up to 8.
MORE = max(LIVES, 25)
# The kernel keeps bios for the next who asks, on each CPU (block/bio.c, ALLOC_CACHE_MAX).
KEPT_BIOS = 256


def tell(word):
    """A command for kmemleak."""
    try:
        with open(KMEMLEAK, "w", encoding="ascii") as file:
            file.write(word)
    except OSError as problem:
        raise Failed("this kernel does not look for leaks, or was not told to: kmemleak=on") from problem


def found():
    """Objects that nobody points to, as kmemleak describes them. What has changed since one scan waits for the next."""
    time.sleep(AGE)
    for _ in range(3):
        tell("scan")
    with open(KMEMLEAK, encoding="ascii", errors="replace") as file:
        return re.split(r"^(?=unreferenced object)", file.read(), flags=re.M)[1:]


def objects():
    """{name of a cache: objects in it}. What CPUs and caches have free would count, too: it is given back."""
    for name in filter(CACHES.match, os.listdir("/sys/kernel/slab")):
        with open(f"/sys/kernel/slab/{name}/shrink", "w", encoding="ascii") as file:
            file.write("1")
    with open("/proc/slabinfo", encoding="ascii") as file:
        lines = [line.split() for line in file]
    return {words[0]: int(words[1]) for words in lines if CACHES.match(words[0])}


def use(array, dice, number):
    """Requests of all sizes, some of them flushed."""
    with open(array.path, "r+b", buffering=0) as disk:
        for _ in range(6):
            length = dice.choice((512, 4096, 20480, 131072))
            place = dice.randrange((array.size() - length) // 512) * 512
            os.pwrite(disk.fileno(), bytes([number]) * length, place)
            os.pread(disk.fileno(), length, dice.randrange((array.size() - length) // 512) * 512)
            if not dice.randrange(4):
                os.fsync(disk.fileno())
        os.fsync(disk.fileno())


def expect_nothing_waits(array):
    """Nobody waits for memory or anything else."""
    array.expect_at_rest(20)
    left = dict(line.split() for line in array.get("memory").splitlines())
    waiting = {name: value for name, value in left.items() if name.startswith("parked_") and value != "0"}
    if waiting:
        raise Failed(f"spans that wait in an idle array: expected none, came {waiting}")


def whole_life(number, disks):
    """An array as mdadm makes it, with a bitmap: a member is lost and another one rebuilt, or the array is checked and its cache
    grows and shrinks."""
    dice = random.Random(number)
    array = Array.create(disks.paths[:5], level=(5, 6, 4)[number % 3], size=3, chunk=16, bitmap="internal", extra=("--assume-clean",))
    use(array, dice, number)
    if number % 2:
        array.set("stripe_cache_size", 600)
        array.scan()
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("2")
        array.set("group_thread_cnt", 2)
    else:
        lost, spare = disks.paths[1], disks.paths[5]
        array.fail(lost)
        use(array, dice, number)
        array.remove(lost)
        array.add(spare)
        array.wait_rebuilt()
    use(array, dice, number)
    expect_nothing_waits(array)
    array.stop()


def short_life(number, disks):
    """An array without superblocks: members are lost, one or more than there are parities."""
    dice = random.Random(number)
    problem = rawmd.start(disks.paths[:5], level=(5, 6, 4)[number % 3], chunk=16384, layout=0 if number % 3 == 2 else 2)
    if problem:
        raise Failed(f"an array could not be started: {problem}")
    array = Array(disks.paths[:5], rawmd.NAME)
    use(array, dice, number)
    for path in disks.paths[:1 + number // 2 % 4]:
        # As many as md lets.
        array.try_set(f"dev-{name_of(path)}/state", "faulty")
    try:
        use(array, dice, number)
    except OSError:
        pass
    expect_nothing_waits(array)
    rawmd.clear()


def insert():
    """The module comes."""
    problem = kernel.insert_module(MODULE, OPTIONS)
    if problem:
        raise Failed(f"{MODULE} could not be inserted: {problem}")


def life(number, disks):
    """From the module's load to its end. It leaves no array."""
    insert()
    if number % WHOLE == 0:
        whole_life(number // WHOLE, disks)
    else:
        short_life(number, disks)
    wait_for("the module goes", lambda: kernel.delete_module("raid456") in ("", "ENOENT"), 20)


def lives():
    """All of them."""
    if kernel.driver() == "c":
        raise Skipped("this is about this driver's module")
    tell("scan")
    stop_all()
    speed_limit()
    if kernel.loaded():
        expect("the module goes", "", kernel.delete_module("raid456"))
    disks = Disks(6, 5, late=True, cached=True)
    # What is there once and for ever is there then.
    for number in (0, WHOLE, 1):
        life(number, disks)
    tell("scan")
    # What the kernel has lost without us.
    tell("clear")
    for _ in range(10):
        disks.lose(300)
    before, begin = objects(), time.monotonic()
    for number in range(LIVES):
        life(number, disks)
    note(f"{LIVES} lives in {time.monotonic() - begin:.1f} s")
    reports, after = found(), objects()
    on_purpose = [report for report in reports if LOST in report]
    others = [report for report in reports if LOST not in report]
    for report in on_purpose[:1] + others[:3]:
        note(report)
    # An old pointer to one of them may still be somewhere.
    expect_range("of 10 objects lost on purpose, found", 5, 10, len(on_purpose))
    expect("other objects that nobody points to", 0, len(others))
    more = {name: after[name] - before.get(name, 0) for name in after if after[name] > before.get(name, 0)}
    note(f"caches that have more objects than before: {more}")
    bios = MORE + KEPT_BIOS * os.cpu_count()
    expect(f"caches that have {MORE} more, or {bios} if they have bios", {},
           {name: count for name, count in more.items() if count >= (bios if name.startswith("bio-") else MORE)})


def cleanup():
    """Everything goes."""
    all_of(stop_all, Disks.remove)


if __name__ == "__main__":
    run([("many lives", lives)], cleanup=cleanup)
