#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=12 timeout=120
"""How many read errors a member is allowed, blocks that stay unreadable when they are written again, those that are being written again when the
array is stopped, and bad blocks that whoever keeps the metadata has not acknowledged. What else there is about bad blocks: member_errors.py,
unreadable.py."""

import os
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, Shadow, pattern
from mapper import Dust, dm, linear, refusing
from raid import Array, name_of, rams, stop_all
from report import Skipped, expect, expect_match, expect_no_match, run, wait_for, within
from torture import Disks
import kernel
import rawmd

STRIP = 8  # sectors


def not_for_c(why):
    """Skips a case under the C module."""
    if kernel.driver() == "c":
        raise Skipped(f"the C module {why}")


def with_errors(level, limit, errors):
    """An array whose second member has unreadable sectors in so many stripes, after all of it was read: (array, member,
    the kernel's log)."""
    disks = rams(level - 1)
    dust = Dust(disks[1])
    disks[1] = dust.path
    array = Array.create(disks, level=level, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.close()
        array = array.reassemble()
        if limit is not None:
            array.set("max_read_errors", limit)
        geometry = array.geometry()
        low = array.data_offset(dust.path) // SECTOR
        stripes = [stripe for stripe in range(array.data_size() // SECTOR // geometry.chunk)
                   if 1 in geometry.row(stripe).data][:errors]
        for stripe in stripes:
            dust.spoil(low + stripe * geometry.chunk + 40)
        log = kernel.Log()
        shadow.reopen()
        # One after the other.
        for stripe in stripes:
            shadow.verify("", geometry.array_sector(1, stripe * geometry.chunk) * SECTOR, geometry.chunk * SECTOR)
        shadow.verify("with the unreadable sectors")
    # Nobody waits until the last one has been written again, and read.
    array.expect_at_rest()
    return array, dust, log


def allowed(level):
    """As many read errors as max_read_errors says are corrected, the next one fails the member; nobody gets wrong data."""
    array, dust, log = with_errors(level, 5, 5)
    expect("the member after as many errors as are allowed", {"in_sync"}, array.state(dust.path))
    expect("corrected sectors", str(5 * STRIP), array.member(dust.path, "errors"))
    stop_all()
    not_for_c("does not look at max_read_errors")
    array, dust, log = with_errors(level, 5, 6)
    wait_for("the member to fail", lambda: "faulty" in array.state(dust.path), 10)
    expect_match("the log", r"6 read_errors > max_read_errors 5", log.text())
    expect_match("the log", rf"Too many read errors, failing device {name_of(dust.path)}", log.text())


def none_allowed():
    """max_read_errors 0: the first one fails the member."""
    not_for_c("does not look at max_read_errors")
    array, dust, _ = with_errors(5, 0, 1)
    wait_for("the member to fail", lambda: "faulty" in array.state(dust.path), 10)


def wrong_checksums():
    """They say nothing of the medium: mended, and not counted, also where no error is allowed."""
    disks = Disks(4, 12)
    member = disks.paths[1]
    array = Array.create(disks.paths, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.close()
        array = array.reassemble()
        array.set("max_read_errors", 0)
        disks.tell(member, "rot", 1)
        geometry, low = array.geometry(), array.data_offset(member) // SECTOR
        for stripe in [stripe for stripe in range(60) if 1 in geometry.row(stripe).data][:5]:
            disks.tell(member, "unreadable", low + stripe * geometry.chunk + 40, 1)
        shadow.reopen()
        shadow.verify("with wrong checksums")
        wait_for("mended blocks", lambda: array.member(member, "errors") == str(5 * STRIP), 10)
        expect("the member", {"in_sync"}, array.state(member))


def default():
    """If nobody says how many, as many are forgiven as under the C module: those in a row that the cache has strips."""
    array, dust, log = with_errors(6, None, 30)
    expect("the member after 30 errors, all corrected", {"in_sync"}, array.state(dust.path))
    expect("corrected sectors", str(30 * STRIP), array.member(dust.path, "errors"))
    expect_no_match("the log", "Too many read errors", log.text())


def stays_unreadable():
    """Sectors that take what is written, and cannot be read after that either: recorded as bad, not as corrected, and not
    read again."""
    not_for_c("reads a block that cannot be corrected again for ever (since 7.0)")
    disks = rams(4)
    under = disks[1]
    disks[1] = dm("weak", linear(under))
    array = Array.create(disks, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        shadow.close()
        array = array.reassemble()
        geometry = array.geometry()
        stripe = next(stripe for stripe in range(7, 20) if 1 in geometry.row(stripe).data)
        low = array.data_offset(disks[1]) // SECTOR
        bad = low + stripe * geometry.chunk + 16
        dm("weak", *refusing(under, bad, 2 * STRIP, "reads"))
        log = kernel.Log()
        shadow.reopen()
        at = geometry.array_sector(1, stripe * geometry.chunk) * SECTOR
        within(20, lambda: shadow.verify("what the others know", at, geometry.chunk * SECTOR))
        wait_for("bad blocks on record", lambda: array.member(disks[1], "bad_blocks") == f"{bad} {2 * STRIP}", 10)
        expect_match("the log", rf"read error NOT corrected!! \(sector {bad} on {name_of(disks[1])}\)", log.text())
        expect("corrected sectors", "0", array.member(disks[1], "errors"))
        # Until then md calls it faulty and blocked.
        wait_for("the superblock tells of them", lambda: "blocked" not in array.state(disks[1]), 10)
        expect("the member", {"in_sync", "want_replacement"}, array.state(disks[1]) | {"want_replacement"})
        # Also what is read through the cache is what was written, and so is what a write leaves.
        shadow.verify("again")
        shadow.write(at, pattern("new", geometry.chunk * SECTOR))
        shadow.verify("after a write there")
        shadow.close()
        dm("weak", linear(under))
        shadow.reopen()
        shadow.write(at, pattern("newer", geometry.chunk * SECTOR))
        wait_for("no bad block after a write that can be read", lambda: not array.member(disks[1], "bad_blocks"), 10)
        shadow.verify("in the end")
    array.expect_clean()


def waits(task):
    """Whether a task waits in the kernel, and is not to be interrupted, for some time."""
    for _ in range(30):
        with open(f"/proc/{task}/stat", encoding="ascii", errors="replace") as file:
            if file.read().rpartition(")")[2].split()[0] != "D":
                return False
        time.sleep(0.01)
    return True


def stopped_meanwhile(level, how):
    """A block that members cannot read has been computed for its reader, and is on its way to them again, when the array is stopped; mdadm waits
    for that. They refuse it, or cannot read it again: it is on their lists of bad blocks, and without lists they fail, as they do if they die.
    The array stops, and its superblocks tell of that."""
    not_for_c("has its thread wait for the superblock then, which nobody writes while md stops the array: neither ends (by reading)")
    disks = Disks(level - 1, 12, late=True)
    slots, members = range(1, level - 3), list(disks.paths)
    weak = {slot: disks.paths[slot] for slot in slots}
    for slot, path in weak.items():
        members[slot] = dm(f"weak{slot}", linear(path))
    array = Array.create(members, level=level, size=8)
    shadow = Shadow(array.path)
    shadow.fill()
    # Nothing of that is in memory then, and nothing has to be recorded.
    shadow.close()
    array.stop()
    array = Array.assemble(members, *(["--update=no-bbl"] if how == "no lists" else []))
    shadow.reopen()
    geometry = array.geometry()
    row = next(stripe for stripe in range(20, 40) if set(slots) <= set(geometry.row(stripe).data)) * geometry.chunk + 40
    bad = {slot: array.data_offset(members[slot]) // SECTOR + row for slot in slots}
    for slot, path in weak.items():
        dm(f"weak{slot}", *refusing(path, bad[slot], STRIP, "reads"))
    wait_for("the array is clean", lambda: array.get("array_state") == "clean", 20)

    def on_their_way():
        return [disks.state(path)["waiting"] for path in weak.values()]

    log = kernel.Log()
    for path in weak.values():
        disks.tell(path, "hold", 2)
    try:
        expect("writes on their way before", [0] * len(weak), on_their_way())
        # One block: the others of the row are read for it.
        shadow.verify("the block", geometry.array_sector(1, row) * SECTOR, STRIP * SECTOR)
        wait_for("it is written again, and so are those that could not be read for it", lambda: all(on_their_way()), 20)
        shadow.close()
        stopping = subprocess.Popen(["mdadm", "--stop", array.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("mdadm waits for that", lambda: waits(stopping.pid), 20)
        for slot, path in weak.items():
            if how == "dead":
                disks.tell(path, "dead", 1)
            elif how != "unreadable":
                disks.tell(path, "refuse", bad[slot], STRIP)
    finally:
        for path in weak.values():
            disks.tell(path, "hold", 0)
    expect("status of mdadm --stop", 0, within(20, stopping.wait))
    fails = how in ("no lists", "dead")
    for slot in slots if fails else ():
        expect_match("the log", rf"Disk failure on {name_of(members[slot])}, disabling device", log.text())
    for slot, path in weak.items():
        disks.heal(path)
        dm(f"weak{slot}", linear(path))
    wanted = "".join("." if fails and slot in slots else "A" for slot in range(len(members)))
    found = kernel.sh("mdadm", "--examine", members[0])[1]
    expect_match("what a superblock says of the members", rf"Array State : {re.escape(wanted)} ", found)
    array = Array.assemble([path for slot, path in enumerate(members) if wanted[slot] == "A"], "--run")
    shadow.reopen()
    if not fails:
        expect("bad blocks", [f"{bad[slot]} {STRIP}" for slot in slots], [array.member(members[slot], "bad_blocks") for slot in slots])
    shadow.verify("after stop and assembly")
    shadow.close()


def full_stripes(level):
    """A member refuses blocks while many full stripes are written at once: each of these is recorded as bad, and nobody gets what
    was there before. (The C module writes neighbours as one batch, and takes note of the first one's block alone.)"""
    disks = rams(level - 1)
    under = disks[1]
    disks[1] = dm("weak", linear(under))
    array = Array.create(disks, level=level, size=8)
    with Shadow(array.path) as shadow:
        shadow.fill()
        geometry = array.geometry()
        stripe = next(stripe for stripe in range(7, 20) if 1 in geometry.row(stripe).data)
        bad = array.data_offset(disks[1]) // SECTOR + stripe * geometry.chunk + 16
        dm("weak", *refusing(under, bad, 8 * STRIP))
        shadow.fill(seed=2)
        dm("weak", linear(under))
        shadow.verify("what was written")
        expect("bad blocks", f"{bad} {8 * STRIP}", array.member(disks[1], "bad_blocks"))


def unacknowledged(how):
    """Metadata that somebody outside of the kernel keeps: a write that finds a bad block ends only when that is
    acknowledged, by the list or by hand; reads of what was there before go on."""
    disks = rams(4)
    under = disks[1]
    disks[1] = dm("weak", linear(under))
    expect("start", "", rawmd.start(disks, metadata="external:test", state="external_bbl", size=8192))
    array = Array(disks, rawmd.NAME)
    geometry = array.geometry()
    array.set("safe_mode_delay", "0")
    with rawmd.Keeper(array), Shadow(array.path) as shadow:
        shadow.fill()
        row = 20 * geometry.chunk
        dm("weak", *refusing(under, row, geometry.chunk))
        at = geometry.array_sector(1, row) if 1 in geometry.row(20).data else geometry.array_sector(0, row)
        data = pattern("new", 4096)
        writer = threading.Thread(target=lambda: shadow.write(at * SECTOR, data), daemon=True)
        writer.start()
        wait_for("an unacknowledged bad block",
                 lambda: array.member(disks[1], "unacknowledged_bad_blocks") == f"{row} {STRIP}", 10)
        expect("the member is blocked", True, "blocked" in array.state(disks[1]))
        time.sleep(0.5)
        expect("the write waits", True, writer.is_alive())
        # Elsewhere nothing waits that does not touch a lost block.
        with Disk(array.path) as disk:
            there = (at + 40 * geometry.chunk) * SECTOR
            within(10, lambda: expect("a read", True, disk.read(there, 4096) == shadow.bytes[there:there + 4096]))
        array.set(f"dev-{name_of(disks[1])}/bad_blocks", f"{row} {STRIP}")
        if how == "unblocked":
            array.set(f"dev-{name_of(disks[1])}/state", "-blocked")
        writer.join(10 * kernel.patience())
        expect("the write waits after the acknowledgement", False, writer.is_alive())
        expect("unacknowledged bad blocks", "", array.member(disks[1], "unacknowledged_bad_blocks"))
        shadow.verify("after that")


def cleanup():
    """Takes everything down."""
    stop_all()
    Disks.remove()


if __name__ == "__main__":
    run([
        ("raid5: as many read errors as are allowed, and one more", lambda: allowed(5)),
        ("raid6: as many read errors as are allowed, and one more", lambda: allowed(6)),
        ("no read error is allowed", none_allowed),
        ("wrong checksums are not counted", wrong_checksums),
        ("read errors, where nobody has said how many are allowed", default),
        ("blocks that stay unreadable when they are written again", stays_unreadable),
        *[(f"raid{level}: a block that is being written again {title} while the array is stopped",
           lambda level=level, how=how: stopped_meanwhile(level, how))
          for level, how, title in ((5, "refused", "is refused"), (5, "no lists", "is refused by a member without a list"),
                                    (6, "dead", "meets the deaths of its members"), (6, "unreadable", "cannot be read again"))],
        ("raid5: full stripes with blocks that a member refuses", lambda: full_stripes(5)),
        ("raid6: full stripes with blocks that a member refuses", lambda: full_stripes(6)),
        ("bad blocks that wait to be acknowledged", lambda: unacknowledged("unblocked")),
        ("bad blocks that wait to be acknowledged, by the list alone", lambda: unacknowledged("list")),
    ], cleanup=cleanup)
