#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# guest: kernels=debian more=debug disks=5 disk-size=24 cpus=3 mem=1200 debug.mem=1900 timeout=400 debug.timeout=900
"""CPUs that go and come back while an array is at work: lanes, counters of each CPU, and those who wait go on."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from load import Load
from raid import Array, rams, stop_all
from report import Failed, Skipped, expect, note, run
import kernel

SECONDS = 12


def online(number, on):
    """Switches a CPU on or off."""
    with open(f"/sys/devices/system/cpu/cpu{number}/online", "w", encoding="ascii") as file:
        file.write(str(int(on)))


def others():
    """CPUs that can be switched off."""
    found = [number for number in range(1, 8) if os.path.exists(f"/sys/devices/system/cpu/cpu{number}/online")]
    if not found:
        raise Skipped("no CPU of this machine can be switched off")
    return found


def under_load(level):
    """CPUs are switched off and on, also all but one, under a load that verifies what it wrote, a changing number of lanes,
    a member that is lost and one that is rebuilt."""
    cpus = others()
    disks, spare = rams(4), rams(1, 4)[0]
    array = Array.create(disks, level=level, size=8, bitmap="internal")
    words = {"seconds": SECONDS, "jobs": 2, "depth": 16, "largest": "64k"}
    load = Load(array.path, array.size(), **words)
    turns, stop, trouble = [], threading.Event(), []

    def switch():
        try:
            while not stop.is_set():
                for on in (0, 1):
                    for number in cpus:
                        online(number, on)
                        stop.wait(0.1)
                turns.append(1)
        except OSError as problem:
            trouble.append(problem)
        finally:
            for number in cpus:
                online(number, 1)
    switching = threading.Thread(target=switch)
    switching.start()
    try:
        for lanes in (2, 0, 3, 1):
            array.set("group_thread_cnt", lanes)
        array.fail(disks[1])
        array.remove(disks[1])
        array.add(spare)
        array.set("group_thread_cnt", 2)
        array.wait_rebuilt(SECONDS * 5)
        load.finish(SECONDS * 5)
        while len(turns) < 2 and not trouble:
            # On a slow machine that is not enough for two turns.
            Load(array.path, array.size(), **words).finish(SECONDS * 5)
    finally:
        stop.set()
        switching.join()
    if trouble:
        raise Failed(f"a CPU could not be switched: {trouble[0]}")
    note(f"{len(cpus)} CPUs were switched off and on {len(turns)} times")
    array.expect_clean()
    expect("lanes", "2", array.get("group_thread_cnt"))
    uncounted(array, cpus)


def uncounted(array, cpus):
    """What CPUs have counted that are off now is counted still: who stops an array waits until no request is under way."""
    try:
        for number in cpus:
            online(number, 0)
        array.stop()
    finally:
        for number in cpus:
            online(number, 1)


def start_and_stop():
    """An array that was started with all CPUs is stopped with one, and the other way round."""
    cpus = others()
    disks = rams(4)
    array = Array.create(disks, size=8)
    try:
        for on in (0, 1):
            for number in cpus:
                online(number, on)
            array.expect_clean()
            array.stop()
            array = Array.assemble(disks)
            array.set("group_thread_cnt", 2)
            array.expect_clean()
    finally:
        for number in cpus:
            online(number, 1)


if __name__ == "__main__":
    levels = (5, 6) if kernel.flavour() == "debian" else (6,)
    run([
        *[(f"raid{level}: under load", lambda level=level: under_load(level)) for level in levels],
        ("started with some, stopped with others", start_and_stop),
    ], cleanup=stop_all)
