#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""In a guest whose time is counted in instructions (scripts/guest --icount): instructions per I/O of both drivers.

Prints a line of JSON for each row and contender. The difference of a run of 2 N I/Os and one of N leaves out what a run
costs by itself. What an idle processor waits is no instruction and does not count.
"""

import argparse
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, f"{HERE}/../../tests/lib"]

import generator  # noqa: E402
from kernel import use_driver  # noqa: E402
from raid import Array, rams, stop_all  # noqa: E402

# The loads, and the lesser number of I/Os. {row}: bytes of a full row.
ROWS = {
    "randwrite-4k-d64": ("rw=randwrite bs=4k depth=64", 2000),
    "randwrite-4k-d1": ("rw=randwrite bs=4k depth=1", 2000),
    "randwrite-64k": ("rw=randwrite bs=64k depth=16", 300),
    "write-row": ("rw=write bs={row} depth=16", 300),
    "write-1m": ("rw=write bs=1m depth=8", 100),
    "randread-4k-d64": ("rw=randread bs=4k depth=64", 5000),
}
LOST = {
    "randread-4k-of-lost": ("rw=randread bs=4k depth=64 offset=64k period=384k step=384k count=1 length=64k", 2000),
    "randwrite-4k-d64": ("rw=randwrite bs=4k depth=64", 2000),
}


def per_io(device, load, ios):
    """Instructions for each I/O."""
    # Other addresses each time: C finds in its cache what it wrote before.
    short, long = (generator.load(device, f"{load} seed={count} ios={count}")["cpu_ns"] for count in (ios, 2 * ios))
    return (long - short) / ios


def where(device, load, ios):
    """{instruction: notes} of a run of its own."""
    generator.load(device, f"{load} seed=3 ios={3 * ios} profile=4999")
    return dict(generator.profile())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", default="", metavar="REGEX", help="of LEVEL-NAME or LEVEL-lost1-NAME")
    p.add_argument("--contenders", default="", metavar="REGEX", help="of rust, c, c-4096")
    p.add_argument("--size", type=int, default=240,
                   help="MiB of each RAM disk that are used: many times what C's stripe cache holds, as on disks")
    p.add_argument("--profile", action="store_true", help="also which instructions: notes of a sampling timer")
    p.add_argument("--out", default="/dev/stdout")
    a = p.parse_args()
    out = open(a.out, "a", encoding="utf-8")

    def say(row, contender, device, load, ios):
        got = {"row": row, "contender": contender, "instructions": round(per_io(device, load, ios))}
        if a.profile:
            got["notes"] = where(device, load, ios)
        print(json.dumps(got), file=out, flush=True)

    members = rams(6)
    for level in (5, 6):
        wanted = {lost: {name: row for name, row in rows.items()
                         if re.search(a.rows, f"{level}-{'lost1-' if lost else ''}{name}")
                         # The addresses are those of level 5.
                         and not (level == 6 and "of-lost" in name)}
                  for lost, rows in ((0, ROWS), (1, LOST))}
        if not any(wanted.values()):
            continue
        use_driver("c")
        array = Array.create(members, level=level, size=a.size)
        generator.load(array.path, f"rw=write bs=1m depth=4 ios={array.size() >> 20}")
        array.stop()
        for lost, rows in wanted.items():
            for contender in [name for name in ("rust", "c", "c-4096") if rows and re.search(a.contenders, name)]:
                use_driver(contender.partition("-")[0])
                array = Array.assemble([m for n, m in enumerate(members) if n != lost or not lost], "--run", "--force")
                array.wait_idle()
                if contender == "c-4096":
                    array.set("stripe_cache_size", 4096)
                for name, (load, ios) in rows.items():
                    load = load.format(row=64 * 1024 * (4 if level == 6 else 5))
                    say(f"{level}-{'lost1-' if lost else ''}{name}", contender, array.path, load, ios)
                array.stop()
        stop_all()
    if re.search(a.rows, "raw"):
        for name in ("randwrite-4k-d64", "randread-4k-d64", "write-1m"):
            say(f"raw-{name}", "raw", "/dev/ram0", *ROWS[name])


if __name__ == "__main__":
    main()
