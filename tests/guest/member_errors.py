#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=12 timeout=300
"""Members that fail by I/O errors: reads are reconstructed and rewritten, a failed write fails the member, one failure more
than there are parities stops writes and keeps what survives readable. At level 6 two members misbehave where one does at
level 5."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, Shadow, errno_of, pattern
from mapper import broken, dm, dusty, linear, need_target, refusing, sectors_of
from raid import Array, name_of, rams, stop_all
from report import Failed, Skipped, expect, expect_match, expect_range, note, run, wait_for, within
import kernel


# The slots that misbehave, at each level: as many as there are parities.
SPOILT = {5: [1], 6: [1, 2]}
STRIP = 8  # sectors


def members_of(level):
    """The RAM disks of an array without spares."""
    return rams(level - 1)


def filled(members, **shape):
    """A synced, filled array and its shadow."""
    array = Array.create(members, size=8, **shape)
    shadow = Shadow(array.path)
    shadow.fill()
    return array, shadow


def spoil(array, dusts, rows, count=1):
    """Makes sectors of all of `dusts` unreadable, at the same places of their data areas."""
    for dust in dusts:
        for row in rows:
            dust.spoil(array.data_offset(dust.path) // SECTOR + row, count)


def expect_mended(array, dusts, shadow):
    """Ends the case unless every sector has been written again, and with what belongs there: the members are read."""
    expect("unreadable sectors", [0] * len(dusts), [dust.count() for dust in dusts])
    for dust in dusts:
        expect(f"state of {dust.path}", {"in_sync"}, array.state(dust.path))
    array.expect_parity(shadow.bytes)


def reconstructed_read(level):
    """Unreadable sectors, as many in a row as there are parities: the right data is returned, the sectors rewritten, the
    members kept and the errors counted."""
    disks = members_of(level)
    dusts = dusty(disks, SPOILT[level])
    array, shadow = filled(disks, level=level)
    geometry = array.geometry()
    # Two rows, far apart, whose data is on the spoilt members.
    stripes = [stripe for stripe in range(array.data_size() // SECTOR // geometry.chunk)
               if set(SPOILT[level]) <= set(geometry.row(stripe).data)]
    first, second = (stripes[len(stripes) * part // 4] * geometry.chunk + 40 for part in (1, 3))
    log = kernel.Log()
    spoil(array, dusts, [first + 1])
    expect("unreadable sectors", [1] * len(dusts), [dust.count() for dust in dusts])
    shadow.verify("the array with unreadable sectors")
    wait_for("the sectors rewritten", lambda: not any(dust.count() for dust in dusts), 20)
    wait_for("the log", lambda: log.text().count("corrected") >= len(dusts), 10)
    for dust in dusts:
        name = name_of(dust.path)
        expect_match("the log", rf"read error corrected \(8 sectors at \d+ on {name}\)", log.text())
        expect(f"corrected sectors of {name}", "8", array.member(dust.path, "errors"))
    expect("missing members", "0", array.get("degraded"))
    spoil(array, dusts, [second], STRIP)
    shadow.verify("a whole strip unreadable")
    wait_for("the strip rewritten", lambda: not any(dust.count() for dust in dusts), 20)
    expect_mended(array, dusts, shadow)
    array.expect_clean()
    shadow.close()


def every_role():
    """Level 6: two unreadable blocks in strips where their members hold two blocks of data, data and P, data and Q, or both
    parities. Reads find what they need; a check finds the rest."""
    disks = members_of(6)
    dusts = dusty(disks, SPOILT[6])
    array, shadow = filled(disks, level=6)
    geometry = array.geometry()
    roles = {}
    for stripe in range(len(disks)):
        row = geometry.row(stripe)
        held = {row.p: "P", row.q: "Q"}
        roles[" and ".join(sorted(held.get(slot, "data") for slot in SPOILT[6]))] = stripe
    expect("roles of the unreadable blocks", ["P and Q", "P and data", "Q and data", "data and data"], sorted(roles))
    spoil(array, dusts, [stripe * geometry.chunk + 40 for stripe in roles.values()])
    shadow.verify("the array with two unreadable blocks in a strip")
    # Who reads does not wait until they have been written again.
    array.expect_at_rest()
    # Nobody has asked for the parity in these strips, or only for the one that is needed.
    left = {name for name, stripe in roles.items()
            if any(dust.holds(array.data_offset(dust.path) // SECTOR + stripe * geometry.chunk + 40) for dust in dusts)}
    expect("roles of blocks that no read has mended", {"P and Q", "Q and data"}, left)
    expect("mismatch_cnt", 0, array.scan())
    expect_mended(array, dusts, shadow)
    shadow.close()


def one_lost_one_unreadable():
    """Level 6: one member is missing, another one has unreadable blocks: reads, writes and a check make up for both."""
    disks = members_of(6)
    dust, = dusty(disks, [1])
    array, shadow = filled(disks, level=6)
    chunk = array.geometry().chunk
    array.fail(disks[2])
    rows = [stripe * chunk + 40 for stripe in range(2, 2 + len(disks))]
    spoil(array, [dust], rows)
    shadow.verify("without a member, another one unreadable in places")
    array.expect_clean()
    expect("unreadable sectors after a check", 0, dust.count())
    expect("missing members", "1", array.get("degraded"))
    # Again, for writes to find: of single sectors beside what is unreadable.
    shadow.close()
    array = array.reassemble("--run")
    shadow.reopen()
    spoil(array, [dust], rows)
    geometry = array.geometry()
    for stripe in range(2, 2 + len(disks)):
        for slot in geometry.row(stripe).data:
            at = geometry.array_sector(slot, stripe * chunk + 42)
            shadow.write(at * SECTOR, pattern((stripe, slot), SECTOR))
    shadow.verify("after writes")
    array.expect_clean()
    expect("unreadable sectors in the end", 0, dust.count())
    array.remove(disks[2])
    array.add(rams(1, 5)[0])
    array.wait_rebuilt()
    disks[2] = rams(1, 5)[0]
    array.expect_parity(shadow.bytes)
    shadow.close()


def error_found_by_check(level):
    """check reads everything: unreadable sectors, of data or of parity, are mended then."""
    disks = members_of(level)
    dusts = dusty(disks, SPOILT[level])
    array, shadow = filled(disks, level=level)
    spoil(array, dusts, (0, 1000, 1130, 4097, array.data_size() // SECTOR - 1))
    expect("mismatch_cnt", 0, array.scan())
    expect_mended(array, dusts, shadow)
    shadow.close()


def error_under_writes(level):
    """Writes of parts of rows read old data or parity: an unreadable one must not get into the result."""
    disks = members_of(level)
    dusts = dusty(disks, SPOILT[level])
    array, shadow = filled(disks, level=level)
    spoil(array, dusts, range(0, 8000, 400))
    shadow.random_writes(seed=5, count=150, longest=16384)
    shadow.verify("after writes over unreadable sectors")
    # What the writes did not need to read is mended by a check, once no block is cached.
    shadow.close()
    array = array.reassemble()
    array.expect_clean()
    shadow.reopen()
    expect_mended(array, dusts, shadow)
    for slot in (0, 3)[:level - 4]:
        array.fail(disks[slot])
        shadow.verify("with a member less")
    shadow.close()


def dead_member(level):
    """Members on which everything fails from now on: they are failed, no write is lost, and spares take their place."""
    disks = members_of(level)
    under = {slot: disks[slot] for slot in SPOILT[level]}
    for slot, ram in under.items():
        disks[slot] = dm(f"dies{slot}", linear(ram))
    array, shadow = filled(disks, level=level)
    log = kernel.Log()
    for slot, ram in under.items():
        dm(f"dies{slot}", broken(ram))
    shadow.random_writes(seed=1, count=60)
    for slot in under:
        wait_for(f"the member in slot {slot} failed", lambda slot=slot: "faulty" in array.state(disks[slot]), 20)
        expect_match("the log", rf"Disk failure on {name_of(disks[slot])}, disabling device", log.text())
    expect_match("the log", r"Operation continuing on 3 devices", log.text())
    expect("missing members", str(len(under)), array.get("degraded"))
    shadow.verify("after the loss")
    for slot in under:
        array.remove(disks[slot])
    array.add_together(rams(len(under), level - 1))
    array.wait_rebuilt()
    shadow.verify("after the rebuild")
    array.expect_clean()
    shadow.close()


def write_error(level, layout):
    """Writes to a range of some members fail. Either a member is failed or the range is recorded as bad; in both cases
    nothing that was acknowledged is lost, now or after stop and assembly."""
    disks = members_of(level)
    under = {slot: disks[slot] for slot in SPOILT[level]}
    for slot, ram in under.items():
        disks[slot] = dm(f"bad{slot}", linear(ram))
    array, shadow = filled(disks, level=level, layout=layout)
    for slot, ram in under.items():
        dm(f"bad{slot}", *refusing(ram, array.data_offset(disks[slot]) // SECTOR + 2048, 256))
    shadow.random_writes(seed=1, count=200, longest=65536)
    shadow.verify("after writes that failed on members")
    gone = []
    for slot in under:
        state, bad = array.state(disks[slot]), ""
        if "faulty" in state:
            gone.append(disks[slot])
        else:
            bad = array.member(disks[slot], "bad_blocks")
        expect(f"the failure in slot {slot} is recorded", True, "faulty" in state or bad != "")
        note(f"the member is {sorted(state)}, bad blocks: {bad.split() or 'none'}")
    shadow.close()
    array.stop()
    for slot, ram in under.items():
        dm(f"bad{slot}", linear(ram))
    array = Array.assemble([disk for disk in disks if disk not in gone], "--run")
    shadow.reopen()
    shadow.verify("after stop and assembly")
    shadow.close()


def too_many_refuse(level):
    """One member more than there are parities takes no writes in a range: a write there ends with EIO, or what it wrote can
    be read, now and after stop and assembly."""
    if kernel.driver() == "c":
        raise Skipped("the C module reads a block that is lost again for ever (since 7.0)")
    disks = members_of(level)
    slots = range(level - 3)
    under = [disks[slot] for slot in slots]
    for slot in slots:
        disks[slot] = dm(f"bad{slot}", linear(under[slot]))
    array, shadow = filled(disks, level=level)
    geometry = array.geometry()
    for slot in slots:
        dm(f"bad{slot}", *refusing(under[slot], array.data_offset(disks[slot]) // SECTOR + 2048, 256))
    width = geometry.chunk * geometry.data
    first, last = 2048 // geometry.chunk * width, (2048 + 256) // geometry.chunk * width
    unknown = set()

    def write(at, count):
        data = pattern(("refused", at, count), count * SECTOR)
        problem = within(20, lambda: errno_of(lambda: shadow.disk.write(at * SECTOR, data)))
        if problem not in ("", "EIO"):
            raise Failed(f"write of {count} sectors at {at}: expected success or EIO, came {problem}")
        strips = range(at, at + count, STRIP)
        if problem:
            unknown.update(strips)
        else:
            unknown.difference_update(strips)
            shadow.bytes[at * SECTOR:(at + count) * SECTOR] = data

    for stripe in range(first, last, width):
        write(stripe, width)
    expect("blocks whose write was refused", (last - first) // STRIP, len(unknown))
    # One block of some chunks: whoever can hold it has it, though there is no parity.
    for chunk in range(first, last, geometry.chunk):
        write(chunk + 24, STRIP)

    def look(what):
        shadow.verify(f"what lies before, {what}", 0, first * SECTOR)
        shadow.verify(f"what lies behind, {what}", last * SECTOR, shadow.length - last * SECTOR)
        acknowledged = [at for at in range(first, last, STRIP) if at not in unknown]
        for at in acknowledged:
            wanted = shadow.bytes[at * SECTOR:(at + STRIP) * SECTOR]
            came = []
            read = lambda at=at: came.append(shadow.disk.read(at * SECTOR, STRIP * SECTOR))
            problem = within(20, lambda read=read: errno_of(read))
            if problem or came[0] != wanted:
                raise Failed(f"{what}, sector {at} (slot and sector there: {geometry.locate(at)}), whose write was "
                             f"acknowledged: expected what was written, came {problem or 'other data'}")
        note(f"ok: {what}, {len(acknowledged)} blocks as acknowledged, {len(unknown)} were refused")

    look("after the writes")
    shadow.close()
    array.stop()
    for slot in slots:
        dm(f"bad{slot}", linear(under[slot]))
    Array.assemble(disks, "--run")
    shadow.reopen()
    look("after stop and assembly")
    shadow.close()


def write_error_without_log():
    """The same on a member that keeps no list of bad blocks: it must be failed."""
    disks = rams(4)
    under = disks[1]
    disks[1] = dm("bad", linear(under))
    array, shadow = filled(disks)
    shadow.close()
    array.stop()
    array = Array.assemble(disks, "--update=no-bbl")
    shadow.reopen()
    begin = array.data_offset(disks[1]) // SECTOR
    dm("bad", *refusing(under, begin, sectors_of(under) - begin))
    shadow.random_writes(seed=1, count=20)
    wait_for("the member failed", lambda: "faulty" in array.state(disks[1]), 20)
    shadow.verify("after writes that failed on a member")
    shadow.close()


def bad_block_written(end):
    """A write of a whole chunk over a block that is recorded as bad. Its member takes it; or refuses it, is tried again
    block by block, and is failed in the middle of that as it refuses its superblock too, or by hand. In each case the
    member can be removed and replaced afterwards, and the array be stopped: nobody keeps it."""
    need_target("delay")
    disks = rams(4)
    ram = disks[1]
    under = dm("refuses", linear(ram))
    member = disks[1] = dm("late", linear(under))
    array, shadow = filled(disks)
    geometry = array.geometry()
    chunk, size, low = geometry.chunk, sectors_of(ram), array.data_offset(member) // SECTOR
    at = next(at for at in range(8192, shadow.length // SECTOR, chunk) if geometry.locate(at)[0] == 1)
    row = low + geometry.locate(at)[1]

    def bad():
        """4 KiB blocks on the member's list."""
        return sum(int(line.split()[1]) for line in array.member(member, "bad_blocks").splitlines()) // 8

    # The last block of the chunk: it is tried last.
    array.set(f"dev-{name_of(member)}/bad_blocks", f"{row + chunk - 8} 8")
    expect("bad blocks", 1, bad())
    if end != "taken":
        dm("refuses", *refusing(ram, row, chunk))
    # Writes take long enough for something to happen between two of them, mdadm and dmsetup too.
    dm("late", f"0 {size} delay {under} 0 0 {under} 0 {200 * kernel.SLOW}")
    writer = threading.Thread(target=lambda: shadow.write(at * SECTOR, pattern("new", chunk * SECTOR)), daemon=True)
    writer.start()
    if end == "taken":
        writer.join(20 * kernel.patience())
        expect("bad blocks after the write", 0, bad())
    else:
        wait_for("a second bad block", lambda: bad() > 1, 20)
    if end == "no superblock":
        dm("refuses", f"0 {size} flakey {ram} 0 0 3600 1 error_writes")
    else:
        array.fail(member)
    wait_for("the member failed", lambda: "faulty" in array.state(member), 20)
    writer.join(20 * kernel.patience())
    expect("the write hangs", False, writer.is_alive())
    if end != "taken" and kernel.driver() == "rust":
        expect_range("blocks that were tried alone, and the bad one, when the member failed", 2, chunk // 8 - 2, bad())
    array.remove(member)
    shadow.verify("after the loss")
    spare = rams(1, 4)[0]
    array.add(spare)
    array.wait_rebuilt()
    shadow.verify("after the rebuild")
    array.expect_clean()
    shadow.close()
    within(10, array.stop)


def too_many_lost(level):
    """One member more is lost than there are parities: writes end with EIO, surviving chunks are returned, lost ones end
    with EIO; nothing is lost on the members: with all of them back the array is as before."""
    disks = members_of(level)
    array, shadow = filled(disks, level=level)
    # What is in memory is not lost.
    shadow.close()
    array = array.reassemble()
    shadow.reopen()
    geometry = array.geometry()
    lost = [0, 2, 3][:level - 3]
    log = kernel.Log()
    for slot in lost:
        array.fail(disks[slot], anyway=slot == lost[-1])
    expect("missing members", str(len(lost)), array.get("degraded"))
    expect_match("the log", rf"Cannot continue operation \({len(lost)}/{len(disks)} failed\)", log.text())
    wait_for("array_state says broken", lambda: array.get("array_state") == "broken", 10)
    expect("write of 4 KiB", "EIO", within(20, lambda: errno_of(lambda: shadow.disk.write(0, bytes(4096)))))
    expect("write of 1 MiB", "EIO", within(20, lambda: errno_of(lambda: shadow.disk.write(1 << 20, bytes(1 << 20)))))
    survived = 0
    for sector in range(0, shadow.length // SECTOR, geometry.chunk):
        alive = geometry.locate(sector)[0] not in lost
        begin = sector * SECTOR
        came = within(20, lambda at=begin: errno_of(lambda: shadow.disk.read(at, geometry.chunk * SECTOR)))
        if came != ("" if alive else "EIO"):
            raise Failed(f"read of the chunk at sector {sector} (its member {'is there' if alive else 'is lost'}): "
                         f"expected {'data' if alive else 'EIO'}, came {came or 'data'}")
        if alive:
            survived += 1
            if shadow.disk.read(begin, geometry.chunk * SECTOR) != shadow.bytes[begin:begin + geometry.chunk * SECTOR]:
                raise Failed(f"read of the chunk at sector {sector}: wrong data")
    note(f"ok: {survived} surviving chunks are as written, all others end with EIO")
    shadow.close()
    array.stop()
    array = Array.assemble(disks, "--force")
    array.wait_idle()
    shadow.reopen()
    shadow.verify("after assembly of all members by force")
    shadow.close()


def write_meets_the_end(level):
    """A write has read what it needs when one member more than there are parities dies: it ends with EIO, and goes to no member. What
    the others have in its row is computed from the member that died last, once that is back by force."""
    disks = members_of(level)
    # These die first, and then the one with P of the row. The write is to the last member, which is slow.
    gone, dying, slow = list(range(level - 4)), level - 4, level - 2
    disks[slow] = dm("slow", linear(disks[slow]))
    array, shadow = filled(disks, level=level)
    geometry = array.geometry()
    rows = array.data_size() // SECTOR // geometry.chunk
    stripe = next(stripe for stripe in range(rows) if geometry.row(stripe).p == dying
                  and {0, slow} <= set(geometry.row(stripe).data))
    data = geometry.row(stripe).data
    place = (stripe * len(data) + data.index(slow)) * geometry.chunk * SECTOR
    # What is in memory is not read.
    shadow.close()
    array = array.reassemble()
    shadow.reopen()
    for slot in gone:
        array.fail(disks[slot])
    # From here on no superblock is written before a write.
    array.set("safe_mode_delay", "600")
    shadow.write(shadow.length - 65536, pattern(level, 4096))
    array.expect_at_rest()
    ours = kernel.driver() == "rust"
    reads = array.counter("member_reads") if ours else 0
    ends = []

    def is_reading():
        """Whether the write asks members, which nobody else does: the slow one too, the last of them."""
        return array.counter("member_reads") > reads if ours else array.get("stripe_cache_active") != "0"

    def write():
        with Disk(array.path) as disk:
            ends.append(errno_of(lambda: disk.write(place, pattern("late", SECTOR))))

    writer = threading.Thread(target=write, daemon=True)
    kernel.sh("dmsetup", "suspend", "--nolockfs", "--noflush", "slow")
    try:
        writer.start()
        wait_for("the write reads", is_reading, 20)
        array.fail(disks[dying], anyway=True)
        expect("ends of the write", [], ends)
    finally:
        kernel.sh("dmsetup", "resume", "slow")
    writer.join(20 * kernel.patience())
    expect("ends of the write", ["EIO"], ends)
    shadow.close()
    array.stop()
    array = Array.assemble([path for slot, path in enumerate(disks) if slot not in gone], "--force", "--run")
    array.wait_idle()
    shadow.reopen()
    shadow.verify("after assembly by force, without those that died first")
    shadow.close()


def die_under_load(level):
    """One member more than there are parities die one after the other under writes: each write ends, with success or an
    error."""
    disks = members_of(level)
    names = ("one", "two", "three")[:level - 3]
    under = disks[:len(names)]
    for slot, name in enumerate(names):
        disks[slot] = dm(name, linear(under[slot]))
    array, shadow = filled(disks, level=level)
    ended, failures, over = [], [], threading.Event()

    def load(seed):
        turn = 0
        with Disk(array.path) as disk:
            # Nobody else finds that a member has died.
            while turn < 100 or not over.is_set():
                problem = errno_of(lambda at=turn: disk.write((seed * 100 + at % 100) * 16384, pattern(at, 16384)))
                if problem:
                    failures.append(problem)
                turn += 1
        ended.append(seed)

    threads = [threading.Thread(target=load, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        for slot, name in enumerate(names):
            dm(name, broken(under[slot]))
            if slot < len(names) - 1:
                wait_for(f"number {name} failed", lambda slot=slot: "faulty" in array.state(disks[slot]), 20)
    finally:
        over.set()
    wait_for("all writes ended", lambda: len(ended) == 4, 40)
    expect("write after all deaths", "EIO",
           within(20, lambda: errno_of(lambda: shadow.disk.write(0, bytes(65536 * 3)))))
    note(f"{len(failures)} writes failed")
    expect("their errors", set(failures) | {"EIO"}, {"EIO"})
    shadow.close()


def cases():
    """Each level's, and level 6's own."""
    for level in (5, 6):
        for title, body in (
                ("unreadable sectors are reconstructed and rewritten", reconstructed_read),
                ("check mends unreadable sectors", error_found_by_check),
                ("writes over unreadable sectors", error_under_writes),
                ("members die", dead_member),
                ("more members refuse writes than there are parities", too_many_refuse),
                ("more members lost than there are parities", too_many_lost),
                ("a write is under way when too many are lost", write_meets_the_end),
                ("more members die under load than there are parities", die_under_load)):
            yield f"raid{level}: {title}", lambda body=body, level=level: body(level)
    yield "raid6: two unreadable blocks in a strip, in each role", every_role
    yield "raid6: unreadable blocks beside a lost member", one_lost_one_unreadable
    for level, layout in ((5, "left-symmetric"), (5, "parity-first"), (6, "left-symmetric")):
        yield (f"raid{level}: a range of each of {level - 4} members refuses writes, {layout}",
               lambda level=level, layout=layout: write_error(level, layout))
    yield "a member without bad block list refuses writes", write_error_without_log
    for end, title in (("taken", "takes a write over a bad block"),
                       ("no superblock", "with a bad block refuses a write and its superblock"),
                       ("failed by hand", "with a bad block refuses a write and is failed")):
        yield f"a member {title}", lambda end=end: bad_block_written(end)


if __name__ == "__main__":
    run(list(cases()), cleanup=stop_all)
