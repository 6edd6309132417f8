#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=4 disk-size=8 timeout=300
"""Every writable file in an array's folder in sysfs, in its members' and in its bitmap's, of both kinds, gets values that mean something and
values that do not, under both drivers: the same errno, and the same value afterwards, but for differences that are explained here. ALL=1
has levels 4 and 6, too."""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from compare import differences, drivers, under_each
from disk import Disk, errno_of, pattern
from md_llbitmap import lockless
from raid import Array, rams, stop_all
from report import Failed, expect, note, run, wait_for, within

VALUES = ("0", "1", "2", "-1", "8", "4096", "none", "abc", "", " ", "0x10", "1 2", "99999999999999999999", "1" * 300)
# Beside those: what some files know; of array_state's nothing that stops the array.
WORDS = {
    "array_state": ("active", "clean", "readonly", "read-auto", "active", "bogus"),
    "sync_action": ("check", "repair", "idle", "frozen", "idle", "resync", "recover", "idle"),
    "consistency_policy": ("bitmap", "journal", "ppl", "unknown"),
    "level": ("raid5", "raid6", "raid4", "linear", "bogus"),
    "layout": ("3", "5", "16"),
    "state": ("writemostly", "-writemostly", "failfast", "-failfast", "blocked", "-blocked", "write_error", "-write_error",
              "external_bbl", "re-add", "remove", "insync"),
    "slot": ("none", "0", "9"),
    "metadata_version": ("1.2", "external:x"),
    "bad_blocks": ("8 8", "0 0", "9999999 8"),
    # There is a bitmap from the second one on; or it has gone by then.
    "bitmap/location": ("none", "+8", "none", "-8", "16", "file:/tmp/bitmap"),
    "bitmap/metadata": ("internal", "external", "clustered"),
    "bitmap/can_clear": ("true", "false"),
    "bitmap/time_base": ("0.1", "5"),
    # Last what lets the syncs end soon that proactive_sync asks for.
    "llbitmap/daemon_sleep": ("+3", "1"),
    "llbitmap/barrier_idle": ("+3", "0"),
}
# Of an array's folder: its own files, a member's, and the bitmap's, of which there is one where there is no bitmap.
FOLDERS = ("", "dev-ram1/", "bitmap/")
# What md does with these is not the driver's doing.
LEFT = {"new_dev": "names another device"}
# Their values change by themselves.
VOLATILE = {"sync_speed", "sync_completed", "stripe_cache_active", "mismatch_cnt", "last_sync_action", "sync_action",
            "array_state", "resync_start", "reshape_position"}
# Files that only this driver has.
OURS = re.compile(r"mismatch_(method|located|unlocated)|counters?|memory|offload(_min_bytes|_late_ms|_stats)?|parity_engine")
# Differences that are wanted: what begins the line of one, and why.
EXPLAINED = [
    (r"(level|raid_disks|layout|chunk_size|new_level) <", "a reshape or takeover would follow, which this driver refuses"),
    (r"(consistency_policy|journal_mode|ppl_write_hint) <", "journal and PPL are refused"),
]


def writable(folder):
    """Names of the files there that can be written."""
    return sorted(name for name in os.listdir(folder)
                  if os.path.isfile(f"{folder}/{name}") and os.stat(f"{folder}/{name}").st_mode & 0o200 and name not in LEFT)


def whole(level, bitmap):
    """A new array, in sync, but with a lockless bitmap, with which parity is made later."""
    if bitmap == "lockless":
        return lockless(rams(4), level, size=2)
    array = Array.create(rams(4), level=level, size=2, chunk=64, bitmap=bitmap)
    if bitmap == "internal":
        # The daemon, which changes can_clear, does not come.
        array.set("bitmap/time_base", 600)
    return array


def state_of(array, number):
    """The state of the task of this number, a letter, if it is the array's own thread."""
    try:
        with open(f"/proc/{number}/stat", encoding="ascii", errors="replace") as file:
            name, _, rest = file.read().rpartition(")")
    except OSError:
        return ""
    return rest.split()[0] if f"({array.name}_raid" in name else ""


# The number of the thread that was found last: to look through all of /proc for each store takes long.
_own = {}


def has_looked(array):
    """Whether md has looked if there is something to sync: its thread has, which then marks a sync as running, and a work item that takes the
    mark back. Until then some files are busy, and md calls itself idle."""
    state = state_of(array, _own.get("thread"))
    if not state:
        # Each array has another one, and gets one with another level.
        _own["thread"] = next((number for number in os.listdir("/proc") if number.isdigit() and state_of(array, number)), None)
        state = state_of(array, _own["thread"])
    return state in ("S", "I", "") and array.get("sync_completed") == "none"


def used(array, turn):
    """How a write ends after a store, its errno or ""; what was written is read."""
    data = pattern(turn, 4096)
    with Disk(array.path) as disk:
        place = turn * 81920 % (disk.size - 4096)
        problem = within(60, lambda: errno_of(lambda: disk.write(place, data)))
        return problem or ("" if disk.read(place, 4096) == data else "other data")


def every(level, bitmap, folders, writes):
    """{(file, value): (errno, value afterwards)} of all files in these folders of an array's. writes: with the end of a write after each store,
    and what a check finds."""
    array = whole(level, bitmap)
    names = [f"{folder}{name}" for folder in folders for name in writable(f"{array.md}/{folder}")]
    found = {}
    for name in names:
        short = name.rsplit("/", 1)[-1]
        if OURS.fullmatch(short):
            continue
        # The array's own level comes first, which changes nothing: after the others it has another one under C.
        words = sorted(WORDS.get(name, WORDS.get(short, ())), key=lambda word: name == "level" and word != f"raid{level}")
        for turn, value in enumerate((*VALUES, *words)):
            wait_for("md has looked for something to sync", lambda array=array: has_looked(array), 60)
            problem = within(60, lambda name=name, value=value: array.try_set(name, value))
            if array.action() != "frozen":
                array.wait_idle()
            after = ""
            if short not in VOLATILE and os.path.exists(f"{array.md}/{name}") and os.stat(f"{array.md}/{name}").st_mode & 0o400:
                try:
                    after = array.get(name)
                except OSError as error:
                    after = str(error.errno)
            found[f"{name} < {value[:24]!r}"] = (problem, after, used(array, turn) if writes else "")
        array.try_set("sync_action", "idle")
        if writes:
            found[f"{name}, in the end"] = (array.scan(),)
        # What one file did is not there for the next one. (What these do is there on purpose; and such an array takes long to make.)
        if bitmap != "lockless":
            array.stop()
            stop_all()
            array = whole(level, bitmap)
    array.stop()
    return found


def both(level, bitmap="none", folders=FOLDERS, least=300, writes=False):
    """The differences that nobody explains are none; and none of those that are explained is something taken here, and refused by
    the C module. least: of so many stores."""
    found, names = under_each(lambda _driver: every(level, bitmap, folders, writes)), drivers()
    expect("files and values tried", True, len(found[0]) > least)
    unexplained = []
    for line in differences(*found, names):
        reason = next((why for pattern, why in EXPLAINED if re.match(pattern, line)), None)
        ends = {name: results.get(line.partition(": ")[0], ("",))[0] for name, results in zip(names, found)}
        if reason and (ends.get("rust", "refused") or not ends.get("c")):
            note(f"{line}; wanted: {reason}")
        else:
            unexplained.append(line)
    if unexplained:
        raise Failed("stores differ without a reason:\n      " + "\n      ".join(unexplained[:60]))
    note(f"ok: {len(found[0])} stores compared")


if __name__ == "__main__":
    run([
        *[(f"every file, raid{level}", lambda level=level: both(level)) for level in ((4, 5, 6) if os.environ.get("ALL") else (5,))],
        # No others: with a bitmap md core sets bits for ever when bitmap_set_bits gets a number that is far too large. The files are md core's; a driver's
        # part is that it writes, whatever has become of the bitmap.
        ("the bitmap's files, raid5", lambda: both(5, "internal", ("bitmap/",), 100, writes=True)),
        ("the lockless bitmap's files, raid5", lambda: both(5, "lockless", ("llbitmap/",), 40)),
    ], cleanup=stop_all)
