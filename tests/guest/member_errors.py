#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=12 timeout=240
"""Members that fail by I/O errors: reads are reconstructed and rewritten, a failed write fails the member, two failures
stop writes and keep what survives readable."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, Shadow, errno_of, pattern
from mapper import Dust, broken, dm, linear, need_target, sectors_of
from raid import Array, name_of, rams, stop_all
from report import Failed, expect, expect_match, expect_range, note, run, wait_for, within
import kernel


def filled(members, **shape):
    """A synced, filled array and its shadow."""
    array = Array.create(members, size=8, **shape)
    shadow = Shadow(array.path)
    shadow.fill()
    return array, shadow


def reconstructed_read():
    """An unreadable sector: the right data is returned, the sector rewritten, the member kept and the error counted."""
    disks = rams(4)
    dust = Dust(disks[1])
    disks[1] = dust.path
    array, shadow = filled(disks)
    geometry = array.geometry()
    slot_of = {path: slot for slot, path in array.slots().items()}
    # Two rows, far apart, whose data is on the spoilt member.
    low = array.data_offset(dust.path) // SECTOR
    first, second = (next(low + geometry.locate(at)[1] for at in range(begin, shadow.length // SECTOR, 8)
                          if geometry.locate(at)[0] == slot_of[dust.path]) for begin in (5000, 30000))
    log = kernel.Log()
    dust.spoil(first + 1)
    expect("unreadable sectors", 1, dust.count())
    shadow.verify("the array with an unreadable sector")
    wait_for("the sector rewritten", lambda: dust.count() == 0, 20)
    wait_for("the log", lambda: "corrected" in log.text(), 10)
    expect_match("the log", r"read error corrected", log.text())
    expect("corrected sectors of the member", "8", array.member(dust.path, "errors"))
    expect("the member's state", {"in_sync"}, array.state(dust.path))
    expect("missing members", "0", array.get("degraded"))
    dust.spoil(second, 8)
    shadow.verify("a whole strip unreadable")
    wait_for("the strip rewritten", lambda: dust.count() == 0, 20)
    array.expect_clean()
    shadow.close()


def error_found_by_check():
    """check reads everything: an unreadable sector, of data or of parity, is mended then."""
    disks = rams(4)
    dust = Dust(disks[2])
    disks[2] = dust.path
    array, shadow = filled(disks)
    low = array.data_offset(dust.path) // SECTOR
    for row in (0, 1000, 1130, 4097, array.data_size() // SECTOR - 1):
        dust.spoil(low + row)
    expect("mismatch_cnt", 0, array.scan())
    wait_for("all rewritten", lambda: dust.count() == 0, 20)
    expect("the member's state", {"in_sync"}, array.state(dust.path))
    shadow.verify()
    shadow.close()


def error_under_writes():
    """Writes of parts of rows read old data or parity: an unreadable one must not get into the result."""
    disks = rams(4)
    dust = Dust(disks[0])
    disks[0] = dust.path
    array, shadow = filled(disks)
    low = array.data_offset(dust.path) // SECTOR
    for row in range(0, 8000, 400):
        dust.spoil(low + row)
    shadow.random_writes(seed=5, count=150, longest=16384)
    shadow.verify("after writes over unreadable sectors")
    # What the writes did not need to read is mended by a check, once no block is cached.
    shadow.close()
    array = array.reassemble()
    array.expect_clean()
    wait_for("all rewritten", lambda: dust.count() == 0, 20)
    shadow.reopen()
    shadow.verify("after check")
    array.fail(array.members[1])
    shadow.verify("without another member")
    shadow.close()


def dead_member():
    """A member on which everything fails from now on: it is failed, no write is lost, and a spare takes its place."""
    disks = rams(4)
    under, disks[2] = disks[2], dm("dies", linear(disks[2]))
    array, shadow = filled(disks)
    log = kernel.Log()
    dm("dies", broken(under))
    shadow.random_writes(seed=1, count=60)
    wait_for("the member failed", lambda: "faulty" in array.state(disks[2]), 20)
    expect_match("the log", r"Disk failure on dm-\d+, disabling device", log.text())
    expect_match("the log", r"Operation continuing on 3 devices", log.text())
    expect("missing members", "1", array.get("degraded"))
    shadow.verify("after the loss")
    spare = rams(1, 4)[0]
    array.remove(disks[2])
    array.add(spare)
    array.wait_rebuilt()
    shadow.verify("after the rebuild")
    array.expect_clean()
    shadow.close()


def write_error(layout):
    """Writes to a range of a member fail. Either the member is failed or the range is recorded as bad; in both cases
    nothing that was acknowledged is lost, now or after stop and assembly."""
    disks = rams(4)
    under = disks[1]
    size = sectors_of(under)
    disks[1] = dm("bad", linear(under))
    array, shadow = filled(disks, layout=layout)
    begin = array.data_offset(disks[1]) // SECTOR + 2048
    # Down all the time, and only for writes.
    dm("bad", f"0 {begin} linear {under} 0", f"{begin} 256 flakey {under} {begin} 0 3600 1 error_writes",
       f"{begin + 256} {size - begin - 256} linear {under} {begin + 256}")
    shadow.random_writes(seed=1, count=200, longest=65536)
    shadow.verify("after writes that failed on a member")
    state, bad = array.state(disks[1]), ""
    if "faulty" not in state:
        bad = array.member(disks[1], "bad_blocks")
    expect("the failure is recorded", True, "faulty" in state or bad != "")
    note(f"the member is {sorted(state)}, bad blocks: {bad or 'none'}")
    shadow.close()
    array.stop()
    dm("bad", linear(under))
    array = Array.assemble([disk for disk in disks if not ("faulty" in state and disk == disks[1])], "--run")
    shadow.reopen()
    shadow.verify("after stop and assembly")
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
    size = sectors_of(under)
    begin = array.data_offset(disks[1]) // SECTOR
    dm("bad", f"0 {begin} linear {under} 0", f"{begin} {size - begin} flakey {under} {begin} 0 3600 1 error_writes")
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
        dm("refuses", f"0 {row} linear {ram} 0", f"{row} {chunk} flakey {ram} {row} 0 3600 1 error_writes",
           f"{row + chunk} {size - row - chunk} linear {ram} {row + chunk}")
    # Writes take long enough for something to happen between two of them.
    dm("late", f"0 {size} delay {under} 0 0 {under} 0 200")
    writer = threading.Thread(target=lambda: shadow.write(at * SECTOR, pattern("new", chunk * SECTOR)), daemon=True)
    writer.start()
    if end == "taken":
        writer.join(20)
        expect("bad blocks after the write", 0, bad())
    else:
        wait_for("a second bad block", lambda: bad() > 1, 20)
    if end == "no superblock":
        dm("refuses", f"0 {size} flakey {ram} 0 0 3600 1 error_writes")
    else:
        array.fail(member)
    wait_for("the member failed", lambda: "faulty" in array.state(member), 20)
    writer.join(20)
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


def two_lost():
    """Two members lost: writes end with EIO, surviving chunks are returned, lost ones end with EIO; nothing is lost on
    the members: with all of them back the array is as before."""
    disks = rams(4)
    array, shadow = filled(disks)
    geometry = array.geometry()
    log = kernel.Log()
    array.fail(disks[0])
    array.fail(disks[2], anyway=True)
    expect("missing members", "2", array.get("degraded"))
    expect_match("the log", r"Cannot continue operation \(2/4 failed\)", log.text())
    expect("write of 4 KiB", "EIO", within(20, lambda: errno_of(lambda: shadow.disk.write(0, bytes(4096)))))
    expect("write of 1 MiB", "EIO", within(20, lambda: errno_of(lambda: shadow.disk.write(1 << 20, bytes(1 << 20)))))
    survived = 0
    for sector in range(0, shadow.length // SECTOR, geometry.chunk):
        alive = geometry.locate(sector)[0] in (1, 3)
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


def dies_under_load():
    """Two members die one after the other under writes: each write ends, with success or an error, and what was
    acknowledged before the second death can be read where it survives."""
    disks = rams(4)
    under = [disks[0], disks[1]]
    disks[0], disks[1] = dm("one", linear(under[0])), dm("two", linear(under[1]))
    array, shadow = filled(disks)
    ended, failures = [], []

    def load(seed):
        with Disk(array.path) as disk:
            for turn in range(100):
                problem = errno_of(lambda at=turn: disk.write((seed * 100 + at) * 16384, pattern(at, 16384)))
                if problem:
                    failures.append(problem)
        ended.append(seed)

    threads = [threading.Thread(target=load, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    dm("one", broken(under[0]))
    wait_for("the first one failed", lambda: "faulty" in array.state(disks[0]), 20)
    dm("two", broken(under[1]))
    wait_for("all writes ended", lambda: len(ended) == 4, 40)
    expect("write after both deaths", "EIO",
           within(20, lambda: errno_of(lambda: shadow.disk.write(0, bytes(65536 * 3)))))
    note(f"{len(failures)} of 400 writes failed")
    expect("their errors", set(failures) | {"EIO"}, {"EIO"})
    shadow.close()


if __name__ == "__main__":
    run([
        ("an unreadable sector is reconstructed and rewritten", reconstructed_read),
        ("check mends unreadable sectors", error_found_by_check),
        ("writes over unreadable sectors", error_under_writes),
        ("a member dies", dead_member),
        ("a range of a member refuses writes, left-symmetric", lambda: write_error("left-symmetric")),
        ("a range of a member refuses writes, parity-first", lambda: write_error("parity-first")),
        ("a member without bad block list refuses writes", write_error_without_log),
        ("a member takes a write over a bad block", lambda: bad_block_written("taken")),
        ("a member with a bad block refuses a write and its superblock", lambda: bad_block_written("no superblock")),
        ("a member with a bad block refuses a write and is failed", lambda: bad_block_written("failed by hand")),
        ("two members lost", two_lost),
        ("two members die under load", dies_under_load),
    ], cleanup=stop_all)
