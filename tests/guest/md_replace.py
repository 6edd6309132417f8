#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=8 disk-size=16 timeout=700
"""Members are replaced while they still work (mdadm --replace): the new device gets what the old one holds, or what the
others make up for; writes go to both; at the end the new one is the member. Either may fail on the way, and the array may be
stopped, or lose its power. No member is ever missing meanwhile."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers
from disk import Disk, SECTOR, Shadow, errno_of, pattern
from load import Load
from mapper import broken, dm, dusty, linear, refusing
from raid import Array, name_of, rams, restore, snapshot, stop_all
from report import Skipped, expect, expect_match, expect_no_match, note, run, wait_for
import kernel
import rawmd


def filled(members, size=8, **shape):
    """A synced, filled array and its shadow."""
    array = Array.create(members, size=size, **shape)
    shadow = Shadow(array.path)
    shadow.fill()
    return array, shadow


def begin(array, old, new):
    """Has `new` replace `old`."""
    kernel.sh("mdadm", "--quiet", array.path, "--add-spare", new)
    kernel.sh("mdadm", "--quiet", array.path, "--replace", old, "--with", new)
    if new not in array.members:
        array.members.append(new)


def stops_at(array, kib):
    """Has a sync that begins from now on stop there."""
    array.set("sync_max", kib * 1024 // SECTOR)


def wait_copied(array, new, kib):
    """Waits until the sync pauses there, and the new device is known to hold most of what was copied."""
    def copied():
        start = array.member(new, "recovery_start")
        return array.get("sync_completed").split(" ")[0] == str(kib * 2) and int(start) >= kib * 3 // 2
    wait_for(f"{kib} KiB copied to {new}", copied, 20)


def copy_almost_all(array, old, new):
    """Has `new` replace `old`, and pause shortly before the end."""
    copied = array.data_size() // 1024 - 128
    stops_at(array, copied)
    begin(array, old, new)
    wait_copied(array, new, copied)
    expect("bad blocks of the new member", "", array.member(new, "bad_blocks"))


def go_on(array):
    """Lets the sync go to its end."""
    array.set("sync_max", "max")


def go_on_to_other_round(array):
    """Lets the sync go to its end, and waits for the round that follows, which is slow: it is not to come to what lies some MiB behind its
    beginning before all has been looked at. Returns the log of that."""
    log = kernel.Log()
    array.set("sync_speed_min", 50)
    array.set("sync_speed_max", 100)
    go_on(array)
    wait_for("another round", lambda: "it is written again from sector" in log.text() and array.action() == "recover", 60)
    return log


def full_speed(array):
    """Ends the slowness."""
    for limit in ("sync_speed_min", "sync_speed_max"):
        array.set(limit, "system")


def row_with_data(geometry, slots, low):
    """A row, in a stripe from number `low` on, in which these slots hold data."""
    stripe = next(stripe for stripe in range(low, low + 20) if set(slots) <= set(geometry.row(stripe).data))
    return stripe * geometry.chunk + 40


def bad_block(array, path, row):
    """A member's block of a row as the list of its bad blocks has it."""
    return f"{array.data_offset(path) // SECTOR + row} 8"


def know_bad(array, path, row):
    """Has a member's block of a row be known to be bad."""
    array.set(f"dev-{name_of(path)}/bad_blocks", bad_block(array, path, row))


def finish(array, *pairs, missing=0):
    """Waits until each old device is out and its new one is the member; no other members have been missing meanwhile than so many."""
    for old, new in pairs:
        wait_for(f"{old} replaced", lambda old=old: "faulty" in array.state(old) or not array.state(old), 120)
        wait_for(f"{new} a member", lambda new=new: array.state(new) == {"in_sync"}, 30)
        expect("missing members", str(missing), array.get("degraded"))
        array.remove(old)
    array.wait_idle()
    array.members = [path for path in array.members if path not in [old for old, _ in pairs]]


def settle(array, shadow):
    """What the members hold is right, and stays so through stop and assembly."""
    shadow.verify()
    array.expect_clean()
    array.expect_parity(shadow.bytes)
    shadow.close()
    array = array.reassemble()
    shadow.reopen()
    shadow.verify("after stop and assembly")
    shadow.close()


def plain(level, **shape):
    """A member is replaced, with writes before and after."""
    disks = rams(5)
    array, shadow = filled(disks, level=level, **shape)
    new, = rams(1, 5)
    slots = array.slots()
    begin(array, disks[1], new)
    finish(array, (disks[1], new))
    expect("the slot of the new member", slots[1], disks[1])
    expect("the slot of the new member", new, array.slots()[1])
    shadow.random_writes(seed=3, count=60)
    settle(array, shadow)


def several(level):
    """More members than there are parities are replaced at the same time."""
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    pairs = list(zip(disks[1:4], rams(3, 5)))
    array.set("sync_action", "frozen")
    for old, new in pairs:
        begin(array, old, new)
    array.set("sync_action", "idle")
    shadow.random_writes(seed=4, count=60)
    finish(array, *pairs)
    settle(array, shadow)


def under_load(level):
    """fio writes and compares while one member after another is replaced."""
    disks = rams(5)
    array = Array.create(disks, level=level, size=8, bitmap="internal")
    work = Load(array.path, array.size(), seconds=8, jobs=2, largest="128k")
    spare, = rams(1, 5)
    turns = 0
    while work.running() and turns < 12:
        old = disks[turns % 5]
        begin(array, old, spare)
        finish(array, (old, spare))
        disks[turns % 5], spare = spare, old
        kernel.sh("mdadm", "--quiet", "--zero-superblock", spare)
        turns += 1
    note(f"{turns} members replaced while fio ran")
    expect("some members replaced", True, turns >= 1)
    work.finish()
    array.wait_idle()
    array.expect_clean()


def unreadable(level):
    """The old member has sectors that cannot be read, which is why it is replaced: the others make up for them."""
    disks = rams(5)
    dust, = dusty(disks, [1])
    array, shadow = filled(disks, level=level)
    rows = [0, 8, 100, 1001, 4096, array.data_size() // SECTOR - 1]
    for row in rows:
        dust.spoil(array.data_offset(dust.path) // SECTOR + row)
    new, = rams(1, 5)
    begin(array, dust.path, new)
    finish(array, (dust.path, new))
    expect("bad blocks of the new member", "", array.member(new, "bad_blocks"))
    settle(array, shadow)


def dead_places(level):
    """The old member neither reads nor writes some sectors: it knows them as bad, and its replacement gets them all the
    same."""
    disks = rams(5)
    under = disks[2]
    disks[2] = dm("dead", linear(under))
    array, shadow = filled(disks, level=level)
    geometry = array.geometry()
    # Data, parity, and what lies in between.
    stripe = next(stripe for stripe in range(5, 15) if 2 in geometry.row(stripe).data)
    first = stripe * geometry.chunk + 40
    new, = rams(1, 5)
    dm("dead", *refusing(under, array.data_offset(disks[2]) // SECTOR + first, 64))
    for row in range(first, first + 64, 8):
        place = geometry.array_sector(2, row)
        if place is not None:
            shadow.write(place * SECTOR, pattern(("dead", row), 4096))
    wait_for("bad blocks of the old member", lambda: array.member(disks[2], "bad_blocks"), 10)
    expect("the old member wants to be replaced", True, "want_replacement" in array.state(disks[2]))
    # It does: so any spare replaces it.
    array.add(new)
    finish(array, (disks[2], new))
    expect("bad blocks of the new member", "", array.member(new, "bad_blocks"))
    settle(array, shadow)


def old_fails(level):
    """The old member fails half way: its replacement is the member from then on, and gets the rest from the others."""
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    new, = rams(1, 5)
    stops_at(array, 4096)
    begin(array, disks[1], new)
    wait_copied(array, new, 4096)
    shadow.random_writes(seed=5, count=60)
    array.fail(disks[1])
    shadow.random_writes(seed=6, count=60)
    shadow.verify("without the old member")
    go_on(array)
    wait_for("the new member in sync", lambda: array.state(new) == {"in_sync"}, 60)
    array.wait_rebuilt()
    array.remove(disks[1])
    array.members.remove(disks[1])
    settle(array, shadow)


def new_fails(level):
    """The replacement fails half way: the old member stays one, and nothing is lost. Another replacement does better."""
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    first, second = rams(2, 5)
    stops_at(array, 4096)
    begin(array, disks[1], first)
    wait_copied(array, first, 4096)
    shadow.random_writes(seed=7, count=60)
    array.fail(first)
    shadow.random_writes(seed=8, count=60)
    shadow.verify("after the replacement has failed")
    expect("missing members", "0", array.get("degraded"))
    # A sync that pauses does not hear of it.
    go_on(array)
    array.remove(first)
    array.members.remove(first)
    array.add(second)
    finish(array, (disks[1], second))
    settle(array, shadow)


def new_refuses():
    """The replacement takes no writes in some places: it fails, as a new device should not begin with bad blocks."""
    disks = rams(5)
    array, shadow = filled(disks)
    under, = rams(1, 5)
    new = dm("refuses", *refusing(under, 12000, 8))
    log = kernel.Log()
    begin(array, disks[1], new)
    wait_for("the replacement failed", lambda: "faulty" in array.state(new), 60)
    expect_match("the log", rf"Disk failure on {name_of(new)}, disabling device", log.text())
    array.wait_idle()
    expect("state of the old member", True, "in_sync" in array.state(disks[1]))
    expect("missing members", "0", array.get("degraded"))
    array.remove(new)
    array.members.remove(new)
    shadow.random_writes(seed=9, count=30)
    settle(array, shadow)


def rebuild(array, lost):
    """Has members that were failed be members again, with nothing of what they held."""
    for path in lost:
        array.remove(path)
        kernel.sh("mdadm", "--quiet", "--zero-superblock", path)
    array.add_together(lost)
    array.wait_rebuilt()


def new_unreadable(level):
    """What was copied is read from the replacement; where that cannot be read the old member still has it, and the replacement gets
    it again."""
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    spares = rams(1, 5)
    dust, = dusty(spares, [0])
    stops_at(array, 4096)
    begin(array, disks[1], dust.path)
    wait_copied(array, dust.path, 4096)
    log = kernel.Log()
    places = [row for row in (40, 1000, 3000, 5000) if array.geometry().array_sector(1, row) is not None]
    for row in places:
        dust.spoil(array.data_offset(dust.path) // SECTOR + row)
    shadow.verify("with a replacement that cannot be read in places")
    if kernel.driver() == "rust":
        expect_match("the log", rf"read error on replacement device \(sector \d+ on {name_of(dust.path)}\)", log.text())
        # The reader has its data before that.
        wait_for("all of it can be read, and is known to", lambda: dust.count() == 0 and not array.member(dust.path, "bad_blocks"), 10)
    go_on(array)
    if kernel.driver() == "rust":
        finish(array, (disks[1], dust.path))
        expect("bad blocks in the end", "", array.member(dust.path, "bad_blocks"))
    settle(array, shadow)


def only_the_old_one_has_it(level, known):
    """The replacement cannot be read in places, and so many members fail that the old member alone has what is there: the replacement
    gets it before it is the member. It was found out by readers, or is `known` when the copying is over, as after an assembly."""
    if kernel.driver() == "c":
        raise Skipped("the C module has the replacement fail")
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    dust, = dusty(rams(1, 5), [0])
    new, lost = dust.path, disks[3:level - 1]
    stops_at(array, 4096)
    begin(array, disks[1], new)
    wait_copied(array, new, 4096)
    geometry = array.geometry()
    places = [row for row in (40, 1000, 3000, 5000) if geometry.array_sector(1, row) is not None]
    for row in places:
        dust.spoil(array.data_offset(new) // SECTOR + row)
        if known:
            array.set(f"dev-{name_of(new)}/bad_blocks", f"{array.data_offset(new) // SECTOR + row} 8")
    if not known:
        shadow.verify("with a replacement that cannot be read in places")
    for path in lost:
        array.fail(path)
    log = kernel.Log()
    go_on(array)
    finish(array, (disks[1], new), missing=len(lost))
    if known:
        expect_match("the log", rf"{name_of(new)} cannot be read in {len(places)} places where {name_of(disks[1])} can", log.text())
    expect("bad blocks of the new member", "", array.member(new, "bad_blocks"))
    expect("its sectors that cannot be read", 0, dust.count())
    shadow.verify("what the old member alone had")
    rebuild(array, lost)
    settle(array, shadow)


def too_much_lost(level):
    """In a row too many of the others' blocks are lost: the member's own is copied all the same, as that takes no parity. The C module
    has it be a bad block of the new member, and it is gone with the old one."""
    if kernel.driver() == "c":
        raise Skipped("the C module loses a block")
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    geometry = array.geometry()
    (new,), lost = rams(1, 5), disks[3:level - 1]
    stripe = next(stripe for stripe in range(5, 25) if {0, 1} <= set(geometry.row(stripe).data))
    row = stripe * geometry.chunk + 40
    array.set(f"dev-{name_of(disks[0])}/bad_blocks", f"{array.data_offset(disks[0]) // SECTOR + row} 8")
    array.set("sync_action", "frozen")
    begin(array, disks[1], new)
    for path in lost:
        array.fail(path)
    array.set("sync_action", "idle")
    finish(array, (disks[1], new), missing=len(lost))
    expect("bad blocks of the new member", "", array.member(new, "bad_blocks"))
    own, other = (geometry.array_sector(slot, row) * SECTOR for slot in (1, 0))
    shadow.verify("the block of the member that was replaced", own, 4096)
    expect("a read of one that is lost", "EIO", errno_of(lambda: shadow.disk.read(other, 4096)))
    # What is written whole is right again.
    size = geometry.data * geometry.chunk * SECTOR
    shadow.write(stripe * size, pattern("whole", size))
    shadow.verify("in the end")
    rebuild(array, lost)
    settle(array, shadow)


def has_a_block_alone(array, old, new, others):
    """Almost all is copied to the replacement, which alone has a block: its member never got it, and the others have lost since what it was
    computed from. It lacks another one before that. Returns the row that it alone has."""
    geometry = array.geometry()
    lacks, has = (row_with_data(geometry, (0, 1), low) for low in (1, 40))
    # So that it is not mended there when the new one gets it.
    array.set(f"dev-{name_of(old)}/state", "write_error")
    know_bad(array, old, has)
    copy_almost_all(array, old, new)
    know_bad(array, new, lacks)
    for path in others:
        know_bad(array, path, has)
    return has


def whole_but_for_a_block(level, fails):
    """The replacement gets another round for a block that it lacks, while it alone has another one: in that, if the member `fails` too, and
    after it, it still has that."""
    if kernel.driver() == "c":
        raise Skipped("the C module knows no other round")
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    (new,), old, others = rams(1, 5), disks[1], disks[0:1] if level == 5 else disks[0:3:2]
    has = has_a_block_alone(array, old, new, others)
    known = [array.member(path, "bad_blocks") for path in others]
    at = array.geometry().array_sector(1, has) * SECTOR
    if fails:
        log = go_on_to_other_round(array)
        shadow.verify("the block that the new one alone has", at, 4096)
        array.fail(old)
        shadow.verify("the same, without the old one", at, 4096)
        expect("bad blocks of the others, which the other round has not come to", known,
               [array.member(path, "bad_blocks") for path in others])
        full_speed(array)
        array.wait_rebuilt()
        array.remove(old)
        array.members.remove(old)
    else:
        log = kernel.Log()
        go_on(array)
        finish(array, (old, new))
    expect_match("the log", rf"{name_of(new)} cannot be read in 1 places where {name_of(old)} can", log.text())
    expect("bad blocks of the new member in the end", "", array.member(new, "bad_blocks"))
    shadow.verify("the block that the new one alone had", at, 4096)
    settle(array, shadow)


def whole_and_larger(level):
    """The array grows in that other round: the replacement still has the block that it alone has, and has nothing of what is new before it was
    copied. Members differ there as they happen to, and what the member has is what is read."""
    if kernel.driver() == "c":
        raise Skipped("the C module knows no other round")
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    (new,), old, others = rams(1, 5), disks[1], disks[0:1] if level == 5 else disks[0:3:2]
    has = has_a_block_alone(array, old, new, others)
    geometry, end = array.geometry(), array.data_size()
    for path in (old, new):
        with Disk(path) as disk:
            disk.write(array.data_offset(path) + end, pattern(path, 2 << 20))
    go_on_to_other_round(array)
    array.set("sync_action", "frozen")
    array.set("component_size", (end >> 10) + 2048)
    shadow.verify("the block that the new one alone has, of a larger array", geometry.array_sector(1, has) * SECTOR, 4096)
    row = row_with_data(geometry, (1,), end // SECTOR // geometry.chunk)
    with Disk(old) as member, Disk(array.path) as disk:
        held = member.read(array.data_offset(old) + row * SECTOR, 4096)
        came = disk.read(geometry.array_sector(1, row) * SECTOR, 4096)
    expect("what is new is read from the old member", held[:16].hex(), came[:16].hex())
    full_speed(array)
    array.set("sync_action", "idle")
    finish(array, (old, new))
    array.expect_clean()
    array.expect_parity()
    expect("bad blocks of the new member in the end", "", array.member(new, "bad_blocks"))
    shadow.verify("what there was before")
    shadow.close()
    shadow = Shadow(array.path)
    shadow.fill(seed=2)
    settle(array, shadow)


def verify_but(array, shadow, row, slots):
    """All is right but for the blocks of a row that these slots hold, which cannot be read."""
    geometry, begin = array.geometry(), 0
    for place in sorted(filter(None, (geometry.array_sector(slot, row) for slot in slots))):
        at = place * SECTOR
        shadow.verify("all before a lost block", begin, at - begin)
        expect("a read of it", "EIO", errno_of(lambda at=at: shadow.disk.read(at, 4096)))
        begin = at + 4096
    shadow.verify("all behind", begin, shadow.length - begin)


def fail_one_too_many(array, path):
    """Fails a member that mdadm would not: it counts no replacement that is not in sync. md says if that breaks the array."""
    expect(f"failing {path}", "", array.try_set(f"dev-{name_of(path)}/state", "faulty"))


def relied_on(level, first, cut=False):
    """The replacement lacks two blocks, and gets another round. When that has mended one, more members have failed, the one that it replaces
    among them, than parity makes up for, but that the replacement has all the rest: the array goes on with it, and the other block is
    lost. The old member is the first of them to fail, or the last one; cut: and then the power fails."""
    if kernel.driver() == "c":
        raise Skipped("the C module knows no other round")
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    (new,), old, lost = rams(1, 5), disks[1], disks[3:level - 1]
    geometry = array.geometry()
    mended, rest = (row_with_data(geometry, (1,), low) for low in (1, 100))
    size = geometry.data * geometry.chunk * SECTOR
    # Away from those two rows.
    writes = lambda seed: shadow.random_writes(seed=seed, count=30, begin=20 * size, end=90 * size)
    copy_almost_all(array, old, new)
    for row in (mended, rest):
        know_bad(array, new, row)
    if not first:
        for path in lost:
            array.fail(path)
    writes(18)
    log = go_on_to_other_round(array)
    wait_for("one of the two blocks mended", lambda: array.member(new, "bad_blocks") == bad_block(array, new, rest), 30)
    expect_match("the log", rf"{name_of(new)} cannot be read in 2 places where {name_of(old)} can", log.text())
    writes(19)
    if cut:
        # So that the old member stays in its slot.
        array.set("sync_action", "frozen")
    for path in (old, *lost) if first else (old,):
        expect("the new member is not in sync before that", False, "in_sync" in array.state(new))
        fail_one_too_many(array, path)
    expect("missing members", str(len(lost)), array.get("degraded"))
    if cut:
        wait_for("the failure recorded", lambda: "blocked" not in array.state(old), 20)
        wait_for("no write under way", lambda: array.get("array_state") == "clean", 20)
        flags = rawmd.FEATURE_RECOVERY_OFFSET | rawmd.FEATURE_REPLACEMENT | rawmd.FEATURE_BAD_BLOCKS
        expect("what the new member's superblock says", rawmd.FEATURE_REPLACEMENT | rawmd.FEATURE_BAD_BLOCKS,
               rawmd.field(new, "feature_map") & flags)
        good = [path for path in array.members if path not in (old, *lost)]
        images = snapshot(good)
        shadow.close()
        array.stop()
        restore(images)
        array = Array.assemble(good, "--run")
        shadow.reopen()
        expect("missing members", str(len(lost)), array.get("degraded"))
    wait_for("the new one a member", lambda: array.state(new) == {"in_sync"}, 30)
    expect("its bad blocks", bad_block(array, new, rest), array.member(new, "bad_blocks"))
    writes(20)
    verify_but(array, shadow, rest, [1, *(disks.index(path) for path in lost)])
    # What is written whole is right again.
    stripe = rest // geometry.chunk
    shadow.write(stripe * size, pattern("whole", size))
    shadow.verify("in the end")
    if not cut:
        full_speed(array)
        array.remove(old)
        array.members.remove(old)
    rebuild(array, lost)
    settle(array, shadow)


def new_stays_unreadable():
    """What the replacement cannot be read at it takes again, and cannot be read there after that either: it fails, as it would if it had
    not taken it."""
    if kernel.driver() == "c":
        raise Skipped("the C module has it fail at the first read error")
    disks = rams(5)
    array, shadow = filled(disks)
    under, = rams(1, 5)
    new = dm("weak", linear(under))
    stops_at(array, 4096)
    begin(array, disks[1], new)
    wait_copied(array, new, 4096)
    geometry = array.geometry()
    stripe = next(stripe for stripe in range(5, 15) if 1 in geometry.row(stripe).data)
    bad = array.data_offset(new) // SECTOR + stripe * geometry.chunk + 40
    dm("weak", *refusing(under, bad, 8, "reads"))
    log = kernel.Log()
    shadow.verify("with a replacement that cannot be read in a place")
    wait_for("the replacement failed", lambda: "faulty" in array.state(new), 20)
    expect_match("the log", rf"read error NOT corrected!! \(sector {bad} on {name_of(new)}\)", log.text())
    expect("missing members", "0", array.get("degraded"))
    go_on(array)
    array.remove(new)
    array.members.remove(new)
    settle(array, shadow)


def interrupted(level):
    """The array is stopped half way: it goes on where it was."""
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    new, = rams(1, 5)
    stops_at(array, 4096)
    begin(array, disks[1], new)
    wait_copied(array, new, 4096)
    shadow.random_writes(seed=10, count=40)
    shadow.close()
    array = array.reassemble()
    shadow.reopen()
    expect("the new device is a replacement still", True, "replacement" in array.state(new) or array.state(new) == {"in_sync"})
    shadow.verify("after stop and assembly half way")
    finish(array, (disks[1], new))
    settle(array, shadow)


def power_cut(level):
    """The power fails half way, with writes under way: old and new may differ where those were, and nobody is shown both."""
    disks = rams(5)
    array, shadow = filled(disks, level=level)
    new, = rams(1, 5)
    stops_at(array, 4096)
    begin(array, disks[1], new)
    wait_copied(array, new, 4096)
    # On a busy machine it would be clean before all members are copied.
    array.set("safe_mode_delay", "600")
    shadow.random_writes(seed=11, count=40)
    # The superblock says that writes are under way; one has got to the old member alone.
    expect("the array is active, not clean", "active", array.get("array_state"))
    images = snapshot(array.members)
    place = array.geometry().locate(2048)
    offset = array.data_offset(disks[1])
    shadow.close()
    array.stop()
    restore(images)
    with Disk(disks[1]) as disk:
        row = place[1] // 8 * 8
        disk.write(offset + row * SECTOR, pattern("torn", 4096))
    array = Array.assemble(array.members)
    with Disk(array.path) as disk:
        first = disk.read(0, disk.size)
    finish(array, (disks[1], new))
    with Disk(array.path) as disk:
        expect("the content is what it was before the replacement ended", True, disk.read(0, disk.size) == first)
    array.expect_clean()


def said_to_lack_little():
    """The superblock of a replacement that is half copied says that it lacks no more than the bitmap tells, as the C module has
    it of one that had been a member before: it gets everything."""
    disks = rams(5)
    array, shadow = filled(disks, bitmap="internal")
    array.clear_bits()
    new, = rams(1, 5)
    stops_at(array, 4096)
    begin(array, disks[1], new)
    wait_copied(array, new, 4096)
    expect("bits that are set", 0, array.dirty_bits())
    shadow.close()
    array.stop()
    flags = rawmd.field(new, "feature_map")
    expect("what its superblock says", rawmd.FEATURE_RECOVERY_OFFSET | rawmd.FEATURE_REPLACEMENT,
           flags & (rawmd.FEATURE_RECOVERY_OFFSET | rawmd.FEATURE_RECOVERY_BITMAP | rawmd.FEATURE_REPLACEMENT))
    rawmd.edit_superblock(new, feature_map=flags | rawmd.FEATURE_RECOVERY_BITMAP)
    array = Array.assemble(array.members)
    shadow.reopen()
    finish(array, (disks[1], new))
    settle(array, shadow)


def in_sync_by_then():
    """The power fails when the new device is the member already, and its superblock still calls it a replacement: it holds
    everything, and does not begin anew."""
    disks = rams(4)
    array, shadow = filled(disks)
    array.set("safe_mode_delay", "600")
    shadow.random_writes(seed=16, count=20)
    shadow.close()
    expect("the array is active, not clean", "active", array.get("array_state"))
    images = snapshot(array.members)
    array.stop()
    restore(images)
    rawmd.edit_superblock(disks[3], feature_map=rawmd.field(disks[3], "feature_map") | rawmd.FEATURE_REPLACEMENT)
    log = kernel.Log()
    array = Array.assemble(array.members, "--run")
    expect("missing members", "0", array.get("degraded"))
    expect_no_match("in the log", r"replaces a member from the start again", log.text())
    array.wait_synced()
    expect("the member", {"in_sync"}, array.state(disks[3]))
    shadow.reopen()
    settle(array, shadow)


def added_again():
    """The old member is taken back as a spare once it is replaced, and is needed later. The bitmap does not know what was written
    meanwhile, as no member was missing: so it gets everything. Under the C module it gets what the bitmap tells, and answers readers with
    what it had."""
    disks = rams(4)
    array, shadow = filled(disks, bitmap="internal")
    old, (new,) = disks[1], rams(1, 4)
    begin(array, old, new)
    wait_for(f"{new} a member", lambda: array.state(new) == {"in_sync"}, 120)
    wait_for(f"{old} out of its slot", lambda: array.member(old, "slot") == "none", 30)
    array.set(f"dev-{name_of(old)}/state", "re-add")
    wait_for(f"{old} a spare", lambda: array.state(old) == {"spare"}, 10)
    shadow.random_writes(seed=17, count=200)
    array.clear_bits()
    array.fail(new)
    array.wait_rebuilt()
    expect("the member", {"in_sync"}, array.state(old))
    array.remove(new)
    array.members.remove(new)
    settle(array, shadow)


def alone():
    """The replacement is all there is of its slot when the array is assembled: it is the member, and rebuilt."""
    disks = rams(5)
    array, shadow = filled(disks)
    new, = rams(1, 5)
    stops_at(array, 4096)
    begin(array, disks[1], new)
    wait_copied(array, new, 4096)
    shadow.close()
    array.stop()
    kernel.sh("mdadm", "--quiet", "--zero-superblock", disks[1])
    array.members.remove(disks[1])
    array = Array.assemble(array.members, "--run")
    shadow.reopen()
    shadow.random_writes(seed=12, count=30)
    array.wait_rebuilt()
    settle(array, shadow)


def both_drivers(level):
    """One driver begins, the other one goes on."""
    for first, second in (drivers(), drivers()[::-1]):
        kernel.use_driver(first)
        disks = rams(5)
        array, shadow = filled(disks, level=level, size=4)
        new, = rams(1, 5)
        stops_at(array, 2048)
        begin(array, disks[1], new)
        wait_copied(array, new, 2048)
        shadow.random_writes(seed=13, count=40)
        shadow.close()
        array.stop()
        kernel.use_driver(second)
        array = Array.assemble(array.members)
        shadow.reopen()
        shadow.random_writes(seed=14, count=40)
        finish(array, (disks[1], new))
        settle(array, shadow)
        stop_all()
    kernel.use_driver("rust")


def dead_new():
    """A replacement on which everything fails is out at once, under load."""
    disks = rams(5)
    array, shadow = filled(disks)
    under, = rams(1, 5)
    new = dm("dies", linear(under))
    stops_at(array, 4096)
    begin(array, disks[1], new)
    wait_copied(array, new, 4096)
    dm("dies", broken(under))
    shadow.random_writes(seed=15, count=60)
    wait_for("the replacement failed", lambda: "faulty" in array.state(new), 20)
    shadow.verify("without it")
    expect("missing members", "0", array.get("degraded"))
    go_on(array)
    array.remove(new)
    array.members.remove(new)
    settle(array, shadow)


def refuses_as_member():
    """A replacement that is in sync does not take a write, while its member, which has failed for it, is still there, for whoever keeps the
    metadata has not said that it knows: a block is recorded as bad, and the array lacks no member."""
    if kernel.driver() == "c":
        raise Skipped("the C module has it fail")
    disks, under = rams(4), rams(1, 5)[0]
    new = dm("new", linear(under))
    expect("start", "", rawmd.start(disks, metadata="external:test", state="external_bbl", size=8192))
    array, old = Array(disks + [new], rawmd.NAME), disks[1]
    array.set("safe_mode_delay", "0")
    with rawmd.Keeper(array), Shadow(array.path) as shadow:
        shadow.fill()
        array.set("sync_action", "frozen")
        array.set(f"dev-{name_of(old)}/state", "want_replacement")
        number = os.stat(new).st_rdev
        array.set("new_dev", f"{os.major(number)}:{os.minor(number)}")
        array.set(f"dev-{name_of(new)}/state", "external_bbl")
        array.set(f"dev-{name_of(new)}/slot", "1")
        array.set("sync_action", "recover")
        wait_for("the replacement is in sync", lambda: {"in_sync", "replacement"} <= array.state(new), 20)
        expect("its member", {"faulty", "blocked"}, array.state(old) & {"faulty", "blocked", "in_sync"})
        geometry = array.geometry()
        stripe = next(stripe for stripe in range(7, 20) if 1 in geometry.row(stripe).data)
        bad = stripe * geometry.chunk
        dm("new", *refusing(under, bad, geometry.chunk))
        data = pattern("new", 4096)
        writer = threading.Thread(target=lambda: shadow.write(geometry.array_sector(1, bad) * SECTOR, data), daemon=True)
        writer.start()
        wait_for("the block is bad, and the replacement has not failed",
                 lambda: "faulty" in array.state(new) or array.member(new, "unacknowledged_bad_blocks") == f"{bad} 8", 20)
        expect("the replacement", {"in_sync", "write_error"}, array.state(new) & {"in_sync", "write_error", "faulty"})
        expect("missing members", "0", array.get("degraded"))
        # All of that is recorded.
        array.set(f"dev-{name_of(new)}/bad_blocks", f"{bad} 8")
        array.set(f"dev-{name_of(old)}/state", "-blocked")
        writer.join(20 * kernel.patience())
        expect("the write waits after that", False, writer.is_alive())
        shadow.verify("what was written")


def written_before_it_is_noted():
    """A block at which the replacement cannot be read is written there again before whoever keeps the metadata has taken note that it is
    bad, and is gone from the list when he looks. No write waits for him."""
    if kernel.driver() == "c":
        raise Skipped("the C module has the replacement fail")
    disks = rams(4)
    dust, = dusty(rams(1, 5), [0])
    new = dust.path
    expect("start", "", rawmd.start(disks, metadata="external:test", state="external_bbl", size=8192))
    array = Array(disks + [new], rawmd.NAME)
    array.set("safe_mode_delay", "0")
    with rawmd.Keeper(array), Shadow(array.path) as shadow:
        shadow.fill()
        array.set("sync_action", "frozen")
        array.set(f"dev-{name_of(disks[1])}/state", "want_replacement")
        number = os.stat(new).st_rdev
        array.set("new_dev", f"{os.major(number)}:{os.minor(number)}")
        array.set(f"dev-{name_of(new)}/state", "external_bbl")
        array.set(f"dev-{name_of(new)}/slot", "1")
        stops_at(array, 4096)
        array.set("sync_action", "recover")
        wait_copied(array, new, 4096)
        geometry = array.geometry()
        stripe = next(stripe for stripe in range(7, 20) if 1 in geometry.row(stripe).data)
        row = stripe * geometry.chunk
        dust.spoil(row)
        at = geometry.array_sector(1, row) * SECTOR
        log = kernel.Log()
        shadow.verify("with a replacement that cannot be read in a place", at, 4096)
        expect_match("the log", r"read error on replacement device", log.text())
        wait_for("it can be read", lambda: dust.count() == 0 and not array.member(new, "unacknowledged_bad_blocks"), 10)
        # Writes beside a lost block wait until all failures are recorded.
        array.set(f"dev-{name_of(disks[3])}/state", "faulty")
        array.set(f"dev-{name_of(disks[3])}/state", "-blocked")
        writer = threading.Thread(target=lambda: shadow.write(at, pattern("new", 4096)), daemon=True)
        writer.start()
        writer.join(20 * kernel.patience())
        expect("the write waits", False, writer.is_alive())
        shadow.verify("what was written")
        array.set("sync_action", "frozen")


def cases():
    """On the debug kernel, which is slow, each kind of thing once."""
    slow_kernel = kernel.flavour() == "debug"
    found = []
    for level in (5,) if slow_kernel else (5, 6):
        name = f"raid{level}"
        found += [
            (f"a member replaced, {name}", lambda level=level: plain(level)),
            (f"several at once, {name}", lambda level=level: several(level)),
            (f"one after another under fio, {name}", lambda level=level: under_load(level)),
            (f"the old member has unreadable sectors, {name}", lambda level=level: unreadable(level)),
            (f"the old member has dead places, {name}", lambda level=level: dead_places(level)),
            (f"the old member fails, {name}", lambda level=level: old_fails(level)),
            (f"the replacement fails, {name}", lambda level=level: new_fails(level)),
            (f"the replacement cannot be read, {name}", lambda level=level: new_unreadable(level)),
            (f"the replacement cannot be read where nobody makes up for it, {name}",
             lambda level=level: only_the_old_one_has_it(level, False)),
            (f"the replacement is known not to be readable there, {name}", lambda level=level: only_the_old_one_has_it(level, True)),
            (f"the replacement alone has a block, and lacks another one, {name}", lambda level=level: whole_but_for_a_block(level, False)),
            (f"the same, and the old member fails, {name}", lambda level=level: whole_but_for_a_block(level, True)),
            (f"the same, and the array grows, {name}", lambda level=level: whole_and_larger(level)),
            (f"the replacement is relied on when the old member fails last, {name}", lambda level=level: relied_on(level, False)),
            (f"the replacement is relied on when the old member has failed first, {name}", lambda level=level: relied_on(level, True)),
            (f"the replacement is relied on, and the power fails, {name}", lambda level=level: relied_on(level, False, cut=True)),
            (f"too many others have lost their blocks of a row, {name}", lambda level=level: too_much_lost(level)),
            (f"stopped half way, {name}", lambda level=level: interrupted(level)),
            (f"the power fails half way, {name}", lambda level=level: power_cut(level)),
        ]
        if not slow_kernel:
            found.append((f"both drivers, {name}", lambda level=level: both_drivers(level)))
    return found + [
        ("raid4, with a bitmap", lambda: plain(4, bitmap="internal", chunk=4)),
        ("the replacement takes no writes in places", new_refuses),
        ("the replacement dies", dead_new),
        ("the replacement takes what cannot be read after that", new_stays_unreadable),
        ("a block is written before it is noted as bad", written_before_it_is_noted),
        ("the replacement takes no write when it is the member", refuses_as_member),
        ("the old member comes back as a spare", added_again),
        ("the replacement alone is assembled", alone),
        ("the replacement is said to lack what the bitmap tells", said_to_lack_little),
        ("the power fails when the replacement is in sync", in_sync_by_then),
    ]


if __name__ == "__main__":
    run(cases(), cleanup=stop_all)
