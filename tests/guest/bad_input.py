#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=5 disk-size=8 timeout=300
"""Bad input is refused with a message in the log and the errno of the kernel's own driver, and nothing is lost."""

import errno
import fcntl
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import expect_same, drivers, under_each
from disk import Disk, Shadow, pattern
from mapper import dm
from raid import Array, rams, restore, snapshot, stop_all
from report import Failed, Skipped, expect, expect_match, note, run
import kernel
import rawmd

# <linux/raid/md_u.h>
SET_BITMAP_FILE = 0x4004092b
OURS = re.compile(r"md/raid\S*?:\S+: .*|md: .*|md9: .*")


def hashes(paths):
    """A digest of all bytes of each device."""
    found = {}
    for path in paths:
        with Disk(path) as disk:
            found[path] = disk.hash()
    return found


def outcome(action):
    """(errno's name, the lines about it in the log) of an attempt to start an array, which is taken down again."""
    log = kernel.Log()
    try:
        problem = action()
        return problem, OURS.findall(log.text())
    finally:
        rawmd.clear()


def refused_alike(attempts, refused):
    """Makes each attempt under both drivers: the errno must be the same, and where it must be refused there must be a
    line in the log and no member may have changed."""
    disks = rams(4)

    def each(driver):
        found = {}
        for name, action in attempts.items():
            before = hashes(disks)
            problem, lines = outcome(action)
            found[name] = problem or "starts"
            if name in refused:
                if not problem:
                    raise Failed(f"{name} under {driver}: expected a refusal, but it starts")
                if not any("md/raid" in line for line in lines):
                    raise Failed(f"{name} under {driver}: expected a line of the driver in the log, came {lines}")
                if hashes(disks) != before:
                    raise Failed(f"{name} under {driver}: the members changed")
                note(f"{driver}: {name}: {problem}: {[line for line in lines if 'md/raid' in line][-1]}")
            elif problem:
                raise Failed(f"{name} under {driver}: expected it to start, came {problem}: {lines}")
        return found

    expect_same("errnos", *under_each(each), drivers())


def chunk_sizes():
    """A chunk must be a power of two of at least a page."""
    disks = rams(3)
    bad = (0, 512, 2048, 3 * 4096, 65536 + 512)
    good = (4096, 1 << 20)
    attempts = {f"chunk of {chunk} bytes": lambda chunk=chunk: rawmd.start(disks, chunk=chunk) for chunk in bad + good}
    refused_alike(attempts, {f"chunk of {chunk} bytes" for chunk in bad})


def layouts():
    """Only layouts 0 to 5 are known on level 5; level 4 has no layouts and ignores the number."""
    disks = rams(4)
    bad = (6, 8, 16, 99)
    attempts = {f"level 5 layout {layout}": lambda layout=layout: rawmd.start(disks, layout=layout)
                for layout in bad + (0, 5)}
    attempts["level 4 layout 2"] = lambda: rawmd.start(disks, level=4, layout=2)
    refused_alike(attempts, {f"level 5 layout {layout}" for layout in bad})


def layouts6():
    """Level 6 knows 0 to 5, DDF's 8 to 10, and 16 to 20."""
    disks = rams(4)
    good = (0, 8, 20)
    bad = (6, 7, 11, 15, 21, 22, 99)
    attempts = {f"level 6 layout {layout}": lambda layout=layout: rawmd.start(disks, level=6, layout=layout)
                for layout in bad + good}
    refused_alike(attempts, {f"level 6 layout {layout}" for layout in bad})


def too_few6():
    """Level 6 has at least four members, and starts without two of them, not without three."""
    disks = rams(4)
    attempts = {
        "an array of 3 members": lambda: rawmd.start(disks[:3], level=6),
        "an array of 2 members": lambda: rawmd.start(disks[:2], level=6),
        "1 of 4 members": lambda: rawmd.start(disks[:1], level=6, raid_disks=4),
        "2 of 4 members": lambda: rawmd.start(disks[:2], level=6, raid_disks=4, slots=[1, 3]),
        "3 of 4 members": lambda: rawmd.start(disks[:3], level=6, raid_disks=4),
        "4 of 7 members": lambda: rawmd.start(disks, level=6, raid_disks=7, slots=[0, 2, 3, 6]),
    }
    refused_alike(attempts, {"an array of 3 members", "an array of 2 members", "1 of 4 members", "4 of 7 members"})


def too_few():
    """More members missing than parity can replace."""
    disks = rams(4)
    attempts = {
        "2 of 4 members": lambda: rawmd.start(disks[:2], raid_disks=4, slots=[0, 2]),
        "1 of 4 members": lambda: rawmd.start(disks[:1], raid_disks=4),
        "3 of 4 members": lambda: rawmd.start(disks[:3], raid_disks=4),
        "2 of 4 members, level 4": lambda: rawmd.start(disks[:2], level=4, layout=0, raid_disks=4),
        "2 of 2 members": lambda: rawmd.start(disks[:2]),
    }
    refused_alike(attempts, {name for name in attempts if name[0] < "3" and "of 4" in name})


def single_member():
    """An array of one member has no place for parity."""
    if kernel.driver() == "c":
        raise Skipped("the C module does not look")
    problem, lines = outcome(lambda: rawmd.start(rams(1)))
    expect("level 5 with one member", "EINVAL", problem)
    expect_match("the log", r"md/raid", "\n".join(lines))


def too_wide():
    """More members than Q has coefficients for. The C module takes them, and runs into a BUG at the first write; here most
    are missing, so it does not come to that."""
    if kernel.driver() == "c":
        raise Skipped("the C module does not look")
    for level in (6, 5):
        problem, lines = outcome(lambda level=level: rawmd.start(rams(4), level=level, raid_disks=256))
        expect(f"level {level} with 256 members", "EINVAL", problem)
        expect_match("the log", r"md/raid\S*: 256 members .*255", "\n".join(lines))
        problem, lines = outcome(lambda level=level: rawmd.start(rams(4), level=level, raid_disks=255))
        expect(f"level {level} with 255 members, most of them missing", "EIO", problem)


def duplicate_slot():
    """Two members say that they have the same place."""
    disks = rams(4)
    attempts = {"slot 1 twice": lambda: rawmd.start(disks, slots=[0, 1, 1, 3])}

    def each(driver):
        before = hashes(disks)
        problem, lines = outcome(attempts["slot 1 twice"])
        expect(f"{driver}: members unchanged", before, hashes(disks))
        note(f"{driver}: slot 1 twice: {problem}: {lines[-1:]}")
        if driver == "rust" and not any("md/raid" in line for line in lines):
            raise Failed(f"slot 1 twice: expected a line of the driver in the log, came {lines}")
        return {"slot 1 twice": problem}

    same = under_each(each)
    expect("refused", True, same[0]["slot 1 twice"] != "")
    expect_same("errnos", *same, drivers())


def edited(edits):
    """Makes an array, edits its members' superblocks, lets the kernel try, and shows that nothing is lost."""
    disks = rams(4)

    def each(driver):
        array = Array.create(disks, size=2)
        with Shadow(array.path) as shadow:
            shadow.fill()
            shadow.close()
            array.stop()
            images = snapshot(disks)
            found = {}
            for name, edit in edits.items():
                restore(images)
                edit(disks)
                before = hashes(disks)
                problem, lines = outcome(lambda: rawmd.assemble(disks))
                found[name] = problem or "starts"
                note(f"{driver}: {name}: {problem or 'starts'}: {[line for line in lines if 'md/raid' in line][-1:]}")
                if problem:
                    expect(f"{driver}: {name}: members unchanged", before, hashes(disks))
                    if driver == "rust" and "new_dev" not in problem and not any("md/raid" in x for x in lines):
                        raise Failed(f"{name}: expected a line of the driver in the log, came {lines}")
            restore(images)
            array = Array.assemble(disks)
            shadow.reopen()
            shadow.verify(f"{driver}: with the right superblocks again")
            array.expect_clean()
            shadow.close()
            array.stop()
        return found

    return under_each(each)


def all_members(**values):
    """An edit of every member's superblock."""
    def edit(disks):
        for path in disks:
            rawmd.edit_superblock(path, **values)
    return edit


def one_member(index, **values):
    """An edit of one member's superblock."""
    return lambda disks: rawmd.edit_superblock(disks[index], **values)


def superblocks():
    """Superblocks that ask for what cannot be."""
    edits = {
        "unknown layout": all_members(layout=99),
        "chunk of 3 sectors": all_members(chunksize=3),
        "chunk of 4 sectors": all_members(chunksize=4),
        "chunk of 192 sectors": all_members(chunksize=192),
        "more members than there are": all_members(raid_disks=9),
        "member smaller than its superblock says": one_member(1, data_size=1 << 40),
        "two members in one slot": one_member(2, role=1),
    }
    found = edited(edits)
    for name in edits:
        expect(f"{name}: refused", True, found[0][name] != "starts" and found[-1][name] != "starts")
    expect_same("errnos", *found, drivers())


def unsupported():
    """Features that the driver does not have: it must not start, for it would start wrongly. Of a logical block that is larger than a page md core tells
    as the members' limits are stacked, which the C module does not listen to: where the kernel has huge pages it starts."""
    if "rust" not in drivers():
        raise Skipped("the C module has these features")
    reshape = {"feature_map": rawmd.FEATURE_RESHAPE_ACTIVE, "reshape_position": 3 * 128 * 4, "new_level": 5,
               "new_layout": 2, "new_chunk": 128}
    edits = {
        "a journal": all_members(feature_map=rawmd.FEATURE_JOURNAL),
        "PPL": all_members(feature_map=rawmd.FEATURE_PPL),
        "several PPLs": all_members(feature_map=rawmd.FEATURE_MULTIPLE_PPLS),
        "a reshape that adds a member": all_members(raid_disks=4, delta_disks=1, **reshape),
        "a reshape to another layout": all_members(delta_disks=0, **{**reshape, "new_layout": 0}),
        "a reshape to another chunk": all_members(delta_disks=0, **{**reshape, "new_chunk": 256}),
        "a logical block of 8 KiB": all_members(logical_block_size=8192),
    }
    names, found = drivers(), edited(edits)
    ours = found[names.index("rust")]
    for name in edits:
        expect(f"rust: {name}: refused", True, ours[name] != "starts")


def large_block():
    """A logical block of 8 KiB, where the kernel takes some that are larger than a page; the C module starts there."""
    names = drivers()
    if "rust" not in names:
        raise Skipped("the C module does not listen to md core about it")
    found = edited({"8 KiB": all_members(logical_block_size=8192)})
    expect("rust: errno", "EINVAL", found[names.index("rust")]["8 KiB"])


def dirty_and_degraded():
    """An array that was not stopped cleanly and lacks a member starts only by force."""
    disks = rams(4)

    def each(driver):
        array = Array.create(disks, size=2)
        array.set("safe_mode_delay", "600")
        with Shadow(array.path) as shadow:
            shadow.fill()
            images = snapshot(disks)
            shadow.close()
            array.stop()
            restore(images)
            before = hashes(disks)
            problem, lines = outcome(lambda: rawmd.assemble(disks[:3]))
            expect_match(f"{driver}: the log", r"md/raid:md9: cannot start dirty degraded array", "\n".join(lines))
            expect(f"{driver}: members unchanged", before, hashes(disks))
            status = kernel.sh("mdadm", "--assemble", "/dev/md0", "--run", *disks[:3], check=False)[0]
            expect(f"{driver}: mdadm --run fails", True, status != 0)
            kernel.sh("mdadm", "--stop", "/dev/md0", check=False)
            array = Array.assemble(disks[:3], "--force")
            shadow.reopen()
            shadow.verify(f"{driver}: started by force")
            shadow.close()
            array.stop()
        return {"dirty and degraded": problem}

    expect_same("errnos", *under_each(each), drivers())


def bitmap_in_a_file():
    """A bitmap in a file: md core takes one only for an array that has a bitmap, and then says that there is one."""
    disks = rams(4)

    def asked(array):
        with open(array.path, "rb") as device, open("/tmp/bitmap", "w+b") as file:
            file.truncate(1 << 20)
            try:
                fcntl.ioctl(device, SET_BITMAP_FILE, file.fileno())
            except OSError as problem:
                return errno.errorcode[problem.errno]
        return "taken"

    def each(_):
        found = {}
        for bitmap in ("none", "internal"):
            array = Array.create(disks, size=2, bitmap=bitmap)
            found[f"bitmap={bitmap}"] = asked(array)
            array.stop()
        return found

    first, *others = under_each(each)
    expect("refused", False, "taken" in first.values())
    expect_same("errnos", first, *others, drivers())


def smaller_member():
    """A member on a device that became smaller."""
    disks = rams(4)

    def each(driver):
        array = Array.create(disks, size=4)
        array.stop()
        small = dm("small", f"0 {6 * 2048} linear {disks[3]} 0")
        problem, _ = outcome(lambda: rawmd.assemble(disks[:3] + [small]))
        status = kernel.sh("mdadm", "--assemble", "/dev/md0", *disks[:3], small, check=False)[0]
        kernel.sh("mdadm", "--stop", "/dev/md0", check=False)
        kernel.sh("dmsetup", "remove", "small")
        array = Array.assemble(disks)
        array.expect_clean()
        array.stop()
        return {"kernel": problem, "mdadm": status}

    found = under_each(each)
    expect("the kernel refuses it", True, found[-1]["kernel"] != "")
    expect_same("errnos", *found, drivers())


def beyond_the_end():
    """Reads and writes at and across the end of the array."""
    def attempt(action):
        try:
            return action()
        except OSError as problem:
            return errno.errorcode[problem.errno]

    def each(driver):
        kernel.say(driver)
        array = Array.create(rams(3), size=2)
        with Disk(array.path) as disk:
            end = disk.size
            before = disk.hash()
            found = {
                "size": end,
                "read at the end": attempt(lambda: len(disk.read(end, 4096))),
                "read across the end": attempt(lambda: len(disk.read(end - 512, 4096))),
                "read far beyond": attempt(lambda: len(disk.read(end + (1 << 40), 4096))),
                "write at the end": attempt(lambda: disk.write(end, pattern(1, 4096))),
                "write far beyond": attempt(lambda: disk.write(end + (1 << 40), pattern(1, 4096))),
                "unaligned write": attempt(lambda: os.pwrite(disk.fileno(), b"x" * 100, 0)),
            }
            expect(f"{driver}: content unchanged", before, disk.hash())
        array.expect_clean()
        array.stop()
        return found

    found = under_each(each)
    for name, came in found[-1].items():
        note(f"{name}: {came}")
    expect_same("results", *found, drivers())


if __name__ == "__main__":
    run([
        ("chunk sizes", chunk_sizes),
        ("layouts", layouts),
        ("layouts of level 6", layouts6),
        ("too few members", too_few),
        ("too few members at level 6", too_few6),
        ("an array of one member", single_member),
        ("an array of 256 members", too_wide),
        ("two members in one slot", duplicate_slot),
        ("superblocks that ask for what cannot be", superblocks),
        ("features that are not supported", unsupported),
        ("dirty and degraded", dirty_and_degraded),
        ("a bitmap in a file", bitmap_in_a_file),
        ("a member on a smaller device", smaller_member),
        ("I/O beyond the end", beyond_the_end),
    ], cleanup=lambda: (rawmd.clear(), stop_all()))
