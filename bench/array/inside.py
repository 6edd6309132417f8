#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""In a guest: measure rows under both drivers alternately; a line of JSON for each measurement."""

import argparse
import itertools
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, f"{HERE}/../../tests/lib"]

import generator  # noqa: E402
import nullblk  # noqa: E402
import rows as table  # noqa: E402
from kernel import sh, use_driver  # noqa: E402
from raid import Array, rams, stop_all  # noqa: E402

TUNED = {"stripe_cache_size": 4096, "skip_copy": 0, "group_thread_cnt": 0}


class Bench:
    """The members of one stand, filled once; arrays over them under one driver after the other."""

    def __init__(self, stand, size):
        self.stand, self.size = stand, size
        if stand.kind == "ram":
            self.members = rams(stand.members)
        else:
            self.members = [nullblk.nullb(f"bench{n}", size, submit_queues=os.cpu_count(), irqmode=2, completion_nsec=20000,
                                          hw_queue_depth=512) for n in range(stand.members)]
        use_driver("c")
        array = Array.create(self.members, level=stand.level, chunk=stand.chunk, size=size - 8,
                             bitmap="internal" if stand.bitmap else "none", wait=False)
        array.wait_synced()
        generator.load(array.path, f"rw=write bs=1m depth=16 ios={array.size() >> 20}")
        array.stop()
        self.present = [m for n, m in enumerate(self.members) if not 1 <= n <= stand.lost]

    def assemble(self, driver):
        use_driver(driver)
        return Array.assemble(self.present, "--run", "--force")

    def close(self):
        stop_all()
        if self.stand.kind == "null":
            nullblk.remove_all()


def tune(array, settings):
    for name, value in settings.items():
        array.set(name, value)


def measure(array, row, seconds, seed):
    """Other addresses each time: C finds in its cache what it wrote before."""
    return generator.load(array.path, f"{row.load} seconds={seconds} seed={seed}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rows", default="", metavar="REGEX")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", default="0.7")
    p.add_argument("--size", type=int, default=96, help="MiB of each member")
    p.add_argument("--out", default="/dev/stdout")
    a = p.parse_args()
    chosen = [row for row in table.rows() if re.search(a.rows, row.name)]
    with open("/proc/sys/dev/raid/speed_limit_max", "w", encoding="ascii") as file:
        file.write("2000000")
    sh("modprobe", "raid0", check=False)
    with open(a.out, "a", encoding="utf-8") as out:
        for stand, group in itertools.groupby(chosen, key=lambda row: row.stand):
            group = list(group)
            bench = Bench(stand, a.size)
            for turn in range(a.rounds):
                for driver in ("rust", "c") if turn % 2 == 0 else ("c", "rust"):
                    array = bench.assemble(driver)
                    if driver == "c":
                        tune(array, TUNED)
                    for number, row in enumerate(group):
                        got = measure(array, row, a.seconds, turn * 1000 + number)
                        print(json.dumps({"row": row.name, "round": turn, "contender": driver, **got}), file=out, flush=True)
                    array.stop()
            bench.close()


if __name__ == "__main__":
    main()
