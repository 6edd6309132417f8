#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=6 disk-size=24 timeout=500
"""The lockless bitmap (llbitmap): a state for each chunk of it. Of a new array nothing is synced but what is written, and
that later; a rebuild passes over what was never written; what was dirty at a power cut is synced, and nothing else.

mdadm 4.4 cannot make one. The tests make a usual bitmap and turn it into one that the kernel finds to be new.
"""

import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers
from disk import Disk, SECTOR, Shadow, pattern
from load import Load
from raid import Array, rams, restore, snapshot, stop_all
import rawmd
from report import Skipped, expect, note, run, wait_for, within
import kernel

# Of a bitmap's superblock: the version and where it is, where the state and the sectors of a chunk are, and the state's bits.
LOCKLESS, VERSION, STATE, CHUNK, FIRST_USE = 6, 4, 48, 52, 1 << 3
# Where the chunks' states begin, from the superblock, a byte each; and their names.
STATES = 1024
UNWRITTEN, CLEAN, DIRTY, NEED_SYNC, SYNCING = range(5)
# Sectors of a member that a state is about, in arrays as small as these.
BIT = 128
PLACE = {}


def garbage(disks, seed=7):
    """What was on disks before they become members."""
    for number, path in enumerate(disks):
        with Disk(path) as disk:
            disk.write(0, pattern((seed, number), disk.size))


def lockless(disks, level=5, chunk=64, announced=False, bit=BIT, size=16):
    """An array of these disks with a lockless bitmap that was never used. announced: md is told of the bitmap's kind before
    the start, as newer versions of mdadm do; else it finds out later. bit: sectors that a state is about; members of more
    than 8 GiB have larger ones."""
    array = Array.create(disks, level=level, chunk=chunk, size=size, bitmap="internal", extra=("--assume-clean",))
    if "llbitmap" not in array.get("bitmap_type"):
        raise Skipped("this kernel has no lockless bitmaps")
    place = (8 + int(array.get("bitmap/location"))) * SECTOR
    array.stop()
    for path in disks:
        with Disk(path) as disk:
            head = bytearray(disk.read(place, 4096))
            head[VERSION:VERSION + 4] = struct.pack("<I", LOCKLESS)
            head[STATE:STATE + 4] = struct.pack("<I", FIRST_USE)
            disk.write(place, bytes(head))
    if announced:
        expect("starting the array", "", rawmd.assemble(disks, "llbitmap"))
        array = Array(disks, rawmd.NAME)
    else:
        array = Array.assemble(disks)
    expect("bitmap_type", True, "[llbitmap]" in array.get("bitmap_type"))
    if bit != BIT:
        array.stop()
        for path in disks:
            with Disk(path) as disk:
                head = bytearray(disk.read(place, 4096))
                head[STATE:STATE + 4], head[CHUNK:CHUNK + 4] = bytes(4), struct.pack("<I", bit)
                disk.write(place, bytes(head[:STATES]) + bytes(4096 - STATES))
        array = Array.assemble(disks)
    array.set("llbitmap/daemon_sleep", 1)
    array.set("llbitmap/barrier_idle", 0)
    PLACE[array.name] = place
    return array


def counts(array):
    """{state's name: how many}."""
    return {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in array.get("llbitmap/bits").splitlines()}


def on_disk(array, path=None):
    """The states on a member, a list. What the daemon changed since is not there yet."""
    with Disk(path or array.members[0]) as disk:
        number = array.data_size() // SECTOR // BIT
        return list(disk.read(PLACE[array.name], 4096)[STATES:STATES + number])


def settle(array):
    """Waits until nothing is to be synced, and everything dirty is clean."""
    def done():
        found = counts(array)
        return array.idle() and not any(found[name] for name in ("need sync", "syncing", "need sync unwritten", "syncing unwritten"))
    wait_for("all synced that was written", done, 40, 0.02)


def all_clean(array):
    """Waits until the daemon has made clean what is dirty."""
    wait_for("what is dirty gets clean", lambda: not counts(array)["dirty"], 20, 0.02)


def expect_rows(array, wanted, which):
    """Ends the case unless P (and Q) are right in the rows of the bits named, and wrong in others if `wanted` says so."""
    wrong = [bit for bit in which if not all(array.row_parity_right(bit * BIT + at) for at in (0, 8, 64, 120))]
    if wanted:
        expect(f"bits whose parity is wrong, of {len(which)}", [], wrong)
    else:
        expect("bits whose parity is as it was, not right", list(which), wrong)


def lazy(level):
    """Of a new array on disks full of garbage nothing is synced but the rows of what is written, and that gets right
    parity however it is written."""
    # At level 6 with fewer members it is cheaper to make parity anew anyway.
    disks = rams(4 if level == 5 else 6)
    garbage(disks)
    array = lockless(disks, level)
    data = array.geometry().data
    number = array.data_size() // SECTOR // BIT
    expect("states", (number, "idle"), (counts(array)["unwritten"], array.action()))
    with Shadow(array.path) as shadow:
        row = BIT * SECTOR * data
        # Less than a row: parity cannot be changed by what it was, but is made anew from all data, at once.
        array.set("rmw_level", 2)
        array.set("sync_action", "frozen")
        shadow.write(10 * row + 8192, pattern("one", 4096))
        expect("parity of what was written, before any sync", True, array.row_parity_right(10 * BIT + 16))
        array.set("sync_action", "idle")
        settle(array)
        expect("states that are not unwritten", 1, number - counts(array)["unwritten"])
        expect_rows(array, True, [10])
        expect_rows(array, False, [0, 5, 9, 11, 12, 100])
        expect("what was written", True, shadow.disk.read(10 * row + 8192, 4096) == pattern("one", 4096))
        for victim in disks[:level - 4]:
            array.fail(victim)
        expect("what was written, without members", True, shadow.disk.read(10 * row + 8192, 4096) == pattern("one", 4096))
        for victim in disks[:level - 4]:
            array.remove(victim)
        array.add_together(disks[:level - 4])
        array.wait_rebuilt()
        expect_rows(array, True, [10])
        # Everything, in pieces, with the syncs in between.
        shadow.fill()
        settle(array)
        expect("states unwritten", 0, counts(array)["unwritten"])
        shadow.verify("all of it")
    array.expect_parity()
    expect("mismatch_cnt: what was synced late was no mismatch", "0", array.get("mismatch_cnt"))
    array.expect_clean()


def rounding(chunk):
    """A write changes the states of all its rows, and of no others, on every member, before it ends."""
    disks = rams(4)
    array = lockless(disks, chunk=chunk)
    # Without a member each state is changed for itself, not its neighbours with it.
    array.fail(disks[3])
    geometry = array.geometry()
    stripe = geometry.chunk * geometry.data * SECTOR
    # A stripe has several states, or several stripes share one.
    of = lambda number: set(range(number * geometry.chunk // BIT, ((number + 1) * geometry.chunk - 1) // BIT + 1))
    with Shadow(array.path) as shadow:
        for first, begin, length in ((16, 0, 512), (20, stripe - 512, 512), (24, stripe - 512, 1024), (28, 512, stripe),
                                     (33, stripe - 4096, stripe + 8192)):
            before = on_disk(array)
            shadow.write(first * stripe + begin, pattern(first, length))
            last = first + (begin + length - 1) // stripe
            wanted = set().union(*(of(number) for number in range(first, last + 1)))
            wanted -= {bit for bit in wanted if before[bit] != UNWRITTEN}
            for path in disks[:3]:
                changed = {bit for bit, (old, new) in enumerate(zip(before, on_disk(array, path))) if new != old}
                if wanted != changed:
                    expect(f"{path}: states changed by a write of {length} bytes at stripe {first} + {begin}", wanted, changed)
            note(f"ok: a write of {length} bytes at stripe {first} + {begin} changed the states {sorted(wanted)}")
        array.remove(disks[3])
        array.add(disks[3])
        array.wait_rebuilt()
        settle(array)
    array.expect_clean()


def power_cut(level):
    """What was dirty when the power went is synced, and nothing else."""
    disks = rams(level - 1)
    array = lockless(disks, level)
    array.set("safe_mode_delay", "600")
    row = BIT * SECTOR * array.geometry().data
    with Shadow(array.path) as shadow:
        shadow.fill()
        settle(array)
        wait_for("all clean", lambda: counts(array)["clean"] == len(on_disk(array)), 20, 0.05)
        # On the members too.
        shadow.close()
        array = array.reassemble()
        array.set("safe_mode_delay", "600")
        array.set("llbitmap/daemon_sleep", 600)
        expect("states on a member that are clean", len(on_disk(array)), on_disk(array).count(CLEAN))
        shadow.reopen()
        shadow.write(20 * row, pattern("first", 4096))
        for sector in (20 * BIT, 100 * BIT):
            array.damage(array.geometry().parity_slot(sector // 128), sector, 4096)
        cut = snapshot(disks)
        shadow.close()
        array.stop()
        restore(cut)
        array = Array.assemble(disks, "--run")
        settle(array)
        expect_rows(array, True, [20])
        expect_rows(array, False, [100])
        expect("mismatches left", 8, array.scan())
        expect("after a repair", (8, 0), (array.scan("repair"), array.scan()))
        shadow.reopen()
        shadow.verify("after the cut")


def readd():
    """A member that was away gets what changed meanwhile, and a new one what was ever written."""
    disks, spare = rams(4), rams(1, 4)[0]
    array = lockless(disks)
    stripe = BIT * SECTOR * 3
    data = [pattern(("stripe", bit), stripe) for bit in range(12)]
    content = lambda bit, number=0: data[bit][number * 4096:] + data[bit][:number * 4096]
    with Disk(array.path) as disk:
        # One at a time, and synced no sooner than its state is on the members: two changes at once have their neighbours' states
        # changed with theirs.
        for bit in (2, 3, 5):
            array.set("sync_action", "frozen")
            disk.write(bit * stripe, content(bit))
            array.set("sync_action", "idle")
            settle(array)
            all_clean(array)
        expect("states that are clean", 3, counts(array)["clean"])
        away = disks[1]
        array.fail(away)
        array.remove(away)
        disk.write(3 * stripe, content(3, 1))
        disk.write(8 * stripe, content(8))
        low = array.data_offset(disks[0])
        with Disk(away) as member:
            member.write(low + 2 * BIT * SECTOR, pattern("damage", 4096))
        array.add(away, "--re-add")
        array.wait_rebuilt()
        expect_rows(array, True, [3, 8, 5])
        expect("the row that was damaged while it was away, and not written", False, array.row_parity_right(2 * BIT))
        settle(array)
        all_clean(array)
        disk.write(2 * stripe, content(2))
        settle(array)
        array.fail(away)
        array.remove(away)
        garbage([spare])
        kept = pattern((7, 0), low + 100 * BIT * SECTOR)
        array.add(spare)
        array.wait_rebuilt()
        with Disk(spare) as member:
            expect("where nothing was written the spare was left alone", True,
                   member.read(low + 40 * BIT * SECTOR, 4096) == kept[low + 40 * BIT * SECTOR:][:4096])
        expect_rows(array, True, [2, 3, 5, 8])
        array.fail(disks[2])
        expect("content, with the new member and without another one", [True] * 4,
               [disk.read(bit * stripe, stripe) == wanted for bit, wanted in ((2, content(2)), (3, content(3, 1)), (5, content(5)), (8, content(8)))])


def rebuilt_meanwhile():
    """A member is away while a new one is rebuilt in its place, and comes back when that one has failed: it gets everything. With
    this bitmap md core takes any member back, and what was synced for the new one is clean. Under the C module the old one keeps
    what it had, and answers readers with it."""
    disks, new = rams(4), rams(1, 4)[0]
    array = lockless(disks)
    old = disks[1]
    with Shadow(array.path) as shadow:
        shadow.fill()
        settle(array)
        # Of what is dirty now the daemon's timer would be set still when the rebuild ends, and not be set again then: should it come
        # before the array is whole it does nothing, and not come back.
        all_clean(array)
        array.fail(old)
        array.remove(old)
        shadow.random_writes(seed=3, count=40)
        array.add(new)
        array.wait_rebuilt()
        settle(array)
        all_clean(array)
        array.fail(new)
        array.remove(new)
        array.members.remove(new)
        array.add(old, "--re-add")
        array.wait_rebuilt()
        settle(array)
        expect("its slot", old, array.slots().get(1))
        array.expect_parity(bytes(shadow.bytes))
        shadow.verify("rebuilt")


def discard():
    """What is discarded is unwritten again, although the members keep their blocks."""
    array = lockless(rams(4), announced=True)
    stripe = BIT * SECTOR * 3
    with Shadow(array.path) as shadow:
        shadow.fill()
        settle(array)
        kernel.sh("blkdiscard", "--offset", 10 * stripe, "--length", 20 * stripe, array.path)
        expect("states unwritten", 20, counts(array)["unwritten"])
        shadow.write(12 * stripe, pattern("again", 3 * stripe))
        settle(array)
        expect("states unwritten after a write", True, counts(array)["unwritten"] <= 17)
        kept = bytes(shadow.bytes)
        expect("before it", True, shadow.disk.read(0, 10 * stripe) == kept[:10 * stripe])
        expect("in it", True, shadow.disk.read(12 * stripe, 3 * stripe) == kept[12 * stripe:15 * stripe])
        expect("behind it", True, shadow.disk.read(30 * stripe, stripe) == kept[30 * stripe:31 * stripe])
    array.expect_clean()


def coarse(level):
    """All rows that one state is about get their parity, not only those at its beginning, however long that takes."""
    disks, bit = rams(level - 1), 8 * BIT
    garbage(disks)
    array = lockless(disks, level, bit=bit)
    whole = bit * SECTOR * array.geometry().data
    rows = lambda number: range(number * bit, number * bit + bit, 8)
    wrong = lambda number: [sector for sector in rows(number) if not array.row_parity_right(sector)]
    with Shadow(array.path) as shadow:
        shadow.write(3 * whole, pattern("one", 4096))
        settle(array)
        expect("states unwritten", array.data_size() // SECTOR // bit - 1, counts(array)["unwritten"])
        expect("rows without right parity where something was written", [], wrong(3))
        expect("rows with it in the next, where nothing was", bit // 8, len(wrong(4)))
        # The first one, and longer than it takes until md core has its progress recorded.
        all_clean(array)
        array.set("sync_speed_max", 200)
        array.set("sync_speed_min", 100)
        shadow.write(0, pattern("two", 4096))
        settle(array)
        expect("rows without right parity in the first", [], wrong(0))
        expect("what was written", [True, True],
               [shadow.disk.read(at, 4096) == pattern(seed, 4096) for at, seed in ((0, "two"), (3 * whole, "one"))])


def discard_a_part():
    """What one state is about is unwritten if all of it is discarded, and not before: a rebuild passes it over."""
    disks, spare = rams(4), rams(1, 4)[0]
    # Four stripes to a state.
    array = lockless(disks, chunk=16, announced=True)
    stripe = 16 * 1024 * 3
    with Shadow(array.path) as shadow:
        shadow.fill()
        settle(array)
        for begin, end, unwritten in ((0, 1, 0), (5, 7, 0), (9, 12, 0), (14, 25, 2)):
            kernel.sh("blkdiscard", "--offset", begin * stripe, "--length", (end - begin) * stripe, array.path)
            expect(f"states unwritten when stripes {begin} to {end} are discarded too", unwritten, counts(array)["unwritten"])
        end = array.size()
        kernel.sh("blkdiscard", "--offset", end - 6 * stripe, "--length", 6 * stripe, array.path)
        expect("states unwritten when the end is discarded too", 3, counts(array)["unwritten"])
        array.fail(disks[1])
        array.remove(disks[1])
        garbage([spare])
        array.add(spare)
        array.wait_rebuilt()
        for first, last in ((1, 5), (7, 9), (12, 14), (25, end // stripe - 6)):
            begin, behind = first * stripe, last * stripe
            expect(f"content from byte {begin} to {behind}, with the new member", True,
                   shadow.disk.read(begin, behind - begin) == bytes(shadow.bytes[begin:behind]))


def set_size(array, kib):
    """Sets what the array uses of each member, and returns the errno's name. md core says EBUSY for as long as it looks whether
    there is anything to sync, which it does after assembly."""
    def attempt():
        result = array.try_set("component_size", kib)
        while result == "EBUSY":
            time.sleep(0.05)
            result = array.try_set("component_size", kib)
        return result
    return within(20, attempt)


def too_large():
    """An array does not get larger than its bitmap, which has room for some more states only."""
    array = lockless(rams(4), size=8, bit=8)
    expect("larger than all states that there are pages for", "ENOSPC", set_size(array, 16 << 10))
    expect("KiB of each member", 8 << 10, array.data_size() >> 10)
    expect("a little larger", "", set_size(array, 10 << 10))
    settle(array)
    expect("states", 20 << 7, sum(counts(array).values()))


def end_in_a_state():
    """The array's end lies within what a state is about, which says that parity is right. When it gets larger, what is new there
    is synced, also if it is stopped before. Under the C module RMW goes by what the members happen to have there."""
    array = lockless(rams(4), size=7, bit=32 * BIT)
    with Shadow(array.path) as shadow:
        shadow.fill()
        settle(array)
        for path in array.members:
            with Disk(path) as disk:
                disk.write(array.data_offset(path) + (7 << 20), pattern(path, 5 << 20))
        array.set("sync_action", "frozen")
        expect("larger", "", set_size(array, 12 << 10))
        shadow.close()
        array = array.reassemble()
        array.wait_synced()
        settle(array)
        shadow.reopen()
        shadow.verify("what was there")
    array.expect_clean()
    # In sectors.
    low, high = 6 << 11, 8 << 11
    expect("rows of that state without right parity", [],
           [sector for sector in range(low, high, 64) if not array.row_parity_right(sector)])


def smaller_and_larger():
    """An array is made smaller, a member is rebuilt, and it is made larger again: what the new member lacks is not taken for right,
    although the states of that say what they said. The others' data is still there."""
    disks = rams(4)
    array = lockless(disks, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        settle(array)
        expect("smaller", "", set_size(array, 4 << 10))
        array.fail(disks[1])
        array.remove(disks[1])
        garbage([disks[1]])
        array.add(disks[1])
        array.wait_rebuilt()
        settle(array)
        shadow.verify("what stayed", 0, array.size())
        expect("larger", "", set_size(array, 8 << 10))
        array.wait_synced()
        settle(array)
        expect("states unwritten", 0, counts(array)["unwritten"])
        geometry = array.geometry()
        for sector in range(array.size() // SECTOR // 2, shadow.length // SECTOR, geometry.chunk):
            if geometry.locate(sector)[0] != 1:
                shadow.verify("", sector * SECTOR, geometry.chunk * SECTOR)
    array.expect_parity()
    array.expect_clean()


def proactive(level):
    """Parity of what was never written is made when it is asked for."""
    disks = rams(level - 1)
    garbage(disks)
    array = lockless(disks, level)
    with Shadow(array.path) as shadow:
        shadow.write(3 << 20, pattern("one", 65536))
        # A sync that is under way would pass over some of it, and md forgets when that ends that there is more.
        settle(array)
        array.set("llbitmap/proactive_sync", 1)
        settle(array)
        note(f"states: {counts(array)}")
        expect("what was written", True, shadow.disk.read(3 << 20, 65536) == pattern("one", 65536))
    array.expect_parity()


def loses_while_lazy(level):
    """While written rows get their parity, as many members are lost as there are parities: nothing that was written is."""
    disks = rams(level - 1)
    garbage(disks)
    array = lockless(disks, level)
    array.set("sync_speed_max", 400)
    array.set("sync_speed_min", 100)
    with Shadow(array.path, length=8 << 20) as shadow:
        shadow.fill()
        wait_for("a sync of what was written", lambda: array.action() == "recover", 20)
        shadow.random_writes(seed=2, count=30)
        for lost in range(level - 4):
            # mdadm counts as md's flags say, and refuses.
            array.fail(disks[lost], anyway=True)
            expect("members lost", str(lost + 1), array.get("degraded"))
            shadow.random_writes(seed=lost + 3, count=30)
            shadow.verify(f"without {lost + 1}")
        array.set("sync_speed_max", 2000000)
        for path in disks[:level - 4]:
            array.remove(path)
        array.add_together(disks[:level - 4])
        array.wait_rebuilt()
        settle(array)
        shadow.verify("rebuilt")
    array.expect_at_rest()
    expect_rows(array, True, range(0, 20))


def loses_too_many():
    """While written rows get their parity one member more is lost than there are parities. Those that are left stay members, also the
    one whose flag md core takes off meanwhile; what they hold is read."""
    disks = rams(4)
    garbage(disks)
    array = lockless(disks)
    geometry = array.geometry()
    array.set("sync_speed_max", 400)
    array.set("sync_speed_min", 100)
    with Shadow(array.path, length=8 << 20) as shadow:
        shadow.fill()
        wait_for("a sync of what was written", lambda: array.action() == "recover", 20)
        for path in disks[:2]:
            array.fail(path, anyway=True)
        expect("members lost", "2", array.get("degraded"))
        array.set("sync_speed_max", 2000000)
        wait_for("those that are lost have gone, and nothing is to be done",
                 lambda: array.idle() and all(array.member(path, "slot") == "none" for path in disks[:2]), 20)
        expect("slots of the others", ["2", "3"], [array.member(path, "slot") for path in disks[2:]])
        for sector in range(0, shadow.length // SECTOR, geometry.chunk):
            if geometry.locate(sector)[0] > 1:
                shadow.verify("", sector * SECTOR, geometry.chunk * SECTOR)


def under_load(level):
    """A load that verifies what it reads, beside syncs of what it writes, the daemon, a member lost and one rebuilt."""
    disks, spare = rams(level - 1), rams(1, 5)[0]
    garbage(disks)
    array = lockless(disks, level)
    words = {"seconds": 7 * kernel.patience(), "jobs": 2, "depth": 16, "largest": "128k"}
    loads = [Load(array.path, array.size(), **words)]
    time.sleep(2.5)
    # What was written may not be synced yet: mdadm counts as md's flags say then, and refuses.
    array.fail(disks[0], anyway=True)
    time.sleep(0.5)
    array.remove(disks[0])
    array.add(spare)

    def rebuilt():
        if not loads[-1].running():
            # On a slow machine it is to go on for longer.
            loads.pop().finish()
            loads.append(Load(array.path, array.size(), **words))
        return array.get("degraded") == "0" and array.idle()
    wait_for("the member rebuilt", rebuilt, 60)
    loads.pop().finish()
    settle(array)
    array.expect_clean()


def other_driver():
    """What one driver left the other one takes on."""
    disks = rams(4)
    first, second = drivers()
    try:
        kernel.use_driver(first)
        array = lockless(disks)
        with Shadow(array.path) as shadow:
            shadow.write(0, pattern("first", 65536))
            settle(array)
            shadow.close()
            array.stop()
            kernel.use_driver(second)
            array = Array.assemble(disks)
            expect("bitmap_type", True, "[llbitmap]" in array.get("bitmap_type"))
            expect("states unwritten", 255, counts(array)["unwritten"])
            shadow.reopen()
            shadow.write(9 << 20, pattern("second", 1 << 20))
            settle(array)
            shadow.close()
            array.stop()
            kernel.use_driver(first)
            array = Array.assemble(disks)
            array.expect_clean()
            shadow.reopen()
            expect("what the other wrote", True, shadow.disk.read(9 << 20, 1 << 20) == pattern("second", 1 << 20))
            shadow.close()
            array.stop()
    finally:
        stop_all()
        kernel.use_driver(second)


if __name__ == "__main__":
    run([
        ("raid5: only what is written is synced", lambda: lazy(5)),
        ("raid6: only what is written is synced", lambda: lazy(6)),
        *[(f"states of a write, chunks of {chunk} KiB", lambda chunk=chunk: rounding(chunk)) for chunk in (4, 64, 256)],
        ("raid5: a power cut", lambda: power_cut(5)),
        ("raid6: a power cut", lambda: power_cut(6)),
        ("re-add, and a new member", readd),
        ("a member that was away while another one was rebuilt", rebuilt_meanwhile),
        ("discard", discard),
        ("raid5: many rows to a state", lambda: coarse(5)),
        ("raid6: many rows to a state", lambda: coarse(6)),
        ("parts of what a state is about are discarded", discard_a_part),
        ("larger than the bitmap", too_large),
        ("larger, with the end within a state", end_in_a_state),
        ("smaller, and larger again", smaller_and_larger),
        ("raid5: parity asked for", lambda: proactive(5)),
        ("raid6: parity asked for", lambda: proactive(6)),
        ("raid5: a member lost meanwhile", lambda: loses_while_lazy(5)),
        ("raid6: members lost meanwhile", lambda: loses_while_lazy(6)),
        ("more members lost meanwhile than there are parities", loses_too_many),
        ("raid5: under load", lambda: under_load(5)),
        ("raid6: under load", lambda: under_load(6)),
        ("the other driver", other_driver),
    ], cleanup=stop_all)
