#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""In a guest with ten RAM disks: what each setting changes, as a Markdown table. Documentation/tuning.md tells what they are.

The values of a setting are measured in turn, in several rounds, on the same array; figures are medians with the least and the
most. Run by hand:

    scripts/build-module uml && scripts/build-load uml
    scripts/guest --driver none --disks 10 --disk-size 128 --mem 3000 -- bench/array/settings.py [REGEX]
"""

import argparse
import os
import re
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, f"{HERE}/../../tests/lib"]

import generator
import stands
from kernel import insert_module, use_driver
from raid import Array, speed_limit, rams, stop_all
from report import Failed

SIZE = 112
SMALL = "rw=randwrite bs=4k depth=64"
LARGE = "rw=write bs=1m depth=16"
# How the figures are shown.
UNITS = {"iops": (1000, "k/s"), "mb_per_s": (1000, "GB/s"), "mean_us": (1, "µs")}


def loaded(engine=""):
    """Our module, with a parity engine."""
    use_driver("none")
    problem = insert_module("/raid456/raid456.ko", f"parity_engine={engine}" if engine else "")
    if problem:
        raise Failed(f"raid456.ko with parity_engine={engine}: {problem}")


def stored(name):
    """A setting's value is stored in its file."""
    return lambda array, value: array.set(name, value)


def load(words):
    """A load, and what is told of it."""
    def run(array, seed, seconds):
        generator.load(array.path, f"{words} seconds={seconds / 5:.3f} seed={seed + 500}")
        got = generator.load(array.path, f"{words} seconds={seconds:.3f} seed={seed}")
        return {**got, "mean_us": got["mean_ns"] / 1000}
    return run


def check(array, _seed, _seconds):
    """A check of all the array."""
    return stands.sync(array, "check")


def bitmap(array, value):
    """The array gets another bitmap."""
    array.wait_idle()
    words = ["--bitmap=none"] if value == "none" else ["--bitmap=internal", f"--bitmap-chunk={value}"]
    if array.get("bitmap/location") != "none":
        stands.sh("mdadm", "--grow", array.path, "--bitmap=none")
    if value != "none":
        stands.sh("mdadm", "--grow", array.path, *words)


class Case:
    """A setting, its values, and what is measured: run(array, seed, seconds) gives the metrics. `level` and more words make
    the array. Values of `engine` are those of a load of the module."""

    def __init__(self, setting, values, what, run, metrics, level=5, apply=None, **words):
        self.setting, self.values, self.what, self.run, self.metrics = setting, values, what, run, metrics
        self.level, self.apply, self.words = level, apply or stored(setting), words


ENGINES = ("scalar", "kernel", "avx2", "gfni256", "avx512", "gfni512")
CASES = [
    Case("stripe_cache_size", (64, 256, 1024, 4096), "4 KiB random writes within 8 MiB", load(f"{SMALL} size=8m"), ("iops",)),
    Case("stripe_cache_size", (64, 256, 1024, 4096), "4 KiB random writes all over", load(SMALL), ("iops",)),
    Case("stripe_cache_size", (64, 256, 1024, 4096), "1 MiB sequential writes", load(LARGE), ("mb_per_s",)),
    Case("group_thread_cnt", (0, 1, 2), "4 KiB random writes, one submitter", load(SMALL), ("iops", "mean_us")),
    Case("group_thread_cnt", (0, 1, 2), "4 KiB random writes, two submitters", load(f"{SMALL} jobs=2"), ("iops",)),
    Case("group_thread_cnt", (0, 1, 2), "1 MiB sequential writes", load(LARGE), ("mb_per_s",)),
    Case("skip_copy", (0, 1), "1 MiB sequential writes", load(LARGE), ("mb_per_s",)),
    Case("rmw_level", (0, 1, 2), "level 5: 4 KiB random writes", load(SMALL), ("iops",)),
    Case("rmw_level", (0, 1, 2), "level 6: 4 KiB random writes", load(SMALL), ("iops",), level=6),
    Case("preread_bypass_threshold", (0, 1, 256), "4 KiB random writes", load(SMALL), ("iops",)),
    Case("mismatch_method", ("parity", "locate", "locate-check"), "level 6: a check, of each member", check, ("mb_per_s",), level=6),
    Case("parity_engine", ENGINES, "level 6: 1 MiB sequential writes", load(LARGE), ("mb_per_s",), level=6),
    Case("parity_engine", ENGINES, "level 6: 4 KiB random writes", load(SMALL), ("iops",), level=6),
    Case("bitmap chunk", ("none", "64K", "1M", "16M"), "4 KiB random writes, 16 in flight", load("rw=randwrite bs=4k depth=16"),
         ("iops",), apply=bitmap),
]


def shown(values, metric):
    """A figure for the table."""
    factor, unit = UNITS[metric]
    figures = [value / factor for value in (statistics.median(values), min(values), max(values))]
    places = 0 if figures[0] >= 100 else 1 if figures[0] >= 10 else 2
    return "**{:.{p}f}** ({:.{p}f}–{:.{p}f}) {}".format(*figures, unit, p=places)


def measure(case, rounds, seconds):
    """{value: [metrics of each round]}"""
    got = {}
    engines = case.setting == "parity_engine"
    loaded()
    members = rams(6)
    array = Array.create(members, level=case.level, size=SIZE, chunk=64, **case.words)
    generator.load(array.path, f"rw=write bs=1m depth=4 ios={array.size() >> 20}")
    for turn in range(rounds):
        for number, value in enumerate(case.values):
            if engines:
                array.stop()
                try:
                    loaded(value)
                except Failed:
                    # This CPU has it not.
                    loaded()
                    array = Array.assemble(members)
                    continue
                array = Array.assemble(members)
            else:
                case.apply(array, value)
            got.setdefault(value, []).append(case.run(array, turn * 100 + number, seconds))
    stop_all()
    speed_limit()
    return got


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("pattern", nargs="?", default="", help="of the settings' names")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.5)
    a = p.parse_args()
    generator.ready()
    # With the modules that ours needs.
    use_driver("rust")
    speed_limit()
    print("| setting | of | values: medians (least–most) |\n|---|---|---|", flush=True)
    for case in CASES:
        if not re.search(a.pattern, f"{case.setting}: {case.what}"):
            continue
        began = time.monotonic()
        got = measure(case, a.rounds, a.seconds)
        told = "; ".join(f"{value}: " + ", ".join(shown([one[metric] for one in runs], metric) for metric in case.metrics)
                         for value, runs in got.items())
        print(f"| `{case.setting}` | {case.what} | {told} |", flush=True)
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
