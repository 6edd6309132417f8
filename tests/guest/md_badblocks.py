#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=12 timeout=120
"""How many read errors a member is allowed, blocks that stay unreadable when they are written again, and bad blocks that
whoever keeps the metadata has not acknowledged. What else there is about bad blocks: member_errors.py, unreadable.py."""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk, SECTOR, Shadow, pattern
from mapper import Dust, dm, linear, refusing
from raid import Array, name_of, rams, stop_all
from report import Skipped, expect, expect_match, expect_no_match, run, wait_for, within
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
        writer.join(10)
        expect("the write waits after the acknowledgement", False, writer.is_alive())
        expect("unacknowledged bad blocks", "", array.member(disks[1], "unacknowledged_bad_blocks"))
        shadow.verify("after that")


if __name__ == "__main__":
    run([
        ("raid5: as many read errors as are allowed, and one more", lambda: allowed(5)),
        ("raid6: as many read errors as are allowed, and one more", lambda: allowed(6)),
        ("no read error is allowed", none_allowed),
        ("read errors, where nobody has said how many are allowed", default),
        ("blocks that stay unreadable when they are written again", stays_unreadable),
        ("raid5: full stripes with blocks that a member refuses", lambda: full_stripes(5)),
        ("raid6: full stripes with blocks that a member refuses", lambda: full_stripes(6)),
        ("bad blocks that wait to be acknowledged", lambda: unacknowledged("unblocked")),
        ("bad blocks that wait to be acknowledged, by the list alone", lambda: unacknowledged("list")),
    ], cleanup=stop_all)
