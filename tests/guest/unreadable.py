#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=12 timeout=400
"""Blocks that cannot be read, or written, when there is nothing to replace them: in a degraded array, and during a
rebuild. What is lost ends with EIO, and no more than that is lost; what a new member holds is never taken for data."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, Shadow, errno_of, pattern
from mapper import dm, dusty, linear, need_target, refusing, sectors_of
from raid import Array, rams, stop_all
from report import Skipped, expect, expect_match, note, run, wait_for, within
import kernel
import rawmd

STRIP = 8  # sectors
SIZE = 8  # MiB of each member


class Shape:
    """An array in which a strip has one loss too many: members that are missing or rebuilt (`new`), and members with
    unreadable sectors (`spoilt`), by slot."""

    def __init__(self, level, spoilt, new):
        self.level, self.spoilt, self.new = level, spoilt, new
        self.disks = level - 1

    def __str__(self):
        return f"raid{self.level}, {len(self.new)} missing, {len(self.spoilt)} unreadable"


RAID5 = Shape(5, [1], [3])
# As many as there are parities are missing; or fewer, and more than one block of a strip cannot be read.
RAID6 = Shape(6, [1], [3, 4])
RAID6_TWO = Shape(6, [1, 2], [4])
RAID6_THREE = Shape(6, [0, 1, 3], [])


_late = {}


def late(path):
    """A device that answers after some milliseconds, as disks do; RAM disks answer before the driver looks."""
    need_target("delay")
    name = f"late-{os.path.basename(path)}"
    _late[name] = path
    return dm(name, f"0 {sectors_of(path)} delay {path} 0 4")


def hurry():
    """From now on the late devices answer at once: reading everything through them would take minutes."""
    while _late:
        name, path = _late.popitem()
        dm(name, linear(path))


def clean_up():
    """Takes everything down."""
    _late.clear()
    stop_all()


def degraded(shape, delayed=False):
    """A filled array without the members of the slots `new`: (array, shadow, the dusts under the slots `spoilt`)."""
    disks = rams(shape.disks)
    dusts = dusty(disks, shape.spoilt)
    if delayed:
        disks = [late(path) for path in disks]
    # One strip after the other takes as long as late members take for each.
    size = SIZE // 2 if delayed and kernel.least() else SIZE
    array = Array.create(disks, level=shape.level, size=size)
    shadow = Shadow(array.path)
    shadow.fill()
    for slot in shape.new:
        array.fail(disks[slot])
        array.remove(disks[slot])
    return array, shadow, dusts


def spares(shape, delayed=False):
    """New members that are full of something else."""
    found = rams(len(shape.new), shape.disks)
    for path in found:
        with Disk(path) as disk:
            for at in range(0, disk.size, 1 << 20):
                disk.write(at, pattern(("garbage", path, at), 1 << 20))
            disk.write(0, bytes(65536))
    return [late(path) for path in found] if delayed else found


def spoil(array, shape, dusts, rows):
    """Makes sectors at these places of the members' data areas unreadable."""
    for slot, dust in zip(shape.spoilt, dusts):
        low = array.data_offset(array.slots()[slot]) // SECTOR
        for row in rows:
            dust.spoil(low + row)


def look(array, shadow, shape, rows, what, also_lost=()):
    """Reads everything by chunks, and by strips the stripes where something is lost and those beside: EIO for the strips
    that are lost in these rows, and for all of the members in the slots `also_lost`; the rest as written."""
    geometry = array.geometry()
    lost = {row // STRIP for row in rows}
    width = geometry.chunk * geometry.data
    near = {row // geometry.chunk + step for row in rows for step in (-1, 0, 1)}

    def is_lost(sector):
        slot, at = geometry.locate(sector)
        return slot in also_lost or (slot in (*shape.spoilt, *shape.new) and at // STRIP in lost)

    missing = [sector for sector in range(0, shadow.length // SECTOR, STRIP) if is_lost(sector)]

    def read(step):
        """What came otherwise than it should."""
        begins = {sector // step * step for sector in missing}
        for sector in range(0, shadow.length // SECTOR, step):
            if step == STRIP and sector // width not in near:
                continue
            came = []
            problem = errno_of(lambda at=sector: came.append(shadow.disk.read(at * SECTOR, step * SECTOR)))
            if not problem and came[0] != shadow.bytes[sector * SECTOR:(sector + step) * SECTOR]:
                problem = "wrong data"
            wanted = "EIO" if sector in begins else ""
            if problem != wanted:
                return (f"read of {step} sectors at {sector} (slot and sector there: {geometry.locate(sector)}): "
                        f"expected {wanted or 'what was written'}, came {problem or 'data'}")
        return "nothing"

    for step in (geometry.chunk, STRIP):
        expect(f"{what}, read by {step} sectors, {len(missing)} strips lost: wrong", "nothing",
               within(60, lambda step=step: read(step)))
    return missing


def bad_blocks(array, path):
    """The strips (sector / 8, from the start of the data area) that a member's list of bad blocks touches."""
    low = array.data_offset(path) // SECTOR
    found = set()
    for line in array.member(path, "bad_blocks").splitlines():
        begin, count = (int(word) for word in line.split())
        found.update(range((begin - low) // STRIP, (begin - low + count - 1) // STRIP + 1))
    return sorted(found)


def strips_of(rows):
    """The strips that these rows are in."""
    return sorted({row // STRIP for row in rows})


def mend(array, shadow, rows):
    """Writes whole stripes over what was lost: everything can be read again, and the lists are empty."""
    geometry = array.geometry()
    width = geometry.chunk * geometry.data
    for stripe in sorted({row // geometry.chunk for row in rows}):
        shadow.write(stripe * width * SECTOR, pattern(("new", stripe), width * SECTOR))
    shadow.verify("after writes over what was lost")
    for path in array.slots().values():
        expect(f"bad strips of {path}", [], bad_blocks(array, path))


def lost_blocks(shape):
    """Unreadable sectors where parity has nothing left to give: only their strips are lost, also if they were read together
    with others. Where one member less is unreadable nothing is lost."""
    not_for_c()
    array, shadow, dusts = degraded(shape)
    # What is still in memory is not lost.
    shadow.close()
    array = array.reassemble("--run")
    shadow.reopen()
    # In the middle of a chunk, at the begin and at the end of one; every role of the unreadable members.
    chunk = array.geometry().chunk
    rows = [20 * chunk + 50, 31 * chunk, 42 * chunk - 1, *(stripe * chunk + 80 for stripe in range(50, 50 + shape.disks))]
    spoil(array, shape, dusts, rows)
    sources = [array.slots()[slot] for slot in shape.spoilt]
    for dust, source in zip(dusts[1:], sources[1:]):
        dust.spoil(array.data_offset(source) // SECTOR + 25 * chunk)
    missing = look(array, shadow, shape, rows, "unreadable sectors")
    expect("members", shape.disks - len(shape.new), len(array.slots()))
    for source in sources:
        # md calls it both until its bad blocks are on record.
        wait_for(f"{source} neither faulty nor blocked", lambda source=source: not array.state(source) & {"faulty", "blocked"}, 10)
        # Where no more members can be lost whoever is asked for a lost block has its member's recorded as bad, whatever its role is.
        # Otherwise it may be made of the others and written again some day.
        recorded = strips_of(rows) if len(shape.new) == shape.level - 4 else []
        expect("bad strips", recorded, bad_blocks(array, source))
    # Writes next to what is lost, in the same stripes.
    for sector in missing:
        for near in (sector - STRIP, sector + STRIP):
            shadow.write(near * SECTOR, pattern(("near", near), STRIP * SECTOR))
    look(array, shadow, shape, rows, "after writes to the strips beside")
    mend(array, shadow, rows)
    if not shape.new:
        # Nobody has asked for parity that cannot be read.
        array.expect_clean()
        expect("unreadable sectors", [0] * len(dusts), [dust.count() for dust in dusts])
        array.expect_parity(shadow.bytes)
    shadow.close()


def rebuild(shape, delayed):
    """A rebuild that meets unreadable blocks: the new members are told to be bad there, and good everywhere else."""
    not_for_c()
    array, shadow, dusts = degraded(shape, delayed)
    chunk = array.geometry().chunk
    rows = [3, 20 * chunk + 50, 31 * chunk, array.data_size() // SECTOR - 1]
    spoil(array, shape, dusts, rows)
    for dust in dusts[1:]:
        # One block that cannot be read is no loss beside one new member of level 6.
        dust.spoil(array.data_offset(array.slots()[shape.spoilt[0]]) // SECTOR + 25 * chunk)
    new = spares(shape, delayed)
    array.add_together(new)
    array.wait_rebuilt(60)
    hurry()
    for path in new:
        expect("state of the new member", True, "in_sync" in array.state(path))
        expect("bad strips of the new member: the unreadable ones", strips_of(rows), bad_blocks(array, path))
    look(array, shadow, shape, rows, "after the rebuild")
    shadow.close()
    array = array.reassemble("--run")
    shadow.reopen()
    look(array, shadow, shape, rows, "after stop and assembly")
    mend(array, shadow, rows)
    shadow.close()
    array.expect_clean()
    for dust in dusts:
        dust.message("disable")
    for slot in shape.spoilt:
        array.fail(array.slots()[slot])
    shadow.reopen()
    shadow.verify("read through the new members")
    shadow.close()


def resync_before(shape):
    """A member comes back, and its rebuild has only begun when parity is said not to be known, so that a resync goes before it and
    meets blocks that cannot be read: what it could not make right is not taken for right by the rebuild either, although the rest of
    that chunk of the bitmap could be synced."""
    not_for_c()
    disks = rams(shape.disks)
    dusts = dusty(disks, shape.spoilt)
    array = Array.create(disks, level=shape.level, size=SIZE, bitmap="internal", bitmap_chunk="1M")
    shadow = Shadow(array.path)
    shadow.fill()
    for slot in shape.new:
        array.fail(disks[slot])
        array.remove(disks[slot])
    shadow.fill(seed=2)
    # Chunks of the bitmap have 2048 sectors of each member.
    stop = 2048 + 1024
    array.set("sync_max", stop)
    array.add_together([disks[slot] for slot in shape.new], "--re-add")
    wait_for("the rebuild has begun", lambda: array.get("sync_completed").split()[0] == str(stop), 30)
    array.set("sync_action", "frozen")
    wait_for("frozen", lambda: array.get("sync_completed") == "none", 10)
    # In the first row of units of a chunk, and in the middle of one.
    rows = [4 * 2048 + 50, 6 * 2048 + 1024]
    spoil(array, shape, dusts, rows)
    log = kernel.Log()
    array.set("sync_max", "max")
    array.set("resync_start", "0")
    array.set("sync_action", "idle")
    array.wait_rebuilt(60)
    expect_match("a resync", r"md: resync of RAID array md0", log.text())
    for slot in shape.new:
        expect("state of the member that came back", True, "in_sync" in array.state(disks[slot]))
        expect("its bad strips: the unreadable ones", strips_of(rows), bad_blocks(array, disks[slot]))
    look(array, shadow, shape, rows, "after resync and rebuild")
    mend(array, shadow, rows)
    array.expect_clean()
    shadow.close()


def rebuild_without_list(shape, delayed, others_too):
    """The same when the new members have no list of bad blocks: they fail, the rebuild ends, and nothing of a new member is
    ever read. If the others have none either, an unreadable block costs its whole member."""
    not_for_c()
    array, shadow, dusts = degraded(shape, delayed)
    rows = [20 * array.geometry().chunk + 50]
    spoil(array, shape, dusts, rows)
    new = spares(shape, delayed)
    array.set("sync_action", "frozen")
    for path in new:
        array.add(path)
    shadow.close()
    members = [*array.slots().values(), *new]
    array.stop()
    for path in members if others_too else new:
        rawmd.drop_bad_block_list(path)
    log = kernel.Log()
    array = Array.assemble(members, "--run")
    wait_for("the rebuild's begin", lambda: "recover of RAID array" in log.text(), 10)

    def settled():
        """The sync thread is idle and stays so."""
        for _ in range(20):
            if not array.idle():
                return False
            time.sleep(0.05)
        return True

    wait_for("an end of the rebuild", settled, 60)
    hurry()
    for path in new:
        expect("the new member is in sync", False, "in_sync" in array.state(path))
    expect("members missing", str(len(shape.new) + others_too), array.get("degraded"))
    shadow.reopen()
    also_lost = (*shape.spoilt, *shape.new) if others_too else ()
    look(array, shadow, shape, rows, "after the rebuild that failed", also_lost=also_lost)
    shadow.close()


def target_refuses(shape, delayed):
    """A new member that cannot be written at places: what it has not got is not read from it, and the rebuild ends. A
    second one, which can, is not held to be bad there."""
    array, shadow, _ = degraded(shape, delayed)
    new = spares(shape)
    low = array.data_offset(array.slots()[0]) // SECTOR
    begin, count, under = low + 4096, 64, new[0]
    new[0] = dm("bad", linear(under))
    dm("bad", *refusing(under, begin, count))
    if delayed:
        new = [late(path) for path in new]
    array.add_together(new)
    wait_for("an end of the rebuild", lambda: array.idle() and (array.get("degraded") == "0" or any(
        "faulty" in array.state(path) or not array.state(path) for path in new)), 60)
    hurry()
    state = array.state(new[0])
    note(f"the new member is {sorted(state)}")
    if "in_sync" in state:
        expect("its bad strips", list(range(4096 // STRIP, (4096 + count) // STRIP)), bad_blocks(array, new[0]))
    for path in new[1:]:
        if kernel.driver() == "rust":
            expect("bad strips of the other new member", [], bad_blocks(array, path))
    shadow.verify("after the rebuild")
    shadow.random_writes(seed=1, count=60)
    shadow.verify("after writes")
    shadow.close()


def not_for_c():
    """Skips a case that never ends under the C module."""
    if kernel.driver() == "c":
        raise Skipped("the C module reads a block that is lost again for ever (since 7.0)")


def cases():
    """Level 6 in one way or the other where level 5 goes both: at once and late."""
    for shape in (RAID5, RAID6, RAID6_TWO, RAID6_THREE):
        yield f"{shape}: what is lost and what is not", lambda shape=shape: lost_blocks(shape)
    both = (False, "at once"), (True, "late")
    for shape, ways in ((RAID5, both), (RAID6, both[:1]), (RAID6_TWO, both[1:])):
        for delay, how in ways:
            yield (f"{shape}: rebuild, members that answer {how}", lambda shape=shape, delay=delay: rebuild(shape, delay))
    yield f"{RAID6_TWO}: a resync before the rebuild", lambda: resync_before(RAID6_TWO)
    for shape, ways in ((RAID5, both), (RAID6, both[1:])):
        for delay, how in ways:
            for others, whose in ((False, "new members"), (True, "any member")):
                yield (f"{shape}: rebuild without a list of bad blocks on {whose}, {how}",
                       lambda shape=shape, delay=delay, others=others: rebuild_without_list(shape, delay, others))
            yield (f"{shape}: a new member refuses writes, {how}",
                   lambda shape=shape, delay=delay: target_refuses(shape, delay))


if __name__ == "__main__":
    run(list(cases()), cleanup=clean_up)
