#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=0 mem=900 timeout=120
"""Members that cannot flush their caches: such a member fails if the array can do without it, and the flush is good; else the flush
fails, and the array stays as it is. While members flush, the array is not suspended. The C module says that every flush was good,
keeps the members, is suspended, and fails this test (RAID456_C=1 has it run)."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Shadow, errno_of, pattern
from raid import Array, speed_limit, stop_all
from report import Skipped, expect, run, wait_for
from torture import Disks
import kernel

MEMBERS = {5: 4, 6: 5}
MIB = 1 << 20


def array_of(level, missing=0):
    """An array of disks with volatile caches, so many of which are missing; its content, and the disks."""
    if kernel.driver() == "c" and not os.environ.get("RAID456_C"):
        raise Skipped("the C module fails it")
    # At once, in the submitter's context, and later, with interrupts off now and then.
    disks = Disks(MEMBERS[level], 16, late=level == 6, cached=True)
    speed_limit()
    present = disks.paths[:MEMBERS[level] - missing]
    array = Array.create([*present, *["missing"] * missing], level=level, size=8)
    # So that superblocks, which flush, are not written meanwhile.
    array.set("safe_mode_delay", "600")
    shadow = Shadow(array.path, 4 * MIB)
    shadow.fill()
    shadow.disk.sync()
    return array, shadow, disks


def faulty(array):
    """The members that have failed, those that were taken out since too."""
    return [path for path in array.members if "faulty" in array.state(path) or not array.state(path)]


def without_them(level, why):
    """As many members as there are parities cannot flush: they fail, and nothing else does."""
    array, shadow, disks = array_of(level)
    dying = disks.paths[1:level - 3]
    # What they have in their caches alone.
    shadow.write(MIB, pattern("cached", MIB))
    for path in dying:
        disks.tell(path, why, 1)
    expect("a flush", "", errno_of(shadow.disk.sync))
    expect("members that have failed by the time it ends", dying, faulty(array))
    expect("degraded", str(len(dying)), array.get("degraded"))
    expect("one more flush", "", errno_of(shadow.disk.sync))
    shadow.verify("without them")
    shadow.write(2 * MIB, pattern("after", MIB))
    shadow.disk.sync()
    shadow.verify("after a write")
    shadow.close()


def not_without(level, missing):
    """More members cannot flush than the array can do without, at once or beside others that are missing: the flush fails, no member
    does, and everything goes on when they can again."""
    array, shadow, disks = array_of(level, missing)
    dying = array.members[:level - 3 - missing]
    shadow.write(MIB, pattern("cached", MIB))
    for path in dying:
        disks.tell(path, "dead", 1)
    expect("a flush", "EIO", errno_of(shadow.disk.sync))
    expect("members that have failed", [], faulty(array))
    expect("degraded", str(missing), array.get("degraded"))
    for path in dying:
        disks.heal(path)
    expect("the next flush", "", errno_of(shadow.disk.sync))
    shadow.verify("then")
    shadow.write(2 * MIB, pattern("after", MIB))
    shadow.disk.sync()
    shadow.verify("after a write")
    shadow.close()
    if not missing:
        array.expect_clean()


def one_that_is_rebuilt(level):
    """A member that is being rebuilt is no loss."""
    array, shadow, disks = array_of(level, level - 4)
    new = disks.paths[-1]
    array.set("sync_max", 4096)
    array.add(new)
    wait_for("a part of the rebuild", lambda: array.get("sync_completed").startswith("4096 "), 30)
    disks.tell(new, "dead", 1)
    expect("a flush", "", errno_of(shadow.disk.sync))
    wait_for("the new member has failed", lambda: faulty(array) == [new], 10)
    shadow.verify("without it")
    shadow.close()


def not_suspended():
    """Who suspends the array waits for the end of a flush, as of other requests: then md core takes devices away."""
    array, shadow, disks = array_of(6)
    for path in array.members:
        disks.tell(path, "hold", 1)
    ended = []

    def begin(name, action):
        thread = threading.Thread(target=lambda: (action(), ended.append(name)), daemon=True)
        thread.start()
        return thread

    try:
        flush = begin("flush", shadow.disk.sync)
        wait_for("all members flush", lambda: all(disks.state(path)["waiting"] for path in array.members), 30)
        suspension = begin("suspension", lambda: array.set("suspend_lo", 0))
        suspension.join(1)
        early = list(ended)
    finally:
        for path in array.members:
            disks.heal(path)
    for thread in (flush, suspension):
        thread.join(30 * kernel.patience())
    expect("what has ended before the members have flushed", [], early)
    expect("what has ended then", ["flush", "suspension"], sorted(ended))
    shadow.verify("afterwards")
    shadow.close()
    array.expect_clean()


def failed_before(level):
    """The array fails while a flush waits where md core holds it back, and that is recorded before it goes on: it flushes nobody who has
    failed, and nothing makes up for what they have in their caches."""
    array, shadow, disks = array_of(level)
    dying = disks.paths[:level - 3]
    shadow.write(MIB, pattern("cached", MIB))
    array.set("suspend_hi", array.size() // 512)
    ended = []
    flush = threading.Thread(target=lambda: ended.append(errno_of(shadow.disk.sync)), daemon=True)
    flush.start()
    flush.join(0.5)
    expect("the flush is held back", True, flush.is_alive())
    for path in dying:
        array.fail(path, anyway=True)
    wait_for("that is recorded", lambda: not any("blocked" in array.state(path) for path in dying), 10)
    array.set("suspend_hi", 0)
    flush.join(10 * kernel.patience())
    expect("the flush", ["EIO"], ended)
    shadow.close()


def cleanup():
    """Takes everything down."""
    stop_all()
    Disks.remove()


if __name__ == "__main__":
    run([(f"raid{level}: {title}", lambda body=body, level=level, words=words: body(level, *words))
         for level in (5, 6)
         for title, body, words in (
             ("members that the array can do without", without_them, ("dead",)),
             ("members with a hardware error", without_them, ("reject",)),
             ("the array fails before it begins", failed_before, ()),
             ("more at once than it can do without", not_without, (0,)),
             ("one of those that are left", not_without, (level - 4,)),
             ("one that is being rebuilt", one_that_is_rebuilt, ()))]
        + [("not suspended while members flush", not_suspended)],
        cleanup=cleanup)
