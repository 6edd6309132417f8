#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml,debug mem=900 timeout=400 debug.mem=1800 debug.timeout=5400
"""Allocations fail, blocking ones and those that are not, for the array's threads, for everything that the driver's code
asks for, or for everybody; meanwhile a load that knows what every read may return goes on, a member fails, another one is
rebuilt, the array is checked, its cache grows and shrinks, it is stopped, started and assembled. Nothing wrong is read, every
request ends once, nothing hangs, and afterwards no span waits for memory.

The members are disks of memory that allocate nothing for their I/O.

On the debug kernel it is the driver's own code whose allocations fail; with ALL=1 the cases of User-mode Linux come after that."""

import errno
import itertools
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, pattern
from memory import Point, Shortage, patiently
from raid import Array, speed_limit, name_of, stop_all
from report import Failed, Skipped, expect, expect_range, note, run, wait_for, within
from torture import Check, Disks
import kernel

SECTOR = 512
MIB = 5
# Some allocations are the debug kernel's own, which it can do without; and arrays with the least memory have fewer of them.
FEWER = 3 if kernel.flavour() == "debug" or kernel.least() else 1
# Of a start's allocations all that fail at first, and how much further the next one is each time then; and how many starts have to fail.
# One takes the debug kernel seconds, so not as many are tried there.
STARTS = (30, 1.2, 12) if kernel.flavour() == "debug" else (60, 1.06, 100 // FEWER)
# Span objects that are made together, at the least: as many strips as a cache has to grow by to need more of them.
SPANS = 256


def wait_patiently(what, condition):
    """Waits until a condition holds, also if there is no memory to find out."""
    def holds():
        try:
            return condition()
        except (OSError, MemoryError):
            return False
    wait_for(what, holds, 30)


class Subject:
    """An array on members that need no memory, its content, and a spare."""

    def __init__(self, level, late, strips=64, bitmap=False):
        # With caches, so that flushes are bios of their own, which take their time.
        self.disks = Disks(6, MIB, late=late, cached=late)
        speed_limit()
        words = ["--bitmap=internal", "--bitmap-chunk=16K"] if bitmap else ["--bitmap=none", "--consistency-policy=resync"]
        self.members, self.spare = self.disks.paths[:5], self.disks.paths[5]
        kernel.sh("mdadm", "--create", "/dev/md0", "--run", "--quiet", "--force", "--metadata=1.2", f"--level={level}",
                  "--raid-devices=5", "--chunk=16K", f"--size={MIB - 2}M", *words, *self.members)
        self.array = Array(self.members)
        self.check = Check()
        self.check.new(self.array.geometry(), self.array.size() // SECTOR, seed=level)
        self.array.wait_synced()
        self.array.set("stripe_cache_size", strips)
        self.check.whole(self.array.path, "fill", seed=3)

    def load(self, **words):
        """Begins the load: requests of all sizes, whole stripes among them."""
        wanted = {"jobs": 3, "depth": 32, "longest": 256, "reads": 40, "fua": 5, "flush": 5, "nowait": 10, "seed": 7}
        self.check.run(self.array.path, "mix", **{**wanted, **words})

    def set(self, name, value):
        """Stores an attribute, again as long as there is no memory for that."""
        patiently(lambda: self.array.set(name, value))

    def replace_member(self, shortage):
        """A member fails, is removed, and another one is rebuilt in its place, while memory is short."""
        array = self.array
        with shortage.programs():
            # So that a rebuild, and a check, take a second.
            array.set("sync_speed_min", "1000")
            array.set("sync_speed_max", "3000")
            self.set(f"dev-{name_of(self.members[1])}/state", "faulty")
        time.sleep(0.3)
        with shortage.programs():
            self.exchange()

        def rebuilt():
            # An mdadm that had no memory half way leaves the array so.
            if array.action() == "frozen":
                self.set("sync_action", "idle")
            missing = array.get("degraded") != "0"
            if missing and array.idle():
                # And md does not try again by itself if there was none for the thread that syncs.
                array.try_set("sync_action", "recover")
            return not missing and array.idle()
        wait_patiently("rebuilt", rebuilt)

    def exchange(self):
        """The member that failed goes, and the spare comes."""
        array, lost = self.array, self.members[1]
        patiently(lambda: array.set(f"dev-{name_of(lost)}/state", "remove") if os.path.exists(
            f"{array.md}/dev-{name_of(lost)}") else None, 20)

        def add():
            status, text = kernel.sh("mdadm", "--quiet", array.path, "--add", self.spare, check=False)
            if status and not os.path.exists(f"{array.md}/dev-{name_of(self.spare)}"):
                raise Failed(text)
        patiently(add)
        self.members[1], self.spare = self.spare, lost
        array.members = list(self.members)

    def scan(self):
        """A check, under way while memory is short."""
        self.set("sync_action", "check")
        wait_patiently("checked", self.array.idle)

    def resize_cache(self, shortage, never):
        """A larger cache is asked for, and a smaller one, by somebody who has no memory either: it is refused or done. At last, with
        memory for who asks, it is done, unless it `never` can be."""
        file = patiently(lambda: os.open(f"{self.array.md}/stripe_cache_size", os.O_WRONLY))
        refused = 0
        try:
            for strips in (400, 64, 400, 64, 400, 64):
                refused += bool(refusal(shortage, f"{strips} strips", file, f"{strips}"))
                # So that not all of them are within one burst, or one pause.
                time.sleep(0.05)
        finally:
            os.close(file)
        if not never:
            with shortage.programs():
                self.set("stripe_cache_size", 400)
                self.set("stripe_cache_size", 64)
        return refused

    def start_and_stop(self, shortage):
        """The load is over: nothing waits any more, although memory is short still. The array is stopped, and started again by somebody
        who has no memory either, which is refused or done; then mdadm stops it, which has some."""
        array, refused = self.array, 0
        wait_patiently("rest", lambda: array.get("stripe_cache_active") == "0")
        patiently(self.expect_none_waits)
        file = patiently(lambda: os.open(f"{array.md}/array_state", os.O_WRONLY))
        try:
            for _ in range(4):
                self.set("array_state", "inactive")
                refused += bool(refusal(shortage, "a start", file, "active"))
                time.sleep(0.05)
        finally:
            os.close(file)
        with shortage.programs():
            array.stop()
        return refused

    def assemble(self):
        """mdadm assembles the array."""
        self.array = Array.assemble(self.members)

    def expect_none_waits(self):
        """No span waits, for memory or for something else."""
        if os.path.exists(f"{self.array.md}/memory"):
            left = memory_of(self.array)
            expect("spans that wait", [0, 0, 0], [left[f"parked_{why}"] for why in ("memory", "superblock", "bitmap")])

    def expect_whole(self):
        """Memory is there again: nothing waits for it any more, everything that was written is there, parity is right."""
        array = self.array
        array.expect_at_rest(10)
        self.expect_none_waits()
        self.check.expect_right()
        self.check.whole(array.path, "verify")
        expect("mismatch_cnt after check", 0, array.scan())
        array.expect_parity()


def memory_of(array):
    """The numbers of md/memory."""
    return {name: int(value) for name, value in (line.split() for line in array.get("memory").splitlines())}


def refusal(shortage, what, file, text):
    """Writes to a file of sysfs while the caller has no memory: "" if that is done, or "ENOMEM"."""
    try:
        with shortage.join():
            os.write(file, text.encode())
        return ""
    except MemoryError:
        return "ENOMEM"
    except OSError as problem:
        if problem.errno != errno.ENOMEM:
            raise Failed(f"{what}: expected success or ENOMEM, came {errno.errorcode[problem.errno]}") from None
        return "ENOMEM"


def short_of_memory(percent, only, level, late, bitmap=False):
    """One run while allocations fail. Under a load: a member fails, another one is rebuilt in its place, the array is checked, its cache
    grows and shrinks. Without one, for that cannot be: it is stopped and started, and stopped and assembled by mdadm.

    Who asks for another size or for a start lacks memory as well, but if all allocations of the array's threads fail; programs never do.
    mdadm's assembly comes when the shortage is over if it is the driver's code that gets nothing, for that is refused then."""
    if not Shortage.possible(only):
        raise Skipped("this kernel cannot tell by stack whose allocations are to fail")
    never = only == "driver"
    subject = Subject(level, late, bitmap=bitmap)
    subject.load()
    with Shortage(percent, only) as shortage:
        time.sleep(0.4 * kernel.SLOW)
        patiently(subject.check.expect_right)
        subject.replace_member(shortage)
        patiently(subject.check.expect_right)
        subject.scan()
        time.sleep(0.2 * kernel.SLOW)
        sizes = subject.resize_cache(shortage, never)
        wait_patiently("allocations have failed", lambda: shortage.failures() >= 20)
        patiently(lambda: subject.check.command("stop"))
        starts = subject.start_and_stop(shortage)
        if not never:
            with shortage.programs():
                subject.assemble()
    if never:
        subject.assemble()
    subject.array.wait_synced()
    note(f"refused: {sizes} of 6 sizes of the cache, {starts} of 4 starts")
    if never or only == "tasks" and percent < 100:
        # Each takes more than a thousand allocations, but if there is nothing but the least memory.
        expect_range("larger caches that were refused", 0 if kernel.least() else 1, 6, sizes)
        expect_range("starts that were refused", 0 if kernel.least() else 1, 4, starts)
    counts = subject.check.counts()
    expect_range("allocations that failed", 20, 1 << 40, shortage.failures())
    expect_range("I/Os that were done", 200, 1 << 40, counts["reads"] + counts["writes"])
    expect("I/Os in flight afterwards", 0, counts["pending"])
    subject.expect_whole()


def at_each_point(what, attempt, undo, *points):
    """Tries something with its first allocation failing, its second and so on, until it needs no more: it fails for want of
    memory or succeeds. `undo` makes it possible once more. points: as for Point.each(), if not all usual ones are to be tried."""
    failed = succeeded = 0
    for number in Point.each(*points):
        with Point(number) as point:
            problem = attempt()
        if problem not in ("", "ENOMEM"):
            raise Failed(f"{what}, allocation {number} failing: expected success or ENOMEM, came {problem}")
        failed, succeeded = failed + bool(problem), succeeded + (not problem)
        if not problem:
            undo()
        if not point.reached:
            expect(f"{what}, all allocations there", "", problem)
            note(f"ok: {what}: the last of {number} or fewer allocations; of those tried {failed} made it fail, "
                 f"{succeeded - 1} did not matter")
            return failed
    return failed


def starts_and_stops(level):
    """Each allocation of a start of an array fails once, and each of its end."""
    subject = Subject(level, False, bitmap=level == 5)
    array = subject.array

    def state(wanted):
        return array.try_set("array_state", wanted)

    state("inactive")
    *points, least = STARTS
    failed = at_each_point("start", lambda: state("active"), lambda: expect("stopped again", "", state("inactive")), *points)
    expect_range("starts that failed", least, 10000, failed)
    expect("start", "", state("active"))
    at_each_point("stop", lambda: state("inactive"), lambda: expect("started again", "", state("active")), *points)
    expect("start", "", state("active"))
    array.wait_synced()
    subject.expect_whole()


def cache_grows():
    """Each allocation for a larger cache fails once, under load. Arrays with the least memory get span objects for it and nothing else, and
    those stay: a size that was not refused is followed by one that needs more of them."""
    subject = Subject(6, True, strips=32)
    array = subject.array
    subject.load()
    sizes = itertools.count(400, SPANS if kernel.least() else 0)
    size = next(sizes)

    def resize(strips):
        return array.try_set("stripe_cache_size", strips)

    def undo():
        nonlocal size
        expect("32 strips", "", resize(32))
        size = next(sizes)

    failed = at_each_point("a larger cache", lambda: resize(size), undo)
    subject.check.command("stop")
    expect_range("sizes that were refused", 20, 10000, failed)
    expect("256 strips", "", resize(256))
    expect("stripe_cache_size", "256", array.get("stripe_cache_size"))
    subject.expect_whole()


def refused_when_given_back():
    """A cache was given back for want of memory. A larger one that is refused does not make it smaller for ever, and a smaller one
    is not refused."""
    if kernel.least():
        raise Skipped("the cache has one strip")
    # There are spans for 1024.
    subject = Subject(5, False, strips=1000)
    array = subject.array

    def give_back():
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("2")
        return memory_of(array)["kits"] == 17

    wait_for("all given back but what is kept", give_back, 20)
    refused = 0
    for number in range(1, 40):
        with Point(number):
            refused += array.try_set("stripe_cache_size", 1024) == "ENOMEM"
        if not 1000 <= memory_of(array)["kits_wanted"] <= 1024:
            raise Failed(f"strips wanted after allocation {number} failed: expected 1000 to 1024, came {memory_of(array)['kits_wanted']}")
        array.set("stripe_cache_size", 1000)
        wait_for("all given back but what is kept", give_back, 20)
    expect_range("sizes that were refused", 20 // FEWER, 40, refused)
    expect("a smaller size", "", array.try_set("stripe_cache_size", 512))
    expect("made of it at once", 17, memory_of(array)["kits"])
    subject.check.whole(array.path, "fill", seed=5)
    expect_range("made again", 18, 512, memory_of(array)["kits"])
    subject.expect_whole()


def smaller_while_busy():
    """A cache becomes smaller while all of it is at work, and is idle before anybody wants more: what is too much then goes when
    somebody does, and nobody waits for that for ever."""
    if kernel.least():
        raise Skipped("the cache has one strip")
    subject = Subject(6, True, strips=1024)
    array = subject.array
    stripe, begun = array.geometry().data * 16 * 1024, 64

    def write(number):
        # Most of a stripe: the rest is read, and all of it is kept.
        with Disk(array.path) as disk:
            disk.write(number * stripe, pattern(number, 32 * 1024))

    def hold(on):
        for path in subject.disks.paths:
            subject.disks.tell(path, "hold", on)

    # After this one, writes need no superblock written first, once the timer of those before it has made the array clean.
    array.set("safe_mode_delay", "0")
    wait_for("clean", lambda: array.get("array_state") == "clean", 20)
    write(begun)
    writers = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(begun)]
    hold(1)
    try:
        for writer in writers:
            writer.start()
        wait_for("all stripes at work", lambda: memory_of(array)["spans_active"] == begun, 20)
        wait_for("each has taken in the one part that there is of it", lambda: memory_of(array)["parts"] == begun, 20)
        # Each takes its pages as soon as it is.
        time.sleep(0.2 * kernel.SLOW)
        array.set("stripe_cache_size", 17)
    finally:
        hold(0)
    wait_for("all writes end", lambda: not any(writer.is_alive() for writer in writers), 20)
    wait_for("no stripe at work", lambda: memory_of(array)["spans_active"] == 0, 20)
    expect("parts", 0, memory_of(array)["parts"])
    expect_range("strips in memory, of which there should be 17", 4 * begun // 2, 4 * begun, memory_of(array)["kits"])
    within(10, lambda: write(begun + 1))
    expect("strips in memory", 17, memory_of(array)["kits"])
    subject.check.whole(array.path, "fill", seed=5)
    subject.expect_whole()


def cleanup():
    """Everything goes."""
    Check.remove()
    stop_all()
    Disks.remove()


CASES = {
    "uml": [
        *[(f"{percent} % of the array's threads' allocations fail, raid{level}",
           lambda percent=percent, level=level, late=late: short_of_memory(percent, "tasks", level, late, bitmap=percent == 50))
          for percent, level, late in ((1, 5, False), (10, 6, True), (50, 6, False), (100, 5, True))],
        *[(f"{percent} % of everybody's allocations fail, in bursts, raid{level}",
           lambda percent=percent, level=level, late=late: short_of_memory(percent, None, level, late))
          for percent, level, late in ((1, 6, True), (10, 5, False), (50, 6, False), (100, 5, True))],
        ("each allocation of a start or a stop fails, raid5", lambda: starts_and_stops(5)),
        ("each allocation of a start or a stop fails, raid6", lambda: starts_and_stops(6)),
        ("each allocation for a larger cache fails", cache_grows),
        ("a cache becomes smaller while it is at work", smaller_while_busy),
        ("a larger cache is refused when the cache was given back", refused_when_given_back),
    ],
    "debug": [
        ("all allocations of the driver's code fail, raid5", lambda: short_of_memory(100, "driver", 5, True, bitmap=True)),
        ("each allocation for a larger cache fails", cache_grows),
        ("a cache becomes smaller while it is at work", smaller_while_busy),
    ],
}
# One of those that fail by chance is the debug kernel's too.
CASES["debug"] += [case for case in CASES["uml"] if case[0].startswith("10 % of the array's")]


def chosen():
    """The cases for this kernel."""
    if kernel.flavour() != "debug":
        return CASES["uml"]
    names = [name for name, _ in CASES["debug"]]
    more = [case for case in CASES["uml"] if case[0] not in names] if os.environ.get("ALL") else []
    return [*CASES["debug"], *more]


if __name__ == "__main__":
    run(chosen(), cleanup=cleanup)
