#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=12 timeout=300
"""What people and programs look for in the kernel's log, in /proc/mdstat and among the threads: what happens to an array is
told in the same words, as important, under both drivers. Each case makes the same things happen under each of them and
compares the lines about the array.
"""

import os
import re
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import drivers, under_each
from disk import Disk, SECTOR, Shadow, errno_of, pattern
from mapper import dm, dusty, linear, refusing
from raid import Array, rams, restore, snapshot, speed_limit, stop_all
from report import Failed, expect, note, run, wait_for
import kernel
import rawmd


def lines(log):
    """The lines about an array that the personality wrote: (how important, words), each once."""
    found = set()
    for level, line in log.lines():
        if re.search(r"md/raid|mismatch sector", line):
            found.add((level, line))
    return found


def words(found):
    """Lines for people."""
    return "".join(f"\n        <{level}> {line}" for level, line in sorted(found)) or " none"


def compare(body, expected):
    """Has `body(log)` happen under each driver; the lines are the same, and those that are `expected` (regular expressions) are
    among them."""
    def each(_):
        log = kernel.Log()
        try:
            told = body(log) or {}
        finally:
            stop_all()
        return lines(log), told

    names, (one, two) = drivers(), under_each(each)
    only = one[0] - two[0], two[0] - one[0]
    if any(only):
        raise Failed(f"lines that only {names[0]} has:{words(only[0])}\n      only {names[1]}:{words(only[1])}\n      both:{words(one[0] & two[0])}")
    for pattern_ in expected:
        if not any(re.search(pattern_, line) for _, line in one[0]):
            raise Failed(f"expected a line with /{pattern_}/, came:{words(one[0])}")
    expect("what is told elsewhere", one[1], two[1])
    note(f"ok: {len(one[0])} lines are the same:{words(one[0])}")


def status(array):
    """What mdstat says of an array and its members, without how far a sync is."""
    return re.sub(r"\n +\[.*\n", "\n", array.mdstat())


def members(level):
    """As many RAM disks as there are in these arrays."""
    return rams(level - 1)


def life(level):
    """Made, stopped, assembled with all and without a member; not stopped cleanly; with too few, refused; by force."""
    disks = members(level)

    def body(log):
        told = {}
        array = Array.create(disks, level=level, size=4)
        told["whole"] = status(array)
        told["thread"] = os.path.basename(array.path) + f"_raid{level}" in threads()
        with Disk(array.path) as disk:
            disk.write(0, pattern("x", 65536))
        array = array.reassemble()
        array.set("safe_mode_delay", "600")
        with Disk(array.path) as disk:
            disk.write(0, pattern("y", 65536))
            images = snapshot(disks)
        array.stop()
        without = disks[:-1]
        told["without one"] = status(Array.assemble(without, "--run"))
        Array([], "md0").stop()
        restore(images)
        # Dirty, and one too few for parity to be made right.
        told["dirty and degraded"] = rawmd.assemble(without[:3])
        rawmd.clear()
        told["too few"] = rawmd.assemble(disks[:2 if level == 5 else 1])
        rawmd.clear()
        log.text()
        restore(images)
        told["by force"] = status(Array.assemble(without[:3], "--force", "--run"))
        Array([], "md0").stop()
        restore(images)
        array = Array.assemble(disks)
        array.wait_synced()
        return told

    compare(body, [f"raid level {level} active with {level - 1} out of {level - 1} devices, algorithm 2", "not clean -- starting background",
                   "cannot start dirty degraded array", "not enough operational devices", "failed to run raid set", "operational as raid disk 0"])


def threads():
    """Names of the kernel's threads."""
    found = set()
    for number in os.listdir("/proc"):
        if number.isdigit():
            try:
                with open(f"/proc/{number}/comm", encoding="ascii", errors="replace") as file:
                    found.add(file.read().strip())
            except OSError:
                pass
    return found


def forced_parameter():
    """A dirty and degraded array that the administrator's parameter has start."""
    disks = rams(4)
    setting = "/sys/module/md_mod/parameters/start_dirty_degraded"

    def body(log):
        array = Array.create(disks, size=2)
        array.set("safe_mode_delay", "600")
        with Disk(array.path) as disk:
            disk.write(0, pattern("y", 65536))
            images = snapshot(disks)
        array.stop()
        restore(images)
        with open(setting, "w", encoding="ascii") as file:
            file.write("1")
        try:
            problem = rawmd.assemble(disks[:3])
        finally:
            with open(setting, "w", encoding="ascii") as file:
                file.write("0")
        rawmd.clear()
        log.text()
        return {"start": problem}

    compare(body, ["starting dirty degraded array - data corruption possible"])


def refused():
    """Shapes that no array has."""
    disks = rams(4)
    shapes = {"layout 9": {"layout": 9}, "3 members at level 6": {"level": 6, "raid_disks": 3}, "a chunk of 3 KiB": {"chunk": 3072}}

    def body(_):
        told = {}
        for name, shape in shapes.items():
            told[name] = rawmd.start(disks[:shape.get("raid_disks", 4)], **shape)
            rawmd.clear()
        return told

    compare(body, ["layout 9 not supported", r"not enough configured devices \(3, minimum 4\)", "invalid chunk size 3072"])


def failures(level):
    """Members are failed, one after the other, until nothing goes on."""
    disks = members(level)

    def body(_):
        array, told = Array.create(disks, level=level, size=4), {}
        for number in range(level - 3):
            array.fail(disks[number], anyway=True)
            told[f"{number + 1} failed"] = status(array)
        return told

    compare(body, ["Disk failure on ram0, disabling device", "Operation continuing on", r"Cannot continue operation \(\d/\d failed\)"])


def mended(level):
    """A sector that cannot be read is mended: in a read, and in a check."""
    def body(log):
        disks = members(level)
        dust, = dusty(disks, [1])
        array = Array.create(disks, level=level, size=4)
        geometry = array.geometry()
        low = array.data_offset(dust.path) // SECTOR
        with Shadow(array.path) as shadow:
            shadow.fill()
            row = next(stripe for stripe in range(20) if 1 in geometry.row(stripe).data) * geometry.chunk + 40
            dust.spoil(low + row + 1)
            at = geometry.array_sector(1, row)
            expect("what is read", True, shadow.disk.read(at * SECTOR, 4096) == shadow.bytes[at * SECTOR:at * SECTOR + 4096])
            wait_for("the log", lambda: "read error corrected" in log.text(), 10)
            dust.spoil(low + 50 * geometry.chunk + 8)
        array = array.reassemble()
        expect("mismatch_cnt", 0, array.scan())
        wait_for("the log", lambda: log.text().count("read error corrected") == 2, 10)

    compare(body, [r"read error corrected \(8 sectors at \d+ on dm-\d+\)$"])


def stays(log, action, words_):
    """Does something that under C does not end until the medium is good again: waits for the words, and makes it good."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    wait_for(f"{words_!r} in the log", lambda: words_ in log.text(), 20)
    return thread


def not_correctable(level):
    """A sector that cannot be read when parity has nothing left to give."""
    def body(log):
        disks = members(level)
        dust, = dusty(disks, [1])
        array = Array.create(disks, level=level, size=4)
        geometry = array.geometry()
        with Shadow(array.path) as shadow:
            shadow.fill()
        for slot in (0, 2)[:level - 4]:
            array.fail(disks[slot])
        array = array.reassemble("--run")
        row = next(stripe for stripe in range(20) if 1 in geometry.row(stripe).data) * geometry.chunk + 40
        dust.spoil(array.data_offset(dust.path) // SECTOR + row)
        at = geometry.array_sector(1, row)
        with Disk(array.path) as disk:
            thread = stays(log, lambda: errno_of(lambda: disk.read(at * SECTOR, 4096)), "read error not correctable")
            # C reads it over and over again.
            dust.message("disable")
            thread.join(20 * kernel.patience())
            expect("the read hangs", False, thread.is_alive())

    compare(body, [r"read error not correctable \(sector \d+ on dm-\d+\)"])


def not_corrected(level):
    """A sector that cannot be read after it was written again, either."""
    def body(log):
        disks = members(level)
        ram = disks[1]
        disks[1] = dm("tired", linear(ram))
        array = Array.create(disks, level=level, size=4)
        geometry = array.geometry()
        with Shadow(array.path) as shadow:
            shadow.fill()
        array = array.reassemble()
        row = next(stripe for stripe in range(20) if 1 in geometry.row(stripe).data) * geometry.chunk + 40
        dm("tired", *refusing(ram, array.data_offset(disks[1]) // SECTOR + row, 8, "reads"))
        at = geometry.array_sector(1, row)
        with Disk(array.path) as disk:
            expect("the read", "", errno_of(lambda: disk.read(at * SECTOR, 4096)))
        wait_for("the log", lambda: "NOT corrected" in log.text(), 10)

    compare(body, [r"read error NOT corrected!! \(sector \d+ on dm-\d+\)"])


def too_many_errors(level):
    """A member that cannot be read at all. What comes of it differs: the C module (since 7.0) takes note of bad blocks until a
    list is full, so only what is said of the errors is compared."""
    def each(_):
        log = kernel.Log()
        disks = members(level)
        ram = disks[1]
        disks[1] = dm("tired", linear(ram))
        array = Array.create(disks, level=level, size=4)
        with Shadow(array.path) as shadow:
            shadow.fill()
        array = array.reassemble()
        # As many errors in a row are forgiven as there are strips in the cache.
        array.set("stripe_cache_size", 17)
        low = array.data_offset(disks[1]) // SECTOR
        dm("tired", *refusing(ram, low, 2048, "reads"))
        with Disk(array.path) as disk:
            thread = stays(log, lambda: errno_of(lambda: disk.read(0, 1 << 20)), "Too many read errors")
            # C reads it over and over again.
            dm("tired", linear(ram))
            thread.join(20 * kernel.patience())
            expect("the read hangs", False, thread.is_alive())
        stop_all()
        said = [(important, line) for important, line in log.lines() if re.search(r"read_errors >|Too many read errors", line)]
        counts = re.findall(r"(\d+) read_errors >", "\n".join(line for _, line in said))
        expect("all of these errors are more than are forgiven", True, all(int(count) > 17 for count in counts))
        # The C module lets its cache grow.
        return {(important, re.sub(r"\d+ read_errors > \d+", "N read_errors > N", line)) for important, line in said}

    names, (one, two) = drivers(), under_each(each)
    if one != two:
        raise Failed(f"of read errors {names[0]} says:{words(one)}\n      {names[1]}:{words(two)}")
    expect("lines", 2, len(one))
    note(f"ok: they are the same:{words(one)}")


def mismatches(level):
    """A check finds parity that is wrong."""
    disks = members(level)

    def body(_):
        array, told = Array.create(disks, level=level, size=4), {}
        with Shadow(array.path) as shadow:
            shadow.fill()
        array = array.reassemble()
        array.damage(array.geometry().parity_slot(3), 3 * array.geometry().chunk + 16)
        told["check"] = array.scan()
        told["repair"] = array.scan("repair")
        told["check again"] = array.scan()
        return told

    compare(body, [r"^md0: mismatch sector in range \d+-\d+$"])


def replacement():
    """A device that is to replace a member, and holds a part of it, cannot be read there."""
    def body(log):
        disks, spare = rams(4), rams(1, 5)
        dust, = dusty(spare, [0])
        array = Array.create(disks, size=4)
        with Shadow(array.path) as shadow:
            shadow.fill()
            kernel.sh("mdadm", "--quiet", array.path, "--add-spare", spare[0])
            array.set("sync_max", 4096)
            array.members.append(spare[0])
            kernel.sh("mdadm", "--quiet", array.path, "--replace", disks[1], "--with", spare[0])
            wait_for("a half copied", lambda: array.get("sync_completed").startswith("4096 /") and
                     int(array.member(spare[0], "recovery_start")) >= 2048, 20)
            geometry = array.geometry()
            row = next(stripe for stripe in range(4) if 1 in geometry.row(stripe).data) * geometry.chunk + 40
            dust.spoil(array.data_offset(spare[0]) // SECTOR + row)
            at = geometry.array_sector(1, row)
            stays(log, lambda: shadow.disk.read(at * SECTOR, 4096), "read error on replacement device").join(20 * kernel.patience())

    compare(body, [r"read error on replacement device \(sector \d+ on dm-\d+\)"])


if __name__ == "__main__":
    speed_limit()
    run([
        ("raid6: made, stopped, assembled, refused", lambda: life(6)),
        ("raid5: dirty and degraded, as the administrator says", forced_parameter),
        ("shapes that no array has", refused),
        *((f"raid{level}: {title}", lambda body=body, level=level: body(level)) for title, level, body in (
            ("members fail", 6, failures), ("a sector is mended", 6, mended), ("a sector is lost", 5, not_correctable),
            ("a sector stays unreadable", 5, not_corrected), ("mismatches", 5, mismatches), ("mismatches", 6, mismatches))),
        ("raid6: too many read errors", lambda: too_many_errors(6)),
        ("raid5: a replacement that cannot be read", replacement),
    ], cleanup=stop_all)
