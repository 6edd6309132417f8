#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""In a guest: measures rows under both drivers alternately. A line of JSON for each measurement, as they come."""

import argparse
import itertools
import json
import os
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, f"{HERE}/../../tests/lib"]

import generator
import rows as table
import stands
from kernel import modprobe
from raid import speed_limit
from stands import Members, tune

DEFAULT = {"group_thread_cnt": 0, "stripe_cache_size": 256, "skip_copy": 0}
TUNED = {**DEFAULT, "stripe_cache_size": 4096}
# What is kept of a measurement.
KEPT = ("iops", "mb_per_s", "cpu_ns_per_io", "mean_ns", "p50_ns", "p99_ns", "p999_ns", "p9999_ns", "rebuild_mb_per_s",
        "member_reads_per_mib", "bytes_of_one", "bytes_of_sixteen")


class Run:
    """One run of the benchmark: what was asked for, and where the results go."""

    def __init__(self, a):
        self.a = a
        self.out = open(a.out, "a", encoding="utf-8")
        self.began = time.monotonic()

    def say(self, text):
        """A line for the one who waits."""
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", flush=True)

    def record(self, row, contender, turn, got, settings=None):
        """Writes a measurement."""
        line = {"row": row.name, "contender": contender, "round": turn, **{name: got[name] for name in KEPT if name in got}}
        if settings:
            line["settings"] = settings
        print(json.dumps(line), file=self.out, flush=True)

    # One measurement

    def measure(self, row, array, members, seed, seconds=None):
        """The row's load on an array; other addresses each time, since C finds in its cache what it wrote before."""
        seconds = seconds or self.a.seconds
        if row.how == "sync":
            return stands.sync(array, row.load)
        if row.how == "rebuild":
            return stands.rebuild_beside(array, row.load)
        if row.how == "memory":
            return stands.memory(array)
        if row.how == "fio":
            return stands.fio(array.path, row.load, seconds)
        if row.stand.kind != "delay":
            # Caches and pools fill before the time counts.
            generator.load(array.path, f"{row.load} seconds={seconds / 6:.3f} seed={seed + 500}")
            return generator.load(array.path, f"{row.load} seconds={seconds:.3f} seed={seed}")
        # Each row has a place of its own, so that no block is in memory since another row, or since the first few writes; nor is any
        # since the contender before, who wrote there too.
        cache = array.get("stripe_cache_size")
        for size in (17, cache):
            array.set("stripe_cache_size", size)
        room, tail = array.size() // sum(one.stand == row.stand for one in table.rows()) >> 20, 8
        place = seed % 1000 * room
        generator.load(array.path, f"{row.load} offset={place + room - tail}m size={tail}m seconds={seconds / 6:.3f} seed={seed}")
        before = stands.reads_of(members.present)
        got = generator.load(array.path,
                             f"{row.load} offset={place}m size={room - tail}m seconds={max(seconds, 0.5):.3f} seed={seed}")
        written = got["mb_per_s"] * 1e6 * got["elapsed_ns"] / 1e9 / (1 << 20)
        return {**got, "member_reads_per_mib": (stands.reads_of(members.present) - before) / max(written, 1e-9)}

    # C's settings

    def best_settings(self, row, array, members):
        """C's best settings for a row, tried one after the other: cache, threads, copies."""
        how = ("load",) if self.a.quick else ("load", "fio", "sync", "rebuild")
        if self.a.fixed or row.group != "table" or row.how not in how or row.stand.kind == "delay" or row.metrics[0] == "mean_us":
            return dict(TUNED)
        tried = {}

        def speed(settings):
            key = tuple(settings.items())
            if key not in tried:
                tune(array, settings)
                tried[key] = self.measure(row, array, members, 77 + len(tried), self.a.sweep)[row.metrics[0]]
            return tried[key]

        best = dict(TUNED)
        choices = [("stripe_cache_size", (4096, 256, 16384)), ("group_thread_cnt", (0, 1, 2, 4))]
        if row.writes:
            choices.append(("skip_copy", (0, 1)))
        if self.a.quick:
            choices = [("group_thread_cnt", (0, 2))]
        for name, values in choices:
            best = max(({**best, name: value} for value in values), key=speed)
        return best

    # A stand

    def drivers(self, group):
        """What is assembled in each round, with the contenders that are measured on it: (name, row -> settings or None)."""
        def skipping(row):
            large_writes = row.writes and row.how == "load" and row.metrics[0] == "mb_per_s"
            return {"skip_copy": 1} if row.parity and large_writes and not self.a.quick else None

        def threads(row):
            small_writes = row.writes and row.how == "load" and row.metrics[0] == "iops"
            wanted = small_writes and row.group == "table" and not self.a.quick
            return {"skip_copy": 0, "group_thread_cnt": 1} if wanted else None

        plain = {"skip_copy": 0, "group_thread_cnt": 0}
        ours = [("rust", lambda row: plain), ("rust-skip-copy", skipping), ("rust-threads", threads)]
        theirs = [("c", lambda row: self.best[row.name]),
                  ("c-default", lambda row: DEFAULT if row.how != "memory" and row.group == "table" else None)]
        found = [("rust", ours), ("c", theirs)]
        if group[0].stand.level == 6 and any(row.parity for row in group):
            found.append(("rust-kernel", [("rust-kernel", lambda row: plain if row.parity else None)]))
        return [(driver, [c for c in contenders if re.search(self.a.contenders, c[0])]) for driver, contenders in found
                if any(re.search(self.a.contenders, c[0]) for c in contenders)]

    def stand(self, stand, group):
        """All rounds of the rows of a stand."""
        size = self.size(stand)
        ceiling = any(row.ceiling for row in group) and re.search(self.a.contenders, "ceiling")
        self.say(f"{stand.name()}: {len(group)} rows, members of {size} MiB")
        members = Members(stand, size, ceiling)
        drivers = self.drivers(group)
        self.best = {}
        if any(driver == "c" for driver, _ in drivers):
            array = members.assemble("c")
            for row in group:
                self.best[row.name] = self.best_settings(row, array, members)
            array.stop()
            if not self.a.fixed:
                self.say("C's settings chosen")
        for turn in range(self.a.rounds):
            for driver, contenders in drivers if turn % 2 == 0 else reversed(drivers):
                array = members.assemble(driver)
                for number, row in enumerate(group):
                    for contender, settings_of in contenders:
                        settings = settings_of(row)
                        if settings is not None:
                            tune(array, settings)
                            got = self.measure(row, array, members, turn * 1000 + number)
                            self.record(row, contender, turn, got, settings)
                array.stop()
            for number, row in enumerate(group if ceiling else ()):
                if row.ceiling:
                    for contender, (path, used) in members.beside.items():
                        if row.how == "sync" and contender != "raw":
                            continue
                        words = f"{row.ceiling_load} size={used}m seconds={self.a.seconds:.3f} seed={turn * 1000 + number}"
                        got = (stands.fio(path, row.load, self.a.seconds, used) if row.how == "fio" else
                               generator.load(path, words))
                        self.record(row, contender, turn, got)
        members.free()

    def size(self, stand):
        """MiB of each member: C's largest stripe cache has to be a small part of it."""
        if stand.kind != "ram":
            return min(self.a.size, 128)
        return max(64, min(self.a.size, 6 * self.a.size // stand.members))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", default="", metavar="REGEX", help="rows whose name has a match")
    p.add_argument("--contenders", default="", metavar="REGEX",
                   help="of rust, rust-skip-copy, rust-threads, rust-kernel, c, c-default, ceiling")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.7, help="of each measurement")
    p.add_argument("--sweep", type=float, default=0.3, help="seconds for each of C's settings that is tried")
    p.add_argument("--fixed", action="store_true", help="C's settings are not tried out: stripe_cache_size=4096")
    p.add_argument("--quick", action="store_true", help="only the rows that say most, fewer of C's settings tried")
    p.add_argument("--size", type=int, default=96, help="MiB of each of six RAM disks as members")
    p.add_argument("--out", required=True)
    a = p.parse_args()
    chosen = [row for row in table.rows() if re.search(a.rows, row.name) and (row.quick or not a.quick)]
    if not chosen:
        sys.exit(f"no row's name matches {a.rows!r}")
    generator.ready()
    for module in ("md_mod", "raid0"):
        modprobe(module)
    speed_limit()
    run = Run(a)
    for stand, group in itertools.groupby(chosen, key=lambda row: row.stand):
        run.stand(stand, list(group))
    run.say("done")


if __name__ == "__main__":
    main()
