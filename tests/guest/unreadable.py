#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=12 timeout=300
"""Blocks that cannot be read, or written, when there is nothing to replace them: in a degraded array, and during a
rebuild. What is lost ends with EIO, and no more than that is lost; what the new member holds is never taken for data."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, Shadow, errno_of, pattern
from mapper import Dust, dm, linear, need_target, sectors_of
from raid import Array, rams, stop_all
from report import Skipped, expect, note, run, wait_for, within
import kernel
import rawmd

STRIP = 8  # sectors
SIZE = 8  # MiB of each member
SPOILT, NEW = 1, 3  # slots of the member with unreadable sectors, and of the one that is missing or rebuilt


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


def degraded(delayed=False):
    """A filled array without the member of slot NEW: (array, shadow, the dust under slot SPOILT)."""
    disks = rams(4)
    dust = Dust(disks[SPOILT])
    disks[SPOILT] = dust.path
    if delayed:
        disks = [late(path) for path in disks]
    array = Array.create(disks, size=SIZE)
    shadow = Shadow(array.path)
    shadow.fill()
    array.fail(disks[NEW])
    array.remove(disks[NEW])
    return array, shadow, dust


def spare(delayed=False):
    """A new member that is full of something else."""
    path = rams(1, 4)[0]
    with Disk(path) as disk:
        for at in range(0, disk.size, 1 << 20):
            disk.write(at, pattern(("garbage", at), 1 << 20))
        disk.write(0, bytes(65536))
    return late(path) if delayed else path


def spoil(array, dust, rows):
    """Makes sectors at these places of the member's data area unreadable."""
    low = array.data_offset(array.slots()[SPOILT]) // SECTOR
    for row in rows:
        dust.spoil(low + row)


def look(array, shadow, rows, what, also_lost=()):
    """Reads everything, by chunks and by strips: EIO for the strips that are lost in these rows, and for all of the
    members in the slots `also_lost`; the rest as written."""
    geometry = array.geometry()
    lost = {row // STRIP for row in rows}

    def is_lost(sector):
        slot, at = geometry.locate(sector)
        return slot in also_lost or (slot in (SPOILT, NEW) and at // STRIP in lost)

    missing = [sector for sector in range(0, shadow.length // SECTOR, STRIP) if is_lost(sector)]

    def read(step):
        """What came otherwise than it should."""
        begins = {sector // step * step for sector in missing}
        for sector in range(0, shadow.length // SECTOR, step):
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


def one_sector():
    """One unreadable sector of a degraded array: only its strip is lost, also if it was read together with others."""
    not_for_c()
    array, shadow, dust = degraded()
    # In the middle of a chunk, at the begin and at the end of one.
    chunk = array.geometry().chunk
    rows = [20 * chunk + 50, 31 * chunk, 42 * chunk - 1]
    spoil(array, dust, rows)
    source = array.slots()[SPOILT]
    missing = look(array, shadow, rows, "degraded, unreadable sectors")
    expect("members", 3, len(array.slots()))
    expect("the member's state", set(), array.state(source) & {"faulty", "blocked"})
    beyond = sorted(set(bad_blocks(array, source)) - set(strips_of(rows)))
    expect("bad strips beyond the unreadable strips", [], beyond)
    # Writes next to what is lost, in the same stripes.
    for sector in missing:
        for near in (sector - STRIP, sector + STRIP):
            shadow.write(near * SECTOR, pattern(("near", near), STRIP * SECTOR))
    look(array, shadow, rows, "after writes to the strips beside")
    mend(array, shadow, rows)
    shadow.close()


def rebuild(delayed):
    """A rebuild that meets unreadable blocks: the new member is told to be bad there, and good everywhere else."""
    not_for_c()
    array, shadow, dust = degraded(delayed)
    chunk = array.geometry().chunk
    rows = [3, 20 * chunk + 50, 31 * chunk, array.data_size() // SECTOR - 1]
    spoil(array, dust, rows)
    new = spare(delayed)
    array.add(new)
    array.wait_rebuilt(60)
    hurry()
    expect("state of the new member", True, "in_sync" in array.state(new))
    expect("bad strips of the new member: the unreadable ones", strips_of(rows), bad_blocks(array, new))
    look(array, shadow, rows, "after the rebuild")
    shadow.close()
    array = array.reassemble("--run")
    shadow.reopen()
    look(array, shadow, rows, "after stop and assembly")
    mend(array, shadow, rows)
    shadow.close()
    array.expect_clean()
    dust.message("disable")
    array.fail(array.slots()[SPOILT])
    shadow.reopen()
    shadow.verify("read through the new member")
    shadow.close()


def rebuild_without_list(delayed, others_too):
    """The same when the new member has no list of bad blocks: it fails, the rebuild ends, and nothing of the new member is
    ever read. If the others have none either, an unreadable block costs its whole member."""
    not_for_c()
    array, shadow, dust = degraded(delayed)
    rows = [20 * array.geometry().chunk + 50]
    spoil(array, dust, rows)
    new = spare(delayed)
    array.set("sync_action", "frozen")
    array.add(new)
    shadow.close()
    members = [*array.slots().values(), new]
    array.stop()
    for path in members if others_too else [new]:
        rawmd.drop_bad_block_list(path)
    log = kernel.Log()
    array = Array.assemble(members, "--run")
    wait_for("the rebuild's begin", lambda: "recover of RAID array" in log.text(), 10)

    def settled():
        """The sync thread is idle and stays so."""
        for _ in range(20):
            if not array.idle():
                return False
            time.sleep(0.1)
        return True

    wait_for("an end of the rebuild", settled, 60)
    hurry()
    expect("the new member is in sync", False, "in_sync" in array.state(new))
    expect("members missing", "2" if others_too else "1", array.get("degraded"))
    shadow.reopen()
    look(array, shadow, rows, "after the rebuild that failed", also_lost=(SPOILT, NEW) if others_too else ())
    shadow.close()


def target_refuses(delayed):
    """A new member that cannot be written at places: what it has not got is not read from it, and the rebuild ends."""
    array, shadow, _ = degraded(delayed)
    under = rams(1, 4)[0]
    new = spare()
    low = array.data_offset(array.slots()[0]) // SECTOR
    begin, count, size = low + 4096, 64, sectors_of(under)
    new = dm("bad", linear(under))
    dm("bad", f"0 {begin} linear {under} 0", f"{begin} {count} flakey {under} {begin} 0 3600 1 error_writes",
       f"{begin + count} {size - begin - count} linear {under} {begin + count}")
    if delayed:
        new = late(new)
    array.add(new)
    wait_for("an end of the rebuild", lambda: array.idle() and (
        array.get("degraded") == "0" or "faulty" in array.state(new) or not array.state(new)), 60)
    hurry()
    state = array.state(new)
    note(f"the new member is {sorted(state)}")
    if "in_sync" in state:
        expect("its bad strips", list(range(4096 // STRIP, (4096 + count) // STRIP)), bad_blocks(array, new))
    shadow.verify("after the rebuild")
    shadow.random_writes(seed=1, count=60)
    shadow.verify("after writes")
    shadow.close()


def not_for_c():
    """Skips a case that never ends under the C module."""
    if kernel.driver() == "c":
        raise Skipped("the C module reads a block that is lost again for ever (since 7.0)")


if __name__ == "__main__":
    cases = [("one sector of a degraded array", one_sector)]
    for delay, how in ((False, "at once"), (True, "late")):
        cases += [
            (f"rebuild over unreadable blocks, members that answer {how}", lambda delay=delay: rebuild(delay)),
            (f"the same, no list of bad blocks on the new member, {how}",
             lambda delay=delay: rebuild_without_list(delay, others_too=False)),
            (f"the same, no list on any member, {how}", lambda delay=delay: rebuild_without_list(delay, others_too=True)),
            (f"a new member that refuses writes, {how}", lambda delay=delay: target_refuses(delay)),
        ]
    run(cases, cleanup=clean_up)
