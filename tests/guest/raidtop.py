#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=uml disks=7 disk-size=40 cpus=2 timeout=120
"""scripts/raidtop: what it shows after I/O that is known, of an array that lacks a member, and of a resync."""

import os
import pty
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from disk import Disk
from kernel import SLOW, driver, sh
from raid import Array, rams, stop_all
from report import Skipped, expect, expect_match, expect_range, note, run, wait_for

KIB = 1024
RAIDTOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "raidtop")


def raidtop(*words):
    """Its output."""
    text = sh(RAIDTOP, *words)[1]
    for line in text.splitlines():
        note(f"| {line}")
    return text


def need_time():
    """Skips what is about seconds where a program takes more of them to begin."""
    if SLOW > 1:
        raise Skipped("on this kernel programs take longer to begin than what is to be shown")


def fresh():
    """Six members, nothing in memory, nothing counted."""
    return Array.create(rams(6), size=32, chunk=64).reassemble()


def totals():
    """Numbers since the array was started: full strips, single blocks twice, direct reads."""
    array = fresh()
    with Disk(array.path) as disk:
        for row in range(4):
            disk.write(row * 5 * 64 * KIB, os.urandom(5 * 64 * KIB))
        for row in range(40, 56):
            disk.write(row * 5 * 64 * KIB, os.urandom(4 * KIB))
            disk.write(row * 5 * 64 * KIB, os.urandom(4 * KIB))
    text = raidtop("md0", "--total")
    expect_match("the array", r"^md0, raid5, 6 members, chunk 64 KiB, (active|clean)", text)
    # 64 full strips, 32 by RMW.
    expect_match("strips", r"strips written +96 +\[F{16}m{8}\]  full 67 %, RMW 33 %, RCW 0 %", text)
    expect_match("blocks in memory: the second half", r"blocks needed +64 +\[H{12}m{12}\]  in memory 50 %, read 50 %", text)
    expect_match("writes and their bytes", r"writes +\d+ +1\.4MB", text)
    expect_match("bios that spans read by, and their bytes", r"spans read +32 +131kB", text)
    array = array.reassemble()
    with Disk(array.path) as disk:
        for at in range(200):
            disk.read(at * 4 * KIB, 4 * KIB)
    text = raidtop("md0", "--total")
    expect_match("reads of an array assembled anew, all of them direct", r"reads +2\d\d +\S+B  (100|9\d) % direct", text)
    expect_match("no strips", r"strips written +0 +\[\.{24}\]", text)


def picture(process):
    """The next picture that it prints."""
    text = ""
    for line in process.stdout:
        if line.startswith("-----"):
            break
        note(f"| {line.rstrip()}")
        text += line
    return text


def rates():
    """Numbers of each second: 300 writes within an interval of four seconds, or more where this machine wakes nobody in time."""
    need_time()
    array = fresh()
    with subprocess.Popen([RAIDTOP, "md0", "--batch", "--interval", "4"], stdout=subprocess.PIPE, text=True) as process:
        try:
            # It has just looked: the next one is about what comes now.
            picture(process)
            with Disk(array.path) as disk:
                for at in range(300):
                    # Each in another row.
                    disk.write(at * 5 * 64 * KIB, bytes(4 * KIB))
            text = picture(process)
        finally:
            process.terminate()
    found = re.search(r"^writes +([\d.]+)/s +([\d.]+)kB/s", text, re.M)
    expect("there is a line of writes", True, found is not None)
    writes, kilobytes = (float(figure) for figure in found.groups())
    expect_range("writes each second, of 75", 30, 75, writes)
    expect_range("kB each second, of writes of 4 KiB", writes * 4, writes * 4.2, kilobytes)
    expect_match("strips each second", r"strips written +[\d.]+/s +\[m{24}\]  full 0 %, RMW 100 %", text)


def degraded():
    """A member is missing, another one is faulty."""
    array = Array.create(rams(6), level=6, size=32, chunk=64)
    array.fail(array.slots()[2])
    # md lets it go by itself.
    wait_for("the slot of the faulty one is empty", lambda: array.member("/dev/ram2", "slot") == "none", 10)
    array.fail(array.slots()[3])
    array.remove("/dev/ram3")
    text = raidtop("--once", "--interval", "0.1")
    expect_match("that it lacks them", r"^md0, raid6.* 2 OF THEM MISSING", text)
    expect_match("the faulty one", r"(?m)^- +ram2 +faulty", text)
    expect("members that are listed", 5, len(re.findall(r"^\S+ +ram\d", text, re.M)))


def resync():
    """How far a check has come, how fast it is, and when it ends."""
    need_time()
    array = fresh()

    def come():
        """Per cent, as sysfs tells; 0 where there is no check."""
        done = array.get("sync_completed").split(" / ")[0]
        return 100 * int(done) / 65536 if done.isdigit() else 0

    array.set("sync_speed_min", 1000)
    array.set("sync_speed_max", 2048)
    array.set("sync_action", "check")
    before = wait_for("a tenth of the check", lambda: come() > 10 and come(), 30)
    text = raidtop("--once", "--interval", "1")
    after = come()
    array.set("sync_speed_max", 200000)
    array.wait_idle()
    found = re.search(r"^check +([\d.]+) %  \[(#+)\.+\]  ([\d.]+)([kM])B/s of each member, 0:(\d\d) left", text, re.M)
    expect("there is a line of the check's progress", True, found is not None)
    share = float(found.group(1))
    expect_range("per cent, between what sysfs told before and afterwards", before - 0.1, after + 0.1, share)
    expect_range("marks of 24", share * 0.24 - 1, share * 0.24 + 1, len(found.group(2)))
    speed = float(found.group(3)) * {"k": 0.001, "M": 1}[found.group(4)]
    left = (100 - share) / 100 * 32 * 1.048576 / speed
    expect_range("seconds that are left, by share and speed", left - 2, left + 2, int(found.group(5)))


def terminal():
    """On a terminal: the picture is drawn, keys are understood, and it ends properly."""
    array = fresh()
    controller, terminal_end = pty.openpty()
    process = subprocess.Popen([RAIDTOP, "--interval", "0.3"], stdin=terminal_end, stdout=terminal_end, stderr=terminal_end,
                               env={**os.environ, "TERM": "vt100", "LINES": "24", "COLUMNS": "100"})
    os.close(terminal_end)
    drawn = b""
    end = time.monotonic() + 30 * SLOW
    while time.monotonic() < end and b"spans at work" not in drawn:
        drawn += os.read(controller, 4096)
    for key in (b" ", b" ", b"+", b"-", b"n", b"q"):
        os.write(controller, key)
    expect("status after q", 0, process.wait(30 * SLOW))
    os.close(controller)
    expect("the array's line was drawn", True, b"raid5, 6 members" in drawn)
    expect("the line of keys was drawn", True, b"q quit" in drawn)
    array.stop()


def other_driver():
    """Nothing is there that could be shown, and an array without counters."""
    status, text = sh(RAIDTOP, "--once", check=False)
    expect("status without an array", 1, status)
    expect_match("the reason", r"no running array of level 4, 5 or 6", text)
    status, text = sh(RAIDTOP, "md7", check=False)
    expect("status for an array that is not there", 1, status)
    if driver() == "rust":
        sh("use-driver", "c")
    array = fresh()
    text = raidtop("--once", "--interval", "0.1")
    expect_match("the array under the kernel's own driver", r"^md0, raid5", text)
    expect_match("a member", r"(?m)^0 +ram0 +in_sync", text)
    array.stop()
    sh("use-driver", "rust")


if __name__ == "__main__":
    run([
        ("numbers since the start", totals),
        ("numbers of each second", rates),
        ("members missing", degraded),
        ("progress of a check", resync),
        ("on a terminal", terminal),
        ("no array, and the other driver", other_driver),
    ], cleanup=stop_all)
