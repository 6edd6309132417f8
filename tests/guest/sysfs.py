#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=8 mem=1100 timeout=300
"""sysfs under both drivers: the same files with the same modes, values, ranges and errnos; the same queue limits."""

import errno
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import differences, drivers, expect_same, under_each
from disk import Shadow
from mapper import dm
from nullblk import nullb, remove_all
from raid import Array, rams, stop_all
from report import Failed, Skipped, expect, expect_range, note, run
import kernel

# What is stored into each attribute, one after the other; the value read afterwards is compared too.
NUMBERS = ("0", "1", "-1", "abc", "0x20", "1 2", "1x", "99999999999999999999")
STORES = {
    "stripe_cache_size": ("16", "17", "18", "256", "257", "1024", "32769", "300", *NUMBERS),
    "preread_bypass_threshold": ("256", "300", "301", "32768", "2", *NUMBERS),
    "group_thread_cnt": ("2", "8", "8193", "3", *NUMBERS, "0"),
    "skip_copy": ("2", "1", "1", *NUMBERS, "0"),
    "rmw_level": ("2", "3", "1", *NUMBERS, "1"),
    "stripe_size": ("4096", "8192", "512", "0", "abc"),
    "stripe_cache_active": ("0", "1"),
    "journal_mode": ("write-back", "write-through", "abc"),
    "ppl_write_hint": ("0", "1", "65536", "abc"),
    "consistency_policy": ("resync", "abc"),
    # These belong to md, which asks the driver.
    "layout": ("2", "6", "99", "-1", "abc"),
    "chunk_size": ("65536", "1000", "6144", "0", "abc"),
    "sync_action": ("abc", "check", "idle", "frozen", "idle"),
    "array_size": ("0", "abc", "1024", "99999999", "default"),
    "suspend_lo": ("0", "abc"),
    "suspend_hi": ("0", "abc"),
    "resync_start": ("abc",),
    "safe_mode_delay": ("0.5", "abc"),
}
# Their values change by themselves, or name the moment or the driver's own doings.
VOLATILE = {"uuid", "sync_speed", "sync_completed", "stripe_cache_active", "mismatch_cnt", "last_sync_action", "counters", "memory"}

# Files that the C module does not have: mode and content.
OURS = {
    "mismatch_method": ("0o644", "parity\n"), "mismatch_located": ("0o444", "0\n"), "mismatch_unlocated": ("0o444", "0\n"),
    "offload": ("0o644", "cpu\n"), "offload_min_bytes": ("0o644", "65536\n"), "offload_late_ms": ("0o644", "10000\n"),
    "offload_stats": ("0o444", "dma 0\ncpu 0\nredone 0\nlate 0\nfalse_alarms 0\ndropped 0\nquarantined 0\n"),
    # tests/guest/counters.py looks at its content.
    "counters": ("0o444", ""),
    # And memory_pressure.py at that one's.
    "memory": ("0o444", ""),
}

# Differences in queue limits that are wanted, with the reason.
NO_DISCARD = "nobody has said that discard is safe, so it is not offered"
EXPLAINED_LIMITS = {
    "discard_granularity": NO_DISCARD, "discard_max_bytes": NO_DISCARD, "discard_max_hw_bytes": NO_DISCARD,
    "discard_alignment": NO_DISCARD,
}


def files(folder):
    """{file's name: (mode, content or errno)} of a folder's files."""
    found = {}
    for name in sorted(os.listdir(folder)):
        path = f"{folder}/{name}"
        if os.path.isdir(path):
            continue
        mode = os.stat(path).st_mode & 0o777
        content = "(write only)"
        if mode & 0o444:
            try:
                with open(path, encoding="ascii", errors="replace") as file:
                    content = file.read()
            except OSError as problem:
                content = errno.errorcode[problem.errno]
        found[name] = (oct(mode), content)
    return found


def attributes(level):
    """Every file of the array's folder: name, mode, and the values that do not change by themselves."""
    def each(driver):
        array = Array.create(rams(4), level=level, size=2, chunk=64)
        found = {name: (mode, "" if name in VOLATILE else content) for name, (mode, content) in files(array.md).items()}
        for name, value in files(f"{array.md}/dev-ram0").items():
            found[f"dev-ram0/{name}"] = value
        array.stop()
        more = {name: found.pop(name, None) for name in OURS}
        expect(f"{driver}: what C does not have", OURS if driver == "rust" else dict.fromkeys(OURS), more)
        return found
    found = under_each(each)
    for name in STORES:
        expect(f"{name} is there", True, name in found[-1])
    expect_same("attributes", *found, drivers())


def stores(level):
    """Each attribute gets each value: errno and the value afterwards."""
    def each(_driver):
        array = Array.create(rams(4), level=level, size=2, chunk=64)
        found = {}
        for name, values in STORES.items():
            for turn, value in enumerate(values):
                if name == "preread_bypass_threshold" and turn == 0:
                    array.set("stripe_cache_size", "300")
                problem = array.try_set(name, value)
                if array.action() != "frozen":
                    array.wait_idle()
                after = array.get(name) if os.stat(f"{array.md}/{name}").st_mode & 0o444 else ""
                found[f"{name} < {value!r}, turn {turn}"] = (problem, "" if name in VOLATILE else after)
        array.stop()
        return found
    expect_same("results of stores", *under_each(each), drivers())


def largest():
    """The largest legal values are accepted, and the array works with them."""
    array = Array.create(rams(4), size=2, chunk=64)
    with Shadow(array.path) as shadow:
        for name, value in (("stripe_cache_size", "32768"), ("preread_bypass_threshold", "32768"),
                            ("preread_bypass_threshold", "1"), ("stripe_cache_size", "17")):
            expect(f"{name} < {value}", "", array.try_set(name, value))
            expect(name, value, array.get(name))
            shadow.fill(seed=int(value))
            shadow.random_writes(seed=1, count=20)
            shadow.verify()
    array.expect_clean()


def cache_in_use():
    """stripe_cache_active tells a number that the cache can hold, and none of it is held for ever."""
    array = Array.create(rams(4), size=2, chunk=64)
    with Shadow(array.path) as shadow:
        shadow.fill()
    expect_range("stripe_cache_active", 0, int(array.get("stripe_cache_size")), int(array.get("stripe_cache_active")))
    array.stop()


def two_members():
    """An array of two members, in which each block is there twice, takes no other chunk or layout while it runs. (The C module
    changes them at once, whatever is under way.)"""
    if kernel.driver() == "c":
        raise Skipped("the C module takes them")
    array = Array.create(rams(2), size=2, chunk=64)
    with Shadow(array.path) as shadow:
        shadow.fill()
        for name, value in (("chunk_size", "131072"), ("layout", "0"), ("layout", "4")):
            before = array.get(name)
            expect(f"{name} < {value}", "EINVAL", array.try_set(name, value))
            expect(name, before, array.get(name))
        shadow.random_writes(seed=1, count=20)
        shadow.verify()
        array.fail(rams(2)[0])
        shadow.verify("without a member")


def queue_of(array):
    """{file: (mode, content)} of the array's queue/."""
    return {f"queue/{name}": value for name, value in files(f"/sys/block/{array.name}/queue").items()}


def expect_same_limits(found):
    """Ends the case unless both drivers' are the same, but for those that are explained."""
    unexplained = []
    for line in differences(*found, drivers()):
        name = re.search(r"/(\w+): ", line).group(1)
        if name in EXPLAINED_LIMITS:
            note(f"{line}; wanted: {EXPLAINED_LIMITS[name]}")
        else:
            unexplained.append(line)
    if unexplained:
        raise Failed("limits differ without a reason:\n      " + "\n      ".join(unexplained[:40]))
    note(f"ok: {len(found[0])} values compared")


def unlike():
    """What members limit that are not like the others: everything in queue/."""
    members = rams(3)
    # Its blocks of 4 KiB do not begin where those of the disk do.
    part = f"0 {7 * 2048} linear {rams(1, 3)[0]} 1"
    kinds = {
        "sectors of 4 KiB": nullb("nullb0", 8, blocksize=4096),
        "a volatile cache that knows FUA": nullb("nullb1", 8, cache_size=1, fua=1),
        "a volatile cache that does not": nullb("nullb2", 8, cache_size=1),
        "a disk that turns": nullb("nullb3", 8, rotational=1),
        "64 KiB at a time": nullb("nullb4", 8, max_sectors=128),
        "a disk that discards": nullb("nullb5", 8, discard=1),
    }

    def each(_driver):
        found = {}
        for name, path in (*kinds.items(), ("a part that begins at sector 1", dm("part", part))):
            array = Array.create([*members, path], size=2, chunk=64)
            found.update({f"{name}: {file}": value for file, value in queue_of(array).items()})
            array.stop()
        return found

    found = under_each(each)
    expect_same_limits(found)
    # So that it is the members that say so.
    for name, file, wanted in (("sectors of 4 KiB", "logical_block_size", "4096"), ("a disk that turns", "rotational", "1")):
        expect(f"{file} with {name}", wanted, found[-1][f"{name}: queue/{file}"][1].strip())


def limits():
    """Everything in queue/, for several shapes and under a bitmap, and what lies beside it."""
    shapes = [(3, {"chunk": 64}), (6, {"chunk": 512}), (4, {"chunk": 4, "level": 4}), (5, {"chunk": 1024}),
              (4, {"chunk": 64, "bitmap": "internal"}), (6, {"chunk": 64, "level": 6}),
              (5, {"chunk": 4, "level": 6, "layout": "left-symmetric-6"})]

    def each(_driver):
        found = {}
        for members, shape in shapes:
            array = Array.create(rams(members), size=2, **shape)
            for folder in ("queue", "queue/iosched", "."):
                path = f"/sys/block/{array.name}/{folder}"
                if not os.path.isdir(path):
                    continue
                for name, value in files(path).items():
                    if name not in ("stat", "inflight", "diskseq", "uevent", "dev"):
                        found[f"{members} members {shape}: {folder}/{name}"] = value
            array.stop()
        return found

    found = under_each(each)
    expect_same_limits(found)
    queue = {name.rsplit("/", 1)[1]: value[1].strip() for name, value in found[-1].items()
             if name.startswith("6 members {'chunk': 512}") and "queue/" in name}
    expect("minimum_io_size (a chunk)", str(512 * 1024), queue["minimum_io_size"])
    expect("optimal_io_size (a stripe's data)", str(5 * 512 * 1024), queue["optimal_io_size"])
    expect("fua", "1", queue["fua"])
    expect("write_cache", "write back", queue["write_cache"])


def readonly_array():
    """Attributes of an array that is read-only: what may be stored."""
    def each(_driver):
        array = Array.create(rams(4), size=2, chunk=64)
        array.set("array_state", "readonly")
        found = {}
        for name, value in (("stripe_cache_size", "512"), ("group_thread_cnt", "2"), ("skip_copy", "1"),
                            ("rmw_level", "0"), ("preread_bypass_threshold", "2"), ("sync_action", "check")):
            found[name] = (array.try_set(name, value), array.get(name))
        array.set("array_state", "active")
        array.wait_idle()
        array.stop()
        return found
    expect_same("results of stores", *under_each(each), drivers())


def status_line():
    """/proc/mdstat, whole, degraded and by level."""
    def each(_driver):
        found = {}
        for shape in ({"level": 5}, {"level": 5, "layout": "parity-first", "chunk": 4}, {"level": 4}, {"level": 6},
                      {"level": 6, "layout": "ddf-zero-restart"}):
            array = Array.create(rams(4), size=2, **shape)
            found[f"{shape} whole"] = array.mdstat()
            for lost in rams(4)[1:max(shape["level"], 5) - 3]:
                array.fail(lost)
            found[f"{shape} degraded"] = array.mdstat()
            array.stop()
            stop_all()
        return found
    found = under_each(each)
    for line in found[-1]["{'level': 5} degraded"].strip().splitlines():
        note(line)
    expect_same("mdstat", *found, drivers())


def cleanup():
    """Takes everything down."""
    stop_all()
    remove_all()


if __name__ == "__main__":
    run([
        ("attributes", lambda: attributes(5)),
        ("attributes, raid6", lambda: attributes(6)),
        ("stores", lambda: stores(5)),
        ("stores, raid6", lambda: stores(6)),
        ("the largest values", largest),
        ("the cache in use", cache_in_use),
        ("two members", two_members),
        ("queue limits", limits),
        ("queue limits of members that differ", unlike),
        ("a read-only array", readonly_array),
        ("mdstat", status_line),
    ], cleanup=cleanup)
